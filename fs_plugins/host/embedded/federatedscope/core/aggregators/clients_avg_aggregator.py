"""Federated averaging (McMahan et al., AISTATS 2017)."""

import functools
from pathlib import Path
from typing import Any

import torch

from federatedscope.core.aggregators.aggregator import Aggregator


class ClientsAvgAggregator(Aggregator):
    """Averages parameters, weighted by samples.

    Args:
        model: the global model.
        device: the device of the model.
        config: ``federate.ignore_weight`` makes all weights equal.

    """

    def __init__(
        self, model: Any = None, device: Any = "cpu", config: Any = None
    ) -> None:
        self.model = model
        self.device = device
        self.cfg = config

    def aggregate(self, agg_info: dict[str, Any]) -> dict[str, Any]:
        """sum_i n_i x_i / sum_i n_i over ``agg_info['client_feedback']``.

        In the parameters' own type, one client after the other, so that it
        rounds as FederatedScope does.
        """
        feedback = agg_info["client_feedback"]
        sizes = [
            1 if self.cfg.federate.ignore_weight else size
            for size, _ in feedback
        ]
        weights = [size / sum(sizes) for size in sizes]
        average = {}
        for name in feedback[0][1]:
            terms = (
                parameters[name] * weight
                for weight, (_, parameters) in zip(
                    weights, feedback, strict=True
                )
            )
            average[name] = functools.reduce(torch.add, terms)
        return average

    def update(self, model_parameters: dict[str, Any]) -> None:
        """Load parameters into the global model."""
        self.model.load_state_dict(model_parameters, strict=False)

    def save_model(self, path: str, cur_round: int = -1) -> None:
        """Write ``{'cur_round', 'model'}`` to ``path``."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        state = {"cur_round": cur_round, "model": self.model.state_dict()}
        torch.save(state, path)

    def load_model(self, path: str) -> int:
        """Read what ``save_model`` wrote; returns its round."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"], strict=False)
        return int(state["cur_round"])
