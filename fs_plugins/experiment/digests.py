"""Digests of the data, the base model and the plugins of a run."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from fs_plugins.host.protocols import Runner
from fs_plugins.model.build import GivenModel
from fs_plugins.model.digest import digest_of_frozen, update_with


def digests_of(runner: Runner) -> dict[str, str]:
    """Digests of the data and of the base model.

    The frozen weights are copied to the CPU one after the other.

    Args:
        runner: a runner that has been built.

    Returns:
        The digests, by what an error message calls the things.

    """
    model = runner.server.model
    given = {}
    if isinstance(model, GivenModel):
        # Without the checkpoint of a base model and the seed, nothing else
        # decides what the adapter and the head begin with.
        given = {"the given model's adapter and head": _initial(model)}
    return given | {
        "the texts and labels": _data(data_of(runner)),
        "the base model's weights": digest_of_frozen(runner.server.model),
        "the base model's configuration": _configuration(runner.server.model),
    }


def data_of(runner: Runner) -> dict[int, Any]:
    """The data in this process, by participant; 0 stands for the server."""
    if runner.mode == "distributed":
        return {0: runner.data}
    data: dict[int, Any] = runner.data
    return data


def digests_of_files(plugins: Sequence[str]) -> dict[str, str]:
    """Digests of the user's plugins.

    To be called early in a run, before a file differs from what was imported.

    Args:
        plugins: the files of the plugins.

    Returns:
        The digests, by what an error message calls the plugins.

    """
    return {
        f"the plugin {file}": hashlib.sha256(
            Path(file).read_bytes()
        ).hexdigest()
        for file in plugins
    }


def _data(data: Any) -> str:
    """A digest of all tokens and labels, and of each client's share."""
    sha = hashlib.sha256()
    digests: dict[int, str] = {}
    for ID, client_data in data.items():
        for split in ("train", "val", "test"):
            dataset = getattr(client_data, f"{split}_data", None)
            if dataset is None:
                continue
            sha.update(f"{ID} {split} {len(dataset)}".encode())
            tokens = getattr(dataset, "tokens", None)
            if tokens is None:
                _update_with_the_hosts(sha, dataset)
                continue
            if id(tokens) not in digests:
                digests[id(tokens)] = tokens.digest()
            sha.update(digests[id(tokens)].encode())
            sha.update(np.ascontiguousarray(dataset.index).data)
    return sha.hexdigest()


def _update_with_the_hosts(sha: Any, dataset: Any) -> None:
    """Add the tokens of a data set of FederatedScope's own to a digest."""
    for name in ("input_ids", "labels"):
        for row in getattr(dataset, name, ()):
            sha.update(np.asarray(row).tobytes())


def _configuration(model: Any) -> str:
    """A digest of the model's configuration.

    The model's path and the version of transformers are left out.
    """
    inner = getattr(model, "model", model)
    config: Any = getattr(inner, "config", None)
    if not hasattr(config, "to_dict"):
        return ""
    values = {
        key: value
        for key, value in config.to_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _initial(model: GivenModel) -> str:
    digest = xxhash.xxh3_128()
    for name, tensor in model.initial.items():
        update_with(digest, name, tensor)
    return digest.hexdigest()
