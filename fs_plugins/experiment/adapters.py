"""The adapters that a run has trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.protocols import Runner
from fs_plugins.model.delta import Delta
from fs_plugins.model.peft_files import save_adapter
from fs_plugins.policy import of_rank
from fs_plugins.settings import rank_of
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
    """An adapter that a run has trained, while its model has the values.

    Attributes:
        name: ``global`` or ``client_<ID>``.
        model: the model, or a wrapper with a PEFT model in ``.model``.
        delta: what an aggregator has added to the base model.
        rank: of what was trained, if it is not all of the adapter's.
        client: the client's ID; 0 for what the server knows.

    """

    name: str
    model: Any
    delta: Delta | None = None
    rank: int = 0
    client: int = 0


def adapters_of(runner: Runner) -> Iterator[Adapter]:
    """What a run has trained, one adapter after the other.

    Until the next one is asked for, the model computes with it.  In
    distributed mode there is that of this process's participant only.  With
    ``local`` there is no global one; with the host's own workers there is
    nothing else.

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


def save_adapters(runner: Runner, folder: Path) -> None:
    """Write what a run has trained.

    ``PeftModel.from_pretrained(base_model, <folder>/client_<ID>)`` is the
    model that client ID was last evaluated with, its head included.
    ``<folder>/global`` holds what the server knows: with FedSA the shared A,
    B at zero and the head that everyone started from.
    What an aggregator has added to the base model is part of each adapter.

    Args:
        runner: a runner that has run.
        folder: gets one folder an adapter.

    """
    for each in adapters_of(runner):
        save_adapter(each.model, folder / each.name, each.delta, each.rank)


def _of_server(server: "FedSAServer") -> Iterator[Adapter]:
    with server.parameters.lent(server.aggregator.shared):
        yield Adapter(RunFolder.GLOBAL, server.model, server.parameters.delta)


def _of_client(client: "FedSAClient", shared: Tensors) -> Iterator[Adapter]:
    own, rank = client.parameters, rank_of(client._cfg, client.ID)
    received = of_rank(shared, own.roles, rank)
    with own.lent(received, client.kept.values, client=client.ID):
        name = RunFolder.adapter_name(client.ID)
        yield Adapter(name, client.model, own.delta, rank, client.ID)


def _of_participant(runner: Runner) -> Iterator[Adapter]:
    worker = participant_of(runner)
    if is_our_server(worker):
        if worker.aggregator.shared:
            yield from _of_server(worker)
    elif is_our_client(worker):
        if worker.final is None:
            return
        # Of an A that starts afresh, the first: beside a B of zero it says
        # nothing.
        shared = worker.parameters.received(
            worker.ID, worker.final.payload, rnd=1
        )
        if shared or worker.kept.values:
            yield from _of_client(worker, shared)
    else:
        yield Adapter(RunFolder.adapter_name(worker.ID), worker.model)
