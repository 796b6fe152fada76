"""Distributed runs, with a process for each participant."""

import json
import random
from pathlib import Path

import pytest
import torch
from federatedscope.core.message import Message
from federations import CLIENTS
from helpers import assert_close, in_float64
from safetensors.torch import load_file

from fs_plugins.config.agreement import agreed, disagreement
from fs_plugins.config.load import load_config
from fs_plugins.config.yaml_file import flatten, read_yaml
from fs_plugins.engine.links import REFUSED, SiteLink
from fs_plugins.engine.outcome import Outcome
from fs_plugins.engine.part import take_part
from fs_plugins.engine.site import Site
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.preparation import load
from fs_plugins.state import StateInMemory, StateOfProcess
from fs_plugins.state.files import write_file, write_tensors


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def products(tensors):
    """B A in place of both."""
    for name in [n for n in tensors if "lora_A" in n]:
        b = tensors.pop(name.replace("lora_A", "lora_B"))
        tensors[name] = b @ tensors[name]
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "federate__method": "fedit",
            "fedsa__aggregator": "flora",
            "fedsa__ranks": [2, 1],
            "eval__freq": 3,
        },
    ],
    ids=["fedsa", "flora"],
)
def test_it_ends_as_the_standalone_run_does(lab, federation, changes):
    """A, each B and head, every metric and every byte.

    With FLoRA each client has a base model of its own, and may have missed
    what was added to it in a round.
    """
    changes = {"federate__sample_client_num": 2, **changes}
    alone = in_float64(lab).run(expname="alone", **changes)
    spread = federation(**changes)
    spread.start()
    assert spread.end() == Outcome("finished")
    for name in ("global", "client_1", "client_2", "client_3"):
        ID = 0 if name == "global" else int(name[-1])
        found = adapter(spread.folder(ID) / "adapters" / name)
        expected = adapter(Path(alone["outdir"]) / "adapters" / name)
        if "fedsa__aggregator" in changes:  # stacked as they have come in
            found, expected = products(found), products(expected)
        assert_close(found, expected)
    found = json.loads((spread.folder(0) / "summary.json").read_text())
    assert found["results"]["last"]["clients"].keys() == {"1", "2", "3"}
    for clients in ("weighted", "mean"):
        for key, value in alone["results"]["last"][clients].items():
            assert found["results"]["last"][clients][key] == pytest.approx(
                value, rel=1e-10
            )
    assert found["communication"] == alone["communication"]
    assert found["rejected_updates"] == 0
    assert found["time"]["train_s"] is None  # it is spent at the clients
    for ID in CLIENTS:  # each has its own results, and nobody else's
        own = json.loads((spread.folder(ID) / "summary.json").read_text())
        for which in ("last", "best"):
            assert own["results"][which]["clients"].keys() == {str(ID)}
        last = found["results"]["last"]["clients"][str(ID)]
        assert own["results"]["last"]["clients"] == {str(ID): last}


@pytest.fixture
def client(lab):
    """The one client of a process, with no server."""
    return lab.part(2, SiteLink()).client


def assign(client, run):
    """The server admits the client, which has just started, to a run."""
    if isinstance(client.kept, StateOfProcess):
        client.kept.close()
    client._run = ""
    content = {"run": run}
    client.callback_funcs_for_assign_id(Message(content=content))


RUN, OTHER_RUN = "0123456789abcdef", "fedcba9876543210"


def test_b_is_found_in_its_own_run_only(client):
    assign(client, RUN)
    for parameter in client.parameters.kept.values():
        parameter.data.fill_(0.25)
    client._keep()
    client.kept = StateInMemory(client.kept._initial)
    assign(client, OTHER_RUN)
    start = client.parameters.initial
    for name, value in client.kept.values.items():
        assert torch.equal(value, start[name])
    assign(client, RUN)
    assert all((t == 0.25).all() for t in client.kept.values.values())


def test_a_process_takes_part_in_one_run(client):
    """It would have a fresh B in another one, without a word."""
    message = Message(content={"run": RUN})
    client.callback_funcs_for_assign_id(message)
    client._keep()
    kept = client.kept
    client.callback_funcs_for_assign_id(message)  # the server started again
    assert client.kept is kept
    other = Message(content={"run": OTHER_RUN})
    with pytest.raises(RunError, match="has begun another run"):
        client.callback_funcs_for_assign_id(other)
    assert client.kept is kept and kept.file.exists()


