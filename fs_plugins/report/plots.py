"""The figures of a comparison, for a paper and for the report's page."""

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fs_plugins.experiment.evaluations import is_better, worst_of
from fs_plugins.experiment.runs import Run
from fs_plugins.report.averages import deviation, mean
from fs_plugins.report.labels import PLAIN_TEXT, label_of

# Paul Tol's "bright" colours, which the colour-blind can tell apart, on white
# and on black.
COLORS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#999999",
)
_STYLES = ("-", "--", ":", "-.")
_MANY = 25  # with more clients than this, there is no room for their numbers
_ROOM = 6  # up to so many names, the legend fits into the axes
_WORST = "#ee6677"
_HIGHEST = 1e100  # of the values that are drawn
_TEXT = "#010203"  # stands for the page's own colour in an inline SVG


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        title: what the panel shows.
        draw: draws the panel into matplotlib's axes.
        height: the height in inches.

    """

    title: str
    draw: Callable[[Any], None]
    height: float = 3.2


def curves(runs: Sequence[Run]) -> list[Panel]:
    """The test metric against rounds, and against bytes if they are known."""
    names = len(by_name(runs))
    height = 3.2 if names <= _ROOM else 3.4 + 0.12 * names
    if not any(run.curve for run in runs):
        return []
    against = {"by round": _rounds}
    if any(_megabytes(line) is not None for r in runs for line in r.curve):
        against["by bytes sent"] = _megabytes
    return [
        Panel(title, partial(_draw_curves, runs=runs, against=place), height)
        for title, place in against.items()
    ]


def clients(runs: Sequence[Run]) -> list[Panel]:
    """A bar for each client, a panel for each name, the worst one marked."""
    values = [_drawable(v) for r in runs for v in r.of_clients().values()]
    highest = max(filter(math.isfinite, values), default=0.0)
    return [
        Panel(label_of(name), _drawer_of_bars(of_name, highest))
        for name, of_name in by_name(runs).items()
        if any(run.of_clients() for run in of_name)
    ]


def labels(runs: Sequence[Run]) -> list[Panel]:
    """Each client's classes of training data, a panel for each split."""
    splits: list[Mapping[str, Any]] = []
    panels = []
    for run in runs:
        if run.labels and run.labels not in splits:
            splits.append(run.labels)
            panels.append(_labels_panel(run.labels, run))
    if len(panels) > 1:
        return [
            Panel(f"{p.title} ({n})", p.draw, p.height)
            for n, p in enumerate(panels, 1)
        ]
    return panels


def by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group the runs by name: those of a name differ in their seed alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def _drawable(value: float) -> float:
    """A value for which axes have a place; NaN, a gap, for any other."""
    return value if abs(value) < _HIGHEST else math.nan


def _rounds(line: Mapping[str, Any]) -> float | None:
    return float(line["round"])


def _megabytes(line: Mapping[str, Any]) -> float | None:
    if "uplink_bytes" not in line:
        return None
    return float(line["uplink_bytes"] + line["downlink_bytes"]) / 1e6


def _draw_curves(
    axes: Any,
    runs: Sequence[Run],
    against: Callable[[Mapping[str, Any]], float | None],
) -> None:
    """Draw the mean over seeds, and a band of their standard deviation.

    Args:
        axes: matplotlib's axes.
        runs: runs that can be compared.
        against: the place of an evaluation on the x axis: its round, or the
            bytes that had been sent.

    """
    metric = runs[0].metric
    looks = itertools.product(_STYLES, COLORS)
    for (name, of_name), (style, color) in zip(
        by_name(runs).items(), itertools.cycle(looks)
    ):
        points = _points(of_name, metric, against)
        if not points:
            continue
        xs = [mean(x) for x, _ in points]
        means = [mean(y) for _, y in points]
        seeds = len(of_name)
        label = label_of(name) + (f" ({seeds} seeds)" if seeds > 1 else "")
        axes.plot(xs, means, style, marker=".", color=color, label=label)
        if seeds > 1:
            spread = [deviation(y) for _, y in points]
            low = [m - s for m, s in zip(means, spread, strict=True)]
            high = [m + s for m, s in zip(means, spread, strict=True)]
            axes.fill_between(
                xs, low, high, color=color, alpha=0.15, linewidth=0
            )
    is_by_round = against is _rounds
    axes.set_xlabel("round" if is_by_round else "sent up and down, MB")
    if is_by_round:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(f"{label_of(metric)}, weighted over clients")
    axes.grid(alpha=0.2)
    if len(axes.get_lines()) <= _ROOM:
        axes.legend(handles=axes.get_lines())
    else:
        _legend_below(axes, 2)


def _points(
    runs: Sequence[Run],
    metric: str,
    against: Callable[[Mapping[str, Any]], float | None],
) -> list[tuple[list[float], list[float]]]:
    """The places and values of all seeds, for each round that all have.

    A mean over fewer seeds would jump where one of them ends.
    """
    by_round: dict[int, tuple[list[float], list[float]]] = {}
    for line in itertools.chain.from_iterable(run.curve for run in runs):
        x = against(line)
        y = line["weighted"].get(metric)
        if x is not None and y is not None:
            xs, ys = by_round.setdefault(line["round"], ([], []))
            xs.append(x)
            ys.append(_drawable(y))
    return [p for _, p in sorted(by_round.items()) if len(p[0]) == len(runs)]


