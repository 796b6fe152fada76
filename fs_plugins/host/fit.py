"""Fit FederatedScope to today's Python stack, without touching its files.

Each adaptation is small, has a name, is applied only where it is needed, and
is listed by ``fedsa doctor``.
"""

import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Adaptation:
    """A change to the host, in memory.

    Attributes:
        name: what is changed.
        why: what would happen without it.
        apply: makes the change; False if it isn't needed.

    """

    name: str
    why: str
    apply: Callable[[], bool]


def fit(adaptations: tuple[Adaptation, ...]) -> tuple[Adaptation, ...]:
    """Apply what is needed; returns what was applied."""
    return tuple(each for each in adaptations if each.apply())


def _pure_python_protobuf() -> bool:
    variable = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    try:
        version = importlib.metadata.version("protobuf")
    except importlib.metadata.PackageNotFoundError:
        return False
    loaded = "google.protobuf.descriptor" in sys.modules
    if int(version.split(".")[0]) < 4 or loaded or variable in os.environ:
        return False
    os.environ[variable] = "python"
    return True


def _all_threads() -> bool:
    import torch
    from federatedscope.core import fed_runner

    runner: Any = fed_runner.StandaloneRunner
    set_up = runner._set_up

    def with_all_threads(self: Any) -> None:
        threads = torch.get_num_threads()
        set_up(self)
        torch.set_num_threads(threads)

    runner._set_up = with_all_threads
    return True


class _TrainableSize:
    """Stands in for ``pickle`` where the host only wants a model's size."""

    @staticmethod
    def dumps(model: Any) -> bytes:
        """As many bytes as the parameters that are trained."""
        trained = (p for p in model.parameters() if p.requires_grad)
        return bytes(sum(p.nbytes for p in trained))


def _no_pickling() -> bool:
    for name in ("client", "server"):
        module: Any = importlib.import_module(
            f"federatedscope.core.workers.{name}"
        )
        module.pickle = _TrainableSize
    return True


def _plain_numbers() -> bool:
    from federatedscope.core.monitors import monitor

    cls: Any = monitor.Monitor
    format_results = cls.format_eval_res

    def with_plain_numbers(self: Any, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # of statistics that too few clients leave undefined
            warnings.simplefilter("ignore", RuntimeWarning)
            return _plain(format_results(self, *args, **kwargs))

    cls.format_eval_res = with_plain_numbers
    return True


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python, however deep they lie."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


BEFORE_IMPORT = (
    Adaptation(
        "protobuf in pure Python",
        "FederatedScope's generated code is refused by protobuf 4 and newer",
        _pure_python_protobuf,
    ),
)
AFTER_IMPORT = (
    Adaptation(
        "all threads",
        "FederatedScope trains on one core in standalone mode",
        _all_threads,
    ),
    Adaptation(
        "no pickling of models",
        "every worker pickles the whole model to learn its size",
        _no_pickling,
    ),
    Adaptation(
        "plain numbers in results",
        "numpy 2 writes np.float64(...) into the result logs",
        _plain_numbers,
    ),
)
