"""``fedsa federate`` and ``fedsa job``: runs on NVIDIA FLARE."""

import contextlib
import json
import re
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fs_plugins.config.load import (
    Experiment,
    Overrides,
    difference,
    load_config,
    nested,
)
from fs_plugins.data.own import files_of_clients
from fs_plugins.engine.job import write_job
from fs_plugins.engine.kit import absolute
from fs_plugins.engine.outcome import ENDED, SERVER, Outcome
from fs_plugins.engine.simulation import LOG, Simulation
from fs_plugins.engine.site import check_run
from fs_plugins.errors import Interrupted, RunError, UserError, shown
from fs_plugins.experiment.folder import make_folder
from fs_plugins.experiment.progress import progress_for
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.terms import BY_FILE

JOB = "job"  # the folder of the job, in that of the run
RUN = "run.json"  # its name and sites
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Environment(Protocol):
    """Where a job runs."""

    def run(
        self, job: Path, sites: Sequence[str], needed: int
    ) -> Iterator[dict[str, Any]]:
        """Run a job to its end; yields lines of results as they come.

        Args:
            job: the folder of the job.
            sites: the sites that the job names.
            needed: how many of them it needs.

        """

    def outcome(self) -> Outcome | None:
        """How the job has ended; None if its server has not said it."""


def on_this_machine(
    experiment: Experiment,
    number: int,
    overrides: Overrides = (),
    gpus: Sequence[int] = (),
    resume: bool = False,
    quiet: bool = False,
) -> Path:
    """Run an experiment with a process for each site, on this machine.

    Args:
        experiment: the experiment, as ``fs_plugins.run`` takes it.
        number: how many sites there are; 0 leaves it to the configuration.
        overrides: ``key value`` pairs, or values by key.
        gpus: the numbers of the GPUs, which the sites get in turn.
        resume: whether an earlier run of the same name goes on.
        quiet: whether no progress is shown.

    Returns:
        The folder of the server's results.

    Raises:
        UserError: the input is wrong.
        RunError: the run has failed.
        Interrupted: Ctrl-C or SIGTERM has ended it.

    """
    cfg = load_config(experiment, _with_number(overrides, number))
    sites = _simulated_sites(cfg, number)
    of_clients: list[dict[str, Any]] = [{} for _ in sites]
    if cfg.data.splitter == BY_FILE:
        family = cfg.data.type.rpartition("@")[2]
        files = files_of_clients(cfg).values()
        for own, file in zip(of_clients, files, strict=True):
            own["data.type"] = f"{file}@{family}"
    for index, own in enumerate(of_clients if gpus else ()):
        own |= {"use_gpu": True, "device": gpus[index % len(gpus)]}
    folder = Path(cfg.outdir) / check_run(cfg.expname)
    if not resume:
        _forget_attempt(folder, [SERVER, *sites])
    _check_new(folder, resume)
    make_folder(folder)
    job = folder / JOB
    lost_after = float(cfg.fedsa.transport.lost_after)
    asked = _asked(cfg, sites, is_here=True)
    write_job(job, asked, sites, folder.name, lost_after=lost_after)
    lines = Simulation(folder, of_clients)
    _follow(lines, (job, sites, len(sites)), cfg, quiet, f"see {folder / LOG}")
    return folder / SERVER


