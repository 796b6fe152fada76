"""The saved adapters are the trained ones."""

import hashlib
import json
import shutil
import stat
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from helpers import (
    ADAPTERS,
    IN_FLOAT32,
    args_of,
    assert_near,
    in_float64,
    plain_base,
)
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fs_plugins.config.load import load_config
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.runner import build_runner
from fs_plugins.experiment.runs import load_run
from fs_plugins.trainer.dual import weighted_adapters


def accuracy(folder, base, texts):
    """Of base model and adapter, loaded with PEFT alone."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(base), folder
    ).eval()
    right = 0
    for text, label in texts:
        batch = tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            right += int(model(**batch).logits.argmax() == label)
    return right / len(texts)


def held_out(runner, client, base):
    data = runner.data[client].test_data
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = []
    for i in data.index:
        start = data.tokens.ends[i - 1] if i else 0
        ids = data.tokens.ids[start : data.tokens.ends[i]]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        found.append((text, int(data.tokens.labels[i])))
    return found


@pytest.mark.parametrize(
    "method, share_model",
    [("fedsa", True), ("fedsa", False), ("ffa", True), ("local", True)],
)
def test_peft_loads_each_clients_model(lab, toy_model, method, share_model):
    """Its accuracy is the one in the summary; so are its parameters."""
    changes = {
        "federate__method": method,
        "federate__share_local_model": share_model,
    }
    summary = lab.run(**changes)
    folder = Path(summary["outdir"]) / "adapters"
    names = {path.name for path in folder.iterdir()}
    clients = {"client_1", "client_2", "client_3"}
    assert names == clients | ({"global"} if method != "local" else set())
    runner = lab.runner(**changes)  # the same split, untrained
    results = summary["results"]["last"]["clients"]
    for ID in runner.client:
        texts = held_out(runner, ID, toy_model)
        found = accuracy(folder / f"client_{ID}", toy_model, texts)
        assert found == results[str(ID)]["test_acc"]


CHANGED = {
    # what the aggregator has added to the base model is in the adapter
    "flora": {"fedsa__aggregator": "flora"},
    "fedex": {"fedsa__aggregator": "fedex"},
    "fedex rslora": {
        "fedsa__aggregator": "fedex",
        "llm__adapter__args": args_of("rslora"),
    },
    "fedex pissa": {
        "fedsa__aggregator": "fedex",
        "llm__adapter__args": args_of("pissa"),
    },
    "fedex embedding": {
        "fedsa__aggregator": "fedex",
        "llm__adapter__args": args_of("embedding"),
    },
    "flora embedding": {
        "fedsa__aggregator": "flora",
        "llm__adapter__args": args_of("embedding"),
    },
    "flexlora": {"fedsa__aggregator": "flexlora"},
    "ranks": {"fedsa__ranks": [2, 1]},
    "ranks rslora": {
        "fedsa__ranks": [2, 1],
        "llm__adapter__args": args_of("rslora"),
    },
    "flora ranks": {"fedsa__aggregator": "flora", "fedsa__ranks": [2, 1]},
    "scale": {
        "llm__adapter__args": args_of("rslora"),
        "fedsa__scale_by_clients": True,
    },
}
ALL = {name: {"llm__adapter__args": args_of(name)} for name in ADAPTERS}
ALL |= {n: {"federate__method": "fedit", **c} for n, c in CHANGED.items()}


@pytest.mark.parametrize("share_model", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_the_logits_are_those_of_the_run(
    lab, toy_model, tmp_path, name, share_model
):
    is_double = not name.endswith(IN_FLOAT32)
    runner = in_float64(lab, is_double).runner(
        federate__share_local_model=share_model, **ALL[name]
    )
    runner.run()
    save_adapters(runner, tmp_path / "saved")
    batch = next(iter(runner.data[2]["test"]))
    client = runner.client[2]
    shared = runner.server.aggregator.shared
    with (
        torch.no_grad(),
        client.parameters.loaded(
            client.parameters.sent_to(2, shared), client.kept.values, client=2
        ),
    ):
        expected = client.model.eval()(**batch).logits
    loaded = PeftModel.from_pretrained(
        plain_base(toy_model, expected.dtype),
        tmp_path / "saved" / "client_2",
    ).eval()
    with torch.no_grad():
        found = loaded(**batch).logits
        bare = loaded.get_base_model()
        with loaded.disable_adapter():
            without = bare(**batch).logits
    assert (without - expected).abs().max() > 1e-3
    assert_near(found, expected)


def test_a_client_of_lower_rank_is_saved_as_one(lab, tmp_path):
    runner = lab.runner(fedsa__ranks=[2, 1])
    runner.run()
    save_adapters(runner, tmp_path)
    for name, rank in (("global", 2), ("client_1", 2), ("client_2", 1)):
        file = tmp_path / name / "adapter_config.json"
        config = json.loads(file.read_text())
        assert config["r"] == rank
        assert config["lora_alpha"] / rank == 2


def test_global_is_what_the_server_knows(lab, toy_model):
    """FedSA's holds no client's B or head."""
    from safetensors.torch import load_file

    summary = lab.run()
    folder = Path(summary["outdir"]) / "adapters" / "global"
    tensors = load_file(folder / "adapter_model.safetensors")
    b = [value for name, value in tensors.items() if "lora_B" in name]
    assert b and not any(value.any() for value in b)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == str(toy_model)


def test_the_hosts_fedavg_leaves_its_global_model(lab, toy_model):
    cfg = load_config(lab.file(federate__method="FedAvg"))
    summary = lab.run(federate__method="FedAvg")
    folder = Path(summary["outdir"]) / "adapters"
    assert [path.name for path in folder.iterdir()] == ["global"]
    cfg.outdir = str(lab.folder / "again")
    runner = build_runner(cfg)
    results = summary["results"]["last"]["clients"]
    for ID in runner.client:
        texts = held_out(runner, ID, toy_model)
        found = accuracy(folder / "global", toy_model, texts)
        assert found == results[str(ID)]["test_acc"]


def test_an_adapter_says_what_it_was_trained_on_and_how(lab, toy_model):
    summary = lab.run(federate__total_round_num=2)
    folder = Path(summary["outdir"]) / "adapters"
    names = {path.name for path in folder.iterdir()}
    assert names == {"client_1", "client_2", "client_3", "global"}
    for name in names:
        config = json.loads(
            (folder / name / "adapter_config.json").read_text()
        )
        assert config["base_model_name_or_path"] == str(toy_model)
        assert config["task_type"] == "SEQ_CLS"
        assert config["inference_mode"] is True
        weights = folder / name / "adapter_model.safetensors"
        assert stat.S_IMODE(weights.stat().st_mode) == 0o600
        tokenizer = AutoTokenizer.from_pretrained(folder / name)
        assert tokenizer("w1 w2").input_ids == [2, 5, 6, 3]
    said = json.loads((folder / "client_2" / "fs_plugins.json").read_text())
    assert said["id2label"] == {"0": "negative", "1": "positive"}
    assert said["num_labels"] == 2
    assert said["problem_type"] == "single_label_classification"
    weights = (toy_model / "model.safetensors").read_bytes()
    assert said["base"]["name"] == str(toy_model)
    assert said["base"]["sha256"] == {
        "model.safetensors": hashlib.sha256(weights).hexdigest()
    }
    assert said["trained"]["client"] == said["trained"]["round"] == 2
    assert said["trained"]["method"] == "fedsa"
    assert said["versions"]["peft"] == version("peft")
    # one copy of the tokenizer for all clients
    files = {(folder / n / "tokenizer.json").stat().st_ino for n in names}
    assert len(files) == 1


def plain_logits(folder, batch):
    """By PEFT's own class for classification, without an argument."""
    load = AutoPeftModelForSequenceClassification.from_pretrained
    model = load(str(folder)).eval()
    with torch.no_grad():
        return model(**batch).logits


