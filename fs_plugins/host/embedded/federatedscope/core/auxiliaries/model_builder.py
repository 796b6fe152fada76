"""The model of ``model.type``."""

from typing import Any

import federatedscope.register as register


def get_model(
    config: Any, local_data: Any = None, backend: str = "torch"
) -> Any:
    """A registered model, or (``...@huggingface_llm``) a causal LM."""
    for function in register.model_dict.values():
        model = function(config.model, None)
        if model is not None:
            return model
    if config.model.type.lower().endswith("_llm"):
        from federatedscope.llm.model import get_llm

        return get_llm(config)
    raise ValueError(
        f"model.type: {config.model.type!r} is not '<name or folder>"
        "@huggingface_llm' and no plugin registered it"
    )
