"""A distributed run as a user starts it: one process a participant."""

import json
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from federatedscope.core.message import Message
from federations import CLIENTS
from helpers import (
    assert_close,
    free_port,
    in_float64,
    wait_for,
    write_certificates,
)
from safetensors.torch import load_file

from fs_plugins.config.agreement import agreed, disagreement
from fs_plugins.config.load import load_config
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.preparation import load
from fs_plugins.state import StateInMemory, StateOfProcess
from fs_plugins.state.files import write_file, write_tensors
from fs_plugins.wire.channel import Listener, Security


@pytest.fixture
def security(tmp_path):
    """TLS certificates of one CA, and a token."""
    token = tmp_path / "token"
    token.write_text("a secret\n")
    files = write_certificates(tmp_path / "pem")
    names = ("certificate", "key", "ca", "token_file")
    return dict(zip(names, (*files, str(token)), strict=True))


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
def test_it_ends_as_the_standalone_run_does(
    lab, federation, security, changes
):
    """A, each B and head, every metric and every byte; with TLS and token.

    With FLoRA each client has a base model of its own, and may have missed
    what was added to it in a round.
    """
    changes = {"federate__sample_client_num": 2, **changes}
    alone = in_float64(lab).run(expname="alone", **changes)
    spread = federation(**changes, fedsa__transport=security)
    said = {}
    for ID in (0, *CLIENTS):
        spread.start(ID)
    for ID in (0, *CLIENTS):
        code, said[ID], err = spread.end(ID)
        assert (code, err) == (0, ""), err
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
        assert f"results of client {ID}" in said[ID]


@pytest.mark.slow
def test_a_killed_client_finds_its_b_again(federation):
    """SIGKILL in the middle: the others go on, and it comes back."""
    spread = federation(
        federate__total_round_num=200,
        eval__freq=10,
        fedsa__transport={"lost_after": 2.0},
    )
    for ID in (0, *CLIENTS):
        spread.start(ID)
    wait_for(lambda: len(spread.evaluated()) >= 2, 90)
    spread.processes[2].send_signal(signal.SIGKILL)
    spread.end(2)
    kept = list(spread.folder(2).glob("state/*/client_2.safetensors"))
    assert len(kept) == 1
    left = kept[0].read_bytes()
    wait_for(lambda: {"1", "3"} in spread.evaluated(), 90)
    spread.start(2)
    for ID in (0, *CLIENTS):
        code, _, err = spread.end(ID)
        assert (code, err) == (0, ""), err
    evaluated = spread.evaluated()
    assert len(evaluated) == 20 and evaluated[-1] == {"1", "2", "3"}
    # It went on from the B that it found: one file, of the same run.
    again = list(spread.folder(2).glob("state/*/client_2.safetensors"))
    assert again == kept and kept[0].read_bytes() != left
    log = (spread.folder(0) / "exp_print.log").read_text()
    assert "client 2 is gone" in log or "client 2 has started again" in log
    # The second process has its results beside those of the first.
    assert list(spread.folder(2).glob("sub_exp*/adapters/client_2"))


@pytest.fixture
def client(lab):
    """The one client of a process, with no server."""
    runner = lab.runner(
        federate__mode="distributed",
        federate__share_local_model=False,
        distribute__use=True,
        distribute__role="client",
        distribute__data_idx=2,
        distribute__client_host="127.0.0.1",
        distribute__client_port=free_port(),
        fedsa__transport={"wait": 0.1, "lost_after": 0.1},
    )
    yield runner.client
    runner.client.comm_manager.close()


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


@pytest.mark.parametrize(
    "case, code, words",
    [
        ("token", 2, "the token is not the one of this run"),
        ("certificate", 1, "certificates of one CA"),
        ("port", 2, "cannot be listened on: the port is taken"),
        ("number", 2, "distribute.data_idx: 4 is not the number of a client"),
        ("key", 2, "fedsa.transport.key: /no/such/file cannot be read"),
        ("server", 1, "no server for 1.5 seconds"),
    ],
)
def test_a_failed_start_is_one_sentence(
    lab, security, tmp_path, case, code, words
):
    own = security | {"wait": 1.5}
    ports = {"server": free_port(), "client": free_port()}
    if case == "token":
        own["token_file"] = str(tmp_path / "other")
        (tmp_path / "other").write_text("another secret")
    elif case == "certificate":
        files = write_certificates(tmp_path / "other")
        own |= dict(zip(("certificate", "key", "ca"), files, strict=True))
    elif case == "port":
        ports["client"] = ports["server"]
    elif case == "key":
        own["key"] = "/no/such/file"
    got = []
    server = case != "server" and Listener(
        "127.0.0.1",
        ports["server"],
        Security.load(**security),
        10_000,
        got.append,
        lambda session: True,
    )
    file = lab.file(
        federate__mode="distributed",
        federate__share_local_model=False,
        distribute__use=True,
        distribute__role="client",
        distribute__data_idx=4 if case == "number" else 1,
        distribute__server_host="127.0.0.1",
        distribute__server_port=ports["server"],
        distribute__client_host="127.0.0.1",
        distribute__client_port=ports["client"],
        fedsa__transport=own,
    )
    result = lab.command("run", "--cfg", file)
    assert result.returncode == code, result.stderr
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert got == []
    if server:
        server.close()


def test_without_grpc_or_msgpack_it_says_what_to_install(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    monkeypatch.delitem(sys.modules, "fs_plugins.wire.envelope", False)
    monkeypatch.delitem(sys.modules, "fs_plugins.host.comm_manager", False)
    with pytest.raises(UserError, match="needs grpcio and msgpack: pip inst"):
        lab.runner(
            federate__mode="distributed",
            federate__share_local_model=False,
            distribute__use=True,
            distribute__role="server",
        )


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
    spread = federation(**changes)
    spread.start(0, data__type="nothing.csv@text")
    for ID in CLIENTS:
        own = tmp_path / f"of_{ID}" / f"site{ID}.csv"
        spread.start(ID, data__type=f"{own}@text")
    for ID in (0, *CLIENTS):
        code, _, err = spread.end(ID)
        assert code == 0, err
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
        "federate__mode": "distributed",
        "federate__share_local_model": False,
        "distribute__use": True,
        "distribute__role": "client",
        "distribute__data_idx": 1,
        **changes,
    }
    with pytest.raises(UserError, match=said):
        lab.runner(**changes)


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
