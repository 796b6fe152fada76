"""An experiment's folder: made, locked, logged into, found again."""

import contextlib
import fcntl
import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fs_plugins.config.load import difference, nested
from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config

_FORMAT = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
# What a resumed run may change without another word: none of it has a
# say in the numbers.
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
)


def make_folder(out: Path) -> None:
    """Make the folder that ``--out`` names, if need be.

    Raises:
        UserError: it cannot be made.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out: {out} cannot be made: {error.strerror}"
        ) from error


@contextlib.contextmanager
def new_folder(cfg: Config, verbose: bool) -> Iterator[Path]:
    """The folder of a new run; gone again if the user's input was wrong.

    Args:
        cfg: ``outdir`` becomes the folder, as the host makes it.
        verbose: the log goes to the screen, too.

    Raises:
        UserError: it cannot be made.

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
            except OSError as error:
                raise UserError(
                    f"{folder} cannot be written to: {error.strerror}"
                ) from error
            yield folder
        except UserError:
            if not RunFolder(folder).has_evaluations:
                _remove(folder, above)
            raise


@contextlib.contextmanager
def old_folder(folder: Path, verbose: bool) -> Iterator[Path]:
    """The folder of a run that is resumed; its log goes on.

    Raises:
        UserError: it cannot be written to, or is in use.

    """
    log = logging.getLogger("federatedscope")
    with locked(folder):
        handler = logging.FileHandler(RunFolder(folder).log)
        handler.setFormatter(logging.Formatter(_FORMAT))
        log.handlers = [*log.handlers, handler] if verbose else [handler]
        log.setLevel(logging.INFO)
        with _logging_ends(log):
            yield folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, until this one ends.

    Raises:
        UserError: another one is in it, or it cannot be written to.

    """
    try:
        file = RunFolder(folder).lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror}"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"{folder} is in use by process {file.read().strip()}; wait "
                "for it to end, or choose another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def remember(cfg: Config, folder: Path) -> None:
    """Note what was asked for, so that the run can be resumed."""
    from federatedscope.core.configs.config import global_cfg

    RunFolder(folder).write_asked(nested(difference(global_cfg, cfg)))


def check_unchanged(old: Any, new: Any) -> None:
    """Refuse to resume a run with another configuration.

    Raises:
        UserError: names the keys.

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
            "they were, or add --force"
        )


@contextlib.contextmanager
def _logging_ends(log: logging.Logger) -> Iterator[None]:
    for handler in log.handlers:
        # A full disk is told once, by the command, not for every line.
        handler.handleError = _say_nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        for handler in log.handlers:
            with contextlib.suppress(OSError):
                handler.close()
        log.handlers = [logging.NullHandler()]


def _say_nothing(record: logging.LogRecord) -> None:
    """In place of a traceback."""


def _remove(folder: Path, above: Path) -> None:
    """Remove a folder, and those above it that were made for it."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.absolute().parents:
        if parent == above:
            return
        with contextlib.suppress(OSError):
            parent.rmdir()
