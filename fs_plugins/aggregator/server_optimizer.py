"""Optimizers at the server: a step towards the average of the clients."""

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
        """Take a step to the average; without updates, nothing changes."""
        old = dict(self.shared)
        averaged = list(self._sum)
        super().finish()
        for name in averaged:
            start = old[name].double()
            change = self._step(name, self.shared[name].double() - start)
            self.shared[name] = (start + change).to(old[name].dtype)

    def _step(self, name: str, delta: torch.Tensor) -> torch.Tensor:
        """The change of a parameter whose average differs by ``delta``."""
        before = self._moment("momentum", name, delta, 0.0)
        momentum = self.options["momentum"] * before + delta
        self._moments["momentum"][name] = momentum
        return self.options["lr"] * momentum

    def _moment(
        self, kind: str, name: str, like: torch.Tensor, start: float
    ) -> torch.Tensor:
        """A parameter's moment of the last round, in float64.

        Args:
            kind: a key of ``_moments``.
            name: the name of the parameter.
            like: a tensor of the parameter's shape, in float64.
            start: the value of all elements before the first step.

        """
        moment = self._moments[kind].get(name)
        return torch.full_like(like, start) if moment is None else moment

    def state(self) -> dict[str, Tensors]:
        """The state of ``Aggregator.state``, and the optimizer's moments."""
        return {**super().state(), **self._moments}

    def restore(self, state: Mapping[str, Tensors]) -> None:
        """Continue from a state that ``state`` has returned."""
        super().restore(state)
        for kind in self._moments:
            self._moments[kind] = dict(state.get(kind, {}))


class FedAdam(FedAvgM):
    """Adam at the server: steps towards the average, in units of their size.

    d = average - x;  m = beta1 m + (1 - beta1) d;
    v = beta2 v + (1 - beta2) d^2;  x = x + lr m / (sqrt(v) + tau).
    At first, m is 0 and v is tau^2.

    (Reddi et al., ICLR 2021, algorithm 2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moments["variance"] = {}

    def _step(self, name: str, delta: torch.Tensor) -> torch.Tensor:
        lr, tau = self.options["lr"], self.options["tau"]
        beta1, beta2 = self.options["beta1"], self.options["beta2"]
        m = self._moment("momentum", name, delta, 0.0)
        v = self._moment("variance", name, delta, tau**2)
        m = beta1 * m + (1 - beta1) * delta
        v = beta2 * v + (1 - beta2) * delta**2
        self._moments["momentum"][name] = m
        self._moments["variance"][name] = v
        return lr * m / (v.sqrt() + tau)
