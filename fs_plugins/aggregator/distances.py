"""How far the updates of a round are from what the round began with."""

import math
import statistics
from collections.abc import Mapping

import torch

from fs_plugins.model.delta import Delta
from fs_plugins.policy import leading_slices
from fs_plugins.wire import Tensors

# An update that is this many times as far as the others is to blame for an
# average that is not finite, whatever ``fedsa.max_norm`` says.
_BLAME = 10.0
# Distances below this share of the parameters' own norm are all alike: where
# most updates hardly move, one that moves a little more ruins nothing.
_LITTLE = 0.01


def distance(update: Tensors, start: Tensors) -> tuple[float, float]:
    """How far an update is from where its client has started.

    Args:
        update: a client's parameters.  A client of lower rank has the first
            rows of A and columns of B.
        start: the parameters that the client has started the round from; it
            may have more names.

    Returns:
        The norm of the difference over all parameters of the update, and the
        norm of these parameters at the start.

    """
    squares = size = 0.0
    for name, value in update.items():
        begin = start[name][leading_slices(value.shape)].double()
        squares += float(torch.sum((value.double() - begin) ** 2))
        size += float(torch.sum(begin**2))
    return math.sqrt(squares), math.sqrt(size)


class Distances:
    """The distances of a round's updates, by client.

    Only the numbers are held, so that nothing grows with the parameters.

    Args:
        max_norm: ``fedsa.max_norm``; 0 for no bound.

    """

    def __init__(self, max_norm: float) -> None:
        self._max_norm = max_norm
        self._by_client: dict[int, tuple[float, float]] = {}

    def add(self, client: int, value: tuple[float, float]) -> None:
        """Note the distance of an update.

        Args:
            client: the ID of the client that has sent the update.
            value: what ``distance`` returns for the update.

        """
        self._by_client[client] = value

    def remove(self, client: int) -> None:
        """Forget the distance of an update that is refused."""
        del self._by_client[client]

    def clear(self) -> None:
        """Forget all distances: the round is over, or is repeated."""
        self._by_client = {}

    def too_far(self) -> dict[int, str]:
        """The clients whose updates are too far away, and why.

        That is farther than ``max_norm`` times the median over the round's
        updates, and than ``max_norm`` hundredths of the parameters' norm at
        the start.  Of an even number of updates, the median is the mean of
        the two in the middle.
        """
        if not self._max_norm:
            return {}
        middle = statistics.median(self._values)
        return self._beyond(
            self._max_norm,
            middle,
            f"more than {self._max_norm:g} times the round's median "
            f"{middle:.3g} (fedsa.max_norm)",
        )

    def to_blame(self) -> dict[int, str]:
        """The clients that must have made an average infinite, and why.

        Empty if no update stands out, so that it cannot be told.
        """
        lower = statistics.median_low(self._values)
        return self._beyond(
            _BLAME,
            lower,
            f"the median is {lower:.3g}, and with it the average is not "
            "finite",
        )

    @property
    def _values(self) -> list[float]:
        return [value for value, _ in self._by_client.values()] or [0.0]

    def _beyond(
        self, factor: float, middle: float, why: str
    ) -> dict[int, str]:
        """Those that are more than ``factor`` times as far as the middle.

        Args:
            factor: the largest multiple that is allowed.
            middle: the distance of an update in the middle.
            why: the end of the sentence about each of them.

        """
        return {
            client: f"it is {value:.3g} away from the round's start, {why}"
            for client, (value, size) in self._by_client.items()
            if value > factor * max(middle, _LITTLE * size) > 0
        }


def are_finite(state: Mapping[str, Tensors], delta: Delta) -> bool:
    """Whether all that an aggregator carries is finite, products included.

    Args:
        state: what the aggregator carries.
        delta: the change of the base model, whose factors are multiplied by
            those who use it.

    """
    is_finite = all(
        bool(tensor.isfinite().all())
        for tensors in state.values()
        for tensor in tensors.values()
    )
    return is_finite and all(
        _largest(left) * _largest(right) * left.shape[1]
        <= torch.finfo(left.dtype).max
        for left, right in delta.pairs.values()
    )


def _largest(factor: torch.Tensor) -> float:
    return float(factor.abs().max()) if factor.numel() else 0.0


def copied(state: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """A copy of an aggregator's state, to go back to.

    The change of the base model may be large.  It is never written into, so
    that its tensors need not be copied.
    """
    return {
        kind: dict(tensors)
        if kind == "base"
        else {name: tensor.clone() for name, tensor in tensors.items()}
        for kind, tensors in state.items()
    }
