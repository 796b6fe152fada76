"""Answers multiple-choice questions by their likelihoods."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fs_plugins.data.questions import Question
from fs_plugins.data.tokenizer import answer_ids, prompt_ids


def choice_scores(
    logits_of: Callable[[Mapping[str, Tensor]], Tensor],
    tokenizer: Any,
    questions: Sequence[Question],
    batch_size: int,
    longest: int,
) -> dict[str, float]:
    """The shares of questions whose right answer is the likeliest.

    Args:
        logits_of: the model's logits for a batch.
        tokenizer: the tokenizer of the model.
        questions: the questions.
        batch_size: the number of answers that are computed together.
        longest: the most tokens of a text; longer ones lose their beginning.

    Returns:
        ``choice_acc``, by the sum of an answer's log-likelihoods, and
        ``choice_acc_norm``, by this sum divided by the answer's characters.

    """
    pairs = [(q.prompt, f" {c}") for q in questions for c in q.choices]
    sums = log_likelihoods(logits_of, tokenizer, pairs, batch_size, longest)
    right = normed = place = 0
    for question in questions:
        own = sums[place : place + len(question.choices)]
        place += len(own)
        means = [
            value / len(choice)
            for value, choice in zip(own, question.choices, strict=True)
        ]
        right += own.index(max(own)) == question.right
        normed += means.index(max(means)) == question.right
    return {
        "choice_acc": right / len(questions),
        "choice_acc_norm": normed / len(questions),
    }


def log_likelihoods(
    logits_of: Callable[[Mapping[str, Tensor]], Tensor],
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    batch_size: int,
    longest: int,
) -> list[float]:
    """The log-likelihood of each text after its prompt.

    Args:
        logits_of: the model's logits for a batch.
        tokenizer: the tokenizer of the model.
        pairs: the prompts, and the texts that follow them.
        batch_size: the number of pairs that are computed together.
        longest: the most tokens of a pair; longer ones lose their beginning.

    """
    prompts, texts = zip(*pairs, strict=True)
    before = prompt_ids(tokenizer, prompts)
    after = answer_ids(tokenizer, prompts, texts, before)
    ids = [
        [*p.tolist(), *a.tolist()][-longest:]
        for p, a in zip(before, after, strict=True)
    ]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    found = [0.0] * len(ids)
    for begin in range(0, len(order), batch_size):
        chosen = order[begin : begin + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [ids[i] for i in chosen]}, return_tensors="pt"
        )
        logits = logits_of(batch)
        for row, i in enumerate(chosen):
            kept = batch["attention_mask"][row].bool()
            # The first token of a text is not predicted.
            number = min(len(after[i]), len(ids[i]) - 1)
            scores = logits[row][kept.to(logits.device)][-number - 1 : -1]
            tokens = torch.tensor(ids[i][-number:], device=scores.device)
            logs = torch.log_softmax(scores.double(), dim=-1)
            if number:
                found[i] = float(logs.gather(1, tokens[:, None]).sum())
    return found
