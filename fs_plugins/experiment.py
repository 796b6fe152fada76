"""One experiment: from a YAML file to its folder of results."""

import contextlib
import io
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fs_plugins import HOST
from fs_plugins.checks import check_update_key
from fs_plugins.config import (
    adapter_args,
    is_client,
    is_ours,
)
from fs_plugins.config_file import load_config, name_of, one_line
from fs_plugins.errors import UserError
from fs_plugins.policy import variant_of
from fs_plugins.report.progress import progress_for
from fs_plugins.report.recorder import Recorder
from fs_plugins.state.adapters import save_adapters


def run(
    experiment: str | Path,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Run an experiment on the host.

    Args:
        experiment: a YAML file of FederatedScope, perhaps with variations;
            see ``load_config``.
        overrides: ``key value`` pairs.
        quiet: show no progress.
        verbose: show the host's log.

    Returns:
        ``outdir``, the folder of the results, and what ``summary.json`` in it
        holds.  A client of a distributed run writes none: its server does.

    Raises:
        UserError: the input is wrong; no folder is left behind.
        RunError: the run cannot go on; what it has trained is saved.

    """
    if not verbose:
        _silence()
    cfg = load_config(experiment, overrides)
    begin = time.perf_counter()
    facts = _facts(cfg)
    with _new_folder(cfg, verbose) as folder:
        runner = build_runner(cfg)
        if is_client(cfg):
            runner.run()
            save_adapters(runner, folder / "adapters")
            return {"outdir": str(folder)}
        name = name_of(experiment)
        try:
            with progress_for(name, facts["rounds"], quiet) as progress:
                recorder = Recorder(runner, facts, progress)
                runner.run()
            summary = recorder.finish(time.perf_counter() - begin)
        finally:
            save_adapters(runner, folder / "adapters")
    return summary | {"outdir": str(folder)}


def _silence() -> None:
    """Keep the host's log off the screen; its file gets it all."""
    log = logging.getLogger("federatedscope")
    log.handlers = [logging.NullHandler()]
    log.propagate = False


@contextlib.contextmanager
def _new_folder(cfg: Any, verbose: bool) -> Iterator[Path]:
    """The experiment's folder; gone again if the user's input was wrong."""
    from federatedscope.core.auxiliaries.logging import update_logger

    above = Path(cfg.outdir).absolute()
    while not above.exists():
        above = above.parent
    log = logging.getLogger("federatedscope")
    try:
        if verbose:
            update_logger(cfg, clear_before_add=True)
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                update_logger(cfg, clear_before_add=True)
            log.handlers = [
                h for h in log.handlers if isinstance(h, logging.FileHandler)
            ]
    except OSError as error:
        raise UserError(
            f"outdir: {cfg.outdir} cannot be made: {error.strerror}"
        ) from error
    folder = Path(cfg.outdir)
    try:
        yield folder
    except UserError:
        if not (folder / "metrics.jsonl").exists():
            _remove(folder, above)
        raise
    finally:
        for handler in log.handlers:
            handler.close()
        log.handlers = [logging.NullHandler()]


def _remove(folder: Path, above: Path) -> None:
    """Remove a folder, and those above it that were made for it."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.absolute().parents:
        if parent == above:
            return
        with contextlib.suppress(OSError):
            parent.rmdir()


def build_runner(cfg: Any) -> Any:
    """Everything that comes before the first round, in the host's order.

    Args:
        cfg: the configuration; what the data change in it is merged.

    Returns:
        The host's runner, not yet run.

    Raises:
        UserError: the input is wrong.

    """
    from federatedscope.core.auxiliaries.data_builder import get_data
    from federatedscope.core.auxiliaries.runner_builder import get_runner
    from federatedscope.core.auxiliaries.utils import setup_seed
    from federatedscope.core.auxiliaries.worker_builder import (
        get_client_cls,
        get_server_cls,
    )

    setup_seed(cfg.seed)
    try:
        data, modified = get_data(config=cfg.clone(), client_cfgs=None)
        cfg.merge_from_other_cfg(modified)
        check_update_key(cfg)
        only = cfg.federate.client_idx_for_local_train
        if only:
            cfg.federate.client_num = 1
            data = {0: data.get(0), 1: data[only]}
        cfg.freeze()
        return get_runner(
            data=data,
            server_class=get_server_cls(cfg),
            client_class=get_client_cls(cfg),
            config=cfg.clone(),
            client_configs=None,
        )
    except UserError:
        raise
    except (ValueError, AssertionError, FileNotFoundError) as error:
        raise UserError(one_line(error)) from error


def _facts(cfg: Any) -> dict[str, Any]:
    """What the summary says of a run before it has run."""
    method = cfg.federate.method
    return {
        "schema": 1,
        "method": method.lower() if is_ours(cfg) else method,
        "adapter": variant_of(adapter_args(cfg)),
        "host": HOST.name,
        "host_version": HOST.version,
        "model": cfg.model.type,
        "data": cfg.data.type,
        "clients": cfg.federate.client_num,
        "rounds": cfg.federate.total_round_num,
        "seed": cfg.seed,
    }
