"""Tables, for the terminal and as Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.policy import METHODS, PEFT_METHODS, VARIANTS, Policy, Role
from fs_plugins.report.progress import leading_metric
from fs_plugins.trainer.scores import GENERATION_METRICS


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


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


def comparison_table(runs: Sequence[dict[str, Any]]) -> Table:
    """One row a run: accuracy, how even it is, bytes and seconds.

    Args:
        runs: ``{'name', 'summary': <summary.json>, ...}``.

    """
    results = [run["summary"]["results"] for run in runs]
    columns: dict[str, list[str]] = {"run": [run["name"] for run in runs]}
    seeds = [str(run["summary"]["seed"]) for run in runs]
    if len(set(seeds)) > 1:
        columns["seed"] = seeds
    columns["last round"] = [_result(r["last"]) for r in results]
    columns["worst client"] = [_worst(r["last"]) for r in results]
    columns["spread"] = [_spread(r["last"]) for r in results]
    if any(_leading(r["last"], "union") for r in results):
        columns["on everyone's test"] = [_union(r["last"]) for r in results]
    columns["best round by validation"] = [
        _result(r["best"], with_round=True) for r in results
    ]
    if any(_generates(r) for r in results):
        columns["test loss, last round"] = [_loss(r) for r in results]
    sent = [run["summary"]["communication"] for run in runs]
    columns["up"] = [size(each["uplink_bytes"]) for each in sent]
    columns["down"] = [size(each["downlink_bytes"]) for each in sent]
    columns["seconds"] = [
        f"{run['summary']['time']['total_s']:.0f}" for run in runs
    ]
    return Table(
        "each client's own model on its own test shard: weighted by examples "
        "| mean over clients; the worst client; the standard deviation over "
        "clients",
        list(columns),
        list(zip(*columns.values(), strict=True)),
    )


def seeds_table(runs: Sequence[dict[str, Any]]) -> Table | None:
    """Mean over seeds, and what differs from the first by more than noise.

    A difference is paired: seed by seed, so that what a seed does to all
    runs alike falls out.  It counts if 0 is outside its 95 % confidence
    interval (Student's t); with few seeds that takes a large one.

    Args:
        runs: as for ``comparison_table``.

    Returns:
        Nothing for a single seed: there is no spread to show.

    """
    by_name: dict[str, dict[int, float]] = {}
    for run in runs:
        last = run["summary"]["results"]["last"]
        key = _leading(last, "test") or "test_avg_loss"
        if key in (last or {"weighted": {}})["weighted"]:
            own = by_name.setdefault(run["name"], {})
            own[run["summary"]["seed"]] = last["weighted"][key]
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


def _leading(results: dict[str, Any] | None, split: str) -> str | None:
    return leading_metric((results or {"weighted": {}})["weighted"], split)


def _of_clients(results: dict[str, Any] | None) -> list[float]:
    """The leading test metric of every client that has it."""
    key = _leading(results, "test")
    own = (results or {}).get("clients", {}).values()
    return [r[key] for r in own if key in r] if key else []


def _worst(results: dict[str, Any] | None) -> str:
    values = _of_clients(results)
    return f"{min(values):.4f}" if values else "-"


def _spread(results: dict[str, Any] | None) -> str:
    values = _of_clients(results)
    return f"{statistics.pstdev(values):.4f}" if len(values) > 1 else "-"


def _union(results: dict[str, Any] | None) -> str:
    key = _leading(results, "union")
    return _averages(results, key) if results and key else "-"


def _generates(results: dict[str, Any]) -> bool:
    """Few answers are scored; the loss says more of a language model."""
    last = (results["last"] or {}).get("weighted", {})
    leading = (leading_metric(last, "test") or "test_").removeprefix("test_")
    return leading in ("", *GENERATION_METRICS)


def _loss(results: dict[str, Any]) -> str:
    return _averages(results["last"] or {"weighted": {}}, "test_avg_loss")


def _result(results: dict[str, Any] | None, with_round: bool = False) -> str:
    if not results:
        return "-"
    key = leading_metric(results["weighted"], "test") or "test_avg_loss"
    shown = _averages(results, key)
    is_round = with_round and shown != "-"
    return f"{shown} (round {results['round']})" if is_round else shown


def _averages(results: dict[str, Any], key: str) -> str:
    if key not in results["weighted"]:
        return "-"
    return f"{results['weighted'][key]:.4f} | {results['mean'][key]:.4f}"


def size(number: int) -> str:
    """Bytes for a reader: 1,234,567 is 1.2 MB."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


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
