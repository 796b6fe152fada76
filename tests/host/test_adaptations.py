"""FederatedScope on today's Python stack."""

import pickle

import pytest
import torch

from fs_plugins.host import find_host
from fs_plugins.host.adaptations import Adaptation, adapt

needs_federatedscope = pytest.mark.skipif(
    find_host().name != "federatedscope",
    reason="it is FederatedScope that is adapted (--host federatedscope)",
)


def test_only_what_is_needed_is_applied():
    needed = Adaptation("a", "because", lambda: True)
    not_needed = Adaptation("b", "because", lambda: False)
    assert adapt((needed, not_needed)) == (needed,)


def test_the_embedded_host_needs_the_distributed_mode_only():
    names = [each.name for each in find_host().adaptations]
    if find_host().name == "embedded":
        assert names == [
            "messages over NVIDIA FLARE",
            "messages are checked before FederatedScope's own server handles "
            "them",
        ]
    else:
        assert len(names) > 3


@needs_federatedscope
def test_nothing_that_arrives_is_unpickled(tmp_path):
    """FederatedScope's ``param2tensor`` would run what the text says."""
    from federatedscope.core.aggregators import clients_avg_aggregator
    from federatedscope.core.auxiliaries.utils import (
        b64serializer,
        param2tensor,
    )

    class Attack:
        def __reduce__(self):
            return open, (str(tmp_path / "hacked"), "w")

    text = b64serializer(Attack()).decode()
    for function in (param2tensor, clients_avg_aggregator.param2tensor):
        with pytest.raises(ValueError, match="not unpickled"):
            function(text)
    assert not (tmp_path / "hacked").exists()
    assert param2tensor([1.0]).tolist() == [1.0]


@needs_federatedscope
def test_the_group_sampler_runs():
    from federatedscope.core.sampler import GroupSampler

    sampler = GroupSampler(20, [float(i) for i in range(20)], bins=5)
    assert len(set(sampler.sample(4))) == 4


@pytest.mark.parametrize(
    "words, own",
    [
        (["distribute.role", "client"], ["distribute.role", "client"]),
        (["seed", "1", "client_2.train.lr", "0.1"], ["seed", "1"]),
        (["expname", "client_run", "seed", "1"], None),
    ],
)
def test_no_word_of_the_command_line_is_lost(words, own):
    from federatedscope.core.cmd_args import parse_client_cfg

    found, clients = parse_client_cfg(list(words))
    assert found == (words if own is None else own)
    assert sorted(found + clients) == sorted(words)


@needs_federatedscope
def test_training_uses_all_threads(lab):
    torch.set_num_threads(2)
    lab.runner()
    assert torch.get_num_threads() == 2


@needs_federatedscope
@pytest.mark.parametrize("method", ["fedsa", "FedAvg"])
def test_no_model_is_ever_pickled(lab, monkeypatch, method):
    def refuse(*args):
        raise AssertionError("a model is pickled")

    monkeypatch.setattr(pickle, "dumps", refuse)
    runner = lab.runner(federate__method=method)
    runner.run()
    # The size that FederatedScope computes: what is trained, in kbit.
    trained = sum(
        p.nbytes for p in runner.server.model.parameters() if p.requires_grad
    )
    size = runner.client[1].model_size
    assert size == pytest.approx(trained / 1024 * 8, abs=0.5)


@needs_federatedscope
def test_results_are_plain_numbers(lab):
    """Each line of the log is a literal of Python, but for nan."""
    from ast import literal_eval
    from pathlib import Path

    summary = lab.run()
    log = Path(summary["outdir"]) / "eval_results.log"
    lines = log.read_text().splitlines()
    found = [literal_eval(line.replace("nan", "None")) for line in lines]
    assert [each["Round"] for each in found[:3]] == [0, 1, 2]
    assert found[2]["Results_avg"]["test_acc"] == pytest.approx(
        summary["results"]["last"]["mean"]["test_acc"]
    )
