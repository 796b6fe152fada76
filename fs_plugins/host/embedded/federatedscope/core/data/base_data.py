"""The data of one participant, and of all."""

from typing import Any

from federatedscope.core.auxiliaries.dataloader_builder import get_dataloader


class ClientData(dict[str, Any]):
    """A participant's splits: raw as attributes, loaders as items.

    ``data.train_data`` is the raw training set, ``data['train']`` its
    loader; likewise ``val`` and ``test``.  An empty split has no loader.
    """

    SPLIT_NAMES = ("train", "val", "test")

    def __init__(
        self,
        client_cfg: Any,
        train: Any = None,
        val: Any = None,
        test: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_cfg: Any = None
        self.train_data = train
        self.val_data = val
        self.test_data = test
        self.setup(client_cfg)

    def setup(self, new_client_cfg: Any = None) -> bool:
        """(Re)build the loaders if ``dataloader`` changed."""
        if self.client_cfg is not None and dict(
            self.client_cfg.dataloader
        ) == dict(new_client_cfg.dataloader):
            return False
        self.client_cfg = new_client_cfg
        for split in self.SPLIT_NAMES:
            data = getattr(self, f"{split}_data")
            if data is not None and len(data) > 0:
                self[split] = get_dataloader(data, new_client_cfg, split)
        return True


class StandaloneDataDict(dict[int, ClientData]):
    """``{0: the server's ClientData, 1: client 1's, ...}``."""

    def __init__(
        self, datadict: dict[int, ClientData], global_cfg: Any
    ) -> None:
        super().__init__(datadict)
        self.global_cfg = global_cfg

    def resetup(self, global_cfg: Any, client_cfgs: Any = None) -> None:
        """Set up every participant's data for another configuration."""
        self.global_cfg = global_cfg
        for client, data in self.items():
            cfg = global_cfg
            if client_cfgs and f"client_{client}" in client_cfgs:
                cfg = global_cfg.clone()
                cfg.merge_from_other_cfg(client_cfgs[f"client_{client}"])
            data.setup(cfg)
