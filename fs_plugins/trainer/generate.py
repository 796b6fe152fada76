"""What a language model answers."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fs_plugins.data.instructions import INSTRUCTION
from fs_plugins.data.tokenizer import answer_text, prompt_ids
from fs_plugins.host.configuration import Generation
from fs_plugins.model.inputs import longest_text


@dataclass(frozen=True)
class Decoding:
    """How answers are chosen.

    Attributes:
        max_new_tokens: the longest answer.
        batch_size: prompts that are answered together.
        temperature: 0 takes the likeliest token; else one is drawn.
        top_p: from the likeliest tokens that have this probability.
        samples: answers a prompt.

    """

    max_new_tokens: int
    batch_size: int
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1

    @classmethod
    def of(cls, options: Generation) -> "Decoding":
        """What ``fedsa.eval.generate`` asks for."""
        return cls(
            **{name: options[name] for name in cls.__dataclass_fields__}
        )


def few_shot(prompt: str, shots: Sequence[tuple[str, ...]]) -> str:
    """The prompt after worked examples (prompt, response)."""
    return "".join(f"{p}{r}\n\n" for p, r in shots) + prompt


def respond(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    decoding: Decoding,
    device: Any = "cpu",
    before: Callable[[Mapping[str, Any]], Any] = nullcontext,
) -> list[list[str]]:
    """Answers to prompts; prompts of similar length go together.

    A prompt too long for the model loses its beginning.  An answer ends with
    the tokenizer's end of text, or where the next instruction begins.
    ``decoding`` alone says how tokens are chosen, whatever the model's own
    generation_config.json says.

    Args:
        model: has ``generate`` and ``config``, as transformers' have.
        tokenizer: the model's.
        prompts: texts.
        decoding: how answers are chosen.
        device: where the model is.
        before: what a batch is answered in, a context manager of it.

    Returns:
        ``decoding.samples`` answers for each prompt, in their order.

    """
    inner = getattr(model, "model", model)
    most = longest_text(inner.config) or 1 << 20
    room = max(1, most - decoding.max_new_tokens)
    ids = [each[-room:].tolist() for each in prompt_ids(tokenizer, prompts)]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    answers: list[list[str]] = [[] for _ in ids]
    for begin in range(0, len(order), decoding.batch_size):
        batch = order[begin : begin + decoding.batch_size]
        texts = _generate(
            model,
            tokenizer,
            [ids[i] for i in batch],
            decoding,
            device,
            before,
        )
        for place, i in enumerate(batch):
            first = place * decoding.samples
            answers[i] = texts[first : first + decoding.samples]
    return answers


def batches_agree(
    model: Any, tokenizer: Any, prompts: Sequence[str], device: Any = "cpu"
) -> bool:
    """Whether answers are the same alone and together.

    They are not where a model counts positions from the padding on (BART as
    a language model), or goes on from a state that a batch shares (RWKV).
    The shortest and the longest prompt are tried.

    Args:
        model: has ``generate`` and ``config``, as transformers' have.
        tokenizer: the model's.
        prompts: texts.
        device: where the model is.

    """
    ordered = sorted(prompts, key=len)
    two = [ordered[0], ordered[-1]]
    together, alone = (
        respond(model, tokenizer, two, Decoding(_TRIED, size), device)
        for size in (2, 1)
    )
    return together == alone


_TRIED = 8  # tokens of an answer tell two ways apart


def _generate(
    model: Any,
    tokenizer: Any,
    ids: list[list[int]],
    decoding: Decoding,
    device: Any,
    before: Callable[[Mapping[str, Any]], Any],
) -> list[str]:
    from transformers import GenerationConfig

    padded = tokenizer.pad(
        {"input_ids": ids}, padding_side="left", return_tensors="pt"
    ).to(device)
    is_drawn = decoding.temperature > 0
    drawing: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
    }
    with before(padded), _without_defaults(model):
        output = model.generate(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=decoding.max_new_tokens,
                do_sample=is_drawn,
                num_return_sequences=decoding.samples,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                use_cache=True,
                **(drawing if is_drawn else {}),
            ),
        )
    new = output[:, padded["input_ids"].shape[1] :].tolist()
    return [
        until_next(
            answer_text(tokenizer, ids[row // decoding.samples], answer)
        )
        for row, answer in enumerate(new)
    ]


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Ignore the model's own generation_config: beams, penalties and more.

    transformers merges it into the one that it is given.
    """
    from transformers import GenerationConfig

    owners = [
        module
        for module in model.modules()
        if "generation_config" in vars(module)
    ]
    kept = [owner.generation_config for owner in owners]
    for owner in owners:
        owner.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for owner, config in zip(owners, kept, strict=True):
            owner.generation_config = config


def until_next(text: str) -> str:
    """The text before the line with which the next instruction begins.

    Headings of the answer's own, of Markdown or GSM8K's ``#### 72``, stay.
    """
    begin = f"^{re.escape(INSTRUCTION)}[ \t]*$"
    return re.split(begin, text, maxsplit=1, flags=re.MULTILINE)[0]
