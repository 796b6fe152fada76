"""The base class of all aggregators."""

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
        ignore_weight: whether all clients weigh the same, however many
            samples they have trained on.
        options: the user's ``fedsa.aggregator_args``; an option that is
            missing has its default.
        pairs: for each layer, the names of its A and its B in ``shared``;
            given to an aggregator with ``needs_pairs`` only.
        delta: the low-rank change of the base model that an aggregator with
            ``changes_base`` adds to.

    Attributes:
        source: where the rule was published; ``fedsa methods`` prints the
            source of an aggregator that a plugin registers.
        needs_pairs: whether the aggregator needs both A and B of every
            layer.
        mixes_ranks: whether the clients may have different ranks; a client
            of rank k sends the first k rows of A and columns of B.
        changes_base: whether the aggregator adds to ``delta``, which is sent
            to the clients beside ``shared``.
        reinitializes: whether each round begins with a newly drawn A and a B
            of zero.  Every participant draws the same A, so that neither
            factor has to be sent to the clients.

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
        """Take in one client's update.

        Args:
            update: the client's parameters, with names and shapes as in
                ``shared``.  Where the policy changes from round to round,
                all updates of a round have the same subset of the names.  A
                client of lower rank sends the first rows of A and columns
                of B.
            samples: how many samples the client has trained on.

        """

    @abc.abstractmethod
    def finish(self) -> None:
        """End the round: ``shared`` becomes the new global parameters."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget the updates of the round, which is going to be repeated."""

    def state(self) -> dict[str, Tensors]:
        """The state that a resumed run continues from, by kind.

        A subclass with state of its own, such as momentum, adds that state
        to the dictionary.
        """
        return {"shared": self.shared, "base": self.delta.state()}

    def restore(self, state: Mapping[str, Tensors]) -> None:
        """Continue from a state that ``state`` has returned."""
        self.shared = dict(state.get("shared", {}))
        self.delta.restore(state.get("base", {}))

    def save_model(self, path: str, cur_round: int = -1) -> None:
        """Write the global parameters to the file of ``federate.save_to``.

        Args:
            path: the file to write.
            cur_round: the round that the parameters belong to, as
                FederatedScope counts.

        """
        buffer = io.BytesIO()
        torch.save({"cur_round": cur_round, "model": self.shared}, buffer)
        write_file(Path(path), buffer.getvalue(), private=True)
