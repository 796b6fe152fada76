"""Figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fs_plugins.report.progress import leading_metric


def plot_curves(runs: Sequence[dict[str, Any]], file: Path) -> None:
    """The test metric after each round: against rounds, and bytes sent.

    Args:
        runs: ``{'name', 'summary', 'curve': [lines of metrics.jsonl]}``.
        file: the picture to write.

    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    metric = next(
        (
            key
            for run in runs
            for line in run["curve"]
            if (key := leading_metric(line["weighted"], "test"))
        ),
        "test_avg_loss",
    )
    figure, (by_round, by_bytes) = plt.subplots(
        1, 2, figsize=(10, 4), sharey=True, layout="constrained"
    )
    seeds = {run["summary"]["seed"] for run in runs}
    for run in runs:
        curve = [line for line in run["curve"] if metric in line["weighted"]]
        label = run["name"]
        if len(seeds) > 1:
            label += f", seed {run['summary']['seed']}"
        values = [line["weighted"][metric] for line in curve]
        sent = [
            (line["uplink_bytes"] + line["downlink_bytes"]) / 1e6
            for line in curve
        ]
        by_round.plot(
            [line["round"] for line in curve], values, marker=".", label=label
        )
        by_bytes.plot(sent, values, marker=".", label=label)
    by_round.set_xlabel("round")
    by_round.set_ylabel(f"{metric}, weighted over clients")
    by_round.legend()
    by_bytes.set_xlabel("sent up and down, MB")
    for axes in (by_round, by_bytes):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)
    plt.close(figure)
