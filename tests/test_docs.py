"""What the documents say is so: links, commands, examples, tables."""

import re
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
import typer
from helpers import ADAPTERS

from fs_plugins.cli import app
from fs_plugins.config.load import load_config
from fs_plugins.model.arguments import COVERED, REFUSED
from fs_plugins.report.listings import options_tables
from fs_plugins.report.tables import markdown

pytestmark = pytest.mark.usefixtures("registries_as_they_were")
ROOT = Path(__file__).parents[1]
PAGES = sorted(
    file
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/*.md")
    for file in ROOT.glob(pattern)
)


def anchor(heading: str) -> str:
    """As the pages of a repository are linked to."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.name))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            assert re.fullmatch(r"https://[\w.-]+(/[\w.%/-]*)?", link), link
            continue
        name, _, part = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if part:
            headings = re.findall(
                r"^#+ (.*)$", target.read_text("utf-8"), re.M
            )
            assert part in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.name))
def test_tables_are_whole(page):
    """A blank line in one makes text of all that is below it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"(\| ?-+ ?)+\|", rule), head
        width = rule.count("|")
        for row in (head, *rows):
            assert len(re.findall(r"(?<!\\)\|", row)) == width, row


def commands() -> list[str]:
    """Every line of a document that begins with ``fedsa``."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```\n(.*?)```", text, re.S)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(fedsa [^`]*)`", text)
        found += [
            line.removeprefix("$ ").partition(" #")[0].strip()
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
        if word.startswith("yaml_configs/"):
            load_config(word)


def test_programs_and_targets_that_are_named_are_there():
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for program in re.findall(r"python ((?:benchmarks|yaml)[\w/]*\.py)", text):
        assert (ROOT / program).is_file(), program
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", text, re.M):
        assert re.search(rf"^{''.join(target)}:", makefile, re.M), target


def test_every_option_is_in_its_table():
    page = (ROOT / "docs" / "federatedscope.md").read_text("utf-8")
    tables = "\n".join(map(markdown, options_tables()))
    assert page.endswith(tables), (
        "write what 'fedsa options --markdown' prints to its end"
    )


def test_every_argument_of_an_adapter_is_in_its_table():
    page = (ROOT / "docs" / "adapters.md").read_text("utf-8")
    section = page.partition("## Arguments of the adapter")[2]
    for name in COVERED:
        assert f"`{name}`" in section, name
    for name, reason in REFUSED.items():
        assert f"| `{name}` | {reason} |" in section, name


def example(name: str, folder: Path) -> str:
    """A file of docs/extending.md, written out."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
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


def test_docstrings_are_rendered_without_a_warning(tmp_path):
    import pdoc

    folder = ROOT / "fs_plugins"
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in folder.rglob("*.py")
        if "embedded" not in file.parts and not file.stem.startswith("__")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.render.configure(docformat="google")
        pdoc.pdoc(*modules, output_directory=tmp_path)
    page = (tmp_path / "fs_plugins" / "policy" / "methods.html").read_text()
    assert "SHARE" in page and "register_method" in page
