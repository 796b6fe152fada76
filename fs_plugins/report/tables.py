"""Tables, for the terminal and as Markdown."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.policy import METHODS, PEFT_METHODS, VARIANTS, Policy, Role
from fs_plugins.report.results import leading_metric, size
from fs_plugins.report.runs import Run
from fs_plugins.trainer.scores import GENERATION_METRICS


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of text.

    Attributes:
        title: what it shows.
        columns: their names.
        rows: their cells.
        keys: where in ``summary.json`` a column's numbers are.

    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Mapping[str, str] = field(default_factory=dict)


def methods_table() -> Table:
    """The federated methods and their policies."""
    shown = (Role.A, Role.B, Role.HEAD)
    return Table(
        "federated methods (federate.method)",
        ("method", "A", "B", "head", "rule", "source"),
        [
            (name, *(action_of(p, r) for r in shown), p.rule, p.source)
            for name, p in METHODS.items()
        ],
    )


def action_of(policy: Policy, role: Role) -> str:
    """What becomes of a role, by round if need be."""
    odd, even = policy.in_round(1)[role], policy.in_round(2)[role]
    both = f"odd rounds {odd.value}, even {even.value}"
    return odd.value if odd is even else both


def aggregators_table() -> Table:
    """How the server combines what clients share."""
    rows = []
    for name, aggregator in AGGREGATORS.items():
        text = (aggregator.__doc__ or "").strip()
        rule = text.split("\n\n")[0].replace("\n", " ")
        rows.append((name, rule, aggregator.source))
    return Table(
        "aggregators (fedsa.aggregator)",
        ("aggregator", "rule", "source"),
        rows,
    )


def adapters_table() -> Table:
    """The PEFT methods, and what A and B are in them."""
    variants = {name: base for name, (base, _) in VARIANTS.items()}
    rows = []
    for name in (*PEFT_METHODS, *variants):
        roles = PEFT_METHODS[variants.get(name, name)]
        parts = [
            ", ".join(p.strip(".") for p in roles[r]) for r in (Role.A, Role.B)
        ]
        rows.append((name, *parts))
    return Table(
        "adapters (llm.adapter.args: adapter_method)", ("name", "A", "B"), rows
    )


def options_table() -> Table:
    """Every key under ``fedsa:``, with its default."""
    from fs_plugins.config import OPTIONS

    return Table(
        "the keys under fedsa:, with their defaults",
        ("key", "default", "meaning"),
        [
            (key, _as_yaml(default), text)
            for key, default, text in OPTIONS
            if key.startswith("fedsa.")
        ],
    )


def _as_yaml(value: Any) -> str:
    plain = json.loads(json.dumps(value))  # a section twice is no alias
    text = yaml.safe_dump(
        plain, default_flow_style=True, sort_keys=False, width=10_000
    )
    return text.removesuffix("...\n").strip()


def experiments_table(folder: Path) -> Table:
    """The YAML files of the project, by their first lines."""
    files = sorted(folder.rglob("*.yaml"), key=_variations_last)
    return Table(
        f"experiments in {folder}; a variation is added with '+'",
        ("file", "what it does"),
        [
            (_shown(file, folder), _first_line(file))
            for file in files
            if file.parent.name != "distributed" or file.stem == "server"
        ],
    )


def _variations_last(file: Path) -> tuple[bool, Path]:
    return file.parent.name == "variations", file


def _shown(file: Path, folder: Path) -> str:
    if file.parent.name != "variations":
        return str(file.relative_to(folder))
    of = file.parent.parent.relative_to(folder)
    return f"+{file.stem}" + (f" ({of})" if of.name else "")


def _first_line(file: Path) -> str:
    """The first sentence of the header."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        words += line[2:].split()
        if line.endswith("."):
            break
    return " ".join(words)


