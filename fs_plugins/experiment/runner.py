"""Runs and resumes an experiment, and writes the results to its folder."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from fs_plugins.config.checks import notes_on, why_not_resumable
from fs_plugins.config.checks_of_modes import check_by_host
from fs_plugins.config.load import (
    Experiment,
    Overrides,
    load_config,
    name_of,
    one_line,
)
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.adapters import Trained, save_adapters
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.ending import disk_errors_explained, how_to_go_on
from fs_plugins.experiment.events import LiveRun
from fs_plugins.experiment.folder import (
    new_folder,
    old_folder,
    remember,
)
from fs_plugins.experiment.generations import keep_generations
from fs_plugins.experiment.loading import load_data
from fs_plugins.experiment.participation import participate
from fs_plugins.experiment.progress import progress_for
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.resuming import asked_again, to_resume
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.signals import Stops
from fs_plugins.experiment.summary import facts_of, stopped_early
from fs_plugins.experiment.track import tracker_for
from fs_plugins.experiment.trials import check_batches, check_saved
from fs_plugins.experiment.turns import taking_turns
from fs_plugins.host import find_host
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.listeners import Listener, listeners_of
from fs_plugins.model.given import args_of, is_adapted
from fs_plugins.notes import note
from fs_plugins.scope import RunScope, building
from fs_plugins.settings import is_client, is_distributed
from fs_plugins.terms import START_WITH_FEDERATE


def run(
    experiment: Experiment,
    overrides: Overrides = (),
    quiet: bool = False,
    verbose: bool = False,
    listeners: Sequence[Listener] = (),
    scope: RunScope | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Run an experiment on the host.

    Args:
        experiment: a YAML file of FederatedScope, perhaps with variations,
            or the content of such a file; see ``load_config``.
        overrides: ``key value`` pairs, or values by key.
        quiet: whether no progress is shown.
        verbose: whether the host's log is shown.
        listeners: listeners that are told of the run's events, in addition
            to those of the run itself.
        scope: the objects that the user hands to the run.
        name: what the progress calls the run; by default the name of the
            experiment.

    Returns:
        ``outdir``, the folder of the results, and the content of its
        ``summary.json``.  In the process of a client in distributed mode
        these are the client's own results.

    Raises:
        UserError: the input is wrong; no folder is left behind.
        RunError: the run cannot go on; the trained adapters are saved.
        Interrupted: Ctrl-C or SIGTERM stopped the run between two rounds.

    """
    begin = time.perf_counter()
    with taking_turns() as turns:
        if not verbose:
            silence()
        cfg = _adopting(load_config(experiment, overrides), scope)
        _check_begun_well(cfg, scope)
        name = name or name_of(experiment)
        if is_distributed(cfg):
            turns.end()  # Its participants wait for each other.
        with new_folder(cfg, verbose) as folder:
            return _run(
                _Job(cfg, folder, name, begin, quiet, [*listeners, turns]),
                scope,
            )


def resume(
    folder: Path,
    experiment: Experiment = "",
    overrides: Overrides = (),
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    listeners: Sequence[Listener] = (),
    scope: RunScope | None = None,
    trust_plugins: bool = False,
) -> dict[str, Any]:
    """Resume a run from its newest checkpoint.

    The results are bit for bit those of a run that was never interrupted.  A
    distributed run is resumed by its server; its clients join again.

    Args:
        folder: the run's folder.
        experiment: the experiment as in ``run``; by default the one that the
            run was begun with.
        overrides: ``key value`` pairs, or values by key.
        force: whether configuration, data, base model and plugins may have
            changed.
        quiet: whether no progress is shown.
        verbose: whether the host's log is shown.
        listeners: listeners that are told of the run's events, in addition
            to those of the run itself.
        scope: the objects that the user hands to the run.
        trust_plugins: whether plugins that the run's folder names are
            imported, even if ``experiment`` and ``overrides`` do not name
            them.

    Returns:
        The same as ``run``.

    Raises:
        UserError: there is no such run, it has finished, its configuration
            has changed, its checkpoint is damaged, or it names plugins that
            are not trusted.
        RunError: the run cannot go on; the trained adapters are saved.
        Interrupted: Ctrl-C or SIGTERM stopped the run between two rounds.

    """
    begin = time.perf_counter()
    with taking_turns() as turns:
        if not verbose:
            silence()
        old, new = asked_again(folder, experiment, overrides, trust_plugins)
        cfg, asked = to_resume(folder, old, _adopting(new, scope), force)
        if is_distributed(cfg):
            turns.end()  # Its participants wait for each other.
        with old_folder(folder, verbose):
            if cfg.wandb.use:
                from federatedscope.core.auxiliaries.logging import init_wandb

                init_wandb(cfg)
            job = _Job(
                cfg,
                folder,
                folder.name,
                begin,
                quiet,
                [*listeners, turns],
                asked,
                force,
            )
            return _run(job, scope)


def rejoin(
    folder: Path,
    experiment: Experiment,
    overrides: Overrides = (),
    quiet: bool = False,
    verbose: bool = False,
    listeners: Sequence[Listener] = (),
    scope: RunScope | None = None,
) -> dict[str, Any]:
    """Take part in a distributed run again, as a client that was away.

    Args:
        folder: the client's folder.
        experiment: the experiment as in ``run``.
        overrides: ``key value`` pairs, or values by key.
        quiet: whether no progress is shown.
        verbose: whether the host's log is shown.
        listeners: listeners that are told of the run's events.
        scope: the objects that the user hands to the run.

    Returns:
        The same as ``run``.

    Raises:
        UserError: the input is wrong.
        RunError: the server is gone.
        Interrupted: the client's part was ended before the run was over.

    """
    begin = time.perf_counter()
    if not verbose:
        silence()
    cfg = load_config(experiment, overrides)
    cfg.outdir = str(folder)
    with old_folder(folder, verbose):
        job = _Job(cfg, folder, folder.name, begin, quiet, listeners)
        return _run(job, scope)


