"""How a data set is split among clients."""

import abc
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset


class BaseSplitter(abc.ABC):
    """Called as ``splitter(dataset, prior=None)``; a list of subsets.

    Args:
        client_num: the number of subsets.

    """

    def __init__(self, client_num: int) -> None:
        self.client_num = client_num

    @abc.abstractmethod
    def __call__(self, dataset: Any, prior: Any = None) -> list[Any]:
        """Split ``dataset``; ``prior`` holds each client's labels."""

    def take(self, dataset: Any, parts: list[Any]) -> list[Any]:
        """The subsets with the given indices."""
        if isinstance(dataset, Dataset):
            return [Subset(dataset, list(map(int, part))) for part in parts]
        return [[dataset[int(i)] for i in part] for part in parts]


def labels_of(dataset: Any) -> np.ndarray:
    """The label of ``(x, label)``, or the category of a dict."""
    examples = [dataset[i] for i in range(len(dataset))]
    if isinstance(examples[0], dict):
        return np.array([example["categories"] for example in examples])
    return np.array([example[1] for example in examples])
