"""Types of the host's objects that our code uses, for type checkers.

FederatedScope has no types.  A runner gets the type ``Runner`` in
``build_runner``; the types of its attributes follow from that.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fs_plugins.host.configuration import Config

if TYPE_CHECKING:  # what is imported for the command takes no time
    import torch


class Message(Protocol):
    """A message between workers; see ``fs_plugins.wire.messages``."""

    msg_type: str
    sender: int
    receiver: Any  # an ID or a list of them
    state: int
    timestamp: float
    content: Any


class Communication(Protocol):
    """Sends and receives the messages of a worker."""

    neighbors: dict[int, Any]
    send: Callable[[Message], None]
    receive: Callable[..., Message | None]


class EarlyStopper(Protocol):
    """What decides whether a run stops early.

    Attributes:
        early_stopped: whether it has decided to stop the run.
        patience: ``early_stop.patience``, a number of evaluations.

    """

    early_stopped: bool
    patience: int


class WorkersTrainer(Protocol):
    """A worker's trainer."""

    evaluate: Callable[..., dict[str, float]]
    get_model_para: "Callable[[], dict[str, torch.Tensor]]"
    train: Callable[..., Any]


class Worker(Protocol):
    """A server or a client, ours or the host's."""

    ID: int
    best_results: dict[str, Any]
    comm_manager: Communication
    early_stopper: EarlyStopper
    history_results: dict[str, Any]
    mode: str
    model: Any
    state: int
    trainer: WorkersTrainer
    _cfg: Config
    _monitor: Any


class Server(Worker, Protocol):
    """A server; its methods may be replaced, see ``LiveRun``."""

    aggregator: Any
    broadcast_model_para: Callable[..., None]
    eval: Callable[[], None]
    is_finish: bool
    merge_eval_results_from_all_clients: Callable[[], Any]
    terminate: Callable[[], None]
    msg_buffer: dict[str, dict[int, dict[int, Any]]]
    _merge_and_format_eval_results: Callable[[], None]
    _start_new_training_round: Callable[..., None]


class Client(Worker, Protocol):
    """A client; its handlers may be replaced, see ``LiveClient``."""

    msg_handlers: dict[str, Callable[[Message], Any]]


class Runner(Protocol):
    """A run's participants in this process.

    Attributes:
        cfg: the configuration.
        mode: ``standalone`` or ``distributed``.
        data: the data by participant; in distributed mode, those of the
            participant in this process.
        server: the server; in distributed mode, only the server's process
            has it.
        client: the clients by ID; in distributed mode, see
            ``participant_of``.

    """

    cfg: Config
    mode: str
    data: Any
    server: Server
    client: dict[int, Client]

    def run(self) -> Any:
        """Run to the end."""
