"""One base model in memory for the models of all clients of a run."""

from typing import Any

import torch

from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import add_adapter, load_adapted

_FIRST = "default"  # what PEFT calls the adapter that a model comes with


class SharedBase:
    """The base model of a run, on which the clients' adapters take turns.

    Args:
        run: the run.
        base: the base model as it was before the run.  It is needed only if
            the run was given a model and not the name of a checkpoint.
        kept: the number of adapters that stay in memory; the one that was
            used last is among them.

    """

    def __init__(self, run: Run, base: Any = None, kept: int = 1) -> None:
        self._run = run
        self._base = base
        self._kept = kept
        self._model: Any = None
        # What PEFT calls the adapter of each client in memory, by the
        # client's ID; the client that was used last comes last.
        self._names: dict[int, str] = {}
        self._device = "cuda" if torch.cuda.is_available() else "cpu"

    def model_of(self, client: TrainedClient | None) -> Any:
        """The base model with a client's adapter, until the next call.

        Args:
            client: the client; None for what the server knows.

        Returns:
            A ``peft.PeftModel``, ready for evaluation.  It is the same
            object for all clients.

        Raises:
            UserError: there is no such adapter, it cannot be loaded, or the
                client has two adapters.

        """
        ID = client.ID if client else 0
        if ID not in self._names:
            self._load(ID, client.adapter if client else self._run.adapter)
        self._names[ID] = self._names.pop(ID)
        self._model.set_adapter(self._names[ID])
        return self._model.eval()

    def _load(self, ID: int, adapter: Any) -> None:
        """Load an adapter, in the place of the one least recently used."""
        if self._model is None:
            model = load_adapted(self._run.config, adapter, self._base)
            self._model = model.to(self._device)
            self._names[ID] = _FIRST
            return
        # PEFT needs one adapter at any time, so the old one goes last.
        names = (f"adapter_{number}" for number in range(self._kept + 1))
        name = next(n for n in names if n not in self._names.values())
        try:
            add_adapter(self._model, adapter, name)
        except UserError:
            if name in self._model.peft_config:
                self._model.delete_adapter(name)
            raise
        self._model.to(self._device)
        self._model.set_adapter(name)
        while len(self._names) >= self._kept:
            self._model.delete_adapter(
                self._names.pop(next(iter(self._names)))
            )
        self._names[ID] = name


def client_called(run: Run, name: str) -> TrainedClient | None:
    """A client by a word of the user; None for what the server knows.

    Args:
        run: the run.
        name: the client's name or number, or ``global``.

    Raises:
        UserError: there is no such client.

    """
    return None if name == RunFolder.GLOBAL else run.client(name)
