"""In which precision a model computes."""

from typing import Any

import torch

from fs_plugins.host.configuration import Config

_PRECISE = ("float32", "float64")


def autocast(cfg: Config, device: Any) -> Any:
    """A context of reduced precision with ``train.is_enable_half``.

    Also where the base model is not of the adapter's type.

    Args:
        cfg: the configuration.
        device: where the model is.

    """
    own = cfg.fedsa
    mixed = own.base.quantize or own.base.dtype != own.adapter_dtype
    return torch.autocast(
        torch.device(device).type,
        getattr(torch, own.half),
        enabled=bool(cfg.train.is_enable_half or mixed),
    )


def is_precise(cfg: Config) -> bool:
    """Whether all is computed in float32, or better."""
    own = cfg.fedsa
    return (
        own.base.dtype in _PRECISE
        and own.base.dtype == own.adapter_dtype
        and not own.base.quantize
        and not cfg.train.is_enable_half
    )


def widened(values: torch.Tensor) -> torch.Tensor:
    """The values in float32, or better if they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
