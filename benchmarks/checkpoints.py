"""What it costs to lose nothing: checkpoints, and the store on disk.

    python benchmarks/checkpoints.py              # 100 and 1000 clients
    python benchmarks/checkpoints.py --rounds 20

all-MiniLM-L6-v2 with LoRA r 8 on query and value, FedSA.  *Checkpoints*: of
100 clients, when all, ten or none of them have trained since the checkpoint
before.  Bytes are those of the files that are not links to files of the
checkpoint before.  *Store*: 1000 clients, with B and head as large as
MiniLM's, are written and read once in a pass, in random order; ``--rounds`` is
the number of passes.  All figures are medians.  The files go to ``--folder``.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch


def build(clients: int, folder: Path) -> Any:
    """The demonstration's federation, not yet run.

    Args:
        clients: how many clients there are.
        folder: the run's folder.

    """
    import fs_plugins  # noqa: F401  makes federatedscope importable
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.runner import build_runner

    demo = Path(__file__).parent.parent / "yaml_configs/demo/fedsa.yaml"
    cfg = load_config(
        demo,
        [
            *("outdir", str(folder)),
            *("federate.client_num", str(clients)),
            *("data.splitter", "iid"),
            *("data.splitter_args", "[]"),
        ],
    )
    return build_runner(cfg)


def train(clients: list[Any]) -> None:
    """Let each client keep new random values, as if it had trained."""
    for client in clients:
        values = {
            name: torch.randn_like(value)
            for name, value in client.kept.values.items()
        }
        client.kept.save(values)


def timed(action: Callable[[], Any]) -> float:
    """The seconds that an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def checkpoints(folder: Path, rounds: int) -> None:
    """Print the size and the time of checkpoints, and the time to load one.

    Args:
        folder: the run's folder.
        rounds: how many checkpoints are written for each line.

    """
    from fs_plugins.experiment.checkpoint import Checkpoints
    from fs_plugins.experiment.recorder import Recorder
    from fs_plugins.experiment.run_folder import RunFolder

    runner = build(100, folder)
    recorder = Recorder(runner.cfg, {})
    written = Checkpoints(runner, recorder)
    clients = list(runner.client.values())
    print("100 clients      written    bytes")
    for changed in (100, 10, 0):
        seconds, sizes = [], []
        for _ in range(rounds):
            runner.server.state += 1
            train(random.sample(clients, changed))
            seconds.append(timed(written.write))
            newest = RunFolder(runner.cfg.outdir).checkpoints()[-1]
            sizes.append(new_bytes(newest.path))
        print(
            f"{changed:3} have changed {statistics.median(seconds):6.3f} s"
            f"  {statistics.median(sizes) / 1e6:6.2f} MB"
        )
    again = Checkpoints(runner, recorder)
    seconds = [timed(lambda: again.restore_parameters(newest))]
    print(f"taken up again   {seconds[0]:6.3f} s")


def new_bytes(checkpoint: Path) -> int:
    """The bytes of the files that no other checkpoint has a link to."""
    files = [os.stat(path) for path in checkpoint.iterdir()]
    return sum(about.st_size for about in files if about.st_nlink == 1)


def store(folder: Path, passes: int) -> None:
    """Print how many clients a second are written and read.

    Args:
        folder: where the store on disk puts its files.
        passes: how often all clients are written and read.

    """
    from fs_plugins.state.client_state import Cache, StateInMemory, StateOnDisk

    like = {f"B{i}": torch.randn(384, 8) for i in range(12)}
    like["head"] = torch.randn(5, 384)
    size = sum(t.nbytes for t in like.values())
    print(f"\n1000 clients of {size / 1000:.0f} kB   write      read")
    for name, limit in (
        ("memory", 0),
        ("disk, cache 64 MB", 64),
        ("disk, no cache", 0),
    ):
        cache = Cache(int(limit * 1e6))
        clients: list[Any] = [
            StateInMemory(like)
            if name == "memory"
            else StateOnDisk(like, folder / f"client_{i}.safetensors", cache)
            for i in range(1000)
        ]
        writes, reads = [], []
        for _ in range(passes):
            random.shuffle(clients)
            writes.append(timed(partial(write_all, clients, like)))
            random.shuffle(clients)
            reads.append(timed(partial(read_all, clients)))
        print(
            f"{name:20} {1000 / statistics.median(writes):8.0f}/s"
            f" {1000 / statistics.median(reads):8.0f}/s"
        )


def write_all(clients: list[Any], values: Any) -> None:
    """Save the same values for each client."""
    for client in clients:
        client.save(values)


def read_all(clients: list[Any]) -> float:
    """Read every value of every client; returns their sum."""
    return sum(
        float(value.sum())
        for client in clients
        for value in client.values.values()
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        checkpoints(Path(folder) / "run", args.rounds)
        store(Path(folder) / "store", args.rounds)


if __name__ == "__main__":
    main()
