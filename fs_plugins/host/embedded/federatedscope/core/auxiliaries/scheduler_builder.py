"""The schedule of ``train.scheduler``."""

from typing import Any

import torch

import federatedscope.register as register


def get_scheduler(optimizer: Any, type: str, **kwargs: Any) -> Any:
    """A registered schedule, or one of ``torch.optim``; None for ''."""
    kwargs.pop("warmup_ratio", None)
    for function in register.scheduler_dict.values():
        scheduler = function(optimizer, type, **kwargs)
        if scheduler is not None:
            return scheduler
    if type == "":
        return None
    if not hasattr(torch.optim.lr_scheduler, type):
        raise ValueError(f"train.scheduler.type: there is no {type!r}")
    return getattr(torch.optim.lr_scheduler, type)(optimizer, **kwargs)
