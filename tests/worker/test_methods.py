"""What the methods come down to in special cases."""

import pytest
import torch
from helpers import (
    ADAPTERS,
    IN_FLOAT32,
    args_of,
    assert_close,
    in_float64,
    payload_of,
    plain_model,
    record,
    start_of,
)
from safetensors.torch import load

from fs_plugins.errors import UserError

LR = 0.5


@pytest.fixture
def lab(lab):
    return in_float64(lab)


def alone(folder, loader, start, steps, batch):
    """Plain fine-tuning of all trainable parameters on the same batches."""
    model = plain_model(folder)
    model.load_state_dict(start, strict=False)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=LR)
    batches = list(loader)
    for _ in range(3):
        for step in range(steps):
            loss = model(**batches[step % len(batches)]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {n: p.detach() for n, p in trained.items()}


def test_local_is_so_many_separate_trainings(lab, toy_model):
    runner = lab.runner(federate__method="local", dataloader__shuffle=False)
    start = start_of(runner)
    expected = {
        ID: alone(toy_model, runner.data[ID]["train"], start, 2, 4)
        for ID in runner.client
    }
    runner.run()
    for ID, client in runner.client.items():
        assert_close(dict(client.kept.values), expected[ID])


def test_fedsa_with_one_client_is_plain_fine_tuning(lab, toy_model):
    runner = lab.runner(
        federate__client_num=1,
        data__splitter="iid",
        data__splitter_args=[],
        dataloader__shuffle=False,
    )
    expected = alone(
        toy_model, runner.data[1]["train"], start_of(runner), 2, 4
    )
    runner.run()
    found = dict(runner.server.aggregator.shared)
    found |= runner.client[1].kept.values
    assert_close(found, expected)


def test_fedsa_can_share_the_head(lab):
    runner = lab.runner(fedsa__policy={"HEAD": "share"})
    parameters = runner.server.parameters
    heads = [n for n in parameters.shared if "modules_to_save" in n]
    assert len(heads) == 2
    runner.run()
    assert all("lora_B" in name for name in parameters.kept)
    for name in heads:
        moved = runner.server.aggregator.shared[name]
        assert not torch.equal(moved, parameters.initial[name])


def test_ffa_never_trains_a(lab):
    runner = lab.runner(federate__method="ffa")
    a = {
        n: p.detach().clone()
        for n, p in runner.server.model.model.named_parameters()
        if "lora_A" in n
    }
    runner.run()
    for n, p in runner.server.model.model.named_parameters():
        if "lora_A" in n:
            assert not p.requires_grad and torch.equal(p, a[n])
    assert any("lora_B" in n for n in runner.server.aggregator.shared)


def test_fedit_with_a_shared_head_is_the_hosts_fedavg(lab):
    """Two implementations of one rule."""
    ours = lab.runner(federate__method="fedit", fedsa__policy__HEAD="share")
    hosts = lab.runner(federate__method="FedAvg")
    ours.run()
    hosts.run()
    assert_close(
        dict(ours.server.aggregator.shared), hosts.server.model.state_dict()
    )


def test_all_clients_share_one_base_model(lab):
    """Also where every client has a model object of its own."""
    runner = lab.runner(federate__share_local_model=False)
    own, base = set(), set()
    models = [runner.server.model, *(c.model for c in runner.client.values())]
    for model in models:
        for p in model.model.parameters():
            (own if p.requires_grad else base).add(p.data_ptr())
    first = list(models[0].model.parameters())
    trainable = sum(p.requires_grad for p in first)
    assert len(own) == trainable * len(models)
    assert len(base) == len(first) - trainable


def test_the_base_model_is_never_written_to(lab):
    runner = lab.runner()
    base = {
        n: (p, p.detach().clone(), p._version)
        for n, p in runner.server.model.model.named_parameters()
        if not p.requires_grad
    }
    runner.run()
    for parameter, before, version in base.values():
        assert torch.equal(parameter, before)
        assert parameter._version == version


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_only_as_side_travels_whatever_the_adapter(lab, adapter):
    """Up and down, in training, in evaluation and at the end."""
    in_float64(lab, not adapter.startswith(IN_FLOAT32))
    runner = lab.runner(llm__adapter__args=args_of(adapter))
    sent = record(runner)
    runner.run()
    part, payloads = ADAPTERS[adapter][2], 0
    a_names = {n for n in start_of(runner) if part in n}
    for message in sent:
        content = payload_of(message)
        if isinstance(content, bytes):
            payloads += 1
            assert load(content).keys() == a_names
    assert payloads > 9 and a_names


def test_vera_sends_d_and_nothing_else(lab):
    """Not b, not the frozen projections; they are one pair for all."""
    runner = lab.runner(
        llm__adapter__args=args_of("vera"), federate__share_local_model=False
    )
    payloads = record(runner)
    runner.run()
    sent = [
        load(payload_of(m))
        for m in payloads
        if m.msg_type == "model_para" and m.sender
    ]
    assert len(sent) == 9
    for tensors in sent:
        assert all("vera_lambda_d" in name for name in tensors)
        assert sum(t.numel() for t in tensors.values()) == 4 * 8
    projections = {
        id(buffer)
        for worker in (runner.server, *runner.client.values())
        for name, buffer in worker.model.named_buffers()
        if ".vera_A." in name or ".vera_B." in name
    }
    assert len(projections) == 2


@pytest.mark.parametrize("adapter", ["lora", "rslora", "vera", "dora"])
def test_ffa_leaves_a_as_it_was(lab, adapter):
    runner = lab.runner(
        federate__method="ffa", llm__adapter__args=args_of(adapter)
    )
    a_name = ADAPTERS[adapter][2]
    runner.run()
    shared = runner.server.aggregator.shared
    assert shared and not any(a_name in name for name in shared)
    state = dict(runner.server.model.model.named_parameters())
    frozen = [name for name in state if a_name in name]
    assert frozen
    full = lab.runner(llm__adapter__args=args_of(adapter))
    start = start_of(full)
    for name in frozen:
        assert torch.equal(state[name], start[name])


def test_a_factor_frozen_at_zero_is_refused(lab):
    """A of an embedding starts at zero: frozen there, nothing would learn."""
    with pytest.raises(UserError, match=r"lora_embedding_A.* at zero"):
        lab.runner(
            federate__method="ffa", llm__adapter__args=args_of("embedding")
        )


def test_dora_keeps_its_magnitude_with_b(lab):
    runner = lab.runner(llm__adapter__args=args_of("dora"))
    names = [n for n in runner.server.parameters.kept if "magnitude" in n]
    assert len(names) == 4
    assert not any("magnitude" in n for n in runner.server.parameters.shared)
