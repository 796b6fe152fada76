"""Local training and evaluation of a causal language model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE

from fs_plugins.data.batches import NO_LOSS, examples_in, options_for
from fs_plugins.data.template import Template
from fs_plugins.model.inputs import longest_text
from fs_plugins.seeds import random_state
from fs_plugins.trainer.answer import Answer
from fs_plugins.trainer.base import AdapterTrainer
from fs_plugins.trainer.choices import choice_scores
from fs_plugins.trainer.generate import (
    Decoding,
    batches_agree,
    few_shot,
    respond,
)
from fs_plugins.trainer.sandbox import passes
from fs_plugins.trainer.scores import (
    choices,
    exact_match,
    function_body,
    pass_at_k,
    rouge_l,
)


class LanguageTrainer(AdapterTrainer):
    """Trains the responses to instructions; prompts carry no loss.

    ``<split>_avg_loss`` is the mean over batches of the mean loss per token,
    weighted by the number of examples of each batch, as in FederatedScope.
    With ``fedsa.eval.generate`` answers to the test examples are also
    generated and scored.

    Attributes:
        keep_answers: a function that is called with generated answers; None
            if nobody wants them.

    """

    keep_answers: Callable[[Sequence[Answer]], None] | None = None

    def evaluate(  # type: ignore[override]
        self, target_data_split_name: str = "test"
    ) -> Any:
        """Evaluate the loss, and perhaps the answers to test examples.

        Args:
            target_data_split_name: the split; answers are generated for
                ``test`` only.

        Returns:
            The results by ``<split>_<metric>``.

        """
        results = super().evaluate(target_data_split_name)
        if target_data_split_name == "test" and self._is_time_for_answers:
            # The scores come last, and every client of a round returns the
            # same names.
            if self.cfg.fedsa.eval.generate.examples:
                results = {**results, **self._scores()}
            if self.ctx.data.questions:
                results = {**results, **self._choice_scores()}
        return results

    @property
    def _is_time_for_answers(self) -> bool:
        every, done = self.cfg.fedsa.eval.generate.every, self._rounds_done
        return done >= self.cfg.federate.total_round_num or not done % every

    @property
    def _rounds_done(self) -> int:
        # Clients evaluate before the host has counted the round, the server
        # evaluates after it has.
        return self._state + (1 if self._client else 0)

    def _hook_on_batch_forward(self, ctx: Context) -> None:
        batch = {k: v.to(ctx.device) for k, v in ctx.data_batch.items()}
        output = self._forward(ctx, {**batch, **options_for(batch)})
        ctx.loss_batch = CtxVar(output.loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(examples_in(batch), LIFECYCLE.BATCH)

    def _loss_terms(self, ctx: Context) -> int:
        """The number of tokens that are learned.

        The first token of a text is not predicted, so it is not counted.
        """
        return int((ctx.data_batch["labels"][:, 1:] != NO_LOSS).sum())

    def _hook_on_batch_end(self, ctx: Context) -> None:
        ctx.num_samples += ctx.batch_size
        ctx.loss_batch_total += ctx.loss_batch.item() * ctx.batch_size

    def _hook_on_fit_end(self, ctx: Context) -> None:
        split, samples = ctx.cur_split, int(ctx.num_samples)
        total = float(ctx.loss_batch_total)
        ctx.eval_metrics = {
            f"{split}_loss": total,
            f"{split}_total": samples,
            f"{split}_avg_loss": total / samples if samples else 0.0,
        }
        self._release(ctx)

    def _scores(self) -> dict[str, float]:
        """The mean scores of the answers to this client's test examples."""
        metric = self.cfg.fedsa.eval.generate.metric
        with random_state(
            self.cfg.seed, self._client, self._state, "generate"
        ):
            if metric == "pass_at_1":
                return self._pass_rates()
            questions = self._questions()
            prompts = [prompt for prompt, _ in questions]
            answers = self._respond(prompts, self.ctx.data.template)
        score = exact_match if metric == "exact_match" else rouge_l
        scores = [
            [score(answer, reference) for answer in samples]
            for (_, reference), samples in zip(questions, answers, strict=True)
        ]
        self._keep(questions, answers, scores)
        values = [value for each in scores for value in each]
        return {f"test_{metric}": sum(values) / len(values)}

    def _choice_scores(self) -> dict[str, float]:
        """How many multiple-choice questions are answered right."""
        model, data, mixture = self.ctx.model, self.ctx.data, self._mixture
        model.eval()
        inner = getattr(model, "model", model)

        def logits_of(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            inputs = {
                name: batch[name].to(self.ctx.device)
                for name in ("input_ids", "attention_mask")
            }
            mixed = nullcontext() if not mixture else mixture.mixed_for(inputs)
            with mixed, self._autocast():
                logits: torch.Tensor = model(**inputs).logits
            return logits

        with torch.no_grad():
            scores = choice_scores(
                logits_of,
                data.tokenizer,
                data.questions,
                self.cfg.dataloader.batch_size,
                longest_text(inner.config) or 1 << 20,
            )
        return {f"test_{name}": value for name, value in scores.items()}

    def _questions(self) -> list[tuple[str, str]]:
        """The prompt and the reference of each test example."""
        data, options = self.ctx.data, self.cfg.fedsa.eval.generate
        chats = data.chats_of("test", options.examples)
        if chats:
            shown = data.chats_of("train", options.shots)
            return [
                (data.template.prompt(chat[:-1], shown), chat[-1].content)
                for chat in chats
            ]
        pairs = data.pairs_of("test", options.examples)
        shots = data.pairs_of("train", options.shots)
        return [(few_shot(prompt, shots), right) for prompt, right in pairs]

    def _keep(
        self,
        questions: Sequence[tuple[str, str]],
        answers: Sequence[Sequence[str]],
        scores: Sequence[Sequence[float]],
    ) -> None:
        """Hand over what was generated.

        Args:
            questions: the prompt and the reference of each example.
            answers: the answers to each prompt.
            scores: the score of each answer.

        """
        if self.keep_answers is None:
            return
        self.keep_answers(
            [
                Answer(
                    self._rounds_done,
                    self._client,
                    prompt,
                    answer,
                    reference,
                    score,
                )
                for (prompt, reference), samples, each in zip(
                    questions, answers, scores, strict=True
                )
                for answer, score in zip(samples, each, strict=True)
            ]
        )

    def _pass_rates(self) -> dict[str, float]:
        """pass@k over HumanEval's problems, for k of 1 and of all samples."""
        options = self.cfg.fedsa.eval.generate
        problems = self.ctx.data.problems
        if options.examples > 0:
            problems = problems[: options.examples]
        answers = self._respond([problem.prompt for problem in problems])
        passed = [
            [
                float(passes(problem, function_body(a), options.timeout))
                for a in samples
            ]
            for problem, samples in zip(problems, answers, strict=True)
        ]
        questions = [(problem.prompt, problem.test) for problem in problems]
        self._keep(questions, answers, passed)
        solved = [int(sum(each)) for each in passed]
        return {
            f"test_pass_at_{k}": sum(
                pass_at_k(options.samples, right, k) for right in solved
            )
            / len(solved)
            for k in choices(options.samples)
        }

    def _respond(
        self, prompts: Sequence[str], template: Template | None = None
    ) -> list[list[str]]:
        model, mixture = self.ctx.model, self._mixture
        model.eval()
        decoding = Decoding.of(self.cfg.fedsa.eval.generate)
        with torch.no_grad(), self._autocast():
            if decoding.batch_size > 1 and not batches_agree(
                model,
                self.ctx.data.tokenizer,
                prompts,
                self.ctx.device,
                template,
            ):
                decoding = replace(decoding, batch_size=1)
            return respond(
                model,
                self.ctx.data.tokenizer,
                prompts,
                decoding,
                self.ctx.device,
                mixture.mixed_for if mixture is not None else nullcontext,
                template,
            )
