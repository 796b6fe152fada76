"""The states of a run's parts, in the forms that a checkpoint writes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fs_plugins.host.protocols import Worker
from fs_plugins.wire import Tensors

# The counters of a worker's monitor, on either host.
_COUNTERS = (
    "total_model_size",
    "total_flops",
    "flop_count",
    "flops_per_sample",
    "total_upload_bytes",
    "total_download_bytes",
    "global_convergence_round",
    "local_convergence_round",
)
_STOPPER = ("counter_no_improve", "best_metric", "early_stopped")


def joined(groups: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """The tensors of an aggregator or of models, for one file."""
    return {
        f"{group}/{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def split(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a file as they were: the inverse of ``joined``."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for whole, tensor in tensors.items():
        group, _, name = whole.partition("/")
        # The file may be replaced while the tensor is in use, so it is copied.
        groups.setdefault(group, {})[name] = tensor.clone()
    return groups


def state_of_worker(worker: Worker) -> dict[str, Any]:
    """What a worker has counted and evaluated, as JSON."""
    stopper = worker.early_stopper
    # The server's history is needed in any case, a client's only if the client
    # can stop early.
    remembers = worker.ID == 0 or stopper.patience > 0
    return {
        "state": worker.state,
        "best": worker.best_results,
        "history": worker.history_results if remembers else {},
        "stopper": _present(stopper, _STOPPER),
        "counters": _present(worker._monitor, _COUNTERS),
    }


def restore_worker(worker: Worker, state: Mapping[str, Any]) -> None:
    """Let a worker go on from a state that ``state_of_worker`` returned.

    Args:
        worker: the worker.
        state: the state.

    """
    worker.state = state["state"]
    worker.best_results = state["best"]
    worker.history_results = state["history"]
    for owner, values in (
        (worker.early_stopper, state["stopper"]),
        (worker._monitor, state["counters"]),
    ):
        for name, value in values.items():
            setattr(owner, name, value)


def _present(owner: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes that an object has, by name."""
    return {n: getattr(owner, n) for n in names if hasattr(owner, n)}
