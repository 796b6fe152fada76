"""Tokenised texts, and the cache that keeps them for the next run."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fs_plugins.data.chat import Chat
from fs_plugins.data.examples import Examples
from fs_plugins.data.template import Template
from fs_plugins.data.tokenizer import (
    answer_ids,
    encoded,
    placed,
    prompt_ids,
)
from fs_plugins.errors import UserError
from fs_plugins.notes import note
from fs_plugins.state.files import belongs_to_others, replacing

logger = logging.getLogger("federatedscope.fs_plugins")
# The version of cached tokens.  Raise it with every change, here or in
# tokenizer.py or template.py, that changes the tokens of a text.
_VERSION = 3


@dataclass
class Tokens:
    """Tokenised texts, concatenated in one array.

    Attributes:
        ids: the numbers of all tokens (int32).
        types: the segment number of each token (int8); empty if the model
            has no segments.
        ends: for each text, the place in ``ids`` at which it ends (int64).
        prompts: for each text, the number of tokens of its prompt (int64);
            empty if the texts are not instructions.
        labels: the label of each text (int64, or float32 for regression).
            Where a text may have several labels, a row of a 1 for each class
            that applies and a 0 for each other (float32).
        learned: whether each token is learned (bool); empty if all tokens
            after a text's prompt are.
        texts: the uncut pairs (prompt, response); empty if the texts are not
            instructions.
        clients: the name of each text's client; empty if they have none.
        chats: the uncut conversations; empty if a template has made none of
            the texts.

    """

    ids: np.ndarray
    types: np.ndarray
    ends: np.ndarray
    prompts: np.ndarray
    labels: np.ndarray
    learned: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    texts: list[tuple[str, ...]] = field(default_factory=list)
    clients: Sequence[str] = ()
    chats: Sequence[Chat] = ()

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, number: int) -> int:
        """The place in ``ids`` at which a text begins."""
        return int(self.ends[number - 1]) if number else 0

    def ids_of(self, number: int) -> np.ndarray:
        """The numbers of a text's tokens."""
        return self.ids[self.start(number) : self.ends[number]]

    def lengths(self) -> np.ndarray:
        """The number of tokens of each text."""
        return np.diff(self.ends, prepend=0)

    def digest(self) -> str:
        """A digest of tokens, labels, their order, and the uncut texts."""
        sha = hashlib.sha256()
        arrays = [self.ids, self.types, self.ends, self.prompts]
        if self.learned.size:
            arrays.append(self.learned)
        for array in arrays:
            sha.update(f"{array.dtype} {len(array)}".encode())
            sha.update(np.ascontiguousarray(array).data)
        sha.update(np.ascontiguousarray(self.labels).data)
        # Generated answers are compared with the uncut responses.
        for pair in self.texts:
            sha.update("\0".join(pair).encode())
        for chat in self.chats:
            sha.update(json.dumps(chat).encode())
        return sha.hexdigest()


NO_CACHE = "none"  # in place of a folder
_STORED = ("ids", "types", "ends", "prompts", "learned", "kept")


