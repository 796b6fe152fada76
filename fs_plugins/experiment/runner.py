"""One experiment: from a YAML file to its folder of results."""

import contextlib
import errno
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from fs_plugins.config.checks import (
    check_metrics,
    notes_on,
    why_not_resumable,
)
from fs_plugins.config.load import load_config, name_of, one_line, update
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.events import LiveRun
from fs_plugins.experiment.folder import (
    asked_in,
    check_unchanged,
    new_folder,
    old_folder,
    remember,
)
from fs_plugins.experiment.progress import progress_for
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.signals import Stops
from fs_plugins.experiment.track import tracker_for
from fs_plugins.experiment.trials import check_batches, check_saved
from fs_plugins.host import find_host
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.listeners import listeners_of
from fs_plugins.notes import note
from fs_plugins.policy import variant_of
from fs_plugins.settings import (
    adapter_args,
    is_client,
    is_ours,
)

# What a full or read-only disk answers.
_NO_ROOM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
)


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
        Interrupted: by Ctrl-C or SIGTERM, between two rounds.

    """
    if not verbose:
        silence()
    begin = time.perf_counter()
    cfg = load_config(experiment, overrides)
    with new_folder(cfg, verbose) as folder:
        return _run(cfg, folder, name_of(experiment), quiet, begin)


def resume(
    folder: Path,
    experiment: str | Path = "",
    overrides: Sequence[str] = (),
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Go on with a standalone run, from its newest checkpoint.

    It ends with the numbers, bit for bit, of a run that was never
    interrupted.

    Args:
        folder: the run's.
        experiment: by default what the run was begun with.
        overrides: ``key value`` pairs.
        force: configuration, data, base model and plugins may have changed.
        quiet: show no progress.
        verbose: show the host's log.

    Returns:
        As ``run``.

    Raises:
        UserError: there is no such run, it has finished, its configuration
            has changed, or its checkpoint is damaged.
        RunError, Interrupted: as ``run``.

    """
    if not verbose:
        silence()
    begin = time.perf_counter()
    asked = asked_in(folder)
    if not asked.exists():
        raise UserError(
            f"{folder} holds no run to resume ({asked} is missing)"
        )
    old = load_config(asked)
    new = load_config(experiment or asked, overrides)
    if not force:
        check_unchanged(old, new)
        if (folder / "summary.json").exists():
            raise UserError(
                f"{folder} has finished; nothing is left to resume"
            )
    reason = why_not_resumable(new)
    if reason:
        raise UserError(f"a run with {reason} cannot be resumed")
    new.expname, new.outdir = old.expname, old.outdir
    cfg = new.clone()
    cfg.outdir = str(folder)
    with old_folder(folder, verbose):
        if cfg.wandb.use:
            from federatedscope.core.auxiliaries.logging import init_wandb

            init_wandb(cfg)
        return _run(cfg, folder, folder.name, quiet, begin, new, force)


def _run(
    cfg: Config,
    folder: Path,
    name: str,
    quiet: bool,
    begin: float,
    resumed: Config | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Everything that happens in the run's folder.

    Args:
        cfg: the configuration.
        folder: the run's.
        name: of the run, for the reader.
        quiet: show no progress.
        begin: when it began, by ``time.perf_counter``.
        resumed: what a run that goes on is now asked for, which is noted
            once its checkpoint is found to be good.
        force: what it was begun with may have changed.

    """
    for sentence in notes_on(cfg):
        note(sentence)
    facts = _facts(cfg)
    try:
        runner = build_runner(cfg)
        if is_client(cfg):
            runner.run()
            save_adapters(runner, folder / "adapters")
            problem = check_saved(runner, folder / "adapters")
            if problem:
                raise RunError(problem)
            return {"outdir": str(folder)}
        recorder = Recorder(cfg, facts)
        checkpoints = Checkpoints(runner, recorder)
        stops = Stops(cfg, checkpoints)
        is_resumable = not why_not_resumable(cfg)
        run = LiveRun(
            runner,
            [
                recorder,
                *progress_for(name, facts["rounds"], quiet),
                *tracker_for(cfg, folder),
                *listeners_of(cfg.fedsa.plugins),
                *([checkpoints, stops] if is_resumable else []),
            ],
            pauses=is_resumable,
        )
        if resumed is not None:
            checkpoints.restore(force)
            remember(resumed, folder)
            (folder / "summary.json").unlink(missing_ok=True)
        with _wandb_ends(cfg):
            try:
                _run_rounds(run, checkpoints, stops, is_resumable)
            finally:
                save_adapters(runner, folder / "adapters")
        seconds = time.perf_counter() - begin
        try:  # a run that is killed meanwhile has not finished
            problem = check_saved(runner, folder / "adapters")
        finally:
            summary = recorder.finish(seconds)
        if problem:
            raise RunError(problem)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise RunError(
            f"{error.filename or folder} cannot be written: {error.strerror}; "
            f"once it can, 'fedsa run --resume {folder}' goes on"
        ) from error
    return summary | {"outdir": str(folder)}


def _run_rounds(
    run: LiveRun, checkpoints: Checkpoints, stops: Stops, is_resumable: bool
) -> None:
    """Run; what fails can go on later, if it can at all."""
    if not is_resumable:
        run.run()
        return
    try:
        with stops.listening():
            run.run()
    except RunError as error:
        checkpoints.write()
        raise RunError(
            f"{error}; 'fedsa run --resume {run.cfg.outdir}' goes on from "
            "there"
        ) from error


@contextlib.contextmanager
def _wandb_ends(cfg: Config) -> Iterator[None]:
    """The host begins W&B's run and never ends it."""
    try:
        yield
    finally:
        if cfg.wandb.use:
            import wandb

            wandb.finish()


def silence() -> None:
    """Keep the host's log off the screen; its file gets it all."""
    log = logging.getLogger("federatedscope")
    log.handlers = [logging.NullHandler()]
    log.propagate = False


def build_runner(cfg: Config) -> Runner:
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
    # Once told their number, MKL's threads stay as many: else it may take
    # fewer for a product, which then rounds otherwise.
    torch.set_num_threads(torch.get_num_threads())
    try:
        data, modified = get_data(config=cfg.clone(), client_cfgs=None)
        update(cfg, modified)
        check_metrics(cfg)
        only = cfg.federate.client_idx_for_local_train
        if only:
            cfg.federate.client_num = 1
            data = {0: data.get(0), 1: data[only]}
        cfg.freeze()
        runner = cast(
            Runner,
            get_runner(
                data=data,
                server_class=get_server_cls(cfg),
                client_class=get_client_cls(cfg),
                config=cfg.clone(),
                client_configs=None,
            ),
        )
        check_batches(runner)
        return runner
    except UserError:
        raise
    except (ValueError, AssertionError, FileNotFoundError) as error:
        raise UserError(one_line(error)) from error


def _facts(cfg: Config) -> dict[str, Any]:
    """What the summary says of a run before it has run."""
    host, method = find_host(), cfg.federate.method
    return {
        "schema": 1,
        "method": method.lower() if is_ours(cfg) else method,
        "aggregator": cfg.fedsa.aggregator if is_ours(cfg) else None,
        "adapter": variant_of(adapter_args(cfg)),
        "host": host.name,
        "host_version": host.version,
        "model": cfg.model.type,
        "data": cfg.data.type,
        "clients": cfg.federate.client_num,
        "rounds": cfg.federate.total_round_num,
        "seed": cfg.seed,
    }
