"""Local training of a PyTorch model."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from federatedscope.core.auxiliaries.optimizer_builder import get_optimizer
from federatedscope.core.auxiliaries.ReIterator import ReIterator
from federatedscope.core.auxiliaries.scheduler_builder import get_scheduler
from federatedscope.core.data import ClientData
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE, MODE
from federatedscope.core.trainers.trainer import Trainer

logger = logging.getLogger(__name__)


class GeneralTorchTrainer(Trainer):
    """Trains on batches ``(x, label)`` with ``criterion.type``."""

    def setup_data(self, ctx: Context) -> None:
        """Build the loaders that the configuration asks for."""
        if isinstance(ctx.data, ClientData):
            ctx.data.setup(ctx.cfg)

    def parse_data(self, data: Any) -> dict[str, Any]:
        """Loaders and sizes of the splits that ``data`` holds."""
        found: dict[str, Any] = {}
        for split in ("train", "val", "test"):
            loader = data.get(split) if data else None
            found[f"{split}_data"] = None
            found[f"{split}_loader"] = loader
            found[f"num_{split}_data"] = (
                0 if loader is None else len(loader.dataset)
            )
        return found

    def update(
        self, model_parameters: dict[str, Any], strict: bool = False
    ) -> None:
        """Load parameters, except those that stay local."""
        self.ctx.model.load_state_dict(
            self._param_filter(model_parameters), strict=False
        )

    def get_model_para(self) -> dict[str, Any]:
        """The parameters that leave the client."""
        return self._param_filter(self.ctx.model.state_dict())

    def evaluate(  # type: ignore[override]
        self, target_data_split_name: str = "test"
    ) -> dict[str, Any]:
        """Evaluate without gradients."""
        with torch.no_grad():
            return super().evaluate(target_data_split_name)

    def save_model(self, path: str, cur_round: int = -1) -> None:
        """Write ``{'cur_round', 'model'}`` to ``path``."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        state = {"cur_round": cur_round, "model": self.ctx.model.state_dict()}
        torch.save(state, path)

    def load_model(self, path: str) -> int:
        """Read what ``save_model`` wrote; returns its round."""
        state = torch.load(
            path, map_location=self.ctx.device, weights_only=True
        )
        self.ctx.model.load_state_dict(state["model"], strict=False)
        return int(state["cur_round"])

    def register_default_hooks_train(self) -> None:
        """The hooks of local training."""
        for hook, trigger in (
            (self._hook_on_fit_start_numerical_precision, "on_fit_start"),
            (self._hook_on_fit_start_init, "on_fit_start"),
            (self._hook_on_fit_start_calculate_model_size, "on_fit_start"),
            (self._hook_on_epoch_start, "on_epoch_start"),
            (self._hook_on_batch_start_init, "on_batch_start"),
            (self._hook_on_batch_forward, "on_batch_forward"),
            (self._hook_on_batch_forward_regularizer, "on_batch_forward"),
            (self._hook_on_batch_backward, "on_batch_backward"),
            (self._hook_on_batch_end, "on_batch_end"),
            (self._hook_on_fit_end, "on_fit_end"),
        ):
            self.register_hook_in_train(hook, trigger)

    def register_default_hooks_ft(self) -> None:
        """Fine-tuning runs the hooks of local training."""
        for trigger, hooks in self.hooks_in_train.items():
            for hook in hooks:
                self.register_hook_in_ft(hook, trigger)

    def register_default_hooks_eval(self) -> None:
        """The hooks of evaluation."""
        for hook, trigger in (
            (self._hook_on_fit_start_numerical_precision, "on_fit_start"),
            (self._hook_on_fit_start_init, "on_fit_start"),
            (self._hook_on_epoch_start, "on_epoch_start"),
            (self._hook_on_batch_start_init, "on_batch_start"),
            (self._hook_on_batch_forward, "on_batch_forward"),
            (self._hook_on_batch_end, "on_batch_end"),
            (self._hook_on_fit_end, "on_fit_end"),
        ):
            self.register_hook_in_eval(hook, trigger)

    def _hook_on_fit_start_numerical_precision(self, ctx: Context) -> None:
        if self.cfg.train.is_enable_half:
            ctx.model.half()

    def _hook_on_fit_start_init(self, ctx: Context) -> None:
        ctx.model.to(ctx.device)
        if ctx.cur_mode in (MODE.TRAIN, MODE.FINETUNE):
            section = ctx.cfg[ctx.cur_mode]
            ctx.optimizer = get_optimizer(ctx.model, **section.optimizer)
            ctx.scheduler = get_scheduler(ctx.optimizer, **section.scheduler)
        ctx.loss_batch_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.loss_regular_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.num_samples = CtxVar(0, LIFECYCLE.ROUTINE)
        ctx.ys_true = CtxVar([], LIFECYCLE.ROUTINE)
        ctx.ys_prob = CtxVar([], LIFECYCLE.ROUTINE)

    def _hook_on_fit_start_calculate_model_size(self, ctx: Context) -> None:
        if ctx.monitor.total_model_size == 0:
            ctx.monitor.track_model_size(ctx.models)

    def _hook_on_epoch_start(self, ctx: Context) -> None:
        name = f"{ctx.cur_split}_loader"
        if isinstance(ctx[name], ReIterator):
            ctx[name].reset()
        else:
            ctx[name] = ReIterator(ctx[name])

    def _hook_on_batch_start_init(self, ctx: Context) -> None:
        batch = next(ctx[f"{ctx.cur_split}_loader"])
        ctx.data_batch = CtxVar(batch, LIFECYCLE.BATCH)

    def _hook_on_batch_forward(self, ctx: Context) -> None:
        x, label = (part.to(ctx.device) for part in ctx.data_batch)
        prediction = ctx.model(x)
        ctx.y_true = CtxVar(label, LIFECYCLE.BATCH)
        ctx.y_prob = CtxVar(prediction, LIFECYCLE.BATCH)
        loss = ctx.criterion(prediction, label)
        ctx.loss_batch = CtxVar(loss, LIFECYCLE.BATCH)
        ctx.batch_size = CtxVar(len(label), LIFECYCLE.BATCH)

    def _hook_on_batch_forward_regularizer(self, ctx: Context) -> None:
        ctx.loss_regular = CtxVar(0.0, LIFECYCLE.BATCH)
        ctx.loss_task = CtxVar(ctx.loss_batch, LIFECYCLE.BATCH)

    def _hook_on_batch_backward(self, ctx: Context) -> None:
        ctx.optimizer.zero_grad()
        ctx.loss_task.backward()
        if ctx.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(
                ctx.model.parameters(), ctx.grad_clip
            )
        ctx.optimizer.step()
        if ctx.scheduler is not None:
            ctx.scheduler.step()

    def _hook_on_batch_end(self, ctx: Context) -> None:
        ctx.num_samples += ctx.batch_size
        ctx.loss_batch_total += ctx.loss_batch.item() * ctx.batch_size
        ctx.loss_regular_total += float(ctx.get("loss_regular", 0.0))
        ctx.ys_true.append(ctx.y_true.detach().cpu().numpy())
        ctx.ys_prob.append(ctx.y_prob.detach().cpu().numpy())

    def _hook_on_fit_end(self, ctx: Context) -> None:
        ctx.ys_true = CtxVar(np.concatenate(ctx.ys_true), LIFECYCLE.ROUTINE)
        ctx.ys_prob = CtxVar(np.concatenate(ctx.ys_prob), LIFECYCLE.ROUTINE)
        ctx.eval_metrics = ctx.monitor.eval(ctx)
