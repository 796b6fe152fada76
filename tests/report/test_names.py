"""Names that others have chosen are shown as what they are, wherever."""

import copy
import html.parser
import math
import re

import hypothesis
import pytest
from helpers import GENERATED, TIMES, finished_run
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fs_plugins.analysis.asymmetry import Asymmetry, plot_asymmetry
from fs_plugins.errors import UserError, printable
from fs_plugins.experiment.progress import Bar
from fs_plugins.experiment.runner import silence
from fs_plugins.notes import note, show_notes
from fs_plugins.report.comparison import write_comparison
from fs_plugins.report.tables import (
    Table,
    markdown,
    markdown_code,
    markdown_text,
    show,
)

NAMES = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a|b"),
    *("`code`", "``", "[x](javascript:alert(1))", "![x](y)", "[](z)", "[x]:"),
    *("*a*", "a * b", "**", "_a_", "a_b_c", "__a__", "~~a~~", "&lt;", "&#60;"),
    *("a\\", "\\|", "\\*a\\*", "# a", "- a", "+ a", "1. a", "12) a", "> a"),
    *("$x^2$", "$", "\\frac", "=cmd|' /C calc'!A0", "[bold]a[/bold]", "[/x]"),
    *("a\nb", "a\r\nb", "\x1b[31mred", "\x9b31m", "\u202eabc", "\ud800"),
    *(":smile:", "{{ 7 * 7 }}", "{% x %}", "-->", "]]>", "a\0b", "<!--"),
    *("http://x.y/<z>", "<http://x.y>", "_hidden", "x" * 500, "test_acc"),
    *("äöü", "数据", "a\xa0b", "%s %d", "---", "```", "~~~", "||", '"'),
]
LETTERS = st.sampled_from([*"ab1 \\`*_{}[]()#+-.!|<>&;:~$^=\"'\n\x1b\u2028"])
WORDS = st.sampled_from(NAMES) | st.text(LETTERS, max_size=12)
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def texts(source):
    """What a reader of Markdown shows, of sources that hold text alone."""
    shown = []
    for token in READER.parse(source):
        if token.type == "inline":
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special"}, (source, kinds)
            shown.append("".join(child.content for child in token.children))
        assert not token.type.startswith(("html", "fence", "code", "hr"))
    return shown


def plain(text):
    return " ".join(printable(text).split())


@hypothesis.settings(max_examples=200 * TIMES, **GENERATED)
@hypothesis.given(cells=st.lists(WORDS, min_size=2, max_size=4))
def test_markdown_shows_what_a_cell_holds(cells):
    table = Table(f"{cells[0]}: x", cells, [cells, cells])
    title, *shown = texts(markdown(table))
    assert plain(title) == plain(table.title)
    assert [plain(cell) for cell in shown] == 3 * [plain(c) for c in cells]
    note = f"{cells[1]}, seed"
    assert texts(f"- {markdown_text(note)}") == [plain(note)]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_code_is_shown_as_what_it_is(name):
    (line,) = READER.parse(f"It is {markdown_code(name)}.")[1:2]
    said = "".join(child.content for child in line.children)
    assert plain(said) == plain(f"It is {name}.")
    kinds = {child.type for child in line.children}
    assert kinds <= {"text", "text_special", "code_inline"}


class Page(html.parser.HTMLParser):
    """Collects the tags, the addresses and the texts of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def run_of(name):
    run = finished_run("run", {f"test_{name}": 0.5, "test_total": 3})
    summary = copy.deepcopy(run.summary) | {
        "model": name,
        "data": name,
        "method": name,
        "stopped_early": name,
    }
    last = summary["results"]["last"]
    last["clients"] = {"1": {f"test_{name}": 0.5}}
    curve = [last | {"uplink_bytes": 1, "downlink_bytes": 2}]
    counts = {"1": {"train": {name: 3, "b": 1}}}
    return type(run)(name, run.folder, summary, curve, counts)


@pytest.mark.parametrize("name", ["<script>x</script>|`$a_b$\x1b[31m", "$"])
def test_a_report_shows_any_name(name, tmp_path, capsys):
    write_comparison([run_of(name)], tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "\x1b" not in text and "<script" not in text and "<img" not in text
    page = Page()
    content = (tmp_path / "report.html").read_text("utf-8")
    page.feed(content)
    allowed = ["script", "img", "iframe", "object", "a:javascript"]
    assert not page.tags & {*allowed}
    assert not [a for a, _ in page.attributes if a.startswith("on")]
    links = [v for a, v in page.attributes if a == "href"]
    assert all(v.startswith(("file:", "#")) for v in links)
    assert any(plain(name) == plain(t) for t in page.texts)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", content)
    # A formula would be set in another font, without its dollar signs.
    svg = (tmp_path / "curves.svg").read_text("utf-8")
    assert svg.startswith("<?xml")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_terminal_shows_any_name(name, capsys, monkeypatch):
    show(Table(name, [name, "b"], [[name, "c"]]))
    note(name)
    out, _ = capsys.readouterr()
    flat = "".join(out.split())
    assert flat.count("".join(printable(name)[:20].split())) >= 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)


def test_a_note_is_one_line(capsys):
    silence()  # FederatedScope's own log would be on the terminal, too.
    show_notes()
    note("a\nb\x1b[31m")
    assert capsys.readouterr().err == "note: a\\nb\\x1b[31m\n"


def test_a_bar_shows_brackets():
    bar = Bar("[/x] [red]a", 3)
    assert "[/x] [red]a" in str(
        bar._display.columns[0].render(bar._display.tasks[0])
    )


def test_a_figure_of_clients_shows_any_name(tmp_path):
    groups = [Asymmetry("$a$ $", "_$b_{", 2, "", {"l": {"A": 0.5}})]
    plot_asymmetry(groups, [tmp_path / "a.svg"])
    assert (tmp_path / "a.svg").stat().st_size


@pytest.mark.parametrize(
    "sentence, shown",
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\xa0b\u3000c", "a b c"),
        ("\ud800", "\\ud800"),
        ("x" * 249, "x" * 249),
        (f"a {'x' * 900} b", f"a {'x' * 150} ... {'x' * 50} b"),
        ("word " * 200, "word " * 200),
    ],
    ids=ascii,
)
def test_an_error_is_one_line(sentence, shown):
    assert str(UserError(sentence)) == shown


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.7e308])
def test_results_that_are_not_finite_are_shown(bad, tmp_path):
    """The results of a client that has diverged."""
    runs = []
    for seed in range(4):
        for name in ("a", "b"):
            run = finished_run(name, {"test_acc": bad if seed else 0.5})
            run.summary["seed"] = seed
            last = run.summary["results"]["last"]
            last["clients"] = {
                "1": {"test_acc": bad},
                "2": {"test_acc": -bad},
            }
            run.curve.append(last | {"uplink_bytes": 1, "downlink_bytes": 2})
            runs.append(run)
    write_comparison(runs, tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "nan" in text or "inf" in text or "1700" in text
