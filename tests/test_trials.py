"""A run tries what it relies on, and says so if it fails."""

import json
from pathlib import Path

import pytest
import torch
from helpers import args_of

from fs_plugins import experiment
from fs_plugins.errors import RunError, UserError
from fs_plugins.trials import check_batches


def spoil_the_head(monkeypatch):
    """Adapters are saved with another head than they were evaluated with."""
    import peft

    get = peft.get_peft_model_state_dict

    def spoilt(*args, **kwargs):
        found = get(*args, **kwargs)
        return {n: t + ("classifier" in n) for n, t in found.items()}

    monkeypatch.setattr(peft, "get_peft_model_state_dict", spoilt)


def test_an_adapter_that_is_not_what_was_evaluated_is_told(
    lab, fedsa, monkeypatch
):
    """The results stay, and the command does not end with 0."""
    spoil_the_head(monkeypatch)
    found = fedsa("run", "--cfg", lab.file(), "--quiet")
    assert found.returncode == 1
    assert "loaded by PEFT, this adapter's logits differ" in found.stderr
    (summary,) = Path(lab.settings["outdir"]).rglob("summary.json")
    assert json.loads(summary.read_text())["results"]


def test_an_adapter_that_peft_cannot_load_is_told(lab, monkeypatch):
    import peft

    monkeypatch.setattr(peft, "get_peft_model_state_dict", lambda *_, **__: {})
    with pytest.raises(RunError, match="a saved adapter cannot be loaded"):
        lab.run()
    assert list(Path(lab.settings["outdir"]).rglob("summary.json"))


def test_in_lower_precision_the_bound_still_tells(lab, monkeypatch):
    spoil_the_head(monkeypatch)
    with pytest.raises(RunError, match="do not rely on it"):
        lab.run(fedsa__base={"dtype": "bfloat16"})


def test_it_can_be_left_out(lab, monkeypatch):
    spoil_the_head(monkeypatch)
    lab.run(fedsa__reload_tolerance=0)
    lab.run(fedsa__reload_tolerance=100.0)
    with pytest.raises(RunError, match="reload_tolerance"):
        lab.run(fedsa__reload_tolerance=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"federate__method": "feddpa"},
        {"federate__method": "FedAvg"},
        {"federate__method": "local"},
        {"federate__method": "fedit", "fedsa__aggregator": "flora"},
        {"federate__method": "fedit", "fedsa__aggregator": "fedex"},
        {
            "federate__method": "fedit",
            "fedsa__aggregator": "hetlora",
            "fedsa__ranks": [2, 1],
        },
        {"llm__adapter__args": args_of("vera")},
        {"llm__adapter__args": args_of("dora")},
        {"llm__adapter__args": args_of("olora")},
        {"train__is_enable_half": True},
        {"fedsa__base": {"dtype": "bfloat16"}},
        {
            "fedsa__base": {"dtype": "float64"},
            "fedsa__adapter_dtype": "float64",
        },
        {"federate__share_local_model": False},
    ],
    ids=lambda changes: " ".join(map(str, changes.values()))[:50],
)
def test_every_way_of_training_passes(lab, changes):
    lab.run(federate__total_round_num=1, **changes)


class Sums(torch.nn.Module):
    """Answers with a text's sum of tokens: padding counts as text."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids=None, **more):
        output = self.inner(input_ids=input_ids, **more)
        output.logits = output.logits + input_ids.shape[1]
        return output


def test_a_model_that_takes_padding_for_text_is_refused(lab, monkeypatch):
    monkeypatch.setattr(experiment, "check_batches", lambda runner: None)
    runner = lab.runner()
    check_batches(runner)
    runner.server.model.model = Sums(runner.server.model.model)
    with pytest.raises(UserError, match="depends on what the text is batched"):
        check_batches(runner)
    alone = lab.runner(dataloader__batch_size=1)
    alone.server.model.model = Sums(alone.server.model.model)
    check_batches(alone)


def test_the_trial_changes_nothing(lab, monkeypatch):
    """Neither random numbers, nor the model, nor its modes."""
    from fs_plugins.trials import check_batches

    monkeypatch.setattr(experiment, "check_batches", lambda runner: None)
    runner = lab.runner()
    model = runner.server.model
    next(iter(model.children())).eval()
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state()
    check_batches(runner)
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())