def comparison_table(runs: Sequence[Run]) -> Table:
    """One row a run: accuracy, how even it is, bytes and seconds."""
    last = "results.last"
    metric = runs[0].metric
    # name: where it is in summary.json, and how a run's is shown
    columns: dict[str, tuple[str, Callable[[Run], str]]] = {
        "run": ("", lambda run: run.name)
    }
    if len({run.seed for run in runs}) > 1:
        columns["seed"] = ("seed", lambda run: str(run.seed))
    columns["last round"] = (_averages_of(last, metric), _last)
    columns["worst client"] = (f"{last}.clients.*.{metric}", _worst)
    columns["spread"] = (f"{last}.clients.*.{metric}", _spread)
    union = next(filter(None, (_leading(r.last, "union") for r in runs)), "")
    if union:
        columns["on everyone's test"] = (_averages_of(last, union), _union)
    columns["best round by validation"] = (
        _averages_of("results.best", metric),
        _best,
    )
    if any(_generates(run) for run in runs):
        columns["test loss, last round"] = (
            _averages_of(last, "test_avg_loss"),
            lambda run: _averages(run.last, "test_avg_loss"),
        )
    columns |= {
        "up": _communication("uplink_bytes"),
        "down": _communication("downlink_bytes"),
        "seconds": _seconds("total_s"),
    }
    return _table(
        "each client's own model on its own test shard: weighted by examples "
        "| mean over clients; the worst client; the standard deviation over "
        "clients",
        columns,
        runs,
    )


def costs_table(runs: Sequence[Run]) -> Table:
    """One row a run: parameters, bytes, seconds, memory."""
    columns: dict[str, tuple[str, Callable[[Run], str]]] = {
        "run": ("", lambda run: run.name),
        "seed": ("seed", lambda run: str(run.seed)),
    }
    for what in ("trainable", "shared", "kept"):
        columns[what] = _count(f"{what}_parameters")
    columns |= {
        "up": _communication("uplink_bytes"),
        "down": _communication("downlink_bytes"),
        "up, client and round": _communication(
            "uplink_bytes_per_client_round"
        ),
        "down, client and round": _communication(
            "downlink_bytes_per_client_round"
        ),
        "seconds": _seconds("total_s"),
        "training": _seconds("train_s"),
        "evaluation": _seconds("eval_s"),
        "aggregation": _seconds("aggregate_s"),
        "peak memory": (
            "memory.peak_rss_bytes",
            lambda run: size(run.summary["memory"].get("peak_rss_bytes")),
        ),
        "refused updates": (
            "rejected_updates",
            lambda run: _number(run.summary.get("rejected_updates")),
        ),
    }
    return _table(
        "parameters; bytes of encoded messages; seconds; the process's memory",
        columns,
        runs,
    )


def _table(
    title: str,
    columns: Mapping[str, tuple[str, Callable[[Run], str]]],
    runs: Sequence[Run],
) -> Table:
    return Table(
        title,
        list(columns),
        [[show(run) for _, show in columns.values()] for run in runs],
        {name: key for name, (key, _) in columns.items() if key},
    )


def _averages_of(results: str, metric: str) -> str:
    return f"{results}.weighted.{metric}, {results}.mean.{metric}"


def _communication(key: str) -> tuple[str, Callable[[Run], str]]:
    return (
        f"communication.{key}",
        lambda run: size(run.summary["communication"].get(key)),
    )


def _count(key: str) -> tuple[str, Callable[[Run], str]]:
    return (
        f"communication.{key}",
        lambda run: _number(run.summary["communication"].get(key)),
    )


