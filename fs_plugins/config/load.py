"""Loads a configuration from YAML files and ``key value`` pairs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config.adapter import merged_adapter
from fs_plugins.config.checks import check_values
from fs_plugins.config.checks_of_modes import check_by_host
from fs_plugins.config.host_options import HOST_OPTIONS
from fs_plugins.config.kinds import Kind, kind_like
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.plugins import load_plugins, refuse_untrusted
from fs_plugins.config.retired import no_such_key
from fs_plugins.config.yaml_file import flatten, read_yaml, short
from fs_plugins.configurations import find_configuration
from fs_plugins.errors import UserError, did_you_mean, shown, unknown
from fs_plugins.host.configuration import Config

_KINDS = {option.key: option.kind for option in (*OPTIONS, *HOST_OPTIONS)}
_ADAPTER = "llm.adapter.args"
_MOST_KEYS = 20  # of a section, in a sentence
# Files and folders that FederatedScope opens, which knows no home folder "~".
_FILES = (
    "outdir",
    "federate.restore_from",
    "federate.save_to",
    "llm.cache.model",
    "fedsa.token_cache",
)


# A YAML file, perhaps with variations, or the content of such a file.
Experiment = str | Path | Mapping[str, Any]
# Words 'key value ...' as on a command line, or values by key.
Overrides = Sequence[str] | Mapping[str, Any]


def load_config(
    experiment: Experiment,
    overrides: Overrides = (),
    trust_plugins: bool = True,
) -> Config:
    """Load and check the complete configuration of an experiment.

    Args:
        experiment: a YAML file, perhaps with variations: ``a.yaml+ffa+vera``
            stands for a.yaml with the values that ``variations/ffa.yaml``
            and then ``variations/vera.yaml`` change.  Or the content of such
            a file, as a mapping or a configuration of FederatedScope.
        overrides: ``key value`` pairs, which are applied last; a value is
            read as in a YAML file.  Or a mapping, in whose keys a dot or two
            underscores separate the parts.
        trust_plugins: whether plugins that the experiment names are
            imported; those that the overrides name always are.

    Raises:
        UserError: the file is missing or broken, a key is unknown, a value
            is of the wrong type or not allowed.

    """
    from federatedscope.core.configs.config import global_cfg

    cfg: Config = global_cfg.clone()
    chosen: dict[str, Any] = {}
    folder = Path()
    if isinstance(experiment, Mapping):
        _choose(chosen, _values(experiment))
    elif not isinstance(experiment, (str, Path)):
        raise UserError(
            f"{shown(experiment)} is neither a YAML file nor its content"
        )
    else:
        files = files_of(experiment)
        folder = files[0].parent
        for file in files:
            _choose(chosen, _pairs_of(file))
    changed = (
        _values(overrides)
        if isinstance(overrides, Mapping)
        else _words(cfg, overrides)
    )
    _choose(chosen, changed)
    plugins = _KINDS["fedsa.plugins"].read(
        "fedsa.plugins", chosen.get("fedsa.plugins", [])
    )
    # Plugins come first: the values below may name what they register.
    plugins = [_plugin_file(name, folder) for name in plugins]
    if not trust_plugins and "fedsa.plugins" not in changed:
        refuse_untrusted(plugins, experiment)
    load_plugins(plugins)
    for key, value in chosen.items():
        is_text = key in _FILES and isinstance(value, str)
        _set(cfg, key, os.path.expanduser(value) if is_text else value)
    cfg.fedsa.plugins = plugins
    if not cfg.expname:
        cfg.expname = f"{cfg.federate.method.lower()}_{name_of(experiment)}"
    check_values(cfg)
    try:
        check_by_host(cfg)
    except UserError:
        raise
    except (ValueError, AssertionError) as error:
        raise UserError(
            f"{short(name_of(experiment))}: {one_line(error)}"
        ) from error
    return cfg


def _choose(chosen: dict[str, Any], pairs: Mapping[str, Any]) -> None:
    """Add values to those chosen so far; a later value replaces an earlier.

    A list is replaced as a whole, except for the adapter's arguments, which
    are merged.
    """
    for key, value in pairs.items():
        if key == _ADAPTER:
            value = merged_adapter(chosen.get(key), value)
        chosen[key] = value


def _pairs_of(file: Path) -> dict[str, Any]:
    """The values of a YAML file, by keys with dots."""
    pairs: dict[str, Any] = {}
    for key, value in flatten(read_yaml(file)):
        if key in pairs:
            raise UserError(
                f"{short(key)}: it is given twice in {short(file)}"
            )
        pairs[key] = value
    return pairs


def _values(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a mapping, or of a configuration, by keys with dots."""
    if hasattr(tree, "merge_from_file"):  # a configuration
        return difference({}, tree)
    pairs: dict[str, Any] = {}
    for key, value in flatten(tree):
        key = key.replace("__", ".")
        if key in pairs:
            raise UserError(f"{short(key)}: it is given twice")
        pairs[key] = _as_in_yaml(value)
    return pairs


