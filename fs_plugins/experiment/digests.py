"""What the numbers of a run depend on, as digests that change with it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from fs_plugins.host.protocols import Runner


def digests_of(runner: Runner) -> dict[str, str]:
    """Digests of the data and the frozen weights, by a name for sentences.

    Args:
        runner: a runner with its server; its frozen weights are read once,
            and copied to the CPU one after the other.

    """
    return {
        "the texts and labels": _data(runner.data),
        "the base model's weights": _frozen(runner.server.model),
        "the base model's configuration": _configuration(runner.server.model),
    }


def digests_of_files(plugins: Sequence[str]) -> dict[str, str]:
    """Digests of the user's plugins, by a name for sentences.

    Args:
        plugins: the files; to be called while they are what was imported.

    """
    return {
        f"the plugin {file}": hashlib.sha256(
            Path(file).read_bytes()
        ).hexdigest()
        for file in plugins
    }


def _data(data: Any) -> str:
    """Every client's tokens and labels, and who has which of them."""
    sha = hashlib.sha256()
    digests: dict[int, str] = {}
    for ID, own in data.items():
        for split in ("train", "val", "test"):
            part = getattr(own, f"{split}_data", None)
            if part is None:
                continue
            sha.update(f"{ID} {split} {len(part)}".encode())
            tokens = getattr(part, "tokens", None)
            if tokens is None:
                _update_with_the_hosts(sha, part)
                continue
            if id(tokens) not in digests:
                digests[id(tokens)] = tokens.digest()
            sha.update(digests[id(tokens)].encode())
            sha.update(np.ascontiguousarray(part.index).data)
    return sha.hexdigest()


def _update_with_the_hosts(sha: Any, part: Any) -> None:
    """Of FederatedScope's own instructions, the tokens that it has made."""
    for name in ("input_ids", "labels"):
        for row in getattr(part, name, ()):
            sha.update(np.asarray(row).tobytes())


def _configuration(model: Any) -> str:
    """What its config.json says, without where and by what it was read."""
    inner = getattr(model, "model", model)
    config: Any = getattr(inner, "config", None)
    if not hasattr(config, "to_dict"):
        return ""
    says = {
        key: value
        for key, value in config.to_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    text = json.dumps(says, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@torch.no_grad()
def _frozen(model: Any) -> str:
    inner = getattr(model, "model", model)
    trained = getattr(model, "initial", None) or model.state_dict()
    digest = xxhash.xxh3_128()
    for name, parameter in inner.named_parameters():
        if name in trained:
            continue
        digest.update(f"{name} {parameter.dtype} {parameter.shape}".encode())
        raw = parameter.detach().contiguous().view(-1).view(torch.uint8)
        digest.update(raw.cpu().numpy().data)
    return digest.hexdigest()
