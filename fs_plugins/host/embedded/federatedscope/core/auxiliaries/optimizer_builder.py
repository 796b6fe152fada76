"""The optimizer of ``train.optimizer``."""

from typing import Any

import torch

import federatedscope.register as register


def get_optimizer(model: Any, type: str, lr: float, **kwargs: Any) -> Any:
    """A registered optimizer, or one of ``torch.optim`` by name.

    Args:
        model: a module, or parameters (or groups of them).
        type: the name of the optimizer.
        lr: the learning rate.
        kwargs: its other arguments.

    """
    for function in register.optimizer_dict.values():
        optimizer = function(model, type, lr, **kwargs)
        if optimizer is not None:
            return optimizer
    if not hasattr(torch.optim, type):
        raise ValueError(f"train.optimizer.type: there is no {type!r}")
    if isinstance(model, torch.nn.Module):
        model = [p for p in model.parameters() if p.requires_grad]
    return getattr(torch.optim, type)(model, lr=lr, **kwargs)
