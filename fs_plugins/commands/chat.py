"""A conversation with a client's language model on the terminal."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fs_plugins.commands.model_card import note_what_is_missing
from fs_plugins.errors import printable
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.chatter import Chatter
from fs_plugins.inference.shared_base import client_called
from fs_plugins.trainer.generate import Decoding

_HELP = "'/new' begins a new conversation, '/end' or Ctrl-D ends it"


def chat(
    folder: Path,
    client: str,
    prompt: str = "",
    system: str = "",
    decoding: Decoding | None = None,
    as_json: bool = False,
) -> None:
    """Answer what is typed, line by line, or one prompt.

    Args:
        folder: the run's folder.
        client: the name or the number of a client, or ``global``.
        prompt: the only thing to answer; empty to read lines.
        system: the system prompt.
        decoding: how the tokens of answers are chosen.
        as_json: whether each answer is a JSON object on a line.

    Raises:
        UserError: the run or the client cannot be used.

    """
    run = load_run(folder)
    note_what_is_missing(run, client)
    chatter = Chatter(
        run,
        client_called(run, client),
        decoding or Decoding(256, 1),
    )
    is_typed = not prompt and sys.stdin.isatty()
    if is_typed:
        print(f"{client} of {run.name}; {_HELP}", file=sys.stderr)
    for line in [prompt] if prompt else _lines(is_typed):
        if line == "/new":
            chatter.forget()
            continue
        answer = chatter.say(line, system)
        if as_json:
            print(json.dumps({"prompt": line, "answer": answer}), flush=True)
        else:
            shown = (printable(part) for part in answer.splitlines())
            print("\n".join(shown), flush=True)


def _lines(is_typed: bool) -> Iterator[str]:
    """What is typed, or comes from a file, until its end or ``/end``."""
    while True:
        try:
            line = input("> " if is_typed else "").strip()
        except EOFError:
            return
        if line == "/end":
            return
        if line:
            yield line
