"""A client's tokenised text, in batches padded to their longest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from federatedscope.core.data import ClientData
from torch.utils.data import DataLoader, Dataset

from fs_plugins.data.examples import Tokens


class TextDataset(Dataset[int]):
    """Some of the tokenised texts; an item is the number of a text.

    Args:
        tokens: all texts; shared, not copied.
        index: the numbers of the texts that belong to this data set.

    """

    def __init__(self, tokens: Tokens, index: Sequence[int]) -> None:
        self.tokens = tokens
        self.index = np.asarray(index, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> int:
        return int(self.index[i])


class Collator:
    """Turns numbers of texts into a batch.

    Args:
        tokens: all texts.
        pad: the number of the padding token.

    """

    def __init__(self, tokens: Tokens, pad: int) -> None:
        self.tokens = tokens
        self.pad = pad

    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask``, ... (batch x longest), labels."""
        tokens = self.tokens
        ends = tokens.ends[numbers]
        starts = np.where(
            np.equal(numbers, 0), 0, tokens.ends[np.subtract(numbers, 1)]
        )
        shape = (len(numbers), int((ends - starts).max()))
        batch = {
            "input_ids": np.full(shape, self.pad, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
        }
        if tokens.types.size:
            batch["token_type_ids"] = np.zeros(shape, np.int64)
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            length = end - start
            batch["input_ids"][row, :length] = tokens.ids[start:end]
            batch["attention_mask"][row, :length] = 1
            if tokens.types.size:
                batch["token_type_ids"][row, :length] = tokens.types[start:end]
        batch["labels"] = tokens.labels[numbers]
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class TextClientData(ClientData):  # type: ignore[misc]
    """A client's texts, with loaders that pad to a batch's longest.

    Args:
        client_cfg: ``dataloader`` is used.
        pad: the number of the padding token.
        train, val, test: ``TextDataset``s, or None.

    """

    def __init__(
        self,
        client_cfg: Any,
        pad: int,
        train: TextDataset | None = None,
        val: TextDataset | None = None,
        test: TextDataset | None = None,
    ) -> None:
        self.pad = pad
        super().__init__(client_cfg, train=train, val=val, test=test)

    def setup(self, new_client_cfg: Any = None) -> bool:
        """(Re)build the loaders if ``dataloader`` changed."""
        options = new_client_cfg.dataloader
        if self.client_cfg is not None and dict(
            self.client_cfg.dataloader
        ) == dict(options):
            return False
        self.client_cfg = new_client_cfg
        for split in ("train", "val", "test"):
            data = getattr(self, f"{split}_data")
            if data is None or len(data) == 0:
                continue
            self[split] = DataLoader(
                data,
                batch_size=options.batch_size,
                shuffle=options.shuffle and split == "train",
                drop_last=options.drop_last and split == "train",
                num_workers=options.num_workers,
                pin_memory=options.pin_memory,
                collate_fn=Collator(data.tokens, self.pad),
            )
        return True
