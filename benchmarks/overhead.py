"""A round of FedSA against the bare PyTorch loop over the same batches.

    python benchmarks/overhead.py [--pairs 15] [--model smollm2]

LoRA r 8 on query and value, AdamW.  minilm: all-MiniLM-L6-v2, 4 clients, 5
steps of 16 texts of 64 tokens each.  smollm2: SmolLM2-135M-Instruct, 3
clients, 4 steps of 4 word problems of 128 tokens each.

The two take turns in one process, on one model; the bare loop does what
training needs and nothing else: forward, backward, step.  Printed: the
seconds of both and the ratio, as median and range over the pairs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fs_plugins import Listener

# by name: the YAML file of the demonstration, the number of clients, the local
# steps, the batch size, the tokens of a text
MODELS = {
    "minilm": ("fedsa.yaml", 4, 5, 16, 64),
    "smollm2": ("smollm2.yaml", 3, 4, 4, 128),
}


def build(model: str, folder: Path, rounds: int) -> Any:
    """The federation, not yet run.

    Args:
        model: a key of ``MODELS``.
        folder: the run's folder.
        rounds: how many rounds the federation will run.

    """
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.runner import build_runner

    file, clients, steps, batch, length = MODELS[model]
    cfg = load_config(
        Path(__file__).parent.parent / "yaml_configs/demo" / file,
        [
            *("outdir", str(folder)),
            *("federate.client_num", str(clients)),
            *("federate.total_round_num", str(rounds)),
            *("train.local_update_steps", str(steps)),
            *("dataloader.batch_size", str(batch)),
            *("dataloader.shuffle", "False"),
            *("llm.tok_len", str(length)),
            *("eval.freq", str(rounds)),
            *("eval.split", "['val']"),
            *("fedsa.eval.generate.examples", "0"),
        ],
    )
    return build_runner(cfg)


def bare(runner: Any, steps: int) -> None:
    """Take the same steps on the same batches, and do nothing else.

    Args:
        runner: the federation, which has the model and the batches.
        steps: the number of local steps of a client.

    """
    model = runner.server.model.model
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    for client in runner.client:
        optimizer = torch.optim.AdamW(trained, lr=2e-3)
        batches = iter(runner.data[client]["train"])
        for _ in range(steps):
            loss = model(**next(batches)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Turns(Listener):
    """Runs the bare loop after each round, and times both."""

    def __init__(self, runner: Any, steps: int) -> None:
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._runner = runner
        self._steps = steps
        self._begin = 0.0

    def clients_joined(self) -> None:
        """Begin to time the first round."""
        self._begin = time.perf_counter()

    def round_ends(self, rnd: int) -> None:
        """Time the bare loop; the next round begins."""
        now = time.perf_counter()
        self.ours.append(now - self._begin)
        with self._runner.server.parameters.loaded():
            bare(self._runner, self._steps)
        self._begin = time.perf_counter()
        self.theirs.append(self._begin - now)


def main() -> None:
    """Take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--model", choices=MODELS, default="minilm")
    from fs_plugins.experiment.events import LiveRun

    arguments = parser.parse_args()
    pairs, model = arguments.pairs, arguments.model
    with tempfile.TemporaryDirectory() as folder:
        runner = build(model, Path(folder), rounds=pairs + 2)
        turns = Turns(runner, MODELS[model][2])
        LiveRun(runner, [turns]).run()
    ours, theirs = turns.ours, turns.theirs
    ours, theirs = ours[1:], theirs[1:]  # the first is a warm-up
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    for name, values in (
        ("a round of FedSA, s", ours),
        ("bare loop, s", theirs),
        ("ratio", ratios),
    ):
        print(
            f"{name:20s} median {statistics.median(values):.3f}  "
            f"({min(values):.3f} to {max(values):.3f})"
        )


if __name__ == "__main__":
    main()
