"""Reads the YAML of a configuration: plain values, in a limited number."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.configurations import packaged_names
from fs_plugins.errors import UserError, did_you_mean, first_line, shown

_LONGEST = 2**18  # bytes of a file
_MOST = 10_000  # values of a file, with aliases written out
_DEEPEST = 32  # levels of nested lists and mappings
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")


class _RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that a configuration must not contain."""

    def __init__(self, problem: str, place: Any) -> None:
        super().__init__(problem=problem, problem_mark=place.start_mark)


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses what a configuration must not contain.

    A key that is given twice in a mapping, a list that contains itself, tags
    of other types, and too many or too deeply nested values are refused.  A
    date is read as a text.  ``1e-3``, a text in YAML 1.1, is read as a
    number.
    """

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text)
        self._most = most
        self._depth = self._number = 0
        # The number of values of each node, by its id, with aliases
        # written out.
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _RefusedError(
                f"there are more than {_DEEPEST} levels", event
            )
        self._number += 1
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            raise _RefusedError("a value contains itself", event)
        if id(node) not in self._sizes:
            self._sizes[id(node)] = self._measured(node)
        if max(self._number, self._sizes[id(node)]) > self._most:
            raise _RefusedError(
                f"there are more than {self._most} values", event
            )
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _RefusedError(
                f"{shown(node.value)} is not of the type "
                f"{node.tag.rpartition(':')[2]}",
                node,
            ) from error

    def _measured(self, node: Any) -> int:
        """Check a node and count its values, with aliases written out."""
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            raise _RefusedError(f"the tag {shown(node.tag)} is refused", node)
        children: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for name, value in node.value:
                children += (name, value)
                if isinstance(name, yaml.ScalarNode):
                    if name.value in seen:
                        raise _RefusedError(
                            f"the key {shown(name.value)} is given twice",
                            name,
                        )
                    seen.add(name.value)
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        return 1 + sum(self._sizes[id(child)] for child in children)


# Without the resolvers of timestamps, dates are read as texts.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if "timestamp" not in tag]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that quotes the texts which we read as numbers."""


class _HostsLoader(_Loader):
    """A loader for what PyYAML has written, where ``1e-3`` is a text."""


_HostsLoader.yaml_implicit_resolvers = {
    first: [*known] for first, known in _Loader.yaml_implicit_resolvers.items()
}


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        [*"-+.0123456789"],
    )


def read_yaml(file: Path) -> dict[Any, Any]:
    """Read the mapping that a YAML file of a configuration holds.

    Raises:
        UserError: the file cannot be read, is not YAML, holds no mapping, or
            holds something that a configuration must not contain.

    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        meant = (
            ""
            if os.path.exists(file)
            else did_you_mean(str(file), packaged_names())
        )
        raise UserError(
            f"{short(file)} cannot be read: {reason}{meant}"
        ) from error
    if len(content) > _LONGEST:
        raise UserError(
            f"{short(file)} is no configuration: it is larger than "
            f"{_LONGEST // 1024} kB"
        )
    try:
        tree = _parse(content.decode("utf-8"))
    except _RefusedError as error:
        raise UserError(f"{short(file)}, {reason_of(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{short(file)} is not YAML: {reason_of(error)}"
        ) from error
    if not isinstance(tree, dict):
        raise UserError(f"{short(file)} holds no configuration keys")
    return tree


def parse_text(text: str) -> Any:
    """Read YAML that is no file, with the limits of a file.

    Raises:
        yaml.YAMLError: the text is no YAML, or holds something that a
            configuration must not contain.

    """
    if len(text) > _LONGEST:
        raise yaml.YAMLError("it is too long")
    return _parse(text)


def parse_word(word: str) -> Any:
    """Read a word of the command line as YAML.

    A word that is not YAML is returned as a text.
    """
    if len(word) > _LONGEST:
        return word
    try:
        return _parse(word)
    except yaml.YAMLError:
        return word


def dump(tree: Mapping[str, Any]) -> str:
    """Nested mappings as YAML, which is read as what they are."""
    text: str = yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False)
    return text


def parse_of_host(text: str, most: int) -> Any:
    """Read YAML that the host has written.

    Args:
        text: the text.
        most: the largest number of values, with aliases written out.

    Raises:
        yaml.YAMLError: the text is no YAML, or holds something that a
            configuration does not contain.

    """
    return _parsed(_HostsLoader(text, most))


def _parse(text: str) -> Any:
    return _parsed(_Loader(text, _MOST))


def _parsed(loader: _Loader) -> Any:
    try:
        return loader.get_single_data()  # type: ignore[no-untyped-call]
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def reason_of(error: Exception) -> str:
    """The problem and its place in the file, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or not problem:
        return " ".join(first_line(error).split())
    words = " ".join(str(problem).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {words[:200]}"


def short(name: object) -> str:
    """A file's name for an error message: in one line, cut if it is long."""
    text = str(name)
    is_plain = text.isprintable() and text.strip() == text != ""
    text = text if is_plain else repr(text)
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-50:]}"


def flatten(
    tree: Mapping[Any, Any], prefix: str = ""
) -> list[tuple[str, Any]]:
    """The values of nested mappings, by keys with dots.

    An empty mapping counts as a value.

    Args:
        tree: nested mappings, as in a YAML file.
        prefix: what each key begins with.

    """
    pairs: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            pairs += flatten(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs
