"""``fedsa.state.optimizer``: an optimizer that outlives its round."""

import pytest
import torch
from helpers import assert_close, in_float64, plain_model, start_of

from fs_plugins.errors import UserError

ADAM = {"type": "AdamW", "lr": 0.05}


def alone(folder, batches, start, rounds, is_fresh):
    """Plain fine-tuning, with one optimizer or a new one each round."""
    model = plain_model(folder)
    model.load_state_dict(start, strict=False)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = None
    for _ in range(rounds):
        if optimizer is None or is_fresh:
            optimizer = torch.optim.AdamW(trained.values(), lr=ADAM["lr"])
        for step in range(2):
            loss = model(**batches[step % len(batches)]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {n: p.detach() for n, p in trained.items()}


@pytest.mark.parametrize("backend", ["memory", "disk"])
@pytest.mark.parametrize("keeps", [True, False])
def test_one_optimizer_for_all_rounds(lab, toy_model, backend, keeps):
    """With one client it is plain training, whose optimizer never stops."""
    runner = in_float64(lab).runner(
        federate__client_num=1,
        data__splitter="iid",
        data__splitter_args=[],
        dataloader__shuffle=False,
        train__optimizer=ADAM,
        fedsa__state={"optimizer": keeps, "backend": backend},
    )
    batches = list(runner.data[1]["train"])
    start = start_of(runner)
    expected = {
        is_fresh: alone(toy_model, batches, start, 3, is_fresh)
        for is_fresh in (True, False)
    }
    runner.run()
    found = dict(runner.server.aggregator.shared)
    found |= runner.client[1].kept.values
    assert_close(found, expected[not keeps])
    apart = sum(
        float((value - expected[keeps][name]).abs().max())
        for name, value in found.items()
    )
    assert apart > 0.1  # else the two would be the same


def test_each_client_has_its_own(lab):
    """The moments are of its own gradients; the shared model has none."""
    runner = lab.runner(
        train__optimizer=ADAM,
        fedsa__state__optimizer=True,
        federate__sample_client_num=2,
        federate__total_round_num=4,
    )
    rounds = dict.fromkeys(runner.client, 0)
    for ID, client in runner.client.items():
        train = client.trainer.train

        def counted(ID=ID, train=train):
            rounds[ID] += 1
            return train()

        client.trainer.train = counted
    runner.run()
    trained = start_of(runner)
    for ID, client in runner.client.items():
        state = client.kept.optimizer
        assert len(state) == 3 * len(trained)
        steps = {float(v) for n, v in state.items() if ".step." in n}
        assert steps == {2.0 * rounds[ID]}
        assert client.trainer.optimizer_state is None
    assert sum(rounds.values()) == 8


def test_of_a_language_model_too(language_lab):
    runner = language_lab.runner(
        train__optimizer=ADAM, fedsa__state__optimizer=True
    )
    runner.run()
    for client in runner.client.values():
        state = client.kept.optimizer
        assert {float(v) for n, v in state.items() if ".step." in n} == {6.0}


def test_nothing_of_it_travels_or_is_saved_as_adapter(lab):
    from pathlib import Path

    from safetensors.torch import load_file

    changes = {"train__optimizer": ADAM}
    plain = lab.run(**changes)
    stateful = lab.run(**changes, fedsa__state__optimizer=True)
    sent = [run["communication"] for run in (plain, stateful)]
    assert sent[0] == sent[1]
    names = [
        load_file(
            Path(run["outdir"]) / "adapters/client_1/adapter_model.safetensors"
        ).keys()
        for run in (plain, stateful)
    ]
    assert names[0] == names[1]


def test_an_optimizer_that_keeps_other_things_is_refused(lab):
    runner = lab.runner(
        train__optimizer={"type": "Adam", "lr": 0.1},
        fedsa__state__optimizer=True,
    )
    client = runner.client[1]
    ctx = type("ctx", (), {"model": client.model})()
    parameter = next(iter(client.parameters.kept.values()))
    ctx.optimizer = type("Odd", (), {"state": {parameter: {"old": [1]}}})()
    client.trainer.optimizer_state = {}
    with pytest.raises(UserError, match="keeps a list"):
        client.trainer._take_optimizer(ctx)


def test_only_with_ours(lab):
    from fs_plugins.config.load import load_config

    for changes in (
        {"federate__method": "FedAvg"},
        {"trainer__type": "llmtrainer", "data__type": "sums.jsonl@llm"},
    ):
        file = lab.file(fedsa__state__optimizer=True, **changes)
        with pytest.raises(UserError, match=r"fedsa\.state\.optimizer"):
            load_config(file)
