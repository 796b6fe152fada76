"""Keeps the answers that language models generate during a run."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.protocols import Runner
from fs_plugins.trainer.answer import Answer
from fs_plugins.worker.ours import participant_of


def keep_generations(runner: Runner, files: RunFolder) -> None:
    """Have generated answers written to the run's folder.

    Args:
        runner: a runner that has not run yet.
        files: the folder of the run.

    """
    workers = (
        [runner.server, *runner.client.values()]
        if runner.mode == "standalone"
        else [participant_of(runner)]
    )
    for worker in workers:
        trainer: Any = getattr(worker, "trainer", None)
        if hasattr(trainer, "keep_answers"):
            trainer.keep_answers = partial(_append, files.generations)


def _append(file: Path, answers: Sequence[Answer]) -> None:
    """Add answers to a file that only its owner may read.

    The prompts and references in it are the clients' data.
    """
    lines = [json.dumps(asdict(answer)) + "\n" for answer in answers]
    with open(file, "a", encoding="utf-8", opener=_private) as stream:
        stream.writelines(lines)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)
