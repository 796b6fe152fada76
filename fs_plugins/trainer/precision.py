"""The precision in which a model computes."""

from collections.abc import Mapping
from typing import Any

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
    values = (
        *(options.half, options.base.quantize, options.base.dtype),
        *(options.adapter_dtype, cfg.train.is_enable_half),
    )
    return _autocast(device, *values)


_SETTINGS = {
    "fedsa.half": "bfloat16",
    "fedsa.base.quantize": "",
    "fedsa.base.dtype": "float32",
    "fedsa.adapter_dtype": "float32",
    "train.is_enable_half": False,
}


def autocast_of_run(settings: Mapping[str, Any], device: Any) -> Any:
    """The context of ``autocast`` for a run that has ended.

    Args:
        settings: the run's settings by keys with dots.
        device: the device of the model.

    """
    values = (settings.get(key, usual) for key, usual in _SETTINGS.items())
    return _autocast(device, *values)


def _autocast(
    device: Any,
    half: str,
    quantize: str,
    base: str,
    adapter: str,
    is_half: Any,
) -> Any:
    """The context for these values of the options."""
    return torch.autocast(
        torch.device(device).type,
        getattr(torch, half),
        enabled=bool(is_half or quantize or base != adapter),
    )


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
