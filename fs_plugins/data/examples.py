"""Text, before and after tokenising."""

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
    """Texts and their labels.

    Attributes:
        texts: tuples of one or two strings; (prompt, response) if they are
            instructions.
        labels: class numbers, or scores for regression; the number of the
            category if they are instructions.
        names: the classes' (categories') names; empty for regression.
        are_instructions: a language model learns to answer them.

    """

    texts: list[tuple[str, ...]]
    labels: list[float]
    names: Sequence[str] = field(default_factory=tuple)
    are_instructions: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Iterable[int]) -> "Examples":
        """The examples with the given numbers."""
        index = list(index)
        return Examples(
            [self.texts[i] for i in index],
            [self.labels[i] for i in index],
            self.names,
            self.are_instructions,
        )


@dataclass
class Tokens:
    """Tokenised texts, end to end.

    Attributes:
        ids: all token numbers (int32).
        types: all segment numbers (int8), empty if the model has none.
        ends: where each text ends in ``ids`` (int64).
        prompts: how many of each text's tokens are its prompt (int64),
            empty if they are not instructions.
        labels: one a text (int64, or float32 for regression).
        texts: (prompt, response), if they are instructions; uncut.

    """

    ids: np.ndarray
    types: np.ndarray
    ends: np.ndarray
    prompts: np.ndarray
    labels: np.ndarray
    texts: list[tuple[str, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, number: int) -> int:
        """Where a text begins in ``ids``."""
        return int(self.ends[number - 1]) if number else 0


_STORED = ("ids", "types", "ends", "prompts", "kept")


def tokenise(
    examples: Examples, tokenizer: Any, max_length: int, cache: str
) -> Tokens:
    """Tokenise once; the next time, read the cache.

    Instructions are left out if ``max_length`` has no room for a response.

    Args:
        examples: what to tokenise.
        tokenizer: a tokenizer of transformers.
        max_length: tokens beyond it are cut off.
        cache: the folder; '' is ``fs_plugins`` in the user's cache.

    Raises:
        UserError: there is no room for any response.

    """
    folder = Path(cache) if cache else default_cache() / "tokens"
    file = folder / f"{_key(examples, tokenizer, max_length)}.npz"
    stored = _stored(file)
    if stored is None:
        encode = _instructions if examples.are_instructions else _texts
        stored = encode(examples, tokenizer, max_length)
        _store(file, stored)
    kept = stored.pop("kept")
    if not len(kept):
        raise UserError(
            f"llm.tok_len: {max_length} tokens leave no room for a response "
            "after any prompt"
        )
    if len(kept) < len(examples):
        logger.warning(
            "%d of %d examples have prompts of %d tokens or more (llm.tok_len)"
            "; they are left out",
            len(examples) - len(kept),
            len(examples),
            max_length,
        )
    is_scored = not (examples.names or examples.are_instructions)
    labels = np.asarray(examples.labels, np.float32 if is_scored else np.int64)
    texts = examples.take(kept).texts if examples.are_instructions else []
    return Tokens(**stored, labels=labels[kept], texts=texts)


def _texts(
    examples: Examples, tokenizer: Any, max_length: int
) -> dict[str, np.ndarray]:
    columns = [list(column) for column in zip(*examples.texts, strict=True)]
    encoded = _encoded(
        tokenizer, columns, truncation=True, max_length=max_length
    )
    ids, types = encoded["input_ids"], encoded["token_type_ids"]
    return {
        "ids": _joined(ids),
        "types": _joined(types, np.int8),
        "ends": np.cumsum([len(i) for i in ids]),
        "prompts": np.empty(0, np.int64),
        "kept": np.arange(len(ids)),
    }


def _instructions(
    examples: Examples, tokenizer: Any, max_length: int
) -> dict[str, np.ndarray]:
    """Prompt and response are tokenised apart and joined.

    So a prompt has the tokens in training that it has when it is answered.
    """
    columns = [list(column) for column in zip(*examples.texts, strict=True)]
    prompts = _encoded(tokenizer, columns[:1])["input_ids"]
    responses = _encoded(tokenizer, columns[1:], add_special_tokens=False)
    answers, end = responses["input_ids"], [tokenizer.eos_token_id]
    kept = [i for i, prompt in enumerate(prompts) if len(prompt) < max_length]
    ids = [_joined([prompts[i], answers[i], end])[:max_length] for i in kept]
    return {
        "ids": _joined(ids),
        "types": np.empty(0, np.int8),
        "ends": np.cumsum([len(i) for i in ids], dtype=np.int64),
        "prompts": np.array([len(prompts[i]) for i in kept], np.int64),
        "kept": np.array(kept, np.int64),
    }


def _encoded(
    tokenizer: Any, columns: Sequence[list[str]], **options: Any
) -> dict[str, list[np.ndarray]]:
    """``input_ids`` and ``token_type_ids`` (none, perhaps) of each text.

    A thousand at a time: while a tokenizer works, a text takes a hundred
    times the memory of its tokens.
    """
    found: dict[str, list[np.ndarray]] = {
        "input_ids": [],
        "token_type_ids": [],
    }
    for start in range(0, len(columns[0]), 1000):
        part = [column[start : start + 1000] for column in columns]
        encoded = tokenizer(*part, **options)
        for name, rows in found.items():
            for row in encoded.get(name, []):
                rows.append(np.asarray(row, np.int32))
    return found


def _joined(parts: Sequence[Any], dtype: Any = np.int32) -> Any:
    if not parts:
        return np.empty(0, dtype)
    return np.concatenate([np.asarray(part, dtype) for part in parts])


def _stored(file: Path) -> dict[str, np.ndarray] | None:
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in _STORED}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        logger.warning("%s is unreadable (%s); made anew", file, error)
        return None


def _store(file: Path, tokens: dict[str, np.ndarray]) -> None:
    """Write the cache; without it the next run is slower, no more."""
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as stream:
            np.savez(stream, **tokens)  # type: ignore[arg-type]
        os.replace(part, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        logger.warning("tokens are not cached: %s", error)


def default_cache() -> Path:
    """``fs_plugins`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fs_plugins"


def _key(examples: Examples, tokenizer: Any, max_length: int) -> str:
    sha = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = sorted(tokenizer.get_vocab().items())
    else:
        rules = json.loads(backend.to_str())
        del rules["truncation"], rules["padding"]  # what it did last
    sha.update(json.dumps(rules).encode())
    kind = "instructions" if examples.are_instructions else "texts"
    sha.update(f"{kind} {max_length} {len(examples)}".encode())
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
