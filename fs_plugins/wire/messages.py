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

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from fs_plugins.wire.codec import WireError, check_bytes, told

_RUN = re.compile("[0-9a-f]{16}")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# The names of results: ``<split>_<metric>``, in ASCII.  FederatedScope's log
# evaluates the numbers in a name, and fails at digits of other scripts.
_RESULT = re.compile(r"[a-z]+_[A-Za-z0-9_@-]{1,60}")
_MOST_REASON = 300  # characters
_MOST_SETTINGS = 256  # keys
_MOST_VALUE = 80  # characters of a setting
_MOST_RESULTS = 256  # values of a client's evaluation
# The largest size of a result.  Sums, squares and products with a number of
# examples stay finite.
_LARGEST = 1e100
MOST_EXAMPLES = 2**31 - 1


def round_of(state: int) -> int:
    """The round, counted from 1, that trains in a state of the host."""
    return state + 1


def state_of(rnd: int) -> int:
    """The host's state while a round, counted from 1, trains."""
    return rnd - 1


@dataclass(frozen=True)
class Joining:
    """A client joins the run.

    Attributes:
        settings: the values of those keys of the configuration in which all
            participants must agree, as texts; see ``config.agreement``.
            Empty for FederatedScope's own clients.

    """

    settings: Mapping[str, str] = field(default_factory=dict)

    def to_content(self) -> dict[str, Any]:
        """The content to send."""
        return {"settings": dict(self.settings)}

    @classmethod
    def from_content(cls, content: object) -> "Joining":
        """The message that has arrived.

        Raises:
            WireError: the content is of another kind.

        """
        if not isinstance(content, dict):
            raise WireError("it does not hold settings by name")
        settings = content.get("settings", {})
        if not _are_settings(settings):
            raise WireError("its settings are not texts by key")
        return cls(settings)


def _are_settings(value: object) -> bool:
    """Whether a value holds short texts by the keys of a configuration."""
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_SETTINGS
        and all(
            isinstance(key, str)
            and _KEY.fullmatch(key)
            and isinstance(text, str)
            and len(text) <= _MOST_VALUE
            and text.isascii()
            and text.isprintable()
            for key, text in value.items()
        )
    )


@dataclass(frozen=True)
class Admission:
    """The server admits a client to the run, or says why it does not.

    Attributes:
        run: the run's name, of 16 hexadecimal digits, by which a client that
            is started again recognizes the run; empty if the client is
            refused.
        refusal: why the client is refused, as a clause; empty if it is
            admitted.

    """

    run: str
    refusal: str = ""

    def to_content(self) -> dict[str, str]:
        """The content to send."""
        return {"refusal": self.refusal} if self.refusal else {"run": self.run}

    @classmethod
    def from_content(cls, content: object) -> "Admission":
        """The message that has arrived.

        Raises:
            WireError: the content is of another kind, or the name is not
                of 16 hexadecimal digits.

        """
        content = content if isinstance(content, dict) else {}
        run, refusal = content.get("run"), content.get("refusal")
        if isinstance(refusal, str) and refusal and run is None:
            return cls("", _plain(refusal))
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise WireError(f"the server's run {told(run)} has no valid name")
        return cls(run)


def _plain(text: str) -> str:
    """A text that has arrived, on one line in ASCII; a long one is cut."""
    text = text[:_MOST_REASON].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)[:_MOST_REASON]


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


# The reasons for which a client has no update.
DIVERGED = ("its loss is not finite", "its parameters are not finite")


@dataclass(frozen=True)
class NoUpdate:
    """A client has no update to share, as its training has diverged.

    Attributes:
        reason: why there is no update, in words; at most 300 characters are
            sent.

    """

    reason: str

    def to_content(self) -> tuple[int, str]:
        """The content to send."""
        return 0, self.reason[:_MOST_REASON]


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
        if len(payload) > _MOST_REASON:
            raise WireError(f"its reason has {len(payload)} characters")
        return NoUpdate(payload)
    if not is_number or not 0 < samples <= most_samples:
        raise WireError(
            f"it claims {told(samples)} samples; from 1 to {most_samples} "
            "are possible (fedsa.max_samples)"
        )
    return Update(samples, check_bytes(payload))


@dataclass(frozen=True)
class Metrics:
    """A client's evaluation results.

    Attributes:
        results: the values by name; names are ``<split>_<metric>``.  A value
            that is not finite is nan: the client has no such result.

    """

    results: Mapping[str, float]

    def to_content(self) -> dict[str, float]:
        """The content to send."""
        return dict(self.results)

    @property
    def defined(self) -> dict[str, float]:
        """The results that are finite."""
        return {k: v for k, v in self.results.items() if math.isfinite(v)}

    @property
    def undefined(self) -> list[str]:
        """The names of the results that are not finite."""
        return [k for k, v in self.results.items() if not math.isfinite(v)]

    @classmethod
    def from_content(cls, content: object, known: "Known") -> "Metrics":
        """The message that has arrived.

        Args:
            content: the content that has arrived.
            known: the results that a client can have.

        Raises:
            WireError: the content is of another kind, or a value cannot be
                averaged.

        """
        if not isinstance(content, dict):
            raise WireError(f"they are a {type(content).__name__}")
        if len(content) > _MOST_RESULTS:
            raise WireError(f"they are {len(content)}, too many")
        results = {}
        for name, value in content.items():
            if not isinstance(name, str) or not known.has(name):
                raise WireError(f"{told(name)} is no result")
            number = _as_number(value)
            if number is None:
                raise WireError(f"{name} is {told(value)}")
            results[name] = value if math.isfinite(number) else math.nan
        for split in {split_of(name) for name in content}:
            name = f"{split}_total"
            total = results.get(name, 0)
            most = known.totals.get(split, MOST_EXAMPLES)
            if not 0 < total <= most or total != int(total):
                raise WireError(
                    f"{name} is {told(content.get(name, 0))}; from 1 "
                    f"to {most} are possible"
                )
        return cls(results)


@dataclass(frozen=True)
class Known:
    """What a server knows of the results that a client can have.

    Attributes:
        splits: the splits that are evaluated (``eval.split``).
        metrics: the names of the metrics that the clients' trainer computes;
            None if the trainer is not the plugins' own, and may compute any.
        totals: by split, the most examples that the client can have; a split
            of which nothing is known is missing.

    """

    splits: Collection[str]
    metrics: Collection[str] | None = None
    totals: Mapping[str, int] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether a client can have a result of this name."""
        split, _, metric = name.partition("_")
        if split not in self.splits or not _RESULT.fullmatch(name):
            return False
        return self.metrics is None or metric in self.metrics


def split_of(name: str) -> str:
    """The split in the name of a result, ``test`` of ``test_accuracy``."""
    return name.partition("_")[0]


def _as_number(value: object) -> float | None:
    """A value as a number, perhaps infinite or nan; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    is_too_large = math.isfinite(number) and abs(number) > _LARGEST
    return None if is_too_large else number
