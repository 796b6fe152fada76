"""A client's B and head never leave it."""

import gc
import struct
from pathlib import Path

import pytest
import torch
from federatedscope.core.message import Message
from helpers import payload_of, record

from fs_plugins import policy
from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.wire import encode

SENTINEL = 1234.5


def has_sentinel(tensor):
    return tensor.is_floating_point() and bool((tensor == SENTINEL).any())


# Whatever is registered; but for the leak, which is there to be measured.
METHODS = (
    {
        name: {"federate__method": name}
        for name, rule in policy.METHODS.items()
        if not rule.sequential
    }
    | {
        name: {
            "federate__method": "fedit",
            "fedsa__aggregator": name,
            "fedsa__aggregator_args": {"trim": 0.34},
        }
        for name in AGGREGATORS
    }
    | {
        "ranks": {"fedsa__ranks": [2, 2, 1]},
        "sfed": {"fedsa__scale_by_clients": True},
    }
)


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_poison_stays_where_it_is(lab, method, share_model):
    """What client 2 keeps becomes a sentinel; nobody else ever sees it."""
    runner = lab.runner(
        **METHODS[method],
        federate__share_local_model=share_model,
        train__optimizer__lr=1e-20,  # the sentinel stays what it is
    )
    payloads = record(runner)
    broadcast = runner.server.broadcast_model_para

    def poison_then_broadcast(*args, **kwargs):
        if runner.server.state == 1:
            client = runner.client[2]
            client.kept.save(
                {
                    name: torch.full_like(value, SENTINEL)
                    for name, value in client.kept.values.items()
                }
            )
        broadcast(*args, **kwargs)

    runner.server.broadcast_model_para = poison_then_broadcast
    runner.run()
    own = runner.client[2].kept.values
    assert all((value == SENTINEL).all() for value in own.values())

    mine = {value.data_ptr() for value in own.values()}
    elsewhere = [
        thing
        for thing in gc.get_objects()
        if type(thing) in (torch.Tensor, torch.nn.Parameter)
        and thing.data_ptr() not in mine
        and has_sentinel(thing)
    ]
    assert not elsewhere
    pattern = struct.pack("<f", SENTINEL)
    assert any(pattern in encode({"t": v}) for v in own.values())
    sent = 0
    for message in payloads:
        content = payload_of(message)
        if isinstance(content, bytes):
            sent += bool(content)
            assert pattern not in content
    assert sent > 9 or method == "local"
    for file in Path(runner.cfg.outdir).rglob("*"):
        assert file.is_dir() or pattern not in file.read_bytes()


def evaluate(runner, order):
    """Ask clients to evaluate, in an order; their metrics."""
    found = {}
    for client in order:
        worker = runner.client[client]
        worker.comm_manager.send = lambda m: found.update(
            {m.sender: m.content}
        )
        worker.callback_funcs_for_evaluate(
            Message(
                msg_type="evaluate",
                sender=0,
                receiver=[client],
                state=2,
                content=encode(runner.server.aggregator.shared),
            )
        )
    return found


@pytest.mark.parametrize("share_model", [True, False])
def test_evaluation_depends_on_nobody_else(lab, share_model):
    runner = lab.runner(federate__share_local_model=share_model)
    runner.run()
    first = evaluate(runner, [1, 2, 3])
    assert len({str(sorted(m.items())) for m in first.values()}) == 3
    assert evaluate(runner, [3, 1, 2]) == first
    assert evaluate(runner, [2, 2, 3, 1, 1]) == first


def test_kept_parameters_come_back_bit_for_bit(lab):
    """What a client trained is what it starts its next round from."""
    runner = lab.runner()
    left, found = {}, {}
    for ID, client in runner.client.items():
        train = client.trainer.train

        def watched(ID=ID, client=client, train=train):
            own = client.parameters.kept
            found.setdefault(ID, []).append(
                {n: p.detach().clone() for n, p in own.items()}
            )
            result = train()
            left.setdefault(ID, []).append(
                {n: p.detach().clone() for n, p in own.items()}
            )
            return result

        client.trainer.train = watched
    runner.run()
    for ID in runner.client:
        assert len(left[ID]) == 3
        for before, after in zip(left[ID], found[ID][1:], strict=False):
            assert all(torch.equal(before[n], after[n]) for n in before)
        moved = left[ID][0]
        assert any(not torch.equal(moved[n], found[ID][0][n]) for n in moved)


def test_a_client_that_was_not_sampled_keeps_its_own(lab):
    runner = lab.runner(
        federate__client_num=4,
        federate__sample_client_num=1,
        federate__total_round_num=4,
        seed=5,
    )
    trained = {ID: 0 for ID in runner.client}
    for ID, client in runner.client.items():
        save = client.kept.save

        def counted(values, ID=ID, save=save):
            trained[ID] += 1
            save(values)

        client.kept.save = counted
    initial = runner.server.parameters.initial
    runner.run()
    assert sum(trained.values()) == 4 and 0 in trained.values()
    for ID, client in runner.client.items():
        changed = any(
            not torch.equal(value, initial[name])
            for name, value in client.kept.values.items()
        )
        assert changed == bool(trained[ID])


def test_the_model_holds_nobodys_parameters_after_a_turn(lab):
    runner = lab.runner()
    runner.run()
    parameters = runner.server.parameters
    for name, value in runner.server.model.state_dict().items():
        assert torch.equal(value, parameters.initial[name])
    for p in runner.server.model.parameters():
        assert p.grad is None


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("method", ["FedAvg", "fedit"])
def test_a_leak_of_the_hosts_own_is_told(lab, notes, method, share_model):
    """And it is one: what is told is measured, too."""
    found = lab.run(
        federate__method=method,
        federate__share_local_model=share_model,
        personalization__local_param=["modules_to_save"],
        federate__total_round_num=1,
    )
    told = " ".join(notes)
    leaks = method == "FedAvg" and share_model
    assert ("modules_to_save) goes from client to client" in told) == leaks
    assert found["results"]["last"]["round"] == 1


HEAD = "modules_to_save.default.weight"


@pytest.mark.parametrize("share_model", [True, False])
def test_the_leak_that_is_told_of(lab, share_model):
    """A client begins with the head that the one before it has left."""
    runner = lab.runner(
        federate__method="FedAvg",
        federate__share_local_model=share_model,
        personalization__local_param=["modules_to_save"],
        federate__total_round_num=1,
    )
    heads = []  # before and after training, in the order of training

    def head_of(model):
        state = model.state_dict()
        (name,) = (n for n in state if n.endswith(HEAD))
        return state[name].clone()

    for client in runner.client.values():
        train = client.trainer.train

        def watched(client=client, train=train):
            begin = head_of(client.model)
            found = train()
            heads.append((begin, head_of(client.model)))
            return found

        client.trainer.train = watched
    runner.run()
    (first, left), (found, _), _ = heads
    assert not torch.equal(first, left)
    assert torch.equal(found, left if share_model else first)
