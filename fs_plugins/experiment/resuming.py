"""What a resumed run is asked for."""

from pathlib import Path

from fs_plugins.config.checks import why_not_resumable
from fs_plugins.config.load import Experiment, Overrides, load_config
from fs_plugins.errors import UserError
from fs_plugins.experiment.ending import how_to_go_on
from fs_plugins.experiment.folder import check_unchanged
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.settings import is_client


def asked_again(
    folder: Path,
    experiment: Experiment,
    overrides: Overrides,
    trust_plugins: bool,
) -> tuple[Config, Config]:
    """What a run was asked for when it began, and what it is asked for now.

    The plugins that the user names are imported first: of those, the run's
    folder may name any.

    Args:
        folder: the run's folder.
        experiment: the experiment that the user names, or ``""``.
        overrides: what the user changes.
        trust_plugins: whether the plugins that the run's folder names are
            imported, too.

    Raises:
        UserError: a configuration cannot be used, or the folder names
            plugins that are not trusted.

    """
    files = RunFolder(folder)
    files.check_asked()
    new = (
        load_config(experiment, overrides)
        if experiment
        else load_config(files.asked, overrides, trust_plugins)
    )
    return files.load_asked(trust_plugins), new


def to_resume(
    folder: Path, old: Config, new: Config, force: bool
) -> tuple[Config, Config]:
    """The configuration of a resumed run, and what it is asked for.

    The two differ in ``outdir``: the run's folder, or the folder above it.

    Args:
        folder: the run's folder.
        old: what the run was asked for when it began.
        new: what it is asked for now.
        force: whether the two may differ.

    Raises:
        UserError: they differ, or such a run cannot be resumed.

    """
    if is_client(old):
        raise UserError(
            f"{folder} is that of a client in a distributed run; "
            f"{how_to_go_on(old)}"
        )
    if not force:
        check_unchanged(old, new)
        if RunFolder(folder).is_finished:
            raise UserError(
                f"{folder} has finished; nothing is left to resume"
            )
    reason = why_not_resumable(new)
    if reason:
        raise UserError(f"a run with {reason} cannot be resumed")
    new.expname, new.outdir = old.expname, old.outdir
    cfg = new.clone()
    cfg.outdir = str(folder)
    return cfg, new
