"""Adapters that were trained apart are merged as a round would have."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from fs_plugins.commands.merge import WAYS, merge
from fs_plugins.errors import UserError

FILE = "adapter_model.safetensors"


@pytest.fixture
def adapters(toy_model, tmp_path):
    """Three adapters with random values, saved by PEFT alone."""
    folders = []
    for number in range(3):
        torch.manual_seed(number)
        base = AutoModelForSequenceClassification.from_pretrained(toy_model)
        model = get_peft_model(
            base,
            LoraConfig(
                task_type="SEQ_CLS", r=2, target_modules=["query", "value"]
            ),
        )
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)
        folders.append(tmp_path / f"site_{number}")
        model.save_pretrained(folders[-1])
    return folders


def by_name(folders):
    return [load_file(folder / FILE) for folder in folders]


def mean(tensors, weights):
    total = sum(w * t.double() for w, t in zip(weights, tensors, strict=True))
    return total / sum(weights)


@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 2)])
@pytest.mark.parametrize("by", WAYS)
def test_what_is_shared_is_merged_and_the_rest_stays(
    adapters, tmp_path, by, weights
):
    written = merge(adapters, tmp_path / "out", by, weights)
    assert [folder.name for folder in written] == [
        "site_0",
        "site_1",
        "site_2",
    ]
    before, after = by_name(adapters), by_name(written)
    for name in before[0]:
        values = [tensors[name] for tensors in before]
        found = [tensors[name] for tensors in after]
        is_factor = "lora_A" in name or "lora_B" in name
        if ("lora_A" in name and by == "fedsa") or (
            is_factor and by == "fedit"
        ):
            for each in found:
                torch.testing.assert_close(
                    each.double(), mean(values, weights), atol=1e-6, rtol=1e-6
                )
        elif not is_factor or by == "fedsa":
            assert all(map(torch.equal, values, found)), name
        if "lora_A" in name and by == "flexlora":
            b = name.replace("lora_A", "lora_B")
            whole = mean([t[b] @ t[name] for t in before], weights)
            u, s, v = torch.linalg.svd(whole)
            best = u[:, :2] @ torch.diag(s[:2]) @ v[:2]
            torch.testing.assert_close(
                (after[0][b] @ after[0][name]).double(),
                best,
                atol=1e-5,
                rtol=1e-4,
            )


def test_peft_loads_what_is_written(adapters, tmp_path, toy_model):
    (folder, *_) = merge(adapters, tmp_path / "out", "fedit")
    base = AutoModelForSequenceClassification.from_pretrained(toy_model)
    loaded = PeftModel.from_pretrained(base, folder).state_dict()
    expected = load_file(folder / FILE)
    name = next(n for n in expected if "lora_B" in n)
    assert torch.equal(
        loaded[name.replace("lora_B", "lora_B.default")], expected[name]
    )


def test_what_cannot_be_merged_is_one_sentence(adapters, tmp_path):
    out = tmp_path / "out"
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for folders, words, said in (
        (adapters[:1], {"by": "fedsa"}, "name two adapters at least"),
        (adapters, {"by": "fedas"}, "did you mean 'fedsa'"),
        (
            adapters,
            {"by": "fedsa", "weights": [1]},
            "1 are given for 3 adapters",
        ),
        ([*adapters, spoilt], {"by": "fedsa"}, "cannot be used"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            merge(folders, out, **words)
        assert "\n" not in str(caught.value) and not out.exists()
    text = (adapters[0] / "adapter_config.json").read_text()
    (adapters[1] / "adapter_config.json").write_text(
        text.replace('"lora_alpha": 8', '"lora_alpha": 9')
    )
    with pytest.raises(UserError, match=r"has lora_alpha 9, and .* has 8"):
        merge(adapters, out, "fedsa")


def test_what_fedit_shares_is_merged_of_dora_too(toy_model, tmp_path):
    """Its magnitudes are shared by FedIT's policy, as in a run."""
    folders = []
    for number in range(2):
        torch.manual_seed(number)
        base = AutoModelForSequenceClassification.from_pretrained(toy_model)
        config = LoraConfig(
            task_type="SEQ_CLS", r=2, target_modules=["query"], use_dora=True
        )
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter)
        folders.append(tmp_path / f"site_{number}")
        model.save_pretrained(folders[-1])
    before = by_name(folders)
    after = by_name(merge(folders, tmp_path / "out", "fedit"))
    names = [name for name in before[0] if "magnitude" in name]
    assert names
    for name in names:
        expected = mean([t[name] for t in before], [1, 1]).float()
        for tensors in after:
            torch.testing.assert_close(tensors[name], expected)
