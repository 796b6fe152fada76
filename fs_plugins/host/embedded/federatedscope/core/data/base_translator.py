"""From one data set to the data of every client."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from federatedscope.core.auxiliaries.splitter_builder import get_splitter
from federatedscope.core.data.base_data import ClientData, StandaloneDataDict


class BaseDataTranslator:
    """Splits a data set into train, val and test, and among clients.

    Args:
        global_cfg: ``data.splits``, ``data.splitter``, ... are used.
        client_cfgs: ``{'client_<ID>': {...}}``, or None.

    """

    def __init__(self, global_cfg: Any, client_cfgs: Any = None) -> None:
        self.global_cfg = global_cfg
        self.client_cfgs = client_cfgs
        self.splitter = get_splitter(global_cfg)

    def __call__(self, dataset: Any) -> StandaloneDataDict:
        """``dataset``: a data set, or a tuple (train, val, test)."""
        parts = self.split_train_val_test(dataset)
        return StandaloneDataDict(
            self.split_to_client(*parts), self.global_cfg
        )

    def split_train_val_test(self, dataset: Any) -> tuple[Any, Any, Any]:
        """Cut at random by ``data.splits``, unless it is cut already."""
        if isinstance(dataset, tuple):
            train, val, test = dataset
            return train, val, test
        train_share, val_share = self.global_cfg.data.splits[:2]
        order = np.random.permutation(len(dataset))
        first = int(train_share * len(dataset))
        second = first + int(val_share * len(dataset))
        train, val, test = (
            _take(dataset, part) for part in np.split(order, [first, second])
        )
        return train, val, test

    def split_to_client(
        self, train: Any, val: Any, test: Any
    ) -> dict[int, ClientData]:
        """One ``ClientData`` a client; number 0, the server's, holds all."""
        cfg = self.global_cfg
        clients = cfg.federate.client_num
        train_parts = self.splitter(train)
        prior = None
        if cfg.data.consistent_label_distribution:
            prior = _labels(train_parts)
        others = [
            self.splitter(part, prior=prior) if len(part) else [None] * clients
            for part in (val, test)
        ]
        data = {0: ClientData(cfg, train=train, val=val, test=test)}
        for client in range(1, clients + 1):
            data[client] = ClientData(
                self._cfg_of(client),
                train=train_parts[client - 1],
                val=others[0][client - 1],
                test=others[1][client - 1],
            )
        return data

    def _cfg_of(self, client: int) -> Any:
        own = (self.client_cfgs or {}).get(f"client_{client}")
        if own is None:
            return self.global_cfg
        cfg = self.global_cfg.clone()
        cfg.merge_from_other_cfg(own)
        return cfg


def _take(dataset: Any, index: Any) -> Any:
    if isinstance(dataset, Dataset):
        return Subset(dataset, index.tolist())
    return [dataset[i] for i in index]


def _labels(parts: list[Any]) -> list[list[int]] | None:
    """The integer label of each example of each part, where there is one."""
    if any(not isinstance(part[0], (tuple, list)) for part in parts if part):
        return None
    return [[int(example[1]) for example in part] for part in parts]
