"""What can go wrong with machines and people, caused, and what comes of it."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import (
    assert_near,
    copied,
    everything_of,
    folder_of,
    payload_of,
    record,
    whole_of,
)
from safetensors.torch import load_file

from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.folder import locked
from fs_plugins.experiment.runner import resume

# Disks


@contextlib.contextmanager
def quota(size: int):
    """No file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [2_000, 8_000, 15_000, 25_000])
def test_a_quota(lab, size):
    """One sentence; with more room the run goes on as if nothing had been."""
    changes = {"federate__total_round_num": 8}
    whole = whole_of(lab, **changes)
    with quota(size), pytest.raises((RunError, UserError)) as stopped:
        lab.run(**changes)
    sentence = str(stopped.value)
    assert "cannot be written" in sentence and "\n" not in sentence
    if isinstance(stopped.value, UserError):  # before there was a run
        assert size == 2_000
        return
    folder = folder_of(lab)
    assert f"fedsa run --resume {folder}" in sentence
    assert not list(folder.rglob("*.part"))
    resume(folder, quiet=True)
    assert everything_of(folder) == whole


@pytest.mark.slow
def test_a_full_disk(lab, tmp_path):
    """A disk of 160 kB; where none can be mounted, a quota in its place."""
    changes = {"federate__total_round_num": 12}
    whole = whole_of(lab, **changes)
    file, disk, out = lab.file(**changes), tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    begin = f"{sys.executable} -m fs_plugins run --quiet --cfg {file}"
    begin += f" outdir {disk} expname full"
    again = f"{sys.executable} -m fs_plugins run --quiet --resume {disk}/full"
    mount = f"mount -t tmpfs -o size=160k tmpfs {disk}"
    can = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], capture_output=True
    )
    if can.returncode == 0:
        more = f"mount -o remount,size=100m {disk}"
        shell = ["unshare", "-rm", "sh", "-c"]
    else:
        mount, more = "ulimit -S -f 20", "ulimit -S -f unlimited"
        shell = ["sh", "-c"]
    script = f"""
        {mount}; {begin}; echo $?
        find {disk} -name '*.part' -o -name summary.json
        {more}; {again}; echo $?
        cp -r {disk}/full {out}
    """
    ran = subprocess.run([*shell, script], capture_output=True, text=True)
    assert ran.stdout.split() == ["1", "0"], ran.stdout + ran.stderr
    sentence, *rest = ran.stderr.strip().splitlines()
    assert not rest
    assert sentence.startswith("fedsa: ") and "cannot be written" in sentence
    assert f"'fedsa run --resume {disk}/full' goes on" in sentence
    again = everything_of(out)
    # FederatedScope's log has metrics in the order of a process's sets.
    assert again.pop("host") and whole.pop("host")
    assert again == whole


@contextlib.contextmanager
def not_root():
    """Root may write anywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def public():
    """A folder that everyone can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_is_read_only(lab, public, fedsa):
    file = shutil.copy(lab.file(), public)
    public.chmod(0o555)
    with not_root():
        found = fedsa("run", "--cfg", file, "outdir", public / "exp")
    assert found.returncode == 2
    assert "cannot be made: Permission denied" in found.stderr
    assert [path.name for path in public.iterdir()] == [Path(file).name]


def test_a_run_that_may_no_longer_be_written_to(lab, public, fedsa):
    folder = Path(lab.run()["outdir"])
    (folder / "summary.json").unlink()
    moved = public / "run"
    shutil.copytree(folder, moved)
    before = everything_but_the_summary(moved)
    if os.geteuid() == 0:  # What is private is only its owner's to read.
        for path in (moved, *moved.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    (moved / "lock").chmod(0o444)
    moved.chmod(0o555)
    with not_root():
        found = fedsa("run", "--resume", moved)
    moved.chmod(0o755)
    assert found.returncode == 2
    assert "cannot be written to: Permission denied" in found.stderr
    assert everything_but_the_summary(moved) == before


def everything_but_the_summary(folder: Path) -> dict:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_disk_that_becomes_read_only(lab, monkeypatch):
    """What was finished is there; then the run goes on."""
    from fs_plugins.experiment.checkpoint import Checkpoints

    whole = whole_of(lab)
    write = Checkpoints.write
    with contextlib.ExitStack() as stack:

        def written(self):
            if self._runner.server.state == 2:
                stack.enter_context(not_root())
                self.folder.parent.chmod(0o555)
                self.folder.chmod(0o555)
            return write(self)

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "write", written)
            with pytest.raises(RunError, match="cannot be written"):
                lab.run()
    folder = folder_of(lab)
    for path in (folder, folder / "checkpoints"):
        path.chmod(0o755)
    rounds = {f.name for f in folder.glob("checkpoints/round_*")}
    assert rounds == {"round_1"}
    resume(folder, quiet=True)
    assert everything_of(folder) == whole


# People


def test_two_processes_in_one_folder(lab, fedsa):
    folder = Path(lab.run()["outdir"])
    (folder / "summary.json").unlink()
    before = everything_but_the_summary(folder)
    before = {k: v for k, v in before.items() if not k.endswith("lock")}
    with locked(folder):
        found = fedsa("run", "--resume", folder)
    assert found.returncode == 2
    assert f"is in use by process {os.getpid()};" in found.stderr
    after = everything_but_the_summary(folder)
    assert before == {k: v for k, v in after.items() if not k.endswith("lock")}
    assert fedsa("run", "--quiet", "--resume", folder).returncode == 0


