"""A client's tokenised text, in batches padded to their longest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from federatedscope.core.data import ClientData
from torch.utils.data import DataLoader, Dataset

from fs_plugins.data.human_eval import Problem
from fs_plugins.data.tokens import Tokens

NO_LOSS = -100  # as torch's cross_entropy has it


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
        left: padding comes before the texts.

    """

    def __init__(self, tokens: Tokens, pad: int, left: bool = False) -> None:
        self.tokens = tokens
        self.pad = pad
        self.left = left

    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask``, ... (batch x longest), labels.

        The labels of instructions are those of the tokens: -100, which is
        no loss, in prompt and padding.
        """
        tokens = self.tokens
        ends = tokens.ends[numbers]
        starts = [tokens.start(number) for number in numbers]
        shape = (len(numbers), int((ends - starts).max()))
        batch = {
            "input_ids": np.full(shape, self.pad, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
        }
        if tokens.types.size:
            batch["token_type_ids"] = np.zeros(shape, np.int64)
        if tokens.prompts.size:
            batch["labels"] = np.full(shape, NO_LOSS, np.int64)
        else:
            batch["labels"] = tokens.labels[numbers]
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            first = shape[1] - (end - start) if self.left else 0
            own = slice(first, first + end - start)
            batch["input_ids"][row, own] = tokens.ids[start:end]
            batch["attention_mask"][row, own] = 1
            if tokens.types.size:
                batch["token_type_ids"][row, own] = tokens.types[start:end]
            if tokens.prompts.size:
                prompt = tokens.prompts[numbers[row]]
                response = tokens.ids[start + prompt : end]
                batch["labels"][row, own][prompt:] = response
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class TextClientData(ClientData):  # type: ignore[misc]
    """A client's texts, with loaders that pad to a batch's longest.

    Args:
        client_cfg: ``dataloader`` is used.
        tokenizer: pads on its ``padding_side``, and reads what a model
            writes.
        train, val, test: ``TextDataset``s, or None.

    Attributes:
        problems: HumanEval's, if they are what a model is tried on.
        union_data: the test shards of all clients together; one object for
            all.

    """

    problems: Sequence[Problem] = ()
    union_data: TextDataset | None = None

    def __init__(
        self,
        client_cfg: Any,
        tokenizer: Any,
        train: TextDataset | None = None,
        val: TextDataset | None = None,
        test: TextDataset | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        super().__init__(client_cfg, train=train, val=val, test=test)

    def pairs_of(self, split: str, most: int) -> list[tuple[str, ...]]:
        """The first instructions of a split: (prompt, response).

        Args:
            split: train, val or test.
            most: how many; below 0, all.

        """
        data = getattr(self, f"{split}_data")
        index = data.index if most < 0 else data.index[:most]
        return [data.tokens.texts[number] for number in index]

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
            self[split] = self._loader(data, is_train=split == "train")
        return True

    def union_loader(self) -> "DataLoader[int]":
        """A loader of the test shards of all clients together."""
        assert self.union_data is not None
        return self._loader(self.union_data, is_train=False)

    def _loader(self, data: TextDataset, is_train: bool) -> "DataLoader[int]":
        options = self.client_cfg.dataloader
        return DataLoader(
            data,
            batch_size=options.batch_size,
            shuffle=options.shuffle and is_train,
            drop_last=options.drop_last and is_train,
            num_workers=options.num_workers,
            pin_memory=options.pin_memory,
            collate_fn=self.collator(data.tokens),
        )

    def collator(self, tokens: Tokens) -> Collator:
        """A collator that pads with the tokenizer's token and on its side."""
        return Collator(
            tokens,
            self.tokenizer.pad_token_id,
            left=self.tokenizer.padding_side == "left",
        )
