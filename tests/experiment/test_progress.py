"""What a run shows of itself."""

import re

from fs_plugins.experiment.events import LiveRun
from fs_plugins.experiment.progress import Bar, ClientBar
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.summary import facts_of


def test_the_bar_counts_right(lab):
    """Never more clients than there are, nor more rounds."""
    runner = lab.runner(federate__sample_client_num=2)
    bar = Bar("toy", rounds=3)
    shown = []
    update = bar._display.update

    def watched(task, **fields):
        update(task, **fields)
        task = bar._display.tasks[0]
        shown.append((task.completed, task.fields["doing"]))

    bar._display.update = watched
    recorder = Recorder(runner.cfg, facts_of(runner.cfg))
    LiveRun(runner, [recorder, bar], pauses=False).run()
    done = [completed for completed, _ in shown]
    assert done == sorted(done) and done[-1] == 3
    counts = [
        re.match(r"(training|evaluating) (\d+)/(\d+)", text)
        for _, text in shown
    ]
    found = [(m[1], int(m[2]), int(m[3])) for m in counts if m]
    training = [(i, n) for what, i, n in found if what == "training"]
    evaluating = [(i, n) for what, i, n in found if what == "evaluating"]
    # An advance of the bar repeats the text.
    assert training[::2] == training[1::2] == [(1, 2), (2, 2)] * 3
    assert evaluating == [(1, 3), (2, 3), (3, 3)] * 3
    assert "val_acc" in shown[-1][1]


def test_a_clients_bar_shows_its_round():
    bar = ClientBar("north", rounds=4)
    task = bar._display.tasks[0]
    shown = []

    def tell(event, *facts):
        getattr(bar, event)(*facts)
        shown.append((task.completed, task.fields["doing"]))

    results = {"val_acc": 0.5, "test_acc": 0.25, "val_avg_loss": 0.75}
    sent = {"uplink_bytes": 400, "downlink_bytes": 600}
    tell("run_begins", None)
    tell("round_begins", 1, 1)
    tell("trained", 1, 2, {"train_avg_loss": 0.5})
    tell("client_trained", 2)
    tell("evaluation_begins", 1)
    tell("client_evaluated", 2)
    tell("recorded", {"round": 1, "weighted": results, **sent})
    tell("round_begins", 2, 1)
    bar.run_ends()
    all_told = "1.0 kB sent  val_acc 0.5000  test_acc 0.2500  loss 0.7500"
    assert shown == [
        (0, "waiting for the server"),
        (0, "training  "),
        (1, "trained with loss 0.5000  "),
        (1, "trained with loss 0.5000  "),
        (1, "evaluating  "),
        (1, "evaluating  "),
        (1, all_told),
        (1, f"training  {all_told}"),
    ]
