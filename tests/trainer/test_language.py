"""A causal language model learns responses, and is scored by them."""

import json
from pathlib import Path

import pytest
import torch
from helpers import assert_close, start_of
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from fs_plugins.trainer.generate import until_next

BATCH, STEPS, ROUNDS, LR = 4, 2, 3, 0.1


def batch_loss(model, tokenizer, pairs):
    """Mean cross entropy of the response's tokens, one text at a time."""
    losses = []
    for prompt, response in pairs:
        before = tokenizer(prompt)["input_ids"]
        after = tokenizer(response)["input_ids"] + [tokenizer.eos_token_id]
        logits = model(torch.tensor([before + after])).logits[0]
        place = slice(len(before) - 1, -1)
        losses.append(
            cross_entropy(logits[place], torch.tensor(after), reduction="none")
        )
    return torch.cat(losses).mean()


def plain_llama(folder):
    return get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=2,
            lora_alpha=4,
            target_modules=["q_proj", "v_proj"],
        ),
    )


def pairs_of(runner, client, split):
    data = runner.data[client]
    dataset = getattr(data, f"{split}_data")
    return [dataset.tokens.texts[i] for i in dataset.index]


@pytest.mark.parametrize("share_model", [True, False])
def test_fedsa_of_a_language_model(language_lab, toy_llama, share_model):
    """The rounds written out, without padding, masks or the plugin."""
    runner = language_lab.runner(
        federate__share_local_model=share_model,
        federate__total_round_num=ROUNDS,
        train__optimizer__lr=LR,
        dataloader__shuffle=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(toy_llama)
    start = start_of(runner)
    texts = {i: pairs_of(runner, i, "train") for i in runner.client}
    runner.run()
    model = plain_llama(toy_llama)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    server = {n: v for n, v in start.items() if "lora_A" in n}
    own = {i: {n: v for n, v in start.items() if "lora_B" in n} for i in texts}
    for _ in range(ROUNDS):
        updates = []
        for i, pairs in texts.items():
            with torch.no_grad():
                for name, value in {**server, **own[i]}.items():
                    trained[name].copy_(value)
            optimizer = torch.optim.SGD(trained.values(), lr=LR)
            batches = [
                pairs[b : b + BATCH] for b in range(0, len(pairs), BATCH)
            ]
            seen = 0
            for step in range(STEPS):
                batch = batches[step % len(batches)]
                optimizer.zero_grad()
                batch_loss(model, tokenizer, batch).backward()
                optimizer.step()
                seen += len(batch)
            now = {n: p.detach().clone() for n, p in trained.items()}
            own[i] = {n: now[n] for n in own[i]}
            updates.append((seen, now))
        total = sum(seen for seen, _ in updates)
        server = {
            n: sum(seen / total * now[n] for seen, now in updates)
            for n in server
        }
    assert any((server[n] - start[n]).abs().max() > 1e-3 for n in server)
    assert_close(runner.server.aggregator.shared, server)
    for i in runner.client:
        assert_close(dict(runner.client[i].kept.values), own[i])


def test_the_loss_is_that_of_the_responses(language_lab, toy_llama):
    """Of each client's model, as PEFT loads it from the run's folder."""
    summary = language_lab.run(dataloader__batch_size=1)
    runner = language_lab.runner(dataloader__batch_size=1)
    tokenizer = AutoTokenizer.from_pretrained(toy_llama)
    for i in runner.client:
        folder = Path(summary["outdir"]) / "adapters" / f"client_{i}"
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(toy_llama), folder
        ).eval()
        pairs = pairs_of(runner, i, "test")
        with torch.no_grad():
            losses = [batch_loss(model, tokenizer, [p]).item() for p in pairs]
        found = summary["results"]["last"]["clients"][str(i)]
        assert found["test_total"] == len(pairs)
        mean = sum(losses) / len(losses)
        assert found["test_avg_loss"] == pytest.approx(mean, abs=1e-5)


