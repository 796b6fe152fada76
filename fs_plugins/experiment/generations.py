"""Keeps the answers that language models generate during a run."""

from typing import Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.protocols import Runner
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
            trainer.keep_answers = files.append_generations
