"""Tables, for the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of text.

    Attributes:
        title: what the table shows.
        columns: the names of the columns.
        rows: the cells of each row.
        keys: by a column's name, the key in ``summary.json`` of its numbers.

    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Mapping[str, str] = field(default_factory=dict)


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
