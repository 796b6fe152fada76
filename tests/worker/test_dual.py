"""FedDPA against itself, written out as matrices: no PEFT, no hooks."""

import pytest
import torch
from helpers import (
    assert_close,
    assert_near,
    copied,
    in_float64,
    plain_base,
    record,
    start_of,
)
from safetensors.torch import load, load_file
from test_oracle import BATCH, LR, STEPS, texts_of
from torch.func import functional_call
from transformers import AutoTokenizer

from fs_plugins.experiment.adapters import save_adapters

ROUNDS, SCALE, REFERENCES = 3, 2, 5


@pytest.fixture
def lab(lab):
    return in_float64(lab)


def is_private(name):
    return ".private." in name


def is_head(name):
    return "modules_to_save" in name


class Oracle:
    """The toy model with its weights computed from both adapters."""

    def __init__(self, folder):
        self.model = plain_base(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def weights(self, values, shared, private):
        found = dict(self.model.named_parameters())
        for name, a in values.items():
            short = name.removeprefix("base_model.model.")
            if is_head(name):
                found[short.replace("modules_to_save.default.", "")] = a
            elif "lora_A" in name:
                share = private if is_private(name) else shared
                b = values[name.replace("lora_A", "lora_B")]
                weight = f"{short.partition('.lora_')[0]}.weight"
                found[weight] = found[weight] + share * SCALE * b @ a
        return found

    def logits(self, values, texts, shared, private):
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        weights = self.weights(values, shared, private)
        return functional_call(self.model, weights, (), dict(inputs)).logits

    def train(self, values, batches, learning, shared, private):
        values = {
            n: v.clone().requires_grad_(n in learning)
            for n, v in values.items()
        }
        optimizer = torch.optim.SGD([values[n] for n in learning], lr=LR)
        for step in range(STEPS):
            batch = batches[step % len(batches)]
            logits = self.logits(
                values, [text for text, _ in batch], shared, private
            )
            labels = torch.tensor([label for _, label in batch])
            loss = torch.nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return copied(values)

    def seen(self, values, text):
        inputs = self.tokenizer([text], return_tensors="pt")
        weights = self.weights(values, 0, 1)
        hidden = functional_call(
            self.model,
            weights,
            (),
            {**inputs, "output_hidden_states": True},
        ).hidden_states[-1]
        return hidden[0].mean(dim=0)


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("weight", [0.5, 0.25])
def test_a_round_trains_one_adapter_then_the_other(
    lab, toy_model, weight, share_model
):
    runner = lab.runner(
        federate__method="feddpa",
        federate__share_local_model=share_model,
        fedsa__private={"weight": weight},
        dataloader__shuffle=False,
    )
    texts, start = texts_of(runner, toy_model), start_of(runner)
    sent = record(runner)
    runner.run()
    oracle = Oracle(toy_model)
    heads = {n for n in start if is_head(n)}
    private = {n for n in start if is_private(n)}
    shared = start.keys() - heads - private
    server = {n: start[n] for n in shared}
    own = {i: {n: start[n] for n in heads | private} for i in texts}
    for _ in range(ROUNDS):
        updates = []
        for i, data in texts.items():
            batches = [data[b : b + BATCH] for b in range(0, len(data), BATCH)]
            values = oracle.train(
                server | own[i], batches, private | heads, 1 - weight, weight
            )
            values = oracle.train(values, batches, shared | heads, 1, 0)
            own[i] = {n: values[n] for n in own[i]}
            count = sum(
                len(batches[step % len(batches)]) for step in range(STEPS)
            )
            updates.append((count, values))
        total = sum(count for count, _ in updates)
        server = {n: sum(c / total * v[n] for c, v in updates) for n in shared}
    assert_close(runner.server.aggregator.shared, server)
    for name, value in server.items():
        assert (value - start[name]).abs().max() > 1e-3
    for i, client in runner.client.items():
        assert_close(dict(client.kept.values), own[i])
        for name, value in client.kept.values.items():
            assert (value - start[name]).abs().max() > 1e-4
    payloads = [m.content for m in sent if isinstance(m.content, bytes)]
    payloads += [m.content[1] for m in sent if isinstance(m.content, tuple)]
    assert payloads
    assert all(load(payload).keys() == shared for payload in payloads)


@pytest.mark.parametrize("references", [0, REFERENCES])
def test_an_input_takes_as_much_of_the_private_one_as_it_is_like_the_data(
    lab, toy_model, references
):
    runner = lab.runner(
        federate__method="feddpa", fedsa__private={"references": references}
    )
    runner.run()
    client = runner.client[2]
    logits = []
    client.trainer.register_hook_in_eval(
        lambda ctx: logits.append(ctx.y_prob.clone()),
        "on_batch_forward",
        insert_mode=-1,
    )
    with client.parameters.loaded(
        runner.server.aggregator.shared, client.kept.values
    ):
        client.trainer.evaluate("test")
    found = torch.cat(logits)

    oracle = Oracle(toy_model)
    values = {**runner.server.aggregator.shared, **client.kept.values}
    kinds, seen = oracle.tokenizer, []
    if references:
        data = client.trainer._mixture._examples(torch.device("cpu"))
        seen = [
            oracle.seen(values, kinds.decode(row, skip_special_tokens=True))
            for row in data["input_ids"]
        ]
        assert len(seen) == REFERENCES
    expected, shares = [], []
    for i in runner.data[2].test_data.index:
        tokens = runner.data[2].test_data.tokens
        ids = tokens.ids[tokens.start(i) : tokens.ends[i]]
        text = kinds.decode(ids, skip_special_tokens=True)
        with torch.no_grad():
            share = 0.5
            if references:
                own = oracle.seen(values, text)
                likeness = [
                    torch.cosine_similarity(own, each, dim=0) for each in seen
                ]
                share = 0.5 * torch.stack(likeness).mean().clamp(0, 1)
            shares.append(float(share))
            expected.append(oracle.logits(values, [text], 1 - share, share))
    assert_near(found, torch.cat(expected))
    assert len(set(shares)) == (len(shares) if references else 1)
    assert min(shares) > 0 and max(shares) <= 0.5


def test_both_adapters_are_saved(lab, tmp_path):
    runner = lab.runner(federate__method="feddpa")
    runner.run()
    save_adapters(runner, tmp_path / "saved")
    for name in ("global", "client_1", "client_3"):
        folder = tmp_path / "saved" / name
        if name == "global":
            assert not (folder / "private").exists()
            continue
        both = [
            load_file(each / "adapter_model.safetensors")
            for each in (folder, folder / "private")
        ]
        shared, private = both
        assert shared.keys() == private.keys()  # the head is in both
        kept = runner.client[int(name[-1])].kept.values
        for key, value in private.items():
            if "lora_" not in key:
                assert torch.equal(value, shared[key])
                continue
            full = key.replace(".weight", ".private.weight")
            assert torch.equal(value, kept[full])


def test_generation_mixes_too(language_lab):
    summary = language_lab.run(
        federate__method="feddpa",
        fedsa__eval={"generate": {"examples": 2, "max_new_tokens": 3}},
    )
    last = summary["results"]["last"]["weighted"]
    assert {"test_rouge_l", "test_avg_loss"} <= last.keys()


def test_the_response_does_not_decide_the_mixture(language_lab):
    """It is what is to be predicted."""
    runner = language_lab.runner(federate__method="feddpa")
    mixture = runner.client[1].trainer._mixture
    batch = next(iter(runner.data[1]["test"]))
    changed = {n: t.clone() for n, t in batch.items()}
    response = changed["labels"] != -100
    assert response.any()
    changed["input_ids"][response] = 7
    assert_near(mixture._embed(batch), mixture._embed(changed))


def test_optimizer_state_of_both_adapters_is_kept(lab):
    runner = lab.runner(
        federate__method="feddpa",
        train__optimizer={"type": "AdamW", "lr": 0.01},
        fedsa__state={"optimizer": True},
    )
    runner.run()
    client = runner.client[1]
    moments = {
        name.removeprefix("optimizer.exp_avg.")
        for name in client.kept.optimizer
        if name.startswith("optimizer.exp_avg.")
    }
    both = client.parameters.shared | client.parameters.kept
    assert moments == both.keys()


@pytest.mark.parametrize("exclude", [None, ["layer.1.output.dense"]])
def test_the_private_adapter_keeps_off_the_head(lab, tmp_path, exclude):
    """RoBERTa's head has a layer of the name that is targeted, ``dense``."""
    from architectures import make

    folder = make("roberta", tmp_path / "roberta")
    args = {"r": 2, "target_modules": ["dense"]}
    if exclude:
        args["exclude_modules"] = exclude
    runner = lab.runner(
        federate__method="feddpa",
        model__type=f"{folder}@huggingface_llm",
        llm__adapter__args=[args],
    )
    names = [n for n, _ in runner.server.model.model.named_parameters()]
    private = [n for n in names if ".lora_A.private" in n]
    assert private and not any("classifier" in n for n in private)
    found = any("layer.1.output.dense" in n for n in private)
    assert found != bool(exclude)