def greedy(model, tokenizer, prompt, most):
    """The likeliest token, one after the other, without a cache."""
    ids = tokenizer(prompt)["input_ids"]
    new = []
    with torch.no_grad():
        while len(new) < most:
            logits = model(torch.tensor([ids + new])).logits
            token = int(logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            new.append(token)
    return until_next(tokenizer.decode(new))


def test_each_client_answers_with_its_own_b(
    language_lab, toy_llama, monkeypatch
):
    """Answers equal those of its saved adapter, written out token by token."""
    from fs_plugins.trainer import language

    given = []
    respond = language.respond

    def watched(model, tokenizer, prompts, *rest):
        answers = respond(model, tokenizer, prompts, *rest)
        given.append((prompts, answers))
        return answers

    monkeypatch.setattr(language, "respond", watched)
    summary = language_lab.run(
        fedsa__eval={
            "generate": {
                "examples": 3,
                "every": 3,
                "max_new_tokens": 12,
                "batch_size": 2,
            }
        },
        train__optimizer__lr=2.0,
    )
    assert len(given) == 3  # after the last of three rounds only
    tokenizer = AutoTokenizer.from_pretrained(toy_llama)
    everyone = []
    for i, (prompts, answers) in enumerate(given, 1):
        folder = Path(summary["outdir"]) / "adapters" / f"client_{i}"
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(toy_llama), folder
        ).eval()
        expected = [[greedy(model, tokenizer, p, 12)] for p in prompts]
        assert answers == expected and len(answers) in (2, 3)
        everyone.append([greedy(model, tokenizer, p, 12) for p in given[0][0]])
    assert len({tuple(each) for each in everyone}) > 1  # they do differ
    clients = summary["results"]["last"]["clients"]
    assert all("test_rouge_l" in clients[str(i)] for i in (1, 2, 3))
    lines = (Path(summary["outdir"]) / "metrics.jsonl").read_text()
    weighted = [json.loads(line)["weighted"] for line in lines.splitlines()]
    assert ["test_rouge_l" in w for w in weighted] == [False, False, True]


def test_drawn_answers_depend_on_the_seed_only(language_lab):
    options = {
        "generate": {
            "examples": 2,
            "every": 3,
            "max_new_tokens": 8,
            "metric": "rouge_l",
            "temperature": 1.0,
            "top_p": 0.9,
            "samples": 3,
            "shots": 2,
        }
    }
    found = []
    for seed in (1, 1):
        torch.manual_seed(len(found))
        summary = language_lab.run(fedsa__eval=options, seed=seed)
        found.append(summary["results"]["last"])
    assert found[0] == found[1]


def test_gradient_checkpointing_changes_nothing(language_lab):
    """It recomputes activations: the same parameters, to the last bits."""
    found = []
    for use in (False, True):
        runner = language_lab.runner(
            fedsa__base={"gradient_checkpointing": use},
            dataloader__shuffle=False,
        )
        modules = runner.server.model.modules()
        on = [getattr(m, "gradient_checkpointing", False) for m in modules]
        assert any(on) == use
        runner.run()
        found.append(runner.server.aggregator.shared)
    assert_close(found[1], found[0])


FULL = {
    "fedsa__base": {},
    "fedsa__adapter_dtype": "float32",
    "train__is_enable_half": False,
}


@pytest.mark.parametrize(
    "changes, trained, frozen",
    [
        ({"fedsa__base": {"dtype": "bfloat16"}}, "float32", "bfloat16"),
        ({"train__is_enable_half": True}, "float32", "float32"),
        (
            {"train__is_enable_half": True, "fedsa__half": "float16"},
            "float32",
            "float32",
        ),
        (
            {
                "fedsa__base": {"dtype": "float16"},
                "fedsa__adapter_dtype": "float16",
            },
            "float16",
            "float16",
        ),
    ],
)
def test_precision(language_lab, changes, trained, frozen):
    """Reduced precision learns what full precision learns, nearly."""
    changes |= {"dataloader__shuffle": False, "train__optimizer__lr": LR}
    exact = language_lab.runner(**changes | FULL)
    start = start_of(exact)
    exact.run()
    runner = language_lab.runner(**changes)
    types = {True: set(), False: set()}
    for parameter in runner.server.model.parameters():
        types[parameter.requires_grad].add(str(parameter.dtype))
    assert types == {True: {f"torch.{trained}"}, False: {f"torch.{frozen}"}}
    runner.run()
    far = near = 0.0
    for name, value in exact.server.aggregator.shared.items():
        found = runner.server.aggregator.shared[name]
        assert str(found.dtype) == f"torch.{trained}"
        far += float((value - start[name]).norm())
        near += float((value - found.float()).norm())
    assert near < 0.2 * far


def test_the_hosts_fedavg_trains_a_language_model(language_lab):
    summary = language_lab.run(federate__method="FedAvg")
    assert summary["communication"]["kept_parameters"] == 0
    lines = (Path(summary["outdir"]) / "metrics.jsonl").read_text()
    losses = [
        json.loads(line)["weighted"]["val_avg_loss"]
        for line in lines.splitlines()
    ]
    assert losses[-1] < losses[0]
