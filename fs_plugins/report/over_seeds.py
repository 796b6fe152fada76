"""Results over several seeds, and which differences are more than noise."""

import math
from collections.abc import Callable, Mapping, Sequence

from fs_plugins.experiment.runs import Run
from fs_plugins.report.averages import deviation, mean
from fs_plugins.report.runs import union_metric_of
from fs_plugins.report.tables import Table

BySeed = Mapping[int, float]


def seeds_tables(runs: Sequence[Run]) -> list[Table]:
    """Means over seeds, and the differences from the first run.

    Differences are taken seed by seed, which removes the effect that a seed
    has on all runs alike.  A difference is more than noise if its 95 %
    confidence interval (Student's t) does not contain 0; with few seeds only
    large differences are.

    Returns:
        The tables; none if each run has one seed, and so no spread to show.

    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        if run.metric in run.last["weighted"]:
            by_name.setdefault(run.name, []).append(run)
    if max(map(len, by_name.values()), default=0) < 2:
        return []
    measures = _measures(runs)
    values = {
        name: [_by_seed(of_name, value) for _, value in measures.values()]
        for name, of_name in by_name.items()
    }
    tables = [
        Table(
            "over seeds, last round: mean ± standard deviation",
            ("run", "seeds", *measures),
            [
                (name, str(len(by_name[name])), *map(_mean, measured))
                for name, measured in values.items()
            ],
            {name: key for name, (key, _) in measures.items()},
        )
    ]
    first, *others = values
    if others:
        title = (
            f"difference to {first}, paired over seeds: mean ± half its 95 % "
            "interval"
        )
        rows = [
            (name, *map(_verdict, values[name], values[first]))
            for name in others
        ]
        tables.append(Table(title, ("run", *measures), rows))
    return tables


def _measures(
    runs: Sequence[Run],
) -> dict[str, tuple[str, Callable[[Run], float | None]]]:
    """By a measure's name: its key in the summary, and a run's value."""
    last, metric = "results.last", runs[0].metric
    measures: dict[str, tuple[str, Callable[[Run], float | None]]] = {
        "weighted": (
            f"{last}.weighted.{metric}",
            lambda run: run.last["weighted"].get(metric),
        ),
        "mean over clients": (
            f"{last}.mean.{metric}",
            lambda run: run.last["mean"].get(metric),
        ),
        "worst client": (f"{last}.clients.*.{metric}", Run.worst),
    }
    union = union_metric_of(runs)
    if union:
        measures["on everyone's test"] = (
            f"{last}.mean.{union}",
            lambda run: run.last["mean"].get(union),
        )
    return measures


def _by_seed(
    runs: Sequence[Run], value: Callable[[Run], float | None]
) -> BySeed:
    values = {run.seed: value(run) for run in runs}
    return {seed: v for seed, v in values.items() if v is not None}


def _mean(values: BySeed) -> str:
    """The mean, with the sample's standard deviation if there is one."""
    if not values:
        return "-"
    shown = f"{mean(values.values()):.4f}"
    if len(values) < 2:
        return shown
    return f"{shown} ± {deviation(values.values()):.4f}"


def paired(values: BySeed, first: BySeed) -> tuple[float, float] | None:
    """The mean difference of two runs over the seeds that both have.

    Args:
        values: a run's values by seed.
        first: by seed, the values of the run that it is compared with.

    Returns:
        The mean of ``values - first``, and half the width of its 95 %
        confidence interval (Student's t).  None for fewer than three seeds
        in common: two differences that agree by chance would have no error.

    """
    from scipy.stats import t

    common = [values[seed] - first[seed] for seed in values if seed in first]
    if len(common) < 3:
        return None
    error = deviation(common) / len(common) ** 0.5
    quantile = float(t.ppf(0.975, len(common) - 1))
    return mean(common), quantile * error


def _verdict(values: BySeed, first: BySeed) -> str:
    if not values or not first:
        return "-"
    difference = paired(values, first)
    if difference is None:
        return "too few seeds in common"
    middle, half = difference
    if not math.isfinite(middle):
        return "not finite"
    is_noise = abs(middle) <= half
    place = "within" if is_noise else "beyond"
    return f"{middle:+.4f} ± {half:.4f}: {place} noise"
