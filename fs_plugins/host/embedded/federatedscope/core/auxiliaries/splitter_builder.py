"""The splitter of ``data.splitter``."""

from typing import Any

import federatedscope.register as register
from federatedscope.core.splitters.generic import (
    IIDSplitter,
    LDASplitter,
    MetaSplitter,
)

_BUILT_IN = {"iid": IIDSplitter, "lda": LDASplitter, "meta": MetaSplitter}


def get_splitter(config: Any) -> Any:
    """A registered splitter, or a built-in one."""
    name, clients = config.data.splitter, config.federate.client_num
    kwargs = config.data.splitter_args[0] if config.data.splitter_args else {}
    for function in register.splitter_dict.values():
        splitter = function(name, clients, **kwargs)
        if splitter is not None:
            return splitter
    if name not in _BUILT_IN:
        raise ValueError(
            f"data.splitter: there is no {name!r}; the embedded host has "
            f"{', '.join(_BUILT_IN)}"
        )
    return _BUILT_IN[name](clients, **kwargs)