@pytest.mark.parametrize("how", ["truncated", "not finite", "other rank"])
def test_a_b_that_cannot_be_read_is_never_replaced(client, how):
    assign(client, RUN)
    client._keep()
    file = client.kept.file
    if how == "truncated":
        write_file(file, file.read_bytes()[:-9])
    else:
        tensors = load_file(file)
        name = min(tensors)
        if how == "not finite":
            tensors[name][0] = float("nan")
        else:
            tensors[name] = torch.zeros(16, 3)
        write_tensors(file, tensors)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"cannot be used: .* restore it"):
        assign(client, RUN)
    assert file.read_bytes() == before


@pytest.mark.parametrize("run", ["../../etc", "", "0" * 15, "0" * 16 + "/x"])
def test_a_run_is_no_path(client, run):
    with pytest.raises(RunError, match="no valid name"):
        assign(client, run)


def test_nobody_else_begins_a_distributed_run(lab, fedsa):
    """Of which no one would carry the messages."""
    file = lab.file(
        federate__mode="distributed",
        federate__share_local_model=False,
        distribute__use=True,
        distribute__role="server",
    )
    found = fedsa("run", "--cfg", file)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "a distributed run is begun by 'fedsa federate'" in found.stderr
    assert not (lab.folder / "exp").exists()


def asked(lab, **changes):
    return dict(flatten(read_yaml(lab.file(**changes))))


@pytest.mark.parametrize(
    "changes, ID, said",
    [
        ({}, 4, "distribute.data_idx: 4 is not the number of a client"),
        ({"seeed": 1}, 1, "seeed: there is no such key (did you mean 'seed'"),
        ({"data__type": "sst@glue"}, 1, "sst"),
        ({"model__type": "/none@huggingface_llm"}, 0, "/none"),
    ],
)
def test_a_part_that_cannot_begin_is_an_error_and_no_folder(
    lab, changes, ID, said
):
    site = Site(lab.folder, {}, True, ({},) * 4)
    folder = lab.folder / "part"
    error = take_part(site, asked(lab, **changes), folder, ID, SiteLink())
    assert isinstance(error, UserError) and said in str(error)
    assert not folder.exists()


@pytest.mark.slow
def test_each_participant_reads_its_own_file_only(lab, federation, tmp_path):
    """And the numbers are those of the standalone run with the same files.

    Each client's file is in a folder of its own, and the server has none.
    """
    rng = random.Random(6)
    lines = {}
    for ID in CLIENTS:
        rows = ["text,label"]
        for _ in range(20 + 5 * ID):
            words = " ".join(rng.choices([f"w{i}" for i in range(60)], k=5))
            rows.append(f"{words},{rng.choice(['ham', 'spam'])}")
        lines[ID] = "\n".join(rows) + "\n"
    (tmp_path / "all").mkdir()
    for ID, text in lines.items():
        (tmp_path / "all" / f"site{ID}.csv").write_text(text)
        (tmp_path / f"of_{ID}").mkdir()
        (tmp_path / f"of_{ID}" / f"site{ID}.csv").write_text(text)
    changes = {
        "data__splitter": "files",
        "data__splitter_args": [],
        "fedsa__data__classes": ["ham", "spam"],
        "fedsa__data__text": ["text"],
        "fedsa__data__label": "label",
    }
    files = f"{tmp_path}/all/*.csv@text"
    alone = in_float64(lab).run(
        expname="alone", data__type=files, federate__client_num=0, **changes
    )
    model = {"model.type": lab.settings["model"]["type"]}
    sites = {0: Site(tmp_path / "server", model)}
    for ID in CLIENTS:
        own = tmp_path / f"of_{ID}"
        values = {"data.type": f"{own}/site{ID}.csv@text", **model}
        sites[ID] = Site(own / "runs", values)
    spread = federation(sites=sites, **changes, data__type="nothing.csv@text")
    spread.start()
    assert spread.end() == Outcome("finished")
    for ID in (0, *CLIENTS):
        name = f"client_{ID}" if ID else "global"
        found = adapter(spread.folder(ID) / "adapters" / name)
        own = f"site{ID}" if ID else "global"
        assert_close(found, adapter(Path(alone["outdir"]) / "adapters" / own))
    results = json.loads((spread.folder(0) / "summary.json").read_text())
    assert results["results"]["last"]["clients"].keys() == {"1", "2", "3"}
    counts = json.loads((spread.folder(2) / "label_counts.json").read_text())
    assert counts.keys() == {"2"}
    assert not (spread.folder(0) / "label_counts.json").exists()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"fedsa__data__classes": []}, "fedsa.data.classes: must name"),
        ({"data__type": "sst2@glue"}, "data.splitter: files is for files"),
    ],
)
def test_sites_must_agree_on_the_classes(lab, changes, said):
    changes = {
        "data__type": "site.csv@text",
        "data__splitter": "files",
        "fedsa__data__classes": ["a", "b"],
        **changes,
    }
    with pytest.raises(UserError, match=said):
        lab.part(1, SiteLink(), **changes)