def _drawer_of_bars(
    runs: Sequence[Run], highest: float
) -> Callable[[Any], None]:
    metric = runs[0].metric

    def draw(axes: Any) -> None:
        values: dict[str, list[float]] = {}
        for run in runs:
            for ID, value in run.of_clients().items():
                values.setdefault(ID, []).append(_drawable(value))
        name_of = {ID: runs[0].name_of(ID) for ID in values}
        IDs = sorted(values, key=int)
        means = {ID: mean(values[ID]) for ID in IDs}
        worst = worst_of(means, metric)
        is_many = len(IDs) > _MANY
        if is_many:
            falls = is_better(metric, 0, 1)  # of a loss, the lowest is best
            IDs.sort(key=lambda ID: means[ID], reverse=falls)
        axes.bar(
            range(len(IDs)),
            [means[ID] for ID in IDs],
            1.0 if is_many else 0.8,
            yerr=None
            if is_many or len(runs) < 2
            else [_spread(values[i]) for i in IDs],
            color=[_WORST if worst == ID else COLORS[0] for ID in IDs],
            ecolor=COLORS[-1],
        )
        axes.set_ylim(0, highest * 1.15 or 1)
        names = [name_of[ID] for ID in IDs]
        axes.set_xticks(
            [] if is_many else range(len(IDs)), [] if is_many else names
        )
        axes.set_xlabel(
            f"{len(IDs)} clients, from worst to best" if is_many else "client"
        )
        axes.set_ylabel(label_of(metric))
        if worst is not None and is_many:
            axes.text(
                0.02,
                0.93,
                f"worst: client {name_of[worst]}, {means[worst]:.3f}",
                transform=axes.transAxes,
            )
        elif worst is not None:
            axes.annotate(
                f"{means[worst]:.3f}",
                (IDs.index(worst), means[worst]),
                textcoords="offset points",
                xytext=(0, 3),
                ha="center",
            )
        axes.grid(axis="y", alpha=0.2)
        axes.set_axisbelow(True)

    return draw


def _spread(values: Sequence[float]) -> float:
    return deviation(values) if len(values) > 1 else 0.0


def _labels_panel(counts: Mapping[str, Any], run: Run) -> Panel:
    IDs = sorted(counts, key=int)
    classes = sorted({c for ID in IDs for c in counts[ID].get("train", {})})
    height = min(1.4 + 0.22 * len(IDs), 7.0)

    def draw(axes: Any) -> None:
        left = [0] * len(IDs)
        for place, (name, color) in enumerate(
            zip(classes, itertools.cycle(COLORS))
        ):
            numbers = [counts[ID].get("train", {}).get(name, 0) for ID in IDs]
            axes.barh(
                range(len(IDs)),
                numbers,
                0.8 if len(IDs) <= _MANY else 1.0,
                left,
                color=color,
                alpha=1 - 0.3 * (place // len(COLORS) % 3),
                label=label_of(name),
            )
            left = [a + b for a, b in zip(left, numbers, strict=True)]
        axes.set_ylim(len(IDs) - 0.4, -0.6)
        is_many = len(IDs) > _MANY
        shown = [] if is_many else list(map(run.name_of, IDs))
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylabel(f"{len(IDs)} clients" if is_many else "client")
        axes.set_xlabel("examples to train on")
        if 1 < len(classes) <= 12:
            _legend_below(axes, min(len(classes), 3))

    title = "classes of each client"
    if len(classes) > 12:
        title = f"{len(classes)} {title}"
    return Panel(title, draw, height + 0.25 * (min(len(classes), 12) // 3))


def _legend_below(axes: Any, columns: int) -> None:
    """Put a legend below the axes.

    Its distance, in font sizes, leaves room for the axis' numbers and title.
    """
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=3.6,
        ncols=columns,
    )


def save_figure(panels: Sequence[Panel], stem: Path) -> list[Path]:
    """Write the panels side by side, for a paper.

    Args:
        panels: the panels of the figure.
        stem: the path of the files to write, without suffix.

    Returns:
        ``<stem>.png`` and ``<stem>.svg``; nothing if there is no panel.

    """
    import matplotlib

    if not panels:
        return []
    files = [Path(f"{stem}.{suffix}") for suffix in ("png", "svg")]
    with matplotlib.rc_context(PLAIN_TEXT):
        figure, all_axes = _figure(panels, min(len(panels), 3))
        for panel, axes in itertools.zip_longest(panels, all_axes):
            if panel is None:
                axes.set_axis_off()
            else:
                panel.draw(axes)
                axes.set_title(panel.title)
        for file in files:
            is_svg = file.suffix == ".svg"
            _save(figure, file, metadata={"Date": None} if is_svg else {})
    return files


def inline_svg(panel: Panel, prefix: str) -> str:
    """A panel as an ``<svg>`` that takes its colour from the page around it.

    Args:
        panel: the panel to draw.
        prefix: what the IDs in the SVG begin with; panels on one page must
            have different ones.

    """
    import matplotlib

    colors: dict[Any, str] = dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _TEXT,
    )
    buffer = io.StringIO()
    with matplotlib.rc_context(
        {
            **colors,
            **PLAIN_TEXT,
            "svg.fonttype": "none",
            "legend.framealpha": 0.0,
        }
    ):
        figure, (axes,) = _figure([panel], 1)
        panel.draw(axes)
        _save(
            figure,
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg)
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)


def _figure(
    panels: Sequence[Panel], columns: int
) -> tuple[Any, Iterable[Any]]:
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    height = max(panel.height for panel in panels)
    figure = Figure(figsize=(4.4 * columns, height * rows))
    figure.set_layout_engine("constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).flat


def _save(figure: Any, file: Any, **how: Any) -> None:
    """Save a figure so that the same figure gives the same bytes."""
    import matplotlib

    with (
        matplotlib.rc_context({"svg.hashsalt": "fs_plugins"}),
        warnings.catch_warnings(),
    ):
        # A letter that the font lacks is a box in a picture, and text in SVG.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, dpi=200, **how)
