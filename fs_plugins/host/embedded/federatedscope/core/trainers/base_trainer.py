"""What every trainer can do."""

import abc
from typing import Any


class BaseTrainer(abc.ABC):
    """Local training and evaluation."""

    @abc.abstractmethod
    def train(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Returns (samples trained on, parameters, results)."""

    @abc.abstractmethod
    def evaluate(self, target_data_split_name: str = "test") -> dict[str, Any]:
        """Returns the results on a split."""

    @abc.abstractmethod
    def update(
        self, model_parameters: dict[str, Any], strict: bool = False
    ) -> None:
        """Load parameters into the model."""

    @abc.abstractmethod
    def get_model_para(self) -> dict[str, Any]:
        """The parameters that leave the client."""
