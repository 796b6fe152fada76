"""Federated averaging: the mean of the clients' parameters."""

from collections import Counter
from typing import Any

import torch

from fs_plugins.aggregator.base import Aggregator
from fs_plugins.policy import leading_slices
from fs_plugins.wire import Tensors


class WeightedAverage(Aggregator):
    """sum_i n_i x_i / sum_i n_i.

    Where clients have different ranks, each element is averaged over the
    clients that have it; an element that no client of the round has stays
    as it is.

    The aggregator holds one running sum in float64, however many clients
    there are, and rounds once, at the end of the round.

    (McMahan et al., AISTATS 2017)
    """

    mixes_ranks = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sum: dict[str, torch.Tensor] = {}  # float64
        # for each parameter, the total weight of the updates of each shape
        self._weights: dict[str, Counter[torch.Size]] = {}

    def add(self, update: Tensors, samples: int) -> None:
        """Add one client's parameters to the sum."""
        weight = 1 if self.ignore_weight else samples
        for name, tensor in update.items():
            self._add(name, tensor, weight)

    def _add(self, name: str, tensor: torch.Tensor, weight: float) -> None:
        """Add one client's value of a parameter to the sum."""
        if name not in self._sum:
            whole = torch.zeros_like(self.shared[name], dtype=torch.float64)
            self._sum[name] = whole
            self._weights[name] = Counter()
        rows_and_columns = leading_slices(tensor.shape)
        self._sum[name][rows_and_columns].add_(tensor.double(), alpha=weight)
        self._weights[name][tensor.shape] += weight  # type: ignore[assignment]

    def finish(self) -> None:
        """Divide the sum by the weights; without updates, nothing changes."""
        for name in self._sum:
            old = self.shared[name]
            self.shared[name] = self._mean(name, old).to(old.dtype)
        self.reset()

    def _mean(self, name: str, old: torch.Tensor) -> torch.Tensor:
        """A parameter's mean; ``old`` where no client has an element."""
        total, weights = self._sum[name], self._weights[name]
        if weights.keys() == {old.shape}:
            return total / weights[old.shape]
        weight = torch.zeros_like(total)
        for shape, shape_weight in weights.items():
            weight[leading_slices(shape)] += shape_weight
        return torch.where(weight > 0, total / weight, old.double())

    def reset(self) -> None:
        """Forget the round's sum."""
        self._sum = {}
        self._weights = {}
