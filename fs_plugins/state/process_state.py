"""What a client keeps that is a process of its own, in distributed mode."""

import logging
from pathlib import Path
from typing import TextIO

from fs_plugins.errors import RunError, UserError
from fs_plugins.state.client_state import Cache, StateOnDisk
from fs_plugins.state.files import (
    ensure_private,
    link_file,
    read_facts,
    read_tensors,
    remove_parts,
    write_tensors,
)
from fs_plugins.state.locks import LockedError, lock_file
from fs_plugins.wire import Spec, Tensors

logger = logging.getLogger("federatedscope.fs_plugins")
_ROUND, _BEFORE = "round", "before"  # facts in a client's file


class StateOfProcess(StateOnDisk):
    """The state of a client whose process may end and start again.

    A process locks the state for as long as it takes part, so that no second
    process of the client writes it.  Where the file system knows no locks,
    the number of the round in the file shows what another process has
    written, which is never replaced.

    The state from before the newest round is kept in a file of its own.  A
    server that is started again may repeat a round that the client has
    trained already; the client then trains from the same values as before.

    Args:
        initial: the values that every client starts from.
        file: the client's file; ``open`` reads it.
        cache: the cache of files.

    Attributes:
        round: the round that has trained the values, counted from 1; at 0
            they have their initial values.

    """

    def __init__(self, initial: Tensors, file: Path, cache: Cache) -> None:
        super().__init__(initial, file, cache)
        self.round = 0
        self._before = 0  # the round of the state that was trained from
        self._training = 0
        self._previous = _beside(file, "previous.safetensors")
        self._received = _beside(file, "received.safetensors")
        self._lock: TextIO | None = None

    def open(self) -> None:
        """Lock the state, and continue from an earlier process's file.

        Raises:
            UserError: another process of this client keeps the state, or the
                file is damaged or of another model.

        """
        ensure_private(self.file.parent)
        try:
            self._lock = lock_file(_beside(self.file, "process"))
        except LockedError as error:
            raise UserError(
                f"{self.file} is kept by process {error.process} of the same "
                "client; wait for it to end, or end it"
            ) from None
        for file in (self.file, self._previous, self._received):
            remove_parts(file.parent, file.name)
        self.find()

    def find(self) -> None:
        """Continue from the file of an earlier process, if there is one.

        Raises:
            UserError: the file is damaged or of another model.

        """
        try:
            super().find()
        except UserError as error:
            if not self._previous.exists():
                raise
            raise UserError(
                f"{error} ({self._previous.name} is of the round before)"
            ) from error
        self._note_rounds()

    def close(self) -> None:
        """Let other processes of the client have the state."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, rnd: int) -> None:
        """Go back to the values from before a round that is repeated.

        Args:
            rnd: the round that is going to be trained, counted from 1.

        Raises:
            RunError: another process has written the file.

        """
        self._training = rnd
        if self.round < rnd:
            return
        self._check_untouched()
        if not self._before:
            self.forget()
            self.round = 0
        elif self._before < rnd and self._has_previous():
            self.restore(self._previous)
            self._note_rounds()
        else:
            logger.warning(
                "round %d begins with what round %d has trained, as there is "
                "nothing older",
                rnd,
                self.round,
            )

    def receive(self, shared: Tensors) -> None:
        """Write the server's parameters, for an export of the adapter.

        Args:
            shared: the parameters that the client has received last.

        """
        write_tensors(self._received, shared)

    @property
    def has_received(self) -> bool:
        """Whether the server's parameters have arrived at least once."""
        return self._received.exists()

    def received(self, spec: Spec, free: str) -> Tensors:
        """The server's parameters that were received last.

        Args:
            spec: the names, shapes and types that are expected.
            free: a prefix of the names of tensors that may be there, too.

        Raises:
            UserError: there are none, or the file is damaged or of another
                model.

        """
        return read_tensors(self._received, spec, free)

    @property
    def newest_round(self) -> int:
        """The round that the client's file says that it is of."""
        return _rounds_in(self.file)[0]

    def _store(self, tensors: Tensors) -> None:
        self._check_untouched()
        if self.version:
            link_file(self.file, self._previous)
        self._cache.drop(self.file)
        rounds = {_ROUND: str(self._training), _BEFORE: str(self.round)}
        write_tensors(self.file, tensors, rounds)
        self._before, self.round = self.round, self._training

    def _note_rounds(self) -> None:
        """Note the rounds that the file names."""
        self.round, self._before = _rounds_in(self.file)

    def _has_previous(self) -> bool:
        """Whether the values that the newest round began with are there."""
        try:
            read_tensors(self._previous)
            return _rounds_in(self._previous)[0] == self._before
        except UserError as error:
            logger.warning("%s", error)
            return False

    def _check_untouched(self) -> None:
        """Refuse to replace a file that another process has written."""
        if not self.file.exists():
            return
        found, _ = _rounds_in(self.file)
        if found != self.round:
            raise RunError(
                f"{self.file} is of round {found} by another process of this "
                f"client, and here it was of round {self.round}: this process "
                "ends, and leaves the file as it is"
            )


def _beside(file: Path, ending: str) -> Path:
    """The file of the same client with another ending."""
    return file.with_name(f"{file.stem}.{ending}")


def _rounds_in(file: Path) -> tuple[int, int]:
    """The rounds of a file's values, and of those that it was trained from.

    Both are 0 without a file, or if the file names none.
    """
    if not file.exists():
        return 0, 0
    facts = read_facts(file)
    try:
        return int(facts.get(_ROUND, 0)), int(facts.get(_BEFORE, 0))
    except ValueError:
        raise UserError(
            f"{file} cannot be used: its round is no number"
        ) from None
