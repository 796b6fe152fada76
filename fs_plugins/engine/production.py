"""Runs a job on a federation of NVIDIA FLARE, as one of its users."""

import contextlib
import json
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nvflare.apis.job_def import RunStatus
from nvflare.fuel.flare_api import api_spec
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from fs_plugins.engine.outcome import (
    ENDED,
    RESULTS,
    SERVER,
    STATS,
    Outcome,
    read_outcome,
)
from fs_plugins.errors import RunError, UserError, first_line
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.notes import note

T = TypeVar("T")
_PAUSE = 1.0  # seconds between two looks at the job
_LOGIN = 10.0  # seconds for one attempt to log in
_VANISHED = 10.0  # seconds without a job that is said to run
_ATTEMPTS = 3  # at one round
_OVER = "FINISHED"  # the status of a job that has ended begins so
# The server is away, or has been started again.
_AWAY = (
    api_spec.NoConnection,
    api_spec.SessionClosed,
    api_spec.InternalError,
    api_spec.NoReply,
    ConnectionError,
    TimeoutError,
)
_WRONG = (
    api_spec.InvalidArgumentError,
    api_spec.InvalidJobDefinition,
    api_spec.InvalidTarget,
    api_spec.NoClientsAvailable,
)
_FORBIDDEN = (api_spec.AuthenticationError, api_spec.AuthorizationError)


