"""The adapters that a run has trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.protocols import Runner
from fs_plugins.listeners import Listener
from fs_plugins.model.delta import Delta
from fs_plugins.model.peft_files import save_adapter
from fs_plugins.policy import truncate
from fs_plugins.settings import rank_of
from fs_plugins.state.files import ensure_private
from fs_plugins.wire import Tensors
from fs_plugins.worker.ours import (
    is_our_client,
    is_our_server,
    our_clients,
    participant_of,
)

if TYPE_CHECKING:
    from fs_plugins.worker.client import FedSAClient
    from fs_plugins.worker.server import FedSAServer


@dataclass(frozen=True)
class Adapter:
    """An adapter that a run has trained, loaded in the model.

    Attributes:
        name: ``global``, or ``client_<ID>`` or the client's own name.
        model: the model, or a wrapper with a PEFT model in ``.model``.
        delta: the change of the base model by the aggregator; None if there
            is none.
        rank: the rank that was trained; 0 for the adapter's whole rank.
        client: the client's ID; 0 for the server.

    """

    name: str
    model: Any
    delta: Delta | None = None
    rank: int = 0
    client: int = 0


def adapters_of(runner: Runner) -> Iterator[Adapter]:
    """Iterate over the adapters that a run has trained.

    Until the next adapter is asked for, the model computes with the current
    one.  In distributed mode there is only the adapter of the participant
    in this process.  With the method ``local`` there is no global adapter;
    with the host's own workers there is only the global adapter.

    Args:
        runner: a runner that has run.

    """
    if runner.mode == "distributed":
        yield from _of_participant(runner)
        return
    server = runner.server
    if not is_our_server(server):
        yield Adapter(RunFolder.GLOBAL, server.model)
        return
    shared = server.aggregator.shared
    if shared:
        yield from _of_server(server)
    for client in our_clients(runner).values():
        yield from _of_client(client, shared)


class Trained(Listener):
    """Knows whether anything was trained that is to be saved.

    Args:
        anything: whether an earlier process has trained something.

    """

    def __init__(self, anything: bool) -> None:
        self.anything = anything

    def client_trained(self, client: int) -> None:
        """Note that there is something to save."""
        self.anything = True


def save_adapters(runner: Runner, folder: Path) -> None:
    """Save the adapters that a run has trained.

    ``PeftModel.from_pretrained(base_model, <folder>/client_<ID>)`` is the
    model that client ID was last evaluated with, including its head.
    ``<folder>/global`` holds what the server knows: with FedSA the shared A,
    a B of zero and the head that all clients started from.  The change of
    the base model by an aggregator is part of each adapter.

    Args:
        runner: a runner that has run.
        folder: the folder in which each adapter gets a folder.

    """
    for adapter in adapters_of(runner):
        ensure_private(folder)
        target = folder / adapter.name
        save_adapter(adapter.model, target, adapter.delta, adapter.rank)


def _of_server(server: "FedSAServer") -> Iterator[Adapter]:
    with server.parameters.loaded(server.aggregator.shared):
        yield Adapter(RunFolder.GLOBAL, server.model, server.parameters.delta)


def _of_client(client: "FedSAClient", shared: Tensors) -> Iterator[Adapter]:
    parameters, rank = client.parameters, rank_of(client._cfg, client.ID)
    received = truncate(shared, parameters.roles, rank)
    with parameters.loaded(received, client.kept.values, client=client.ID):
        names = client._cfg.fedsa.data.clients
        name = RunFolder.adapter_name(client.ID, names)
        yield Adapter(name, client.model, parameters.delta, rank, client.ID)


def _of_participant(runner: Runner) -> Iterator[Adapter]:
    worker = participant_of(runner)
    if is_our_server(worker):
        if worker.aggregator.shared:
            yield from _of_server(worker)
    elif is_our_client(worker):
        if worker.final is None:
            return
        # If A is drawn anew in each round, that of the first round is taken:
        # with a B of zero, A does not matter.
        shared = worker.parameters.received(
            worker.ID, worker.final.payload, rnd=1
        )
        if shared or worker.kept.values:
            yield from _of_client(worker, shared)
    else:
        names = worker._cfg.fedsa.data.clients
        yield Adapter(RunFolder.adapter_name(worker.ID, names), worker.model)
