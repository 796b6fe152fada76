"""Which runs can be compared, and what else tells them apart."""

from collections.abc import Iterator, Sequence

from fs_plugins.experiment.runs import Run
from fs_plugins.experiment.summary import stopped_early

# Settings that explain a difference in results as well as the method does.
SETTINGS = (
    "train.local_update_steps",
    "train.batch_or_epoch",
    "dataloader.batch_size",
    "llm.tok_len",
    "federate.sample_client_num",
    "train.optimizer.type",
    "train.optimizer.lr",
)


def tasks(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that have results, grouped by data and metric.

    Only runs of one group can be compared: accuracies on different data
    cannot, nor can a loss and an accuracy.
    """
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        if run.last["weighted"]:
            task = f"{run.summary['data']}, {run.metric}"
            by_task.setdefault(task, []).append(run)
    return by_task


def caveats(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before comparing runs, a sentence each."""
    said = []
    for run in runs:
        called = f"{run.name}, seed {run.seed}"
        if run.own_client:
            own = run.name_of(run.own_client)
            said.append(f"{called}: the results of client {own} alone")
        if not run.last["weighted"]:
            said.append(f"{called}: no results yet, left out")
        elif not run.is_finished:
            said.append(
                f"{called}: not finished, or run without this command; shown "
                f"as far as {run.source} goes, round {run.last['round']} of "
                f"{run.summary['rounds'] or 'an unknown number'}"
            )
        elif "stopped_early" in run.summary:
            said.append(f"{called}: {stopped_early(run.summary)}")
    by_task = tasks(runs)
    if len(by_task) > 1:
        said.append(
            "different tasks, not compared with each other: "
            + "; ".join(by_task)
        )
    for task, runs_of_task in by_task.items():
        said += _differences(task, runs_of_task)
    return said


def _differences(task: str, runs: Sequence[Run]) -> Iterator[str]:
    """Sentences on what differs besides the method, and may explain results.

    Args:
        task: the data and the metric of the runs.
        runs: runs that can be compared.

    """
    rounds = {run.name: run.last["round"] for run in runs}
    if len(set(rounds.values())) > 1:
        shown = ", ".join(f"{name} {rnd}" for name, rnd in rounds.items())
        yield f"{task}: the last results are of different rounds: {shown}"
    for fact in ("model", "clients"):
        values = {str(run.summary[fact]) for run in runs}
        if len(values) > 1:
            yield f"{task}: {fact} differ: {', '.join(sorted(values))}"
    for key in SETTINGS:
        pairs = dict.fromkeys(
            (str(run.settings[key]), run.name)
            for run in runs
            if run.settings.get(key) is not None
        )
        different = dict.fromkeys(value for value, _ in pairs)
        if len(different) > 1:
            shown = "; ".join(
                f"{value} in {', '.join(n for v, n in pairs if v == value)}"
                for value in different
            )
            yield f"{task}: {key} is {shown}"
    for seed in sorted({run.seed for run in runs}):
        labels = [r for r in runs if r.seed == seed and r.labels]
        others = [r.name for r in labels if r.labels != labels[0].labels]
        if others:
            yield (
                f"{task}, seed {seed}: the clients have other data in "
                f"{', '.join(others)} than in {labels[0].name}"
            )
