"""Makes, locks and reopens the folder of a run, and directs its log."""

import contextlib
import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fs_plugins.config.load import difference, nested
from fs_plugins.errors import UserError
from fs_plugins.experiment.folder_checks import check_kinds, check_links
from fs_plugins.experiment.reading import check_path
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.settings import is_distributed
from fs_plugins.state.locks import LockedError, lock_file

_FORCE, _ANEW = "add --force", "choose another expname"
_FORMAT = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
# The keys that a resumed run may change without --force, as the results do
# not depend on them.
_FREE = (
    "outdir",
    "expname",
    "expname_tag",
    "verbose",
    "wandb.use",
    "wandb.name_user",
    "wandb.name_project",
    "wandb.online_track",
    "fedsa.track",
    "print_decimal_digits",
    "fedsa.checkpoint.every",
    "fedsa.checkpoint.keep",
    "fedsa.state.backend",
    "fedsa.state.folder",
    "fedsa.state.cache",
    "fedsa.transport.wait",
    "fedsa.transport.lost_after",
    "distribute.server_host",
    "distribute.server_port",
)


def make_folder(out: Path) -> None:
    """Make the folder that ``--out`` names, unless it exists.

    Raises:
        UserError: the folder cannot be made.

    """
    check_path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out: {out} cannot be made: {error.strerror}"
        ) from error


@contextlib.contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Report what cannot be written into the folder that ``--out`` names.

    Raises:
        UserError: a file could not be written.

    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or out} cannot be written: "
            f"{error.strerror or error}"
        ) from error


@contextlib.contextmanager
def new_folder(cfg: Config, verbose: bool) -> Iterator[Path]:
    """Make the folder of a new run, lock it, and write the log to it.

    If a ``UserError`` ends the run before anything was trained, the folder is
    removed again.  What a run has trained is never removed.

    Args:
        cfg: the configuration, in which the host replaces ``outdir`` by the
            run's folder.
        verbose: whether the log is also shown on the screen.

    Raises:
        UserError: the folder cannot be made or written to.

    """
    from federatedscope.core.auxiliaries.logging import update_logger

    above = Path(cfg.outdir).absolute()
    while not above.exists():
        above = above.parent
    asked = cfg.clone()
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
    with _logging_ends(log), locked(folder):
        try:
            try:
                remember(asked, folder)
                # It has what errors and the data's loaders say of texts.
                RunFolder(folder).log.chmod(0o600)
            except OSError as error:
                raise UserError(
                    f"{folder} cannot be written to: {error.strerror}"
                ) from error
            yield folder
        except UserError:
            if not RunFolder(folder).holds_training:
                _remove(folder, above)
            raise


@contextlib.contextmanager
def old_folder(folder: Path, verbose: bool) -> Iterator[Path]:
    """Lock the folder of a run that is resumed, and continue its log.

    Args:
        folder: the run's folder.
        verbose: whether the log is also shown on the screen.

    Raises:
        UserError: the folder cannot be written to, is in use, or leads out
            of itself by links.

    """
    log = logging.getLogger("federatedscope")
    check_links(RunFolder(folder))
    check_kinds(RunFolder(folder))
    with locked(folder):
        handler = logging.FileHandler(RunFolder(folder).log)
        handler.setFormatter(logging.Formatter(_FORMAT))
        log.handlers = [*log.handlers, handler] if verbose else [handler]
        log.setLevel(logging.INFO)
        with _logging_ends(log):
            yield folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder.

    Raises:
        UserError: another process uses the folder, or it cannot be written
            to.

    """
    try:
        file = lock_file(RunFolder(folder).lock)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror}"
        ) from error
    except LockedError as error:
        raise UserError(
            f"{folder} is in use by process {error.process}; wait for it to "
            "end, or choose another folder"
        ) from None
    with file:
        yield


def remember(cfg: Config, folder: Path) -> None:
    """Save the configuration that was asked for, so that a run can resume.

    Args:
        cfg: the configuration.
        folder: the run's folder.

    """
    from federatedscope.core.configs.config import global_cfg

    RunFolder(folder).write_asked(nested(difference(global_cfg, cfg)))


def check_unchanged(old: Any, new: Any) -> None:
    """Refuse to resume a run with another configuration.

    Args:
        old: the configuration that the run was begun with.
        new: the configuration that it is resumed with.

    Raises:
        UserError: the configurations differ; names the keys.

    """
    changed = {
        key: value
        for key, value in difference(old, new).items()
        if key not in _FREE
    }
    if changed:
        keys = ", ".join(f"{k} (now {v!r})" for k, v in changed.items())
        raise UserError(
            f"the run was begun with other values of {keys}; leave them as "
            f"they were, or {_ANEW if is_distributed(new) else _FORCE}"
        )


@contextlib.contextmanager
def _logging_ends(log: logging.Logger) -> Iterator[None]:
    """Close the handlers of a log at the end."""
    for handler in log.handlers:
        # The command reports a full disk once, so the log does not report it
        # for every line.
        handler.handleError = _say_nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        for handler in log.handlers:
            with contextlib.suppress(OSError):
                handler.close()
        log.handlers = [logging.NullHandler()]


def _say_nothing(record: logging.LogRecord) -> None:
    """Ignore an error of logging, whose traceback would be printed."""


def _remove(folder: Path, above: Path) -> None:
    """Remove a folder and its parents, up to the folder ``above`` it."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.absolute().parents:
        if parent == above:
            return
        with contextlib.suppress(OSError):
            parent.rmdir()
