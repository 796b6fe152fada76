"""The page, the Markdown and the figures of a comparison."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import finished_run

from fs_plugins.experiment.runs import Run
from fs_plugins.report.comparison import write_comparison
from fs_plugins.report.plots import clients, curves, labels
from fs_plugins.report.runs import find_runs


@pytest.fixture(scope="module")
def many():
    """Two names and two seeds, curves and clients."""

    def one(name, seed, base):
        found = finished_run(name, {"test_acc": base})
        found.summary["seed"] = seed
        found.summary["results"]["last"]["clients"] = {
            str(ID): {"test_acc": base - 0.01 * ID} for ID in (1, 2, 10)
        }
        curve = [
            {
                "round": rnd,
                "weighted": {"test_acc": base * rnd / 2},
                "uplink_bytes": 1000 * rnd,
                "downlink_bytes": 500 * rnd,
            }
            for rnd in (1, 2)
        ]
        counts = {
            str(ID): {"train": {"x": ID, "y": 3}, "val": {}, "test": {"x": 1}}
            for ID in (1, 2, 10)
        }
        return Run(name, found.folder, found.summary, curve, counts)

    return [one("a", 0, 0.5), one("a", 1, 0.7), one("<b>", 0, 0.6)]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.uses, self.asks, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href", "srcset", "action"):
                is_inside = value.startswith("#")
                (self.uses if is_inside else self.asks).append(value)
            self.uses += [
                f"#{name}" for name in re.findall(r"url\(#([^)]*)", value)
            ]


def test_the_page_stands_alone(many, tmp_path):
    """Nothing is fetched; every reference within it is to one place."""
    write_comparison(many, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert all(link.startswith("file://") for link in page.asks)
    assert len(page.ids) == len(set(page.ids))
    assert {use.removeprefix("#") for use in page.uses} <= set(page.ids)
    assert "@import" not in text and "<script" not in text
    assert "prefers-color-scheme: dark" in text and "viewport" in text
    assert "<b>" not in text and "&lt;b&gt;" in text
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        ElementTree.fromstring(svg)


def test_every_number_of_a_table_is_in_the_summaries(many, tmp_path):
    tables = write_comparison(many, tmp_path)
    for file in ("report.html", "report.md"):
        text = (tmp_path / file).read_text()
        for table in tables:
            for row in table.rows:
                assert all(
                    part in text
                    for cell in row[1:]
                    for part in cell.split(" | ")
                )
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [c["results"] for c in content] == [
        r.summary["results"] for r in many
    ]
    comparison = tables[0]
    for run, row in zip(many, comparison.rows, strict=True):
        cells = dict(zip(comparison.columns, row, strict=True))
        for column, keys in comparison.keys.items():
            for key, shown in zip(
                keys.split(", "), cells[column].split(" | "), strict=False
            ):
                if "*" in key:
                    continue
                value = run.summary
                for part in key.split("."):
                    value = value[part]
                number = float(re.match(r"[\d.]+", shown).group())
                scale = 1000 if "kB" in shown else 1
                assert number * scale == pytest.approx(value, abs=0.5)


def test_a_finished_run_from_its_folder(lab, tmp_path):
    folder = Path(lab.run()["outdir"])
    write_comparison(find_runs([folder]), tmp_path)
    for name in ("curves", "clients", "labels"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        ElementTree.parse(tmp_path / f"{name}.svg")
        assert f"({name}.png)" in (tmp_path / "report.md").read_text()


def axes_of(panel):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def test_curves_show_the_mean_over_seeds_and_their_spread(many):
    by_round, by_bytes = (axes_of(panel) for panel in curves(many))
    a, b = by_round.get_lines()
    assert list(a.get_xdata()) == [1, 2]
    assert list(a.get_ydata()) == pytest.approx([0.3, 0.6])
    assert list(by_bytes.get_lines()[0].get_xdata()) == [0.0015, 0.003]
    assert len(by_round.collections) == 1, "one seed has no spread"
    assert a.get_label() == "a (2 seeds)" and b.get_label() == "<b>"


def test_a_curve_ends_where_its_first_seed_does(many):
    """A mean over fewer seeds would jump."""
    shorter = Run("a", many[1].folder, many[1].summary, many[1].curve[:1])
    line = axes_of(curves([many[0], shorter])[0]).get_lines()[0]
    assert list(line.get_xdata()) == [1]


def test_without_bytes_there_is_no_curve_of_bytes(many):
    curve = [{"round": 1, "weighted": {"test_acc": 0.5}}]
    run = Run("a", many[0].folder, many[0].summary, curve)
    assert [panel.title for panel in curves([run])] == ["by round"]


def test_without_a_curve_there_is_no_figure_of_one(many):
    """Of a summary that has lost its metrics.jsonl."""
    assert curves([Run("a", many[0].folder, many[0].summary)]) == []


@pytest.mark.parametrize("metric", ["test_acc", "test_avg_loss"])
def test_the_worst_client_is_marked(metric):
    """Of a loss the highest; clients in the order of their numbers."""
    run = finished_run("a", {metric: 0.5})
    values = {"1": 0.5, "10": 0.9, "2": 0.1}
    run.summary["results"]["last"]["clients"] = {
        ID: {metric: value} for ID, value in values.items()
    }
    (panel,) = clients([run])
    bars = axes_of(panel).patches
    assert [bar.get_height() for bar in bars] == [0.5, 0.1, 0.9]
    colors = [bar.get_facecolor() for bar in bars]
    worst = 1 if metric == "test_acc" else 2
    others = {c for place, c in enumerate(colors) if place != worst}
    assert len(others) == 1 and colors[worst] not in others


def test_many_clients_stand_in_the_order_of_their_results():
    run = finished_run("a", {"test_acc": 0.5})
    values = {str(ID): {"test_acc": ID * 7 % 100 / 100} for ID in range(1, 61)}
    run.summary["results"]["last"]["clients"] = values
    heights = [b.get_height() for b in axes_of(clients([run])[0]).patches]
    assert heights == sorted(v["test_acc"] for v in values.values())


def test_each_split_has_its_panel_of_classes(many):
    (panel,) = labels(many)
    widths = [bar.get_width() for bar in axes_of(panel).patches]
    assert widths == [1, 2, 10, 3, 3, 3]
    counts = {"1": {"train": {"x": 1, "z": 2}}}
    other = Run("c", many[0].folder, many[0].summary, [], counts)
    panels = labels([*many, other])
    assert [panel.title[-3:] for panel in panels] == ["(1)", "(2)"]
    legends = [axes_of(panel).get_legend() for panel in panels]
    assert [[text.get_text() for text in own.texts] for own in legends] == [
        ["x", "y"],
        ["x", "z"],
    ]


def test_a_run_without_results_is_left_out(many, tmp_path):
    empty = finished_run("c", {})
    tables = write_comparison([*many, empty], tmp_path)
    assert all(row[0] != "c" for table in tables for row in table.rows)
    assert "no results yet" in (tmp_path / "report.html").read_text()


def test_the_same_runs_give_the_same_files(many, tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        write_comparison(many, tmp_path / name)
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()
