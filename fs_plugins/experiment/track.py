"""Results as they come, for TensorBoard: ``fedsa.track``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.listeners import Listener
from fs_plugins.terms import TENSORBOARD


class TensorBoard(Listener):
    """Writes event files: ``tensorboard --logdir <folder>`` shows them.

    Args:
        folder: where to.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def run_ends(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def recorded(self, line: Mapping[str, Any]) -> None:
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


def tracker_for(cfg: Config, folder: Path) -> list[Listener]:
    """What ``fedsa.track`` asks for, in the run's folder.

    Args:
        cfg: the configuration.
        folder: the run's.

    """
    if cfg.fedsa.track != TENSORBOARD:
        return []
    return [TensorBoard(RunFolder(folder).tensorboard)]
