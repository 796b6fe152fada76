"""A round of FedSA against the bare PyTorch loop over the same batches.

    python benchmarks/overhead.py [--pairs 15]

all-MiniLM-L6-v2 with LoRA r 8 on query and value; 4 clients, 5 steps of 16
texts of 64 tokens each, AdamW.  The two take turns in one process, on one
model; the bare loop does what training needs and nothing else: forward,
backward, step.  Printed: the seconds of both and the ratio, as median and
range over the pairs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

CLIENTS, STEPS, BATCH, LENGTH = 4, 5, 16, 64


def build(folder: Path, rounds: int) -> Any:
    """The federation, not yet run."""
    import fs_plugins  # noqa: F401  makes federatedscope importable
    from fs_plugins.config_file import load_config
    from fs_plugins.experiment import build_runner

    demo = Path(__file__).parent.parent / "yaml_configs/demo/fedsa.yaml"
    cfg = load_config(
        demo,
        [
            *("outdir", str(folder)),
            *("federate.client_num", str(CLIENTS)),
            *("federate.total_round_num", str(rounds)),
            *("train.local_update_steps", str(STEPS)),
            *("dataloader.batch_size", str(BATCH)),
            *("dataloader.shuffle", "False"),
            *("llm.tok_len", str(LENGTH)),
            *("eval.freq", str(rounds)),
            *("eval.split", "['val']"),
        ],
    )
    return build_runner(cfg)


def bare(runner: Any) -> None:
    """The same steps on the same batches, and nothing else."""
    model = runner.server.model.model
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    for client in runner.client:
        optimizer = torch.optim.AdamW(trained, lr=2e-3)
        batches = iter(runner.data[client]["train"])
        for _ in range(STEPS):
            loss = model(**next(batches)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main() -> None:
    """Take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        runner = build(Path(folder), rounds=pairs + 2)
        server = runner.server
        start_round = server.broadcast_model_para

        def between_rounds(*args: Any, **kwargs: Any) -> None:
            """A new round begins: the last one is over; run the bare loop."""
            now = time.perf_counter()
            if server.state:
                ours.append(now - between_rounds.begin)  # type: ignore
            with server.parameters.lent():
                bare(runner)
            theirs.append(time.perf_counter() - now)
            between_rounds.begin = time.perf_counter()  # type: ignore
            start_round(*args, **kwargs)

        def evaluate() -> None:
            """Not timed."""

        server.broadcast_model_para = between_rounds
        server.eval = evaluate
        runner.run()
    ours, theirs = ours[1:], theirs[1 : len(ours)]  # the first is a warm-up
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
