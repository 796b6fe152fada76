"""``python federatedscope/main.py --cfg FILE [key value ...]``."""

import sys

from federatedscope.core.auxiliaries.data_builder import get_data
from federatedscope.core.auxiliaries.logging import update_logger
from federatedscope.core.auxiliaries.runner_builder import get_runner
from federatedscope.core.auxiliaries.utils import setup_seed
from federatedscope.core.auxiliaries.worker_builder import (
    get_client_cls,
    get_server_cls,
)
from federatedscope.core.cmd_args import parse_args, parse_client_cfg
from federatedscope.core.configs.config import CN, global_cfg


def main(arguments: list[str] | None = None) -> None:
    """Run one experiment."""
    args = parse_args(arguments)
    cfg = global_cfg.clone()
    if args.cfg_file:
        cfg.merge_from_file(args.cfg_file)
    options, client_options = parse_client_cfg(args.opts)
    cfg.merge_from_list(options)
    update_logger(cfg, clear_before_add=True)
    setup_seed(cfg.seed)
    client_cfgs = None
    if args.client_cfg_file:
        with open(args.client_cfg_file, encoding="utf-8") as file:
            client_cfgs = CN.load_cfg(file)
        client_cfgs.set_new_allowed(True)
        client_cfgs.merge_from_list(client_options)
    data, modified = get_data(config=cfg.clone(), client_cfgs=client_cfgs)
    cfg.merge_from_other_cfg(modified)
    only = cfg.federate.client_idx_for_local_train
    if only:
        cfg.federate.client_num = 1
        data = {0: data.get(0), 1: data[only]}
    cfg.freeze()
    get_runner(
        data=data,
        server_class=get_server_cls(cfg),
        client_class=get_client_cls(cfg),
        config=cfg.clone(),
        client_configs=client_cfgs,
    ).run()


if __name__ == "__main__":
    main(sys.argv[1:])
