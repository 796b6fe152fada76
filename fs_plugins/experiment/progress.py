"""Shows the progress of a run."""

import datetime
import sys
import time
from collections.abc import Mapping
from typing import Any

from fs_plugins.errors import printable
from fs_plugins.experiment.evaluations import leading_metric, size
from fs_plugins.listeners import Listener, Results, RunInProgress


class Lines(Listener):
    """Prints a line for each evaluation, for output to a file or a pipe.

    Args:
        name: the text at the beginning of each line.
        rounds: the number of rounds of the run.

    """

    def __init__(self, name: str, rounds: int) -> None:
        self.name = name
        self.rounds = rounds
        self._first = 0  # the first round that this process runs
        self._begin = 0.0

    def round_begins(self, rnd: int, clients: int) -> None:
        """Note the time at which the first round begins."""
        if not self._first:
            self._first, self._begin = rnd, time.monotonic()

    def recorded(self, line: Mapping[str, Any]) -> None:
        """Print the round, its results, the bytes sent and the time left."""
        rnd = line["round"]
        print(
            f"{self.name}: round {rnd}/{self.rounds}  "
            f"{headline(line['weighted'])}  {size(_sent(line))} sent"
            f"{self._time_left(rnd)}",
            flush=True,
        )

    def _time_left(self, rnd: int) -> str:
        done = rnd - self._first + 1
        if not self._first or done < 1 or rnd >= self.rounds:
            return ""
        seconds = (time.monotonic() - self._begin) / done
        left = datetime.timedelta(seconds=round(seconds * (self.rounds - rnd)))
        return f"  {left} left"


class Bar(Listener):
    """Shows a bar with the round, its clients and the newest results.

    Args:
        name: the text before the bar.
        rounds: the number of rounds of the run.

    """

    def __init__(self, name: str, rounds: int) -> None:
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        self._display = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(table_column=Column(min_width=8, max_width=24)),
            MofNCompleteColumn(),
            # The minimum width lets a narrow terminal cut the text, but not
            # the times.
            TimeElapsedColumn(table_column=Column(min_width=7)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            TextColumn(
                "{task.fields[doing]}", table_column=Column(no_wrap=True)
            ),
        )
        self._task = self._display.add_task(
            escape(name), total=rounds, doing=""
        )
        self._round = 0
        # The number of clients that have trained or evaluated, and the number
        # of those that were asked to.
        self._trained = self._evaluated = (0, 0)
        self._results = ""

    def run_begins(self, run: RunInProgress) -> None:
        """Show the bar."""
        self._display.start()

    def run_ends(self) -> None:
        """Stop updating the bar, which stays on the screen."""
        self._display.stop()

    def round_begins(self, rnd: int, clients: int) -> None:
        """Note the round; clients of the host may still evaluate the last."""
        done, of = self._trained if rnd == self._round else (0, 0)
        self._round, self._trained = rnd, (done, of + clients)

    def client_trained(self, client: int) -> None:
        """Advance by a client's share of the round."""
        done, of = self._trained
        self._trained = (done + 1, of)
        self._show(f"training {done + 1}/{of}  ")
        share = min(1.0, (done + 1) / max(1, of))
        self._display.update(self._task, completed=self._round - 1 + share)

    def evaluation_begins(self, clients: int) -> None:
        """Add up how many clients evaluate."""
        done, of = self._evaluated
        self._evaluated = (done, of + clients)

    def client_evaluated(self, client: int) -> None:
        """Show how many clients have evaluated."""
        done, of = self._evaluated
        self._evaluated = (done + 1, of)
        self._show(f"evaluating {done + 1}/{of}  ")

    def recorded(self, line: Mapping[str, Any]) -> None:
        """Show the newest results."""
        results = headline(line["weighted"])
        self._results = f"{size(_sent(line))} sent  {results}"
        self._evaluated = (0, 0)
        self._show("")

    def _show(self, doing: str) -> None:
        self._display.update(self._task, doing=doing + self._results)


class ClientLines(Lines):
    """Prints what one client of a distributed run does, round by round."""

    def run_begins(self, run: RunInProgress) -> None:
        """Say what the client waits for."""
        print(f"{self.name}: waiting for the server", flush=True)

    def trained(self, rnd: int, client: int, results: Results) -> None:
        """Print the round and the loss on the client's own examples."""
        print(
            f"{self.name}: round {rnd}/{self.rounds}  {_loss_of(results)}",
            flush=True,
        )


class ClientBar(Bar):
    """Shows a bar with the round and the results of one client."""

    def run_begins(self, run: RunInProgress) -> None:
        """Show the bar, and what the client waits for."""
        super().run_begins(run)
        self._show("waiting for the server")

    def round_begins(self, rnd: int, clients: int) -> None:
        """Show what the client does."""
        self._display.update(self._task, completed=rnd - 1)
        self._show("training  ")

    def trained(self, rnd: int, client: int, results: Results) -> None:
        """Show the loss on the client's own examples."""
        self._display.update(self._task, completed=rnd)
        self._show(f"{_loss_of(results)}  ")

    def client_trained(self, client: int) -> None:
        """Nothing more: ``trained`` has been told before."""

    def evaluation_begins(self, clients: int) -> None:
        """Show what the client does."""
        self._show("evaluating  ")

    def client_evaluated(self, client: int) -> None:
        """Nothing: the results follow."""


def progress_for(
    name: str, rounds: int, quiet: bool, is_client: bool = False
) -> list[Listener]:
    """The listeners that show progress: a bar on a terminal, lines elsewhere.

    Args:
        name: the name of the run, which is shown.
        rounds: the number of rounds of the run.
        quiet: whether nothing is shown.
        is_client: whether this is the process of one client.

    """
    if quiet:
        return []
    kinds = (ClientBar, ClientLines) if is_client else (Bar, Lines)
    kind = kinds[0] if sys.stdout.isatty() else kinds[1]
    return [kind(printable(name), rounds)]


def _loss_of(results: Results) -> str:
    """The training loss; a client of another package may not tell it."""
    loss = results.get("train_avg_loss")
    return "trained" if loss is None else f"trained with loss {loss:.4f}"


def _sent(line: Mapping[str, Any]) -> int:
    """The bytes sent so far, from and to the clients."""
    return int(line["uplink_bytes"] + line["downlink_bytes"])


def headline(results: Mapping[str, float]) -> str:
    """The leading metric of validation and test, and the loss."""
    parts = []
    for split in ("val", "test"):
        metric = leading_metric(results, split)
        if metric:
            parts.append(f"{metric} {results[metric]:.4f}")
    loss = results.get("val_avg_loss", results.get("test_avg_loss"))
    if loss is not None:
        parts.append(f"loss {loss:.4f}")
    return "  ".join(parts)
