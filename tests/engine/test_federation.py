"""Runs on NVIDIA FLARE itself, as the page on several machines has them.

What is protected: the YAML files and commands of the page work as they are
written, from nothing to three sites and a server with mutual TLS; a B does
not leave a site that does not share it; and the numbers are those of the
standalone run.
"""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import free_port

PAGE = Path(__file__).parents[2] / "docs" / "several-machines.md"
WORDS = [f"w{i}" for i in range(60)]
SITES = ("north", "south", "east")
LEAD = "kits/lead@coordinator.org"
QUICK = (
    *("train.local_update_steps", "2"),
    *("dataloader.batch_size", "4"),
    *("llm.tok_len", "32"),
    *("fedsa.transport.lost_after", "10"),
)


def block(kind, name):
    """A block of the page that begins with ``# name``."""
    pattern = rf"```{kind}\n# {re.escape(name)}\n(.*?)```"
    (text,) = re.findall(pattern, PAGE.read_text("utf-8"), re.S)
    return text


class Place:
    """A folder of a user, whose commands are those of the page."""

    def __init__(self, folder, toy_model):
        self.folder = folder
        self.toy = ("model.type", f"{toy_model}@huggingface_llm")
        binaries = str(Path(sys.executable).parent)
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "PATH": binaries + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(PAGE.parents[1]),
        }
        self.started = []

    def write(self, name, ports=()):
        text = block("yaml", name)
        for old, new in ports:
            text = text.replace(old, str(new))
        (self.folder / name).write_text(text, encoding="utf-8")

    def popen(self, words):
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, code=0):
        process = self.popen([str(word) for word in words])
        out, _ = process.communicate(timeout=240)
        assert process.returncode == code, out
        return out

    def fedsa(self, *words, code=0):
        return self.run(sys.executable, "-m", "fs_plugins", *words, code=code)

    def commands(self, name):
        """Run the commands of a block of the page."""
        for line in block("sh", name).splitlines():
            words = shlex.split(line)
            if words[0] == "fedsa":
                self.fedsa(*words[1:])
            else:
                self.run(*words)

    def start(self):
        """Start FLARE's processes, and see that they end with the test."""
        for line in block("sh", "start").splitlines():
            kit = Path(line).parents[1]
            log = (self.folder / kit / "out.log").open("wb")
            self.started.append(
                subprocess.Popen(
                    ["bash", "startup/start.sh"],
                    cwd=self.folder / kit,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def end(self):
        for process in self.started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in self.pids(str(self.folder)):
            os.kill(pid, signal.SIGKILL)

    def pids(self, *parts):
        """The processes whose command has these parts."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes().decode()
                except OSError:
                    continue
                if all(part in words for part in parts):
                    found.append(int(entry.name))
        return found


@pytest.fixture
def place(tmp_path, toy_model):
    here = Place(tmp_path, toy_model)
    (tmp_path / "data").mkdir()
    rng = random.Random(5)
    for number, name in enumerate(SITES):
        rows = ["report,finding"]
        for _ in range(30 + 5 * number):
            words = " ".join(rng.choices(WORDS, k=5))
            rows.append(f"{words},{rng.choice(['normal', 'fracture'])}")
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join(rows) + "\n")
    here.write("hospitals.yaml")
    yield here
    here.end()


def results(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_on_this_machine(place):
    """In FLARE's simulator, to the bit."""
    words = ("--cfg", "hospitals.yaml", *place.toy, *QUICK)
    words += ("federate.total_round_num", "2")
    place.fedsa("run", *words, "expname", "alone")
    shown = place.fedsa("federate", *words)
    assert "round 2/2" in shown and "results: exp/hospitals/server" in shown
    alone, spread = place.folder / "exp/alone", place.folder / "exp/hospitals"
    assert results(spread / "server") == results(alone)
    for name in SITES:
        found = weights(spread / name / "adapters" / name)
        assert found == weights(alone / "adapters" / name)
    again = place.fedsa("federate", *words, code=2)
    assert "add --resume to go on with it" in again


@pytest.mark.slow
def test_from_nothing_to_a_federation(place):
    """The walk-through, after a job that would send B."""
    ports = (("8002", free_port()), ("8003", free_port()))
    place.write("project.yml", ports)
    place.commands("provision")
    place.commands("prepare")
    toy = place.toy[1]
    for name in SITES:  # the page's model is one that all have
        own = ("--data", f"data/{name}.csv@text", "--model", toy)
        place.fedsa("site", f"kits/{name}", *own)
    place.fedsa("site", "kits/localhost", "--model", toy)
    place.start()
    words = ("--cfg", "hospitals.yaml", *place.toy, *QUICK)
    words += ("federate.total_round_num", "2")
    place.fedsa("run", *words, "expname", "alone")
    kit = ("--startup-kit", LEAD)

    leak = ("federate.method", "fedit", "expname", "leak")
    refused = place.fedsa("federate", *words, *kit, *leak, code=1)
    assert "its own filter has refused a result" in refused
    log = (place.folder / "kits/north/log.txt").read_text()
    logs = log + "".join(
        file.read_text() for file in place.folder.glob("kits/*/*/log.txt")
    )
    assert "lora_B" in logs and "would leave the site, which is B" in logs

    command = block("sh", "run").split()
    assert command[-1] == LEAD
    place.fedsa(*command[1:], *words[2:])
    alone = place.folder / "exp/alone"
    assert results(place.folder / "exp/hospitals/server") == results(alone)
    for name in SITES:
        found = place.folder.glob(f"kits/{name}/fedsa/*/{name}/adapters")
        (adapters,) = found
        assert weights(adapters / name) == weights(alone / "adapters" / name)
    server = place.folder / "exp/hospitals/server"
    assert not list(server.rglob("*north*"))


@pytest.mark.slow
def test_private_keys_stay_where_they_were_made(place):
    """The other way to a startup kit; it takes part as the first one does."""
    place.write("profile.yaml")
    place.write("north.yaml")
    *first, last = block("sh", "keys").splitlines()
    for line in first:
        place.run(*shlex.split(line))
    print_of = ("openssl", "x509", "-in", "ca/rootCA.pem", "-noout")
    text = place.run(*print_of, "-fingerprint", "-sha256")
    fingerprint = "SHA256:" + text.strip().partition("=")[2]
    place.run(*shlex.split(last), "--fingerprint", fingerprint)
    (kit,) = place.folder.glob("own/*/prod_00/north")
    place.fedsa("site", kit, "--data", "data/north.csv@text")
    assert (kit / "startup/client.key").read_text() == (
        place.folder / "north/north.key"
    ).read_text()
    assert not list((place.folder / "ca").rglob("*north*"))
