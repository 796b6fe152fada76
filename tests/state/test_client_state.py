"""What a client keeps comes back bit for bit, wherever it is kept."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import Process

from fs_plugins.errors import UserError
from fs_plugins.state.client_state import Cache, StateInMemory, StateOnDisk
from fs_plugins.state.files import link_file, read_tensors, write_file
from fs_plugins.state.process_state import StateOfProcess

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@st.composite
def tensors(draw, scale=1.0):
    """A few named tensors of odd shapes and types."""
    found = {}
    names = st.text("abc.", min_size=1, max_size=6)
    for name in draw(st.sets(names, min_size=1, max_size=4)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
        value = torch.randn(shape, generator=generator) * scale
        found[name] = value.to(draw(st.sampled_from(DTYPES)))
    return found


def kept_in(backend, initial, folder, limit=10_000):
    if backend == "memory":
        return StateInMemory(initial)
    return StateOnDisk(initial, folder / "own.safetensors", Cache(limit))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("backend", ["memory", "disk"])
@given(initial=tensors(), steps=st.integers(0, 3), limit=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_was_saved_last_comes_back(
    tmp_path_factory, backend, initial, steps, limit
):
    """Also through a checkpoint's file, into either backend."""
    folder = tmp_path_factory.mktemp("kept")
    kept = kept_in(backend, initial, folder, limit)
    expected = initial
    for step in range(steps):
        expected = {n: t + step + 1 for n, t in initial.items()}
        given_ = {n: t.clone() for n, t in expected.items()}
        kept.save(given_)
        for tensor in given_.values():
            tensor.zero_()  # it was copied
    assert kept.version == steps
    same(kept.values, expected)
    assert not kept.optimizer
    if not steps:
        return
    file = folder / "checkpoint/client_1.safetensors"
    kept.write(file)
    kept.save(initial)
    for other in ("memory", "disk"):
        (folder / other).mkdir()
        again = kept_in(other, initial, folder / other, limit)
        again.restore(file)
        same(again.values, expected)
        again.forget()
        same(again.values, initial)
    same(kept.values, initial)
    same(read_tensors(file), expected)


@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_optimizer_state_lies_beside_the_parameters(tmp_path, backend):
    initial = {"B": torch.zeros(2, 3)}
    state = {"optimizer.step.B": torch.tensor(4.0)}
    kept = kept_in(backend, initial, tmp_path)
    kept.save({"B": torch.ones(2, 3), **state})
    same(kept.values, {"B": torch.ones(2, 3)})
    same(kept.optimizer, state)
    more = {"optimizer.exp_avg.B": torch.full((2, 3), 0.5), **state}
    kept.save({"B": torch.ones(2, 3), **more})
    same(kept.optimizer, more)


def of(rank=2, name="B", fill=1.0):
    return {name: torch.full((4, rank), fill)}


