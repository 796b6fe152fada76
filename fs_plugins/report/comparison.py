"""A comparison of runs: a page, Markdown, JSON, figures."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fs_plugins.errors import UserError, printable
from fs_plugins.experiment.folder import make_folder, writing_to
from fs_plugins.experiment.runs import Run, as_frame, load_run
from fs_plugins.report.caveats import caveats, tasks
from fs_plugins.report.comparison_tables import (
    comparison_table,
    costs_table,
)
from fs_plugins.report.over_seeds import seeds_tables
from fs_plugins.report.plots import (
    Panel,
    clients,
    curves,
    inline_svg,
    labels,
    save_figure,
)
from fs_plugins.report.tables import Table, markdown, markdown_text
from fs_plugins.state.files import write_file

_CAPTIONS = {
    "curves": "After each evaluation: the test metric of the clients' own "
    "models, weighted by examples; over several seeds their mean, and a band "
    "of their standard deviation.",
    "clients": "After the last evaluation: each client's own model on its own "
    "test shard (over several seeds the mean and standard deviation); the "
    "worst client is red, with its value.",
    "labels": "How many examples of each class the clients train on.",
}


@dataclass(frozen=True)
class _Section:
    """Runs that can be compared with each other, ready to be shown.

    Attributes:
        task: the data and the metric of the runs.
        stem: what the names of the figures' files begin with.
        tables: the results, also over seeds.
        costs: bytes, seconds and memory.
        figures: the panels of each figure, by the figure's name.

    """

    task: str
    stem: str
    tables: list[Table]
    costs: Table
    figures: dict[str, list[Panel]]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: the runs, in the order in which they were given.
        tables: one or more for each task, as the command prints them.
        caveats: what a reader should know before comparing, a sentence each.

    """

    runs: list[Run]
    tables: list[Table]
    caveats: list[str]

    @property
    def results(self) -> Any:
        """One row for each run: its name, seed, and last averages.

        Returns:
            A ``pandas.DataFrame`` if pandas is installed, else the rows as a
            list of dictionaries.

        """
        rows = [
            {"run": run.name, "seed": run.seed} | run.last["weighted"]
            for run in self.runs
        ]
        return as_frame(rows)

    def __str__(self) -> str:
        return "\n".join(markdown(table) for table in self.tables)


def compare(
    *runs: Run | str | Path, out: str | Path | None = None
) -> Comparison:
    """Set runs side by side.

    Args:
        runs: runs, or their folders; they need not have finished, nor share
            a task.
        out: a folder that gets ``report.html``, ``report.md`` and their
            figures; None to write nothing.

    Raises:
        UserError: no run is given, a folder holds none, or ``out`` cannot be
            written to.

    """
    if not runs:
        raise UserError("compare: hand over at least one run")
    read = [run if isinstance(run, Run) else load_run(run) for run in runs]
    folders = [run.folder.resolve() for run in read]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"compare: {folder} is given twice")
    sections = _sections(read)
    if out is not None:
        make_folder(Path(out))
        with writing_to(Path(out)):
            write_comparison(read, Path(out))
    return Comparison(read, _titled(sections), list(caveats(read)))


def write_comparison(runs: Sequence[Run], out: Path) -> list[Table]:
    """Write a comparison of runs into a folder.

    ``report.html`` needs no other file; ``report.md`` shows the figures
    beside it; ``comparison.json`` holds each run's summary.

    Args:
        runs: the runs, which need not have finished, nor share a task.
        out: the folder, which exists.

    Returns:
        The tables that a terminal has room for, each with its task.

    """
    sections, notes = _sections(runs), caveats(runs)
    content = [
        {"name": run.name, "folder": str(run.folder), "source": run.source}
        | run.summary
        for run in runs
    ]
    _write(out / "comparison.json", json.dumps(content, indent=1) + "\n")
    _write(out / "report.md", _markdown(sections, runs, notes, out))
    _write(out / "report.html", _html(sections, runs, notes, out))
    return _titled(sections)


def _sections(runs: Sequence[Run]) -> list[_Section]:
    return [
        _section(task, runs_of_task, "" if number == 1 else f"task{number}_")
        for number, (task, runs_of_task) in enumerate(tasks(runs).items(), 1)
    ]


def _titled(sections: Sequence[_Section]) -> list[Table]:
    """The tables of all sections, each with its task in the title."""
    return [
        replace(table, title=f"{section.task}: {table.title}")
        for section in sections
        for table in section.tables
    ]


def _section(task: str, runs: Sequence[Run], stem: str) -> _Section:
    tables = [comparison_table(runs), *seeds_tables(runs)]
    figures = {
        "curves": curves(runs),
        "clients": clients(runs),
        "labels": labels(runs),
    }
    return _Section(
        task,
        stem,
        tables,
        costs_table(runs),
        {name: panels for name, panels in figures.items() if panels},
    )


def _write(file: Path, text: str) -> None:
    write_file(file, text.encode())


def _markdown(
    sections: Sequence[_Section],
    runs: Sequence[Run],
    notes: Sequence[str],
    out: Path,
) -> str:
    parts = ["# Comparison\n", f"{_written()}\n"]
    parts += [f"- {markdown_text(note)}" for note in notes]
    parts += [""] if notes else []
    for section in sections:
        parts.append(f"## {markdown_text(section.task)}\n")
        parts += [markdown(t) for t in (*section.tables, section.costs)]
        for name, panels in section.figures.items():
            stem = f"{section.stem}{name}"
            save_figure(panels, out / stem)
            parts += [f"![{name}]({stem}.png)\n", f"{_CAPTIONS[name]}\n"]
    return "\n".join([*parts, markdown(_sources(runs))])


def _html(
    sections: Sequence[_Section],
    runs: Sequence[Run],
    notes: Sequence[str],
    out: Path,
) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("fs_plugins.report", "."),
        autoescape=True,
        finalize=_shown_on_page,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "task": section.task,
            "tables": section.tables,
            "costs": section.costs,
            "figures": [
                {
                    "caption": _CAPTIONS[name],
                    "panels": [
                        (p.title, inline_svg(p, f"{section.stem}{name}{n}"))
                        for n, p in enumerate(panels)
                    ],
                }
                for name, panels in section.figures.items()
            ],
        }
        for section in sections
    ]
    links = [(run.folder / run.source).resolve().as_uri() for run in runs]
    return environment.get_template("report.html.j2").render(
        written=_written(),
        notes=notes,
        sections=shown,
        sources=_sources(runs),
        links=links,
    )


def _shown_on_page(value: Any) -> Any:
    """A value of the page: texts are printable, HTML stays as it is."""
    is_html = hasattr(value, "__html__")
    return (
        printable(value) if isinstance(value, str) and not is_html else value
    )


def _written() -> str:
    from fs_plugins.version import __version__

    return f"Written by fs_plugins {__version__}, {datetime.date.today()}."


def _sources(runs: Sequence[Run]) -> Table:
    """A table of what each run was, and of the file with its numbers."""
    facts = ("method", "aggregator", "adapter", "model", "data", "clients")
    columns = ("run", *facts, "rounds", "seed", "host", "numbers from")
    return Table(
        "the runs",
        columns,
        [
            (
                run.name,
                *(_shown(run.summary.get(fact)) for fact in facts),
                _shown(run.summary.get("rounds")),
                str(run.seed),
                _host(run.summary),
                str(run.folder / run.source),
            )
            for run in runs
        ],
    )


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _host(summary: dict[str, Any]) -> str:
    parts = [summary.get(name) for name in ("host", "host_version")]
    return " ".join(part for part in parts if part) or "-"
