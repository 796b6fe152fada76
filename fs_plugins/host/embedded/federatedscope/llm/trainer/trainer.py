"""Local training of a causal language model."""

import logging

import torch

from federatedscope.core.trainers import CtxVar, GeneralTorchTrainer
from federatedscope.core.trainers.context import Context
from federatedscope.core.trainers.enums import LIFECYCLE
from federatedscope.register import register_trainer

logger = logging.getLogger(__name__)


class LLMTrainer(GeneralTorchTrainer):
    """Minimises the model's own loss; a batch with a NaN loss is skipped."""

    def _hook_on_batch_forward(self, ctx: Context) -> None:
        names = ("input_ids", "labels", "attention_mask")
        batch = {name: ctx.data_batch[name].to(ctx.device) for name in names}
        loss = ctx.model(**batch).loss
        ctx.skip_this_batch = CtxVar(bool(torch.isnan(loss)), LIFECYCLE.BATCH)
        if ctx.skip_this_batch:
            logger.warning("the loss of a batch is NaN; it is skipped")
        ctx.loss_batch = CtxVar(loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(len(batch["labels"]), LIFECYCLE.BATCH)

    def _hook_on_batch_backward(self, ctx: Context) -> None:
        if not ctx.skip_this_batch:
            super()._hook_on_batch_backward(ctx)

    def _hook_on_batch_end(self, ctx: Context) -> None:
        if ctx.skip_this_batch:
            return
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


def call_llm_trainer(trainer_type: str) -> type[LLMTrainer] | None:
    """Answers to ``trainer.type: llmtrainer``."""
    return LLMTrainer if trainer_type == "llmtrainer" else None


register_trainer("llmtrainer", call_llm_trainer)
