"""Memory and time as the number of clients grows.

    python benchmarks/scaling.py            # 2, 10, 100 and 1000 clients
    python benchmarks/scaling.py --clients 2 100
    python benchmarks/scaling.py --disk      # what clients keep is on disk

all-MiniLM-L6-v2 with LoRA r 8 on query and value, FedSA; one local step of 8
texts of 64 tokens a client and round, at most 20 clients a round, 100 client
rounds in all (so that the allocator has seen the same amount of work), all
clients evaluated once at the end on one text each.  Every number of clients
runs in a process of its own.  Printed are the peak memory (RSS) and the
seconds of local training that a client takes in a round (the median over
rounds), each with its ratio to that of the first line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CLIENT_ROUNDS, SAMPLED, BATCH, LENGTH = 100, 20, 8, 64


def run(clients: int, folder: Path, backend: str) -> dict[str, float]:
    """Run one federation in this process.

    Args:
        clients: how many clients there are.
        folder: the run's folder.
        backend: the value of ``fedsa.state.backend``.

    Returns:
        The number of clients, the peak memory and the seconds.

    """
    from fs_plugins.config.load import load_config
    from fs_plugins.data import register_examples
    from fs_plugins.experiment.checkpoint import Checkpoints
    from fs_plugins.experiment.events import LiveRun
    from fs_plugins.experiment.recorder import Recorder, _peak_rss
    from fs_plugins.experiment.runner import build_runner
    from fs_plugins.listeners import Listener

    class Training(Listener):
        """Notes how many seconds each client's local training takes."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def took(self, what: str, seconds: float) -> None:
            if what == "train":
                self.seconds.append(seconds)

    register_examples("synthetic", lambda *_: (_synthetic_text(clients), None))
    demo = Path(__file__).parent.parent / "yaml_configs/demo/fedsa.yaml"
    overrides = _overrides(clients, folder, backend)
    runner = build_runner(load_config(demo, overrides))
    training = Training()
    # A checkpoint is written after each round, as in a run of the command.
    recorder = Recorder(runner.cfg, {})
    checkpoints = Checkpoints(runner, recorder)
    LiveRun(runner, [recorder, training, checkpoints]).run()
    return {
        "clients": clients,
        "peak_rss_mb": _peak_rss() / 1e6,
        # The first round is a warm-up.
        "seconds": statistics.median(
            training.seconds[min(clients, SAMPLED) :]
        ),
    }


def _overrides(clients: int, folder: Path, backend: str) -> list[str]:
    sampled = min(clients, SAMPLED)
    rounds = CLIENT_ROUNDS // sampled
    return [
        *("outdir", str(folder)),
        *("fedsa.state.backend", backend),
        *("federate.client_num", str(clients)),
        *("federate.sample_client_num", str(sampled)),
        *("federate.total_round_num", str(rounds)),
        *("data.type", "words@synthetic"),
        *("data.splits", str([BATCH / (BATCH + 2), *[1 / (BATCH + 2)] * 2])),
        *("data.splitter", "iid"),
        *("data.splitter_args", "[]"),
        *("train.local_update_steps", "1"),
        *("dataloader.batch_size", str(BATCH)),
        *("llm.tok_len", str(LENGTH)),
        *("eval.freq", str(rounds)),
        *("eval.split", "['val']"),
        *("fedsa.token_cache", str(folder / "tokens")),
    ]


def _synthetic_text(clients: int) -> Any:
    """Texts of full length: ``BATCH`` to train each client, and two more."""
    from fs_plugins.data.examples import Examples

    number = clients * (BATCH + 2)
    rng = np.random.default_rng(0)
    words = ("the", "of", "and", "to", "in", "a", "is", "that", "for")
    return Examples(
        [(" ".join(rng.choice(words, 80)),) for _ in range(number)],
        rng.integers(0, 5, number).tolist(),
        tuple("abcde"),
    )


def main() -> None:
    """Run every number of clients and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[2, 10, 100, 1000]
    )
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            backend = "disk" if args.disk else "memory"
            print(json.dumps(run(args.one, Path(folder), backend)))
        return
    print("clients  peak RSS      ratio  s a client-round  ratio")
    first: dict[str, float] = {}
    for clients in args.clients:
        command = [sys.executable, __file__, "--one", str(clients)]
        command += ["--disk"] if args.disk else []
        result = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True
        )
        figures = json.loads(result.stdout.splitlines()[-1])
        first = first or figures
        memory = figures["peak_rss_mb"] / first["peak_rss_mb"]
        seconds = figures["seconds"] / first["seconds"]
        print(
            f"{clients:7d}  {figures['peak_rss_mb']:7.0f} MB  {memory:7.3f}  "
            f"{figures['seconds']:16.3f}  {seconds:5.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
