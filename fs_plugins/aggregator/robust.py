"""Aggregators that are robust against a few bad clients.

Each coordinate is aggregated by itself, over all updates of a round at once:
memory grows with the number of clients in a round, by one payload each.
"""

from typing import Any

import torch

from fs_plugins.aggregator.base import Aggregator
from fs_plugins.wire import Tensors


class TrimmedMean(Aggregator):
    """The mean of each coordinate without its extremes.

    Of n values, the ``trim * n`` (rounded down) largest and as many of the
    smallest are left out.

    (Yin et al., ICML 2018, definition 2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._updates: list[Tensors] = []

    def add(self, update: Tensors, samples: int) -> None:
        """Keep the update; the number of samples does not matter."""
        self._updates.append(update)

    def finish(self) -> None:
        """Aggregate each coordinate; without updates, nothing changes."""
        for name in self._updates[0] if self._updates else ():
            values = torch.stack([u[name].double() for u in self._updates])
            ordered = values.sort(dim=0).values
            dtype = self.shared[name].dtype
            self.shared[name] = self._middle(ordered).to(dtype)
        self.reset()

    def reset(self) -> None:
        """Forget the round's updates."""
        self._updates = []

    def _middle(self, ordered: torch.Tensor) -> torch.Tensor:
        """The mean of the values in the middle.

        Args:
            ordered: the clients' values, sorted along the first dimension.

        """
        clients = len(ordered)
        cut = int(self.options["trim"] * clients)
        return ordered[cut : clients - cut].mean(dim=0)


class Median(TrimmedMean):
    """The median of each coordinate: of the two in the middle, the mean.

    (Yin et al., ICML 2018, definition 1)
    """

    def _middle(self, ordered: torch.Tensor) -> torch.Tensor:
        cut = (len(ordered) - 1) // 2
        return ordered[cut : len(ordered) - cut].mean(dim=0)
