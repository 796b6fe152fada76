"""What the process of a client shows, and what it keeps of its own."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import fs_plugins
from fs_plugins.errors import Interrupted, RunError
from fs_plugins.experiment import runner as running
from fs_plugins.experiment.runs import load_run
from fs_plugins.scope import RunScope
from fs_plugins.wire import encode

ROUNDS = 3


class PlayedServer:
    """Carries a server's messages to a client; no network is needed.

    Args:
        script: pairs of a message's kind and its round; an exception is
            raised in place of a message.
    """

    host, port = "127.0.0.1", 1

    def __init__(self, script):
        self.client, self.script = None, list(script)
        self.sent, self.neighbors = [], {}

    def add_neighbors(self, *args, **kwargs):
        pass

    def send(self, message):
        self.sent.append(message)

    def receive(self, *args, **kwargs):
        if isinstance(self.script[0], Exception):
            raise self.script.pop(0)
        kind, rnd = self.script.pop(0)
        shared = self.client.parameters.shared
        content = encode({n: t.detach().clone() for n, t in shared.items()})
        if kind == "assign_client_id":
            content = {"run": "0123456789abcdef"}
        return SimpleNamespace(
            msg_type=kind,
            sender=0,
            receiver=[self.client.ID],
            state=rnd - 1,
            timestamp=0.0,
            content=content,
        )

    def close(self):
        pass

    @property
    def results(self):
        """What the client has sent to be averaged, in order."""
        return [m.content for m in self.sent if m.msg_type == "metrics"]


def script_of(*rounds, evaluated=None):
    script = [("assign_client_id", 1)]
    for rnd in rounds:
        script.append(("model_para", rnd))
        if evaluated is None or rnd in evaluated:
            script.append(("evaluate", rnd))
    return [*script, ("finish", ROUNDS + 1)]


@pytest.fixture
def participate(lab, monkeypatch):
    """Runs client 2 as its process does; its summary, and the server."""

    def call(script, quiet=False, folder=None, **changes):
        build = running.build_runner
        server = PlayedServer(script)

        def built(cfg, scope=None):
            runner = build(cfg, scope)
            server.client = runner.client
            return runner

        monkeypatch.setattr(running, "build_runner", built)
        file = lab.file(
            expname="site",
            federate__mode="distributed",
            federate__share_local_model=False,
            federate__total_round_num=ROUNDS,
            distribute__use=True,
            distribute__role="client",
            distribute__data_idx=2,
            **changes,
        )
        options = {
            "quiet": quiet,
            "scope": RunScope(communication=server),
        }
        try:
            if folder:
                return running.rejoin(folder, file, **options), server
            return running.run(file, **options), server
        finally:
            monkeypatch.setattr(running, "build_runner", build)

    return call


def test_it_shows_and_keeps_its_own_results(participate, capsys):
    summary, server = participate(script_of(1, 2, 3))
    folder = Path(summary["outdir"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["round"] for line in found] == [1, 2, 3]
    assert len(server.results) == 3 and "test_acc" in server.results[0]
    for line, sent in zip(found, server.results, strict=True):
        assert line["clients"] == {"2": sent}, "its own, and nobody else's"
        assert line["weighted"] == line["mean"] == sent
    trained = [m for m in server.sent if m.msg_type == "model_para"]
    sizes = [len(message.content[1]) for message in trained]
    assert [line["uplink_bytes"] for line in found] == [
        sum(sizes[:n]) for n in (1, 2, 3)
    ]
    assert found[0]["downlink_bytes"] == 2 * sizes[0], "to train, to evaluate"
    kept = json.loads((folder / "summary.json").read_text())
    assert kept["results"]["last"]["clients"] == {"2": server.results[-1]}
    assert kept["rejected_updates"] is None and "stopped_early" not in kept
    assert kept["time"]["train_s"] > 0 and kept["time"]["aggregate_s"] is None
    assert {**kept, "outdir": str(folder)} == summary
    said = capsys.readouterr().out.splitlines()
    shown = [line for line in said if ": round " in line]
    assert len(shown) == 6
    for number, line in enumerate(shown):
        results = server.results[number // 2]
        assert f": round {number // 2 + 1}/3  " in line
        if number % 2:
            assert f"test_acc {results['test_acc']:.4f}" in line
            assert f"loss {results['val_avg_loss']:.4f}" in line
        else:
            assert "  trained with loss " in line
    table = "\n".join(said[said.index(shown[-1]) + 1 :])
    assert "results of client 2" in table and "test_acc" in table
    assert f"{server.results[-1]['test_avg_loss']:.6g}" in table


def test_its_name_is_shown(participate, capsys):
    names = ["north", "south", "east"]
    participate(script_of(1), fedsa__data__clients=names)
    assert "results of south" in capsys.readouterr().out


def test_quiet_is_quiet(participate, capsys):
    summary, _ = participate(script_of(1, 2, 3), quiet=True)
    assert not capsys.readouterr().out
    assert summary["results"]["last"]["round"] == 3


def test_rounds_without_an_evaluation_are_shown(participate, capsys):
    summary, _ = participate(script_of(1, 2, 3, evaluated=(3,)))
    said = capsys.readouterr().out
    assert said.count("trained with loss") == 3
    assert said.count("val_acc 0.") == 1
    run = load_run(summary["outdir"])
    assert [line["round"] for line in run.curve] == [3]


def test_a_round_that_is_repeated_counts_once(participate):
    """The server has too few good updates for an average."""
    summary, server = participate(script_of(1, 2, 2, 3))
    run = load_run(summary["outdir"])
    assert [line["round"] for line in run.curve] == [1, 2, 3]
    assert len(server.results) == 4
    second, third = server.results[2:]
    assert run.curve[1]["clients"]["2"] == second
    assert run.last["clients"]["2"] == third
    assert run.best["round"] in (1, 2, 3)


def test_a_later_process_goes_on_in_the_same_folder(participate, lab):
    """The job was ended in round 3, and the server had round 2 by then."""
    _whole, _ = participate(script_of(1, 2, 3))
    begun = [*script_of(1, 2, 3)[:-2], Interrupted("ended", 15)]
    (lab.folder / "exp" / "site").rename(lab.folder / "exp" / "whole")
    with pytest.raises(Interrupted):
        participate(begun)
    folder = lab.folder / "exp" / "site"
    assert not load_run(folder).is_finished
    summary, _ = participate(script_of(3), folder=folder)
    assert summary["outdir"] == str(folder)
    assert not list(folder.glob("sub_exp*"))
    undisturbed, run = load_run(lab.folder / "exp/whole"), load_run(folder)
    assert run.curve == undisturbed.curve
    assert run.best == undisturbed.best and run.last == undisturbed.last


def test_a_run_that_ends_early_is_said_to(participate):
    summary, _ = participate(script_of(1, 2))
    assert "no further round" in summary["stopped_early"]


def test_what_it_has_is_there_if_the_server_goes(participate, lab, capsys):
    script = [*script_of(1, 2)[:-1], RunError("no server for 1 seconds")]
    with pytest.raises(RunError, match="no server"):
        participate(script)
    (folder,) = lab.folder.glob("exp/site")
    run = load_run(folder)
    assert run.last["round"] == 2 and not run.is_finished
    assert "after round 2" in capsys.readouterr().out, "the table, too"


def test_without_an_evaluation_there_are_no_results(participate, capsys):
    summary, _ = participate(script_of(1, 2, 3, evaluated=()))
    assert summary["results"] == {"last": None, "best": None}
    assert "results of" not in capsys.readouterr().out
    assert load_run(summary["outdir"]).clients == [2]


def test_the_commands_take_its_folder(participate, fedsa, tmp_path):
    summary, _ = participate(script_of(1, 2, 3))
    folder = summary["outdir"]
    run = load_run(folder)
    assert run.own_client == 2 and run.clients == [2]
    assert run.client(2).results == run.last["clients"]["2"]
    done = fedsa("report", folder, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.md").read_text()
    assert "the results of client 2 alone" in page
    done = fedsa("export", folder, "--client", 2, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "a" / "README.md").read_text()
    assert "client 2" in card and "clients, weighted" not in card
    done = fedsa("predict", folder, "--client", 2, "--text", "w1 w2")
    assert done.returncode == 0 and done.stdout.strip()
    done = fedsa("export", folder, "--client", 1, "--out", tmp_path / "b")
    assert done.returncode == 2 and "--client" in done.stderr
    done = fedsa("run", "--resume", folder)
    assert done.returncode == 2 and "takes part again" in done.stderr


def test_a_whole_run_is_nobodys_own(lab):
    summary = lab.run(federate__total_round_num=1)
    assert fs_plugins.load_run(summary["outdir"]).own_client == 0
