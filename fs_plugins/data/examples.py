"""Texts and their labels, before they are tokenised."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fs_plugins.data.chat import Chat
from fs_plugins.errors import UserError
from fs_plugins.terms import NONE


@dataclass
class Examples:
    """Texts and their labels.

    Attributes:
        texts: a tuple of one or two strings for each example.  Instructions
            are tuples (prompt, response).
        labels: a label for each example: the number of the class, or a score
            for regression.  For instructions it is the number of the
            category.  Where a text may have several labels, it is a tuple of
            the numbers of its classes.
        names: the names of the classes or categories; empty for regression.
        are_instructions: whether a language model learns to answer the
            examples.
        clients: the name of the client that each example belongs to; empty
            if the examples do not say so.
        chats: the conversation of each instruction, from which a template
            makes the text that is learned; empty if it is ``texts`` that are
            learned, as they are.
        template: the template of instructions, unless the configuration
            names one: ``alpaca`` and ``none`` stand for ``texts``, and
            ``auto`` for the template of the model's tokenizer.
        are_multi_label: whether any number of classes applies to a text, and
            not one class to each.

    """

    texts: list[tuple[str, ...]]
    labels: list[Any]
    names: Sequence[str] = field(default_factory=tuple)
    are_instructions: bool = False
    clients: Sequence[str] = field(default_factory=tuple)
    chats: Sequence[Chat] = field(default_factory=tuple)
    template: str = NONE
    are_multi_label: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    def check(self, source: str) -> None:
        """Refuse texts or labels that cannot be trained on.

        Args:
            source: where the examples come from, for the error message.

        Raises:
            UserError: says which example is wrong, and why.

        """
        for part in (self.texts, self.labels, self.names, self.clients):
            if not hasattr(part, "__len__") or isinstance(part, str):
                raise UserError(
                    f"{source}: texts, labels, names and clients must be "
                    f"lists, not {part!r:.80}"
                )
        if not len(self):
            raise UserError(f"{source} holds no examples")
        if len({*map(str, self.names)}) < len(self.names):
            raise UserError(f"{source}: two classes have the same name")
        if len(self.labels) != len(self):
            raise UserError(
                f"{source} has {len(self)} texts and {len(self.labels)} labels"
            )
        if len(self.clients) not in (0, len(self)):
            raise UserError(
                f"{source} has {len(self)} texts, and names the clients of "
                f"{len(self.clients)}"
            )
        if len(self.chats) not in (0, len(self)):
            raise UserError(
                f"{source} has {len(self)} texts and {len(self.chats)} "
                "conversations"
            )
        width = len(self.texts[0])
        for number, texts in enumerate(self.texts, 1):
            where = f"{source}, example {number}"
            if not isinstance(texts, tuple) or len(texts) not in (1, 2):
                raise UserError(
                    f"{where}: {texts!r:.80} is not a tuple of one or two "
                    "texts"
                )
            if len(texts) != width:
                raise UserError(
                    f"{where} has {len(texts)} texts, and the first example "
                    f"has {width}"
                )
            for text in texts:
                if not isinstance(text, str):
                    raise UserError(f"{where}: {text!r:.80} is not a text")
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    raise UserError(
                        f"{where} is not valid Unicode: {error.reason} at "
                        f"character {error.start}"
                    ) from None
        for number, label in enumerate(self.labels, 1):
            if not self._allows(label):
                raise UserError(
                    f"{source}, example {number}: the label is {label!r:.80}, "
                    f"not {self._allowed()}"
                )
        if self.are_multi_label and not len(self.names):
            raise UserError(
                f"{source}: a text may have several labels, and there are no "
                "names of classes"
            )
        if not self.are_instructions and len(self.names) == 1:
            raise UserError(
                f"{source} has one class only, {self.names[0]!r}; there is "
                "nothing to tell apart"
            )

    def _allows(self, label: object) -> bool:
        """Whether a label is the number of a class, or a finite score."""
        if self.are_multi_label:
            return (
                isinstance(label, tuple)
                and len({*label}) == len(label)
                and all(
                    isinstance(each, (int, np.integer))
                    and each in range(len(self.names))
                    for each in label
                )
            )
        if not isinstance(label, (int, float, np.number)):
            return False
        if len(self.names):
            return label in range(len(self.names))
        return math.isfinite(label)

    def _allowed(self) -> str:
        """What a label must be, as the end of a sentence."""
        if not len(self.names):
            return "a finite number"
        numbers = f"from 0 to {len(self.names) - 1}"
        if self.are_multi_label:
            return f"a tuple of different numbers of classes, {numbers}"
        return f"{numbers}, the number of a class"

    def with_names(self, names: Sequence[str], source: str) -> "Examples":
        """The examples with the numbers that other examples give the classes.

        Args:
            names: the names of the classes, in the order of their numbers.
            source: where the examples come from, for error messages.

        Raises:
            UserError: a class of the examples is not among them.

        """
        if [*map(str, self.names)] == [*map(str, names)]:
            return self
        number_of = {str(name): i for i, name in enumerate(names)}
        missing = [n for n in map(str, self.names) if n not in number_of]
        if missing or not len(self.names):
            raise UserError(
                f"{source}: its classes are not those of the training "
                f"examples, {', '.join(map(str, names)) or 'scores'}"
                + (f": there is {missing[0]!r}" if missing else "")
            )
        order = [number_of[str(name)] for name in self.names]
        labels = [
            tuple(sorted(order[int(each)] for each in label))
            if self.are_multi_label
            else order[int(label)]
            for label in self.labels
        ]
        return replace(self, labels=labels, names=tuple(names))

    def take(self, index: Iterable[int]) -> "Examples":
        """The examples with the given numbers."""
        index = list(index)
        return replace(
            self,
            texts=[self.texts[i] for i in index],
            labels=[self.labels[i] for i in index],
            clients=[self.clients[i] for i in index] if self.clients else (),
            chats=[self.chats[i] for i in index] if self.chats else (),
        )
