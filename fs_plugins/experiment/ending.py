"""How a run ends before its time, and what lets it go on."""

import contextlib
import errno
from collections.abc import Iterator

from fs_plugins.config.checks import why_not_resumable
from fs_plugins.errors import Interrupted, RunError
from fs_plugins.experiment.signals import Signals
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.settings import command_to_resume, is_client
from fs_plugins.state import state_of_last_run
from fs_plugins.worker.ours import is_our_client, participant_of

# The errors of a disk that is full or forbidden, and of misplaced folders.
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
)


def take_part(runner: Runner) -> None:
    """Take part in a distributed run as a client, until its end.

    Args:
        runner: the runner of a client's process, which has not run yet.

    Raises:
        UserError: the server refuses this client.
        RunError: the server is gone.
        Interrupted: Ctrl-C or SIGTERM has ended this client's part.

    """
    client = participant_of(runner)
    if not is_our_client(client):
        runner.run()
        return
    signals = Signals(lambda number: client.leave())
    try:
        with signals.listening():
            runner.run()
    except RunError as error:
        raise RunError(f"{error}; {how_to_go_on(runner.cfg)}") from error
    if client.final is None:
        raise Interrupted(
            f"left the run; {how_to_go_on(runner.cfg)}", signals.received[0]
        )


@contextlib.contextmanager
def disk_errors_explained(cfg: Config) -> Iterator[None]:
    """Say in one sentence that a run's files cannot be written.

    Args:
        cfg: the configuration of the run.

    Raises:
        RunError: the disk is full, read-only or forbidden.

    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise RunError(
            f"{error.filename or cfg.outdir} cannot be written: "
            f"{error.strerror}; once it can, {how_to_go_on(cfg)}"
        ) from error


def how_to_go_on(cfg: Config) -> str:
    """What lets a run go on that has ended before its time.

    Args:
        cfg: the configuration of the run.

    Returns:
        The end of a sentence.

    """
    if is_client(cfg):
        ID = cfg.distribute.data_idx
        kept = state_of_last_run(ID, {}, cfg)
        has_adapter = kept is not None and kept.has_received
        return "it takes part again when the run goes on" + (
            f", and 'fedsa export {cfg.outdir} --client {ID}' has its adapter "
            "so far"
            if has_adapter
            else ""
        )
    if why_not_resumable(cfg):
        return "the command that this run was started with begins it again"
    return f"'{command_to_resume(cfg)}' goes on"