def _as_in_yaml(value: Any) -> Any:
    """A Python value as a YAML file would hold it."""
    if isinstance(value, Path):
        return str(value.expanduser())
    if hasattr(value, "tolist"):  # of numpy or torch
        return _as_in_yaml(value.tolist())
    if isinstance(value, Mapping):
        return {key: _as_in_yaml(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_as_in_yaml, value), key=str)
    if isinstance(value, (tuple, list)):
        return [_as_in_yaml(entry) for entry in value]
    return value


def _words(cfg: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """The values of ``key value`` pairs, by key; the last of a key counts."""
    words = [str(word) for word in overrides]
    if len(words) % 2:
        raise UserError(
            f"{shown(words[-1])} has no value; after the file come pairs "
            "'key value'"
        )
    pairs: dict[str, Any] = {}
    for key, word in zip(words[::2], words[1::2], strict=True):
        kind = _kind_of(key, _value_at(cfg, key))
        value = kind.read_word(short(key), word)
        if isinstance(value, Mapping):  # The key is that of a section.
            pairs.update(flatten(value, f"{key}."))
        else:
            pairs[key] = value
    return pairs


def _kind_of(key: str, default: Any) -> Kind:
    """The kind of a key's values, by its row or else by its default."""
    return _KINDS.get(key) or kind_like(default)


def _value_at(cfg: Config, key: str) -> Any:
    """The value of a key with dots; None if there is no such key."""
    node = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _plugin_file(name: str, folder: Path) -> str:
    """The absolute path of a plugin.

    The plugin is looked for in the folder of the YAML file, and then in the
    current folder.
    """
    beside = folder / os.path.expanduser(name)
    is_there = os.path.isfile(beside)
    return str((beside if is_there else Path(name)).absolute())


def files_of(experiment: str | Path) -> list[Path]:
    """The base file of ``a.yaml+ffa+vera`` and the files of its variations.

    A base file that does not exist in the current folder may be one of the
    files that come with the project.  A variation lies in a folder
    ``variations`` beside the base file or beside the base file's folder; or
    it is named by its path (``+my.yaml``).

    Raises:
        UserError: there is no such variation.

    """
    # os.path.exists returns False for names at which Path.exists may raise.
    if os.path.exists(experiment):
        return [Path(experiment)]
    first, *names = str(experiment).split("+")
    base = find_configuration(first)
    known = variations_of(base)
    files = [base]
    for name in names:
        file = known.get(name, Path(name))
        if not os.path.isfile(file):
            raise unknown(f"variation of {short(base)}", name, known)
        files.append(file)
    return files


def variations_of(base: Path) -> dict[str, Path]:
    """The variations of a base file, by name.

    A variation in the folder beside the base file takes precedence over one
    of the same name beside the base file's folder.
    """
    folders = [
        folder / "variations" for folder in (base.parent.parent, base.parent)
    ]
    files = [
        file
        for folder in folders
        if os.path.isdir(folder)
        for file in sorted(folder.glob("*.yaml"))
    ]
    return {file.stem: file for file in files}


def name_of(experiment: Experiment) -> str:
    """A short name of an experiment.

    For ``yaml_configs/glue/rte.yaml+ffa`` it is ``rte+ffa``.
    """
    if isinstance(experiment, Mapping):
        return "experiment"
    return "+".join(file.stem for file in files_of(experiment))


def _set(cfg: Config, key: str, value: Any) -> None:
    """Check a value and let FederatedScope merge it into ``cfg``."""
    *path, name = key.split(".")
    node = _value_at(cfg, ".".join(path)) if path else cfg
    is_known = isinstance(node, Mapping) and name in node
    if is_known and isinstance(node[name], dict):
        if value != {}:
            keys = [k for k in node[name] if not k.startswith("__")]
            more = ", ..." if keys[_MOST_KEYS:] else ""
            raise UserError(
                f"{short(key)}: {shown(value)} stands where a section does; "
                "write its keys below it "
                f"({', '.join(keys[:_MOST_KEYS])}{more})"
            )
        return
    if not is_known:
        _check_new(cfg, node, key)
    value = _kind_of(key, node[name] if is_known else None).read(
        short(key), value
    )
    try:
        cfg.merge_from_other_cfg(_nested(key, value), check_cfg=False)
    except (KeyError, AttributeError, AssertionError) as error:
        raise _no_such_key(cfg, key) from error
    except ValueError as error:
        raise UserError(one_line(error)) from error


def _check_new(cfg: Config, section: Any, key: str) -> None:
    """Refuse an unknown key that is below a value, or that looks misspelt.

    Some sections, such as the arguments of the optimizer, accept any key.
    There a key that is nearly the name of a known key is taken for a
    spelling mistake.  In other sections FederatedScope refuses new keys.
    """
    above, _, below = key.rpartition(".")
    while above:
        value = _value_at(cfg, above)
        if value is not None and not isinstance(value, dict):
            raise UserError(
                f"{above}: it is no section with a key {shown(below)}, but "
                f"of the type '{_kind_of(above, value).name}'"
            )
        above = above.rpartition(".")[0]
    name = key.rpartition(".")[2]
    if not hasattr(section, "is_new_allowed"):
        return
    if section.is_new_allowed() and did_you_mean(name, section, 0.8):
        raise _no_such_key(cfg, key)


def _no_such_key(cfg: Config, key: str) -> UserError:
    return no_such_key(key, difference({}, cfg))


def _nested(key: str, value: Any) -> Any:
    """A configuration with a single key.

    A text is quoted, as FederatedScope evaluates texts as Python literals.
    """
    from federatedscope.core.configs.config import CN

    value = repr(value) if isinstance(value, str) else value
    for part in reversed(key.split(".")):
        value = {part: value}
    return CN(value)


def update(cfg: Config, other: Any) -> None:
    """Set all values of another configuration in this one.

    FederatedScope's own merge would read a text such as '123' as a number.

    Args:
        cfg: the configuration to change.
        other: the configuration with the new values.  It may have keys that
            ``cfg`` lacks, but no such sections.

    """
    for key, value in difference(cfg, other).items():
        *path, name = key.split(".")
        node = cfg
        for part in path:
            node = node[part]
        node[name] = value


def difference(old: Any, new: Any) -> dict[str, Any]:
    """The values that differ between two configurations, by keys with dots.

    Args:
        old: a configuration or a mapping.
        new: another one, whose values are returned.  Keys of ``old`` that
            it lacks are left out.

    """
    before, now = (
        {
            # FederatedScope wraps some values together with a description.
            key: getattr(value, "value", value)
            for key, value in flatten(tree)
            if "__" not in key
            and not key.endswith("is_ready_for_run")
            and not isinstance(value, dict)
        }
        for tree in (old, new)
    )
    return {
        key: value
        for key, value in now.items()
        if key not in before or before[key] != value
    }


def tree_of(cfg: Config) -> dict[str, Any]:
    """The whole configuration as nested mappings, as in a YAML file."""
    return nested(difference({}, cfg))


def nested(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, as in a YAML file, from values by keys with dots."""
    tree: dict[str, Any] = {}
    for key, value in pairs.items():
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    return tree


def one_line(error: BaseException) -> str:
    """The text of an error, without line breaks."""
    return " ".join(str(error).split())
