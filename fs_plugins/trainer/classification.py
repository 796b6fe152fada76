"""Local training and evaluation of a sequence classifier."""

import torch
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE

from fs_plugins.data.standardise import in_own_unit, standardised
from fs_plugins.trainer.base import AdapterTrainer
from fs_plugins.trainer.precision import widened


class ClassificationTrainer(AdapterTrainer):
    """Trains classification or regression of texts or pairs of texts.

    Texts have one class each, any number of labels, or a score.
    """

    def _inputs(self, ctx: Context) -> dict[str, torch.Tensor]:
        """A batch, with labels as the model's loss needs them."""
        batch: dict[str, torch.Tensor] = dict(ctx.data_batch)
        labels, scaling = batch["labels"], ctx.cfg.fedsa.data.standardise
        if scaling:
            batch["labels"] = standardised(labels, scaling)
        if scaling or labels.dim() == 2:
            dtype = getattr(torch, ctx.cfg.fedsa.adapter_dtype)
            batch["labels"] = batch["labels"].to(dtype)
        return batch

    def _hook_on_batch_forward(self, ctx: Context) -> None:
        truth, scaling = (
            ctx.data_batch["labels"],
            ctx.cfg.fedsa.data.standardise,
        )
        batch = {k: v.to(ctx.device) for k, v in self._inputs(ctx).items()}
        output = self._forward(ctx, batch)
        logits = widened(output.logits)
        if logits.shape[-1] == 1:  # regression
            logits = logits.squeeze(-1)
            if scaling:  # metrics are of scores in their own unit
                logits = in_own_unit(logits.detach().cpu().double(), scaling)
        if truth.dim() == 2:  # several labels
            # For each label two outputs, of which the host takes the larger:
            # 0 for "does not apply", and the logit for "applies".
            logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
        ctx.y_true = CtxVar(truth, LIFECYCLE.BATCH)
        ctx.y_prob = CtxVar(logits, LIFECYCLE.BATCH)
        ctx.loss_batch = CtxVar(output.loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(len(batch["labels"]), LIFECYCLE.BATCH)
