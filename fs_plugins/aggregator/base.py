"""What every aggregator does."""

import abc
import io
from collections.abc import Mapping
from pathlib import Path

import torch

from fs_plugins.aggregator.arguments import AGGREGATOR_ARGS
from fs_plugins.model.delta import Delta
from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors


class Aggregator(abc.ABC):
    """Turns the updates of a round into new global parameters.

    Args:
        shared: the global parameters that the run starts from.
        ignore_weight: all clients weigh the same, whatever their samples.
        options: ``fedsa.aggregator_args``.
        pairs: the names of A and B, by layer, where both are shared.
        delta: what is added to the base model.

    Attributes:
        source: where it was published, for one of a user's own.
        needs_pairs: needs A and B of every layer.
        mixes_ranks: clients may have different ranks; a client of rank k
            has the first k rows of A and columns of B.
        changes_base: adds to ``delta``, which travels beside ``shared``.
        reinitializes: each round begins with an A that is drawn anew and a B
            of zero, the same everywhere, which need not travel.

    """

    source = ""
    needs_pairs = False
    mixes_ranks = False
    changes_base = False
    reinitializes = False

    def __init__(
        self,
        shared: Tensors,
        ignore_weight: bool = False,
        options: Mapping[str, float] | None = None,
        pairs: Mapping[str, tuple[str, str]] | None = None,
        delta: Delta | None = None,
    ) -> None:
        self.shared = {name: t.detach().clone() for name, t in shared.items()}
        self.ignore_weight = ignore_weight
        self.options = {**AGGREGATOR_ARGS, **(options or {})}
        self.pairs = dict(pairs or {})
        self.delta = delta or Delta()

    @abc.abstractmethod
    def add(self, update: Tensors, samples: int) -> None:
        """Take in one client's parameters.

        Args:
            update: names and shapes are those of ``shared``; where the
                policy changes from round to round, all updates of a round
                have the same part of them.  Of a client of lower rank, they
                are the first rows of A and columns of B.
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
        return {"shared": self.shared, "base": self.delta.state()}

    def restore(self, state: Mapping[str, Tensors]) -> None:
        """Go on from what ``state`` returned."""
        self.shared = dict(state.get("shared", {}))
        self.delta.restore(state.get("base", {}))

    def save_model(self, path: str, cur_round: int = -1) -> None:
        """Write the global parameters (``federate.save_to``)."""
        buffer = io.BytesIO()
        torch.save({"cur_round": cur_round, "model": self.shared}, buffer)
        write_file(Path(path), buffer.getvalue())
