"""The configuration: nested, attribute access, unknown keys refused."""

import copy
import logging
from ast import literal_eval
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

import federatedscope.register as register
from federatedscope.core.configs.keys import (
    DORMANT,
    HONOURED,
    OPEN_SECTIONS,
    SWITCHES,
)

logger = logging.getLogger(__name__)
_CHECKS = "__cfg_check_funcs__"
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast


class CN(CfgNode):  # type: ignore[misc]
    """A configuration node.

    Differs from yacs in what FederatedScope's own node differs in: an int
    may replace a float (and a float that is whole, an int), check functions
    can be registered, and ``freeze`` writes ``<outdir>/config.yaml``.
    """

    def __init__(
        self,
        init_dict: dict[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = False,
    ) -> None:
        super().__init__(init_dict, key_list, new_allowed)
        self.__dict__[_CHECKS] = []
        self.__dict__["is_ready_for_run"] = False

    def register_cfg_check_fun(self, check: Callable[["CN"], None]) -> None:
        """Call ``check(cfg)`` after each merge; it raises to refuse."""
        self.__dict__[_CHECKS].append(check)

    def assert_cfg(self, check_cfg: bool = True) -> None:
        """Run the registered checks."""
        if check_cfg:
            for check in self.__dict__[_CHECKS]:
                check(self)

    def merge_from_file(
        self, cfg_filename: str, check_cfg: bool = True
    ) -> None:
        """Merge a YAML file."""
        with open(cfg_filename, encoding="utf-8") as file:
            self._merge(_leaves(yaml.safe_load(file) or {}))
        self.assert_cfg(check_cfg)

    def merge_from_other_cfg(
        self, cfg_other: dict[str, Any], check_cfg: bool = True
    ) -> None:
        """Merge another node, or a nested dict."""
        self._merge(_leaves(cfg_other))
        self.assert_cfg(check_cfg)

    def merge_from_list(
        self, cfg_list: list[Any], check_cfg: bool = True
    ) -> None:
        """Merge ``[key, value, key, value, ...]``, keys with dots."""
        if len(cfg_list) % 2:
            raise ValueError(f"key {cfg_list[-1]!r} has no value")
        self._merge(zip(cfg_list[::2], cfg_list[1::2], strict=True))
        self.assert_cfg(check_cfg)

    def _merge(self, pairs: Iterable[tuple[str, Any]]) -> None:
        for key, value in pairs:
            value = _decode(value)
            if key in SWITCHES and value != SWITCHES[key]:
                raise ValueError(
                    f"{key}: {value!r} is beyond the embedded host, which "
                    f"supports only {SWITCHES[key]!r}: install "
                    "FederatedScope (its llm branch) to use it"
                )
            node, *rest = self._walk(key)
            if node is None:
                if key in SWITCHES or _is_dormant(key):
                    continue
                raise KeyError(f"Non-existent config key: {key}")
            name = rest[0]
            if name in node:
                value = _coerce(value, node[name], key)
            node[name] = value

    def _walk(self, key: str) -> tuple[Any, ...]:
        """(node, last part of the key), or (None,) if the key is unknown."""
        *path, name = key.split(".")
        node: Any = self
        for part in path:
            if part not in node and node.is_new_allowed():
                node[part] = CN(new_allowed=True)
            node = node.get(part)
            if not isinstance(node, CfgNode):
                return (None,)
        if name in node or node.is_new_allowed():
            return node, name
        return (None,)

    @property
    def is_ready_for_run(self) -> bool:
        """Whether the checks have run since the last change."""
        return bool(self.__dict__["is_ready_for_run"])

    def ready_for_run(self, check_cfg: bool = True) -> None:
        """Run the checks and mark the node as complete."""
        self.assert_cfg(check_cfg)
        self.__dict__["is_ready_for_run"] = True

    def freeze(
        self, inform: bool = True, save: bool = True, check_cfg: bool = True
    ) -> None:
        """Make the node immutable and write ``<outdir>/config.yaml``."""
        self.ready_for_run(check_cfg)
        super().freeze()
        if save:
            folder = Path(self.outdir)
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.dump(plain(self), Dumper=_DUMPER, sort_keys=False)
            (folder / "config.yaml").write_text(text, encoding="utf-8")
            if inform:
                logger.info("the configuration is:\n%s", text)


def plain(node: Any) -> Any:
    """``node`` as dicts, lists and scalars that YAML can hold."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    return node


def _leaves(
    tree: dict[str, Any], prefix: str = ""
) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif not isinstance(value, dict):
            yield f"{prefix}{key}", copy.deepcopy(value)


def _is_dormant(key: str) -> bool:
    return any(key == d or key.startswith(d + ".") for d in DORMANT)


def _decode(value: Any) -> Any:
    """A string that is a Python literal means that literal ('1e-3')."""
    if isinstance(value, str):
        try:
            return literal_eval(value)
        except (ValueError, SyntaxError):
            pass
    return value


def _coerce(new: Any, old: Any, key: str) -> Any:
    if isinstance(old, CfgNode):
        raise ValueError(f"Type mismatch: {key} is a section, got {new!r}")
    if type(new) is type(old) or old is None:
        return new
    numbers = type(new) in (int, float) and type(old) in (int, float)
    if numbers and (type(old) is float or float(new).is_integer()):
        return type(old)(new)
    if {type(new), type(old)} == {list, tuple}:
        return type(old)(new)
    raise ValueError(
        f"Type mismatch for config key {key}: {new!r} is not a "
        f"{type(old).__name__}"
    )


global_cfg = CN()


def _tree(defaults: dict[str, Any], prefix: str = "") -> CN:
    node = CN(new_allowed=prefix.rstrip(".") in OPEN_SECTIONS)
    for key, value in defaults.items():
        is_section = isinstance(value, dict)
        node[key] = (
            _tree(value, f"{prefix}{key}.")
            if is_section
            else copy.deepcopy(value)
        )
    return node


def _check_federate(cfg: CN) -> None:
    """Turn a sampling rate into a number; see who takes part."""
    fed = cfg.federate
    if fed.mode not in ("standalone", "distributed"):
        raise ValueError(
            f"federate.mode is {fed.mode!r}; it must be 'standalone' or "
            "'distributed'"
        )
    unknown = {*fed.join_in_info} - {"num_sample"}
    if unknown:
        raise ValueError(
            f"federate.join_in_info: {sorted(unknown)} needs FederatedScope"
        )
    if fed.mode == "distributed" and fed.client_num == 0:
        raise ValueError("federate.client_num must be set to distribute")
    rate, number, total = (
        fed.sample_client_rate,
        fed.sample_client_num,
        fed.client_num,
    )
    if total == 0:
        return
    if fed.method.lower() in ("local", "global"):
        number = total
    elif 0 < rate <= 1:
        number = max(1, int(rate * total))
    elif not 0 < number <= total:
        number = total
    if number != fed.sample_client_num:
        fed.sample_client_num = number


def _check_data(cfg: CN) -> None:
    if "@" in cfg.data.type:
        # In standalone mode the data may tell how many clients there are.
        least = 1 if cfg.federate.mode == "distributed" else 0
        if cfg.federate.client_num < least:
            raise ValueError(f"federate.client_num must be at least {least}")
        if not cfg.data.splitter:
            raise ValueError("data.splitter must be set")


def _check_train(cfg: CN) -> None:
    for section in ("train", "finetune"):
        mode = cfg[section].batch_or_epoch
        if mode not in ("batch", "epoch"):
            raise ValueError(
                f"{section}.batch_or_epoch is {mode!r}; it must be 'batch' "
                "or 'epoch'"
            )


def init_global_cfg(cfg: CN) -> None:
    """Fill ``cfg`` with the defaults, then with registered extensions."""
    for key, value in _tree(HONOURED).items():
        cfg[key] = value
    for check in (_check_federate, _check_data, _check_train):
        cfg.register_cfg_check_fun(check)
    for extend in register.config_dict.values():
        extend(cfg)


init_global_cfg(global_cfg)
