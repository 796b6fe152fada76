"""What the documents say is so: links, commands, examples, tables, site."""

import html.parser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
import yaml
from helpers import ADAPTERS

from fs_plugins.cli import app
from fs_plugins.commands.listings import options_tables
from fs_plugins.config.load import load_config
from fs_plugins.model.arguments import COVERED, REFUSED
from fs_plugins.policy import METHODS
from fs_plugins.report.tables import markdown

pytestmark = pytest.mark.usefixtures("registries_as_they_were")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md")
    for file in ROOT.glob(pattern)
)
COMPUTED = ROOT / "benchmarks" / "results" / "asymmetry" / "asymmetry.md"


def each(pages):
    def name(page):
        return page.relative_to(ROOT).as_posix()

    return pytest.mark.parametrize("page", pages, ids=name)


ALL = each(PAGES)
BY_HAND = each([page for page in PAGES if page != COMPUTED])
COLUMNS = 100
CODE = re.compile(r"```.*?```", re.S)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return CODE.sub("", page.read_text("utf-8"))


def anchor(heading: str) -> str:
    """As the pages of a repository are linked to."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


def anchors(page: Path) -> list[str]:
    return [anchor(h) for h in re.findall(r"^#+ (.*)$", prose(page), re.M)]


@ALL
def test_links_lead_somewhere(page):
    """To a file of the repository, and to a heading that it has."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if link.startswith("https://"):
            assert re.fullmatch(r"https://[\w.-]+(/[\w.%/-]*)?", link), link
            continue
        name, _, part = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not part or part in anchors(target), link


@BY_HAND
def test_headings_are_told_apart(page):
    """Two of one name in a page have one anchor; one title begins it."""
    assert len(set(anchors(page))) == len(anchors(page))
    titles = re.findall(r"^# .*$", prose(page), re.M)
    assert len(titles) == 1 and page.read_text("utf-8").startswith(titles[0])


@ALL
def test_tables_are_whole(page):
    """A blank line in one makes text of all that is below it."""
    for table in re.findall(r"(?:^\|.*\n?)+", prose(page), re.M):
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"(\| ?-+ ?)+\|", rule), head
        width = rule.count("|")
        for row in (head, *rows):
            assert len(re.findall(r"(?<!\\)\|", row)) == width, row


@BY_HAND
def test_lines_are_short(page):
    """But for tables and code, which have no room to be broken in."""
    lines = prose(page).splitlines()
    long = [x for x in lines if len(x) > COLUMNS and not x.startswith("|")]
    assert not [line for line in long if " " in line.strip()]


def test_the_readme_is_where_one_begins():
    """It is short, and every page is reached from it or from one it names."""
    assert len(README.read_text("utf-8").splitlines()) <= 150
    reached, new = set(), {README}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", prose(page))
        new |= {(page.parent / link).resolve() for link in links} - reached
    assert set(DOCS.glob("*.md")) <= reached


def test_the_readmes_experiment_is_loaded(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S)
    file = tmp_path / "my.yaml"
    file.write_text(text)
    cfg = load_config(file)
    assert cfg.federate.method == "fedsa" and cfg.data.type == "sst2@glue"


def test_every_method_is_in_the_readmes_table():
    rows = re.findall(r"^\| `(\w+)` \|", prose(README), re.M)
    assert sorted(rows) == sorted([*METHODS, "FedAvg"])


