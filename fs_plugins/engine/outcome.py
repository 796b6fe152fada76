"""How a job has ended, and the names by which its two sides know things."""

import json
from dataclasses import dataclass
from pathlib import Path

from fs_plugins.errors import Interrupted, RunError, UserError

SERVER = "server"  # the name of the server's folder among those of a run
RESULTS = "fedsa_results"  # the folder in what FLARE keeps of a job
STATS = "fedsa"  # the group in FLARE's statistics
ALIVE = "fedsa.alive"  # the topic of a site's signs of life
MESSAGES, PROBLEM = "messages", "problem"  # in tasks and results
_FILE = "outcome.json"
ENDED = "ended"  # the kind of a job that was aborted
_KINDS: dict[str, type[Exception]] = {
    "wrong input": UserError,
    "failed": RunError,
    ENDED: Interrupted,
}


@dataclass(frozen=True)
class Outcome:
    """How a job has ended.

    Attributes:
        kind: ``finished``, ``wrong input``, ``failed`` or ``ended``.
        sentence: why; empty if the run has finished.
        away: whether a site was disconnected that may come back.

    """

    kind: str
    sentence: str = ""
    away: bool = False


def write_outcome(
    folder: Path, error: Exception | None, has_lost: bool
) -> None:
    """Write how a job has ended, for the one who has asked for it.

    Args:
        folder: the folder of results.
        error: the error that has ended the server's part.
        has_lost: whether a site is disconnected, which may come back.

    """
    kind = next(
        (k for k, t in _KINDS.items() if isinstance(error, t)), "finished"
    )
    away = kind == "failed" and has_lost
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"kind": kind, "sentence": str(error or ""), "away": away}
    )
    (folder / _FILE).write_text(text, encoding="utf-8")


def read_outcome(folder: Path) -> Outcome | None:
    """How a job has ended; None if its server has not lived to say it."""
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Outcome(found["kind"], found["sentence"], found["away"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
