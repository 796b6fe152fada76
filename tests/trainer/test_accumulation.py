"""Gradients over several batches are those of the large batch."""

import copy
import json
import random

import pytest
import torch

STEP = 12  # examples of a step


@pytest.fixture
def uneven(language_lab, tmp_path):
    """Answers of very different lengths."""
    rng = random.Random(0)
    rows = [
        {
            "instruction": f"{i}?",
            "output": "".join(rng.choices("abc ", k=1 + 29 * (i % 2))),
        }
        for i in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "uneven.jsonl").write_text(text)
    language_lab.settings["data"] |= {
        "root": str(tmp_path),
        "type": "uneven.jsonl@llm",
        "splitter": "iid",
    }
    return language_lab


def trained(lab, batch, count, steps=2, **changes):
    """What one client has after some steps, in float64."""
    lab.settings["fedsa"] |= {
        "base": {"dtype": "float64"},
        "adapter_dtype": "float64",
    }
    runner = lab.runner(
        federate__client_num=1,
        federate__total_round_num=1,
        train__local_update_steps=steps,
        dataloader__batch_size=batch,
        dataloader__shuffle=False,
        grad__grad_accum_count=count,
        **changes,
    )
    runner.run()
    shared = runner.server.aggregator.shared
    return copy.deepcopy(dict(shared) | dict(runner.client[1].kept.values))


def assert_same(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("batch, count", [(6, 2), (4, 3), (1, 12)])
def test_of_a_language_model(uneven, batch, count):
    """Tokens weigh alike, whichever batch they are in."""
    whole = trained(uneven, STEP, 1)
    assert_same(trained(uneven, batch, count), whole)
    other = trained(uneven, STEP - 1, 1)
    assert any((other[n] - whole[n]).abs().max() > 1e-3 for n in whole)


@pytest.mark.parametrize("batch, count", [(6, 2), (1, 12)])
def test_of_a_classifier(lab, batch, count):
    assert_same(trained(lab, batch, count), trained(lab, STEP, 1))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_of_the_last_batches_of_an_epoch(lab, optimizer):
    """The last batch of a pass is smaller, and its examples weigh alike.

    FederatedScope makes as many passes over the data as it accumulates
    batches; here each pass is a step.
    """
    size = len(lab.runner(federate__client_num=1).data[1].train_data)
    changes = {
        "train__batch_or_epoch": "epoch",
        "train__optimizer": {"type": optimizer, "lr": 0.1},
    }
    whole = trained(lab, size, 1, steps=3, **changes)
    found = trained(lab, 20, 3, steps=1, **changes)
    batches = -(-size // 20)
    assert batches == 3
    assert_same(found, whole)
