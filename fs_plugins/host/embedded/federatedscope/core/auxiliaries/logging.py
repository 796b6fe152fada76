"""Where the log goes."""

import logging
import os
from datetime import datetime
from typing import Any

import yaml


def update_logger(
    cfg: Any, clear_before_add: bool = False, rank: int = 0
) -> None:
    """Make the run's folder and log to the screen and into it.

    ``cfg.outdir`` becomes ``<outdir>/<expname>``; if that exists, a folder
    ``sub_exp_<time>`` within it.
    """
    if not cfg.expname:
        model = cfg.model.type.replace("/", "_")
        cfg.expname = (
            f"{cfg.federate.method}_{model}_on_{cfg.data.type}"
            f"_lr{cfg.train.optimizer.lr}"
            f"_lstep{cfg.train.local_update_steps}"
        )
    if cfg.expname_tag:
        cfg.expname = f"{cfg.expname}_{cfg.expname_tag}"
    cfg.outdir = _new_folder(os.path.join(cfg.outdir or "exp", cfg.expname))
    root = logging.getLogger("federatedscope")
    if clear_before_add:
        for handler in root.handlers:
            handler.close()
        root.handlers = [logging.StreamHandler()]
    root.setLevel(logging.INFO if cfg.verbose > 0 else logging.WARNING)
    root.addHandler(
        logging.FileHandler(os.path.join(cfg.outdir, "exp_print.log"))
    )
    formatter = logging.Formatter(
        "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
    )
    for handler in root.handlers:
        handler.setFormatter(formatter)

    if cfg.wandb.use:
        init_wandb(cfg)


def init_wandb(cfg: Any) -> None:
    """Begin a run of Weights & Biases, as ``wandb.*`` asks for."""
    import wandb

    wandb.init(
        project=cfg.wandb.name_project or None,
        entity=cfg.wandb.name_user or None,
        config=yaml.safe_load(cfg.dump()),
        group=cfg.data.type,
        job_type=cfg.federate.method,
        name=cfg.expname,
    )


def _new_folder(folder: str) -> str:
    stamp = datetime.now().strftime("%Y%m%d%H%M%S")
    candidates = [folder, os.path.join(folder, f"sub_exp_{stamp}")]
    number = 1
    while True:
        candidate = (
            candidates.pop(0)
            if candidates
            else os.path.join(folder, f"sub_exp_{stamp}_{number}")
        )
        try:
            os.makedirs(candidate)
            return candidate
        except FileExistsError:
            number += 1