class Production:
    """A federation, as the owner of an admin's startup kit sees it.

    Args:
        kit: the admin's startup kit.
        folder: the folder of the run, which gets the server's results.
        wait: for how many seconds sites and server are waited for.

    Raises:
        UserError: the folder is not such a kit.

    """

    def __init__(self, kit: Path, folder: Path, wait: float) -> None:
        self._kit, self._folder, self._wait = kit, folder, wait
        self._user = _user_of(kit)
        # FLARE logs each attempt to reach a server that is away.
        logging.getLogger().addHandler(logging.NullHandler())
        self._session: Session | None = None
        self._outcome: Outcome | None = None
        self._job = folder / "job_id"
        self._token = folder / "submit_token"
        self._ending = ""  # the status of the job that has ended last
        # since when the server has not named a job that it says is running
        self._unseen: float | None = None
        self._newest = 0  # the newest round that has results

    def sites(self) -> list[str]:
        """The names of the sites that are connected, sorted.

        Raises:
            UserError: the federation does not let this user in.
            RunError: the server cannot be reached.

        """
        info = self._ask(lambda session: session.get_system_info())
        return sorted(client.name for client in info.client_info)

    def run(
        self, job: Path, sites: Sequence[str], needed: int
    ) -> Iterator[dict[str, Any]]:
        """Run a job to its end; after a loss, run what is left of it again.

        Args:
            job: the folder of the job.
            sites: the sites that the job names.
            needed: how many of them must be connected.

        Yields:
            The lines of results, as they come.

        Raises:
            UserError: the federation does not let this user in.
            RunError: the server or too many sites stay away.

        """
        attempts, reached = 0, 0
        while True:
            ID = self._running() or self._submit(job, sites, needed)
            yield from self._watch(ID)
            self._fetch(ID)
            yield from self._rest()
            if not self._may_go_on():
                return
            attempts = 0 if self._newest > reached else attempts + 1
            reached = self._newest
            if attempts >= _ATTEMPTS:
                return
            note(f"{self._why()}; the run goes on from its last round")

    def outcome(self) -> Outcome | None:
        """How the job has ended; None if its server has not said it."""
        return self._outcome

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            with contextlib.suppress(Exception):
                self._session.close()
            self._session = None

    def _running(self) -> str:
        """The ID of the run's job that has not ended; empty if all have."""
        if not self._job.exists():
            return ""
        ID = self._job.read_text().strip()
        while not self._is_over(ID):
            if self._unseen is None:
                return ID
            time.sleep(_PAUSE)
        return ""

    def _is_over(self, ID: str) -> bool:
        """Whether a job has ended; its status is then ``_ending``.

        A server that was killed says for ever that its job is running, but
        does not name the job among those that run.
        """
        try:
            status = self._ask(lambda session: session.get_job_status(ID))
        except api_spec.JobNotFound:
            status = _OVER
        self._ending = str(status)
        if self._ending != RunStatus.RUNNING.value:
            self._unseen = None
            return self._ending.startswith(_OVER)
        info = self._ask(lambda session: session.get_system_info())
        if ID in {job.job_id for job in info.job_info}:
            self._unseen = None
        elif self._unseen is None:
            self._unseen = time.monotonic()
        elif time.monotonic() - self._unseen > _VANISHED:
            self._unseen = None
            return True
        return False

    def _submit(self, job: Path, sites: Sequence[str], needed: int) -> str:
        """Submit the job, once enough sites are connected."""
        end = time.monotonic() + self._wait
        while True:
            missing = sorted({*sites} - {*self.sites()})
            is_over = time.monotonic() > end
            if not missing or (
                is_over and len(sites) - len(missing) >= needed
            ):
                break
            if is_over:
                raise RunError(
                    f"not connected: {', '.join(missing)}; the run needs "
                    f"{needed} of {len(sites)} sites"
                )
            time.sleep(_PAUSE)
        # With the token, a job whose acceptance was not heard of is not
        # submitted twice.
        if not self._token.exists():
            self._token.write_text(secrets.token_hex(16))
        token, where = self._token.read_text(), str(job.absolute())
        ID = self._ask(lambda session: session.submit_job(where, token))
        self._job.write_text(f"{ID}\n")
        self._token.unlink()
        return str(ID)

    def _watch(self, ID: str) -> Iterator[dict[str, Any]]:
        """Wait until a job has ended.

        Yields:
            The lines of results that have not been seen before.

        """
        is_told = False
        while not self._is_over(ID):
            if not is_told and self._ending == RunStatus.SUBMITTED.value:
                is_told = True
                note("the job waits for the federation to start it")
            line = self._line(ID)
            if line.get("round", 0) > self._newest:
                self._newest = line["round"]
                yield line
            time.sleep(_PAUSE)

    def _line(self, ID: str) -> dict[str, Any]:
        """The newest line of results of a job; empty if there is none."""
        try:
            found = self._ask(
                lambda session: session.show_stats(
                    ID, api_spec.TargetType.SERVER
                )
            )
            text = found[SERVER][STATS]["line"]
            line: dict[str, Any] = json.loads(text)
        except (RunError, UserError):
            raise
        except Exception:  # the job begins or ends just now
            return {}
        return line

    def _fetch(self, ID: str) -> None:
        """Bring the results of a job into the run's folder."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            try:
                where = self._ask(
                    lambda session: session.download_job_result(ID, folder)
                )
            except (api_spec.JobNotFound, api_spec.JobNotDone, RuntimeError):
                self._outcome = None
                return
            found = next(Path(where).rglob(RESULTS), None)
            self._outcome = read_outcome(found) if found else None
            if found is not None:
                shutil.copytree(
                    found, self._folder / SERVER, dirs_exist_ok=True
                )

    def _rest(self) -> Iterator[dict[str, Any]]:
        """The lines that have come in the job's last moments."""
        file = self._folder / SERVER / RunFolder.METRICS
        if not file.exists():
            return
        for text in file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if line["round"] > self._newest:
                self._newest = line["round"]
                yield line

    def _may_go_on(self) -> bool:
        """Whether what has ended the job need not end the next one.

        FLARE ends a job by itself if a process of a site is gone.
        """
        if self._ending == RunStatus.FINISHED_ABORTED.value:
            return False
        if self._ending == RunStatus.FINISHED_CANT_SCHEDULE.value:
            raise RunError("the federation could not start the job")
        outcome = self._outcome
        return outcome is None or outcome.away or outcome.kind == ENDED

    def _why(self) -> str:
        if self._outcome is None:
            return "the server's process has ended"
        if self._outcome.kind == ENDED:
            return "a participant's process has ended"
        return self._outcome.sentence

    def _ask(self, question: Callable[[Session], T]) -> T:
        """Ask the server something; if it is away, wait for it."""
        end = time.monotonic() + self._wait
        while True:
            try:
                if self._session is None:
                    self._session = new_secure_session(
                        self._user, str(self._kit.absolute()), timeout=_LOGIN
                    )
                return question(self._session)
            except _FORBIDDEN as error:
                raise UserError(
                    f"{self._kit}: the server does not allow it: "
                    f"{first_line(error)}"
                ) from error
            except _WRONG as error:
                raise UserError(first_line(error)) from error
            except _AWAY as error:
                self.close()
                if time.monotonic() > end:
                    raise RunError(
                        f"the server has not answered for {self._wait:g} "
                        f"seconds: {first_line(error)}"
                    ) from error
                time.sleep(_PAUSE)


def _user_of(kit: Path) -> str:
    """The name of the user of an admin's startup kit."""
    file = kit / "startup" / "fed_admin.json"
    try:
        admin = json.loads(file.read_text(encoding="utf-8"))["admin"]
        return str(admin["username"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--startup-kit: {kit} is not the startup kit of an admin; it has "
            "no startup/fed_admin.json that can be read"
        ) from None
