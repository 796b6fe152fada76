"""GLUE, instruction data, the demo's data, and how they are split."""

from typing import Any

from federatedscope.register import register_data


def call_text_data(config: Any, client_cfgs: Any) -> Any:
    """Answers to ``data.type: <task>@glue`` and ``<name>@demo``.

    Also to ``<name>@llm`` for our trainer; the host's loads its own.
    """
    family = config.data.type.lower().rpartition("@")[2]
    is_llm = family == "llm" and config.trainer.type == "fedsa_llm"
    if family not in ("glue", "demo") and not is_llm:
        return None
    from fs_plugins.data.federated import load

    return load(config, client_cfgs)


register_data("fedsa", call_text_data)
