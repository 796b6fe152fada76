"""Local training and evaluation of a sequence classifier."""

from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE

from fs_plugins.trainer.base import AdapterTrainer
from fs_plugins.trainer.precision import widened


class ClassificationTrainer(AdapterTrainer):
    """Trains classification or regression of texts or pairs of texts."""

    def _hook_on_batch_forward(self, ctx: Context) -> None:
        batch = {k: v.to(ctx.device) for k, v in ctx.data_batch.items()}
        output = self._forward(ctx, batch)
        logits = widened(output.logits)
        if logits.shape[-1] == 1:  # regression
            logits = logits.squeeze(-1)
        ctx.y_true = CtxVar(batch["labels"], LIFECYCLE.BATCH)
        ctx.y_prob = CtxVar(logits, LIFECYCLE.BATCH)
        ctx.loss_batch = CtxVar(output.loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(len(batch["labels"]), LIFECYCLE.BATCH)
