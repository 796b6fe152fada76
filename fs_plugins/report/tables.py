"""Tables, for the terminal and as Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fs_plugins.errors import printable

# What begins something other than text inside a line of Markdown: escapes,
# code, HTML, strikethrough, formulas, links, emphasis, entities.  Brackets,
# stars and underscores that cannot do so stay as they are.
_MARKS = re.compile(
    r"\\(?=[!-/:-@\[-`{-~]|$)"
    r"|[`~$]"
    r"|\[(?!\](?![(\[:]))"
    r"|(?<!\s)\*|\*(?!\s)"
    r"|(?<![^\W_])_|_(?![^\W_])"
    r"|&(?=#?\w+;)"
)
# What begins a heading, a quotation or a list at the start of a line.
_STARTS = re.compile(r"^(\d*)([-+#.)](?=[\s#])|>)")


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
    rows = markdown_rows(table.columns, table.rows)
    return "\n".join([f"{markdown_text(table.title)}\n", *rows]) + "\n"


def markdown_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    """The lines of a table in Markdown, whatever the cells hold.

    Args:
        columns: the names of the columns.
        rows: the cells of each row.

    """
    line = "|" + " --- |" * len(columns)
    return [_row(columns), line, *map(_row, rows)]


def markdown_text(text: str) -> str:
    """Markdown that shows a text, whatever the text holds."""
    plain = printable(text).strip()
    escaped = _STARTS.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", plain))
    return escaped.replace("<", "&lt;")


def markdown_code(text: str) -> str:
    """Markdown that shows a text as code, or as plain text if it must."""
    return markdown_text(text) if "`" in text else f"`{printable(text)}`"


def _row(cells: Sequence[str]) -> str:
    escaped = (markdown_text(cell).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def show(table: Table) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text  # which is not read as rich's markup

    console = Console()
    if not console.is_terminal:
        console.width = 160
    title = Text(printable(table.title), "table.title")
    shown = RichTable(title=title, title_justify="left")
    for column in table.columns:
        shown.add_column(Text(printable(column)))
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    console.print(shown)
