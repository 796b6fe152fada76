"""A server that takes steps: the clients' average is where it should go."""

from collections.abc import Mapping
from typing import Any

import torch

from fs_plugins.aggregator.weighted_average import WeightedAverage
from fs_plugins.wire import Tensors


class FedAvgM(WeightedAverage):
    """Momentum at the server: v = momentum v + average - x; x = x + lr v.

    (Hsu et al., arXiv 1909.06335)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moments: dict[str, dict[str, torch.Tensor]] = {"momentum": {}}

    def finish(self) -> None:
        """Average, then step towards it; no update, no change."""
        old = dict(self.shared)
        averaged = list(self._sum)
        super().finish()
        for name in averaged:
            start = old[name].double()
            change = self._step(name, self.shared[name].double() - start)
            self.shared[name] = (start + change).to(old[name].dtype)

    def _step(self, name: str, delta: torch.Tensor) -> torch.Tensor:
        before = self._moment("momentum", name, delta, 0.0)
        momentum = self.options["momentum"] * before + delta
        self._moments["momentum"][name] = momentum
        return self.options["lr"] * momentum

    def _moment(
        self, kind: str, name: str, like: torch.Tensor, start: float
    ) -> torch.Tensor:
        """In float64; at first ``start`` everywhere."""
        found = self._moments[kind].get(name)
        return torch.full_like(like, start) if found is None else found

    def state(self) -> dict[str, Tensors]:
        """The global parameters, and the moments of the steps."""
        return {**super().state(), **self._moments}

    def restore(self, state: Mapping[str, Tensors]) -> None:
        """Go on from what ``state`` returned."""
        super().restore(state)
        for kind in self._moments:
            self._moments[kind] = dict(state.get(kind, {}))


class FedAdam(FedAvgM):
    """Adam at the server: steps towards the average, in units of their size.

    d = average - x;  m = beta1 m + (1 - beta1) d;
    v = beta2 v + (1 - beta2) d^2, from tau^2;  x = x + lr m / (sqrt(v) + tau).

    (Reddi et al., ICLR 2021, algorithm 2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moments["variance"] = {}

    def _step(self, name: str, delta: torch.Tensor) -> torch.Tensor:
        own = self.options
        m = self._moment("momentum", name, delta, 0.0)
        v = self._moment("variance", name, delta, own["tau"] ** 2)
        m = own["beta1"] * m + (1 - own["beta1"]) * delta
        v = own["beta2"] * v + (1 - own["beta2"]) * delta**2
        self._moments["momentum"][name] = m
        self._moments["variance"][name] = v
        return own["lr"] * m / (v.sqrt() + own["tau"])
