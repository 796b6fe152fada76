"""The adapters that a run has trained."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftModel

from fs_plugins.experiment.adapter_files import (
    describe,
    link_files,
    rounds_of,
    save_tokenizer,
    tokenizer_of,
    write_description,
)
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.listeners import Listener
from fs_plugins.model.base_files import BaseFiles, base_files
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

    Attributes:
        rounds: the last round that was begun; 0 for none.

    """

    def __init__(self, anything: bool) -> None:
        self.anything = anything
        self.rounds = 0

    def round_begins(self, rnd: int, clients: int) -> None:
        """Note the number of the round."""
        self.rounds = rnd

    def client_trained(self, client: int) -> None:
        """Note that there is something to save."""
        self.anything = True


def save_adapters(runner: Runner, folder: Path, rounds: int = 0) -> None:
    """Save the adapters that a run has trained.

    ``PeftModel.from_pretrained(base_model, <folder>/client_<ID>)`` is the
    model that client ID was last evaluated with, including its head.
    ``<folder>/global`` holds what the server knows: with FedSA the shared A,
    a B of zero and the head that all clients started from.  The change of
    the base model by an aggregator is part of each adapter.

    Args:
        runner: a runner that has run.
        folder: the folder in which each adapter gets a folder.
        rounds: for how many rounds the adapters were trained; 0 for as many
            as the runner has run.

    """
    with saving(runner.cfg, tokenizer_of(runner.data), folder) as save:
        for adapter in adapters_of(runner):
            save(adapter, rounds or rounds_of(runner))


@contextmanager
def saving(
    cfg: Config, tokenizer: Any, folder: Path
) -> Iterator[Callable[[Adapter, int], None]]:
    """Make a function that saves an adapter with all that belongs to it.

    The adapters share one copy of the tokenizer.

    Args:
        cfg: the configuration of the run.
        tokenizer: the tokenizer of the run; None for none.
        folder: the folder in which each adapter gets a folder.

    Returns:
        A context manager of the function, whose arguments are an adapter and
        the number of rounds that it was trained for.

    """
    ensure_private(folder)
    common = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(common, ignore_errors=True)  # of a process that was killed
    ensure_private(common)
    base: list[BaseFiles] = []
    files: list[Path] = []

    def save(adapter: Adapter, rounds: int) -> None:
        model = getattr(adapter.model, "model", adapter.model)
        if not isinstance(model, PeftModel):
            return
        if not base:
            cache, place = cfg.llm.cache.model, folder / RunFolder.BASE
            base.append(base_files(model, cache, place))
            task = cfg.model.task
            files.extend(save_tokenizer(tokenizer, task, model, common))
        for target in save_adapter(
            adapter.model,
            folder / adapter.name,
            base[0],
            adapter.delta,
            adapter.rank,
        ):
            link_files(files, common, target)
            client = adapter.client
            content = describe(cfg, model, client, rounds, base[0])
            write_description(target, content)

    try:
        yield save
    finally:
        shutil.rmtree(common, ignore_errors=True)


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
