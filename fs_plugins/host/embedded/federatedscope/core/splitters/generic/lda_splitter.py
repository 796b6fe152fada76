"""Label skew drawn from a Dirichlet distribution."""

from typing import Any

import numpy as np

from federatedscope.core.splitters.base_splitter import (
    BaseSplitter,
    labels_of,
)


class LDASplitter(BaseSplitter):
    """Each class is dealt out in proportions drawn from Dir(alpha).

    Args:
        client_num: the number of clients.
        alpha: the smaller, the more skewed.  (Hsu et al., arXiv 1909.06335)

    """

    MAX_DRAWS = 1000

    def __init__(self, client_num: int, alpha: float = 0.5) -> None:
        super().__init__(client_num)
        self.alpha = alpha

    def __call__(self, dataset: Any, prior: Any = None) -> list[Any]:
        """Split ``dataset``, by the clients' labels ``prior`` if given."""
        labels = labels_of(dataset)
        parts = (
            self._draw(labels)
            if prior is None
            else self._follow(labels, prior)
        )
        for part in parts:
            np.random.shuffle(part)
        return self.take(dataset, parts)

    def _draw(self, labels: np.ndarray) -> list[list[int]]:
        """Draw until every client has an example."""
        if len(labels) < self.client_num:
            raise ValueError(
                f"{len(labels)} examples are too few for "
                f"{self.client_num} clients"
            )
        for _ in range(self.MAX_DRAWS):
            parts = self._deal(
                labels,
                lambda: np.random.dirichlet([self.alpha] * self.client_num),
            )
            if min(map(len, parts)) > 0:
                return parts
        raise ValueError(
            f"Dir({self.alpha}) left a client without examples in "
            f"{self.MAX_DRAWS} draws; take a larger alpha or fewer clients"
        )

    def _follow(
        self, labels: np.ndarray, prior: list[list[int]]
    ) -> list[list[int]]:
        """Deal each class out as ``prior`` has it."""
        counts = {
            label: np.array([list(p).count(label) for p in prior], float)
            for label in np.unique(labels)
        }
        shares = iter(
            c / c.sum() if c.sum() else np.full(len(c), 1 / len(c))
            for c in counts.values()
        )
        return self._deal(labels, lambda: next(shares))

    def _deal(self, labels: np.ndarray, proportions: Any) -> list[list[int]]:
        parts: list[list[int]] = [[] for _ in range(self.client_num)]
        for label in np.unique(labels):
            index = np.flatnonzero(labels == label)
            np.random.shuffle(index)
            cuts = np.cumsum(proportions())[:-1] * len(index)
            for part, chunk in zip(
                parts, np.split(index, cuts.astype(int)), strict=True
            ):
                part.extend(chunk.tolist())
        return parts
