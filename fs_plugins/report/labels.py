"""Names as labels in figures."""

from typing import Any

from fs_plugins.errors import printable

# Settings of matplotlib: names may hold dollar signs, which begin no formula.
PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}
_LONGEST = 60  # letters of a name


def label_of(name: str) -> str:
    """A name as a label of matplotlib: one line that has room in a figure.

    matplotlib leaves labels that begin with an underscore out of a legend.
    """
    text = printable(name)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 4].rstrip()} ..."
    return f" {text}" if text.startswith("_") else text
