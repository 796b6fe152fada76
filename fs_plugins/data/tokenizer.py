"""A model's tokenizer: special tokens, and tokens of prompts and answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fs_plugins.errors import UserError, first_line


def load_tokenizer(
    name: str, cache_dir: str, config: Any = None, needs_end: bool = False
) -> Any:
    """Load the tokenizer of a model, and set its padding.

    Args:
        name: the model's folder, or its name on the hub.
        cache_dir: the folder of downloaded files; '' stands for the cache of
            transformers.
        config: the model's configuration.
        needs_end: whether the tokenizer must have an end-of-text token, as a
            language model's answers end with it.

    Raises:
        UserError: the tokenizer cannot be loaded, or lacks a token that is
            needed.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, cache_dir=cache_dir or None, trust_remote_code=False
        )
    # Each tokenizer has exceptions of its own for missing packages and
    # broken files.
    except Exception as error:
        raise UserError(
            f"model.type: the tokenizer of {name!r} cannot be loaded: "
            f"{first_line(error)}"
        ) from error
    set_padding(tokenizer, name, config, needs_end)
    return tokenizer


def set_padding(
    tokenizer: Any, name: str, config: Any = None, needs_end: bool = False
) -> None:
    """Set the padding token of a tokenizer to the one that the model expects.

    Some classifiers recognize padding by the token that their configuration
    names.  Their texts are padded with this token, so that an adapter gives
    the same results on the unchanged base model.  If the configuration names
    none, and for language models, the tokenizer's own padding token is used,
    or else the end-of-text token or the separator.

    Args:
        tokenizer: a tokenizer of transformers, which is changed.
        name: the name of the model, for the error message.
        config: the model's configuration, if there is one.
        needs_end: whether the tokenizer must have an end-of-text token, as a
            language model's answers end with it.

    Raises:
        UserError: the tokenizer lacks a token that is needed.

    """
    advice = "name one in its tokenizer_config.json"
    if needs_end and tokenizer.eos_token_id is None:
        raise UserError(
            f"model.type: the tokenizer of {name!r} has no end of text "
            f"(eos_token), so that an answer would never end; {advice}"
        )
    named = _named_padding(tokenizer, config)
    if named and (tokenizer.pad_token_id is None or not needs_end):
        tokenizer.pad_token = named
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
    pad = tokenizer.pad_token_id
    if pad is None:
        raise UserError(
            f"model.type: the tokenizer of {name!r} has no token to pad with "
            f"(pad_token), and no end of text either; {advice}"
        )
    classifies_by_end = getattr(config, "is_encoder_decoder", False)
    if classifies_by_end and end_of_text(tokenizer, config) in (-1, pad):
        raise UserError(
            f"model.type: {config.model_type} classifies by the end of a text "
            f"(eos_token), and the tokenizer of {name!r} has none that is "
            f"different from its padding; {advice}"
        )


def end_of_text(tokenizer: Any, config: Any) -> int:
    """The number of the token that ends a text.

    Args:
        tokenizer: a tokenizer of transformers.
        config: the model's configuration.

    Returns:
        The tokenizer's end-of-text token, or else the model's; -1 if neither
        has one.

    """
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    number = getattr(config, "eos_token_id", None)
    return number if isinstance(number, int) else -1


def _named_padding(tokenizer: Any, config: Any) -> str | None:
    """The padding token that the model's configuration names, if any."""
    number = getattr(config, "pad_token_id", None)
    if not isinstance(number, int) or not 0 <= number < len(tokenizer):
        return None
    token: str | None = tokenizer.convert_ids_to_tokens(number)
    return token


def encoded(
    tokenizer: Any, columns: Sequence[Sequence[str]], **options: Any
) -> dict[str, list[np.ndarray]]:
    """Tokenise texts, a thousand at a time.

    While a tokenizer works, a text takes a hundred times the memory of its
    tokens, so the texts are not tokenised all at once.

    Args:
        tokenizer: a tokenizer of transformers.
        columns: one list of texts, or two for pairs of texts.
        options: further arguments of the tokenizer.

    Returns:
        ``input_ids`` and ``token_type_ids``, each a list with an array
        (int32) for each text.  The latter is empty if the tokenizer numbers
        no segments.

    """
    arrays: dict[str, list[np.ndarray]] = {
        "input_ids": [],
        "token_type_ids": [],
    }
    for start in range(0, len(columns[0]), 1000):
        texts = [list(column[start : start + 1000]) for column in columns]
        encoding = tokenizer(*texts, **options)
        for name, rows in arrays.items():
            for row in encoding.get(name, []):
                rows.append(np.asarray(row, np.int32))
    return arrays


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of prompts, without special tokens at their end.

    A tokenizer that ends every text with a special token would put it
    between a prompt and its answer.  One that begins every text with a
    special token would put a second one before a prompt that has it already.

    Args:
        tokenizer: a tokenizer of transformers.
        prompts: the texts of the prompts.

    """
    ids = encoded(tokenizer, [prompts])["input_ids"]
    suffix = _suffix_length(tokenizer)
    begin = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if begin is None else begin
    # No model can continue a prompt without any token.
    empty_prompt = np.array([first], np.int32)
    rows = [
        row[: len(row) - suffix] if len(row) > suffix else empty_prompt
        for row in ids
    ]
    return [row[_doubled(tokenizer, row) :] for row in rows]


def _doubled(tokenizer: Any, ids: Any) -> int:
    """The number of tokens before the last of several that begin a text."""
    begin = tokenizer.bos_token_id
    is_doubled = begin is not None and len(ids) > 1
    return int(is_doubled and ids[0] == ids[1] == begin)


def placed(
    tokenizer: Any,
    texts: Sequence[str],
    parts: Sequence[Sequence[tuple[int, int]]],
    adds_special: bool,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tokenise texts, and say which tokens belong to parts of them.

    A token that is partly inside of a part belongs to it.  A tokenizer that
    does not know the places of its tokens gets the parts one by one.

    Args:
        tokenizer: a tokenizer of transformers.
        texts: the texts.
        parts: the first and the last place of each part of each text, as in
            ``text[first:last]``, in their order.
        adds_special: whether the special token that begins every text is
            added to a text that does not have it.

    Returns:
        For each text its tokens (int32), and whether each belongs to a part.

    """
    rows, inside = [], []
    suffix = _suffix_length(tokenizer) if adds_special else 0
    for text, own in zip(texts, parts, strict=True):
        if tokenizer.is_fast:
            ids, flags = _whole(tokenizer, text, own, adds_special, suffix)
        else:
            ids, flags = _by_parts(tokenizer, text, own, adds_special)
        rows.append(np.asarray(ids, np.int32))
        inside.append(flags)
    return rows, inside