def on_a_federation(
    experiment: Experiment,
    kit: Path,
    overrides: Overrides = (),
    needed: int = 0,
    resume: bool = False,
    quiet: bool = False,
) -> Path:
    """Run an experiment at the sites of a federation of NVIDIA FLARE.

    Args:
        experiment: the experiment, as ``fs_plugins.run`` takes it.
        kit: the startup kit of the one who asks for the run.
        overrides: ``key value`` pairs, or values by key.
        needed: how many sites the run needs to go on; 0 stands for all.
        resume: whether an earlier run of the same name goes on.
        quiet: whether no progress is shown.

    Returns:
        The folder of the server's results.

    Raises:
        UserError: the input is wrong, or the user may not ask for a run.
        RunError: the run has failed; ``resume`` goes on with it.
        Interrupted: Ctrl-C; the job goes on without its user.

    """
    from fs_plugins.engine.production import Production

    cfg = load_config(experiment, overrides)
    folder = Path(cfg.outdir) / check_run(cfg.expname)
    _check_new(folder, resume)
    wait = float(cfg.fedsa.transport.wait)
    with contextlib.closing(Production(kit, folder, wait)) as federation:
        before = _begun(folder) if resume else {}
        sites = before.get("sites") or _sites_of(cfg, federation.sites())
        _check_needed(needed, sites)
        make_folder(folder)
        job = folder / JOB
        run = before.get("run") or _new_name(folder, sites)
        asked = _asked(cfg, sites, is_here=False)
        lost_after = float(cfg.fedsa.transport.lost_after)
        write_job(job, asked, sites, run, needed, lost_after)
        needed = needed or len(sites)
        try:
            _follow(
                federation, (job, sites, needed), cfg, quiet, "nothing is lost"
            )
        except KeyboardInterrupt:
            raise Interrupted(
                "the job goes on without you; --resume shows it again",
                signal.SIGINT,
            ) from None
    return folder / SERVER


def job_of(
    experiment: Experiment,
    sites: Sequence[str],
    out: Path,
    overrides: Overrides = (),
    needed: int = 0,
) -> None:
    """Write the job of a run, for those who hand it to FLARE themselves.

    Args:
        experiment: the experiment, as ``fs_plugins.run`` takes it.
        sites: the names of the sites, if the experiment does not have them.
        out: the folder of the job.
        overrides: ``key value`` pairs, or values by key.
        needed: how many sites the run needs to go on; 0 stands for all.

    Raises:
        UserError: the input is wrong, or the folder exists.

    """
    cfg = load_config(experiment, overrides)
    sites = _sites_of(cfg, sites)
    _check_names(sites)
    _check_needed(needed, sites)
    if out.exists():
        raise UserError(f"--out: {out} exists already")
    make_folder(out)
    run = f"{check_run(cfg.expname)}-{secrets.token_hex(4)}"
    lost_after = float(cfg.fedsa.transport.lost_after)
    asked = _asked(cfg, sites, is_here=False)
    write_job(out, asked, sites, run, needed, lost_after)


def _new_name(folder: Path, sites: Sequence[str]) -> str:
    """A name for a run among all of a federation, noted with its sites."""
    name = f"{folder.name}-{secrets.token_hex(4)}"
    text = json.dumps({"run": name, "sites": [*sites]})
    (folder / RUN).write_text(text, encoding="utf-8")
    return name


def _begun(folder: Path) -> dict[str, Any]:
    """The name and the sites of a run that was begun before."""
    try:
        found = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return {"run": found["run"], "sites": list(map(str, found["sites"]))}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / RUN} cannot be read; it has the run's name and sites"
        ) from None


def _check_needed(needed: int, sites: Sequence[str]) -> None:
    """Refuse a number of sites that cannot be had."""
    if not 0 <= needed <= len(sites):
        raise UserError(
            f"--min-sites: it is {needed}, and there are {len(sites)} sites"
        )


def _sites_of(cfg: Config, connected: Sequence[str]) -> list[str]:
    """The sites that take part, in the order of their clients' IDs."""
    if cfg.data.splitter != BY_FILE:
        raise UserError(
            "data.splitter: must be files, as each site has data of its own"
        )
    sites = list(map(str, cfg.fedsa.data.clients)) or list(connected)
    number = cfg.federate.client_num or len(sites)
    if not sites or number != len(sites):
        raise UserError(
            f"federate.client_num: it is {number}, and there are {len(sites)} "
            f"sites ({', '.join(sites) or 'none is connected'}); name those "
            "that take part in fedsa.data.clients"
        )
    return sites


