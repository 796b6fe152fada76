"""What a client sends and gets in a round, by method.

    python benchmarks/traffic.py

all-MiniLM-L6-v2 with LoRA r 8 on query and value (VeRA: r 256), a head for 5
topics, 4 clients.  Each method runs for four rounds of one step.  The numbers
in the payloads of rounds 3 and 4 are counted, and the bytes of these payloads.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import load

from fs_plugins import Listener
from fs_plugins.wire import encode

DEMO = Path(__file__).parent.parent / "yaml_configs" / "demo" / "fedsa.yaml"
# variations of the demonstration's file
METHODS = (
    "fedsa",
    "fedsa+vera",
    "fedsa+ranks",
    "fedit",
    "fedavg",
    "ffa",
    "rolora",
    "share_b",
    "feddpa",
    "flora",
    "fedex",
    "flexlora",
    "hetlora",
    "local",
)
SETTINGS = (
    *("federate.total_round_num", "4"),
    *("train.local_update_steps", "1"),
    *("dataloader.batch_size", "1"),
    *("eval.freq", "4"),
    *("eval.split", "['val']"),
)


class Passed(Listener):
    """Adds up what passes from the third round on."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    def message_passes(self, message: Any, receivers: int) -> None:
        """Count the numbers and bytes of a payload."""
        if message.msg_type != "model_para" or message.state < 2:
            return
        is_up = message.sender != 0
        way = "up" if is_up else "down"
        payload = message.content[1] if is_up else message.content
        if isinstance(payload, dict):  # the host's own worker
            payload = encode(payload)
        tensors = load(payload) if payload else {}
        self.totals[way] += receivers
        self.totals[f"{way} bytes"] += receivers * len(payload)
        self.totals[f"{way} numbers"] += receivers * sum(
            tensor.numel() for tensor in tensors.values()
        )


def measure(method: str, head: str) -> dict[str, float]:
    """Run a method and count what a client sends and gets in a round.

    Args:
        method: the variation of the method.
        head: the variation of the head, with its plus sign, or nothing.

    Returns:
        Means over clients and rounds, by ``up numbers``, ``up bytes``,
        ``down numbers`` and ``down bytes``.

    """
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.events import LiveRun
    from fs_plugins.experiment.runner import build_runner

    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(f"{DEMO}+{method}{head}", [*SETTINGS])
        cfg.outdir = folder
        runner = build_runner(cfg)
        passed = Passed()
        LiveRun(runner, [passed], pauses=False).run()
    counts = passed.totals
    return {
        f"{way} {what}": counts[f"{way} {what}"] / counts[way]
        for way in ("up", "down")
        for what in ("numbers", "bytes")
    }


def main() -> None:
    """Print a Markdown table."""
    print("| method | head kept: up | down | head shared: up | down |")
    print("|---|---|---|---|---|")
    for method in METHODS:
        cells = []
        for head in ("", "+shared_head"):
            means = measure(method, head)
            for way in ("up", "down"):
                numbers, size = means[f"{way} numbers"], means[f"{way} bytes"]
                cells.append(f"{numbers:,.0f} ({size / 1e3:,.1f} kB)")
        print(f"| `+{method}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
