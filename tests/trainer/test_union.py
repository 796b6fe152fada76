"""``eval.split: [..., union]``: every client's model on everyone's test."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from fs_plugins.errors import UserError

SPLITS = ["test", "val", "union"]


@pytest.mark.parametrize("share_model", [True, False])
def test_each_client_on_everyones_test_shard(lab, toy_model, share_model):
    """Its accuracy there is what PEFT says of its saved adapter."""
    changes = {
        "eval__split": SPLITS,
        "federate__share_local_model": share_model,
    }
    found = lab.run(**changes)
    plain = lab.run(**{**changes, "eval__split": ["test", "val"]})
    last = found["results"]["last"]
    data = lab.runner(**changes).data
    batches = [b for ID in (1, 2, 3) for b in data[ID]["test"]]
    total = sum(len(b["labels"]) for b in batches)
    assert total == 30
    seen = set()
    for ID in ("1", "2", "3"):
        own = last["clients"][ID]
        folder = Path(found["outdir"]) / f"adapters/client_{ID}"
        model = PeftModel.from_pretrained(
            AutoModelForSequenceClassification.from_pretrained(toy_model),
            folder,
        ).eval()
        with torch.no_grad():
            right = sum(
                int((model(**b).logits.argmax(-1) == b["labels"]).sum())
                for b in batches
            )
        assert own["union_acc"] == pytest.approx(right / total)
        assert own["union_total"] == total
        seen.add(own["union_acc"] == own["test_acc"])
        # and its own test is what it would be without
        without = plain["results"]["last"]["clients"][ID]
        assert {k: v for k, v in own.items() if "union" not in k} == without
    assert False in seen
    assert last["mean"]["union_acc"] == pytest.approx(
        last["weighted"]["union_acc"]
    )


def test_the_hosts_own_fedavg_too(lab):
    """One model for all: everyone's result on the union is the same."""
    found = lab.run(federate__method="FedAvg", eval__split=SPLITS)
    own = found["results"]["last"]["clients"]
    assert len({r["union_acc"] for r in own.values()}) == 1
    total = sum(r["test_total"] for r in own.values())
    correct = sum(r["test_acc"] * r["test_total"] for r in own.values())
    assert own["1"]["union_acc"] == pytest.approx(correct / total)


def test_a_language_model_by_its_loss(language_lab):
    """It answers its own test examples only, as that takes long."""
    found = language_lab.run(
        eval__split=SPLITS,
        federate__total_round_num=1,
        fedsa__eval__generate={"examples": 1, "max_new_tokens": 4},
    )
    for own in found["results"]["last"]["clients"].values():
        assert own["union_avg_loss"] > 0 and own["union_total"] > 1
        assert "test_rouge_l" in own and "union_rouge_l" not in own


def test_unknown_splits(lab):
    from fs_plugins.config.load import load_config

    with pytest.raises(UserError, match="did you mean 'union'"):
        load_config(lab.file(eval__split=["test", "onion"]))
    with pytest.raises(UserError, match="needs a trainer of ours"):
        load_config(
            lab.file(
                eval__split=SPLITS,
                trainer__type="llmtrainer",
                data__type="alpaca@llm",
                eval__metrics=[],
                eval__best_res_update_round_wise_key="val_loss",
            )
        )
