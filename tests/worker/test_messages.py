"""What travels, and what the server makes of bad updates."""

import pytest
import torch
from federatedscope.core.message import Message
from helpers import assert_near, payload_of, record
from safetensors.torch import load

from fs_plugins.errors import RunError
from fs_plugins.wire import encode


@pytest.mark.parametrize(
    "method, policy, parts",
    [
        ("fedsa", {}, ["lora_A"]),
        ("fedsa", {"HEAD": "share"}, ["lora_A", "modules_to_save"]),
        ("fedit", {}, ["lora_A", "lora_B"]),
        ("ffa", {}, ["lora_B"]),
    ],
)
@pytest.mark.parametrize("share_model", [True, False])
def test_shared_roles_travel_and_nothing_else(
    lab, method, policy, parts, share_model
):
    runner = lab.runner(
        federate__method=method,
        federate__share_local_model=share_model,
        fedsa__policy=policy,
    )
    names = {n for n, _ in runner.server.model.model.named_parameters()}
    expected = {
        n
        for n in names
        if any(part in n for part in parts) and "original" not in n
    }
    sent = record(runner)
    runner.run()
    kinds = {"model_para": 0, "evaluate": 0, "finish": 0}
    for message in sent:
        if message.msg_type in kinds:
            kinds[message.msg_type] += 1
            tensors = load(payload_of(message))
            assert tensors.keys() == expected
            assert not any("." in n and "original" in n for n in tensors)
    # 3 broadcasts and 9 updates; 3 evaluations; 1 end.
    assert kinds == {"model_para": 12, "evaluate": 3, "finish": 1}


def test_local_sends_nothing(lab):
    runner = lab.runner(federate__method="local")
    sent = record(runner)
    runner.run()
    payloads = [
        payload_of(m)
        for m in sent
        if m.msg_type in ("model_para", "evaluate", "finish")
    ]
    assert payloads and all(payload == b"" for payload in payloads)


def test_bytes_are_the_bytes_that_were_sent(lab):
    from fs_plugins.experiment.events import LiveRun
    from fs_plugins.experiment.recorder import Recorder
    from fs_plugins.experiment.summary import facts_of

    runner = lab.runner(federate__sample_client_num=2)
    sent = record(runner)
    recorder = Recorder(runner.cfg, facts_of(runner.cfg))
    LiveRun(runner, [recorder]).run()
    found = recorder.finish(0.0)["communication"]
    up = sum(
        len(payload_of(m))
        for m in sent
        if m.msg_type == "model_para" and m.sender
    )
    down = sum(
        len(m.content) * len(m.receiver)
        for m in sent
        if m.sender == 0 and m.msg_type in ("model_para", "evaluate", "finish")
    )
    assert found["uplink_bytes"] == up > 0
    assert found["downlink_bytes"] == down > up
    assert found["uplink_bytes_per_client_round"] == up / 6
    a = sum(p.numel() for p in runner.server.parameters.shared.values())
    # 2 layers x (query, value) x r 2 x hidden 16
    assert found["shared_parameters"] == a == 2 * 2 * 2 * 16


def bad(kind, good):
    """An update that is not what it should be."""
    samples, payload = good
    tensors = load(payload)
    first = min(tensors)
    if kind == "nan":
        tensors[first][0, 0] = float("nan")
    elif kind == "inf":
        tensors[first][0, 0] = float("inf")
    elif kind == "shape":
        tensors[first] = tensors[first].T.contiguous()
    elif kind == "dtype":
        tensors[first] = tensors[first].double()
    elif kind == "missing":
        del tensors[first]
    elif kind == "extra":
        tensors["stranger"] = torch.zeros(1)
    elif kind == "renamed":
        tensors["stranger"] = tensors.pop(first)
    elif kind == "negative samples":
        return -samples, payload
    elif kind == "absurdly many samples":
        return 10**400, payload
    elif kind == "more samples than steps x batch":
        return 9, payload
    elif kind == "no samples":
        return 0, payload
    elif kind == "samples are text":
        return "many", payload
    elif kind == "truncated":
        return samples, payload[:-5]
    elif kind == "random bytes":
        return samples, b"\x07" * 100
    elif kind == "not bytes":
        return samples, tensors
    elif kind == "too large":
        return samples, payload + b"\0" * 100_000
    elif kind == "not a pair":
        return payload
    return samples, encode(tensors)


