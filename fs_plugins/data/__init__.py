"""GLUE, instruction data, the demo's data, and how they are split."""

from typing import Any

from federatedscope.register import register_data

from fs_plugins.data.families import FAMILIES, register_examples


def call_text_data(config: Any, client_cfgs: Any) -> Any:
    """Answers to ``data.type: <name>@<family>`` of ``FAMILIES``.

    To ``<name>@llm`` for our trainer only; the host's loads its own.
    """
    _, at, family = config.data.type.lower().rpartition("@")
    is_hosts = family == "llm" and config.trainer.type != "fedsa_llm"
    if not at or family not in FAMILIES or is_hosts:
        return None
    from fs_plugins.data.federated import load

    return load(config, client_cfgs)


register_data("fedsa", call_text_data)

__all__ = ["FAMILIES", "register_examples"]
