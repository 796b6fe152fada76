"""For each architecture: what was evaluated is what was saved.

A run's loss for each client is compared with that of its saved adapter as
PEFT loads it on the base model, one text at a time.  So layers that are
lost, padding that is taken for text and segments that the model does not
have would show.
"""

import json
import warnings
from pathlib import Path

import peft
import pytest
import torch
import transformers
from architectures import ARCHITECTURES, LANGUAGE, WORDS, make

from fs_plugins.errors import UserError

BATCH = 8


def args_of(name, **more):
    return [
        {
            "adapter_package": "peft",
            "adapter_method": "lora",
            "r": 2,
            "lora_alpha": 4,
            "lora_dropout": 0.0,
            "target_modules": list(ARCHITECTURES[name].targets),
            **more,
        }
    ]


def loaded(folder, adapter, seed, auto_class, **options):
    """The saved adapter, as somebody loads it who knows PEFT alone."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = auto_class.from_pretrained(folder, **options)
        return peft.PeftModel.from_pretrained(base, adapter).eval()


def of_another_task(folder, has_head=False):
    """Make the checkpoint one of five classes, with a head or without one."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["id2label"] = {str(i): f"other {i}" for i in range(5)}
    file.write_text(json.dumps(content))
    if has_head:
        auto_class = transformers.AutoModelForSequenceClassification
        auto_class.from_pretrained(folder).save_pretrained(folder)


def plainly_loaded(auto_class, adapter):
    """The saved adapter by PEFT's class for the task, with no argument."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return auto_class.from_pretrained(str(adapter)).eval()


def check_plain_call(runner, out, found):
    """PEFT's class for the task gives the run's loss in batches."""
    model = plainly_loaded(
        peft.AutoPeftModelForSequenceClassification,
        out / "adapters" / "client_1",
    )
    assert model.config.id2label == {0: "negative", 1: "positive"}
    total = number = 0
    with torch.no_grad():
        for batch in runner.data[1]["test"]:
            size = len(batch["labels"])
            total += float(model(**batch).loss) * size
            number += size
    assert number > 1
    assert found["test_avg_loss"] == pytest.approx(total / number, rel=1e-4)


def texts_of(runner, client):
    """The client's test texts: the tokens of each, and its label."""
    data = runner.data[client].test_data
    found = []
    for i in data.index:
        begin = data.tokens.ends[i - 1] if i else 0
        ids = data.tokens.ids[begin : data.tokens.ends[i]]
        found.append((torch.tensor([ids.tolist()]), int(i)))
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_classifier_is_saved_whole(lab, tmp_path, name):
    folder = make(name, tmp_path / name)
    of_another_task(folder)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": args_of(name),
        "federate__total_round_num": 1,
        "dataloader__batch_size": BATCH,
        "train__optimizer__lr": 0.1,
    }
    summary = lab.run(**changes)
    runner = lab.runner(**changes)
    out = Path(summary["outdir"])
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    config = json.loads((folder / "config.json").read_text())
    for client in (1, 2):
        model = loaded(
            folder,
            out / "adapters" / f"client_{client}",
            client,
            transformers.AutoModelForSequenceClassification,
            num_labels=2,
        )
        if config.get("pad_token_id") is None:
            model.config.pad_token_id = 3  # there is none in these texts
        labels = runner.data[client].test_data.tokens.labels
        losses, right = [], []
        with torch.no_grad():
            for ids, number in texts_of(runner, client):
                logits = model(input_ids=ids).logits
                label = torch.tensor([int(labels[number])])
                loss = torch.nn.functional.cross_entropy(logits, label)
                losses.append(loss.item())
                right.append(int(logits.argmax()) == int(label))
        found = last["clients"][str(client)]
        mean = sum(losses) / len(losses)
        assert len(losses) > 1
        assert found["test_avg_loss"] == pytest.approx(mean, rel=1e-4)
        assert found["test_acc"] == pytest.approx(sum(right) / len(right))
    saved = {
        key
        for key in peft.utils.load_peft_weights(
            str(out / "adapters/client_1"), device="cpu"
        )
        if ".lora_" not in key
    }
    assert saved, "no head was saved"
    check_plain_call(runner, out, last["clients"]["1"])


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_head_of_another_task_does_not_get_in_the_way(lab, tmp_path, name):
    folder = make(name, tmp_path / name)
    of_another_task(folder, has_head=True)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": args_of(name),
        "federate__total_round_num": 1,
        "dataloader__batch_size": BATCH,
    }
    out = Path(lab.run(**changes)["outdir"])
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    check_plain_call(lab.runner(**changes), out, last["clients"]["1"])


