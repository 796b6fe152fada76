"""Results as they come, for TensorBoard: ``fedsa.track``."""

from pathlib import Path
from typing import Any


class Tracker:
    """Tracks nothing."""

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: Any) -> None:
        """The run has ended, somehow."""

    def evaluated(self, line: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl`` is there."""


class TensorBoard(Tracker):
    """Writes event files: ``tensorboard --logdir <folder>`` shows them.

    Args:
        folder: where to.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __exit__(self, *_: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    def evaluated(self, line: dict[str, Any]) -> None:
        """Write each average, each client's results, and the bytes."""
        rnd = line["round"]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a run wrote after the checkpoint it goes on from is void.
            self._writer = SummaryWriter(self._folder, purge_step=rnd)
        groups = {"weighted": line["weighted"], "mean": line["mean"]}
        groups |= {f"client_{ID}": own for ID, own in line["clients"].items()}
        groups["bytes"] = {
            way: line[f"{way}_bytes"] for way in ("uplink", "downlink")
        }
        for group, values in groups.items():
            for key, value in values.items():
                self._writer.add_scalar(f"{group}/{key}", value, rnd)
        self._writer.flush()


TRACKERS = {"": None, "tensorboard": TensorBoard}


def tracker_for(cfg: Any, folder: Path) -> Tracker:
    """What ``fedsa.track`` asks for, in the run's folder."""
    name = cfg.fedsa.track
    tracker = TRACKERS[name]
    return tracker(folder / name) if tracker else Tracker()
