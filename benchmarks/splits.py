"""Draws how each splitter divides one data set over five clients.

    python benchmarks/splits.py

The data are made: a thousand tickets in five queues, from five regions of
unequal size and kind.  They are read and split as a run does it, without a
model.  The figure is written to ``benchmarks/results/splits``.
"""

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fs_plugins.config.load import load_config
from fs_plugins.data.examples import Examples
from fs_plugins.data.federated import split_over_clients, three_splits
from fs_plugins.data.tokens import Tokens
from fs_plugins.report.plots import COLORS

QUEUES = ("billing", "delivery", "login", "repair", "returns")
REGIONS = ("central", "east", "north", "south", "west")
# How many tickets come from a region, and how they fall on the queues.
SIZES = (340, 260, 200, 120, 80)
MIXES = (
    (0.30, 0.20, 0.20, 0.20, 0.10),
    (0.05, 0.60, 0.10, 0.05, 0.20),
    (0.10, 0.10, 0.60, 0.10, 0.10),
    (0.05, 0.05, 0.10, 0.70, 0.10),
    (0.40, 0.10, 0.05, 0.05, 0.40),
)
RESULTS = Path(__file__).parent / "results" / "splits"


@dataclass(frozen=True)
class Split:
    """A way to split.

    Attributes:
        splitter: ``data.splitter``.
        args: ``data.splitter_args``, without the list around them.

    """

    splitter: str
    args: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The splitter and its arguments."""
        said = ", ".join(f"{k}: {v}" for k, v in self.args.items())
        return f"{self.splitter}, {said}" if said else self.splitter


SPLITS = (
    Split("column", {}),
    Split("files", {}),
    Split("iid", {}),
    Split("lda", {"alpha": 0.5}),
    Split("pathological", {"classes": 2}),
    Split("shards", {"shards": 2}),
    Split("power_law", {"exponent": 1.0}),
    Split("length", {}),
    Split("meta", {}),
)


def write(folder: Path) -> None:
    """Write the tickets: all in one file, and those of a region in another.

    Args:
        folder: the folder of ``tickets.csv`` and of the folder ``regions``.

    """
    rng = np.random.default_rng(0)
    tickets = []
    for region, size, mix in zip(REGIONS, SIZES, MIXES, strict=True):
        for number in range(size):
            queue = QUEUES[rng.choice(len(QUEUES), p=mix)]
            words = "word " * int(rng.gamma(3.0, 12.0) + 3)
            tickets.append((f"{words}{region} {number}", queue, region))
    (folder / "regions").mkdir()
    _write(folder / "tickets.csv", tickets)
    for region in REGIONS:
        own = [ticket for ticket in tickets if ticket[2] == region]
        _write(folder / "regions" / f"{region}.csv", own)


def _write(file: Path, tickets: Sequence[tuple[str, ...]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "queue", "region"])
        writer.writerows(tickets)


def training_data(folder: Path, split: Split) -> list[Tokens]:
    """Each client's training examples, with a token for each word.

    Args:
        folder: the folder that ``write`` has filled.
        split: how to split.

    """
    is_by_file = split.splitter == "files"
    name = str(folder / ("regions" if is_by_file else "tickets.csv"))
    by_client = split.splitter in ("column", "files")
    cfg = load_config(
        "demo/fedsa.yaml",
        {
            "data.type": f"{name}@text",
            "data.splitter": split.splitter,
            "data.splitter_args": [dict(split.args)] if split.args else [],
            "data.splits": [0.8, 0.1, 0.1],
            "federate.client_num": 0 if by_client else len(REGIONS),
            "fedsa.data": {
                "text": "text",
                "label": "queue",
                "client": "region" if split.splitter == "column" else "",
            },
        },
    )
    splits = [_tokens(part) for part in three_splits(cfg, name, "text")]
    whole, parts = splits[0], split_over_clients(cfg, splits)[0]
    return [_taken(whole, part) for part in parts]


def _tokens(examples: Examples) -> Tokens:
    lengths = [len(text.split()) for (text,) in examples.texts]
    return Tokens(
        ids=np.zeros(sum(lengths), np.int32),
        types=np.empty(0, np.int8),
        ends=np.cumsum(lengths, dtype=np.int64),
        prompts=np.empty(0, np.int64),
        labels=np.array(examples.labels, np.int64),
        clients=examples.clients,
    )


def _taken(whole: Tokens, part: Sequence[int]) -> Tokens:
    lengths = whole.lengths()[[*part]]
    return Tokens(
        ids=np.zeros(int(lengths.sum()), np.int32),
        types=whole.types,
        ends=np.cumsum(lengths, dtype=np.int64),
        prompts=whole.prompts,
        labels=whole.labels[[*part]],
    )


def draw(axes: Any, split: Split, clients: Sequence[Tokens]) -> None:
    """Draw the classes of each client, or the lengths of its texts.

    Args:
        axes: matplotlib's axes.
        split: how the data were split.
        clients: each client's training examples.

    """
    places = np.arange(len(clients))
    if split.splitter == "length":
        low = np.array([tokens.lengths().min() for tokens in clients])
        high = np.array([tokens.lengths().max() for tokens in clients])
        axes.bar(places, high - low + 1, bottom=low, color="#999999")
        axes.set_ylim(0)
        axes.set_ylabel("words of a text")
    else:
        base = np.zeros(len(clients), int)
        for number, queue in enumerate(QUEUES):
            counts = np.array([(t.labels == number).sum() for t in clients])
            color = COLORS[number]
            axes.bar(places, counts, bottom=base, color=color, label=queue)
            base += counts
        axes.set_ylabel("examples")
    is_named = split.splitter in ("column", "files")
    names = REGIONS if is_named else [str(i + 1) for i in places]
    axes.set_xticks(places, names)
    axes.set_title(split.title)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw all splits into one figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out: Path = parser.parse_args().out
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    # The background is white, so that it can be read on a dark page, too.
    settings: Any = {
        "svg.hashsalt": "splits",
        "font.size": 9,
        "axes.titlesize": 10,
    }
    with mpl.rc_context(settings), tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        figure, grid = plt.subplots(3, 3, figsize=(9, 8), facecolor="white")
        for axes, split in zip(grid.flat, SPLITS, strict=True):
            draw(axes, split, training_data(Path(folder), split))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(QUEUES))
        figure.tight_layout(rect=(0, 0.04, 1, 1))
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(out / "splits.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
