"""Reads FederatedScope's own log of results."""

import ast
import re
from collections.abc import Mapping
from typing import Any

# The form in which numpy 2 writes a number, and numbers that Python writes but
# cannot read as literals.
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")
_NO_NUMBER = re.compile(r"(?<=[:\[ ])-?(nan|inf)(?=[,}\] ])")


def evaluation_of_host(text: str) -> dict[str, Any] | None:
    """Convert a line of the host's log to an evaluation.

    The host notes neither the bytes that were sent nor the results of single
    clients.  It counts the rounds of averaged results from 0, but those of a
    global model's results from 1.

    Args:
        text: the line.

    Returns:
        The evaluation in the form of ``evaluations.evaluation``; None if the
        line holds something else, such as a client's training results or a
        repetition of the best results.

    Raises:
        ValueError: the line is damaged.
        SyntaxError: the line is damaged.

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
    """The dictionary that a line holds; numbers that are not finite are None.

    Raises:
        ValueError: the line holds something else.

    """
    plain = _SCALAR.sub(r"\1", text)
    value = ast.literal_eval(_NO_NUMBER.sub("None", plain))
    if not isinstance(value, dict):
        raise ValueError("no dictionary")
    return value


def _ordered(results: Any) -> dict[str, float]:
    """The results sorted by name, as their order changes from run to run."""
    if not isinstance(results, Mapping):
        raise ValueError("no results")
    return {k: v for k, v in sorted(results.items()) if v is not None}
