"""What ``benchmarks/methods.py`` runs: methods, data, splits, heads, seeds."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "methods"
# Variations of yaml_configs/demo/fedsa.yaml, and an answer without reading.
METHODS = (
    "majority",  # no method: each client answers its most frequent class
    "fedsa",
    "fedit",
    "ffa",
    "rolora",
    "share_b",
    "local",
    "sequential_b",
    "sfed",
    "feddpa",
    "flora",
    "fedex",
    "flexlora",
    "hetlora",
)
DATA = {"bbc": "[0.8, 0.1, 0.1]", "rotten_tomatoes": "[0.9, 0.05, 0.05]"}
SPLITS = ("iid", "dir1", "dir03")
HEADS = ("kept", "shared")
SEEDS = (0, 1, 2)
LR = 0.005
# Two cells run again with other learning rates, to see whether the order of
# the methods depends on the rate.
OTHER_LRS = {
    ("bbc", "dir03", "kept"): (0.002, 0.01),
    ("rotten_tomatoes", "iid", "kept"): (0.001, 0.002, 0.01),
}
# In this cell each method's rate is chosen on validation texts.
CHOSEN = ("bbc", "dir03", "kept")
Run = dict[str, Any]  # what identifies a run, and what came of it
KEYS = ("data", "split", "head", "method", "seed", "lr")


def all_runs() -> Iterator[Run]:
    """Every run, one seed after the other, then the other rates."""
    for values in itertools.product(SEEDS, DATA, SPLITS, METHODS, HEADS):
        seed, data, split, method, head = values
        # a shared head is not local; the split is the same for all seeds
        if (method, head) != ("local", "shared") and not (
            method == "majority" and seed
        ):
            yield run_of(data, split, head, method, seed, LR)
    for cell, rates in OTHER_LRS.items():
        for seed, method, lr in itertools.product(SEEDS, METHODS[1:], rates):
            yield run_of(*cell, method, seed, lr)


def run_of(*values: Any) -> Run:
    """What identifies a run, from the values of ``KEYS``."""
    return dict(zip(KEYS, values, strict=True))


def chooses_rate(run: Run) -> bool:
    """Whether the best learning rate is chosen among runs like this."""
    cell = (run["data"], run["split"], run["head"])
    return run["method"] != "majority" and cell == CHOSEN


def key_of(run: Run) -> tuple[Any, ...]:
    """What identifies a run."""
    return tuple(run[key] for key in KEYS)