@pytest.mark.parametrize(
    "written, reason",
    [
        (of(rank=3), "has shape (4, 3), expected (4, 2)"),
        (of(name="C"), "'B' is missing"),
        ({**of(), **of(name="C")}, "'C' does not belong in it"),
        ({"B": of()["B"].half()}, "is torch.float16, expected torch.float32"),
        (of(fill=float("nan")), "not finite"),
    ],
)
@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_what_does_not_fit_is_refused_by_name(
    tmp_path, backend, written, reason
):
    """And what was kept stays as it was."""
    file = tmp_path / "checkpoint.safetensors"
    StateInMemory({}).write(file)
    other = StateInMemory(written)
    other.save(written)
    other.write(file)
    kept = kept_in(backend, of(), tmp_path)
    kept.save(of(fill=7.0))
    with pytest.raises(UserError) as refused:
        kept.restore(file)
    assert str(file) in str(refused.value) and reason in str(refused.value)
    same(kept.values, of(fill=7.0))


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_noticed(tmp_path_factory, at, bit, cut):
    """Any bit that flips, any end that is missing."""
    folder = tmp_path_factory.mktemp("damaged")
    kept = kept_in("disk", of(), folder)
    kept.save(of(fill=3.0))
    data = kept.file.read_bytes()
    at %= len(data)
    spoilt = (
        data[:at]
        if cut
        else (data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
    )
    write_file(kept.file, spoilt)
    again = kept_in("disk", of(), folder)
    try:
        again.find()
    except UserError as error:
        assert str(kept.file) in str(error)
    else:  # a space more in the header, or a key that nobody reads
        same(again.values, of(fill=3.0))


def test_the_cache_is_bounded(tmp_path):
    cache = Cache(1000)
    clients = [
        StateOnDisk(of(), tmp_path / f"client_{i}", cache) for i in range(100)
    ]
    for number, kept in enumerate(clients):
        kept.save(of(fill=float(number)))
    for _ in range(2):
        for number, kept in enumerate(clients):
            same(kept.values, of(fill=float(number)))
            assert cache.size <= 1000
            assert cache.size == 32 * len(cache._files)
    assert len(cache._files) == 1000 // 32
    too_large = {"B": torch.ones(1000)}
    kept = StateOnDisk(too_large, tmp_path / "large", cache)
    kept.save(too_large)
    same(kept.values, too_large)
    assert cache.size <= 1000


def test_a_link_is_no_copy_and_no_alias(tmp_path):
    """Both names cost one file; replacing one leaves the other."""
    old, new = tmp_path / "old", tmp_path / "deep/new"
    write_file(old, b"first")
    link_file(old, new)
    assert os.path.samefile(old, new)
    write_file(old, b"second")
    assert (old.read_bytes(), new.read_bytes()) == (b"second", b"first")
    link_file(old, new)
    assert new.read_bytes() == b"second"


def test_where_there_are_no_links_it_is_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    old, new = tmp_path / "old", tmp_path / "new"
    write_file(old, b"first")
    link_file(old, new)
    assert not os.path.samefile(old, new)
    assert new.read_bytes() == b"first"


@pytest.mark.parametrize("private", [True, False])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, private):
    """In a folder that others may write to, it could lead anywhere."""
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"untouched")
    file.with_name("file.part").symlink_to(victim)
    write_file(file, b"new", private=private)
    assert victim.read_bytes() == b"untouched"
    assert file.read_bytes() == b"new" and not file.is_symlink()


def test_what_a_client_keeps_is_for_its_owner_only(lab):
    """Its state, its checkpoints and its adapter; not the results."""
    umask = os.umask(0)
    try:
        summary = lab.run(fedsa__state__backend="disk")
    finally:
        os.umask(umask)
    folder = Path(summary["outdir"])
    private = [*folder.rglob("*.safetensors")]
    parts = {file.relative_to(folder).parts[0] for file in private}
    assert parts == {"state", "checkpoints", "adapters"}
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}
    assert (folder / "summary.json").stat().st_mode & 0o777 == 0o666


def write_and_be_killed(file, operations):
    """Write anew; be killed after so many operations on the file."""

    def heard(event, args):
        nonlocal operations
        if event in ("open", "os.rename") and str(file) in str(args[0]):
            operations -= 1
            if operations < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
    write_file(file, b"new" * 100_000)


@pytest.mark.parametrize("operations", [0, 1, 2])
def test_a_crash_leaves_the_old_file_or_the_new(tmp_path, operations):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    process = Process(write_and_be_killed, file, operations)
    process.communicate()
    # Opening the part and renaming it are two operations.
    assert process.returncode == (0 if operations == 2 else -9)
    assert file.read_bytes() == (
        b"new" * 100_000 if operations == 2 else b"old"
    )


def shared(folder):
    """A folder in which everybody may write, as /tmp."""
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_parts_have_names_that_nobody_foresees(tmp_path, monkeypatch):
    """And one that is there nevertheless is neither followed nor used."""
    names = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (names.append(a.name), replace(a, b))
    )
    file, victim = tmp_path / "file", tmp_path / "victim"
    for _ in range(20):
        write_file(file, b"new")
    assert len({*names}) == 20
    victim.write_bytes(b"untouched")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    part = tmp_path / f"file.{'0' * 16}.part"
    for make in (part.symlink_to, part.hardlink_to):
        make(victim)
        with pytest.raises(FileExistsError):
            write_file(file, b"newer")
        part.unlink(missing_ok=True)
    assert victim.read_bytes() == b"untouched"
    assert file.read_bytes() == b"new"


def write_often(file, letter):
    for _ in range(100):
        write_file(file, letter * 1000)


