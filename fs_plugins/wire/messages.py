"""The kinds of message between the server and the clients.

FederatedScope's message names its kind in ``msg_type``, and what it says is
its ``content``.  Here is what the content is, in both directions:

=====================  ===========  ============================
``msg_type``           sent by      content
=====================  ===========  ============================
``join_in``            a client     ``Joining``
``assign_client_id``   the server   ``Admission``
``model_para``         the server   ``GlobalParameters``
``model_para``         a client     ``Update`` or ``NoUpdate``
``evaluate``           the server   ``GlobalParameters``
``metrics``            a client     ``Metrics``
``finish``             the server   ``GlobalParameters``
=====================  ===========  ============================

``to_content`` gives what travels.  ``from_content`` believes nothing of what
has arrived: it returns a message that is well formed, or raises a
``WireError``.

Rounds count from 1.  FederatedScope's ``state`` counts from 0: it is r, at a
worker and in a message, while round r + 1 trains.  ``round_of`` and
``state_of`` convert the one to the other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from fs_plugins.errors import shown
from fs_plugins.wire.codec import WireError, check_bytes

_RUN = re.compile("[0-9a-f]{16}")


def round_of(state: int) -> int:
    """The round, counted from 1, that trains in a state of the host's."""
    return state + 1


def state_of(rnd: int) -> int:
    """The host's state while a round, counted from 1, trains."""
    return rnd - 1


@dataclass(frozen=True)
class Joining:
    """A client says where it listens.

    Attributes:
        host: a name or an address.
        port: its port there.

    """

    host: str
    port: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def to_content(self) -> dict[str, str | int]:
        """What travels."""
        return {"host": self.host, "port": self.port}

    @classmethod
    def from_content(cls, content: object) -> "Joining":
        """The message that has arrived.

        Raises:
            WireError: it is another content.

        """
        if isinstance(content, dict):
            host, port = content.get("host"), content.get("port")
            if isinstance(host, str) and isinstance(port, int):
                return cls(host, port)
        raise WireError("it does not say where it listens")


@dataclass(frozen=True)
class Admission:
    """The server has admitted a client.

    Attributes:
        run: the run's name, of 16 hexadecimal digits; a client that is
            started again knows by it whether the run is still the same.

    """

    run: str

    def to_content(self) -> dict[str, str]:
        """What travels."""
        return {"run": self.run}

    @classmethod
    def from_content(cls, content: object) -> "Admission":
        """The message that has arrived.

        Raises:
            WireError: it is another content, or the name could not be a
                folder's.

        """
        run = content.get("run") if isinstance(content, dict) else None
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise WireError(f"the server's run {shown(run)} has no valid name")
        return cls(run)


@dataclass(frozen=True)
class GlobalParameters:
    """The server's parameters: to train with, to evaluate, or the last.

    Attributes:
        payload: of ``encode``.

    """

    payload: bytes

    def to_content(self) -> bytes:
        """What travels."""
        return self.payload

    @classmethod
    def from_content(cls, content: object) -> "GlobalParameters":
        """The message that has arrived; its payload is not decoded yet.

        Raises:
            WireError: it is another content.

        """
        return cls(check_bytes(content))


FromServer = Admission | GlobalParameters


@dataclass(frozen=True)
class Update:
    """What a client shares after it has trained.

    Attributes:
        samples: how many it has trained on; the weight of its update.
        payload: of ``encode``.

    """

    samples: int
    payload: bytes

    def to_content(self) -> tuple[int, bytes]:
        """What travels."""
        return self.samples, self.payload


@dataclass(frozen=True)
class NoUpdate:
    """A client's training in a round was worth nothing.

    Attributes:
        reason: why.

    """

    reason: str

    def to_content(self) -> tuple[int, str]:
        """What travels."""
        return 0, self.reason


def answer_from(content: object, most_samples: int) -> Update | NoUpdate:
    """What a client has answered; an update's payload is not decoded yet.

    Args:
        content: what has arrived.
        most_samples: how many samples a client can have trained on.

    Raises:
        WireError: it is neither an update nor the reason why there is none.

    """
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise WireError("it is not a pair of samples and payload")
    samples, payload = content
    is_number = type(samples) is int
    if is_number and samples == 0 and isinstance(payload, str):
        return NoUpdate(payload)
    if not is_number or not 0 < samples <= most_samples:
        raise WireError(
            f"it claims {shown(samples)} samples; from 1 to {most_samples} "
            "can be (fedsa.max_samples)"
        )
    return Update(samples, check_bytes(payload))


@dataclass(frozen=True)
class Metrics:
    """A client's results.

    Attributes:
        results: values by name, ``<split>_<metric>``.

    """

    results: Mapping[str, float]

    def to_content(self) -> dict[str, float]:
        """What travels."""
        return dict(self.results)

    @classmethod
    def from_content(cls, content: object, splits: Sequence[str]) -> "Metrics":
        """The message that has arrived.

        Args:
            content: what has arrived.
            splits: ``eval.split``.

        Raises:
            WireError: it is another content, or can't be averaged.

        """
        if not isinstance(content, dict):
            raise WireError(f"they are a {type(content).__name__}")
        for name, value in content.items():
            if not isinstance(name, str) or split_of(name) not in splits:
                raise WireError(f"{shown(name)} is no result")
            if not _is_number(value):
                raise WireError(f"{name} is {shown(value)}")
        for split in {split_of(name) for name in content}:
            total = content.get(f"{split}_total", 0)
            if not 0 < total < float("inf"):
                raise WireError(f"{split}_total is {shown(total)}")
        return cls(content)


def split_of(name: str) -> str:
    """The split that a result is of."""
    return name.partition("_")[0]


def _is_number(value: object) -> bool:
    """Whether a value can be averaged, with others that can be."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
