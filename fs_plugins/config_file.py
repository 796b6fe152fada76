"""From YAML files and ``key value`` pairs to a checked configuration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.checks import check_values
from fs_plugins.configurations import find_configuration, packaged_names
from fs_plugins.errors import UserError, did_you_mean, unknown


def load_config(experiment: str | Path, overrides: Sequence[str] = ()) -> Any:
    """The configuration of an experiment, complete and checked.

    Args:
        experiment: a YAML file, or the name of one that comes with the
            project (``demo/fedsa.yaml``), perhaps with variations:
            ``a.yaml+ffa+vera`` is a.yaml with what ``variations/ffa.yaml``
            and then ``variations/vera.yaml`` set in its place.
        overrides: ``key value`` pairs, which come last.

    Raises:
        UserError: the file is missing or broken, a key is unknown, a value
            is of the wrong type or not allowed.

    """
    from federatedscope.core.configs.config import global_cfg

    cfg = global_cfg.clone()
    pairs: list[tuple[str, Any]] = []
    for file in files_of(experiment):
        pairs += _flatten(_read_yaml(file))
    if len(overrides) % 2:
        raise UserError(
            f"{overrides[-1]!r} has no value; after the file come pairs "
            "'key value'"
        )
    pairs += zip(overrides[::2], overrides[1::2], strict=True)
    for key, value in pairs:
        _set(cfg, key, value)
    folder = files_of(experiment)[0].parent
    cfg.fedsa.plugins = [_found(name, folder) for name in cfg.fedsa.plugins]
    if not cfg.expname:
        cfg.expname = f"{cfg.federate.method.lower()}_{name_of(experiment)}"
    try:
        cfg.assert_cfg()
    except UserError:
        raise
    except (ValueError, AssertionError) as error:
        raise UserError(f"{experiment}: {one_line(error)}") from error
    check_values(cfg)
    return cfg


def _found(name: str, folder: Path) -> str:
    """A plugin's file: beside the YAML file, or where the command runs."""
    beside = folder / name
    return str((beside if beside.is_file() else Path(name)).absolute())


def files_of(experiment: str | Path) -> list[Path]:
    """The base file of ``a.yaml+ffa+vera``, and those of its variations.

    A base file that is not there, seen from the current folder, may be one
    of those that come with the project.
    A variation is in a folder ``variations`` beside the base file, or beside
    the base file's folder; or it is a file of its own (``+my.yaml``).

    Raises:
        UserError: there is no such variation.

    """
    if Path(experiment).exists():
        return [Path(experiment)]
    first, *names = str(experiment).split("+")
    base = find_configuration(first)
    known = variations_of(base)
    files = [base]
    for name in names:
        file = known.get(name, Path(name))
        if not file.is_file():
            raise unknown(f"variation of {base}", name, known)
        files.append(file)
    return files


def variations_of(base: Path) -> dict[str, Path]:
    """The variations of a file, by name; those beside it come first."""
    folders = [
        folder / "variations" for folder in (base.parent.parent, base.parent)
    ]
    files = [file for d in folders for file in sorted(d.glob("*.yaml"))]
    return {file.stem: file for file in files}


def name_of(experiment: str | Path) -> str:
    """A short name: ``rte+ffa`` for ``yaml_configs/glue/rte.yaml+ffa``."""
    return "+".join(file.stem for file in files_of(experiment))


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        meant = (
            "" if file.exists() else did_you_mean(f"{file}", packaged_names())
        )
        raise UserError(
            f"{file} cannot be read: {error.strerror}{meant}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no configuration keys")
    return content


def _flatten(
    tree: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            # FederatedScope wraps some values, with a description
            is_wrapped = type(value).__name__ == "Argument"
            yield f"{prefix}{key}", value.value if is_wrapped else value


def _set(cfg: Any, key: str, value: Any) -> None:
    """Merge one key, so that an error can name it."""
    try:
        cfg.merge_from_other_cfg(_nested(key, value), check_cfg=False)
    except (KeyError, AttributeError, AssertionError) as error:
        known = [k for k, _ in _flatten(cfg) if "__" not in k]
        raise UserError(
            f"{key}: there is no such key{did_you_mean(key, known)}"
        ) from error
    except ValueError as error:
        if "FederatedScope" in str(error):
            raise UserError(one_line(error)) from error
        now = dict(_flatten(cfg)).get(key)
        kind = type(now).__name__ if now is not None else "section"
        raise UserError(
            f"{key}: {value!r} is of the wrong type; expected: {kind}"
        ) from error


def _nested(key: str, value: Any) -> Any:
    """A configuration with one key in it."""
    from federatedscope.core.configs.config import CN

    for part in reversed(key.split(".")):
        value = {part: value}
    return CN(value)


def difference(old: Any, new: Any) -> dict[str, Any]:
    """The keys whose values differ, with those of ``new``."""
    before, now = dict(_flatten(old)), dict(_flatten(new))
    return {
        key: value
        for key, value in now.items()
        if "__" not in key
        and not key.endswith("is_ready_for_run")
        and (key not in before or before[key] != value)
    }


def tree_of(cfg: Any) -> dict[str, Any]:
    """All of a configuration, as a YAML file has it."""
    return nested(difference({}, cfg))


def nested(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of keys with dots, as a YAML file has it."""
    tree: dict[str, Any] = {}
    for key, value in pairs.items():
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    return tree


def one_line(error: BaseException) -> str:
    """An error's text, without line breaks."""
    return " ".join(str(error).split())
