"""GLUE, the demo's data, and how they are split among clients."""

from typing import Any

from federatedscope.register import register_data


def call_text_data(config: Any, client_cfgs: Any) -> Any:
    """Answers to ``data.type: <task>@glue`` and ``<name>@demo``."""
    if not config.data.type.lower().endswith(("@glue", "@demo")):
        return None
    from fs_plugins.data.federated import load

    return load(config, client_cfgs)


register_data("fedsa", call_text_data)
