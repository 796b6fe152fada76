"""FederatedScope's own log of results, read as this package's own."""

import ast
import re
from collections.abc import Mapping
from typing import Any

# what numpy 2 writes of a number, and what Python writes but cannot read
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")
_NO_NUMBER = re.compile(r"(?<=[:\[ ])-?(nan|inf)(?=[,}\] ])")


def evaluation_of_host(text: str) -> dict[str, Any] | None:
    """A line of the host's log, as ``evaluation`` writes one.

    The host keeps neither bytes nor which client's a result is, and counts
    the rounds of clients' results from 0, those of a global model's from 1.

    Args:
        text: the line.

    Returns:
        The evaluation; None if the line holds something else, such as a
        client's training or the best results once more.

    Raises:
        ValueError, SyntaxError: the line is damaged.

    """
    line = _literal(text)
    rnd = line.get("Round")
    if not isinstance(rnd, int):
        return None
    weighted = line.get("Results_weighted_avg")
    whole = line.get("Results_raw", {})
    if not weighted and "Server" not in str(line.get("Role")):
        return None
    return {
        "round": rnd + 1 if weighted else rnd,
        "weighted": _ordered(weighted or whole),
        "mean": _ordered(line.get("Results_avg") or whole),
        "clients": {},
    }


def _literal(text: str) -> dict[str, Any]:
    plain = _SCALAR.sub(r"\1", text)
    value = ast.literal_eval(_NO_NUMBER.sub("None", plain))
    if not isinstance(value, dict):
        raise ValueError("no dictionary")
    return value


def _ordered(results: Any) -> dict[str, float]:
    """Numbers by name: a host's own order changes from run to run."""
    if not isinstance(results, Mapping):
        raise ValueError("no results")
    return {k: v for k, v in sorted(results.items()) if v is not None}
