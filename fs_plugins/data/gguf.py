"""Converts GGUF files, once, into models that transformers loads quickly."""

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from fs_plugins.data.assets import sha256_of
from fs_plugins.errors import UserError, first_line

_WEIGHTS, _DIGEST = "model.safetensors", "sha256"


def from_gguf(file: Path, digest: str, cache: Path) -> Path:
    """Convert a GGUF file, unless the cache holds the converted model.

    The model is converted in a temporary folder, so that a crash leaves no
    half-written model in the cache.  A model whose weights have changed
    there is converted again.

    Args:
        file: the GGUF file.
        digest: the sha256 of the file, which names the model's folder.
        cache: the folder that holds the folders of converted models.

    Returns:
        The folder of the model, in float32, and of its tokenizer.

    Raises:
        UserError: the file cannot be read, perhaps as a package is missing,
            or the cache cannot be written to.

    """
    folder = cache / f"{file.stem}-{digest[:16]}"
    if _is_whole(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=cache, prefix="part-"))
    except OSError as error:
        raise UserError(f"{cache} cannot be written to: {error}") from error
    try:
        _convert(file, part)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    except OSError as error:
        # If the folder is complete, another process was faster.
        if not _is_whole(folder):
            raise UserError(
                f"{file} cannot be converted in {cache}: {error}"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    options: dict[str, Any] = {"gguf_file": file.name}
    # Versions of transformers without GgufConfig always dequantize.
    if hasattr(transformers, "GgufConfig"):
        config = transformers.GgufConfig(dequantize=True)
        options["quantization_config"] = config
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bars = contextlib.redirect_stderr(io.StringIO())
    try:
        with bars:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                dtype=torch.float32,
                trust_remote_code=False,
                **options,
            )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False
        )
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {first_line(error)} ('make install-demo' "
            "installs what it takes)"
        ) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    digest = sha256_of(folder / _WEIGHTS)
    (folder / _DIGEST).write_text(digest, encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Whether the weights in a folder are those that were converted."""
    try:
        noted = (folder / _DIGEST).read_text(encoding="utf-8")
        return noted == sha256_of(folder / _WEIGHTS)
    except OSError:
        return False
