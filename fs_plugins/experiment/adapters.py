"""The adapters that a run has trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.model.delta import Delta
from fs_plugins.model.peft_files import save_adapter
from fs_plugins.policy import of_rank
from fs_plugins.settings import rank_of
from fs_plugins.wire import Tensors


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


def adapters_of(runner: Any) -> Iterator[Adapter]:
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
    own = getattr(server, "parameters", None)
    if own is None:
        yield Adapter(RunFolder.GLOBAL, server.model)
        return
    shared = server.aggregator.shared
    if shared:
        yield from _of_server(server)
    for client in runner.client.values():
        yield from _of_client(client, shared)


def save_adapters(runner: Any, folder: Path) -> None:
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


def _of_server(server: Any) -> Iterator[Adapter]:
    with server.parameters.lent(server.aggregator.shared):
        yield Adapter(RunFolder.GLOBAL, server.model, server.parameters.delta)


def _of_client(client: Any, shared: Tensors) -> Iterator[Adapter]:
    own, rank = client.parameters, rank_of(client._cfg, client.ID)
    received = of_rank(shared, own.roles, rank)
    with own.lent(received, client.kept.values, client=client.ID):
        name = RunFolder.adapter_name(client.ID)
        yield Adapter(name, client.model, own.delta, rank, client.ID)


def _of_participant(runner: Any) -> Iterator[Adapter]:
    is_server = runner.cfg.distribute.role == "server"
    worker = runner.server if is_server else runner.client
    own = getattr(worker, "parameters", None)
    if own is None:
        name = RunFolder.adapter_name(0 if is_server else worker.ID)
        yield Adapter(name, worker.model)
    elif is_server and worker.aggregator.shared:
        yield from _of_server(worker)
    elif not is_server and worker.final is not None:
        # Of an A that starts afresh, the first: beside a B of zero it says
        # nothing.
        shared = own.received(worker.ID, worker.final.payload, rnd=1)
        if shared or worker.kept.values:
            yield from _of_client(worker, shared)
