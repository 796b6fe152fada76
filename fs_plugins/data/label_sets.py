"""Examples that may have several labels: how they are split and counted."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fs_plugins.data.examples import Examples
from fs_plugins.data.splitters import BY_CLIENT
from fs_plugins.errors import UserError, shown
from fs_plugins.host.configuration import Config

# The splitters that do not go by the class of an example.
_WITHOUT_CLASSES = (*BY_CLIENT, "iid", "length", "power_law")
_MOST = 12  # sets of labels that are counted by themselves
_NO_LABEL, _OTHERS = "no label", "other labels"


def check_splitter(cfg: Config, examples: Examples) -> None:
    """Refuse a splitter by classes where a text may have several.

    Args:
        cfg: the configuration, of which ``data.splitter`` is used.
        examples: the examples to split.

    Raises:
        UserError: names the splitters that are left.

    """
    name = cfg.data.splitter
    if examples.are_multi_label and name not in _WITHOUT_CLASSES:
        raise UserError(
            f"data.splitter: {shown(name)} goes by the class of a text, and "
            "these texts may have several; take one of "
            f"{', '.join(_WITHOUT_CLASSES)}"
        )


def kinds_of_sets(
    parts: Sequence[np.ndarray], names: Sequence[str]
) -> tuple[list[str], list[np.ndarray]]:
    """Sets of labels as if each set were a class, to count the examples.

    Args:
        parts: for each part of the data, a row for each example with a 1 for
            each class that applies; the first part is the one to train on.
        names: the names of the classes.

    Returns:
        The names of the sets, of which rare ones have a name in common, and
        for each part the number of each example's set.

    """
    rows = [
        [tuple(np.flatnonzero(row).tolist()) for row in part] for part in parts
    ]
    frequent = Counter(each for part in rows for each in part)
    sets = sorted(each for each, _ in frequent.most_common(_MOST))
    number_of = {each: number for number, each in enumerate(sets)}
    kinds = [
        " + ".join(names[number] for number in each) or _NO_LABEL
        for each in sets
    ]
    coded = [
        np.array([number_of.get(each, len(sets)) for each in part], np.int64)
        for part in rows
    ]
    return [*kinds, _OTHERS], coded
