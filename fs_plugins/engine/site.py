"""What a site decides by itself, in its own file ``local/fedsa.yaml``.

A job comes from outside.  It says what is trained and how, but not where a
site's data are, where the site writes, or what code it imports.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.config.load import nested
from fs_plugins.config.yaml_file import flatten, parse_text, read_yaml
from fs_plugins.errors import UserError, shown
from fs_plugins.terms import ALPACA, AUTO, BY_FILE, NONE

FILE = "fedsa.yaml"  # in the folder ``local`` of FLARE's workspace
RUNS = "fedsa"  # the folder of runs in FLARE's workspace
SIMULATED = "simulated"
# What a job cannot say, as it is the site's own affair.
OF_SITES = (
    *("outdir", "expname", "expname_tag", "verbose"),
    *("use_gpu", "device", "backend"),
    *("data.root", "data.args", "distribute", "wandb"),
    *("federate.restore_from", "federate.save_to", "federate.save_freq"),
    *("federate.resource_info_file", "llm.cache", "fedsa.plugins"),
    *("fedsa.state.backend", "fedsa.state.folder", "fedsa.state.cache"),
    *("fedsa.track", "fedsa.token_cache", "fedsa.transport"),
    *("fedsa.eval.generate.run_code", "fedsa.eval.generate.problems"),
    *("fedsa.eval.choices.data", "fedsa.data.validation", "fedsa.data.test"),
)
# What a job says, and a site may say otherwise: also which columns are read.
EITHER = (
    *("data.type", "model.type", "fedsa.chat.template"),
    *("fedsa.data.text", "fedsa.data.label", "fedsa.data.labels"),
    *("fedsa.data.label_separator", "fedsa.data.target"),
    *("fedsa.data.prompt", "fedsa.data.completion", "fedsa.data.messages"),
    *("fedsa.data.instruction", "fedsa.data.input", "fedsa.data.output"),
    *("fedsa.data.incomplete", "fedsa.data.separator"),
)
_TEMPLATES = ("", AUTO, ALPACA, NONE)  # that are no files
_KEY = re.compile(r"[A-Za-z0-9]+(_?[A-Za-z0-9-]+)*(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Site:
    """A site's own settings.

    Attributes:
        folder: the folder of the site's runs.
        values: the site's values of the configuration, by keys with dots.
        is_simulated: whether the site is a process of the one who asked for
            the run, and so takes everything from the job.
        of_clients: values of each simulated client alone, in the order of
            their IDs, such as its file and its GPU.

    """

    folder: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    is_simulated: bool = False
    of_clients: tuple[Mapping[str, Any], ...] = ()


def load_site(workspace: Path) -> Site:
    """The settings of the site whose workspace of FLARE this is.

    Args:
        workspace: the folder that holds ``startup`` and ``local``.

    Raises:
        UserError: the file cannot be used.

    """
    file = workspace / "local" / FILE
    values = dict(flatten(read_yaml(file))) if file.exists() else {}
    folder = Path(str(values.pop("outdir", "") or workspace / RUNS))
    if SIMULATED in values:
        own = values[SIMULATED]
        if not isinstance(own, list) or not all(
            isinstance(each, dict) for each in own
        ):
            raise UserError(
                f"{file}: {SIMULATED} is for 'fedsa federate' to say"
            )
        return Site(folder, {}, True, tuple(own))
    for key in values:
        if key not in EITHER and not _is_of_site(key):
            raise UserError(
                f"{file}: {shown(key)} is not for a site to say, but for the "
                f"job; a site says {', '.join((*EITHER, *OF_SITES))}"
            )
    return Site(folder.expanduser(), values)


def _is_of_site(key: str) -> bool:
    return any(key == own or key.startswith(f"{own}.") for own in OF_SITES)


def without_own(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a job says of a run, without what is for the sites to say.

    Args:
        values: values of a configuration, by keys with dots.

    """
    return {k: v for k, v in values.items() if not _is_of_site(k)}


def asked_in(experiment: object) -> dict[str, Any]:
    """What a job says of a run, by keys with dots.

    Args:
        experiment: the YAML in the job.

    Raises:
        UserError: it is no configuration, or would count as other keys than
            it seems to have.

    """
    try:
        tree = parse_text(experiment) if isinstance(experiment, str) else None
    except yaml.YAMLError:
        tree = None
    if not isinstance(tree, dict):
        raise UserError("the job holds no configuration")
    asked = dict(flatten(tree))
    for key in asked:
        # Two underscores would stand for a dot.
        if not _KEY.fullmatch(key) or "__" in key:
            raise UserError(f"the job has a key that is none: {shown(key)}")
    return asked


def _check_no_paths(asked: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a job that names a file of the site."""
    model = str(asked.get("model.type", ""))
    name = model.rpartition("@")[0] or model
    is_path = name.startswith((".", "/", "~")) or os.path.exists(name)
    if "model.type" not in own and is_path:
        raise UserError(
            "model.type: the job names a folder; a site that has the model "
            f"says so in its own local/{FILE}"
        )
    template = asked.get("fedsa.chat.template", "")
    if "fedsa.chat.template" not in own and template not in _TEMPLATES:
        raise UserError(
            "fedsa.chat.template: the job names a file; a site that has the "
            f"template says so in its own local/{FILE}"
        )


def check_run(name: object) -> str:
    """The name of a run, by which a folder can be called.

    Raises:
        UserError: the name is none.

    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{shown(name)} cannot be the name of a run; it may have letters, "
            "digits, '.', '_' and '-'"
        )
    return name


def experiment_at(
    site: Site, asked: Mapping[str, Any], ID: int
) -> dict[str, Any]:
    """The configuration of the server or a client at a site.

    Args:
        site: the site's own settings.
        asked: what the job says, by keys with dots.
        ID: the client's ID; 0 for the server.

    Returns:
        Nested mappings, as in a YAML file.

    Raises:
        UserError: the site does not say where its data are.

    """
    if site.is_simulated:
        values = dict(asked)
        if ID:
            values |= site.of_clients[ID - 1]
        return nested(values)
    _check_no_paths(asked, site.values)
    values = {**without_own(asked), **site.values}
    if ID and "data.type" not in site.values:
        raise UserError(
            "this site does not say where its data are; write 'data: {type: "
            f"reports.csv@text}}' into the file local/{FILE} of its folder"
        )
    if values.get("data.splitter") != BY_FILE:
        raise UserError(
            "data.splitter: must be files, as each site has data of its own"
        )
    return nested(values)
