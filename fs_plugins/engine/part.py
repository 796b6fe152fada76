"""A participant's part in a run, from building it to its results."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.engine.site import Site, check_run, experiment_at
from fs_plugins.errors import Interrupted, RunError, UserError, first_line
from fs_plugins.experiment import runner
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.listeners import Listener
from fs_plugins.scope import RunScope

logger = logging.getLogger(__name__)


def folder_of(site: Site, run: str, name: str) -> Path:
    """The folder of a participant's results.

    Args:
        site: the site's own settings.
        run: the name of the run.
        name: the name of the site.

    Raises:
        UserError: the run has no name by which a folder can be called.

    """
    return site.folder / check_run(run) / check_run(name)


def take_part(
    site: Site,
    asked: Mapping[str, Any],
    folder: Path,
    ID: int,
    link: Any,
    listeners: Sequence[Listener] = (),
) -> Exception | None:
    """Take part in a run as its server or as a client, until the end.

    A part that was begun before goes on in the same folder.

    Args:
        site: the site's own settings.
        asked: what the job says of the run, by keys with dots.
        folder: the folder of the results.
        ID: the client's ID; 0 for the server.
        link: the ``comm_manager`` of the worker.
        listeners: listeners that are told of the run's events.

    Returns:
        The error that has ended the part; None if it went well.

    """
    overrides = {
        "outdir": str(folder.parent),
        "expname": folder.name,
        "federate.mode": "distributed",
        "federate.share_local_model": False,
        "distribute.use": True,
        "distribute.role": "client" if ID else "server",
        "distribute.data_idx": ID or -1,
    }
    scope = RunScope(communication=link)
    options: dict[str, Any] = {"listeners": listeners, "scope": scope}
    try:
        experiment = experiment_at(site, asked, ID)
        if ID and folder.exists():
            runner.rejoin(folder, experiment, overrides, **options)
        elif RunFolder(folder).asked.exists():
            runner.resume(
                folder, experiment, overrides, trust_plugins=True, **options
            )
        else:
            runner.run(experiment, overrides, **options)
    except (UserError, RunError, Interrupted) as error:
        logger.error("%s", error)
        return error
    except Exception as error:
        logger.exception("the run has failed")
        return RunError(f"{type(error).__name__}: {first_line(error)}")
    return None
