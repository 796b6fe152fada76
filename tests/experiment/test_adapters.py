"""The saved adapters are the trained ones."""

import json
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
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fs_plugins.config.load import load_config
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.runner import build_runner


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
