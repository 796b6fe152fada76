"""The loss of ``criterion.type``."""

from typing import Any

from torch import nn

import federatedscope.register as register


def get_criterion(criterion_type: str, device: Any) -> Any:
    """A loss of ``torch.nn``, or a registered one."""
    if isinstance(getattr(nn, criterion_type, None), type):
        return getattr(nn, criterion_type)()
    for function in register.criterion_dict.values():
        criterion = function(criterion_type, device)
        if criterion is not None:
            return criterion
    raise ValueError(f"criterion.type: there is no {criterion_type!r}")
