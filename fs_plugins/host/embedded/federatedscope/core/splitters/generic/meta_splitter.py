"""By category."""

import random
from typing import Any

import numpy as np

from federatedscope.core.splitters.base_splitter import (
    BaseSplitter,
    labels_of,
)


class MetaSplitter(BaseSplitter):
    """Deals whole categories out to clients, in turn."""

    def __init__(self, client_num: int, **_: Any) -> None:
        super().__init__(client_num)

    def __call__(self, dataset: Any, prior: Any = None) -> list[Any]:
        """Split ``dataset``; ``prior`` is of no use here."""
        labels = labels_of(dataset)
        categories = sorted(set(labels.tolist()))
        if len(categories) < self.client_num:
            raise ValueError(
                f"{len(categories)} categories are too few for "
                f"{self.client_num} clients with the 'meta' splitter"
            )
        random.shuffle(categories)
        parts: list[list[int]] = [[] for _ in range(self.client_num)]
        for i, category in enumerate(categories):
            parts[i % self.client_num].extend(
                np.flatnonzero(labels == category).tolist()
            )
        return self.take(dataset, parts)
