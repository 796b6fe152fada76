"""The tables and the figure of ``benchmarks/methods.py``."""

import datetime
import importlib.metadata
import itertools
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from methods_grid import (
    CHOSEN,
    DATA,
    HEADS,
    KEYS,
    LR,
    METHODS,
    OTHER_LRS,
    OUT,
    SPLITS,
    Run,
    all_runs,
)


def report(runs: Sequence[Run]) -> None:
    """Write README.md, methods.png and methods.svg."""
    packages = ("torch", "transformers", "peft")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in packages
    )
    lines = [
        "# The family on real text\n",
        "`python benchmarks/methods.py` wrote this on "
        f"{datetime.date.today()}, with {versions}; {len(runs)} runs of "
        f"{len(list(all_runs()))}. What it runs is said at its top.\n",
        "Each number is a mean over seeds, ± their standard deviation, of "
        "accuracy in per cent after the last round. *own*: each client's "
        "model on its own test shard, weighted by examples. *worst*: of its "
        "clients. *union*: each client's model on everyone's test shard, the "
        "mean over clients. **Bold**: differs from `fedsa` with the same "
        "head by more than noise (the 95 % interval of the difference, "
        "paired over seeds, leaves out 0); one cell in twenty would be so by "
        "chance.\n",
    ]
    if len(runs) < len(list(all_runs())):
        lines.append(
            "**Not finished**: cells rest on fewer than three seeds, one "
            "seed says little, and none is bold yet.\n"
        )
    else:
        lines.append("![Accuracy by method, split and head](methods.png)\n")
    common = _of(runs, lr=LR)
    for data in DATA:
        for head in HEADS:
            lines += _table(common, data, head)
    lines += _learning_rates(runs)
    text = "\n".join(map(_filled, lines))
    (OUT / "README.md").write_text(text, encoding="utf-8")
    _plot(common)


def _filled(text: str) -> str:
    """Prose in lines of at most 100 columns; tables as they are."""
    if text.startswith("|"):
        return text
    lines = textwrap.wrap(text, 100, break_on_hyphens=False)
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")


def _table(runs: Sequence[Run], data: str, head: str) -> list[str]:
    columns = [(s, c) for s in SPLITS for c in ("own", "worst", "union")]
    lines = [
        f"## {data}, head {head}\n",
        "| method | "
        + " | ".join(f"{s}: {c}" for s, c in columns)
        + " | MB up | MB down |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for method in METHODS:
        cells = []
        of_method = _of(runs, data=data, head=head, method=method)
        if not of_method:
            continue
        for split, column in columns:
            values = _by_seed(_of(of_method, split=split), column)
            first = _of(
                runs, data=data, head=head, method="fedsa", split=split
            )
            cells.append(_cell(values, _by_seed(first, column)))
        cells += [f"{of_method[0][way] / 1e6:.1f}" for way in ("up", "down")]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return [*lines, ""]


def _learning_rates(runs: Sequence[Run]) -> list[str]:
    lines = [
        "## Other learning rates\n",
        f"*own* with each; the tables above have {LR}.\n",
    ]
    for cell, others in OTHER_LRS.items():
        here = _of(runs, **dict(zip(KEYS, cell, strict=False)))
        lines += _rates_table(here, cell, sorted((LR, *others)))
    return lines


def _rates_table(
    runs: Sequence[Run], cell: tuple[str, str, str], rates: Sequence[float]
) -> list[str]:
    columns = list(map(str, rates))
    lines = [f"### {cell[0]}, {cell[1]}, head {cell[2]}\n"]
    if cell == CHOSEN:
        lines.append(
            "With an arrow: the rate that is best for the method on its "
            "clients' validation texts, the mean over seeds (of two, the "
            "lower); *own* and *union* are with that rate, bold as above.\n"
        )
        columns += ["own", "union"]
    lines.append(f"| method | {' | '.join(columns)} |")
    lines.append("|---" * (len(columns) + 1) + "|")
    first: list[Run] = []  # of fedsa, with its best rate
    for method in METHODS[1:]:
        by_rate = [_of(runs, method=method, lr=rate) for rate in rates]
        cells = [_cell(_by_seed(of_rate, "own"), {}) for of_rate in by_rate]
        if cell == CHOSEN:
            best = max(by_rate, key=_on_validation)
            first = first or best
            cells[by_rate.index(best)] += " ←"
            cells += [
                _cell(_by_seed(best, column), _by_seed(first, column))
                for column in ("own", "union")
            ]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return [*lines, ""]


def _of(runs: Iterable[Run], **wanted: Any) -> list[Run]:
    return [r for r in runs if all(r[k] == v for k, v in wanted.items())]


def _on_validation(runs: Iterable[Run]) -> float:
    """The mean accuracy on validation texts; 0 before there is any run."""
    return statistics.fmean([run.get("val", 0) for run in runs] or [0])


def _by_seed(runs: Iterable[Run], column: str) -> dict[int, float]:
    return {run["seed"]: 100 * run[column] for run in runs}


def _cell(values: dict[int, float], first: dict[int, float]) -> str:
    if not values:
        return "-"
    text = f"{statistics.fmean(values.values()):.1f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values.values()):.1f}"
    return f"**{text}**" if _differs(values, first) else text


def _differs(values: dict[int, float], first: dict[int, float]) -> bool:
    from fs_plugins.report.over_seeds import paired

    difference = paired(values, first)
    return difference is not None and abs(difference[0]) > difference[1]


def _plot(runs: Sequence[Run]) -> None:
    """Draw each method's accuracies, in a panel for each data set and head."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = {"iid": "#4477aa", "dir1": "#ccbb44", "dir03": "#ee6677"}
    figure, panels = plt.subplots(
        len(DATA),
        len(HEADS),
        figsize=(12, 9),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    for (data, head), axes in zip(
        itertools.product(DATA, HEADS), panels.flat, strict=True
    ):
        for split, method in itertools.product(SPLITS, METHODS):
            own = _of(runs, data=data, head=head, method=method, split=split)
            if not own:
                continue
            row = METHODS.index(method) + 0.22 * (SPLITS.index(split) - 1)
            for column, marker in (("own", "o"), ("union", "|")):
                values = list(_by_seed(own, column).values())
                axes.errorbar(
                    statistics.fmean(values),
                    row,
                    xerr=statistics.stdev(values) if values[1:] else None,
                    fmt=marker,
                    color=colors[split],
                    markersize=5 if marker == "o" else 10,
                    label=f"{split}, {column}",
                )
        axes.set_yticks(range(len(METHODS)), METHODS)
        axes.invert_yaxis()
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
        axes.set_title(f"{data}, head {head}")
        axes.set_xlabel("accuracy after the last round, %")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=6
    )
    # The same runs give the same files, to the byte.
    with plt.rc_context({"svg.hashsalt": "methods"}):
        figure.savefig(OUT / "methods.svg", metadata={"Date": None})
    figure.savefig(OUT / "methods.png", dpi=110)
    plt.close(figure)
