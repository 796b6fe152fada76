"""A client's tokenised texts, in batches padded to their longest text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from federatedscope.core.data import ClientData
from torch.utils.data import DataLoader, Dataset

from fs_plugins.data.chat import Chat
from fs_plugins.data.human_eval import Problem
from fs_plugins.data.questions import Question
from fs_plugins.data.template import Template
from fs_plugins.data.tokens import Tokens

NO_LOSS = -100  # the label that torch's cross_entropy ignores


class TextDataset(Dataset[int]):
    """A subset of tokenised texts.

    An item of the data set is the number of a text in ``tokens``; a
    ``Collator`` turns several of them into a batch.

    Args:
        tokens: all texts, which several data sets share.
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
    """Turns the numbers of several texts into a batch.

    Args:
        tokens: all texts.
        pad: the number of the padding token.
        left: whether padding comes before the texts, not after them.

    """

    def __init__(self, tokens: Tokens, pad: int, left: bool = False) -> None:
        self.tokens = tokens
        self.pad = pad
        self.left = left

    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """Collate texts.

        Args:
            numbers: the numbers of the texts.

        Returns:
            ``input_ids``, ``attention_mask`` and, if the model has segments,
            ``token_type_ids``, of shape (batch, length of the longest text).
            ``labels`` has the shape (batch,) for classification and
            regression, and (batch, classes) if a text may have several
            labels.  For instructions it has the shape of ``input_ids``
            and is -100, which carries no loss, in padding and in all that is
            not learned.

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
            filled = slice(first, first + end - start)
            batch["input_ids"][row, filled] = tokens.ids[start:end]
            batch["attention_mask"][row, filled] = 1
            if tokens.types.size:
                batch["token_type_ids"][row, filled] = tokens.types[start:end]
            if tokens.prompts.size:
                prompt = tokens.prompts[numbers[row]]
                response = tokens.ids[start + prompt : end].astype(np.int64)
                if tokens.learned.size:
                    learned = tokens.learned[start + prompt : end]
                    response[~learned] = NO_LOSS
                batch["labels"][row, filled][prompt:] = response
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class TextClientData(ClientData):  # type: ignore[misc]
    """A client's texts, with loaders that pad to a batch's longest text.

    Args:
        client_cfg: the client's configuration, of which the section
            ``dataloader`` is used.
        tokenizer: the model's tokenizer.  Batches are padded on its
            ``padding_side``, and it decodes generated answers.
        train: the training texts; None if there are none.
        val: the validation texts; None if there are none.
        test: the test texts; None if there are none.

    Attributes:
        problems: the problems of HumanEval, if a model is evaluated on them.
        questions: the multiple-choice questions that a model is evaluated on.
        template: the template of conversations; None if texts are classified.
        union_data: the test shards of all clients together.  All clients
            share one object.

    """

    problems: Sequence[Problem] = ()
    questions: Sequence[Question] = ()
    template: Template | None = None
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
        """The first instructions of a split, as pairs (prompt, response).

        Args:
            split: ``train``, ``val`` or ``test``.
            most: the largest number of pairs; a number below 0 stands for
                all of them.

        """
        data = getattr(self, f"{split}_data")
        index = data.index if most < 0 else data.index[:most]
        return [data.tokens.texts[number] for number in index]

    def chats_of(self, split: str, most: int) -> list[Chat]:
        """The first conversations of a split, as ``pairs_of`` has pairs.

        Empty if no template has made the texts.

        Args:
            split: ``train``, ``val`` or ``test``.
            most: the largest number of conversations; a number below 0
                stands for all of them.

        """
        data = getattr(self, f"{split}_data")
        if not data.tokens.chats:
            return []
        index = data.index if most < 0 else data.index[:most]
        return [data.tokens.chats[number] for number in index]

    def setup(self, new_client_cfg: Any = None) -> bool:
        """Build the loaders again if the section ``dataloader`` changed.

        Args:
            new_client_cfg: the client's new configuration.

        Returns:
            Whether the loaders were built.

        """
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
