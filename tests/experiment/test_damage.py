"""What is damaged in a run's folder is refused, or does not matter."""

import shutil

import hypothesis
import hypothesis.strategies as st
import pytest
from helpers import (
    Killed,
    everything_of,
    folder_of,
    kill_in_round,
    resumed,
    whole_of,
)

from fs_plugins.errors import UserError


def test_a_spoilt_log_is_no_reason_to_remove_a_checkpoint(lab, monkeypatch):
    """No earlier checkpoint could go on from it either."""
    whole = whole_of(lab)
    with monkeypatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run()
    folder = folder_of(lab)
    log = folder / "metrics.jsonl"
    good = log.read_bytes()
    for spoilt in (good[:20], good.replace(b"0", b"1", 1), b""):
        log.write_bytes(spoilt)
        with pytest.raises(UserError, match=r"metrics\.jsonl") as refused:
            resumed(folder)
        assert "repair it" in str(refused.value)
        assert "remove" not in str(refused.value)
    log.write_bytes(good)
    assert everything_of(resumed(folder)) == whole


@pytest.mark.slow
@hypothesis.settings(
    max_examples=25,
    derandomize=True,
)
@hypothesis.given(
    number=st.integers(0, 10**6),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    edit=st.sampled_from(["flip", "flip", "cut", "double", "empty"]),
)
def test_any_damage_is_refused_or_without_effect(
    killed_run, number, place, bit, edit
):
    """One bit, or more, of any file that a resumed run reads."""
    whole, original = killed_run
    folder = original.with_name("spoilt")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.name not in ("exp_print.log", "lock", "label_counts.json")
    )
    file = files[number % len(files)]
    data = file.read_bytes()
    at = int(place * len(data))
    spoilt = {
        "flip": data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        if data
        else b"x",
        "cut": data[:at],
        "double": data + data,
        "empty": b"",
    }[edit]
    file.unlink()
    file.write_bytes(spoilt)
    try:
        resumed(folder)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert everything_of(folder) == whole


@pytest.fixture(scope="module")
def killed_run(make_lab, tmp_path_factory):
    """What a run ends with, and the folder of one that was killed."""
    lab = make_lab(tmp_path_factory.mktemp("killed"))
    whole = whole_of(lab)
    with pytest.MonkeyPatch.context() as patch:
        kill_in_round(patch, 2)
        with pytest.raises(Killed):
            lab.run(expname="killed")
    return whole, folder_of(lab)
