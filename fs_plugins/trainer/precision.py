"""The precision in which a model computes."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import torch

from fs_plugins.host.configuration import Config

_PRECISE = ("float32", "float64")


def autocast(cfg: Config, device: Any) -> Any:
    """A context in which the model computes in ``fedsa.half``.

    The context has no effect unless ``train.is_enable_half`` is set, or the
    base model is quantized or of another type than the adapter.

    Args:
        cfg: the configuration.
        device: the device of the model.

    """
    options = cfg.fedsa
    mixed = (
        options.base.quantize or options.base.dtype != options.adapter_dtype
    )
    return torch.autocast(
        torch.device(device).type,
        getattr(torch, options.half),
        enabled=bool(cfg.train.is_enable_half or mixed),
    )


def autocast_of_run(settings: Mapping[str, Any], device: Any) -> Any:
    """The context of ``autocast`` for a run that has ended.

    Args:
        settings: the run's settings by keys with dots.
        device: the device of the model.

    """
    base = SimpleNamespace(
        quantize=settings.get("fedsa.base.quantize", ""),
        dtype=settings.get("fedsa.base.dtype", "float32"),
    )
    fedsa = SimpleNamespace(
        base=base,
        adapter_dtype=settings.get("fedsa.adapter_dtype", "float32"),
        half=settings.get("fedsa.half", "bfloat16"),
    )
    train = SimpleNamespace(
        is_enable_half=settings.get("train.is_enable_half", False)
    )
    cfg = SimpleNamespace(fedsa=fedsa, train=train)
    return autocast(cast(Config, cfg), device)


def is_precise(cfg: Config) -> bool:
    """Whether everything is computed in float32 or float64."""
    options = cfg.fedsa
    return (
        options.base.dtype in _PRECISE
        and options.base.dtype == options.adapter_dtype
        and not options.base.quantize
        and not cfg.train.is_enable_half
    )


def widened(values: torch.Tensor) -> torch.Tensor:
    """The values in float32; values in float64 stay as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
