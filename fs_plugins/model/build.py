"""A frozen base model with a PEFT adapter."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Model
from fs_plugins.model.adapter import put_adapter
from fs_plugins.model.given import (
    accepted,
    base_of,
    given_model,
    is_adapted,
    ready_to_train,
    with_loss,
)
from fs_plugins.model.pretrained import load_base
from fs_plugins.model.start import start_from
from fs_plugins.notes import note
from fs_plugins.scope import current_scope
from fs_plugins.seeds import seed_torch


class AdapterModel(nn.Module):
    """A PEFT model whose ``state_dict`` holds the trained parameters only.

    FederatedScope broadcasts, aggregates and saves ``state_dict()``, of which
    the frozen base model must not be a part.

    Args:
        model: the PEFT model.

    Attributes:
        model: the PEFT model.
        initial: copies of the trainable parameters at the start, by name.

    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # A second model of the same configuration starts from these values.
        self.initial = {k: v.clone() for k, v in self.state_dict().items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The PEFT model's forward."""
        return self.model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The PEFT model's generate."""
        return self.model.generate(*args, **kwargs)

    def half(self) -> "AdapterModel":
        """Return the model unchanged.

        FederatedScope calls ``half`` with ``train.is_enable_half`` and would
        also cast the trained parameters.  The trainer computes in bfloat16
        instead.
        """
        return self

    def state_dict(  # type: ignore[override]
        self, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        """The trainable parameters, by their names in the PEFT model."""
        return {
            name: parameter.detach()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def load_state_dict(  # type: ignore[override]
        self, state_dict: Any, strict: bool = False
    ) -> Any:
        """Load some parameters; the others stay as they are.

        Args:
            state_dict: values of parameters, by their names in the PEFT
                model.
            strict: not used; parameters may always be missing.

        """
        return self.model.load_state_dict(state_dict, strict=False)


class GivenModel(AdapterModel):
    """A model that the user's code provides, and which may return logits only.

    Args:
        model: the PEFT model.
        model_config: the configuration's section ``model``.

    """

    def __init__(self, model: Any, model_config: Model) -> None:
        super().__init__(model)
        self.task = model_config.task
        self.classes = int(model_config.num_labels)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs and a loss, from the inputs that it accepts."""
        inner = self.model.get_base_model()
        output = self.model(*args, **accepted(inner, kwargs))
        return with_loss(output, kwargs.get("labels"), self.task, self.classes)


def build(model_config: Model) -> AdapterModel:
    """Build the model of ``model.type: <hub name or folder>@huggingface_llm``.

    The adapter and the head are drawn from the run's seed alone, so that
    every participant and every method starts from the same values.  All
    models of a run that have the same configuration share one frozen base
    model.

    Args:
        model_config: the configuration's section ``model``.

    Raises:
        UserError: the model cannot be loaded, or the adapter does not fit.

    """
    key = repr((model_config.type, model_config.task, model_config.num_labels))
    key += repr(dict(model_config.adapter))
    built: list[AdapterModel] = current_scope().once(("models", key), list)
    if built:
        return _twin(built[0])
    with torch.random.fork_rng():
        seed_torch(model_config.adapter.seed)
        built.append(_first(model_config))
    return built[0]


def _first(model_config: Model) -> AdapterModel:
    """The first model of a run: of a checkpoint, or one that code provides."""
    provided = given_model(model_config.type.rpartition("@")[0])
    if provided is None:
        base = load_base(model_config)
        if base.caveat:
            note(base.caveat)
        adapted = put_adapter(base, model_config)
        start = model_config.adapter.get("start", "")
        if start:
            start_from(adapted, Path(start))
        return AdapterModel(adapted)
    if is_adapted(provided) and model_config.adapter.private:
        raise UserError(
            "model: a method with a private adapter puts both adapters on "
            "the model itself; hand over the base model"
        )
    if is_adapted(provided):
        ready_to_train(provided, getattr(torch, model_config.adapter.dtype))
    base = base_of(provided, model_config)
    if base.caveat:
        note(base.caveat)
    if not is_adapted(provided):
        return GivenModel(put_adapter(base, model_config), model_config)
    return GivenModel(provided, model_config)


def free_base(model: Any) -> None:
    """Free the memory of a model's frozen weights.

    Afterwards, neither the model nor any other model on the same base can be
    used.
    """
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.new_empty(0)


def _twin(first: AdapterModel) -> AdapterModel:
    """A model on the base of ``first``, with adapter parameters of its own.

    The parameters have the values that ``first`` has started from, whatever
    has been trained or frozen since.
    """
    # ``deepcopy`` takes objects that its memo holds in place of copies.
    shared: dict[int, Any] = {id(first.initial): first.initial}
    for name, parameter in first.model.named_parameters():
        if name not in first.initial:
            shared[id(parameter)] = parameter
    shared |= {id(buffer): buffer for buffer in first.model.buffers()}
    twin = copy.deepcopy(first, memo=shared)
    for name, parameter in twin.model.named_parameters():
        if name in first.initial:
            parameter.requires_grad_(True)
    twin.load_state_dict(first.initial)
    return twin
