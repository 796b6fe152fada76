"""Whether a run's workers are ours or the host's own.

The host's own workers train and aggregate all that is trainable: they know
neither roles nor what a client keeps.
"""

from typing import TYPE_CHECKING, TypeGuard, cast

from fs_plugins.host.protocols import Client, Runner, Server, Worker

if TYPE_CHECKING:  # at run time, once the host is there
    from fs_plugins.worker.client import FedSAClient
    from fs_plugins.worker.parameters import AdapterParameters
    from fs_plugins.worker.server import FedSAServer


def is_our_server(worker: Worker) -> TypeGuard["FedSAServer"]:
    """Whether a worker is a server, and ours."""
    return worker.ID == 0 and parameters_in(worker) is not None


def is_our_client(worker: Worker) -> TypeGuard["FedSAClient"]:
    """Whether a worker is a client, and ours."""
    return worker.ID != 0 and parameters_in(worker) is not None


def our_clients(runner: Runner) -> "dict[int, FedSAClient]":
    """The clients of a standalone run, by ID; none if they are the host's."""
    return {
        ID: client
        for ID, client in runner.client.items()
        if is_our_client(client)
    }


def parameters_in(worker: Worker) -> "AdapterParameters | None":
    """The parameters of a worker by their roles; None if it is the host's."""
    return getattr(worker, "parameters", None)


def participant_of(runner: Runner) -> Server | Client:
    """The one participant of this process, in distributed mode."""
    if runner.cfg.distribute.role == "server":
        return runner.server
    return cast(Client, runner.client)