def _with_number(overrides: Overrides, number: int) -> Overrides:
    """The overrides, with the number of sites if it is not 0."""
    key = "federate.client_num"
    if not number:
        return overrides
    if isinstance(overrides, Mapping):
        return {**overrides, key: number}
    return [*overrides, key, str(number)]


def _forget_attempt(folder: Path, names: Sequence[str]) -> None:
    """Remove what an attempt has left that has trained nothing.

    Args:
        folder: the folder of the run.
        names: the names of its participants.

    """
    parts = [RunFolder(folder / name) for name in names]
    is_ours = (folder / JOB / "meta.json").exists()
    if is_ours and not any(part.holds_training for part in parts):
        for part in (folder / JOB, *(part.path for part in parts)):
            shutil.rmtree(part, ignore_errors=True)


def _check_new(folder: Path, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    was_there = (folder / JOB).exists()
    if resume and not was_there:
        raise UserError(f"{folder} holds no federated run to resume")
    if was_there and not resume:
        raise UserError(
            f"{folder} holds a run already; add --resume to go on with it, "
            "or choose another expname"
        )
    if resume and RunFolder(folder / SERVER).is_finished:
        raise UserError(f"{folder} has finished; nothing is left to resume")


def _follow(
    environment: Environment,
    job: tuple[Path, Sequence[str], int],
    cfg: Config,
    quiet: bool,
    where: str,
) -> None:
    """Run a job, show its progress, and say how it has ended.

    Args:
        environment: where the job runs.
        job: the folder of the job, its sites, and how many it needs.
        cfg: the configuration.
        quiet: whether no progress is shown.
        where: where one can see what has happened.

    Raises:
        UserError: a participant refuses the input.
        RunError: the run has failed.

    """
    shows = progress_for(cfg.expname, cfg.federate.total_round_num, quiet)
    for line in environment.run(*job):
        for each in shows:
            each.round_begins(line["round"], 0)
            each.recorded(line)
    outcome = environment.outcome()
    if outcome is None:
        raise RunError(f"the server's process has ended; {where}")
    if outcome.kind == "wrong input":
        raise UserError(outcome.sentence)
    if outcome.kind == ENDED:
        raise Interrupted(f"{outcome.sentence}; {where}", signal.SIGTERM)
    if outcome.kind != "finished":
        raise RunError(f"{outcome.sentence}; {where}")


def _simulated_sites(cfg: Config, number: int) -> list[str]:
    """The names of the sites of a run on this machine."""
    names = list(map(str, cfg.fedsa.data.clients))
    if not names and cfg.data.splitter == BY_FILE:
        names = list(files_of_clients(cfg))
    number = number or len(names) or cfg.federate.client_num
    if not number:
        raise UserError("federate: say with --sites how many sites there are")
    names = names or [f"site-{i}" for i in range(1, number + 1)]
    for count, what in (
        (number, "--sites"),
        (cfg.federate.client_num, "federate.client_num"),
    ):
        if count not in (0, len(names)):
            raise UserError(
                f"{what}: it is {count}, and there are {len(names)} clients"
            )
    _check_names(names)
    return names


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not _SITE.fullmatch(name) or name.lower() == SERVER:
            raise UserError(
                f"fedsa.data.clients: {shown(name)} cannot be the name of a "
                "site; it may have letters, digits, '-', '_' and '.'"
            )


def _asked(
    cfg: Config, sites: Sequence[str], is_here: bool
) -> Mapping[str, Any]:
    """What the job says of the run.

    Args:
        cfg: the configuration of the one who asks for the run.
        sites: the names of the sites.
        is_here: whether the sites are processes on this machine.

    """
    from federatedscope.core.configs.config import global_cfg

    values = difference(global_cfg, cfg)
    values["federate.client_num"] = len(sites)
    if cfg.data.splitter == BY_FILE:
        values["fedsa.data.clients"] = [*sites]
    if is_here:
        for key in ("data.type", "model.type", "data.root"):
            if key in values:
                values[key] = absolute(str(values[key]))
    return nested(values)
