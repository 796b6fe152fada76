"""Independent and identically distributed."""

from typing import Any

import numpy as np

from federatedscope.core.splitters.base_splitter import BaseSplitter


class IIDSplitter(BaseSplitter):
    """Shuffles and cuts into parts of equal size."""

    def __call__(self, dataset: Any, prior: Any = None) -> list[Any]:
        """Split ``dataset``; ``prior`` is of no use here."""
        index = np.arange(len(dataset))
        np.random.shuffle(index)
        return self.take(dataset, np.array_split(index, self.client_num))
