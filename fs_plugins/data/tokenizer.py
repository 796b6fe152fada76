"""The tokenizer of a model: its special tokens, prompts and answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fs_plugins.errors import UserError, first_line


def load_tokenizer(
    name: str, cache_dir: str, config: Any = None, needs_end: bool = False
) -> Any:
    """The tokenizer of a model, which pads as ``set_padding`` says.

    Args:
        name: a folder, or a name on the hub.
        cache_dir: the folder of downloaded files; '' is transformers' own.
        config: the model's configuration.
        needs_end: for a language model, whose answers end in a token.

    Raises:
        UserError: it cannot be loaded, or has no such tokens.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, cache_dir=cache_dir or None
        )
    # Missing packages, broken files: each tokenizer has its own exceptions.
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
    """Have a tokenizer pad with the token that the model pads with.

    A classifier may look for padding by the token that its configuration
    names: texts are padded with that one, so that an adapter has the same
    results on the base model as it is.  Where the configuration names none,
    and for language models, it is the tokenizer's own; else the end of text
    or the separator.

    Args:
        tokenizer: of transformers; is changed.
        name: of the model, for the sentence.
        config: the model's configuration, if it has one.
        needs_end: for a language model, whose answers end in a token.

    Raises:
        UserError: the tokenizer has no such tokens.

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
    """The token that ends a text: the tokenizer's, else the model's; or -1.

    Args:
        tokenizer: of transformers.
        config: the model's configuration.

    """
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    number = getattr(config, "eos_token_id", None)
    return number if isinstance(number, int) else -1


def _named_padding(tokenizer: Any, config: Any) -> str | None:
    """The token that the model's configuration pads with, if there is one."""
    number = getattr(config, "pad_token_id", None)
    if not isinstance(number, int) or not 0 <= number < len(tokenizer):
        return None
    token: str | None = tokenizer.convert_ids_to_tokens(number)
    return token


def encoded(
    tokenizer: Any, columns: Sequence[Sequence[str]], **options: Any
) -> dict[str, list[np.ndarray]]:
    """``input_ids`` and ``token_type_ids`` (none, perhaps) of each text.

    A thousand at a time: while a tokenizer works, a text takes a hundred
    times the memory of its tokens.

    Args:
        tokenizer: of transformers.
        columns: one list of texts, or two for pairs of texts.
        options: what the tokenizer is called with.

    """
    found: dict[str, list[np.ndarray]] = {
        "input_ids": [],
        "token_type_ids": [],
    }
    for start in range(0, len(columns[0]), 1000):
        part = [list(column[start : start + 1000]) for column in columns]
        rows_of = tokenizer(*part, **options)
        for name, rows in found.items():
            for row in rows_of.get(name, []):
                rows.append(np.asarray(row, np.int32))
    return found


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of prompts, without what ends a text.

    A tokenizer that puts an end behind every text would put it between a
    prompt and its answer.

    Args:
        tokenizer: of transformers.
        prompts: texts.

    """
    ids = encoded(tokenizer, [prompts])["input_ids"]
    behind = _behind(tokenizer)
    begin = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if begin is None else begin
    nothing = np.array([first], np.int32)  # no model goes on from nothing
    return [
        each[: len(each) - behind] if len(each) > behind else nothing
        for each in ids
    ]


def answer_ids(
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str],
    ids: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """The tokens of answers as they follow their prompts.

    Tokenised alone, a text gets from some tokenizers a blank that is not in
    it.  So both are tokenised together, and the prompt's tokens taken away;
    only where a token would reach across, the answer is tokenised alone.

    Args:
        tokenizer: of transformers.
        prompts: texts.
        answers: a text for each prompt.
        ids: the prompts' tokens.

    """
    both = prompt_ids(
        tokenizer, [p + a for p, a in zip(prompts, answers, strict=True)]
    )
    found: list[Any] = [
        joint[len(own) :] if np.array_equal(joint[: len(own)], own) else None
        for joint, own in zip(both, ids, strict=True)
    ]
    alone = [i for i, each in enumerate(found) if each is None]
    if alone:
        column = [answers[i] for i in alone]
        tokens = encoded(tokenizer, [column], add_special_tokens=False)
        for i, each in zip(alone, tokens["input_ids"], strict=True):
            found[i] = each
    return found


def answer_text(
    tokenizer: Any, prompt: Sequence[int], answer: Sequence[int]
) -> str:
    """The text of an answer, to the letter as it follows its prompt.

    Args:
        tokenizer: of transformers.
        prompt: tokens.
        answer: the tokens that a model has put behind them.

    """
    how = {
        "skip_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    head: str = tokenizer.decode(prompt, **how)
    both: str = tokenizer.decode([*prompt, *answer], **how)
    if both.startswith(head):
        return both[len(head) :]
    alone: str = tokenizer.decode(answer, **how)
    return alone


def _behind(tokenizer: Any) -> int:
    """How many special tokens the tokenizer puts behind a text."""
    probe = ["a"]
    whole = encoded(tokenizer, [probe])["input_ids"][0].tolist()
    plain = encoded(tokenizer, [probe], add_special_tokens=False)
    text = plain["input_ids"][0].tolist()
    for start in range(len(whole) - len(text) + 1) if text else ():
        if whole[start : start + len(text)] == text:
            return len(whole) - start - len(text)
    return 0
