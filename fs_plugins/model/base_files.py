"""The files of a base model, and the name that saved adapters give it."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.utils import (
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)
from transformers.utils.hub import cached_file

from fs_plugins.model.pretrained import with_text_config
from fs_plugins.terms import MULTI_LABEL_TYPE

# What the logits of a batch depend on, and what they mean.
_DECISIVE = ("num_labels", "pad_token_id", "eos_token_id")
_DESCRIPTIVE = ("id2label", "problem_type", "dtype")


@dataclass(frozen=True)
class BaseFiles:
    """The base model that saved adapters name.

    Attributes:
        path: what PEFT loads as the base model: a name on the hub, or an
            absolute folder.
        name: the base model's name on the hub, or its absolute folder;
            ``""`` if it was not loaded from files.
        revision: the commit on the hub that was loaded; ``""`` for a folder.
        sha256: the digest of each file of weights, by the file's name.

    """

    path: str = ""
    name: str = ""
    revision: str = ""
    sha256: Mapping[str, str] | None = None


def base_files(model: Any, cache: str, folder: Path) -> BaseFiles:
    """Name the base model so that PEFT loads it as the run has used it.

    PEFT loads a base model with the labels, the padding and the precision
    that its checkpoint's ``config.json`` says.  If the run has used others,
    ``folder`` becomes a base model with the run's ``config.json`` and links
    to the checkpoint's files, and is what adapters name.  A model on the hub
    keeps its name as long as only names of classes or the precision differ.

    Args:
        model: the PEFT model.
        cache: the folder of downloaded files; ``""`` stands for that of
            transformers.
        folder: the folder that is written if it is needed.

    """
    inner = model.get_base_model()
    config = getattr(inner, "config", None)
    name = str(getattr(config, "name_or_path", None) or "")
    is_local = bool(name) and Path(name).is_dir()
    source = folder_of(name, cache)
    if source is None:
        return BaseFiles(name, name)
    # Of the hub's files, the folder of each commit has the commit's name.
    revision = "" if is_local else source.name
    name = str(source) if is_local else name
    weights = weights_in(source)
    digests = {file.name: digest_of(file) for file in weights}
    path = name
    keys = [*_DECISIVE, *(_DESCRIPTIVE if is_local else ())]
    if getattr(config, "problem_type", None) == MULTI_LABEL_TYPE:
        keys.append("problem_type")
    if _differs(config, _config_in(source), keys):
        other = _other_head(inner, weights)
        if _write(folder, source, config, other):
            path = str(folder.absolute())
    return BaseFiles(path, name, revision, digests)


def folder_of(name: str, cache: str) -> Path | None:
    """The folder of a checkpoint's files; None if there is none.

    Args:
        name: a folder, or the name of a model on the hub.
        cache: the folder of downloaded files; ``""`` stands for that of
            transformers.

    """
    if not name or Path(name).is_dir():
        folder = Path(name).absolute()
        return folder if name and (folder / CONFIG_NAME).is_file() else None
    try:
        file = cached_file(
            name,
            CONFIG_NAME,
            cache_dir=cache or None,
            local_files_only=True,
        )
    except OSError:
        return None
    return Path(file).parent if file else None


def _config_in(folder: Path) -> Any:
    """The configuration in a folder; None if transformers has no such model.

    A model that code has handed to a run may have come from anywhere.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return None


def weights_in(folder: Path) -> list[Path]:
    """The files of weights that transformers loads from a folder."""
    for name, index in (
        (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME),
        (WEIGHTS_NAME, WEIGHTS_INDEX_NAME),
    ):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / index).is_file():
            content = json.loads((folder / index).read_text())
            return [
                folder / part
                for part in sorted({*content["weight_map"].values()})
            ]
    return []


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, which the hub shows for large files, too."""
    status = file.stat()
    return _digest(str(file), status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(file: str, size: int, changed: int) -> str:
    sha = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()


def _differs(config: Any, plain: Any, keys: Sequence[str]) -> bool:
    """Whether a run's configuration says anything else than a checkpoint's.

    A precision counts only if the checkpoint names one.  So does a problem
    type, unless a text may have several labels, which a pipeline of
    transformers has to know.
    """
    if plain is None:
        return False
    if getattr(config, "quantization_config", None) is not None:
        keys = [key for key in keys if key != "dtype"]
    for key in keys:
        for used, said in zip(
            with_text_config(config), with_text_config(plain), strict=False
        ):
            one, other = (getattr(each, key, None) for each in (used, said))
            if key in ("dtype", "problem_type"):
                one, other = (
                    str(each or "").removeprefix("torch.")
                    for each in (one, other)
                )
                one = one if one == MULTI_LABEL_TYPE else other and one
            if one != other:
                return True
    return False


def _other_head(inner: Any, weights: Sequence[Path]) -> dict[str, Any]:
    """The parameters of the head that a checkpoint has in another shape."""
    shapes = dict(_shapes(weights))
    mark = ".original_module"
    own = {
        name.replace(mark, ""): parameter.detach().cpu().contiguous()
        for name, parameter in inner.named_parameters()
        if mark in name
    }
    return {
        name: tensor
        for name, tensor in own.items()
        if shapes.get(name, tensor.shape) != tensor.shape
    }


def _shapes(weights: Sequence[Path]) -> Iterator[tuple[str, torch.Size]]:
    """The name and the shape of each tensor of a checkpoint."""
    for file in weights:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  it is no mapping
                    shape = opened.get_slice(name).get_shape()
                    yield name, torch.Size(shape)
        else:
            loaded = torch.load(file, map_location="meta", weights_only=True)
            yield from ((name, each.shape) for name, each in loaded.items())


def _write(
    folder: Path, source: Path, config: Any, other: Mapping[str, Any]
) -> bool:
    """Write a base model with another configuration and links to the rest.

    Args:
        folder: the folder to write; an old one is replaced.
        source: the folder of the checkpoint.
        config: the configuration.
        other: parameters in place of the checkpoint's.

    Returns:
        Whether the folder was written; a file system may have no links.

    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config = copy.deepcopy(config)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # the checkpoint is not quantised
    try:
        for file in source.iterdir():
            if file.is_file() and file.name != CONFIG_NAME:
                (part / file.name).symlink_to(file)
    except OSError:
        shutil.rmtree(part)
        return False
    if other:
        _put_in_place(part, other)
    config.to_json_file(part / CONFIG_NAME)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return True


def _put_in_place(folder: Path, other: Mapping[str, Any]) -> None:
    """Add a file of weights that takes the place of a checkpoint's.

    Of two weights of one name transformers loads that of the later file, by
    the files' names.
    """
    weights = weights_in(folder)
    is_safe = weights[0].suffix == ".safetensors"
    head = folder / f"zz_head{weights[0].suffix}"
    if is_safe:
        save_file({**other}, head, {"format": "pt"})
    else:
        torch.save({**other}, head)
    for name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME):
        if folder / name in weights:  # it would be loaded without an index
            base = folder / f"base{weights[0].suffix}"
            weights = [weights[0].rename(base)]
    places = {
        name: file.name
        for file in [*weights, head]
        for name, _ in _shapes([file])
    }
    index = folder / (
        SAFE_WEIGHTS_INDEX_NAME if is_safe else WEIGHTS_INDEX_NAME
    )
    index.unlink(missing_ok=True)  # a link, which is not written through
    content = {"metadata": {}, "weight_map": places}
    index.write_text(json.dumps(content, indent=1))
