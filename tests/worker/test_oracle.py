"""The methods against themselves, written out without the plugin.

The oracle uses PyTorch, transformers and PEFT only.  From the plugin's side
come the data (each client's texts and labels, in order) and the initial
adapter; everything that is computed, it computes again.
"""

import copy

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
from transformers import AutoTokenizer

BATCH, STEPS, ROUNDS, LR = 4, 2, 3, 0.5


@pytest.fixture
def lab(lab):
    return in_float64(lab)


def nothing(name, rnd):
    return False


def oracle(
    folder,
    texts,
    start,
    shares,
    sampled,
    sequential=False,
    adapter="lora",
    frozen=nothing,
):
    """FedSA, FedAvg, ...: ``shares(name)`` says what is averaged.

    Args:
        folder: the base model.
        texts: client -> [(text, label), ...].
        start: the initial trainable parameters.
        shares: name -> whether it is shared.
        sampled: the clients of each round.
        sequential: what isn't shared goes from client to client.
        adapter: one of ``ADAPTERS``.
        frozen: name, round from 1 -> whether it is not trained in it.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (dtype,) = {v.dtype for v in start.values()}
    model = plain_model(folder, adapter, dtype)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == start.keys()
    server = {n: v.clone() for n, v in start.items() if shares(n)}
    own = {
        i: {n: v.clone() for n, v in start.items() if not shares(n)}
        for i in texts
    }
    for rnd, clients in enumerate(sampled, start=1):
        updates = []
        for i in clients:
            with torch.no_grad():
                for name, value in {**server, **own[i]}.items():
                    trained[name].copy_(value)
            learning = [p for n, p in trained.items() if not frozen(n, rnd)]
            optimizer = torch.optim.SGD(learning, lr=LR)
            count = 0
            data = texts[i]
            batches = [data[b : b + BATCH] for b in range(0, len(data), BATCH)]
            for step in range(STEPS):
                batch = batches[step % len(batches)]
                inputs = tokenizer(
                    [t for t, _ in batch], padding=True, return_tensors="pt"
                )
                logits = model(**inputs).logits
                labels = torch.tensor([y for _, y in batch])
                loss = torch.nn.functional.cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                count += len(batch)
            now = {n: p.detach().clone() for n, p in trained.items()}
            for j in own if sequential else [i]:
                own[j] = {n: now[n] for n in own[i]}
            updates.append((count, {n: now[n] for n in server}))
        total = sum(count for count, _ in updates)
        server = {n: sum(c / total * u[n] for c, u in updates) for n in server}
    return server, own


def texts_of(runner, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = {}
    for client in runner.client:
        data = runner.data[client].train_data
        texts[client] = []
        for i in data.index:
            start = data.tokens.ends[i - 1] if i else 0
            ids = data.tokens.ids[start : data.tokens.ends[i]]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            texts[client].append((text, int(data.tokens.labels[i])))
    return texts


def assert_moved(found, start, least=1e-3):
    """A comparison of what nobody has changed would say nothing."""
    for name in found:
        assert (found[name] - start[name]).abs().max() > least, name


def sampled_of(runner):
    """Records who is sampled, round by round."""
    rounds = []
    sample = runner.server.sampler.sample

    def recorded(size):
        rounds.append(sample(size=size))
        return rounds[-1]

    runner.server.sampler.sample = recorded
    return rounds


def is_a(name):
    return "lora_A" in name


def everything(name):
    return True


def all_but_head(name):
    return "modules_to_save" not in name


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize(
    "method, shares",
    [("fedsa", is_a), ("fedit", all_but_head)],
)
@pytest.mark.parametrize("sample", [3, 2])
def test_our_workers_compute_what_the_paper_says(
    lab, toy_model, method, shares, share_model, sample
):
    runner = lab.runner(
        federate__method=method,
        federate__share_local_model=share_model,
        federate__sample_client_num=sample,
        federate__total_round_num=ROUNDS,
        dataloader__shuffle=False,
    )
    texts = texts_of(runner, toy_model)
    counts = {len(each) % BATCH for each in texts.values()}
    assert len(counts) > 1 or len({len(t) for t in texts.values()}) > 1
    start, rounds = start_of(runner), sampled_of(runner)
    runner.run()
    assert [len(r) for r in rounds] == [sample] * ROUNDS
    server, own = oracle(toy_model, texts, start, shares, rounds)
    assert_moved(server, start)
    assert_close(runner.server.aggregator.shared, server)
    for client in runner.client:
        assert_close(dict(runner.client[client].kept.values), own[client])


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("method", ["fedsa", "fedit"])
@pytest.mark.parametrize("adapter", sorted(ADAPTERS.keys() - {"lora"}))
def test_the_paradigm_carries_over_to_other_adapters(
    lab, toy_model, adapter, method, share_model
):
    """A's side travels, B's side stays, whatever they are called."""
    in_float64(lab, not adapter.startswith(IN_FLOAT32))
    runner = lab.runner(
        federate__method=method,
        federate__share_local_model=share_model,
        federate__total_round_num=ROUNDS,
        federate__sample_client_num=2,
        llm__adapter__args=args_of(adapter),
        dataloader__shuffle=False,
    )
    texts = texts_of(runner, toy_model)
    start, rounds = start_of(runner), sampled_of(runner)
    runner.run()
    part = ADAPTERS[adapter][2]

    def shares(name):
        return part in name if method == "fedsa" else all_but_head(name)

    server, own = oracle(
        toy_model, texts, start, shares, rounds, adapter=adapter
    )
    assert server and all(each.keys() for each in own.values())
    assert_close(runner.server.aggregator.shared, server)
    moved = {n: (server[n] - start[n]).abs().max() for n in server}
    assert max(moved.values()) > 1e-4
    for client in runner.client:
        assert_close(dict(runner.client[client].kept.values), own[client])


@pytest.mark.parametrize("adapter", ["rslora", "vera"])
def test_the_hosts_fedavg_averages_other_adapters_too(lab, toy_model, adapter):
    runner = lab.runner(
        federate__method="FedAvg",
        federate__total_round_num=ROUNDS,
        llm__adapter__args=args_of(adapter),
        dataloader__shuffle=False,
    )
    texts, start = texts_of(runner, toy_model), start_of(runner)
    rounds = sampled_of(runner)
    runner.run()
    server, _ = oracle(
        toy_model, texts, start, everything, rounds, adapter=adapter
    )
    assert_close(runner.server.model.state_dict(), server)


@pytest.mark.parametrize("sample", [3, 2])
def test_sequential_b_is_one_b_for_all_in_turn(lab, toy_model, sample):
    runner = lab.runner(
        federate__method="sequential_b",
        federate__sample_client_num=sample,
        federate__total_round_num=ROUNDS,
        dataloader__shuffle=False,
    )
    texts, start = texts_of(runner, toy_model), start_of(runner)
    rounds = sampled_of(runner)
    runner.run()
    server, own = oracle(
        toy_model, texts, start, is_a, rounds, sequential=True
    )
    assert_moved(own[1], start)
    assert_close(runner.server.aggregator.shared, server)
    for client in runner.client:
        assert_close(dict(runner.client[client].kept.values), own[client])
    private, _ = oracle(toy_model, texts, start, is_a, rounds)
    assert any((private[n] - server[n]).abs().max() > 1e-4 for n in server)


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("sample", [3, 2])
def test_the_hosts_fedavg_is_the_baseline_we_take_it_for(
    lab, toy_model, share_model, sample
):
    runner = lab.runner(
        federate__method="FedAvg",
        federate__share_local_model=share_model,
        federate__sample_client_num=sample,
        federate__total_round_num=ROUNDS,
        dataloader__shuffle=False,
    )
    texts, start = texts_of(runner, toy_model), start_of(runner)
    rounds = sampled_of(runner)
    runner.run()
    server, _ = oracle(toy_model, texts, start, everything, rounds)
    assert_moved(server, start)
    assert_close(runner.server.model.state_dict(), server)


def is_head(name):
    return "modules_to_save" in name


ALTERNATING = {
    # policy by round; what is global; what is frozen in which round
    "rolora": (
        {},
        lambda n: not is_head(n),
        lambda n, r: not is_head(n) and is_a(n) == r % 2,
    ),
    "fedsa": (
        {"odd": {"B": "freeze"}, "even": {"A": "freeze"}},
        is_a,
        lambda n, r: not is_head(n) and is_a(n) != r % 2,
    ),
    "fedit": (
        {"HEAD": "share", "even": {"HEAD": "freeze", "A": "freeze"}},
        everything,
        lambda n, r: r % 2 == 0 and (is_head(n) or is_a(n)),
    ),
}


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("sample", [3, 2])
@pytest.mark.parametrize("method", ALTERNATING)
def test_policies_may_change_from_round_to_round(
    lab, toy_model, method, sample, share_model
):
    policy, shares, frozen = ALTERNATING[method]
    runner = lab.runner(
        federate__method=method,
        federate__sample_client_num=sample,
        federate__share_local_model=share_model,
        dataloader__shuffle=False,
        fedsa__policy=policy,
    )
    start, sampled = start_of(runner), sampled_of(runner)
    texts = texts_of(runner, toy_model)
    runner.run()
    everyone = [sorted(texts)] * ROUNDS
    server, own = oracle(
        toy_model,
        texts,
        start,
        shares,
        sampled if sample < 3 else everyone,
        frozen=frozen,
    )
    assert_close(dict(runner.server.aggregator.shared), server)
    assert_moved(server, start, least=2e-5)  # A, for one round, by a small B
    for ID, client in runner.client.items():
        assert client.kept.values.keys() == own[ID].keys()
        if own[ID]:
            assert_close(dict(client.kept.values), own[ID])


def test_what_is_frozen_in_a_round_is_not_uploaded(lab):
    runner = lab.runner(federate__method="rolora")
    sent = record(runner)
    runner.run()
    for message in sent:
        if message.msg_type != "model_para":
            continue
        names = load(payload_of(message))
        if message.sender == 0:  # who comes late needs both
            assert any(map(is_a, names)) and not all(map(is_a, names))
        elif message.state % 2:  # round 2
            assert all(map(is_a, names))
        else:
            assert not any(map(is_a, names))


def test_uneven_clients_weigh_by_their_samples(lab, toy_model):
    """One client has 3 examples, so its two steps are 6 samples, not 8."""
    runner = lab.runner(dataloader__shuffle=False)
    for client, size in ((1, 3), (2, 5), (3, 8)):
        data = runner.data[client].train_data
        data.index = data.index[:size]
        runner.client[client].trainer.ctx.num_train_data = size
    texts, start = texts_of(runner, toy_model), start_of(runner)
    assert [len(t) for t in texts.values()] == [3, 5, 8]
    runner.run()
    server, own = oracle(toy_model, texts, start, is_a, [[1, 2, 3]] * 3)
    assert_close(runner.server.aggregator.shared, server)
    assert_close(dict(runner.client[1].kept.values), own[1])


def test_ignore_weight_averages_uniformly(lab, toy_model):
    runner = lab.runner(
        federate__ignore_weight=True,
        federate__total_round_num=1,
        dataloader__shuffle=False,
    )
    data = runner.data[1].train_data
    data.index = data.index[:3]
    runner.client[1].trainer.ctx.num_train_data = 3
    texts, start = texts_of(runner, toy_model), start_of(runner)
    updates = [
        oracle(toy_model, {i: texts[i]}, start, is_a, [[i]])[0] for i in texts
    ]
    runner.run()
    mean = {n: sum(u[n] for u in updates) / 3 for n in updates[0]}
    assert_close(runner.server.aggregator.shared, mean)


def test_b_starts_at_zero_and_everyone_starts_alike(lab):
    runner = lab.runner(federate__share_local_model=False)
    start = start_of(runner)
    for name, value in start.items():
        if "lora_B" in name:
            assert not value.any()
    for client in runner.client.values():
        state = client.model.state_dict()
        assert state.keys() == start.keys()
        assert all(torch.equal(state[n], start[n]) for n in start)


def test_the_oracle_can_fail(toy_model, lab):
    """It tells FedSA from FedIT."""
    runner = lab.runner(dataloader__shuffle=False)
    texts, start = texts_of(runner, toy_model), start_of(runner)
    rounds = [[1, 2, 3]] * 2
    a, _ = oracle(toy_model, texts, copy.deepcopy(start), is_a, rounds)
    both, _ = oracle(toy_model, texts, start, all_but_head, rounds)
    assert any((a[n] - both[n]).abs().max() > 1e-4 for n in a)