def commands() -> list[str]:
    """Every line of a document that begins with ``fedsa``."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```\n(.*?)```", text, re.S)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(fedsa [^`]*)`", text)
        found += [
            " ".join(line.removeprefix("$ ").partition(" #")[0].split())
            for line in lines
            if re.match(r"(\$ )?fedsa (--)?[a-z]", line)
        ]
    return sorted({line for line in found if "<" not in line})


@pytest.mark.parametrize("line", commands())
def test_commands_are_as_the_command_has_them(line, monkeypatch):
    """Known options; YAML files of the project that load."""
    monkeypatch.chdir(ROOT)
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {line}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if line.startswith("fedsa --"):  # they act when they are parsed
        assert {*words} <= {o for p in command.params for o in p.opts}
    elif words:
        command.make_context("fedsa", list(words))
    else:
        assert command.name in line, "a command that there is"
    for word in words:
        if word.startswith(("yaml_configs/", "demo/")):
            load_config(word)


def test_programs_and_targets_that_are_named_are_there():
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    programs = re.findall(
        r"python ((?:benchmarks|yaml|tests)[\w/]*\.py)", text
    )
    assert programs
    for program in programs:
        assert (ROOT / program).is_file(), program
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", text, re.M):
        assert re.search(rf"^{''.join(target)}:", makefile, re.M), target


def test_files_that_are_named_are_there():
    """Programs, folders and YAML files of the repository, as code."""
    start = r"(?:fs_plugins|tests|benchmarks|docs|yaml_configs)/"
    for page in PAGES:
        for name in re.findall(rf"`({start}[\w./]*)`", prose(page)):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_promise_has_its_test():
    """A row of the page on threats names tests that there are."""
    page = (DOCS / "threats.md").read_text("utf-8")
    rows = re.findall(
        r"^\| (?!promise|-)([^|]*) \| (`tests/.*) \|$", page, re.M
    )
    assert len(rows) > 30
    for promise, cell in rows:
        for file, test in re.findall(r"`(tests/[\w/.]+)::(\w+)`", cell):
            text = (ROOT / file).read_text("utf-8")
            assert re.search(rf"^def {test}\(", text, re.M), promise
    after = page.partition("## What a client keeps")[2]
    assert after.count("\n| ") == len(rows) + after.count("| promise |")


def test_every_option_is_in_its_table():
    page = (DOCS / "options.md").read_text("utf-8")
    tables = "\n".join(map(markdown, options_tables()))
    assert page.endswith(tables), (
        "write what 'fedsa options --markdown' prints to its end"
    )


def test_every_argument_of_an_adapter_is_in_its_table():
    page = (DOCS / "adapters.md").read_text("utf-8")
    section = page.partition("## Arguments of the adapter")[2]
    for name in COVERED:
        assert f"`{name}`" in section, name
    for name, reason in REFUSED.items():
        assert f"| `{name}` | {reason} |" in section, name


def test_the_citation_is_well_formed():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "title", "message", "authors"} <= cff.keys()
    (paper,) = cff["references"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Guo", "Zeng", "Wang", "Fan", "Wang", "Qu"]
    assert "2410.01463" in paper["url"] and paper["year"] == 2025


def example(name: str, folder: Path) -> str:
    """A file of docs/extending.md, written out."""
    text = (DOCS / "extending.md").read_text("utf-8")
    (code,) = re.findall(rf"```python\n(# {name}\n.*?)```", text, re.S)
    file = folder / name
    file.write_text(code)
    return str(file)


def test_the_example_of_a_method(lab, tmp_path):
    """B does not move in odd rounds, and never travels."""
    runner = lab.runner(
        fedsa__plugins=[example("my_method.py", tmp_path)],
        federate__method="late_b",
        federate__total_round_num=1,
    )
    runner.run()
    shared = runner.server.aggregator.shared
    assert shared and not any("lora_B" in name for name in shared)
    assert any("classifier" in name for name in shared)
    for client in runner.client.values():
        b = [v for k, v in client.kept.values.items() if "lora_B" in k]
        assert b and not any(value.any() for value in b)


def test_the_example_of_an_aggregator(lab, tmp_path):
    """One round's step is at most as long as the longest that counts."""
    runner = lab.runner(
        fedsa__plugins=[example("my_aggregator.py", tmp_path)],
        fedsa__aggregator="clipped",
        federate__method="fedit",
        federate__total_round_num=1,
        train__optimizer={"type": "SGD", "lr": 50.0},
    )
    start = dict(runner.server.aggregator.shared)
    runner.run()
    end = runner.server.aggregator.shared
    step = torch.cat([(end[n] - start[n]).flatten() for n in start])
    assert 0.01 < float(step.norm()) <= 0.1 + 1e-6


