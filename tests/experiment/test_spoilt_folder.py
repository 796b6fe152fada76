"""Whatever stands in a run's folder: a result, or a sentence that names it."""

import copy
import json
import math
import os
import shutil
from pathlib import Path

import hypothesis
import pytest
import yaml
from helpers import GENERATED, TIMES, within
from hypothesis import strategies as st

from fs_plugins import load_run
from fs_plugins.analysis.runs import analyze_run
from fs_plugins.analysis.runs import write as write_analysis
from fs_plugins.commands.compare import report
from fs_plugins.commands.export import export
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment import resume
from fs_plugins.experiment.folder import make_folder
from fs_plugins.report import comparison, plots
from fs_plugins.report.runs import find_runs

DEEP = "[" * 5000 + "]" * 5000
ANCHORS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 25)
)
# In the place of any value of a JSON or YAML file; texts that begin with RAW
# stand for what no library writes.
RAW = "raw:"
ODD = [
    *(None, True, "x", -1, 0, 1.5, 2**40, 10**400, math.nan, math.inf),
    *(1e308, "", [], {}, [[]], {"1": {"2": 3}}, "\ud800", "a\nb\x1b[31m"),
    *(f"{RAW}{DEEP}", RAW + "9" * 5000, f"{RAW}1e999"),
]
WHOLE = [
    *(b"", b"\0" * 30, b"null", b"[]", b"{}", b"{", b"5", b"\xff\xfe{}\0"),
    *(DEEP.encode(), b"NaN", b"a: &a [*a]", ANCHORS.encode(), b"\n\n", b"x"),
    *(b"{" + b'"a": {' * 5000, b"- " * 3000, b"? " * 3000, b"!!int abc"),
]
BYTES = ["whole", "line", "nul", "cut"]
KINDS = ["missing", "folder", "dangling", "loop", "pipe", "zero", "sibling"]


@pytest.fixture(scope="module")
def finished(make_lab, tmp_path_factory):
    """The folder of a finished run, and what is called with copies of it."""
    lab = make_lab(tmp_path_factory.mktemp("finished"))
    folder = Path(lab.run(federate__total_round_num=2)["outdir"])
    (folder / "exp_print.log").write_text("")
    return folder


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures are drawn, but not rendered, which takes a second each."""

    def save(figure, file, **how):
        if hasattr(file, "write"):
            file.write("<svg></svg>")
        else:
            Path(file).write_bytes(b"")

    monkeypatch.setattr(plots, "_save", save)


def places(value, path=()):
    """The paths of all values inside a value."""
    yield path
    inside = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for key, entry in inside:
        yield from places(entry, (*path, key))


def replaced(tree, path, new):
    """A copy in which another value stands at a path."""
    if not path:
        return new
    tree = copy.deepcopy(tree)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return tree


def text_of(dump, tree):
    """A file's text, in which marked texts stand as they are."""
    text = dump(tree)
    for odd in ODD:
        if isinstance(odd, str) and odd.startswith(RAW):
            text = text.replace(f'"{odd}"', odd.removeprefix(RAW))
            text = text.replace(odd, odd.removeprefix(RAW))
    return text


def edited(file, number, odd):
    """The text of a JSON or YAML file with one value that is odd."""
    text = file.read_text()
    if file.suffix == ".yaml":
        tree = yaml.safe_load(text)
        dump = yaml.safe_dump
        if isinstance(odd, str) and "\ud800" in odd:
            odd = "\x1b[31m"
    elif file.suffix == ".jsonl":
        lines = text.splitlines()
        tree, dump = json.loads(lines[-1]), json.dumps
    else:
        tree, dump = json.loads(text), json.dumps
    paths = list(places(tree))
    new = text_of(dump, replaced(tree, paths[number % len(paths)], odd))
    if file.suffix == ".jsonl":
        return "\n".join([*lines[:-1], new]) + "\n"
    return new


def put(file, kind):
    """Put something else in the place of a file."""
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "dangling":
        file.symlink_to("/no/such/file")
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "sibling":
        file.symlink_to(file.parent)


def look(folder, out):
    run = load_run(folder)
    assert repr(run) and run.last is not None and run.best is not None
    assert run.metrics is not None and run.settings is not None
    assert run.seed >= 0 and run.metric and run.union_metric is not None
    assert run.worst() is None or run.worst_client()
    for ID in run.clients[:3]:
        assert run.client(ID).results is not None


def make_report(folder, out):
    runs = find_runs([folder])
    make_folder(out)
    report(runs, out)


def compare(folder, out):
    good = folder.with_name("good")
    comparison.compare(good, folder, out=out)


def resumed(folder, out):
    resume(folder, quiet=True)


def resumed_in_spite(folder, out):
    resume(folder, overrides=["federate.total_round_num", "3"],
           force=True, quiet=True)  # fmt: skip


def analyze(folder, out):
    write_analysis([analyze_run(folder)], out)


def model(folder, out):
    load_run(folder).client(1).model()


CHEAP = {
    "look": look,
    "report": make_report,
    "compare": compare,
    "export": lambda folder, out: export(folder, "all", out),
    "resume": resumed,
}
COSTLY = {
    "merge": lambda folder, out: export(folder, "1", out, merge=True),
    "model": model,
    "analyze": analyze,
    "go on": resumed_in_spite,
}


def files_of(folder):
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".gz"
    )


def check(finished, tmp_path, case, calls):
    number, how, odd, place, name, is_unfinished = case
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    folder = tmp_path / "x" / "run"
    shutil.copytree(finished, folder)
    shutil.copytree(finished, folder.with_name("good"))
    file = files_of(folder)[number % len(files_of(folder))]
    before = file.read_bytes()
    if how == "edit" and file.suffix in (".json", ".jsonl", ".yaml"):
        text = edited(file, place, odd)
        file.write_bytes(text.encode(errors="surrogatepass"))
    elif how in KINDS:
        put(file, how)
    elif how == "whole":
        file.write_bytes(WHOLE[place % len(WHOLE)])
    elif how == "line":
        file.write_bytes(before + b'{"round": 3, "weig')
    else:
        at = place % (len(before) + 1)
        file.write_bytes(before[:at] + (b"\0" if how == "nul" else b""))
    if is_unfinished and file.name != "summary.json":
        (folder / "summary.json").unlink()
    out = tmp_path / "x" / "out"
    try:
        with within(10):
            calls[name](folder, out)
    except UserError as error:
        sentence = str(error)
        assert sentence.isprintable() and len(sentence) < 700, sentence
        assert not out.exists() or not any(out.iterdir()), sentence
    except RunError as error:
        assert name == "go on" and str(error).isprintable()


def cases(calls):
    return st.tuples(
        st.integers(0, 99),
        st.sampled_from(["edit"] * 6 + KINDS + BYTES),
        st.sampled_from(ODD),
        st.integers(0, 9999),
        st.sampled_from(sorted(calls)),
        st.booleans(),
    )


@hypothesis.settings(max_examples=70 * TIMES, **GENERATED)
@hypothesis.given(case=cases(CHEAP))
def test_what_is_read_is_a_result_or_refused(finished, tmp_path, case):
    check(finished, tmp_path, case, CHEAP)


@hypothesis.settings(max_examples=10 * TIMES, **GENERATED)
@hypothesis.given(case=cases(COSTLY))
def test_what_goes_on_is_a_result_or_refused(finished, tmp_path, case):
    check(finished, tmp_path, case, COSTLY)
