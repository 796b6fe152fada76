"""GGUF files as models that load quickly, converted once."""

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
    """The folder of the converted model, in float32, and its tokenizer.

    A crash leaves nothing half-written in the cache; what has changed there
    since is converted again.

    Args:
        file: the GGUF file.
        digest: its sha256, which names the folder.
        cache: the folder to keep it in.

    Raises:
        UserError: the package that reads GGUF is missing, or it can't be
            written.

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
        if not _is_whole(folder):  # else another process was faster
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
    if hasattr(transformers, "GgufConfig"):  # older versions always do this
        config = transformers.GgufConfig(dequantize=True)
        options["quantization_config"] = config
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bars = contextlib.redirect_stderr(io.StringIO())
    try:
        with bars:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.float32, **options
            )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name
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
    try:
        noted = (folder / _DIGEST).read_text(encoding="utf-8")
        return noted == sha256_of(folder / _WEIGHTS)
    except OSError:
        return False
