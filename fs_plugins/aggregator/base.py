"""What every aggregator does."""

import abc
import io
from collections.abc import Mapping
from pathlib import Path

import torch

from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors

# fedsa.aggregator_args: what some of them can be told
AGGREGATOR_ARGS = {
    "lr": 1.0,
    "momentum": 0.9,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "trim": 0.1,
}


class Aggregator(abc.ABC):
    """Turns the updates of a round into new global parameters.

    Args:
        shared: the global parameters that the run starts from.
        ignore_weight: all clients weigh the same, whatever their samples.
        options: ``fedsa.aggregator_args``.

    """

    def __init__(
        self,
        shared: Tensors,
        ignore_weight: bool = False,
        options: Mapping[str, float] | None = None,
    ) -> None:
        self.shared = {name: t.detach().clone() for name, t in shared.items()}
        self.ignore_weight = ignore_weight
        self.options = {**AGGREGATOR_ARGS, **(options or {})}

    @abc.abstractmethod
    def add(self, update: Tensors, samples: int) -> None:
        """Take in one client's parameters.

        Args:
            update: names and shapes are those of ``shared``; where the
                policy changes from round to round, all updates of a round
                have the same part of them.
            samples: what the client trained on.

        """

    @abc.abstractmethod
    def finish(self) -> None:
        """End the round: ``shared`` becomes the new global parameters."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget what ``add`` has taken in: the round is repeated."""

    def state(self) -> dict[str, Tensors]:
        """What outlives a round, by kind: a resumed run goes on from it.

        An aggregator with momentum, say, adds its own to this.
        """
        return {"shared": self.shared}

    def restore(self, state: Mapping[str, Tensors]) -> None:
        """Go on from what ``state`` returned."""
        self.shared = dict(state.get("shared", {}))

    def save_model(self, path: str, cur_round: int = -1) -> None:
        """Write the global parameters (``federate.save_to``)."""
        buffer = io.BytesIO()
        torch.save({"cur_round": cur_round, "model": self.shared}, buffer)
        write_file(Path(path), buffer.getvalue())
