"""The files of a checkpoint: their names, and how they are removed."""

import shutil
from dataclasses import dataclass
from pathlib import Path

ROUND = "round_"
CLIENT = "client_"


@dataclass(frozen=True)
class CheckpointFolder:
    """The folder of a checkpoint, ``checkpoints/round_<n>``.

    Attributes:
        path: the path of the folder.

    """

    path: Path

    @property
    def round(self) -> int:
        """The number of rounds that were over."""
        return int(self.path.name.removeprefix(ROUND))

    @property
    def state(self) -> Path:
        """The file of the state that consists of no tensors."""
        return self.path / "state.json"

    @property
    def server(self) -> Path:
        """The file of the tensors that the aggregator carries."""
        return self.path / "server.safetensors"

    def client(self, ID: int) -> Path:
        """The file of the tensors that a client keeps."""
        return self.path / f"{CLIENT}{ID}.safetensors"

    def unfinished(self) -> "CheckpointFolder":
        """The folder of this checkpoint while it is written or removed."""
        return CheckpointFolder(self.path.with_name(f"{self.path.name}.part"))

    def remove(self) -> None:
        """Remove the checkpoint.

        The folder is renamed first, so that no incomplete checkpoint is ever
        found under the checkpoint's name.
        """
        part = self.unfinished().path
        self.path.replace(part)
        shutil.rmtree(part, ignore_errors=True)
