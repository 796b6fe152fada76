"""Whether a run's workers belong to the plugins or to FederatedScope.

FederatedScope's own workers train and aggregate all trainable parameters;
they know no roles, and their clients keep no parameters.
"""

from typing import TYPE_CHECKING, TypeGuard, cast

from fs_plugins.host.protocols import Client, Runner, Server, Worker

if TYPE_CHECKING:  # these modules import the host, which has to be found first
    from fs_plugins.worker.client import FedSAClient
    from fs_plugins.worker.parameters import AdapterParameters
    from fs_plugins.worker.server import FedSAServer


def is_our_server(worker: Worker) -> TypeGuard["FedSAServer"]:
    """Whether a worker is a server of the plugins."""
    return worker.ID == 0 and parameters_in(worker) is not None


def is_our_client(worker: Worker) -> TypeGuard["FedSAClient"]:
    """Whether a worker is a client of the plugins."""
    return worker.ID != 0 and parameters_in(worker) is not None


def our_clients(runner: Runner) -> "dict[int, FedSAClient]":
    """The plugins' clients in a server's process, by ID.

    The result is empty if the clients are FederatedScope's own, or processes
    of their own.
    """
    return {
        ID: client
        for ID, client in clients_of(runner).items()
        if is_our_client(client)
    }


def clients_of(runner: Runner) -> dict[int, Client]:
    """The clients in a server's process, by ID; none in distributed mode."""
    return {} if runner.mode == "distributed" else runner.client


def parameters_in(worker: Worker) -> "AdapterParameters | None":
    """The parameters of a worker; None for FederatedScope's own workers."""
    return getattr(worker, "parameters", None)


def participant_of(runner: Runner) -> Server | Client:
    """The one participant of this process, in distributed mode."""
    if runner.cfg.distribute.role == "server":
        return runner.server
    return cast(Client, runner.client)