def tokenise(
    examples: Examples,
    tokenizer: Any,
    max_length: int,
    cache: str,
    segments: int = 2,
    template: Template | None = None,
) -> Tokens:
    """Tokenise examples, or read their tokens from the cache.

    Instructions whose prompt leaves no room for a response in ``max_length``
    tokens are left out, as are conversations of which nothing is learned.  A
    text without any token is represented by the end-of-text token, as a
    model cannot process an empty text.

    Args:
        examples: the examples to tokenise.
        tokenizer: a tokenizer of transformers.
        max_length: the largest number of tokens of a text; further tokens
            are cut off.
        cache: the folder of cached tokens; '' stands for the folder
            ``fs_plugins/tokens`` in the user's cache, and ``none`` for no
            cache.
        segments: the number of segments that the model distinguishes; below
            2, no segment numbers are kept.
        template: makes the texts of examples that have conversations.

    Raises:
        UserError: there is no room for any response, or a tokenizer numbers
            more segments than the model has.

    """
    folder = Path(cache) if cache else default_cache() / "tokens"
    if template is None:
        examples = replace(examples, chats=())
    key = cache != NO_CACHE and _key(examples, tokenizer, max_length, template)
    file = folder / f"{key}.npz"
    stored = _stored(file) if key else None
    if stored is None:
        if template is not None and examples.chats:
            stored = _conversations(examples, tokenizer, max_length, template)
        elif examples.are_instructions:
            stored = _instructions(examples, tokenizer, max_length)
        else:
            stored = _texts(examples, tokenizer, max_length)
        if key:
            _store(file, stored)
    kept = stored.pop("kept")
    if not len(kept):
        raise UserError(
            f"llm.tok_len: {max_length} tokens leave no room for a response "
            "after any prompt"
        )
    if len(kept) < len(examples):
        note(
            f"{len(examples) - len(kept)} of {len(examples)} examples have "
            f"prompts of {max_length} tokens or more (llm.tok_len); they are "
            "left out"
        )
    stored["types"] = _segments(stored["types"], segments)
    is_scored = not (examples.names or examples.are_instructions)
    if examples.are_multi_label:
        labels = flags_of(examples.labels, len(examples.names))
    else:
        kind = np.float32 if is_scored else np.int64
        labels = np.asarray(examples.labels, kind)
    whole = examples.take(kept) if len(kept) < len(examples) else examples
    texts = whole.texts if examples.are_instructions else []
    return Tokens(
        **stored,
        labels=labels[kept],
        texts=texts,
        clients=whole.clients,
        chats=whole.chats,
    )


def flags_of(labels: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """A row for each text, with a 1 for each class that applies.

    Args:
        labels: the numbers of the classes of each text.
        classes: how many classes there are.

    """
    flags = np.zeros((len(labels), classes), np.float32)
    for row, numbers in zip(flags, labels, strict=True):
        row[list(numbers)] = 1
    return flags


def _segments(types: np.ndarray, segments: int) -> np.ndarray:
    """The segment numbers; an empty array if the model has no segments."""
    if segments < 2 or not types.size:
        return types[:0]
    if types.max() >= segments:
        raise UserError(
            f"model.type: the tokenizer numbers segments up to {types.max()}, "
            f"and the model has only {segments} (type_vocab_size)"
        )
    return types


def _texts(
    examples: Examples, tokenizer: Any, max_length: int
) -> dict[str, np.ndarray]:
    """Tokenise the texts of classification and regression."""
    columns = [list(column) for column in zip(*examples.texts, strict=True)]
    rows = encoded(tokenizer, columns, truncation=True, max_length=max_length)
    ids, types = rows["input_ids"], rows["token_type_ids"]
    empty = [i for i, row in enumerate(ids) if not len(row)]
    if empty:
        end = tokenizer.eos_token_id
        fill = tokenizer.pad_token_id if end is None else end
        for i in empty:
            ids[i] = np.array([fill], np.int32)
            if types:
                types[i] = np.zeros(1, np.int32)
        note(
            f"{len(empty)} of {len(examples)} texts have no tokens; each is "
            f"taken as {tokenizer.convert_ids_to_tokens(fill)!r}"
        )
    return {
        "ids": _joined(ids),
        "types": _joined(types, np.int8),
        "ends": np.cumsum([len(i) for i in ids]),
        "prompts": np.empty(0, np.int64),
        "learned": np.empty(0, bool),
        "kept": np.arange(len(ids)),
    }


def _instructions(
    examples: Examples, tokenizer: Any, max_length: int
) -> dict[str, np.ndarray]:
    """Tokenise instructions.

    A prompt has the same tokens in training as when an answer is generated.
    """
    texts, responses = zip(*examples.texts, strict=True)
    prompts = prompt_ids(tokenizer, texts)
    answers = answer_ids(tokenizer, texts, responses, prompts)
    kept = [i for i, prompt in enumerate(prompts) if len(prompt) < max_length]
    ids = [
        _joined([prompts[i], _ended(answers[i], tokenizer)])[:max_length]
        for i in kept
    ]
    return {
        "ids": _joined(ids),
        "types": np.empty(0, np.int8),
        "ends": np.cumsum([len(i) for i in ids], dtype=np.int64),
        "prompts": np.array([len(prompts[i]) for i in kept], np.int64),
        "learned": np.empty(0, bool),
        "kept": np.array(kept, np.int64),
    }


def _conversations(
    examples: Examples, tokenizer: Any, max_length: int, template: Template
) -> dict[str, np.ndarray]:
    """Tokenise conversations, of which a template makes the texts."""
    texts, parts = zip(*map(template.learned, examples.chats), strict=True)
    rows, flags = placed(tokenizer, texts, parts, template.adds_special)
    if not template.ending:
        rows = [_ended(row, tokenizer) for row in rows]
        flags = [
            np.pad(flag, (0, len(row) - len(flag)), constant_values=True)
            for row, flag in zip(rows, flags, strict=True)
        ]
    # A text's first token cannot be learned, as nothing predicts it.
    first = [int(f.argmax()) if f.any() else max_length for f in flags]
    kept = [i for i, place in enumerate(first) if place < max_length]
    ids = [rows[i][:max_length] for i in kept]
    return {
        "ids": _joined(ids),
        "types": np.empty(0, np.int8),
        "ends": np.cumsum([len(i) for i in ids], dtype=np.int64),
        "prompts": np.array([first[i] for i in kept], np.int64),
        "learned": _joined([flags[i][:max_length] for i in kept], bool),
        "kept": np.array(kept, np.int64),
    }


def _ended(ids: np.ndarray, tokenizer: Any) -> np.ndarray:
    """Tokens that end with the end-of-text token, once."""
    end = tokenizer.eos_token_id
    if len(ids) and ids[-1] == end:
        return ids
    return np.append(ids, np.int32(end))


def _joined(parts: Sequence[Any], dtype: Any = np.int32) -> Any:
    if not parts:
        return np.empty(0, dtype)
    return np.concatenate([np.asarray(part, dtype) for part in parts])


def _stored(file: Path) -> dict[str, np.ndarray] | None:
    if not file.is_file():
        return None
    if belongs_to_others(file):
        logger.warning("%s belongs to another user; made anew", file)
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in _STORED}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        logger.warning("%s is unreadable (%s); made anew", file, error)
        return None


