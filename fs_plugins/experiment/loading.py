"""Loads the data of a run, or of one participant in it."""

from typing import Any

from fs_plugins.config.checks import check_metrics
from fs_plugins.config.load import update
from fs_plugins.host.configuration import Config


def load_data(cfg: Config) -> Any:
    """Load the data, and complete the configuration by what they determine.

    Args:
        cfg: the configuration, into which the changes by the data are
            merged.

    Returns:
        The data by participant; in distributed mode, those of the
        participant in this process.

    """
    from federatedscope.core.auxiliaries.data_builder import get_data
    from federatedscope.core.auxiliaries.utils import setup_seed

    setup_seed(cfg.seed)
    data, modified = get_data(config=cfg.clone(), client_cfgs=None)
    update(cfg, modified)
    check_metrics(cfg)
    only_client = cfg.federate.client_idx_for_local_train
    if only_client:
        cfg.federate.client_num = 1
        data = {0: data.get(0), 1: data[only_client]}
    cfg.freeze()
    return data
