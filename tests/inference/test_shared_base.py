"""The clients' models take turns on one base model, bit for bit."""

import warnings

import pytest
import torch
from helpers import args_of

from fs_plugins.commands.predict import evaluate
from fs_plugins.errors import UserError
from fs_plugins.experiment import saved_models
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.predictor import Predictor
from fs_plugins.inference.shared_base import SharedBase

TEXTS = ["w1 w2", "w50 w51 w3", "w9"]


# Those that PEFT holds in different ways.
@pytest.mark.parametrize(
    "adapter", ["lora", "dora", "pissa", "embedding", "bias", "vera"]
)
def test_each_client_has_its_own_model(lab, adapter):
    """Also if the adapters are loaded, dropped and loaded again."""
    summary = lab.run(
        llm__adapter__args=args_of(adapter), federate__total_round_num=1
    )
    run = load_run(summary["outdir"])
    clients = {ID: run.client(ID) if ID else None for ID in (0, 1, 2, 3)}
    alone = {ID: Predictor(run, c).logits(TEXTS) for ID, c in clients.items()}
    assert not torch.equal(alone[1], alone[2])
    for kept in (1, 2):
        ours = Predictor(run, clients[0], kept=kept)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for ID in (0, 1, 2, 3, 3, 1, 2, 0, 1):
                ours.use(clients[ID])
                assert torch.equal(ours.logits(TEXTS), alone[ID])
        assert len(ours.model.peft_config) == kept


def test_adapters_of_different_ranks(lab):
    args = args_of("lora")
    args[0]["r"] = 4
    summary = lab.run(
        llm__adapter__args=args,
        federate__method="fedit",
        fedsa__ranks=[1, 2, 4],
        fedsa__aggregator="hetlora",
        federate__total_round_num=1,
    )
    run = load_run(summary["outdir"])
    ours = Predictor(run, run.client(3))
    for ID in (1, 3, 2):
        ours.use(run.client(ID))
        alone = Predictor(run, run.client(ID))
        assert ours.model.peft_config != alone.model.peft_config or ID == 3
        assert torch.equal(ours.logits(TEXTS), alone.logits(TEXTS))


def test_all_clients_are_evaluated_on_one_base_model(
    trained_tickets, capsys, monkeypatch
):
    file = str(trained_tickets.parents[1] / "test.csv")
    bases = []
    load = saved_models.load_base

    def counted(section):
        bases.append(section)
        return load(section)

    monkeypatch.setattr(saved_models, "load_base", counted)
    evaluate(trained_tickets, "all", file, as_json=True)
    together = capsys.readouterr().out
    assert len(bases) == 1
    parts = []
    for name in ("north", "south", "west"):
        evaluate(trained_tickets, name, file, as_json=True)
        parts.append(capsys.readouterr().out.strip()[1:-1])
    assert together == "{" + ", ".join(parts) + "}\n"


def test_a_client_that_cannot_be_loaded_leaves_the_others(lab):
    folder = lab.run(federate__total_round_num=1)["outdir"]
    run = load_run(folder)
    shared = SharedBase(run)
    before = Predictor(run, run.client(1)).logits(TEXTS)
    shared.model_of(run.client(1))
    config = run.client(2).adapter / "adapter_config.json"
    good = config.read_text()
    config.write_text(good.replace("query", "a").replace("value", "b"))
    for _ in range(2):
        with pytest.raises(UserError, match="cannot be loaded"):
            shared.model_of(run.client(2))
    ours = Predictor(run, run.client(1))
    ours.model = shared.model_of(run.client(1))
    assert torch.equal(ours.logits(TEXTS), before)
    config.write_text(good)
    ours.model = shared.model_of(run.client(2))
    alone = Predictor(run, run.client(2))
    assert torch.equal(ours.logits(TEXTS), alone.logits(TEXTS))
