"""What a federation costs beside the run of one process.

    python benchmarks/federation.py                    # 3 and 10 sites
    python benchmarks/federation.py --sites 3 --rounds 4

The demonstration's data and model (all-MiniLM-L6-v2, LoRA r 8 on query and
value, FedSA), dealt out IID, two batches of four texts a round: so little
training that what is left is the messages.  Each number of sites runs twice in
FLARE's simulator, a process for each site, with one thread each, for two
rounds and for ``2 + rounds``; the difference of the two is that of the rounds.
The standalone run does the same.  *Memory* is the peak resident set of a
site's process.  Bytes are those of the messages' tensors, which must be those
of the standalone run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DEMO = Path(__file__).parent.parent / "yaml_configs/demo/fedsa.yaml"
SETTINGS = (
    *("data.splitter", "iid", "data.splitter_args", "[]"),
    *("train.local_update_steps", "2", "dataloader.batch_size", "4"),
    *("eval.freq", "1000"),
)
WORKER = "simulator_worker"


class Peaks(threading.Thread):
    """Notes the peak memory of the simulator's processes, by their number."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes: dict[int, int] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        """Look until ``is_over`` is set."""
        while not self.is_over.wait(0.5):
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    self._look(entry)

    def _look(self, entry: Path) -> None:
        try:
            if WORKER not in (entry / "cmdline").read_text():
                return
            status = (entry / "status").read_text()
        except (OSError, UnicodeDecodeError):
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.bytes[int(entry.name)] = int(line.split()[1]) * 1024


def run(command: str, sites: int, rounds: int, folder: Path) -> Path:
    """Run the demonstration, and return the folder of its results.

    Args:
        command: ``run`` or ``federate``.
        sites: the number of sites.
        rounds: the number of rounds.
        folder: where the results go.

    """
    name = f"{command}_{sites}_{rounds}"
    words = [sys.executable, "-m", "fs_plugins", command, "--cfg", str(DEMO)]
    words += [*SETTINGS, "outdir", str(folder), "expname", name, "--quiet"]
    words += ["federate.total_round_num", str(rounds)]
    words += ["federate.client_num", str(sites)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        words, check=True, env=environment, stdout=subprocess.DEVNULL
    )
    inside = "server" if command == "federate" else ""
    return folder / name / inside


def main() -> None:
    """Measure, and print a line for each number of sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", default="3,10")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    print("sites  round  standalone  beyond  start  site's memory  bytes")
    for sites in map(int, args.sites.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder, seconds, sent = Path(name), {}, {}
            peaks = Peaks()
            peaks.start()
            for command in ("run", "federate"):
                for rounds in (2, 2 + args.rounds):
                    begin = time.perf_counter()
                    found = run(command, sites, rounds, folder)
                    seconds[command, rounds] = time.perf_counter() - begin
                    summary = json.loads((found / "summary.json").read_text())
                    sent[command, rounds] = summary["communication"]
            peaks.is_over.set()
            peaks.join()
        more = 2 + args.rounds
        each = {
            command: (seconds[command, more] - seconds[command, 2])
            / args.rounds
            for command in ("run", "federate")
        }
        start = seconds["federate", 2] - 2 * each["federate"]
        largest = max(peaks.bytes.values()) / 1e6
        same = sent["run", more] == sent["federate", more]
        print(
            f"{sites:5}  {each['federate']:4.2f}s  {each['run']:9.2f}s  "
            f"{each['federate'] - each['run']:5.2f}s  {start:4.0f}s  "
            f"{largest:10.0f} MB  {'the same' if same else 'OTHER'}"
        )


if __name__ == "__main__":
    main()
