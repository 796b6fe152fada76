"""A frozen base model with a PEFT adapter."""

import copy
import warnings
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from fs_plugins.errors import UserError, did_you_mean, first_line
from fs_plugins.policy import check_peft_method

CLASSIFICATION, REGRESSION = "SequenceClassification", "SequenceRegression"


class AdapterModel(nn.Module):
    """A PEFT model whose ``state_dict`` holds what is trained, only.

    The host broadcasts, aggregates and saves ``state_dict()``; the frozen
    base model must not be part of it.

    Args:
        model: the PEFT model.

    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # What a second model of the same configuration starts from.
        self.initial = {k: v.clone() for k, v in self.state_dict().items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The PEFT model's forward."""
        return self.model(*args, **kwargs)

    def half(self) -> "AdapterModel":
        """Unchanged: the host would cast the trained parameters, too.

        With ``train.is_enable_half`` the trainer computes in bfloat16.
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
        """Load the given parameters; the others stay as they are."""
        return self.model.load_state_dict(state_dict, strict=False)


_built: "WeakValueDictionary[str, AdapterModel]" = WeakValueDictionary()


def build(model_config: Any) -> AdapterModel:
    """The model of ``model.type: <hub name or folder>@huggingface_llm``.

    The adapter and the head are drawn from the run's seed alone, so that
    every participant and every method starts from the same ones.  Models of
    the same configuration share one frozen base model.

    Raises:
        UserError: the model cannot be loaded, or the adapter not be put on.

    """
    key = repr((model_config.type, model_config.task, model_config.num_labels))
    key += repr(dict(model_config.adapter))
    first = _built.get(key)
    if first is not None:
        return _twin(first)
    with torch.random.fork_rng():
        torch.manual_seed(model_config.adapter.seed)
        model = AdapterModel(_with_adapter(_base(model_config), model_config))
    _built[key] = model
    return model


def _twin(first: AdapterModel) -> AdapterModel:
    """A model with adapter parameters of its own, on the same base.

    It starts as ``first`` did, whatever has been trained or frozen since.
    """
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


def _base(model_config: Any) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    name = model_config.type.rpartition("@")[0]
    logging.set_verbosity_error()  # type: ignore  # the head is new; no need to be told
    logging.disable_progress_bar()  # type: ignore
    is_regression = model_config.task == REGRESSION
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            name,
            num_labels=1 if is_regression else model_config.num_labels,
            cache_dir=model_config.adapter.cache or None,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a head of another task is redone
        )
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise UserError(
            f"model.type: {name!r} cannot be loaded: {reason}"
        ) from error
    if model.config.pad_token_id is None:  # a decoder without padding
        model.config.pad_token_id = model.config.eos_token_id
    return model


def _with_adapter(model: Any, model_config: Any) -> Any:
    import peft

    args = dict(model_config.adapter.args[0])
    package = args.pop("adapter_package", "peft")
    if package != "peft":
        raise UserError(
            f"llm.adapter.args: adapter_package {package!r} is not 'peft'"
        )
    method = str(args.pop("adapter_method", "lora")).lower()
    check_peft_method(method)
    config_class = peft.PEFT_TYPE_TO_CONFIG_MAPPING[
        peft.PeftType[method.upper()]
    ]
    known = set(config_class.__dataclass_fields__)
    for name in args:
        if name not in known:
            raise UserError(
                f"llm.adapter.args: {config_class.__name__} has no "
                f"{name!r}{did_you_mean(name, known)}"
            )
    try:
        with warnings.catch_warnings():  # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            return peft.get_peft_model(
                model, config_class(task_type=peft.TaskType.SEQ_CLS, **args)
            )
    except (ValueError, TypeError) as error:
        reason = first_line(error).split(". ")[0]
        raise UserError(
            f"llm.adapter.args: PEFT refuses {args}: {reason} (the linear "
            f"layers of this model are {', '.join(_linear(model))})"
        ) from error


def _linear(model: nn.Module) -> list[str]:
    """The last part of the names of linear layers: what can be targeted."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        }
    )