def _check_begun_well(cfg: Config, scope: RunScope | None) -> None:
    """Refuse a distributed run of which nobody carries the messages."""
    carried = scope is not None and scope.given.get("communication")
    if is_distributed(cfg) and not (carried or cfg.fedsa.transport.unsafe):
        raise UserError(START_WITH_FEDERATE)


def _adopting(cfg: Config, scope: RunScope | None) -> Config:
    """Set the adapter's arguments to those of a PEFT model handed to the run.

    Without such a model the configuration stays as it is.
    """
    model = scope.given.get("model") if scope else None
    if model is None or not is_adapted(model):
        return cfg
    cfg.llm.adapter.args = [args_of(model)]
    check_by_host(cfg)
    return cfg


@dataclass(frozen=True)
class _Job:
    """A run that is about to be built.

    Attributes:
        cfg: the configuration.
        folder: the run's folder.
        name: the name of the run, which is shown.
        begin: the time at which the run began, by ``time.perf_counter``.
        quiet: whether no progress is shown.
        listeners: listeners that are told of events after the run's own.
        resumed: the configuration that a resumed run was asked for.  It is
            saved once the checkpoint has proved to be good.  None for a new
            run.
        force: whether configuration, data, base model and plugins may have
            changed since the run began.

    """

    cfg: Config
    folder: Path
    name: str
    begin: float
    quiet: bool
    listeners: Sequence[Listener]
    resumed: Config | None = None
    force: bool = False


def _run(job: _Job, scope: RunScope | None) -> dict[str, Any]:
    """Run a job in its folder, from building the runner to the summary."""
    cfg, folder = job.cfg, job.folder
    for sentence in notes_on(cfg):
        note(sentence)
    files, host = RunFolder(folder), find_host()
    facts = facts_of(cfg, {"host": host.name, "host_version": host.version})
    with disk_errors_explained(cfg):
        runner = build_runner(cfg, scope)
        keep_generations(runner, files)
        shown = (job.name, facts["rounds"], job.quiet, is_client(cfg))
        showing = [*progress_for(*shown), *tracker_for(cfg, folder)]
        if is_client(cfg):
            summary = participate(runner, facts, showing, job.begin, job.quiet)
            return summary | {"outdir": str(folder)}
        recorder = Recorder(cfg, facts)
        checkpoints = Checkpoints(runner, recorder)
        stops = Stops(cfg, checkpoints)
        is_resumable = not why_not_resumable(cfg)
        trained = Trained(job.resumed is not None)
        run = LiveRun(
            runner,
            [
                recorder,
                trained,
                *showing,
                *listeners_of(cfg.fedsa.plugins),
                *([checkpoints, stops] if is_resumable else []),
                *job.listeners,
            ],
            pauses=is_resumable,
        )
        if job.resumed is not None:
            checkpoints.restore(job.force)
            remember(job.resumed, folder)
            files.remove_summary()
        with _wandb_ends(cfg):
            try:
                _run_rounds(run, checkpoints, stops, is_resumable)
            finally:
                if trained.anything:
                    save_adapters(runner, files.adapters, trained.rounds)
        seconds = time.perf_counter() - job.begin
        try:
            # The summary comes last, so that a run that is killed during the
            # check does not count as finished.
            problem = check_saved(runner, files.adapters)
        finally:
            summary = recorder.finish(seconds)
        if "stopped_early" in summary:
            note(stopped_early(summary))
        if problem:
            raise RunError(problem)
    return summary | {"outdir": str(folder)}


def _run_rounds(
    run: LiveRun, checkpoints: Checkpoints, stops: Stops, is_resumable: bool
) -> None:
    """Run all rounds; if the run fails, write a checkpoint where possible."""
    if not is_resumable:
        run.run()
        return
    try:
        with stops.listening():
            run.run()
    except RunError as error:
        if run.times_clients:
            # A distributed server may be in the middle of a round, and has
            # written a checkpoint after the last one.
            checkpoints.write()
        raise RunError(f"{error}; {how_to_go_on(run.cfg)}") from error


@contextlib.contextmanager
def _wandb_ends(cfg: Config) -> Iterator[None]:
    """End the run of Weights & Biases, which the host only begins."""
    try:
        yield
    finally:
        if cfg.wandb.use:
            import wandb

            wandb.finish()


def silence() -> None:
    """Keep the host's log off the screen; its file still has all of it."""
    log = logging.getLogger("federatedscope")
    log.handlers = [logging.NullHandler()]
    log.propagate = False


def build_runner(cfg: Config, scope: RunScope | None = None) -> Runner:
    """Load the data and build the runner, in the host's order.

    Args:
        cfg: the configuration, into which the changes by the data are
            merged.
        scope: the objects that the user hands to the run.

    Returns:
        The host's runner, which has not run yet.

    Raises:
        UserError: the input is wrong.

    """
    from federatedscope.core.auxiliaries.runner_builder import get_runner
    from federatedscope.core.auxiliaries.worker_builder import (
        get_client_cls,
        get_server_cls,
    )

    # With an explicit number MKL always uses that many threads.  Otherwise it
    # may use fewer for a product, which changes the rounding.
    torch.set_num_threads(torch.get_num_threads())
    try:
        with building(scope or RunScope()):
            data = load_data(cfg)
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