@pytest.mark.parametrize(
    "kind",
    [
        "nan",
        "inf",
        "shape",
        "dtype",
        "missing",
        "extra",
        "renamed",
        "negative samples",
        "absurdly many samples",
        "more samples than steps x batch",
        "no samples",
        "samples are text",
        "truncated",
        "random bytes",
        "not bytes",
        "too large",
        "not a pair",
    ],
)
def test_a_bad_update_costs_its_client_the_round(lab, kind):
    """The round's average is that of the others, and the run goes on."""

    def run(spoil):
        runner = lab.runner(federate__total_round_num=1)
        updates = {}
        for ID, client in runner.client.items():
            send = client.comm_manager.send

            def changed(message, ID=ID, send=send):
                if message.msg_type == "model_para":
                    updates[ID] = message.content
                    if ID == 2 and spoil:
                        message.content = bad(kind, message.content)
                send(message)

            client.comm_manager.send = changed
        runner.run()
        return runner.server, updates

    server, updates = run(spoil=True)
    assert server.rejected_updates == 1
    assert server.is_finish
    others = [updates[1], updates[3]]
    total = sum(n for n, _ in others)
    parts = [(n / total, load(payload)) for n, payload in others]
    for name, value in server.aggregator.shared.items():
        expected = sum(w * tensors[name] for w, tensors in parts)
        assert_near(value, expected)
    server, _ = run(spoil=False)
    assert server.rejected_updates == 0


def test_late_and_repeated_updates_are_refused(lab):
    runner = lab.runner(federate__total_round_num=2)
    client = runner.client[2]
    send = client.comm_manager.send

    def twice(message):
        send(message)
        if message.msg_type == "model_para":
            send(
                Message(
                    msg_type="model_para",
                    sender=2,
                    receiver=[0],
                    state=message.state,
                    content=message.content,
                )
            )

    client.comm_manager.send = twice
    runner.run()
    # Once in the same round, or already a round late: refused either way.
    assert runner.server.rejected_updates == 2
    assert runner.server.is_finish


@pytest.mark.parametrize("stranger", [4, 99, -1, 0])
def test_an_update_of_an_unknown_client_is_refused(lab, stranger):
    runner = lab.runner(federate__total_round_num=2)
    plain = lab.runner(federate__total_round_num=2)
    send = runner.client[1].comm_manager.send

    def forged(message):
        if message.msg_type == "model_para":
            send(
                Message(
                    msg_type="model_para",
                    sender=stranger,
                    receiver=[0],
                    state=message.state,
                    content=message.content,
                )
            )
        send(message)

    runner.client[1].comm_manager.send = forged
    runner.run()
    plain.run()
    assert runner.server.rejected_updates == 2
    for name, value in plain.server.aggregator.shared.items():
        assert torch.equal(runner.server.aggregator.shared[name], value)


def spoil(runner, clients, rounds):
    """These clients send NaN in the first so many rounds or repeats."""
    asked = []
    for ID in clients:
        client = runner.client[ID]
        send = client.comm_manager.send

        def spoiled(message, send=send):
            if message.msg_type == "model_para":
                asked.append(message.state)
                if len(asked) <= rounds * len(clients):
                    message.content = bad("nan", message.content)
            send(message)

        client.comm_manager.send = spoiled
    return asked


def test_a_round_without_a_good_update_is_repeated(lab):
    runner = lab.runner(federate__total_round_num=2)
    asked = spoil(runner, [1, 2, 3], rounds=2)
    runner.run()
    assert asked == [0] * 9 + [1] * 3
    assert runner.server.rejected_updates == 6
    assert runner.server.is_finish


def test_with_nothing_but_bad_updates_the_run_stops(lab):
    runner = lab.runner(federate__total_round_num=2)
    before = {n: v.clone() for n, v in runner.server.aggregator.shared.items()}
    spoil(runner, [1, 2, 3], rounds=1000)
    with pytest.raises(RunError, match="round 1 was repeated 10 times"):
        runner.run()
    after = runner.server.aggregator.shared
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert runner.server.rejected_updates == 3 * 11


def test_a_round_needs_min_received_updates(lab):
    """The one good update of the first attempt is forgotten."""
    runner = lab.runner(federate__total_round_num=1, fedsa__min_received=2)
    asked = spoil(runner, [1, 2], rounds=1)
    updates = []
    send = runner.client[3].comm_manager.send

    def recorded(message):
        if message.msg_type == "model_para":
            updates.append(message.content)
        send(message)

    runner.client[3].comm_manager.send = recorded
    runner.run()
    assert asked == [0] * 4 and len(updates) == 2
    assert runner.server.rejected_updates == 2
    assert list(runner.server.aggregator._sum) == []


def test_what_a_stopped_run_has_trained_is_saved(lab, monkeypatch):
    from fs_plugins.worker.server import FedSAServer

    monkeypatch.setattr(FedSAServer, "_repeat_round", stop)
    with pytest.raises(RunError, match="enough"):
        lab.run(fedsa__min_received=3, train__optimizer__lr=1e30)
    assert list(lab.folder.glob("exp/*/adapters/client_1/*.safetensors"))


def stop(self):
    raise RunError("enough")
