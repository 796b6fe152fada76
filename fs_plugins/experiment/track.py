"""Writes results for TensorBoard during a run: ``fedsa.track``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.listeners import Listener
from fs_plugins.terms import TENSORBOARD


class TensorBoard(Listener):
    """Writes event files, which ``tensorboard --logdir <folder>`` shows.

    Args:
        folder: the folder of the event files.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def run_ends(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def recorded(self, line: Mapping[str, Any]) -> None:
        """Write each average, each client's results, and the bytes."""
        rnd = line["round"]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events that a resumed run wrote after its checkpoint are purged.
            self._writer = SummaryWriter(self._folder, purge_step=rnd)
        groups = {"weighted": line["weighted"], "mean": line["mean"]}
        groups |= {
            f"client_{ID}": results for ID, results in line["clients"].items()
        }
        groups["bytes"] = {
            way: line[f"{way}_bytes"] for way in ("uplink", "downlink")
        }
        for group, values in groups.items():
            for key, value in values.items():
                self._writer.add_scalar(f"{group}/{key}", value, rnd)
        self._writer.flush()


def tracker_for(cfg: Config, folder: Path) -> list[Listener]:
    """The listeners that ``fedsa.track`` asks for.

    Args:
        cfg: the configuration.
        folder: the run's folder.

    """
    if cfg.fedsa.track != TENSORBOARD:
        return []
    return [TensorBoard(RunFolder(folder).tensorboard)]
