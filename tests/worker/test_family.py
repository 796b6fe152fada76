"""Aggregators of products and clients of different ranks, in whole runs.

The oracle changes the base model's own weights, gives every client a LoRA of
its own rank, and multiplies matrices out.  It uses PyTorch, transformers and
PEFT only; from the plugin come the texts and what is drawn at random.
"""

import copy

import pytest
import torch
from helpers import (
    assert_close,
    copied,
    in_float64,
    plain_base,
    record,
    start_of,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import load
from test_oracle import BATCH, LR, STEPS, texts_of
from transformers import AutoTokenizer

RANK, SCALE, ROUNDS = 4, 2, 3
ARGS = [
    {
        "adapter_package": "peft",
        "adapter_method": "lora",
        "r": RANK,
        "lora_alpha": SCALE * RANK,
        "lora_dropout": 0.0,
        "target_modules": ["query", "value"],
    }
]
SETTINGS = {
    "llm__adapter__args": ARGS,
    "dataloader__shuffle": False,
    "federate__total_round_num": ROUNDS,
}
RANKS = [4, 1, 2]


@pytest.fixture
def lab(lab):
    return in_float64(lab)


def is_a(name):
    return "lora_A" in name


def nothing(name):
    return False


def b_of(name):
    return name.replace("lora_A", "lora_B")


def layer_of(name):
    return name.partition(".lora_")[0]


def cut(values, rank):
    found = {}
    for name, value in values.items():
        if is_a(name):
            value = value[:rank]
        elif "lora_B" in name:
            value = value[:, :rank]
        found[name] = value.clone()
    return found


def trained(folder, values, base, texts, rank, frozen=()):
    """A client's parameters after a round, and its samples."""
    model = get_peft_model(
        plain_base(folder),
        LoraConfig(
            task_type="SEQ_CLS",
            r=rank,
            lora_alpha=SCALE * rank,
            lora_dropout=0.0,
            target_modules=["query", "value"],
        ),
    )
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert own.keys() == values.keys()
    with torch.no_grad():
        for name, change in base.items():
            model.get_submodule(name).base_layer.weight.add_(change)
        for name, value in values.items():
            assert own[name].shape == value.shape
            own[name].copy_(value)
    learning = [p for n, p in own.items() if n not in frozen]
    optimizer = torch.optim.SGD(learning, lr=LR)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    samples = 0
    for step in range(STEPS):
        batch = batches[step % len(batches)]
        inputs = tokenizer(
            [text for text, _ in batch], padding=True, return_tensors="pt"
        )
        labels = torch.tensor([label for _, label in batch])
        loss = torch.nn.functional.cross_entropy(
            model(**inputs).logits, labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        samples += len(batch)
    return {n: p.detach().clone() for n, p in own.items()}, samples


def padded(values, like):
    found = {}
    for name, value in values.items():
        whole = torch.zeros_like(like[name])
        whole[tuple(map(slice, value.shape))] = value
        found[name] = whole
    return found


def mean(updates, of):
    total = sum(samples for _, samples in updates)
    return sum(samples / total * of(values) for values, samples in updates)


def effective(server, base):
    """By layer, what the global weights have changed by."""
    found = copy.deepcopy(base)
    for name in filter(is_a, server):
        change = SCALE * server[b_of(name)] @ server[name]
        found[layer_of(name)] = found.get(layer_of(name), 0) + change
    return found


def fedex(server, base, updates):
    for name in filter(is_a, server):
        b = b_of(name)
        exact = mean(updates, lambda v, a=name, b=b: v[b] @ v[a])
        for each in (name, b):
            server[each] = mean(updates, lambda v, n=each: v[n])
        rest = exact - server[b] @ server[name]
        layer = layer_of(name)
        base[layer] = base.get(layer, 0) + SCALE * rest


def flora(server, base, updates):
    for name in filter(is_a, server):
        b, layer = b_of(name), layer_of(name)
        exact = mean(updates, lambda v, a=name, b=b: v[b] @ v[a])
        base[layer] = base.get(layer, 0) + SCALE * exact


def flexlora(server, base, updates):
    for name in filter(is_a, server):
        b = b_of(name)
        exact = mean(updates, lambda v, a=name, b=b: v[b] @ v[a])
        u, s, vt = torch.linalg.svd(exact)
        server[name] = vt[:RANK]
        server[b] = u[:, :RANK] * s[:RANK]


def hetlora(server, base, updates):
    for name in filter(is_a, server):
        b = b_of(name)
        norms = [float((v[b] @ v[name]).norm()) for v, _ in updates]
        for each in (name, b):
            whole = [padded({each: v[each]}, server)[each] for v, _ in updates]
            weighed = zip(norms, whole, strict=True)
            server[each] = sum(n * w for n, w in weighed) / sum(norms)


AGGREGATORS = {
    "fedex": fedex,
    "flora": flora,
    "flexlora": flexlora,
    "hetlora": hetlora,
}


def oracle(folder, texts, start, aggregator, ranks, drawn):
    """What is global, what was added to the base, each client's head."""
    server = {n: v for n, v in start.items() if "lora_" in n}
    heads = {
        i: {n: v for n, v in start.items() if n not in server} for i in texts
    }
    base = {}
    for rnd in range(1, ROUNDS + 1):
        updates = []
        if aggregator == "flora":
            server = copy.deepcopy(drawn[rnd])
        for i in texts:
            values = cut(server, ranks[i - 1]) | heads[i]
            after, samples = trained(
                folder, values, base, texts[i], ranks[i - 1]
            )
            heads[i] = {n: after.pop(n) for n in heads[i]}
            updates.append((after, samples))
        AGGREGATORS[aggregator](server, base, updates)
    if aggregator == "flora":
        server = {n: torch.zeros_like(v) for n, v in server.items()}
    return server, base, heads


def added(runner):
    """By layer, what the plugin has added to the base model."""
    pairs = runner.server.parameters.delta.pairs
    return {
        layer: SCALE * left @ right for layer, (left, right) in pairs.items()
    }


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize(
    "aggregator, ranks",
    [
        ("fedex", []),
        ("flora", []),
        ("flora", RANKS),
        ("flexlora", []),
        ("flexlora", RANKS),
        ("hetlora", []),
        ("hetlora", RANKS),
    ],
)
def test_each_computes_what_its_paper_says(
    lab, toy_model, aggregator, ranks, share_model
):
    runner = lab.runner(
        **SETTINGS,
        federate__method="fedit",
        federate__share_local_model=share_model,
        fedsa__aggregator=aggregator,
        fedsa__ranks=ranks,
    )
    texts, start = texts_of(runner, toy_model), start_of(runner)
    drawn = {
        rnd: runner.server.parameters.drawn_in(rnd)
        for rnd in range(1, ROUNDS + 1)
    }
    runner.run()
    server, base, heads = oracle(
        toy_model, texts, start, aggregator, ranks or [RANK] * 3, drawn
    )
    # The sign of a singular vector is anyone's guess; the product is not.
    expected = effective(server, base)
    found = effective(runner.server.aggregator.shared, added(runner))
    assert_close(found, expected)
    assert len(found) == 4
    assert all(change.abs().max() > 1e-3 for change in expected.values())
    for i, client in runner.client.items():
        assert_close(dict(client.kept.values), heads[i])
    if aggregator == "flora":
        assert len({str(sorted(d.items())) for d in drawn.values()}) == ROUNDS


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("method", ["fedsa", "fedit", "ffa", "local"])
def test_clients_of_different_ranks(lab, toy_model, method, share_model):
    """A row of A is the average over the clients that have it."""
    runner = lab.runner(
        **SETTINGS,
        federate__method=method,
        federate__share_local_model=share_model,
        fedsa__ranks=RANKS,
    )
    texts = texts_of(runner, toy_model)
    start = copied(runner.server.parameters.initial)  # A of ffa, too
    sent = record(runner)
    runner.run()

    shared = {
        "fedsa": is_a,
        "fedit": lambda n: "lora_" in n,
        "ffa": lambda n: "lora_B" in n,
        "local": nothing,
    }[method]
    frozen = {n for n in start if method == "ffa" and is_a(n)}
    server = {n: v.clone() for n, v in start.items() if shared(n)}
    own = {
        i: cut({n: v for n, v in start.items() if not shared(n)}, RANKS[i - 1])
        for i in texts
    }
    for _ in range(ROUNDS):
        total = {n: torch.zeros_like(v) for n, v in server.items()}
        weight = {n: torch.zeros_like(v) for n, v in server.items()}
        for i in texts:
            rank = RANKS[i - 1]
            after, samples = trained(
                toy_model,
                cut(server, rank) | own[i],
                {},
                texts[i],
                rank,
                frozen,
            )
            own[i] = {n: after[n] for n in own[i]}
            for name in server:
                part = tuple(map(slice, after[name].shape))
                total[name][part] += samples * after[name]
                weight[name][part] += samples
        for name in server:
            has = weight[name] > 0
            server[name][has] = total[name][has] / weight[name][has]
    if shared is not nothing:
        assert_close(runner.server.aggregator.shared, server)
    for name, value in server.items():
        assert (value - start[name]).abs().max() > 1e-3
    for i, client in runner.client.items():
        learned = {n: v for n, v in own[i].items() if n not in frozen}
        assert_close(dict(client.kept.values), learned)
    sizes = {
        message.sender: {
            v.shape[0] for n, v in load(message.content[1]).items() if is_a(n)
        }
        for message in sent
        if message.msg_type == "model_para"
        and message.sender
        and method == "fedsa"
    }
    assert sizes == ({1: {4}, 2: {1}, 3: {2}} if method == "fedsa" else {})
