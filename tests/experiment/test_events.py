"""Whoever listens is told what happens, once and in order."""

import re
from pathlib import Path

import pytest

import fs_plugins
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.events import LiveRun
from fs_plugins.listeners import Listener, check_hooks, register_listener

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


class Notes(Listener):
    """Keeps all that it is told."""

    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if name in vars(Listener) and not name.startswith("_"):
            return lambda *facts: self.told.append((name, *facts))
        return super().__getattribute__(name)

    def of(self, *names):
        return [told for told in self.told if told[0] in names]


@pytest.mark.parametrize("method", ["fedsa", "FedAvg"])
@pytest.mark.parametrize("share", [True, False])
def test_a_run_is_told_in_order(lab, method, share):
    runner = lab.runner(
        federate__method=method,
        federate__share_local_model=share,
        federate__total_round_num=2,
    )
    notes = Notes()
    run = LiveRun(runner, [notes])
    assert notes.told == [], "nothing has happened yet"
    run.run()
    assert notes.told[0] == ("run_begins", run)
    assert notes.told[1] == ("clients_joined",)
    assert notes.told[-1] == ("run_ends",)
    assert notes.of("round_begins") == [
        ("round_begins", 1, 3),
        ("round_begins", 2, 3),
    ]
    assert notes.of("round_ends") == [("round_ends", 1)]
    trained = [client for _, client in notes.of("client_trained")]
    assert sorted(trained[:3]) == sorted(trained[3:]) == [1, 2, 3]
    evaluated = notes.of("evaluated")
    assert [rnd for _, rnd, _ in evaluated] == [1, 2]
    assert all({*clients} == {1, 2, 3} for _, _, clients in evaluated)
    # in a pause between rounds no client is at work
    names = [told[0] for told in notes.told]
    pause = names.index("round_ends")
    assert names[:pause].count("client_evaluated") == 3
    assert names[:pause].count("client_trained") == 3


def test_two_listeners_hear_the_same(lab):
    runner = lab.runner(federate__total_round_num=1)
    one, other = Notes(), Notes()
    LiveRun(runner, [one, other]).run()
    assert one.told == other.told and one.told


def test_the_server_evaluates_in_place_of_clients(lab):
    runner = lab.runner(
        federate__method="FedAvg",
        federate__make_global_eval=True,
        federate__total_round_num=1,
    )
    notes = Notes()
    LiveRun(runner, [notes]).run()
    ((_, rnd, results),) = notes.of("evaluated")
    assert rnd == 1 and {*results} == {0} and "test_acc" in results[0]
    assert {what for _, what, _ in notes.of("took")} == {
        "aggregate",
        "eval",
        "train",
    }


def test_the_run_has_ended_whatever_happens(lab):
    runner = lab.runner()
    notes = Notes()

    class Fails(Listener):
        def round_ends(self, rnd):
            raise RunError("enough")

    run = LiveRun(runner, [notes, Fails()])
    with pytest.raises(RunError, match="enough"):
        run.run()
    assert notes.told[-1] == ("run_ends",)
    assert notes.of("round_ends") == [("round_ends", 1)]


def test_the_documents_example(lab, tmp_path, capsys, registries_as_they_were):
    text = PAGE.read_text("utf-8")
    (code,) = re.findall(r"```python\n(# watch\.py\n.*?)```", text, re.S)
    plugin = tmp_path / "watch.py"
    plugin.write_text(code)
    lab.run(fedsa__plugins=[str(plugin)], federate__total_round_num=2)
    said = capsys.readouterr().out
    found = re.findall(r"round (\d): client \d is the worst", said)
    assert found == ["1", "2"]
    lab.run(federate__total_round_num=2)
    assert not capsys.readouterr().out, "only runs that name the file"
    plugin = tmp_path / "strict.py"
    plugin.write_text(code.replace("> 5", "> -1"))
    with pytest.raises(RunError, match=r"is above 5.*--resume"):
        lab.run(fedsa__plugins=[str(plugin)])


@pytest.mark.parametrize("event", ["recorded", "round_ends"])
def test_a_listener_ends_a_run_in_good_order(lab, event):
    """Its numbers are those of a run that was to have as many rounds."""
    from helpers import everything_of

    from fs_plugins import StopRun
    from fs_plugins.experiment import run

    def stop(self, told):
        if (told["round"] if event == "recorded" else told) == 2:
            raise StopRun("two are enough")

    stops = type("Stops", (Listener,), {event: stop})()
    found, expected = (
        run(
            lab.file(),
            {"federate__total_round_num": rounds, "expname": name},
            quiet=True,
            listeners=listeners,
        )
        for name, rounds, listeners in (
            ("stopped", 4, [stops]),
            ("whole", 2, []),
        )
    )
    assert found["stopped_early"] == "two are enough"
    assert "stopped_early" not in expected
    one, other = (
        everything_of(Path(each["outdir"])) for each in (found, expected)
    )
    assert one["adapters"] == other["adapters"]
    assert one["metrics"] == other["metrics"]


@pytest.mark.parametrize("name", ["evaluted", "round_end", "runs_ends"])
def test_a_misspelt_event_is_refused(lab, name):
    """Nobody would ever call the method."""
    wrong = type("Wrong", (Listener,), {name: lambda self: None})
    with pytest.raises(UserError, match=rf"Wrong\.{name}: .*did you mean"):
        register_listener(wrong)
    with pytest.raises(UserError, match="did you mean"):
        fs_plugins.run(lab.file(), listeners=[wrong()])
    assert not Path(lab.settings["outdir"]).exists()


def test_other_methods_of_a_listener_are_its_own():
    methods = {n: lambda self: None for n in ("write", "plot", "_evaluted")}
    check_hooks(type("Right", (Listener,), methods))
    check_hooks(Notes)
