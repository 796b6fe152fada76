"""The data of ``data.type``."""

from typing import Any

import federatedscope.register as register
from federatedscope.core.auxiliaries.utils import setup_seed

DATA_SEED = 12345  # FederatedScope splits the same way whatever ``seed`` is


def get_data(config: Any, client_cfgs: Any = None) -> tuple[Any, Any]:
    """(data of all participants, the configuration, perhaps modified)."""
    setup_seed(DATA_SEED)
    try:
        for function in register.data_dict.values():
            answer = function(config, client_cfgs)
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        if config.data.type.lower().endswith("@llm"):
            from federatedscope.core.data import BaseDataTranslator
            from federatedscope.core.data.utils import convert_data_mode
            from federatedscope.llm.dataset import load_llm_dataset

            dataset, config = load_llm_dataset(config)
            data = BaseDataTranslator(config, client_cfgs)(dataset)
            return convert_data_mode(data, config), config
    finally:
        setup_seed(config.seed)
    raise ValueError(
        f"data.type: {config.data.type!r} is not '<name>@llm' and no plugin "
        "registered it"
    )
