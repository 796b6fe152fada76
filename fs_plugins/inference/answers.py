"""Answers of the server, in the form of OpenAI's interface."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fs_plugins.data.instructions import INSTRUCTION
from fs_plugins.inference.service import Classified, Completion

Json = dict[str, Any]


def _new_name() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Form:
    """The form of one answer, whole or in parts.

    Attributes:
        model: whose model answers.
        is_chat: whether the answer is a message of a conversation.
        name: what the answer is called.
        created: when it was begun, in seconds.

    """

    model: str
    is_chat: bool
    name: str = field(default_factory=_new_name)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completion: Completion) -> Json:
        """The whole answer."""
        text = completion.answer.text
        choice: Json = (
            {"message": {"role": "assistant", "content": text}}
            if self.is_chat
            else {"text": text}
        )
        choice["finish_reason"] = _reason(completion)
        return self._around([choice]) | {"usage": _usage(completion)}

    def begin(self) -> Json:
        """The first part of the answer, which has no text yet."""
        return self._part({"role": "assistant", "content": ""}, "", None)

    def part(self, text: str) -> Json:
        """A part of the answer."""
        return self._part({"content": text}, text, None)

    def end(self, text: str, completion: Completion) -> Json:
        """The last part of the answer.

        Args:
            text: what has not been sent yet.
            completion: the whole answer.

        """
        delta = {"content": text} if text else {}
        return self._part(delta, text, _reason(completion))

    def usage(self, completion: Completion) -> Json:
        """The numbers of tokens, after the last part."""
        return self._around([], ".chunk") | {"usage": _usage(completion)}

    def _part(self, delta: Json, text: str, reason: str | None) -> Json:
        choice: Json = {"delta": delta} if self.is_chat else {"text": text}
        choice["finish_reason"] = reason
        return self._around([choice], ".chunk")

    def _around(self, choices: Sequence[Json], part: str = "") -> Json:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        kind = f"chat.completion{part}" if self.is_chat else "text_completion"
        return {
            "id": f"{prefix}-{self.name}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [
                {"index": number, "logprobs": None, **choice}
                for number, choice in enumerate(choices)
            ],
        }


def classes_json(model: str, found: Classified) -> Json:
    """The predictions for texts, in the form of vLLM's classification.

    Args:
        model: whose model has predicted.
        found: the predictions; those of a regression are scores.

    """
    data: list[Json] = []
    rows = zip(found.predictions, found.probabilities, strict=True)
    for number, (prediction, probabilities) in enumerate(rows):
        entry: Json = {"index": number}
        if found.classes:
            entry["label"] = prediction.label
            entry["probs"] = probabilities
            entry["num_classes"] = len(found.classes)
        else:
            entry["score"] = prediction.label
        data.append(entry)
    return {
        "id": f"classify-{_new_name()}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "classes": found.classes,
        "data": data,
    }


class Deltas:
    """Cuts an answer that grows into the parts that are sent.

    The end of a text is held back as long as it may turn out to be the
    beginning of something that ends the answer, or of a letter.

    Args:
        stop: the texts that end the answer.

    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._ends = (*stop, INSTRUCTION)
        self._sent = ""

    def next(self, text: str) -> str:
        """What is sent next.

        Args:
            text: the answer so far.

        """
        text = text.rstrip("\ufffd")
        held = max(
            length
            for end in self._ends
            for length in range(len(end))
            if text.endswith(end[:length])
        )
        return self.last(text[: len(text) - held])

    def last(self, text: str) -> str:
        """What is sent at the end.

        Args:
            text: the whole answer.

        """
        if not text.startswith(self._sent):
            return ""
        part = text[len(self._sent) :]
        self._sent = text
        return part


def _reason(completion: Completion) -> str:
    return "stop" if completion.answer.is_complete else "length"


def _usage(completion: Completion) -> dict[str, int]:
    prompt, answer = completion.prompt_tokens, completion.answer.tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }
