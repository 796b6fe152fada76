"""The summary of a run, finished or not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fs_plugins.errors import shown
from fs_plugins.experiment.evaluations import (
    better,
    is_evaluation,
    selection_key,
)
from fs_plugins.experiment.reading import is_count, is_number
from fs_plugins.host.configuration import Section
from fs_plugins.policy import METHODS, variant_of

SCHEMA = 1
_UNKNOWN = "unknown"


def facts_of(
    config: Mapping[str, Any] | Section, host: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The first entries of a summary, which describe the experiment.

    Args:
        config: the configuration, as FederatedScope's object or as read from
            a run's folder.
        host: the name and the version of the host, if they are known.

    """
    federate, model = _section(config, "federate"), _section(config, "model")
    method = _text_in(federate, "method")
    is_ours = method.lower() in METHODS
    return {
        "schema": SCHEMA,
        "method": method.lower() if is_ours else method,
        "aggregator": (
            _text_in(_section(config, "fedsa"), "aggregator")
            if is_ours
            else None
        ),
        "adapter": _adapter_in(config),
        **(host or {}),
        "model": _text_in(model, "type"),
        "data": _text_in(_section(config, "data"), "type"),
        "clients": _count_in(federate, "client_num"),
        "rounds": _count_in(federate, "total_round_num"),
        "seed": config.get("seed", 0),
    }


def results_of(
    last: Mapping[str, Any] | None, best: Mapping[str, Any] | None, key: str
) -> dict[str, Any]:
    """The results in a summary.

    Args:
        last: the last evaluation, if there is one.
        best: the best evaluation by validation, if there is one.
        key: the metric by which the best evaluation is chosen.

    """
    if best is not None:
        chosen = {"round": best["round"], "by": key}
        best = chosen | {k: v for k, v in best.items() if k != "round"}
    return {"last": last, "best": best}


def summary_so_far(
    config: Mapping[str, Any] | Section, curve: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The summary of an unfinished run, as far as its values are known.

    Args:
        config: the configuration in the run's folder.
        curve: the evaluations so far, with the bytes sent until then.

    """
    asked = _section(config, "eval").get("best_res_update_round_wise_key")
    key = selection_key(str(asked or "val_loss"))
    best = last = None
    for line in curve:
        last = {k: v for k, v in line.items() if not k.endswith("_bytes")}
        best = better(key, last, best)
    sent = curve[-1] if curve else {}
    return facts_of(config) | {
        "results": results_of(last, best, key),
        "communication": {
            way: sent.get(way) for way in ("uplink_bytes", "downlink_bytes")
        },
        "time": {},
        "memory": {},
        "rejected_updates": None,
    }


def stopped_early(summary: Mapping[str, Any]) -> str:
    """A sentence for the reader of a run that has ended early."""
    last = summary["results"]["last"] or {"round": 0}
    return (
        f"stopped early after round {last['round']} of {summary['rounds']} "
        f"({summary['stopped_early']})"
    )


def problem_of(value: Any) -> str:
    """Why a value read from a file is no summary of this version.

    Returns:
        The reason, for a sentence; ``""`` if the value is a summary.

    """
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return f"it has no 'schema' {SCHEMA}"
    for names, is_right in _FORM:
        for name in names:
            if not is_right(value.get(name)):
                return f"its {name!r} is {shown(value.get(name))}"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_results(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in value and (value[name] is None or is_evaluation(value[name]))
        for name in ("last", "best")
    )


def _are_costs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        number is None or is_number(number) for number in value.values()
    )


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


_FORM: Sequence[tuple[Sequence[str], Callable[[Any], bool]]] = (
    (("data", "model"), _is_text),
    (("method", "aggregator", "adapter"), _or_none(_is_text)),
    (("host", "host_version", "stopped_early"), _or_none(_is_text)),
    (("seed",), is_count),
    (("clients", "rounds", "rejected_updates"), _or_none(is_count)),
    (("results",), _are_results),
    (("communication", "time", "memory"), _are_costs),
)


def _section(
    config: Mapping[str, Any] | Section, name: str
) -> Mapping[str, Any]:
    """A section of a configuration; empty if there is none."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _text_in(section: Mapping[str, Any], name: str) -> str:
    """A text of a section; ``unknown`` if there is none."""
    value = section.get(name)
    return value if isinstance(value, str) else _UNKNOWN


def _count_in(section: Mapping[str, Any], name: str) -> int | None:
    """A whole number of a section; None if there is none."""
    value = section.get(name)
    return value if is_count(value) else None


def _adapter_in(config: Mapping[str, Any] | Section) -> str:
    """The name of the adapter's method.

    A run of this package always has an adapter; of other runs it may be
    unknown.
    """
    args = _section(_section(config, "llm"), "adapter").get("args") or [{}]
    first = args[0] if isinstance(args, (list, tuple)) else None
    if isinstance(first, Mapping) and (first or "fedsa" in config):
        return variant_of(first)
    return _UNKNOWN
