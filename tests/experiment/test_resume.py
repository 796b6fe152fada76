"""A run that was interrupted ends as one that never was, bit for bit."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import (
    Killed,
    args_of,
    everything_of,
    folder_of,
    kill_in_round,
    resumed,
    whole_of,
)
from safetensors.torch import load_file, save_file

from fs_plugins.errors import UserError
from fs_plugins.wire import decode, encode, spec_of
from fs_plugins.wire.messages import Update

ADAM = {"type": "AdamW", "lr": 0.05}
CASES = {
    "plain": {},
    "one model each": {"federate__share_local_model": False},
    "sampled": {
        "federate__client_num": 4,
        "federate__sample_client_num": 2,
        "dataloader__shuffle": True,
    },
    "dropout": {
        "llm__adapter__args": [
            {"r": 2, "lora_dropout": 0.5, "target_modules": ["query"]}
        ]
    },
    "on disk": {"fedsa__state__backend": "disk"},
    "on disk, small cache": {
        "fedsa__state__backend": "disk",
        "fedsa__state__cache": 0.001,
        "federate__share_local_model": False,
    },
    "optimizer state": {
        "train__optimizer": ADAM,
        "fedsa__state__optimizer": True,
    },
    "optimizer state on disk": {
        "train__optimizer": ADAM,
        "fedsa__state": {"optimizer": True, "backend": "disk"},
    },
    "schedule": {
        "train__scheduler": {"type": "linear", "warmup_ratio": 0.2},
        "train__optimizer": ADAM,
    },
    "seldom evaluated": {"eval__freq": 3},
    "early stopping": {"early_stop__patience": 2},
    "vera": {"llm__adapter__args": args_of("vera")},
    "pissa": {"llm__adapter__args": args_of("pissa")},
    "fedit": {"federate__method": "fedit"},
    "ffa": {"federate__method": "ffa"},
    "feddpa": {
        "federate__method": "feddpa",
        "train__optimizer": ADAM,
        "fedsa__state__optimizer": True,
    },
    "flora, sampled, of different ranks": {
        "federate__method": "fedit",
        "fedsa__aggregator": "flora",
        "fedsa__ranks": [2, 1],
        "federate__client_num": 4,
        "federate__sample_client_num": 2,
        "eval__freq": 4,
    },
    "fedex": {
        "federate__method": "fedit",
        "fedsa__aggregator": "fedex",
        "federate__share_local_model": False,
    },
    "flexlora": {"federate__method": "fedit", "fedsa__aggregator": "flexlora"},
    "ranks": {"fedsa__ranks": [2, 1], "fedsa__state__backend": "disk"},
    "local": {"federate__method": "local", "early_stop__patience": 1},
    "in turn": {"federate__method": "sequential_b"},
    "host": {"federate__method": "FedAvg"},
    "host, sampled": {
        "federate__method": "FedAvg",
        "federate__client_num": 4,
        "federate__sample_client_num": 2,
    },
    "host, heads kept": {
        "federate__method": "FedAvg",
        "federate__share_local_model": False,
        "personalization__local_param": ["modules_to_save"],
    },
    "global evaluation": {
        "federate__method": "fedit",
        "fedsa__policy__HEAD": "share",
        "federate__make_global_eval": True,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_as_if_nothing_had_been(lab, monkeypatch, case):
    changes = {"federate__total_round_num": 5, **CASES[case]}
    whole = whole_of(lab, **changes)
    with monkeypatch.context() as patch:
        kill_in_round(patch, 1 if "early_stop__patience" in changes else 3)
        with pytest.raises(Killed):
            lab.run(**changes)
    folder = folder_of(lab)
    assert not (folder / "summary.json").exists()
    again = everything_of(resumed(folder))
    for what, expected in whole.items():
        assert again[what] == expected, what


def test_a_language_model_goes_on_with_generation(language_lab, monkeypatch):
    changes = {
        "fedsa__eval__generate": {
            "examples": 2,
            "temperature": 0.7,
            "max_new_tokens": 8,
        },
        "federate__total_round_num": 4,
        "fedsa__checkpoint__every": 2,
    }
    whole = whole_of(language_lab, **changes)
    assert whole["answers"]
    with monkeypatch.context() as patch:
        kill_in_round(patch, 3)  # when there are answers after round 3
        with pytest.raises(Killed):
            language_lab.run(**changes)
    assert everything_of(resumed(folder_of(language_lab))) == whole


@pytest.mark.parametrize("rnd", [0, 1, 2, 3])
@pytest.mark.parametrize("every", [0, 2])
def test_from_whatever_round(lab, monkeypatch, rnd, every):
    """Also from none: a run without a checkpoint begins again."""
    changes = {
        "federate__total_round_num": 4,
        "fedsa__checkpoint__every": every,
    }
    whole = whole_of(lab, **changes)
    with monkeypatch.context() as patch:
        kill_in_round(patch, rnd)
        with pytest.raises(Killed):
            lab.run(**changes)
    folder = folder_of(lab)
    rounds = {f.name for f in folder.glob("checkpoints/round_*")}
    assert rounds == ({"round_2"} if every and rnd > 1 else set())
    assert everything_of(resumed(folder)) == whole


def test_the_last_checkpoints_are_kept(lab):
    folder = Path(
        lab.run(federate__total_round_num=6, fedsa__checkpoint__keep=3)[
            "outdir"
        ]
    )
    rounds = {f.name for f in folder.glob("checkpoints/round_*")}
    assert rounds == {"round_3", "round_4", "round_5"}


def test_what_has_not_changed_is_not_written_again(lab):
    """Two checkpoints of a client that rested are one file."""
    folder = Path(
        lab.run(
            federate__client_num=4,
            federate__sample_client_num=1,
            federate__total_round_num=4,
        )["outdir"]
    )
    second, third = (folder / f"checkpoints/round_{n}" for n in (2, 3))
    common = {f.name for f in second.glob("client_*")} & {
        f.name for f in third.glob("client_*")
    }
    same = [
        name
        for name in common
        if os.path.samefile(second / name, third / name)
    ]
    trained_again = len(common) - len(same)
    assert common and trained_again <= 1


def test_with_other_settings_it_is_refused_unless_forced(lab, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run()
    folder = folder_of(lab)
    with pytest.raises(UserError, match=r"train\.optimizer\.lr \(now 0\.25\)"):
        resumed(folder, overrides=["train.optimizer.lr", "0.25"])
    file = lab.file(seed=5, federate__total_round_num=4)
    with pytest.raises(UserError, match="seed") as refused:
        resumed(folder, experiment=file)
    assert "total_round_num" in str(refused.value)
    assert "outdir" not in str(refused.value)
    # where what is kept lies has no say in the numbers
    more = ["federate.total_round_num", "5", "fedsa.state.backend", "disk"]
    resumed(folder, overrides=more, force=True)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["results"]["last"]["round"] == 5
    assert summary["rounds"] == 5
    with pytest.raises(UserError, match="has finished"):
        resumed(folder)
    resumed(folder, overrides=["federate.total_round_num", "6"], force=True)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_where_clients_keep_it_does_not_matter(lab, monkeypatch, tmp_path):
    whole = whole_of(lab)
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run()
    other = ["fedsa.state.backend", "disk"]
    other += ["fedsa.state.folder", str(tmp_path / "fast")]
    folder = resumed(folder_of(lab), overrides=other)
    assert everything_of(folder) == whole
    assert len(list((tmp_path / "fast").rglob("client_*"))) == 3


def damage(kind: str, folder: Path) -> Path:
    """Spoil a checkpoint; returns what is spoilt."""
    names = {
        "state.json": "state.json",
        "no state": "state.json",
        "server": "server.safetensors",
    }
    file = folder / names.get(kind, "client_2.safetensors")
    data = file.read_bytes()
    if kind in ("no state", "missing"):
        file.unlink()
    elif kind == "a bit":
        at = len(data) - 5
        file.unlink()  # other checkpoints may link to it
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif kind == "of another client's model":
        tensors = {n + "x": t for n, t in load_file(file).items()}
        file.unlink()
        from fs_plugins.state.files import write_tensors

        write_tensors(file, tensors)
    else:
        file.unlink()
        file.write_bytes(data[: len(data) // 2])
    return file


def bytes_in(folder: Path) -> dict:
    return {str(f): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("backend", ["memory", "disk"])
@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "a bit",
        "missing",
        "of another client's model",
        "state.json",
        "no state",
        "server",
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(
    lab, monkeypatch, kind, backend
):
    """And never replaced by a fresh B; the one before it serves."""
    changes = {"fedsa__state__backend": backend}
    whole = whole_of(lab, **changes)
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run(**changes)
    folder = folder_of(lab)
    newest = folder / "checkpoints/round_2"
    spoilt = damage(kind, newest)
    saved = bytes_in(folder / "adapters")
    assert saved
    with pytest.raises(UserError) as refused:
        resumed(folder)
    sentence = str(refused.value)
    assert str(spoilt) in sentence and "\n" not in sentence
    assert f"remove {newest} to go on from round_1" in sentence
    assert bytes_in(folder / "adapters") == saved
    shutil.rmtree(newest)
    assert everything_of(resumed(folder)) == whole


def test_other_data_are_refused(lab, monkeypatch, tmp_path, toy_glue):
    root = tmp_path / "glue"
    shutil.copytree(toy_glue, root)
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run(data__root=str(root))
    train = root / "SST-2/train.tsv"
    train.write_text("\n".join(train.read_text().splitlines()[:-8]) + "\n")
    with pytest.raises(UserError, match="the data are not those of the run"):
        resumed(folder_of(lab))


def killed_in_round_2(lab, monkeypatch, **changes):
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run(**changes)
    return folder_of(lab)


def a_text(root, folder):
    train = root / "SST-2/train.tsv"
    train.write_text(train.read_text().replace("w7", "w8"))
    return "the texts and labels"


def a_label(root, folder):
    train = root / "SST-2/train.tsv"
    first, row, *rest = train.read_text().splitlines()
    row = row[:-1] + str(1 - int(row[-1]))
    train.write_text("\n".join([first, row, *rest]) + "\n")
    return "the texts and labels"


def a_test_text(root, folder):
    dev = root / "SST-2/dev.tsv"
    dev.write_text(dev.read_text().replace("w7", "w8"))
    return "the texts and labels"


def a_weight(root, folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "bert.encoder.layer.1.output.dense.weight"
    tensors[name][3, 2] += 1e-3
    save_file(tensors, file, {"format": "pt"})
    return "the base model's weights"


def a_setting(root, folder):
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps(config | {"layer_norm_eps": 0.5})
    (folder / "config.json").write_text(text)
    return "the base model's configuration"


def a_plugin(root, folder):
    plugin = folder / "plugin.py"
    plugin.write_text(plugin.read_text() + "# changed\n")
    return "the plugin .*plugin.py"


@pytest.mark.parametrize(
    "change", [a_text, a_label, a_test_text, a_weight, a_setting, a_plugin]
)
def test_what_a_run_depends_on_must_not_have_changed(
    lab,
    monkeypatch,
    tmp_path,
    toy_glue,
    toy_model,
    change,
    registries_as_they_were,
):
    """It would go on with other numbers, and nobody would see."""
    from fs_plugins.policy import METHODS

    root, folder = tmp_path / "glue", tmp_path / "model"
    shutil.copytree(toy_glue, root)
    shutil.copytree(toy_model, folder)
    (folder / "plugin.py").write_text(
        "from fs_plugins.policy import METHODS, register_method\n"
        "register_method('mine', METHODS['fedsa'])\n"
    )
    run = killed_in_round_2(
        lab,
        monkeypatch,
        data__root=str(root),
        model__type=f"{folder}@huggingface_llm",
        fedsa__plugins=[str(folder / "plugin.py")],
    )
    before = bytes_in(run)
    what = change(root, folder)
    for name, module in [*sys.modules.items()]:
        if getattr(module, "__file__", "") == str(folder / "plugin.py"):
            del sys.modules[name]  # as in a process of its own
    METHODS.pop("mine")
    changed = f"{what} changed.*--force|the data are not those of the run"
    with pytest.raises(UserError, match=changed):
        resumed(run, trust_plugins=True)
    after = bytes_in(run)
    assert {n: v for n, v in after.items() if "exp_print" not in n} == {
        n: v for n, v in before.items() if "exp_print" not in n
    }
    if change is not a_label:  # with it, clients have other numbers of texts
        resumed(run, force=True, trust_plugins=True)
        assert (run / "summary.json").exists()


def test_folders_that_hold_no_run(fedsa, tmp_path):
    found = fedsa("run", "--resume", tmp_path / "nowhere")
    assert found.returncode == 2
    assert "holds no run to resume" in found.stderr
    found = fedsa("run")
    assert found.returncode == 2 and "--resume" in found.stderr
    found = fedsa("run", "--cfg", "a.yaml", "--force")
    assert found.returncode == 2 and "--force" in found.stderr


def test_a_client_that_was_away_comes_back_to_its_own_b(lab):
    """Absent for k rounds: its own B, and the A of now."""
    runner = lab.runner(
        federate__client_num=3,
        federate__sample_client_num=1,
        federate__total_round_num=4,
    )
    turns = iter([[3], [1], [2], [3]])
    runner.server.sampler.sample = lambda size: next(turns)
    seen: dict[int, list] = {ID: [] for ID in runner.client}
    shared = []
    broadcast = runner.server.broadcast_model_para

    def noted(msg_type="model_para", *args, **kwargs):
        if msg_type == "model_para":
            shared.append(dict(runner.server.aggregator.shared))
        broadcast(msg_type, *args, **kwargs)

    runner.server.broadcast_model_para = noted
    for ID, client in runner.client.items():
        train = client.trainer.train

        def watched(ID=ID, client=client, train=train):
            both = client.parameters
            begin = {n: p.detach().clone() for n, p in both.kept.items()}
            given = {n: p.detach().clone() for n, p in both.shared.items()}
            found = train()
            end = {n: p.detach().clone() for n, p in both.kept.items()}
            seen[ID].append((begin, given, end))
            return found

        client.trainer.train = watched
    runner.run()
    (_, _, left), (found, given, _) = seen[3]
    assert all(torch.equal(left[name], found[name]) for name in left)
    assert any(left[name].abs().sum() for name in left if "lora_B" in name)
    assert all(torch.equal(given[name], shared[3][name]) for name in given)
    assert any(not torch.equal(shared[0][n], shared[3][n]) for n in given)


def test_who_has_spoilt_a_round_is_known_after_a_resumption(lab, monkeypatch):
    """A client sends values beyond all bounds in every round."""
    from fs_plugins.worker.client import FedSAClient

    train = FedSAClient.train_with

    def spoilt(self, sent, rnd):
        answer = train(self, sent, rnd)
        if self.ID != 3:
            return answer
        spec = spec_of(self.parameters.sent_by(self.ID, rnd))
        tensors = decode(answer.payload, spec)
        far = {name: torch.full_like(t, 1e30) for name, t in tensors.items()}
        return Update(answer.samples, encode(far))

    monkeypatch.setattr(FedSAClient, "train_with", spoilt)
    expected = everything_of(Path(lab.run(expname="whole")["outdir"]))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in_round(patch, 2)
        lab.run(expname="part")
    folder = resumed(Path(lab.settings["outdir"]) / "part")
    assert everything_of(folder) == expected
    # in round 1 twice, as it is repeated, and then in each round once
    assert expected["summary"]["rejected_updates"] == 2 + 1 + 1
