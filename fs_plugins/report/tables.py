"""Tables, for the terminal and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fs_plugins.policy import METHODS
from fs_plugins.report.progress import leading_metric


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def methods_table() -> Table:
    """The federated methods and their policies."""
    return Table(
        "federated methods (federate.method)",
        ("method", "A", "B", "head", "rule", "source"),
        [
            (name, p.A.value, p.B.value, p.HEAD.value, p.rule, p.source)
            for name, p in METHODS.items()
        ],
    )


def comparison_table(runs: Sequence[dict[str, Any]]) -> Table:
    """One row a run: accuracy, bytes and seconds.

    Args:
        runs: ``{'name', 'summary': <summary.json>, ...}``.

    """
    seeds = {run["summary"]["seed"] for run in runs}
    return Table(
        "test results, weighted by examples | mean over clients",
        (
            "run",
            *(("seed",) if len(seeds) > 1 else ()),
            "last round",
            "best round by validation",
            "up",
            "down",
            "seconds",
        ),
        [
            (
                run["name"],
                *((str(run["summary"]["seed"]),) if len(seeds) > 1 else ()),
                _result(run["summary"]["results"]["last"]),
                _result(run["summary"]["results"]["best"], with_round=True),
                size(run["summary"]["communication"]["uplink_bytes"]),
                size(run["summary"]["communication"]["downlink_bytes"]),
                f"{run['summary']['time']['total_s']:.0f}",
            )
            for run in runs
        ],
    )


def _result(results: dict[str, Any] | None, with_round: bool = False) -> str:
    if not results:
        return "-"
    key = leading_metric(results["weighted"], "test") or "test_avg_loss"
    if key not in results["weighted"]:
        return "-"
    weighted, mean = results["weighted"][key], results["mean"][key]
    rnd = f" (round {results['round']})" if with_round else ""
    return f"{weighted:.4f} | {mean:.4f}{rnd}"


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