def _store(file: Path, tokens: dict[str, np.ndarray]) -> None:
    """Write tokens to the cache.

    A failure is only logged: without the cache the next run tokenises again.
    """
    try:
        with replacing(file, private=True) as stream:
            np.savez(stream, **tokens)  # type: ignore[arg-type]
    except (OSError, UserError) as error:
        logger.warning("tokens are not cached: %s", error)


def default_cache() -> Path:
    """The folder ``fs_plugins`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fs_plugins"


def _key(
    examples: Examples,
    tokenizer: Any,
    max_length: int,
    template: Template | None,
) -> str:
    """A name for the cached file, from all that the tokens depend on.

    The rules of a tokenizer of the library ``tokenizers`` can be read.  Those
    of a class written in Python cannot; its tokens are not cached, and the
    name is ''.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    is_stock = type(tokenizer).__module__.startswith("transformers.")
    if backend is None or not is_stock:
        return ""
    rules = json.loads(backend.to_str())
    # These two only tell with which options the tokenizer was last called.
    del rules["truncation"], rules["padding"]
    decisive = {
        "version": _VERSION,
        "class": type(tokenizer).__name__,
        "rules": rules,
        "special": [
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        ],
        "inputs": list(tokenizer.model_input_names),
        "cuts": tokenizer.truncation_side,
        "splits_special": getattr(tokenizer, "split_special_tokens", False),
        "max_length": max_length,
        "instructions": examples.are_instructions,
        "texts": len(examples),
    }
    if examples.chats and template is not None:
        decisive["template"] = template.decisive()
        decisive["chats"] = examples.chats
    sha = hashlib.sha256(json.dumps(decisive).encode())
    for texts in examples.texts:
        for text in texts:
            sha.update(text.encode())
            sha.update(b"\0")
    return sha.hexdigest()
