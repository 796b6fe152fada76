"""A model with a PEFT adapter that shows only what is trained."""

from typing import Any

from torch import Tensor, nn


class AdapterModel(nn.Module):
    """Wraps a model; ``state_dict`` holds the trainable parameters only.

    Args:
        model: a model of transformers.
        use_adapter: put a PEFT adapter on it.
        kwargs: ``adapter_package``, ``adapter_method`` and the arguments of
            the PEFT configuration.

    """

    def __init__(
        self, model: Any, use_adapter: bool = False, **kwargs: Any
    ) -> None:
        super().__init__()
        self.model = _with_adapter(model, **kwargs) if use_adapter else model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped model's forward."""
        return self.model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped model's generate."""
        return self.model.generate(*args, **kwargs)

    def state_dict(  # type: ignore[override]
        self, return_trainable: bool = True, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        """The trainable parameters, or all of the wrapped model's state."""
        if not return_trainable:
            return self.model.state_dict(*args, **kwargs)  # type: ignore
        return {
            name: parameter.detach()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def load_state_dict(  # type: ignore[override]
        self, state_dict: Any, strict: bool = False
    ) -> Any:
        """Load the given parameters; others stay as they are."""
        return self.model.load_state_dict(state_dict, strict=False)


def _with_adapter(
    model: Any,
    adapter_package: str = "peft",
    adapter_method: str = "lora",
    **kwargs: Any,
) -> Any:
    if adapter_package != "peft" or adapter_method.lower() != "lora":
        raise ValueError(
            f"llm.adapter.args: {adapter_package} {adapter_method} needs "
            "FederatedScope; the embedded host has peft lora"
        )
    from peft import LoraConfig, TaskType, get_peft_model

    return get_peft_model(
        model, LoraConfig(task_type=TaskType.CAUSAL_LM, **kwargs)
    )
