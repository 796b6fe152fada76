"""Names that may be two spellings of one."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from fs_plugins.errors import shown
from fs_plugins.notes import note

_MOST = 5  # notes on one subject


def spelling(name: str) -> str:
    """What the spellings of a name have in common.

    Names that differ only in case, in white space, in the form of Unicode or
    in characters that cannot be seen have it in common.
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    # Folding the case of a normalized text may undo the normal form.
    text = unicodedata.normalize("NFKC", text)
    seen = (c for c in text if unicodedata.category(c) != "Cf")
    return " ".join("".join(seen).split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """The names that are told apart and may be one, in groups."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(spelling(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def tell_labels(
    counts: Counter[str], spellings: Mapping[str, set[str]]
) -> None:
    """Tell of labels that may be, or were taken to be, one label.

    Args:
        counts: how many rows each class has.
        spellings: the spellings of each label with the white space around
            it.

    """
    groups = alike(counts)
    for group in groups[:_MOST]:
        told = " and ".join(
            f"{_told(name, group)} ({_rows(counts[name])})" for name in group
        )
        note(
            f"labels: {told} are {len(group)} classes; is it one, spelt in "
            "several ways?"
        )
    if groups[_MOST:]:
        note(f"labels: {len(groups) - _MOST} more groups are spelt alike")
    padded = {
        label: min(forms - {label}, default="")
        for label, forms in spellings.items()
        if len(forms) > 1
    }
    if padded:
        label, form = next(iter(padded.items()))
        others = (
            f", as are {len(padded) - 1} more"
            if padded.keys() - {label}
            else ""
        )
        note(
            f"labels: {shown(form)} is read as {shown(label)}{others}; white "
            "space around a label does not count"
        )


def _told(name: str, group: list[str]) -> str:
    """A name for a sentence, which shows how it differs from its like."""
    forms = [
        "".join(
            c
            for c in unicodedata.normalize("NFC", each)
            if unicodedata.category(c) != "Cf"
        )
        for each in group
    ]
    looks_different = len({*forms}) == len(forms)
    return shown(name) if looks_different else ascii(name)


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"
