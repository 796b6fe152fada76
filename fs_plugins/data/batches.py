"""Batches of tokenised texts, padded or packed."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fs_plugins.data.tokens import Tokens

NO_LOSS = -100  # the label that torch's cross_entropy ignores
POSITIONS = "position_ids"  # only a packed batch has them


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
                batch["labels"][row, filled] = self.labels_of(numbers[row])
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def labels_of(self, number: int) -> np.ndarray:
        """The labels of an instruction's tokens, -100 for those not learned.

        Args:
            number: the number of the text.

        """
        tokens = self.tokens
        start, end = tokens.start(number), tokens.ends[number]
        prompt = tokens.prompts[number]
        labels = tokens.ids[start:end].astype(np.int64)
        labels[:prompt] = NO_LOSS
        if tokens.learned.size:
            labels[prompt:][~tokens.learned[start + prompt : end]] = NO_LOSS
        return labels


class PackingCollator(Collator):
    """Turns the numbers of several instructions into a packed batch.

    A row holds one text after the other in place of padding.  The positions
    of each text begin at 0, and from that transformers makes a mask that lets
    no text see another one.  A batch holds the same texts as without packing,
    so a step learns the same, up to rounding.
    """

    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """Collate texts.

        Args:
            numbers: the numbers of the texts.

        Returns:
            ``input_ids``, ``position_ids`` and ``labels``, of shape (rows,
            length of the longest text).  There is no ``attention_mask``:
            transformers looks at the positions only where there is none.
            The first token of a text is never learned, as the text before
            it does not predict it.  The end of a row that no text fills has
            no loss either, and its positions begin at 1.

        """
        tokens = self.tokens
        lengths = [int(n) for n in tokens.lengths()[numbers]]
        rows = rows_of(lengths)
        shape = (len(rows), max(lengths))
        ids = np.full(shape, self.pad, np.int64)
        positions = np.zeros(shape, np.int64)
        labels = np.full(shape, NO_LOSS, np.int64)
        for row, places in enumerate(rows):
            at = 0
            for place in places:
                number, end = numbers[place], at + lengths[place]
                ids[row, at:end] = tokens.ids_of(number)
                positions[row, at:end] = np.arange(end - at)
                labels[row, at:end] = self.labels_of(number)
                labels[row, at] = NO_LOSS
                at = end
            positions[row, at:] = np.arange(1, shape[1] - at + 1)
        batch = {"input_ids": ids, POSITIONS: positions, "labels": labels}
        return {name: torch.from_numpy(value) for name, value in batch.items()}


def rows_of(lengths: Sequence[int]) -> list[list[int]]:
    """Distribute texts over as few rows as the longest text is long.

    Each text, the longest first, goes into the first row that has room for
    it.  So a batch is never larger than it is with padding.

    Args:
        lengths: the number of tokens of each text.

    Returns:
        The places of the texts in ``lengths``, for each row.

    """
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[place]
        row = next((r for r, left in enumerate(room) if left >= length), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(max(lengths))
        rows[row].append(place)
        room[row] -= length
    return rows


def examples_in(batch: Mapping[str, torch.Tensor]) -> int:
    """The number of texts in a batch, packed or not."""
    if POSITIONS in batch:
        return int((batch[POSITIONS] == 0).sum())
    return len(batch["labels"])


def options_for(batch: Mapping[str, torch.Tensor]) -> dict[str, bool]:
    """What else a language model is called with.

    With a cache, which most models have by default, transformers does not
    look for packed texts.
    """
    return {"use_cache": False} if POSITIONS in batch else {}
