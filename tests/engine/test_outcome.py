"""How a job has ended."""

import json

import pytest

from fs_plugins.engine.outcome import Outcome, read_outcome, write_outcome
from fs_plugins.errors import Interrupted, RunError, UserError


@pytest.mark.parametrize(
    "error, has_lost, expected",
    [
        (None, False, Outcome("finished")),
        (None, True, Outcome("finished")),
        (UserError("no"), True, Outcome("wrong input", "no")),
        (RunError("site-2: gone"), False, Outcome("failed", "site-2: gone")),
        (RunError("é"), True, Outcome("failed", "é", True)),
        (Interrupted("ended", 15), True, Outcome("ended", "ended")),
    ],
)
def test_it_is_read_as_it_was_written(tmp_path, error, has_lost, expected):
    folder = tmp_path / "new" / "folder"
    write_outcome(folder, error, has_lost)
    assert read_outcome(folder) == expected


def test_the_newest_one_counts(tmp_path):
    write_outcome(tmp_path, RunError("no"), True)
    write_outcome(tmp_path, None, False)
    assert read_outcome(tmp_path) == Outcome("finished")


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "5", "{}", '{"kind": "failed"}', "\xff\0"]
)
def test_a_server_that_was_killed_has_not_said_it(tmp_path, text):
    write_outcome(tmp_path, None, False)
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["kind"] == "finished"
    file.unlink()
    if text is not None:
        file.write_text(text, encoding="latin-1")
    assert read_outcome(tmp_path) is None
