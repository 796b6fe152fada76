"""Registered metrics."""

from collections.abc import Iterable
from typing import Any

import federatedscope.register as register


def get_metric(types: Iterable[str]) -> dict[str, Any]:
    """``{name: (function, the_larger_the_better)}`` for those in ``types``."""
    types = set(types)
    found = {}
    for function in register.metric_dict.values():
        answer = function(types)
        if answer is not None:
            name, metric, larger_is_better = answer
            found[name] = (metric, larger_is_better)
    for name in sorted(types - set(found)):
        raise ValueError(f"eval.metrics: there is no metric {name!r}")
    return found
