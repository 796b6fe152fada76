"""Local training and evaluation of a sequence classifier."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from federatedscope.core.auxiliaries.optimizer_builder import get_optimizer
from federatedscope.core.trainers import GeneralTorchTrainer
from federatedscope.core.trainers.context import CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE, MODE

from fs_plugins.errors import UserError
from fs_plugins.trainer.schedule import schedule


class ClassificationTrainer(GeneralTorchTrainer):  # type: ignore[misc]
    """Trains on the model's own loss, with any optimizer of torch.

    What a client draws at random in a round (order of batches, dropout)
    depends on ``seed``, the client and the round alone: not on the method,
    on who trained before, or on whether the run was resumed.
    """

    def train(
        self, target_data_split_name: str = "train", hooks_set: Any = None
    ) -> Any:
        """Train for a round; see ``GeneralTorchTrainer.train``."""
        with _random(self.cfg.seed, self._client, self._round):
            return super().train(target_data_split_name, hooks_set)

    @property
    def _client(self) -> int:
        return int(self.ctx.monitor.monitored_object.ID)

    @property
    def _round(self) -> int:
        return max(0, int(self.ctx.monitor.monitored_object.state))

    def get_model_para(self) -> dict[str, torch.Tensor]:
        """The trained parameters, where they are (the host moves a model)."""
        state: dict[str, torch.Tensor] = self._param_filter(
            self.ctx.model.state_dict()
        )
        return state

    def discharge_model(self) -> None:
        """The base model stays where it is (the host moves it to the CPU)."""

    def _hook_on_fit_start_numerical_precision(self, ctx: Any) -> None:
        """The host would cast all weights, the trained ones too.

        With ``train.is_enable_half`` the forward pass computes in bfloat16
        and the trained parameters stay in float32.
        """

    def _hook_on_fit_start_init(self, ctx: Any) -> None:
        ctx.model.to(ctx.device)
        if ctx.cur_mode in (MODE.TRAIN, MODE.FINETUNE):
            section = ctx.cfg[ctx.cur_mode]
            ctx.trained = [
                p for p in ctx.model.parameters() if p.requires_grad
            ]
            ctx.optimizer = _optimizer(ctx.trained, section.optimizer)
            ctx.rates = self._rates(ctx, section.scheduler)
            ctx.batches = CtxVar(0, LIFECYCLE.ROUTINE)
        ctx.loss_batch_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.loss_regular_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.num_samples = CtxVar(0, LIFECYCLE.ROUTINE)
        ctx.ys_true = CtxVar([], LIFECYCLE.ROUTINE)
        ctx.ys_prob = CtxVar([], LIFECYCLE.ROUTINE)

    def _rates(self, ctx: Any, scheduler: Any) -> Any:
        """Learning rates of the current round: step x parameter group."""
        accumulate = ctx.cfg.grad.grad_accum_count
        steps = -(-ctx.num_total_train_batch // accumulate)
        table = schedule(
            dict(scheduler),
            tuple(group["lr"] for group in ctx.optimizer.param_groups),
            steps * ctx.cfg.federate.total_round_num,
        )
        return table[self._round * steps :]

    def _hook_on_batch_forward(self, ctx: Any) -> None:
        batch = {k: v.to(ctx.device) for k, v in ctx.data_batch.items()}
        with torch.autocast(
            torch.device(ctx.device).type,
            torch.bfloat16,
            enabled=ctx.cfg.train.is_enable_half,
        ):
            output = ctx.model(**batch)
        logits = output.logits.float()
        if logits.shape[-1] == 1:  # regression
            logits = logits.squeeze(-1)
        ctx.y_true = CtxVar(batch["labels"], LIFECYCLE.BATCH)
        ctx.y_prob = CtxVar(logits, LIFECYCLE.BATCH)
        ctx.loss_batch = CtxVar(output.loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(len(batch["labels"]), LIFECYCLE.BATCH)

    def _hook_on_batch_forward_flop_count(self, ctx: Any) -> None:
        """Not counted."""

    def _hook_on_batch_backward(self, ctx: Any) -> None:
        accumulate = ctx.cfg.grad.grad_accum_count
        (ctx.loss_task / accumulate).backward()
        ctx.batches += 1
        is_last = ctx.batches == ctx.num_total_train_batch
        if ctx.batches % accumulate and not is_last:
            return
        if ctx.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(ctx.trained, ctx.grad_clip)
        step = (ctx.batches - 1) // accumulate
        for group, rate in zip(
            ctx.optimizer.param_groups, ctx.rates[step], strict=True
        ):
            group["lr"] = rate
        ctx.optimizer.step()
        ctx.optimizer.zero_grad()

    def _hook_on_fit_end(self, ctx: Any) -> None:
        super()._hook_on_fit_end(ctx)
        # A client that waits for its turn holds on to none of these.
        ctx.optimizer = ctx.trained = ctx.rates = None
        name = f"{ctx.cur_split}_loader"
        setattr(ctx, name, ctx.get(name).loader)


def _optimizer(parameters: Any, section: Any) -> Any:
    try:
        return get_optimizer(parameters, **section)
    except TypeError as error:
        raise UserError(
            f"train.optimizer: {section.type} refuses its arguments: {error}"
        ) from error


@contextmanager
def _random(seed: int, client: int, rnd: int) -> Iterator[None]:
    """Torch's random state for a client's round; then as it was."""
    digest = hashlib.sha256(f"{seed} {client} {rnd}".encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        yield
