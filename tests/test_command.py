"""The command ``fedsa``."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fs_plugins.experiment.evaluations import size


def test_run(fedsa, lab):
    result = fedsa("run", "--cfg", lab.file(), "federate.total_round_num", 2)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert "round 1/2  val_acc 0." in lines[0]
    assert re.search(
        r"loss 0\.\d+  [\d.]+ kB sent  \d:\d\d:\d\d left$", lines[0]
    )
    assert lines[1].endswith("kB sent"), "nothing is left"
    assert len(lines) == 3
    file = Path(lines[-1].removeprefix("results: "))
    assert json.loads(file.read_text())["rounds"] == 2


def test_quiet_and_verbose(fedsa, lab):
    quiet = fedsa("run", "--quiet", "--cfg", lab.file())
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    verbose = fedsa("run", "--verbose", "--cfg", lab.file())
    assert verbose.returncode == 0
    assert "INFO" in verbose.stderr


def test_the_hosts_log_goes_to_its_file(fedsa, lab):
    result = fedsa("run", "--cfg", lab.file())
    folder = Path(result.stdout.splitlines()[-1].split()[-1]).parent
    assert "Client #2" in (folder / "exp_print.log").read_text()


def test_a_dry_run_says_what_the_run_then_does(fedsa, lab):
    """And leaves nothing behind."""
    changes = {"federate__method": "rolora", "fedsa__ranks": [2, 1]}
    file = lab.file(**changes)
    result = fedsa("run", "--dry-run", "--cfg", file, "seed", 5)
    assert result.returncode == 0, result.stderr
    assert not Path(lab.settings["outdir"]).exists()
    cfg = yaml.safe_load(result.stdout.partition("the examples")[0])
    assert cfg["seed"] == 5 and cfg["fedsa"]["ranks"] == [2, 1]
    assert cfg["outdir"] == lab.settings["outdir"]
    summary = lab.run(**changes)
    sent = summary["communication"]
    flat = " ".join(result.stdout.split())
    folder = Path(summary["outdir"])
    counts = json.loads((folder / "label_counts.json").read_text())
    for client, splits in counts.items():
        sizes = " │ ".join(
            str(sum(splits[split].values()))
            for split in ("train", "val", "test")
        )
        assert f"│ {client} │ {sizes} │" in flat
    for role, what in (
        ("A", "odd rounds freeze, even share"),
        ("HEAD", "keep"),
    ):
        assert re.search(rf"│ {role} │ [\d,]+ │ {what} │", flat)
    assert f"│ {size(sent['downlink_bytes_per_client_round'])} │" in flat
    assert "Dry" not in flat and "kept by all 3 clients, in memory" in flat


def test_a_dry_run_of_the_hosts_own_and_of_a_mistake(fedsa, lab):
    file = lab.file(federate__method="FedAvg")
    result = fedsa("run", "--dry-run", "--cfg", file)
    assert result.returncode == 0, result.stderr
    assert "as FederatedScope's own method does" in result.stdout
    sent = lab.run(federate__method="FedAvg")["communication"]
    assert size(sent["uplink_bytes_per_client_round"]) in result.stdout
    wrong = fedsa("run", "--dry-run", "--cfg", file, "data.splitter", "x")
    assert wrong.returncode == 2 and "data.splitter" in wrong.stderr


def test_version(fedsa):
    result = fedsa("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"fs_plugins \d+\.\d+\.\d+\n", result.stdout)


def test_methods(fedsa):
    result = fedsa("methods")
    assert result.returncode == 0
    for word in ("fedsa", "fedit", "ffa", "local", "share A, keep B", "vera"):
        assert word in result.stdout


def test_doctor(fedsa, host_name):
    result = fedsa("doctor")
    assert result.returncode == 0
    assert result.stdout.startswith(f"host: {host_name} ")
    assert "torch 2" in result.stdout


def test_help(fedsa):
    result = fedsa("--help")
    assert result.returncode == 0
    for word in ("run", "compare", "methods", "doctor"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["run", "compare", "report", "export"])
def test_help_has_examples(fedsa, command):
    """Each begins with the command that it is an example of."""
    result = fedsa(command, "--help")
    assert result.returncode == 0
    examples = result.stdout.partition("Examples:")[2].strip().splitlines()
    shown = [line.strip() for line in examples if line.strip()]
    assert len(shown) > 1
    assert all(line.startswith(f"fedsa {command} ") for line in shown)


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        ("fedsa rep", ["report"]),
        ("fedsa run --cfg a/b.yaml+x+y", ["a/b.yaml+x+yy"]),
        ("fedsa run --cfg a/", ["a/b.yaml", "a/variations/"]),
    ],
)
def test_a_shell_completes(fedsa, tmp_path, monkeypatch, begun, wanted):
    """Commands, YAML files, and the variations of one."""
    (tmp_path / "a" / "variations").mkdir(parents=True)
    for name in ("b", "variations/x", "variations/yy"):
        (tmp_path / "a" / f"{name}.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_FEDSA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", begun)
    monkeypatch.setenv("COMP_CWORD", str(begun.count(" ")))
    result = fedsa()
    assert sorted(result.stdout.split()) == wanted


def test_report_on_runs_and_on_none(fedsa, lab, tmp_path):
    folder = Path(lab.run()["outdir"])
    out = tmp_path / "r"
    result = fedsa("report", folder.parent, "--out", out)
    assert result.returncode == 0, result.stderr
    assert f"report: {out / 'report.html'}" in result.stdout
    assert (out / "report.html").is_file()
    (folder / "summary.json").write_text('{"schema": 1, "resul')
    for wrong, words in (
        (tmp_path / "none", "holds no run"),
        (folder, "summary.json is damaged"),
    ):
        result = fedsa("report", wrong, "--out", tmp_path / "s")
        assert result.returncode == 2 and words in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_compare(fedsa, forked_runs, lab, tmp_path):
    files = [
        lab.file(),
        lab.file(federate__method="FedAvg"),
    ]
    out = tmp_path / "compared"
    words = ["compare", *files, "--seeds", "0,1", "--out", out]
    result = fedsa(*words, "federate.total_round_num", 2)
    assert result.returncode == 0, result.stderr
    runs = json.loads((out / "comparison.json").read_text())
    assert [(r["method"], r["seed"], r["rounds"]) for r in runs] == [
        ("fedsa", 0, 2),
        ("fedsa", 1, 2),
        ("FedAvg", 0, 2),
        ("FedAvg", 1, 2),
    ]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (out / "report.md").read_text()
    for run in runs:
        last = run["results"]["last"]
        assert f"{last['weighted']['test_acc']:.4f}" in table
        assert f"{last['mean']['test_acc']:.4f}" in table
    # A second comparison leaves the first one's runs alone.
    before = {p: p.read_bytes() for p in out.rglob("summary.json")}
    again = ["compare", files[0], "--seeds", "0", "--out", out, "--quiet"]
    assert fedsa(*again).returncode == 0
    assert all(p.read_bytes() == content for p, content in before.items())
    assert len(list(out.rglob("summary.json"))) == 5


def test_compare_refuses_before_it_runs_anything(fedsa, lab, tmp_path):
    good, bad = lab.file(), lab.file(federate__method="fedas")
    out = tmp_path / "compared"
    result = fedsa("compare", good, bad, "--out", out)
    assert result.returncode == 2
    assert "fedas" in result.stderr
    assert not out.exists()


@pytest.mark.slow
def test_compare_goes_on_when_a_run_fails(fedsa, forked_runs, lab, tmp_path):
    good = lab.file()
    bad = lab.file(model__type="/no/such@huggingface_llm")
    out = tmp_path / "compared"
    result = fedsa("compare", bad, good, "--out", out)
    assert result.returncode == 1
    assert "1 of 2" in result.stderr
    assert len(json.loads((out / "comparison.json").read_text())) == 1
