"""Routines (train, evaluate, fine-tune) as sequences of hooks."""

from collections.abc import Callable
from typing import Any

from federatedscope.core.trainers.base_trainer import BaseTrainer
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE, MODE, TRIGGER

Hook = Callable[[Context], None]
Hooks = dict[str, list[Hook]]


class Trainer(BaseTrainer):
    """Calls hooks at the eight triggers of a routine.

    Args:
        model: the model to train.
        data: a ``ClientData``.
        device: where to compute.
        config: the configuration.
        only_for_eval: no hooks for training are registered.
        monitor: computes metrics.

    """

    HOOK_TRIGGER = TRIGGER.ALL

    def __init__(
        self,
        model: Any,
        data: Any,
        device: Any,
        config: Any,
        only_for_eval: bool = False,
        monitor: Any = None,
    ) -> None:
        if monitor is None:
            raise ValueError("a trainer needs a monitor")
        self._cfg = config
        self.ctx = Context(model, config, data, device)
        self.ctx.monitor = monitor
        self.setup_data(self.ctx)
        self.ctx.merge_from_dict(self.parse_data(data))
        self.hooks_in_train: Hooks = {t: [] for t in TRIGGER.ALL}
        self.hooks_in_eval: Hooks = {t: [] for t in TRIGGER.ALL}
        self.hooks_in_ft: Hooks = {t: [] for t in TRIGGER.ALL}
        if not only_for_eval:
            self.register_default_hooks_train()
            self.register_default_hooks_ft()
        self.register_default_hooks_eval()

    @property
    def cfg(self) -> Any:
        """The configuration; setting it sets up the data anew."""
        return self._cfg

    @cfg.setter
    def cfg(self, config: Any) -> None:
        self._cfg = self.ctx.cfg = config
        self.setup_data(self.ctx)
        self.ctx.merge_from_dict(self.parse_data(self.ctx.data))

    def setup_data(self, ctx: Context) -> None:
        """Bring the data in line with the configuration."""

    def parse_data(self, data: Any) -> dict[str, Any]:
        """``{split}_data``, ``{split}_loader``, ``num_{split}_data``."""
        return {}

    def register_default_hooks_train(self) -> None:
        """Register the hooks of local training."""

    def register_default_hooks_eval(self) -> None:
        """Register the hooks of evaluation."""

    def register_default_hooks_ft(self) -> None:
        """Register the hooks of fine-tuning before evaluation."""

    def register_hook_in_train(
        self,
        new_hook: Hook,
        trigger: str,
        insert_pos: int | None = None,
        base_hook: Hook | None = None,
        insert_mode: str = "before",
    ) -> None:
        """Add a hook: at a position, beside another, or (default) last."""
        hooks = self._at(self.hooks_in_train, trigger)
        _insert(hooks, new_hook, insert_pos, base_hook, insert_mode)

    def register_hook_in_eval(
        self,
        new_hook: Hook,
        trigger: str,
        insert_pos: int | None = None,
        base_hook: Hook | None = None,
        insert_mode: str = "before",
    ) -> None:
        """As ``register_hook_in_train``, for evaluation."""
        hooks = self._at(self.hooks_in_eval, trigger)
        _insert(hooks, new_hook, insert_pos, base_hook, insert_mode)

    def register_hook_in_ft(
        self,
        new_hook: Hook,
        trigger: str,
        insert_pos: int | None = None,
        base_hook: Hook | None = None,
        insert_mode: str = "before",
    ) -> None:
        """As ``register_hook_in_train``, for fine-tuning."""
        hooks = self._at(self.hooks_in_ft, trigger)
        _insert(hooks, new_hook, insert_pos, base_hook, insert_mode)

    def reset_hook_in_train(
        self, target_trigger: str, target_hook_name: str | None = None
    ) -> int | None:
        """Remove a hook by name (or all); returns its position (or -1)."""
        return _remove(
            self._at(self.hooks_in_train, target_trigger), target_hook_name
        )

    def reset_hook_in_eval(
        self, target_trigger: str, target_hook_name: str | None = None
    ) -> int | None:
        """As ``reset_hook_in_train``, for evaluation."""
        return _remove(
            self._at(self.hooks_in_eval, target_trigger), target_hook_name
        )

    def replace_hook_in_train(
        self, new_hook: Hook, target_trigger: str, target_hook_name: str
    ) -> None:
        """Put ``new_hook`` in the place of another."""
        hooks = self._at(self.hooks_in_train, target_trigger)
        _insert(hooks, new_hook, _remove(hooks, target_hook_name))

    def replace_hook_in_eval(
        self, new_hook: Hook, target_trigger: str, target_hook_name: str
    ) -> None:
        """As ``replace_hook_in_train``, for evaluation."""
        hooks = self._at(self.hooks_in_eval, target_trigger)
        _insert(hooks, new_hook, _remove(hooks, target_hook_name))

    def _at(self, hooks: Hooks, trigger: str) -> list[Hook]:
        if not TRIGGER.contains(trigger):
            raise ValueError(f"{trigger!r} is not in {self.HOOK_TRIGGER}")
        return hooks[trigger]

    def train(
        self,
        target_data_split_name: str = "train",
        hooks_set: Hooks | None = None,
    ) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Train locally.

        Returns:
            (samples counted, parameters that leave the client, results).

        """
        self.ctx.check_split(target_data_split_name)
        samples = self._run_routine(
            MODE.TRAIN,
            hooks_set or self.hooks_in_train,
            target_data_split_name,
        )
        return samples, self.get_model_para(), self.ctx.eval_metrics

    def evaluate(
        self,
        target_data_split_name: str = "test",
        hooks_set: Hooks | None = None,
    ) -> dict[str, Any]:
        """Evaluate on a split; {} if the client has no data for it."""
        self.ctx.eval_metrics = {}
        if self.ctx.check_split(target_data_split_name, skip=True):
            self._run_routine(
                MODE.TEST,
                hooks_set or self.hooks_in_eval,
                target_data_split_name,
            )
        return dict(self.ctx.eval_metrics)

    def finetune(
        self,
        target_data_split_name: str = "train",
        hooks_set: Hooks | None = None,
    ) -> None:
        """Train locally, as set under ``finetune``."""
        self.ctx.check_split(target_data_split_name)
        self._run_routine(
            MODE.FINETUNE,
            hooks_set or self.hooks_in_ft,
            target_data_split_name,
        )

    def _run_routine(
        self, mode: str, hooks_set: Hooks, dataset_name: str | None = None
    ) -> int:
        ctx = self.ctx
        ctx.track_mode(mode)
        ctx.track_split(dataset_name or mode)
        try:
            _call(hooks_set["on_fit_start"], ctx)
            self._run_epoch(hooks_set)
            _call(hooks_set["on_fit_end"], ctx)
            return int(ctx.num_samples)
        finally:
            ctx.clear(LIFECYCLE.ROUTINE)
            ctx.reset_mode()
            ctx.reset_split()

    def _run_epoch(self, hooks_set: Hooks, run_step: int = -1) -> None:
        ctx = self.ctx
        if run_step == -1:
            run_step = getattr(ctx, f"num_{ctx.cur_split}_epoch")
        for epoch in range(run_step):
            ctx.cur_epoch_i = CtxVar(epoch, LIFECYCLE.EPOCH)
            _call(hooks_set["on_epoch_start"], ctx)
            self._run_batch(hooks_set)
            _call(hooks_set["on_epoch_end"], ctx)
        ctx.clear(LIFECYCLE.EPOCH)

    def _run_batch(self, hooks_set: Hooks, run_step: int = -1) -> None:
        ctx = self.ctx
        if run_step == -1:
            run_step = getattr(ctx, f"num_{ctx.cur_split}_batch")
            trains = ctx.cur_mode in (MODE.TRAIN, MODE.FINETUNE)
            if trains and ctx.cur_epoch_i == ctx.num_train_epoch - 1:
                run_step = ctx.num_train_batch_last_epoch
        for batch in range(run_step):
            ctx.cur_batch_i = CtxVar(batch, LIFECYCLE.BATCH)
            for trigger in TRIGGER.ALL[2:6]:
                _call(hooks_set[trigger], ctx)
            ctx.clear(LIFECYCLE.BATCH)

    def _param_filter(
        self,
        state_dict: dict[str, Any],
        filter_keywords: list[str] | None = None,
    ) -> dict[str, Any]:
        """Drop what stays local (``personalization.local_param``)."""
        if self.cfg.federate.method in ("local", "global"):
            return {}
        keywords = (
            self.cfg.personalization.local_param
            if filter_keywords is None
            else filter_keywords
        )
        return {
            name: value
            for name, value in state_dict.items()
            if not any(word in name for word in keywords)
        }


def _call(hooks: list[Hook], ctx: Context) -> None:
    for hook in hooks:
        hook(ctx)


def _insert(
    hooks: list[Hook],
    new_hook: Hook,
    position: int | None = None,
    base_hook: Hook | None = None,
    mode: str = "before",
) -> None:
    if position is None and base_hook is not None:
        position = hooks.index(base_hook) + (mode != "before")
    if position is None or position == -1:
        position = len(hooks)
    if not 0 <= position <= len(hooks):
        raise ValueError(f"position {position} is not in 0..{len(hooks)}")
    hooks.insert(position, new_hook)


def _remove(hooks: list[Hook], name: str | None) -> int | None:
    if name is None:
        hooks.clear()
        return -1
    for position, hook in enumerate(hooks):
        if getattr(hook, "__name__", "") == name:
            del hooks[position]
            return position
    return None