def test_a_run_from_another_folder_is_loaded_from_anywhere(
    lab, toy_model, tmp_path, monkeypatch
):
    """The base model is named by the whole path."""
    monkeypatch.chdir(toy_model.parent)
    run = lab.run(
        model__type=f"{toy_model.name}@huggingface_llm",
        federate__total_round_num=1,
    )
    monkeypatch.chdir(tmp_path)
    batch = {"input_ids": torch.arange(4, 16).view(2, 6)}
    client = load_run(run["outdir"]).client(1)
    with torch.no_grad():
        expected = client.model().eval()(**batch).logits
    assert torch.equal(plain_logits(client.adapter, batch), expected)


def test_each_of_two_adapters_has_the_head(lab):
    """Either by itself is the model with the other one switched off."""
    runner = lab.runner(federate__method="feddpa")
    runner.run()
    save_adapters(runner, lab.folder / "saved")
    client = runner.client[1]
    batch = next(iter(runner.data[1]["test"]))
    shared = runner.server.aggregator.shared
    for weights, folder in (((1.0, 0.0), ""), ((0.0, 1.0), "private")):
        with (
            torch.no_grad(),
            client.parameters.loaded(
                client.parameters.sent_to(1, shared),
                client.kept.values,
                client=1,
            ),
            weighted_adapters(client.model, *weights),
        ):
            expected = client.model.eval()(**batch).logits
        found = plain_logits(lab.folder / "saved/client_1" / folder, batch)
        assert_near(found, expected)