def test_two_comparisons_in_one_folder(lab, fedsa, tmp_path):
    out = tmp_path / "compared"
    out.mkdir()
    with locked(out):
        found = fedsa("compare", lab.file(), "--out", out)
    assert found.returncode == 2 and "is in use" in found.stderr
    assert [path.name for path in out.iterdir()] == ["lock"]


# Training that goes wrong


def test_a_loss_that_is_nan_costs_its_client_the_round(lab):
    """B goes back to where it was, nothing is sent, the others go on."""
    from federatedscope.core.trainers.context import CtxVar
    from federatedscope.core.trainers.enums import LIFECYCLE

    runner = lab.runner(federate__total_round_num=3)
    client = runner.client[2]
    forward = client.trainer._hook_on_batch_forward
    kept = {}

    def spoil(ctx):
        forward(ctx)
        if ctx.cur_mode == "train" and client.state == 1:
            kept.setdefault("before", copied(client.kept.values))
            spoilt = ctx.loss_batch * float("nan")
            ctx.loss_batch = CtxVar(spoilt, LIFECYCLE.BATCH)

    client.trainer.replace_hook_in_train(
        spoil, "on_batch_forward", "_hook_on_batch_forward"
    )
    receive = runner.server.callback_funcs_model_para

    def received(message):
        if message.state == 1 and message.sender == 2:
            kept["after"] = copied(client.kept.values)
        return receive(message)

    runner.server.register_handlers("model_para", received, [None])
    sent = record(runner)
    runner.run()
    updates = {
        m.sender: m
        for m in sent
        if m.msg_type == "model_para" and m.state == 1
    }
    samples, reason = updates[2].content
    assert samples == 0 and reason == "its loss is not finite"
    for name, value in kept["before"].items():
        assert torch.equal(value, kept["after"][name])
    assert any(v.any() for n, v in kept["before"].items() if "lora_B" in n)
    assert runner.server.rejected_updates == 1
    # Round 2 begins with the average of the two others.
    begun = next(
        m
        for m in sent
        if m.msg_type == "model_para" and m.state == 2 and m.sender == 0
    )
    from safetensors.torch import load

    good = [
        (updates[i].content[0], load(payload_of(updates[i]))) for i in (1, 3)
    ]
    total = sum(samples for samples, _ in good)
    for name, value in load(begun.content).items():
        mean = sum(n * tensors[name] for n, tensors in good) / total
        assert_near(value, mean)
    assert runner.server.is_finish


def test_parameters_that_are_not_finite_are_noticed_too(lab):
    """A loss may be fine before the step that spoils the parameters."""
    with pytest.raises(RunError, match="without 1 good update"):
        lab.run(
            train__local_update_steps=1,
            train__optimizer__lr=1e38,
            train__optimizer__momentum=0.0,
        )
    log = (folder_of(lab) / "exp_print.log").read_text()
    assert "not finite" in log


def test_when_all_fail_the_run_stops_and_can_be_resumed(lab, monkeypatch):
    """The global parameters stay; with the fault gone, it ends as ever."""
    from fs_plugins.worker.client import FedSAClient

    whole = whole_of(lab)
    divergence = FedSAClient._divergence
    with monkeypatch.context() as patch:
        patch.setattr(
            FedSAClient,
            "_divergence",
            lambda self, results: (
                "a test" if self.state == 1 else divergence(self, results)
            ),
        )
        with pytest.raises(RunError) as stopped:
            lab.run(fedsa__checkpoint__every=0)
    folder = folder_of(lab)
    assert "round 2 was repeated 10 times" in str(stopped.value)
    assert f"fedsa run --resume {folder}" in str(stopped.value)
    newest = folder / "checkpoints/round_1"
    assert newest.is_dir()
    resume(folder, quiet=True)
    again = everything_of(folder)
    assert again["adapters"] == whole["adapters"]
    lines = again["metrics"].splitlines()
    assert len(lines) == 3


# FederatedScope's own way to save


def test_federatedscopes_own_saving_goes_on_working(lab, tmp_path):
    best = tmp_path / "saved/model.pt"
    lab.run(
        federate__save_to=str(best),
        federate__save_freq=2,
        federate__total_round_num=4,
    )
    names = {path.name for path in best.parent.iterdir()}
    assert {"model.pt", "2_model.pt", "final_model.pt"} <= names
    final = torch.load(best.with_name("final_model.pt"))
    saved = load_file(
        folder_of(lab) / "adapters/global" / "adapter_model.safetensors"
    )
    for name, value in final["model"].items():
        plain = name.replace(".default", "")
        torch.testing.assert_close(saved[plain], value)


@pytest.mark.parametrize("share_model", [True, False])
def test_a_run_can_start_from_what_federatedscope_saved(
    lab, tmp_path, share_model
):
    lab.run(federate__save_to=str(tmp_path / "model.pt"))
    final = torch.load(tmp_path / "final_model.pt")["model"]
    runner = lab.runner(
        federate__restore_from=str(tmp_path / "final_model.pt"),
        federate__share_local_model=share_model,
    )
    for name, value in runner.server.aggregator.shared.items():
        torch.testing.assert_close(value, final[name])
    sent = record(runner)
    runner.run()
    from safetensors.torch import load

    first = next(m for m in sent if m.msg_type == "model_para")
    for name, value in load(first.content).items():
        torch.testing.assert_close(value, final[name])
