"""A client's tokenised texts, in batches padded to their longest text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from federatedscope.core.data import ClientData
from torch.utils.data import DataLoader, Dataset

from fs_plugins.data.batches import Collator, PackingCollator
from fs_plugins.data.chat import Chat
from fs_plugins.data.human_eval import Problem
from fs_plugins.data.questions import Question
from fs_plugins.data.template import Template
from fs_plugins.data.tokens import Tokens


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
        is_packed = is_train and self.client_cfg.fedsa.data.packing
        return DataLoader(
            data,
            batch_size=options.batch_size,
            shuffle=options.shuffle and is_train,
            drop_last=options.drop_last and is_train,
            num_workers=options.num_workers,
            pin_memory=options.pin_memory,
            collate_fn=self.collator(data.tokens, is_packed),
        )

    def collator(self, tokens: Tokens, is_packed: bool = False) -> Collator:
        """A collator that pads with the tokenizer's token and on its side.

        Args:
            tokens: all texts.
            is_packed: whether short texts share a row.

        """
        kind = PackingCollator if is_packed else Collator
        return kind(
            tokens,
            self.tokenizer.pad_token_id,
            left=self.tokenizer.padding_side == "left",
        )