def _whole(
    tokenizer: Any,
    text: str,
    parts: Sequence[tuple[int, int]],
    adds_special: bool,
    suffix: int,
) -> tuple[list[int], np.ndarray]:
    encoding = tokenizer(
        text, add_special_tokens=adds_special, return_offsets_mapping=True
    )
    ids = encoding["input_ids"]
    doubled = _doubled(tokenizer, ids) if adds_special else 0
    kept = slice(doubled, len(ids) - suffix)
    places = np.array(encoding["offset_mapping"], np.int64).reshape(-1, 2)
    flags = np.zeros(len(ids), bool)
    for first, last in parts:
        # Special tokens that are added, and blanks that a tokenizer cuts off
        # its places, are of no width.
        touched = (places[:, 0] < last) & (places[:, 1] > first)
        touched &= places[:, 0] < places[:, 1]
        hits = np.flatnonzero(touched)
        if hits.size:
            flags[hits[0] : hits[-1] + 1] = True
    return ids[kept], flags[kept]


def _by_parts(
    tokenizer: Any,
    text: str,
    parts: Sequence[tuple[int, int]],
    adds_special: bool,
) -> tuple[list[int], np.ndarray]:
    ids: list[int] = []
    flags: list[bool] = []
    place = 0
    for first, last in (*parts, (len(text), len(text))):
        for is_part, piece in (
            (False, text[place:first]),
            (True, text[first:last]),
        ):
            if not ids and adds_special:
                (new,) = prompt_ids(tokenizer, [piece])
            else:
                new = tokenizer(piece, add_special_tokens=False)["input_ids"]
            ids += [int(number) for number in new]
            flags += [is_part] * len(new)
        place = last
    return ids, np.array(flags, bool)


def answer_ids(
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str],
    ids: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """The tokens of answers as they follow their prompts.

    Some tokenizers put a blank before a text that is tokenised alone.
    Therefore prompt and answer are tokenised together, and the prompt's
    tokens are removed.  Only if a token would contain the end of the prompt
    and the beginning of the answer, the answer is tokenised alone.

    Args:
        tokenizer: a tokenizer of transformers.
        prompts: the texts of the prompts.
        answers: the text of each prompt's answer.
        ids: the tokens of the prompts, from ``prompt_ids``.

    """
    both = prompt_ids(
        tokenizer, [p + a for p, a in zip(prompts, answers, strict=True)]
    )
    rows: list[Any] = [
        joint[len(prompt) :]
        if np.array_equal(joint[: len(prompt)], prompt)
        else None
        for joint, prompt in zip(both, ids, strict=True)
    ]
    alone = [i for i, row in enumerate(rows) if row is None]
    if alone:
        column = [answers[i] for i in alone]
        tokens = encoded(tokenizer, [column], add_special_tokens=False)
        for i, row in zip(alone, tokens["input_ids"], strict=True):
            rows[i] = row
    return rows


def answer_text(
    tokenizer: Any, prompt: Sequence[int], answer: Sequence[int]
) -> str:
    """The text of an answer, exactly as it follows its prompt.

    Args:
        tokenizer: a tokenizer of transformers.
        prompt: the tokens of the prompt.
        answer: the tokens that a model has generated after the prompt.

    """
    options = {
        "skip_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    head: str = tokenizer.decode(prompt, **options)
    both: str = tokenizer.decode([*prompt, *answer], **options)
    if both.startswith(head):
        return both[len(head) :]
    alone: str = tokenizer.decode(answer, **options)
    return alone


def _suffix_length(tokenizer: Any) -> int:
    """The number of special tokens that the tokenizer puts after a text."""
    probe = ["a"]
    whole = encoded(tokenizer, [probe])["input_ids"][0].tolist()
    plain = encoded(tokenizer, [probe], add_special_tokens=False)
    text = plain["input_ids"][0].tolist()
    for start in range(len(whole) - len(text) + 1) if text else ():
        if whole[start : start + len(text)] == text:
            return len(whole) - start - len(text)
    return 0
