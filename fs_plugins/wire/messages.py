"""The kinds of message between the server and the clients.

A message of FederatedScope has its kind in ``msg_type`` and its data in
``content``.  The classes of this module are the contents, in both directions:

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

``to_content`` returns the content to send.  ``from_content`` trusts nothing
that has arrived: it returns a well-formed message or raises a ``WireError``.

The plugins count rounds from 1.  FederatedScope's ``state``, of a worker and
in a message, counts from 0: it is r while round r + 1 trains.  ``round_of``
and ``state_of`` convert the one to the other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from fs_plugins.errors import shown
from fs_plugins.wire.codec import WireError, check_bytes

_RUN = re.compile("[0-9a-f]{16}")


def round_of(state: int) -> int:
    """The round, counted from 1, that trains in a state of the host."""
    return state + 1


def state_of(rnd: int) -> int:
    """The host's state while a round, counted from 1, trains."""
    return rnd - 1


@dataclass(frozen=True)
class Joining:
    """A client joins the run and says where it listens.

    Attributes:
        host: the name or the address of the client's machine.
        port: the port that the client listens on.

    """

    host: str
    port: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def to_content(self) -> dict[str, str | int]:
        """The content to send."""
        return {"host": self.host, "port": self.port}

    @classmethod
    def from_content(cls, content: object) -> "Joining":
        """The message that has arrived.

        Raises:
            WireError: the content is of another kind.

        """
        if isinstance(content, dict):
            host, port = content.get("host"), content.get("port")
            if isinstance(host, str) and isinstance(port, int):
                return cls(host, port)
        raise WireError("it does not say where it listens")


@dataclass(frozen=True)
class Admission:
    """The server admits a client to the run.

    Attributes:
        run: the run's name, of 16 hexadecimal digits, by which a client that
            is started again recognizes the run.

    """

    run: str

    def to_content(self) -> dict[str, str]:
        """The content to send."""
        return {"run": self.run}

    @classmethod
    def from_content(cls, content: object) -> "Admission":
        """The message that has arrived.

        Raises:
            WireError: the content is of another kind, or the name is not
                of 16 hexadecimal digits.

        """
        run = content.get("run") if isinstance(content, dict) else None
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise WireError(f"the server's run {shown(run)} has no valid name")
        return cls(run)


@dataclass(frozen=True)
class GlobalParameters:
    """The server's parameters, for training, for evaluation or at the end.

    Attributes:
        payload: the parameters, as ``encode`` returns them.

    """

    payload: bytes

    def to_content(self) -> bytes:
        """The content to send."""
        return self.payload

    @classmethod
    def from_content(cls, content: object) -> "GlobalParameters":
        """The message that has arrived; its payload is not decoded yet.

        Raises:
            WireError: the content does not consist of bytes.

        """
        return cls(check_bytes(content))


FromServer = Admission | GlobalParameters


@dataclass(frozen=True)
class Update:
    """The parameters that a client shares after it has trained.

    Attributes:
        samples: the number of samples that the client has trained on, which
            is the weight of the update.
        payload: the parameters, as ``encode`` returns them.

    """

    samples: int
    payload: bytes

    def to_content(self) -> tuple[int, bytes]:
        """The content to send."""
        return self.samples, self.payload


@dataclass(frozen=True)
class NoUpdate:
    """A client has no update to share, as its training has diverged.

    Attributes:
        reason: why there is no update, in words.

    """

    reason: str

    def to_content(self) -> tuple[int, str]:
        """The content to send."""
        return 0, self.reason


def answer_from(content: object, most_samples: int) -> Update | NoUpdate:
    """A client's answer; the payload of an update is not decoded yet.

    Args:
        content: the content that has arrived.
        most_samples: the most samples that a client can have trained on.

    Raises:
        WireError: the content is neither an update nor the reason why there
            is none.

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
            "are possible (fedsa.max_samples)"
        )
    return Update(samples, check_bytes(payload))


@dataclass(frozen=True)
class Metrics:
    """A client's evaluation results.

    Attributes:
        results: the values by name; names are ``<split>_<metric>``.

    """

    results: Mapping[str, float]

    def to_content(self) -> dict[str, float]:
        """The content to send."""
        return dict(self.results)

    @classmethod
    def from_content(cls, content: object, splits: Sequence[str]) -> "Metrics":
        """The message that has arrived.

        Args:
            content: the content that has arrived.
            splits: the splits that are evaluated (``eval.split``).

        Raises:
            WireError: the content is of another kind, or a value cannot be
                averaged.

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
    """The split in the name of a result, ``test`` of ``test_accuracy``."""
    return name.partition("_")[0]


def _is_number(value: object) -> bool:
    """Whether a value is a number that can be averaged."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
