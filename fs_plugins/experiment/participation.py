"""A client's own part in a distributed run, and its own results."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fs_plugins.errors import RunError
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.ending import take_part
from fs_plugins.experiment.events import LiveClient
from fs_plugins.experiment.recorder import ClientRecorder
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.trials import check_saved
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.listeners import Listener
from fs_plugins.report.tables import Table, show


def participate(
    runner: Runner,
    facts: dict[str, Any],
    listeners: Sequence[Listener],
    begin: float,
    quiet: bool,
) -> dict[str, Any]:
    """Take part in a run as one of its clients; keep what became of it.

    Args:
        runner: the runner of a client's process, which has not run yet.
        facts: the first entries of the summary.
        listeners: listeners that are told of what the client does.
        begin: the time at which the process began, by ``perf_counter``.
        quiet: whether the results are not shown.

    Returns:
        The summary, of this client's own results.

    Raises:
        UserError: the server refuses this client.
        RunError: the server is gone, or the saved adapter cannot be used.
        Interrupted: Ctrl-C or SIGTERM has ended this client's part.

    """
    cfg = runner.cfg
    files, recorder = RunFolder(cfg.outdir), ClientRecorder(cfg, facts)
    run = LiveClient(runner, [recorder, *listeners])
    try:
        run.run(lambda: take_part(runner))
    finally:
        if recorder.last and not quiet:
            show(own_results(cfg, recorder.last, recorder.best))
    save_adapters(runner, files.adapters)
    seconds = time.perf_counter() - begin
    try:
        # The summary comes last, so that a client that is killed during the
        # check does not count as finished.
        problem = check_saved(runner, files.adapters)
    finally:
        summary = recorder.finish(seconds)
    if problem:
        raise RunError(problem)
    return summary


def own_results(
    cfg: Config,
    last: Mapping[str, Any],
    best: Mapping[str, Any] | None,
) -> Table:
    """A table of a client's own results.

    Args:
        cfg: the client's configuration.
        last: the client's last evaluation.
        best: its best evaluation by validation, if there is one.

    """
    ID, names = cfg.distribute.data_idx, cfg.fedsa.data.clients
    called = names[ID - 1] if names else f"client {ID}"
    columns = {f"after round {last['round']}": last["weighted"]}
    if best is not None and best["round"] != last["round"]:
        title = f"after round {best['round']}, the best by validation"
        columns[title] = best["weighted"]
    return Table(
        f"results of {called}",
        ("", *columns),
        [
            (name, *(_shown(each.get(name)) for each in columns.values()))
            for name in last["weighted"]
            if not name.endswith("_loss") or name.endswith("_avg_loss")
        ],
    )


def _shown(value: float | None) -> str:
    """A result as a table has it; one that is not finite is none."""
    is_there = value is not None and math.isfinite(value)
    return f"{value:.6g}" if is_there else "-"
