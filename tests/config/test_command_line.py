"""Whatever the words of a command are: it runs, or says why not."""

import os

import hypothesis
import pytest
from helpers import GENERATED, TIMES, within
from hypothesis import strategies as st

COMMANDS = [
    *("run", "compare", "report", "export", "methods", "doctor"),
    *("analyze", "analyze asymmetry", "install-contrib", "options", "x", ""),
]
OPTIONS = [
    *("--cfg", "--resume", "--force", "--dry-run", "--quiet", "--verbose"),
    *("--seeds", "--out", "--client", "--merge", "--splits", "--adapters"),
    *("--uninstall", "--help", "--version", "--set", "--cfg=", "-x", "--"),
]
WORDS = [
    *("", " ", ".", "..", "/", "~", "folder", "binary.yaml", "list.yaml"),
    *("good.yaml", "good.yaml+ffa", "good.yaml+", "none.yaml", "loop.yaml"),
    *("folder.yaml", "/dev/null", "/proc/self/mem", "demo/fedsa.yaml+nothing"),
    *("seed", "1", "seed=1", "federate.method", "x" * 300, "y" * 5000 + "/z"),
    *("\udcff", "\udcff.yaml", "a\nb", "\x1b[31m", "0,1", "0,x", "9" * 5000),
    *("-1", "all", "global", "../x", "[red]", "%s", "{}", "None", "a" * 255),
]
GOOD = "federate: {client_num: 3}\ndata: {type: x@glue, splitter: lda}\n"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with files and folders of the names above."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "good.yaml").write_text(GOOD)
    (folder / "loop.yaml").symlink_to("loop.yaml")
    for name in ("folder", "folder.yaml"):
        (folder / name).mkdir()
    return folder


@st.composite
def lines(draw):
    words = draw(st.sampled_from(COMMANDS)).split()
    more = st.sampled_from(WORDS) | st.sampled_from(OPTIONS)
    return words + draw(st.lists(more, max_size=5))


@hypothesis.settings(max_examples=150 * TIMES, **GENERATED)
@hypothesis.given(words=lines())
@hypothesis.example(["run", "--cfg", "good.yaml", "outdir", "\udcff"])
@hypothesis.example(["report", "\udcff", "--out", "\udcfe"])
@hypothesis.example(["export", "folder", "--client", "1", "--out", "."])
@hypothesis.example(["compare", "good.yaml", "--seeds", "99999999999"])
def test_any_words_are_answered_in_one_line(
    places, fedsa, monkeypatch, words
):  # fmt: skip
    monkeypatch.chdir(places)
    before = sorted(os.listdir())
    with within(20):
        result = fedsa(*words)
    assert result.returncode in (0, 2), (words, result.stderr)
    if result.returncode == 2 and result.stderr:
        assert result.stderr.startswith("fedsa: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert len(result.stderr) < 700, result.stderr
    assert sorted(os.listdir()) == before
