"""Results for TensorBoard and for Weights & Biases, each one line of YAML."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from fs_plugins.errors import UserError


def test_tensorboard_has_every_result(lab):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    summary = lab.run(fedsa__track="tensorboard", federate__total_round_num=2)
    folder = Path(summary["outdir"])
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        groups = {"weighted": line["weighted"], "mean": line["mean"]}
        groups |= {f"client_{k}": v for k, v in line["clients"].items()}
        groups["bytes"] = {
            "uplink": line["uplink_bytes"],
            "downlink": line["downlink_bytes"],
        }
        for group, values in groups.items():
            for key, value in values.items():
                (shown,) = [
                    event.value
                    for event in events.Scalars(f"{group}/{key}")
                    if event.step == line["round"]
                ]
                assert shown == pytest.approx(value)


def test_without_a_word_nothing_is_tracked(lab):
    folder = Path(lab.run()["outdir"])
    assert not (folder / "tensorboard").exists()


def test_weights_and_biases_offline(fedsa, lab, tmp_path, monkeypatch):
    """The names of the results are those that FederatedScope gives them."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    file = lab.file(
        wandb__use=True,
        wandb__name_project="federated",
        federate__total_round_num=2,
    )
    result = fedsa("run", "--cfg", file)
    assert result.returncode == 0, result.stderr
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    folder = Path(result.stdout.splitlines()[-1].split()[-1]).parent
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = {
        values["Server #, Round"]: values[
            "Server #, Results_weighted_avg/test_acc"
        ]
        for values in history_of(log)
        if "Server #, Results_weighted_avg/test_acc" in values
    }
    wanted = [json.loads(line)["weighted"]["test_acc"] for line in lines]
    assert list(found.values()) == pytest.approx(wanted)


def history_of(log):
    """What ``wandb.log`` was given, from the file of an offline run."""
    from wandb.proto import wandb_internal_pb2

    for data in records_of(log.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            yield {
                item.key or "/".join(item.nested_key): json.loads(
                    item.value_json
                )
                for item in record.history.item
            }


def records_of(data):
    """LevelDB's log format: a record is in pieces, none across a block."""
    place, parts = 7, []  # after W&B's own header
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        kind = data[place + 6]  # 1: whole, 2: first, 3: middle, 4: last
        if room < 7 or kind == 0:
            place += room
            continue
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def test_an_unknown_tracker(lab):
    with pytest.raises(UserError, match=r"fedsa\.track.*'tensorboard'"):
        lab.run(fedsa__track="tensorbord")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fedsa__track": "tensorboard"}, r"fedsa\.track.*tensorboard is not"),
        ({"wandb__use": True}, r"wandb\.use.*wandb is not installed"),
    ],
)
def test_a_package_that_is_missing(lab, monkeypatch, changes, words):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: (
            None if name in ("tensorboard", "wandb") else find(name, *a)
        ),
    )
    with pytest.raises(UserError, match=words):
        lab.run(**changes)
    assert not os.path.exists(lab.settings["outdir"])
