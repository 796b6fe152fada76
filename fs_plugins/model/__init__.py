"""A frozen base model with its PEFT adapter."""

from typing import Any

from federatedscope.register import register_model


def call_adapter_model(model_config: Any, input_shape: Any) -> Any:
    """Answers to ``...@huggingface_llm`` if the data are ours.

    They set ``model.task``; other data's models are the host's own.
    """
    from fs_plugins.model.base import TASKS

    is_ours = model_config.task in TASKS
    if not is_ours or not model_config.type.endswith("@huggingface_llm"):
        return None
    from fs_plugins.model.build import build

    return build(model_config)


register_model("fedsa", call_adapter_model)
