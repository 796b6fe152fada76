"""The average of the clients' parameters."""

from typing import Any

import torch

from fs_plugins.aggregator.base import Aggregator
from fs_plugins.wire import Tensors


class WeightedAverage(Aggregator):
    """sum_i n_i x_i / sum_i n_i  (McMahan et al., AISTATS 2017).

    Holds one running sum in float64, however many clients there are, and
    rounds once, at the end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weight = 0
        self._sum: dict[str, torch.Tensor] = {}  # float64

    def add(self, update: Tensors, samples: int) -> None:
        """Add one client's parameters to the sum."""
        weight = 1 if self.ignore_weight else samples
        self._weight += weight
        for name, tensor in update.items():
            if name not in self._sum:
                self._sum[name] = torch.zeros_like(tensor, dtype=torch.float64)
            self._sum[name].add_(tensor.double(), alpha=weight)

    def finish(self) -> None:
        """Divide, and start the next round's sum; no update, no change."""
        if self._weight:
            for name, total in self._sum.items():
                dtype = self.shared[name].dtype
                self.shared[name] = (total / self._weight).to(dtype)
        self.reset()

    def reset(self) -> None:
        """Start with an empty sum."""
        self._weight = 0
        self._sum = {}