def test_sites_that_are_set_up_otherwise_are_refused_by_name(federation):
    spread = federation(of_clients=({}, {"train.optimizer.lr": 0.25}, {}))
    spread.start()
    outcome = spread.end()
    assert outcome.kind == "failed" and not outcome.away
    assert outcome.sentence.startswith(
        "site-2: its settings are not those of the server: "
        "train.optimizer.lr is 0.25 and not 0.5"
    )
    assert "train.optimizer.lr is 0.25 and not 0.5" in spread.said(2)


SECRET = "Dr Mabuse has the flu"


@pytest.mark.slow
@pytest.mark.parametrize("is_simulated", [True, False])
def test_what_is_wrong_at_a_site_is_told_without_its_words(
    lab, federation, tmp_path, is_simulated
):
    """But to the one whose own processes the sites are."""
    sites = {}
    for ID in CLIENTS:
        file = tmp_path / f"site{ID}.csv"
        file.write_text("text,label\n" + "w1 w2,ham\nw3,spam\n" * 20)
        model = {"model.type": lab.settings["model"]["type"]}
        values = {"data.type": f"{file}@text", **model}
        sites[ID] = Site(tmp_path / f"runs{ID}", values)
    with file.open("a") as lines:
        lines.write(f"w1,{SECRET}\n")
    spread = federation(
        of_clients=[site.values for site in sites.values()],
        sites={} if is_simulated else {0: Site(tmp_path, model), **sites},
        data__type="*.csv@text",
        data__splitter="files",
        data__splitter_args=[],
        fedsa__data__classes=["ham", "spam"],
        fedsa__data__text=["text"],
        fedsa__data__label="label",
    )
    spread.start()
    outcome = spread.end()
    assert outcome.kind == "failed"
    assert SECRET in spread.said(3)
    assert (SECRET in outcome.sentence) == is_simulated
    assert outcome.sentence.startswith("site-3: ")
    assert (REFUSED in outcome.sentence) == (not is_simulated)


SITE = {
    "data__type": "site.csv@text",
    "data__splitter": "files",
    "data__splitter_args": [],
    "federate__mode": "distributed",
    "federate__share_local_model": False,
    "distribute": {"use": True, "role": "client", "data_idx": 1},
    "eval__metrics": [],
    "eval__best_res_update_round_wise_key": "val_avg_loss",
}


def test_sites_cannot_standardise_by_scores_that_they_do_not_see(lab):
    """The YAML file gives the numbers, which are the same for all."""
    data = {"target": "score", "standardise": True}
    with pytest.raises(UserError, match=r"standardise: must be \[mean, sta"):
        load_config(lab.file(**SITE, fedsa__data=data))
    settings = [
        agreed(
            load_config(
                lab.file(**SITE, fedsa__data={**data, "standardise": each})
            )
        )
        for each in ([3, 1], [3, 2])
    ]
    assert "fedsa.data.standardise" in disagreement(*settings)
    assert not disagreement(settings[0], settings[0])


def test_sites_must_agree_whether_a_text_has_several_labels(
    lab, tmp_path, monkeypatch
):
    """Heads of both have the same shape, and would be averaged."""

    monkeypatch.chdir(tmp_path)
    rows = "".join(f"w{i} w{i + 1},{'ab'[i % 2]}\n" for i in range(30))
    (tmp_path / "site.csv").write_text("text,topic\n" + rows)
    told = []
    for role, data in (
        ("server", {"labels": "topic"}),
        ("client", {"label": "topic"}),
        ("client", {"labels": "topic"}),
    ):
        site = {**SITE, "distribute": {**SITE["distribute"], "role": role}}
        data = {"text": "text", "classes": ["a", "b"], **data}
        cfg = load_config(lab.file(**site, fedsa__data=data))
        load(cfg, None)
        told.append(agreed(cfg))
    server, one, several = told
    assert "model.task" in disagreement(server, one)
    assert not disagreement(server, several)
