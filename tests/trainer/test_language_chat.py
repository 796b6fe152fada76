"""Conversations are learned and answered by one template."""

import json
import random
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from fs_plugins.trainer.scores import rouge_l

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


@pytest.fixture
def chat_lab(language_lab, tmp_path):
    """Conversations of one to three turns, and a template of one's own."""
    rng = random.Random(4)
    rows = []
    for number in range(40):
        messages = []
        for _ in range(rng.randrange(1, 4)):
            a, b = rng.randrange(9), rng.randrange(9)
            messages += [
                {"role": "user", "content": f"{a}+{b}?"},
                {"role": "assistant", "content": f"it is {a + b}"},
            ]
        rows.append({"messages": messages, "category": f"c{number % 3}"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "chats.jsonl").write_text(text)
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    language_lab.settings["data"] |= {
        "root": str(tmp_path),
        "type": "chats.jsonl@chat",
    }
    language_lab.settings["llm"]["tok_len"] = 128
    language_lab.settings["fedsa"]["chat"] = {
        "template": str(tmp_path / "own.jinja")
    }
    return language_lab


def written(tokenizer, chat, last_only):
    """The tokens of a conversation, and which of them are learned."""
    ids, learned = [], []
    answers = [i for i, m in enumerate(chat) if m.role == "assistant"]
    for i, message in enumerate(chat):
        is_learned = i in (answers[-1:] if last_only else answers)
        for text, flag in (
            (f"<{message.role}>", False),
            (message.content, is_learned),
        ):
            new = tokenizer(text)["input_ids"]
            ids += new
            learned += [flag] * len(new)
        ids.append(tokenizer.eos_token_id)
        learned.append(is_learned)
    return ids, learned


@pytest.mark.parametrize("loss", ["all", "last"])
def test_the_loss_is_that_of_the_answers(chat_lab, toy_llama, loss):
    """Of each client's model, as PEFT loads it, one text at a time."""
    changes = {"fedsa__chat__loss": loss, "dataloader__batch_size": 1}
    summary = chat_lab.run(**changes)
    runner = chat_lab.runner(**changes)
    tokenizer = AutoTokenizer.from_pretrained(toy_llama)
    for i in runner.client:
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(toy_llama),
            Path(summary["outdir"]) / "adapters" / f"client_{i}",
        ).eval()
        losses = []
        for chat in runner.data[i].chats_of("test", -1):
            ids, learned = written(tokenizer, chat, loss == "last")
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0]
            labels = torch.tensor(ids).where(torch.tensor(learned), -100)
            losses.append(cross_entropy(logits[:-1], labels[1:]).item())
        found = summary["results"]["last"]["clients"][str(i)]
        assert found["test_total"] == len(losses)
        mean = sum(losses) / len(losses)
        assert found["test_avg_loss"] == pytest.approx(mean, abs=1e-5)


def test_answers_are_kept_with_what_was_asked(chat_lab, toy_llama):
    """Prompts are those of the template; worked examples are turns."""
    generate = {
        "examples": 2,
        "every": 2,
        "shots": 1,
        "max_new_tokens": 6,
        "metric": "rouge_l",
    }
    summary = chat_lab.run(fedsa__eval={"generate": generate})
    file = Path(summary["outdir"]) / "generations.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    runner = chat_lab.runner()
    expected = []
    for rnd in (2, 3):
        for client in runner.client:
            data = runner.data[client]
            (shot,) = data.chats_of("train", 1)
            for chat in data.chats_of("test", 2):
                text = "".join(
                    f"<{m.role}>{m.content}</s>" for m in (*shot, *chat[:-1])
                )
                prompt = f"{text}<assistant>"
                expected.append((rnd, client, prompt, chat[-1].content))
    assert [
        (x["round"], x["client"], x["prompt"], x["reference"]) for x in lines
    ] == expected
    for line in lines:
        assert line["score"] == rouge_l(line["answer"], line["reference"])
    last = summary["results"]["last"]["clients"]
    for client in runner.client:
        scores = [
            line["score"]
            for line in lines
            if (line["round"], line["client"]) == (3, client)
        ]
        mean = sum(scores) / len(scores)
        assert last[str(client)]["test_rouge_l"] == pytest.approx(mean)


def test_a_tokenizer_without_a_template_is_told_of(chat_lab, notes):
    runner = chat_lab.runner(fedsa__chat={"template": "auto"})
    assert any("no chat template" in sentence for sentence in notes)
    (chat,) = runner.data[1].chats_of("train", 1)
    prompt = runner.data[1].template.prompt(chat[:1])
    assert prompt.startswith("### Instruction:\n")


def test_instructions_have_a_template_if_one_is_named(language_lab, tmp_path):
    """FederatedScope's own data sets, too; by default they have Alpaca's."""
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    as_before = language_lab.runner()
    named = language_lab.runner(
        fedsa__chat={"template": str(tmp_path / "own.jinja"), "system": "s"}
    )
    assert as_before.data[1].chats_of("train", 1) == []
    ((prompt, answer),) = as_before.data[1].pairs_of("train", 1)
    (chat,) = named.data[1].chats_of("train", 1)
    question = prompt.split("\n")[1]
    tokens = named.data[1].train_data.tokens
    number = int(named.data[1].train_data.index[0])
    ids = tokens.ids[tokens.start(number) : int(tokens.ends[number])]
    text = named.data[1].tokenizer.decode(ids)
    assert text == (
        f"<system>s</s><user>{question}</s><assistant>{answer}</s>"
    )
    assert chat[-1].content == answer