def test_several_processes_write_one_file(tmp_path):
    """The file is always one of theirs, and whole."""
    file = tmp_path / "file"
    letters = (b"a", b"b", b"c")
    processes = [Process(write_often, file, letter) for letter in letters]
    while any(process.returncode is None for process in processes):
        if file.exists():
            assert file.read_bytes() in [letter * 1000 for letter in letters]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("kind", ["link", "file", "folder of another user"])
def test_a_folder_that_another_user_has_put_there(tmp_path, monkeypatch, kind):
    """In a shared place such as /tmp it is refused by a sentence."""
    place, victim = shared(tmp_path / "place"), tmp_path / "victim"
    victim.mkdir()
    folder = place / "run"
    if kind == "link":
        folder.symlink_to(victim)
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        lstat = os.lstat

        def of_another(path, *args, **kwargs):
            found = lstat(path, *args, **kwargs)
            if Path(path) != folder:
                return found
            values = [*found]
            values[4] = found.st_uid + 1
            return os.stat_result(values)

        monkeypatch.setattr(os, "lstat", of_another)
    kept = StateOnDisk(of(), folder / "client_1.safetensors", Cache(0))
    with pytest.raises(UserError, match=str(folder)):
        kept.save(of())
    assert not [*victim.iterdir()]
    assert kind == "file" or not [*folder.iterdir()]


@pytest.mark.parametrize("kind", ["symbolic", "of another user"])
def test_a_clients_file_that_another_user_has_put_there(
    tmp_path, monkeypatch, kind
):
    other = StateOnDisk(of(), tmp_path / "a" / "client_1", Cache(0))
    other.save(of(fill=9.0))
    kept = StateOnDisk(of(), tmp_path / "b" / "client_1", Cache(0))
    kept.save(of())
    if kind == "symbolic":
        kept.file.unlink()
        kept.file.symlink_to(other.file)
    else:
        lstat = os.lstat

        def of_another(path, *args, **kwargs):
            values = [*lstat(path, *args, **kwargs)]
            values[4] += Path(path) == kept.file
            return os.stat_result(values)

        monkeypatch.setattr(os, "lstat", of_another)
    again = StateOnDisk(of(), kept.file, Cache(0))
    with pytest.raises(UserError, match="another user"):
        again.find()
    same(other.values, of(fill=9.0))


def test_a_hard_link_in_the_place_of_a_clients_file_is_replaced(tmp_path):
    """And not written into."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    kept = StateOnDisk(of(), tmp_path / "run" / "client_1", Cache(0))
    kept.save(of())
    kept.file.unlink()
    os.link(victim, kept.file)
    kept.save(of(fill=2.0))
    assert victim.read_bytes() == b"untouched"
    same(kept.values, of(fill=2.0))


def test_nobody_else_enters_the_folders_of_what_is_private(lab):
    """What is private, and what keeps the umask, as the documents say."""
    umask = os.umask(0)
    try:
        out = lab.run(fedsa__state__backend="disk")["outdir"]
    finally:
        os.umask(umask)
    folder = Path(out)
    private = {"state", "checkpoints", "adapters", "exp_print.log"}
    for path in folder.iterdir():
        mode = path.stat().st_mode & 0o777
        is_private = path.name in private
        assert (mode & 0o077 == 0) is is_private, path
    for path in folder.rglob("*"):
        inner = path.relative_to(folder).parts
        if path.is_dir() and len(inner) < 4:
            assert path.stat().st_mode & 0o777 == 0o700, path
    tokens = [*(lab.folder / "tokens").iterdir()]
    assert tokens and all(t.stat().st_mode & 0o777 == 0o600 for t in tokens)
    assert (lab.folder / "tokens").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_before_is_closed_to_writers(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    StateOnDisk(of(), folder / "client_1", Cache(0)).save(of())
    assert folder.stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    kept = StateOnDisk(of(), tmp_path / "run" / "client_1", Cache(0))
    kept.save(of())
    own = kept.file.with_name(f"client_1.{'0' * 16}.part")
    others = [kept.file.with_name(n) for n in ("client_2", "client_1.part")]
    others.append(kept.file.with_name(f"client_2.{'0' * 16}.part"))
    for file in (own, *others):
        file.write_bytes(b"half")
    state = StateOfProcess(of(), kept.file, Cache(0))
    state.open()  # As it holds the lock, nobody else is writing.
    state.close()
    assert not own.exists() and all(file.exists() for file in others)