def _seconds(key: str) -> tuple[str, Callable[[Run], str]]:
    return f"time.{key}", lambda run: _number(run.summary["time"].get(key))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def seeds_table(runs: Sequence[Run]) -> Table | None:
    """Mean over seeds, and what differs from the first by more than noise.

    A difference is paired: seed by seed, so that what a seed does to all
    runs alike falls out.  It counts if 0 is outside its 95 % confidence
    interval (Student's t); with few seeds that takes a large one.

    Returns:
        Nothing for a single seed: there is no spread to show.

    """
    by_name: dict[str, dict[int, float]] = {}
    for run in runs:
        if run.metric in run.last["weighted"]:
            own = by_name.setdefault(run.name, {})
            own[run.seed] = run.last["weighted"][run.metric]
    if max(map(len, by_name.values()), default=0) < 2:
        return None
    first = next(iter(by_name))
    rows = []
    for name, values in by_name.items():
        mean, deviation = _mean_and_deviation(list(values.values()))
        rows.append(
            (
                name,
                str(len(values)),
                f"{mean:.4f}",
                "-" if deviation is None else f"{deviation:.4f}",
                "" if name == first else _verdict(values, by_name[first]),
            )
        )
    return Table(
        "over seeds: last round, weighted by examples",
        (
            "run",
            "seeds",
            "mean",
            "standard deviation",
            f"difference to {first}, 95 % interval",
        ),
        rows,
        {"mean": f"results.last.weighted.{runs[0].metric}"},
    )


def _mean_and_deviation(
    values: Sequence[float],
) -> tuple[float, float | None]:
    """The sample's; one value has no deviation."""
    alone = len(values) < 2
    return statistics.fmean(values), (
        None if alone else statistics.stdev(values)
    )


def paired(
    values: Mapping[int, float], first: Mapping[int, float]
) -> tuple[float, float] | None:
    """The mean difference over the seeds that both have, and its error.

    Returns:
        The mean, and half the width of its 95 % confidence interval
        (Student's t); nothing for fewer than two seeds in common.

    """
    from scipy.stats import t

    common = [values[seed] - first[seed] for seed in values if seed in first]
    if len(common) < 2:
        return None
    error = statistics.stdev(common) / len(common) ** 0.5
    quantile = float(t.ppf(0.975, len(common) - 1))
    return statistics.fmean(common), quantile * error


def _verdict(values: Mapping[int, float], first: Mapping[int, float]) -> str:
    found = paired(values, first)
    if found is None:
        return "too few seeds in common"
    mean, half = found
    is_noise = abs(mean) <= half
    return (
        f"{mean:+.4f} ± {half:.4f}: {'within' if is_noise else 'beyond'} noise"
    )


def _leading(results: dict[str, Any], split: str) -> str | None:
    return leading_metric(results["weighted"], split)


def _last(run: Run) -> str:
    return _averages(run.last, run.metric)


def _worst(run: Run) -> str:
    worst = run.worst_client()
    return f"{run.of_clients()[worst]:.4f}" if worst else "-"


def _spread(run: Run) -> str:
    values = run.of_clients().values()
    return f"{statistics.pstdev(values):.4f}" if len(values) > 1 else "-"


def _union(run: Run) -> str:
    key = _leading(run.last, "union")
    return _averages(run.last, key) if key else "-"


def _generates(run: Run) -> bool:
    """Few answers are scored; the loss says more of a language model."""
    metric = run.metric.removeprefix("test_")
    return metric in ("avg_loss", *GENERATION_METRICS)


def _best(run: Run) -> str:
    best = run.summary["results"]["best"]
    shown = _averages(best, run.metric) if best else "-"
    return shown if shown == "-" else f"{shown} (round {best['round']})"


def _averages(results: dict[str, Any], key: str) -> str:
    if key not in results["weighted"]:
        return "-"
    return f"{results['weighted'][key]:.4f} | {results['mean'][key]:.4f}"


def markdown(table: Table) -> str:
    """The table as Markdown."""
    lines = [
        f"{table.title}\n",
        _row(table.columns),
        _row(["---"] * len(table.columns)),
        *(_row(row) for row in table.rows),
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def show(table: Table) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    if not console.is_terminal:
        console.width = 160
    shown = RichTable(title=table.title, title_justify="left")
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