def check_generation(model, adapter):
    """A batch has the answers that each prompt has, token by token."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(adapter)
    prompts = ["w1 w2 w3 w4", "w5 w6"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            min_new_tokens=3,
            max_new_tokens=3,
            do_sample=False,
        )
    for row, prompt in zip(found, prompts, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        for _ in range(3):
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, -1]
            logits[tokenizer.eos_token_id] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
        assert row[-ids.shape[1] :].tolist() == ids[0].tolist()


@pytest.mark.parametrize(
    "name, words",
    [
        ("t5", "'t5' reads a text and writes another one"),
        # BartForCausalLM does not shift the labels
        ("bart", "compares each token with its own place"),
    ],
)
def test_an_encoder_decoder_goes_on_with_no_text(
    language_lab, tmp_path, name, words
):
    folder = make(name, tmp_path / name, is_classifier=name == "t5")
    with pytest.raises(UserError, match=words):
        language_lab.run(
            model__type=f"{folder}@huggingface_llm",
            llm__adapter__args=args_of(name),
            llm__tok_len=32,
        )


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_is_saved_whole(language_lab, tmp_path, name):
    folder = make(name, tmp_path / name, is_classifier=False)
    rows = [
        {
            "instruction": " ".join(WORDS[i : i + 2 + i % 5]),
            "output": " ".join(WORDS[i : i + 1 + i % 7]),
        }
        for i in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "words.jsonl").write_text(text)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": args_of(name),
        "data__root": str(tmp_path),
        "data__type": "words.jsonl@llm",
        "data__splitter": "iid",
        "llm__tok_len": 128,
        "federate__total_round_num": 1,
        "federate__client_num": 2,
        "dataloader__batch_size": 1,
        "train__optimizer__lr": 0.1,
    }
    summary = language_lab.run(**changes)
    runner = language_lab.runner(**changes)
    out = Path(summary["outdir"])
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    adapter = out / "adapters" / "client_1"
    model = plainly_loaded(peft.AutoPeftModelForCausalLM, adapter)
    check_generation(model, adapter)
    losses = []
    tokens = runner.data[1].test_data.tokens
    with torch.no_grad():
        for ids, number in texts_of(runner, 1):
            learned = ids[0, tokens.prompts[number] :]
            logits = model(input_ids=ids).logits[0, -len(learned) - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, learned)
            losses.append(loss.item())
    found = last["clients"]["1"]
    assert len(losses) == found["test_total"] > 1
    mean = sum(losses) / len(losses)
    assert found["test_avg_loss"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart", "roberta"])
@pytest.mark.parametrize("pad", [1, 4, 0])
def test_another_padding_of_the_tokenizers_changes_nothing(
    lab, fedsa, tmp_path, name, pad
):
    """Neither what an adapter is on the plain base, nor a merged model."""
    folder = make(name, tmp_path / name)
    for file, changes in (
        ("config.json", {"pad_token_id": pad}),
        ("tokenizer_config.json", {"pad_token": "w9"}),
    ):
        content = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(content))
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": args_of(name),
        "federate__total_round_num": 1,
        "dataloader__batch_size": BATCH,
        "train__optimizer__lr": 0.1,
    }
    out = Path(lab.run(**changes)["outdir"])
    runner = lab.runner(**changes)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    merged = tmp_path / "merged"
    words = ["--client", 1, "--merge", "--out", merged]
    assert fedsa("export", out, *words).returncode == 0
    auto_class = transformers.AutoModelForSequenceClassification
    models = [
        loaded(folder, out / "adapters/client_1", 3, auto_class, num_labels=2),
        auto_class.from_pretrained(merged).eval(),
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    assert tokenizer.pad_token_id == models[1].config.pad_token_id == pad
    for model in models:
        total = number = 0
        with torch.no_grad():
            for batch in runner.data[1]["test"]:
                size = len(batch["labels"])
                total += float(model(**batch).loss) * size
                number += size
        found = last["clients"]["1"]["test_avg_loss"]
        assert found == pytest.approx(total / number, rel=1e-4)
