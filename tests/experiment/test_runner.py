"""What a run leaves behind."""

import json
from pathlib import Path

import pytest
import yaml

RESULTS = {"round", "weighted", "mean", "clients"}


def check_evaluation(found, clients):
    """weighted and mean are what the clients' results say."""
    own = found["clients"]
    assert own.keys() == {str(c) for c in range(1, clients + 1)}
    for split in ("val", "test"):
        acc = [r[f"{split}_acc"] for r in own.values()]
        total = [r[f"{split}_total"] for r in own.values()]
        weighted = sum(a * t for a, t in zip(acc, total, strict=True))
        assert found["mean"][f"{split}_acc"] == pytest.approx(
            sum(acc) / len(acc)
        )
        assert found["weighted"][f"{split}_acc"] == pytest.approx(
            weighted / sum(total)
        )
        assert found["weighted"][f"{split}_total"] == sum(total)


@pytest.mark.parametrize(
    "method", ["fedsa", "fedit", "ffa", "local", "FedAvg"]
)
@pytest.mark.parametrize("share_model", [True, False])
def test_summary_and_metrics(lab, host_name, method, share_model):
    summary = lab.run(
        federate__method=method, federate__share_local_model=share_model
    )
    folder = Path(summary.pop("outdir"))
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["schema"] == 1
    assert summary["method"] == method
    assert summary["adapter"] == "lora"
    assert summary["host"] == host_name
    assert summary["clients"] == summary["rounds"] == 3
    assert summary["seed"] == 1
    assert summary["rejected_updates"] == 0
    lines = [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["round"] for line in lines] == [1, 2, 3]
    for line in lines:
        check_evaluation(line, clients=3)
    last, best = summary["results"]["last"], summary["results"]["best"]
    assert last == {k: lines[-1][k] for k in RESULTS}
    assert best["by"] == "val_acc"
    curve = [line["weighted"]["val_acc"] for line in lines]
    first_best = curve.index(max(curve))
    assert {k: best[k] for k in RESULTS} == {
        k: lines[first_best][k] for k in RESULTS
    }
    numbers = summary["communication"]
    assert numbers["trainable_parameters"] == (
        numbers["shared_parameters"] + numbers["kept_parameters"]
    )
    # 2 layers x (query, value) x r 2 x hidden 16; the head is 16 x 2 + 2.
    a = b = 2 * 2 * 2 * 16
    shared = {
        "fedsa": a,
        "fedit": a + b,
        "ffa": b,
        "local": 0,
        "FedAvg": a + b + 34,
    }
    assert numbers["shared_parameters"] == shared[method]
    up = numbers["uplink_bytes_per_client_round"]
    values = 4 * shared[method]
    assert values <= up <= values + 3000
    assert numbers["uplink_bytes"] == 9 * up
    # 9 for training, 9 for evaluation, 3 at the end; local sends nothing.
    assert numbers["downlink_bytes"] == 21 * up
    assert summary["time"]["total_s"] >= summary["time"]["train_s"] > 0
    assert summary["memory"]["peak_rss_bytes"] > 50e6
    assert summary["memory"]["peak_gpu_bytes"] is None
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["federate"]["method"] == method
    assert config["fedsa"]["aggregator"] == "weighted_average"


@pytest.mark.parametrize(
    "freq, rounds", [(2, [2, 4, 5]), (3, [3, 5]), (9, [5])]
)
def test_evaluation_frequency(lab, freq, rounds):
    summary = lab.run(federate__total_round_num=5, eval__freq=freq)
    folder = Path(summary["outdir"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == rounds


def test_the_best_round_is_never_chosen_on_test_data(lab):
    summary = lab.run(eval__best_res_update_round_wise_key="test_acc")
    assert summary["results"]["best"]["by"] == "val_avg_loss"


def test_without_validation_there_is_no_best_round(lab):
    summary = lab.run(
        eval__split=["test"], eval__best_res_update_round_wise_key="test_acc"
    )
    assert summary["results"]["best"] is None
    assert "test_acc" in summary["results"]["last"]["mean"]


def test_global_evaluation_of_a_global_model(lab):
    summary = lab.run(
        federate__method="fedit",
        fedsa__policy__HEAD="share",
        federate__make_global_eval=True,
    )
    last = summary["results"]["last"]
    assert last["clients"].keys() == {"0"} and last["round"] == 3
    assert last["weighted"]["test_total"] == 30


def test_partial_participation_by_rate(lab):
    summary = lab.run(federate__client_num=4, federate__sample_client_rate=0.5)
    each = summary["communication"]["uplink_bytes_per_client_round"]
    assert summary["communication"]["uplink_bytes"] == 3 * 2 * each


def test_overrides_win(lab):
    from fs_plugins.config.load import load_config

    cfg = load_config(
        lab.file(), ["federate.method", "local", "train.optimizer.lr", "1e-3"]
    )
    assert cfg.federate.method == "local"
    assert cfg.train.optimizer.lr == 0.001


def test_numbers_may_be_written_as_people_write_them(lab):
    from fs_plugins.config.load import load_config

    cfg = load_config(lab.file(train__optimizer__lr="2e-3", seed=7))
    assert cfg.train.optimizer.lr == 0.002
    assert (
        load_config(lab.file(train__optimizer__lr=1)).train.optimizer.lr == 1
    )


def test_final_model_is_saved_where_the_host_is_told(lab, tmp_path):
    import torch

    lab.run(federate__save_to=str(tmp_path / "model.pt"))
    state = torch.load(tmp_path / "final_model.pt")
    assert state["model"] and all("lora_A" in name for name in state["model"])


@pytest.mark.parametrize("patience", [0, 2])
def test_early_stopping_is_said(lab, monkeypatch, patience):
    """The terminal and the report say so; a run to its end says nothing."""
    from federatedscope.core.monitors.early_stopper import EarlyStopper

    from fs_plugins.experiment import runner
    from fs_plugins.experiment.runs import load_run
    from fs_plugins.report.caveats import caveats

    def no_improvement(self, history):
        self.early_stopped = 0 < self.patience < len(history)
        return self.early_stopped

    monkeypatch.setattr(EarlyStopper, "track_and_check", no_improvement)
    notes = []
    monkeypatch.setattr(runner, "note", notes.append)
    summary = lab.run(
        early_stop__patience=patience, federate__total_round_num=5
    )
    expected = "early_stop.patience" if patience else None
    assert summary.get("stopped_early") == expected
    assert summary["results"]["last"]["round"] == (3 if patience else 5)
    said = "stopped early after round 3 of 5 (early_stop.patience)"
    assert notes == ([said] if patience else [])
    shown = caveats([load_run(summary["outdir"])])
    assert [said in sentence for sentence in shown] == [True] * len(notes)