def test_the_example_of_a_peft_method(lab, tmp_path, toy_model):
    """FedSA with LoHa: what travels is A's side; PEFT loads what is left."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    plugin = example("my_peft_method.py", tmp_path)
    args = [{"adapter_method": "loha", "r": 2, "target_modules": ["query"]}]
    changes = {"fedsa__plugins": [plugin], "llm__adapter__args": args}
    runner = lab.runner(**changes)
    shared = runner.server.aggregator.shared
    assert {name.split(".")[-2] for name in shared} == {
        "hada_w1_b",
        "hada_w2_b",
    }
    assert all(value.shape == (2, 16) for value in shared.values())
    assert ADAPTERS.keys().isdisjoint({"loha"})
    summary = lab.run(**changes)
    assert summary["adapter"] == "loha"
    adapters = Path(summary["outdir"]) / "adapters"
    plain = AutoModelForSequenceClassification.from_pretrained(
        toy_model, num_labels=2
    )
    loaded = PeftModel.from_pretrained(plain, adapters / "client_1")
    sides = [
        value for name, value in loaded.named_parameters() if "w2_a" in name
    ]
    assert sides and all(value.any() for value in sides)


def test_the_example_of_a_data_set(lab, tmp_path):
    rows = [f'"w{i % 50} w{i % 7}",{"ab"[i % 2]}' for i in range(200)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]))
    summary = lab.run(
        fedsa__plugins=[example("my_data.py", tmp_path)],
        data__root=str(tmp_path),
        data__type="tickets@csv",
        federate__total_round_num=1,
    )
    last = summary["results"]["last"]["weighted"]
    assert last["test_total"] == 20 and 0 <= last["test_acc"] <= 1


class Loaded(html.parser.HTMLParser):
    """What a browser fetches with a page, and where the page leads."""

    def __init__(self):
        super().__init__()
        self.fetched, self.links, self.anchors = [], [], set()

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "link":
            self.fetched.append(given.get("href", ""))
        self.fetched.append(given.get("src", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Loaded]:
    """The pages of the site as 'make docs' builds it; a warning fails it."""
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    pages = {}
    for file in sorted(folder.rglob("*.html")):
        pages[file] = Loaded()
        pages[file].feed(file.read_text("utf-8"))
    return pages


def test_the_site_has_every_page_and_a_search(site):
    (folder,) = {f.parent for f in site if f.name == "index.html"} & {
        f.parent for f in site if f.name == "start.html"
    }
    built = {file.relative_to(folder).as_posix() for file in site}
    for page in (*DOCS.glob("*.md"), *ROOT.glob("*.md")):
        name = "index" if page == README else page.stem
        assert f"{name}.html" in built
    method = folder / "reference" / "fs_plugins.policy.methods.html"
    assert "register_method" in method.read_text("utf-8")
    index = json.loads((folder / "search/search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"methods.html", "start.html", "options.html"} <= found


def test_the_site_loads_nothing_from_elsewhere(site):
    """Neither pages nor style sheets: it is read without a network."""
    for file, page in site.items():
        assert not [x for x in page.fetched if re.match(r"(https?:)?//", x)]
        assert not re.search(r"fonts\.g|unpkg|jsdelivr", file.read_text())
    (folder,) = {file.parent for file in site if file.name == "start.html"}
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text())


def test_the_sites_links_lead_somewhere(site):
    for file, page in site.items():
        for link in page.links:
            name, _, part = link.partition("#")
            if file.name == "404.html" or re.match(r"\w+:", link):
                continue
            target = (file.parent / name).resolve() if name else file
            assert target.exists(), f"{file.name}: {link}"
            if part and target in site:
                assert part in site[target].anchors, f"{file.name}: {link}"
