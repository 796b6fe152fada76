"""Generates a language model's answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from fs_plugins.data.instructions import until_next
from fs_plugins.data.template import Template
from fs_plugins.data.tokenizer import answer_text, prompt_ids
from fs_plugins.host.configuration import Generation
from fs_plugins.model.inputs import longest_text


@dataclass(frozen=True)
class Decoding:
    """How the tokens of answers are chosen.

    Attributes:
        max_new_tokens: the largest number of tokens of an answer.
        batch_size: the number of prompts that are answered together.
        temperature: the temperature at which tokens are sampled; at 0 the
            likeliest token is taken.
        top_p: tokens are sampled from the smallest set of the likeliest
            tokens that together have this probability.
        samples: the number of answers to each prompt.

    """

    max_new_tokens: int
    batch_size: int
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1

    @classmethod
    def of(cls, options: Generation) -> "Decoding":
        """The decoding that the section ``fedsa.eval.generate`` asks for."""
        return cls(
            **{name: options[name] for name in cls.__dataclass_fields__}
        )


def few_shot(prompt: str, shots: Sequence[tuple[str, ...]]) -> str:
    """A prompt preceded by worked examples.

    Args:
        prompt: the prompt.
        shots: the examples, as pairs (prompt, response).

    """
    return "".join(f"{p}{r}\n\n" for p, r in shots) + prompt


def respond(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    decoding: Decoding,
    device: Any = "cpu",
    before: Callable[[Mapping[str, Any]], Any] = nullcontext,
    template: Template | None = None,
) -> list[list[str]]:
    """Generate answers to prompts.

    Prompts of similar length share a batch.  A prompt that is too long for
    the model loses its beginning.  An answer ends with the tokenizer's
    end-of-text token or that of the template, or where the next instruction
    begins.  The model's own generation_config.json is ignored.

    Args:
        model: a model with ``generate`` and ``config``, as transformers' own
            models have them.
        tokenizer: the tokenizer of the model.
        prompts: the texts of the prompts.
        decoding: how the tokens of answers are chosen.
        device: the device of the model.
        before: a function that makes a context manager of a batch, in which
            the batch is answered.
        template: the template that has made the prompts, if one has.

    Returns:
        For each prompt, a list of ``decoding.samples`` answers.

    """
    inner = getattr(model, "model", model)
    most = longest_text(inner.config) or 1 << 20
    room = max(1, most - decoding.max_new_tokens)
    tokens = (
        prompt_ids(tokenizer, prompts)
        if template is None
        else template.prompt_ids(prompts)
    )
    ends = [tokenizer.eos_token_id] if template is None else template.ends
    ids = [row[-room:].tolist() for row in tokens]
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
            ends,
        )
        for place, i in enumerate(batch):
            first = place * decoding.samples
            answers[i] = [
                until_next(text) if template is None else template.answer(text)
                for text in texts[first : first + decoding.samples]
            ]
    return answers


def batches_agree(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    device: Any = "cpu",
    template: Template | None = None,
) -> bool:
    """Whether prompts have the same answers in a batch as alone.

    They have other answers if a model counts positions from the padding on
    (BART as a language model), or if the sequences of a batch share a state
    (RWKV).  The shortest and the longest prompt are tried.

    Args:
        model: a model with ``generate`` and ``config``, as transformers' own
            models have them.
        tokenizer: the tokenizer of the model.
        prompts: the texts of the prompts.
        device: the device of the model.
        template: the template that has made the prompts, if one has.

    """
    ordered = sorted(prompts, key=len)
    two = [ordered[0], ordered[-1]]
    together, alone = (
        respond(
            model,
            tokenizer,
            two,
            Decoding(_TRIED, size),
            device,
            template=template,
        )
        for size in (2, 1)
    )
    return together == alone


_TRIED = 8  # tokens of an answer, which are enough to see a difference


def _generate(
    model: Any,
    tokenizer: Any,
    ids: list[list[int]],
    decoding: Decoding,
    device: Any,
    before: Callable[[Mapping[str, Any]], Any],
    ends: Sequence[int],
) -> list[str]:
    padded = tokenizer.pad(
        {"input_ids": ids}, padding_side="left", return_tensors="pt"
    ).to(device)
    with before(padded):
        new = generated(model, padded, decoding, tokenizer.pad_token_id, ends)
    return [
        answer_text(
            tokenizer,
            ids[row // decoding.samples],
            [*takewhile(lambda token: token not in ends, answer)],
        )
        for row, answer in enumerate(new)
    ]


def generated(
    model: Any,
    prompts: Mapping[str, Any],
    decoding: Decoding,
    pad: int,
    ends: Sequence[int],
    is_enough: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """The tokens that a model generates after prompts.

    Args:
        model: a model with ``generate``, as transformers' own models have
            it.
        prompts: ``input_ids`` and ``attention_mask``, padded on the left.
        decoding: how the tokens are chosen.
        pad: the number of the token that pads.
        ends: the numbers of the tokens that end an answer.
        is_enough: called with the tokens so far after each of them, if there
            is one prompt and one answer to it; ends the answer if it returns
            true.

    Returns:
        The tokens of each answer, with that which ends it, and padding.

    """
    from transformers import GenerationConfig, StoppingCriteriaList

    is_drawn = decoding.temperature > 0
    drawing: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
    }
    length = prompts["input_ids"].shape[1]
    watching: dict[str, Any] = {}
    if is_enough is not None:
        watching["stopping_criteria"] = StoppingCriteriaList(
            [_stopping(length, is_enough)]
        )
    with _without_defaults(model):
        output = model.generate(
            input_ids=prompts["input_ids"],
            attention_mask=prompts["attention_mask"],
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=decoding.max_new_tokens,
                do_sample=is_drawn,
                num_return_sequences=decoding.samples,
                pad_token_id=pad,
                eos_token_id=[*ends],
                use_cache=True,
                **(drawing if is_drawn else {}),
            ),
            **watching,
        )
    tokens: list[list[int]] = output[:, length:].tolist()
    return tokens


def _stopping(
    length: int, is_enough: Callable[[list[int]], bool]
) -> Callable[..., torch.Tensor]:
    """A criterion of transformers, for prompts of so many tokens."""

    def criterion(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        stops = [is_enough(row) for row in ids[:, length:].tolist()]
        return torch.tensor(stops, device=ids.device)

    return criterion


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Ignore the model's own generation_config, with its beams or penalties.

    transformers would merge it into the configuration that is passed to
    ``generate``.
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
