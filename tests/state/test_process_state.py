"""One process writes a client's state, and no newer state is replaced."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import Process
from safetensors.torch import load_file

from fs_plugins.errors import RunError, UserError
from fs_plugins.state.client_state import Cache
from fs_plugins.state.files import read_facts, write_file
from fs_plugins.state.process_state import StateOfProcess

INITIAL = {"B": torch.zeros(2, 3)}


def state_in(folder, limit=10_000):
    file = folder / "client_2.safetensors"
    return StateOfProcess(INITIAL, file, Cache(limit))


def train(kept, rnd, by=1.0):
    """A round that adds a number to all values."""
    kept.begin(rnd)
    kept.save({"B": kept.values["B"] + by})


def value(kept):
    (found,) = set(kept.values["B"].flatten().tolist())
    return found


def open_it(folder):
    state_in(folder).open()


def test_a_second_process_is_refused_and_changes_nothing(tmp_path):
    kept = state_in(tmp_path)
    kept.open()
    train(kept, 1)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    second = Process(open_it, tmp_path)
    _, err = second.communicate()
    assert f"is kept by process {os.getpid()} of the same client" in err
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    train(kept, 2)  # the files were replaced, and the lock holds
    with pytest.raises(UserError, match="is kept by process"):
        state_in(tmp_path).open()
    kept.close()
    again = state_in(tmp_path)
    again.open()
    assert (again.round, value(again)) == (2, 2.0)


def test_a_process_that_wakes_up_late_replaces_nothing(tmp_path):
    """Also where the file system knows no locks: nobody has opened it."""
    late, other = state_in(tmp_path), state_in(tmp_path)
    train(late, 1)
    other.find()
    train(other, 2)
    train(other, 3)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    late.begin(2)
    with pytest.raises(RunError, match=r"is of round 3 by another process"):
        late.save({"B": torch.full((2, 3), 9.0)})
    with pytest.raises(RunError, match=r"is of round 3 by another process"):
        late.begin(1)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_file_of_another_process_is_not_taken_for_none(tmp_path):
    late, other = state_in(tmp_path), state_in(tmp_path)
    late.find()
    train(other, 1)
    with pytest.raises(RunError, match="is of round 1"):
        train(late, 1)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans())),
    st.integers(0, 200),
)
@settings(max_examples=40)
def test_a_round_that_is_repeated_begins_where_it_began(
    tmp_path_factory, steps, limit
):
    """Rounds are left out, repeated, and followed by a start, at will."""
    folder = tmp_path_factory.mktemp("rounds")
    kept = state_in(folder, limit)
    kept.open()
    began = {0: 0.0}  # the value after each round, as it should be
    rnd = 0
    for number, (step, repeats, restarts) in enumerate(steps, 1):
        before = began[rnd]
        rnd += step
        for by in (number, 10.0 * number)[: 1 + repeats]:
            train(kept, rnd, by)
            began[rnd] = before + by
            if restarts:
                kept.close()
                kept = state_in(folder, limit)
                kept.open()
            assert value(kept) == began[rnd]
            assert kept.round == rnd
    kept.close()


def test_without_older_values_the_newest_serve(tmp_path):
    """A server that goes back several rounds costs a client nothing."""
    kept = state_in(tmp_path)
    for rnd in range(1, 10):
        train(kept, rnd)
    kept.begin(5)
    assert value(kept) == 9.0
    kept.save({"B": kept.values["B"] + 1})
    train(kept, 6)
    assert (kept.round, value(kept)) == (6, 11.0)


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_older_values_that_are_gone_are_no_loss(tmp_path, how):
    kept = state_in(tmp_path)
    train(kept, 1)
    train(kept, 2)
    older = tmp_path / "client_2.previous.safetensors"
    assert load_file(older)["B"].eq(1).all()
    if how == "damaged":
        write_file(older, older.read_bytes()[:-2])
    else:
        older.unlink()
    kept.begin(2)
    assert value(kept) == 2.0 and load_file(kept.file)["B"].eq(2).all()


def test_a_round_that_fails_leaves_the_values_before_it(tmp_path):
    kept = state_in(tmp_path)
    train(kept, 1)
    train(kept, 2)
    kept.begin(2)  # and nothing is saved
    again = state_in(tmp_path)
    again.find()
    assert (again.round, value(again)) == (1, 1.0)


def test_another_number_of_the_round_is_noticed(tmp_path):
    kept = state_in(tmp_path)
    train(kept, 7)
    assert read_facts(kept.file) == {"round": "7", "before": "0"}
    data = kept.file.read_bytes()
    assert data.count(b'"round":"7"') == 1
    write_file(kept.file, data.replace(b'"round":"7"', b'"round":"5"'))
    with pytest.raises(UserError, match="checksum is wrong"):
        state_in(tmp_path).find()
    write_file(kept.file, data.replace(b'"round":"7"', b'"round":"x"'))
    with pytest.raises(UserError, match="its round is no number"):
        kept.save(INITIAL)


def test_only_the_owner_may_read_what_is_kept(tmp_path):
    kept = state_in(tmp_path)
    kept.receive({"A": torch.ones(2)})
    train(kept, 1)
    train(kept, 2)
    files = [*tmp_path.glob("*.safetensors")]
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
