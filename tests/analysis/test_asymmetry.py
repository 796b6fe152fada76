"""The asymmetry analysis, against scipy and against a run's own messages."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import args_of, copied, record
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load
from scipy.linalg import subspace_angles

from fs_plugins.analysis.asymmetry import (
    asymmetry_table,
    mean_angle,
    mean_cosine,
    measure,
)
from fs_plugins.analysis.runs import analyze_run
from fs_plugins.policy import Role
from fs_plugins.report.tables import markdown

NAME = "base_model.model.layer.query"
A, B = f"{NAME}.lora_A.default.weight", f"{NAME}.lora_B.default.weight"


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 3))
def test_every_pair_counts_once(seed, clients, rank):
    rng = np.random.default_rng(seed)
    bases = rng.normal(size=(clients, 7, rank)) + rng.normal(size=(7, rank))
    pairs = list(itertools.combinations(bases, 2))
    cosines = [
        (x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y) for x, y in pairs
    ]
    angles = [np.degrees(subspace_angles(x, y)).mean() for x, y in pairs]
    found = torch.from_numpy(bases)
    assert mean_cosine(found) == pytest.approx(np.mean(cosines), abs=1e-9)
    assert mean_angle(found) == pytest.approx(np.mean(angles), abs=1e-4)


def test_a_rotated_a_is_the_same_subspace():
    """Its numbers differ, its rows span what they did."""
    torch.manual_seed(0)
    a = torch.randn(3, 8)
    rotation = torch.linalg.qr(torch.randn(3, 3)).Q
    own = [
        {A: a, B: torch.randn(5, 3)},
        {A: rotation @ a, B: torch.ones(5, 3)},
    ]
    initial = {A: torch.randn(3, 8), B: torch.zeros(5, 3)}
    roles = {A: Role.A, B: Role.B}
    (found,) = measure(own, initial, roles).values()
    assert found["A"] < 0.9
    assert found["angle A"] == pytest.approx(0, abs=0.1)
    assert found["angle B"] > 1


def test_what_nobody_has_trained_has_no_direction():
    own = [{A: torch.ones(2, 4), B: torch.zeros(3, 2)}] * 3
    found = measure(own, own[0], {A: Role.A, B: Role.B})["layer.query"]
    assert found["A"] == pytest.approx(1)
    assert found["A - A_0"] is found["B"] is found["angle B"] is None


def test_bs_bias_is_no_factor():
    """It has B's role and B's layer, and must not stand for B."""
    bias = B.replace("weight", "bias")
    roles = {A: Role.A, B: Role.B, bias: Role.B}
    own = [
        {
            A: torch.eye(4)[:1],
            B: torch.eye(3)[:, i : i + 1],
            bias: torch.ones(3),
        }
        for i in (0, 1)
    ]
    found = measure(own, {n: t * 0 for n, t in own[0].items()}, roles)
    assert found["layer.query"]["B"] == pytest.approx(0)
    assert found["layer.query"]["angle B"] == pytest.approx(90)


def test_clients_of_different_ranks():
    own = [
        {A: torch.eye(4)[:rank], B: torch.eye(5)[:, :rank]} for rank in (3, 1)
    ]
    initial = {A: torch.zeros(3, 4), B: torch.zeros(5, 3)}
    found = measure(own, initial, {A: Role.A, B: Role.B})["layer.query"]
    assert found["A"] == pytest.approx(1 / 3**0.5)
    assert found["angle A"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("method", ["fedsa", "fedit", "local"])
@pytest.mark.parametrize("adapter", ["lora", "vera"])
def test_a_runs_last_round_before_aggregation(lab, method, adapter):
    """What is compared is what the clients really had."""
    changes = {
        "federate__method": method,
        "llm__adapter__args": args_of(adapter),
    }
    runner = lab.runner(**changes)
    sent = record(runner)
    runner.run()
    own = {}
    for message in sent:
        if message.msg_type == "model_para" and message.sender:
            payload = message.content[1]
            own[message.sender] = load(payload) if payload else {}
    for ID, client in runner.client.items():
        own[ID] |= copied(client.kept.values)
    parameters = runner.server.parameters
    expected = measure(
        [own[ID] for ID in sorted(own)], parameters.initial, parameters.roles
    )
    summary = lab.run(**changes)
    found = analyze_run(Path(summary["outdir"]))
    assert found.clients == 3 and "in round 3" in found.about
    assert found.layers == expected and len(expected) == 4
    kinds = {k for own in expected.values() for k, v in own.items() if v}
    angles = {"angle A", "angle B"} if adapter == "lora" else set()
    assert kinds == {"A", "A - A_0", "B"} | angles


def test_a_frozen_a_is_not_compared(lab):
    found = analyze_run(Path(lab.run(federate__method="ffa")["outdir"]))
    assert found.mean("A") is None and 0 < found.mean("angle B") < 90
    assert -1 < found.mean("B") < 1 and len(found.values("B")) == 4
    assert "| - |" in markdown(asymmetry_table([found]))


def test_the_command(lab, fedsa, tmp_path):
    """Locally trained, by adapter and split; figure, table and numbers."""
    out = tmp_path / "out"
    variations = tmp_path / "variations"
    variations.mkdir()
    for name, text in {
        "iid": "data: {splitter: iid, splitter_args: []}",
        "dir03": "data: {splitter: lda, splitter_args: [{alpha: 0.3}]}",
        "rslora": "llm: {adapter: {args: [{adapter_method: rslora, r: 2, "
        "target_modules: [query]}]}}",
    }.items():
        (variations / f"{name}.yaml").write_text(text)
    words = ["--splits", "iid,dir03", "--adapters", "rslora", "--out", out]
    found = fedsa("analyze", "asymmetry", "--cfg", lab.file(), *words)
    assert found.returncode == 0, found.stderr
    groups = json.loads((out / "asymmetry.json").read_text())
    assert [g["name"] for g in groups] == ["iid", "dir03"]
    assert {g["panel"] for g in groups} == {"rslora"}
    for group in groups:
        assert len(group["layers"]) == 2 and group["clients"] == 3
        values = [own["B"] for own in group["layers"].values()]
        assert group["mean"]["B"] == pytest.approx(np.mean(values))
        assert -1 <= group["mean"]["B"] < group["mean"]["A"] <= 1
    assert "| rslora | iid | 3 |" in (out / "asymmetry.md").read_text()
    for suffix in ("png", "svg"):
        assert (out / f"asymmetry.{suffix}").stat().st_size > 5000


@pytest.mark.parametrize(
    "what, words",
    [
        ("nothing", "name a YAML file with --cfg, or runs"),
        ("no run", "holds no run"),
        ("FedAvg", "no checkpoint of clients' own"),
        ("no checkpoint", "no checkpoint of clients' own"),
        ("one client", "needs at least two clients"),
        ("variation", "no 'dir9'"),
    ],
)
def test_mistakes_are_sentences(lab, fedsa, tmp_path, what, words):
    changes = {
        "FedAvg": {"federate__method": "FedAvg"},
        "no checkpoint": {"fedsa__checkpoint__every": 0},
        "one client": {
            "federate__client_num": 1,
            "data__splitter": "iid",
            "data__splitter_args": [],
        },
    }.get(what, {})
    given_words = []
    if what == "no run":
        given_words = [tmp_path]
    elif what == "variation":
        given_words = ["--cfg", lab.file(), "--splits", "dir9"]
    elif what != "nothing":
        given_words = [lab.run(**changes)["outdir"]]
    found = fedsa(
        "analyze", "asymmetry", *given_words, "--out", tmp_path / "o"
    )
    assert found.returncode == 2
    assert words in found.stderr and "Traceback" not in found.stderr
    assert not (tmp_path / "o").exists()
