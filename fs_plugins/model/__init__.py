"""A frozen base model with its PEFT adapter."""

from typing import Any

from federatedscope.register import register_model


def call_adapter_model(model_config: Any, input_shape: Any) -> Any:
    """Answers to ``...@huggingface_llm`` for sequence classification.

    ``model.task`` is set by our data; causal language models are the
    host's own.
    """
    from fs_plugins.model.build import CLASSIFICATION, REGRESSION, build

    is_ours = model_config.task in (CLASSIFICATION, REGRESSION)
    if is_ours and model_config.type.endswith("@huggingface_llm"):
        return build(model_config)
    return None


register_model("fedsa", call_adapter_model)
