"""Local training of an adapter, independent of the task."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from federatedscope.core.auxiliaries.optimizer_builder import get_optimizer
from federatedscope.core.trainers import GeneralTorchTrainer
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.enums import LIFECYCLE, MODE

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.policy import PRIVATE_ADAPTER, Role, roles_of
from fs_plugins.seeds import random_state
from fs_plugins.settings import peft_method_of
from fs_plugins.state.client_state import OPTIMIZER
from fs_plugins.trainer.dual import Mixture
from fs_plugins.trainer.precision import autocast
from fs_plugins.trainer.schedule import schedule

UNION = "union"  # in eval.split: the test shards of all clients together


class AdapterTrainer(GeneralTorchTrainer):  # type: ignore[misc]
    """Trains on the model's own loss, with any optimizer of torch.

    The trainer of a task is a subclass that implements the forward pass in
    ``_hook_on_batch_forward``.

    The random numbers of a client in a round (for the order of batches and
    for dropout) depend only on ``seed``, the client and the round.  They do
    not depend on the method, on the clients that trained before, or on
    whether the run was resumed.

    Attributes:
        optimizer_state: the state of the optimizer, such as its moments, by
            ``optimizer.<kind>.<parameter>``.  Before a round it is the state
            that the round begins with, after the round the state that the
            round ended with.  None if each round begins with a fresh
            optimizer.

    """

    cfg: Config
    optimizer_state: Mapping[str, torch.Tensor] | None = None

    def train(
        self, target_data_split_name: str = "train", hooks_set: Any = None
    ) -> Any:
        """Train for a round, as ``GeneralTorchTrainer.train`` does.

        With a private adapter (FedDPA) both adapters are trained, first the
        private one.

        Args:
            target_data_split_name: the split to train on.
            hooks_set: the hooks to call; None for those of the trainer.

        Returns:
            The number of samples, the trained parameters and the results,
            as FederatedScope's trainers return them.

        """
        with random_state(self.cfg.seed, self._client, self._state):
            if self._mixture is None:
                return super().train(target_data_split_name, hooks_set)
            before = self.optimizer_state
            with self._mixture.training_private():
                super().train(target_data_split_name, hooks_set)
            self._remember(before)
            before = self.optimizer_state
            with self._mixture.training_shared():
                results = super().train(target_data_split_name, hooks_set)
            self._remember(before)
            return results

    def _remember(self, before: Mapping[str, torch.Tensor] | None) -> None:
        """Keep the optimizer state of the adapter that was not trained."""
        if before is not None and self.optimizer_state is not None:
            self.optimizer_state = {**before, **self.optimizer_state}

    @cached_property
    def _mixture(self) -> Mixture | None:
        """The mixture of two adapters; None without a private adapter."""
        model = getattr(self.ctx.model, "model", self.ctx.model)
        if PRIVATE_ADAPTER not in getattr(model, "peft_config", {}):
            return None
        key = (self.cfg.seed, self._client)
        return Mixture(model, self.ctx.data, self.cfg.fedsa.private, key)

    def evaluate(  # type: ignore[override]
        self, target_data_split_name: str = "test"
    ) -> Any:
        """Evaluate on a split.

        Args:
            target_data_split_name: the split; ``union`` stands for the test
                shards of all clients together.

        Returns:
            The results by ``<split>_<metric>``; an empty mapping if the
            client has no data in the split.

        """
        if self._mixture is not None:
            self._mixture.forget()
        if target_data_split_name != UNION:
            return super().evaluate(target_data_split_name)
        with self._union_as_test():
            # Not self.evaluate: a subclass may add slow measurements to the
            # evaluation of a client's own test split.
            results = super().evaluate("test")
        return {
            key.replace("test_", f"{UNION}_", 1): value
            for key, value in results.items()
        }

    @contextmanager
    def _union_as_test(self) -> Iterator[None]:
        ctx, data = self.ctx, self.ctx.data
        if getattr(data, "union_data", None) is None:
            raise UserError(
                f"eval.split: {UNION!r} needs data that this project splits "
                "(@glue, @demo, @llm)"
            )
        client_test = {
            name: ctx.get(name)
            for name in ("test_data", "test_loader", "num_test_data")
        }
        ctx.test_data, ctx.test_loader = data.union_data, data.union_loader()
        ctx.num_test_data = len(data.union_data)
        try:
            yield
        finally:
            for name, value in client_test.items():
                setattr(ctx, name, value)

    @property
    def _client(self) -> int:
        return int(self.ctx.monitor.monitored_object.ID)

    @property
    def _state(self) -> int:
        """The round as the host counts it, from 0.

        Random seeds and learning-rate schedules use this number.
        """
        return max(0, int(self.ctx.monitor.monitored_object.state))

    def get_model_para(self) -> dict[str, torch.Tensor]:
        """The trained parameters, on the device of the model.

        FederatedScope's own trainers move the model to the CPU for this.
        """
        state: dict[str, torch.Tensor] = self._param_filter(
            self.ctx.model.state_dict()
        )
        return state

    def discharge_model(self) -> None:
        """Leave the model where it is.

        FederatedScope's own trainers move the model to the CPU.
        """

    def _hook_on_fit_start_numerical_precision(self, ctx: Context) -> None:
        """Leave the weights in their precision.

        With ``train.is_enable_half`` the forward pass computes in
        ``fedsa.half``, and the trained parameters stay in float32.
        FederatedScope's hook would cast all weights.
        """

    def _hook_on_fit_start_init(self, ctx: Context) -> None:
        ctx.model.to(ctx.device)
        if ctx.cur_mode in (MODE.TRAIN, MODE.FINETUNE):
            section = ctx.cfg[ctx.cur_mode]
            groups = self._groups(ctx, section.optimizer.lr)
            ctx.trained = [p for g in groups for p in g["params"]]
            ctx.optimizer = _optimizer(groups, section.optimizer)
            self._restore_optimizer(ctx)
            ctx.scaler = self._scaler(ctx)
            ctx.rates = self._rates(ctx, section.scheduler)
            ctx.batches = CtxVar(0, LIFECYCLE.ROUTINE)
            ctx.terms = CtxVar(0, LIFECYCLE.ROUTINE)
            ctx.terms_first = CtxVar(1, LIFECYCLE.ROUTINE)
        ctx.loss_batch_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.loss_regular_total = CtxVar(0.0, LIFECYCLE.ROUTINE)
        ctx.num_samples = CtxVar(0, LIFECYCLE.ROUTINE)
        ctx.ys_true = CtxVar([], LIFECYCLE.ROUTINE)
        ctx.ys_prob = CtxVar([], LIFECYCLE.ROUTINE)

    def _groups(self, ctx: Context, rate: float) -> list[dict[str, Any]]:
        """The parameter groups of the optimizer, one for each learning rate.

        ``fedsa.lr`` gives single roles a learning rate of their own.  With a
        larger learning rate for B this is LoRA+ (Hayou et al., ICML 2024).
        """
        trained = _names_of(ctx)
        rate_of = {role: self.cfg.fedsa.lr[role.value] for role in Role}
        if not any(rate_of.values()):
            return [{"params": list(trained.values()), "lr": rate}]
        groups: dict[float, list[torch.nn.Parameter]] = {}
        for name, role in roles_of(peft_method_of(self.cfg), trained).items():
            groups.setdefault(rate_of[role] or rate, []).append(trained[name])
        return [{"params": p, "lr": rate} for rate, p in groups.items()]

    def _rates(self, ctx: Context, scheduler: Any) -> Any:
        """The learning rates of the current round, by step and group."""
        accumulate = ctx.cfg.grad.grad_accum_count
        steps = -(-ctx.num_total_train_batch // accumulate)
        table = schedule(
            dict(scheduler),
            tuple(group["lr"] for group in ctx.optimizer.param_groups),
            steps * ctx.cfg.federate.total_round_num,
        )
        return table[self._state * steps :]

    def _forward(self, ctx: Context, batch: dict[str, Any]) -> Any:
        """The model's output, computed in the configured precision."""
        with self._autocast(), ExitStack() as stack:
            is_training = ctx.cur_mode in (MODE.TRAIN, MODE.FINETUNE)
            if self._mixture is not None and not is_training:
                stack.enter_context(self._mixture.mixed_for(batch))
            return ctx.model(**batch)

    def _autocast(self) -> Any:
        return autocast(self.cfg, self.ctx.device)

    def _scaler(self, ctx: Context) -> torch.amp.GradScaler:
        """A scaler that keeps gradients in float16 from vanishing.

        In other precisions the scaler is disabled.  Each round has a new
        scaler, so its initial factor is one at which few models overflow:
        with PyTorch's own the first steps of each round would be skipped.
        """
        is_half = self.cfg.train.is_enable_half
        is_float16 = is_half and self.cfg.fedsa.half == "float16"
        return torch.amp.GradScaler(
            torch.device(ctx.device).type,
            init_scale=2.0**10,
            enabled=is_float16 and self.cfg.fedsa.adapter_dtype == "float32",
        )

    def _hook_on_batch_forward_flop_count(self, ctx: Context) -> None:
        """Do nothing: floating-point operations are not counted."""

    def _loss_terms(self, ctx: Context) -> int:
        """The number of terms whose mean is the batch's loss."""
        return int(ctx.batch_size)

    def _hook_on_batch_backward(self, ctx: Context) -> None:
        """Accumulate gradients, and take a step once it has all its batches.

        The gradient of a step is that of the mean loss over all terms of its
        batches, where a term is an example or a token that is learned.  So a
        step equals the step of one large batch, also if the batches have
        different sizes or the last step of a round has fewer batches.
        """
        accumulate = ctx.cfg.grad.grad_accum_count
        terms = self._loss_terms(ctx)
        if ctx.batches % accumulate == 0:
            ctx.terms_first, ctx.terms = terms, 0
        ctx.terms += terms
        # Losses are scaled by the terms of the first batch, not by those of
        # the whole step, as the range of float16 is small.
        share = terms / ctx.terms_first
        ctx.scaler.scale(ctx.loss_task * share).backward()
        ctx.batches += 1
        is_last = ctx.batches == ctx.num_total_train_batch
        if ctx.batches % accumulate and not is_last:
            return
        if ctx.terms != ctx.terms_first:
            for parameter in ctx.trained:
                if parameter.grad is not None:
                    parameter.grad.mul_(ctx.terms_first / ctx.terms)
        if ctx.grad_clip > 0:
            ctx.scaler.unscale_(ctx.optimizer)
            torch.nn.utils.clip_grad_norm_(ctx.trained, ctx.grad_clip)
        step = (ctx.batches - 1) // accumulate
        for group, rate in zip(
            ctx.optimizer.param_groups, ctx.rates[step], strict=True
        ):
            group["lr"] = rate
        ctx.scaler.step(ctx.optimizer)
        ctx.scaler.update()
        ctx.optimizer.zero_grad()

    def _restore_optimizer(self, ctx: Context) -> None:
        """Load the optimizer state of the client's last round."""
        if not self.optimizer_state:
            return
        trained = _names_of(ctx)
        for key, value in self.optimizer_state.items():
            kind, _, name = key.removeprefix(OPTIMIZER).partition(".")
            if name in trained:
                state = ctx.optimizer.state[trained[name]]
                device = trained[name].device if value.dim() else "cpu"
                state[kind] = value.to(device, copy=True)

    def _take_optimizer(self, ctx: Context) -> None:
        """Save the optimizer state at the end of the round.

        Raises:
            UserError: the optimizer keeps a value that is not a tensor.

        """
        if self.optimizer_state is None:
            return
        tensors = {}
        for name, parameter in _names_of(ctx).items():
            for kind, value in ctx.optimizer.state.get(parameter, {}).items():
                if value is None:
                    continue
                if not isinstance(value, torch.Tensor):
                    raise UserError(
                        "fedsa.state.optimizer: "
                        f"{type(ctx.optimizer).__name__} keeps a "
                        f"{type(value).__name__}, which cannot be stored"
                    )
                tensors[f"{OPTIMIZER}{kind}.{name}"] = value
        self.optimizer_state = tensors

    def _hook_on_fit_end(self, ctx: Context) -> None:
        super()._hook_on_fit_end(ctx)
        self._release(ctx)

    def _release(self, ctx: Context) -> None:
        """Free the memory that a client does not need between its rounds."""
        if ctx.cur_mode == MODE.TRAIN:
            self._take_optimizer(ctx)
        ctx.optimizer = ctx.trained = ctx.rates = ctx.scaler = None
        name = f"{ctx.cur_split}_loader"
        setattr(ctx, name, ctx[name].loader)


def _names_of(ctx: Context) -> dict[str, torch.nn.Parameter]:
    """The trained parameters by their names in the PEFT model."""
    inner = getattr(ctx.model, "model", ctx.model)
    return {n: p for n, p in inner.named_parameters() if p.requires_grad}


def _optimizer(parameters: Any, section: Any) -> Any:
    try:
        return get_optimizer(parameters, **section)
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"train.optimizer: {section.type} refuses its arguments: {error}"
        ) from error