def test_a_score_is_loaded_plainly(lab, toy_model, tmp_path):
    """Its base model has two labels."""
    (tmp_path / "STS-B").mkdir()
    columns = "index genre filename year old source1 source2 sentence1"
    header = "\t".join([*columns.split(), "sentence2", "score"])
    rows = [
        "\t".join([*"0123456", f"w{i} w2", f"w{59 - i}", f"{i % 6}"])
        for i in range(50)
    ]
    for split in ("train", "dev"):
        file = tmp_path / "STS-B" / f"{split}.tsv"
        file.write_text("\n".join([header, *rows]) + "\n")
    run = load_run(
        lab.run(
            data__root=str(tmp_path),
            data__type="stsb@glue",
            data__splitter="iid",
            data__splitter_args=[],
            eval__metrics=[],
            eval__best_res_update_round_wise_key="val_avg_loss",
            federate__total_round_num=1,
        )["outdir"]
    )
    batch = {"input_ids": torch.arange(4, 16).view(2, 6)}
    with torch.no_grad():
        expected = run.client(1).model().eval()(**batch).logits
    assert expected.shape == (2, 1)
    assert torch.equal(plain_logits(run.client(1).adapter, batch), expected)


def on_the_hub(toy_model, cache, **changes):
    """The toy model as a file of the hub's in a cache."""
    commit = "0123456789" * 4
    folder = cache / "models--someone--toy" / "snapshots" / commit
    shutil.copytree(toy_model, folder)
    refs = folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return commit


@pytest.mark.parametrize("classes", [["good", "bad"], ["a", "b", "c"]])
def test_a_model_on_the_hub_keeps_its_name_if_its_labels_fit(
    lab, toy_model, tmp_path, classes
):
    cache = tmp_path / "hub"
    labels = {str(i): name for i, name in enumerate(classes)}
    commit = on_the_hub(toy_model, cache, id2label=labels, label2id={})
    folder = cache / "models--someone--toy" / "snapshots" / commit
    if len(classes) == 3:
        load = AutoModelForSequenceClassification.from_pretrained
        load(folder, ignore_mismatched_sizes=True).save_pretrained(folder)
    run = load_run(
        lab.run(
            model__type="someone/toy@huggingface_llm",
            llm__cache__model=str(cache),
            federate__total_round_num=1,
        )["outdir"]
    )
    adapter = run.client(1).adapter
    config = json.loads((adapter / "adapter_config.json").read_text())
    said = json.loads((adapter / "fs_plugins.json").read_text())["base"]
    assert said["name"] == "someone/toy" and said["revision"] == commit
    batch = {"input_ids": torch.arange(4, 16).view(2, 6)}
    with torch.no_grad():
        expected = run.client(1).model().eval()(**batch).logits
    if len(classes) == 2:
        assert config["base_model_name_or_path"] == "someone/toy"
        assert config["revision"] == commit
    else:
        assert Path(config["base_model_name_or_path"]).is_absolute()
        assert torch.equal(plain_logits(adapter, batch), expected)
