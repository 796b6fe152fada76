"""Labelled text, before and after tokenising."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fs_plugins.errors import UserError, first_line

logger = logging.getLogger("federatedscope.fs_plugins")


@dataclass
class Examples:
    """Texts (one or two a piece) and their labels.

    Attributes:
        texts: tuples of one or two strings.
        labels: class numbers, or scores for regression.
        names: the classes' names; empty for regression.

    """

    texts: list[tuple[str, ...]]
    labels: list[float]
    names: Sequence[str] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Iterable[int]) -> "Examples":
        """The examples with the given numbers."""
        index = list(index)
        return Examples(
            [self.texts[i] for i in index],
            [self.labels[i] for i in index],
            self.names,
        )


@dataclass
class Tokens:
    """Tokenised texts, end to end.

    Attributes:
        ids: all token numbers (int32).
        types: all segment numbers (int8), empty if the model has none.
        ends: where each text ends in ``ids`` (int64).
        labels: one a text (int64, or float32 for regression).

    """

    ids: np.ndarray
    types: np.ndarray
    ends: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)


def tokenise(
    examples: Examples, tokenizer: Any, max_length: int, cache: str
) -> Tokens:
    """Tokenise once; the next time, read the cache.

    Args:
        examples: what to tokenise.
        tokenizer: a tokenizer of transformers.
        max_length: tokens beyond it are cut off.
        cache: the folder; '' is ``fs_plugins`` in the user's cache.

    """
    folder = Path(cache) if cache else _default_cache()
    file = folder / f"{_key(examples, tokenizer, max_length)}.npz"
    labels = np.asarray(
        examples.labels, np.int64 if examples.names else np.float32
    )
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as stored:
                return Tokens(
                    stored["ids"], stored["types"], stored["ends"], labels
                )
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            logger.warning("%s is unreadable (%s); made anew", file, error)
    tokens = _tokenise(examples, tokenizer, max_length, labels)
    _store(file, tokens)
    return tokens


def _tokenise(
    examples: Examples, tokenizer: Any, max_length: int, labels: np.ndarray
) -> Tokens:
    columns = [list(column) for column in zip(*examples.texts, strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    ids = encoded["input_ids"]
    types = encoded.get("token_type_ids", [])
    return Tokens(
        np.concatenate([np.asarray(i, np.int32) for i in ids]),
        np.concatenate([np.asarray(t, np.int8) for t in types])
        if types
        else np.empty(0, np.int8),
        np.cumsum([len(i) for i in ids]),
        labels,
    )


def _store(file: Path, tokens: Tokens) -> None:
    """Write the cache; without it the next run is slower, no more."""
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as stream:
            np.savez(
                stream, ids=tokens.ids, types=tokens.types, ends=tokens.ends
            )
        os.replace(part, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        logger.warning("tokens are not cached: %s", error)


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fs_plugins" / "tokens"


def _key(examples: Examples, tokenizer: Any, max_length: int) -> str:
    sha = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = sorted(tokenizer.get_vocab().items())
    else:
        rules = json.loads(backend.to_str())
        del rules["truncation"], rules["padding"]  # what it did last
    sha.update(json.dumps(rules).encode())
    sha.update(f"{max_length} {len(examples)}".encode())
    for texts in examples.texts:
        for text in texts:
            sha.update(text.encode())
            sha.update(b"\0")
    return sha.hexdigest()


def load_tokenizer(name: str, cache_dir: str) -> Any:
    """The tokenizer of a model; one without padding pads with its end.

    Raises:
        UserError: it cannot be loaded.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, cache_dir=cache_dir or None
        )
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise UserError(
            f"model.type: the tokenizer of {name!r} cannot be loaded: {reason}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
