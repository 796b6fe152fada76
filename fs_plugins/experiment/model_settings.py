"""Fills in the section ``model`` from the rest of the configuration.

FederatedScope passes only this section to the function that builds a model.
"""

import os
from pathlib import Path
from typing import Any

from fs_plugins.config.options import DTYPES
from fs_plugins.data.assets import ASSETS, find_asset
from fs_plugins.data.gguf import from_gguf
from fs_plugins.data.tokens import default_cache
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.model.given import base_model_of, is_adapted
from fs_plugins.policy import KEEP
from fs_plugins.settings import (
    adapter_args,
    clients_of_a_round,
    device_of,
    is_ours,
    policy_from,
)


def describe_given(cfg: Config, model: Any) -> None:
    """Have the configuration say what a model is that code provides.

    Args:
        cfg: the configuration, which is changed.
        model: the model.

    Raises:
        UserError: the configuration asks for what is decided where a model
            is loaded.

    """
    base, inner = cfg.fedsa.base, base_model_of(model)
    for key, is_asked in (
        ("fedsa.base.quantize", base.quantize),
        ("fedsa.base.gradient_checkpointing", base.gradient_checkpointing),
        ("fedsa.scale_by_clients", cfg.fedsa.scale_by_clients),
    ):
        if is_asked and (key.startswith("fedsa.base") or is_adapted(model)):
            raise UserError(
                f"{key}: it is decided where the model is made that is handed "
                "over; leave it out"
            )
    for bits in ("4bit", "8bit"):
        if getattr(inner, f"is_loaded_in_{bits}", False):
            base.quantize = bits
    dtypes = [p.dtype for p in inner.parameters() if p.is_floating_point()]
    if not dtypes:
        raise UserError("model: it has no parameters")
    dtype = str(max(set(dtypes), key=dtypes.count)).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UserError(
            f"model: its parameters are in {dtype}; {', '.join(DTYPES)} are "
            "supported"
        )
    base.dtype = dtype
    if "float64" in (dtype, cfg.fedsa.adapter_dtype):
        if dtype != "float64":
            raise UserError(
                "fedsa.adapter_dtype: 'float64' needs a model in float64"
            )
        cfg.fedsa.adapter_dtype = dtype


def resolve_model(cfg: Config) -> str:
    """Fill in the section ``model``, from which the model is built.

    Args:
        cfg: the configuration, which is changed.

    Returns:
        The model's name on the hub, or its folder.

    Raises:
        UserError: the configuration names no model, or no adapter.

    """
    name, at, hub = cfg.model.type.rpartition("@")
    if not at or hub not in ("huggingface_llm", "demo"):
        raise UserError(
            f"model.type: {cfg.model.type!r} is not '<hub name or folder>"
            "@huggingface_llm'"
        )
    if hub == "demo":
        name = str(_demo_model(name))
    name = str(Path(name).expanduser()) if name.startswith("~") else name
    if Path(name).is_dir():  # whatever folder the results are read from
        name = str(Path(name).absolute())
    cfg.model.type = f"{name}@huggingface_llm"
    if not cfg.llm.adapter.use:
        raise UserError("llm.adapter.use: must be True; LoRA is trained")
    cfg.model.adapter.cache = cfg.llm.cache.model
    cfg.model.adapter.seed = cfg.seed
    cfg.model.adapter.private = is_ours(cfg) and (
        policy_from(cfg).PRIVATE is KEEP
    )
    cfg.model.adapter.dtype = cfg.fedsa.adapter_dtype
    for option, value in cfg.fedsa.base.items():
        if option in cfg.model.adapter.base:
            cfg.model.adapter.base[option] = value
    cfg.model.adapter.base.device = device_of(cfg)
    if os.path.isdir(cfg.federate.restore_from):
        # The host would take the folder for a file of its own.
        cfg.model.adapter.start = cfg.federate.restore_from
        cfg.federate.restore_from = ""
    return name


def scaled_args(cfg: Config) -> dict[str, Any]:
    """The adapter's arguments, perhaps scaled by the number of clients.

    With ``fedsa.scale_by_clients`` alpha is multiplied by sqrt(N) for the N
    clients of a round.  With rsLoRA, whose scale is alpha / sqrt(r), the
    scale is then alpha sqrt(N / r) (SFed-LoRA: Huang et al., arXiv
    2603.08058).
    """
    args = dict(adapter_args(cfg))
    if cfg.fedsa.scale_by_clients:
        alpha = args.get("lora_alpha", 8)  # PEFT's default
        factor = clients_of_a_round(cfg) ** 0.5
        args["lora_alpha"] = alpha * factor
        pattern = dict(args.get("alpha_pattern") or {})
        if pattern:  # alphas of single layers
            args["alpha_pattern"] = {n: a * factor for n, a in pattern.items()}
    return args


def _demo_model(name: str) -> Path:
    """The folder of a model of the demo, converted if it is a GGUF file."""
    folder = find_asset(name, "model.type")
    for file, digest in ASSETS[name].sha256.items():
        if file.endswith(".gguf"):
            return from_gguf(folder / file, digest, default_cache() / "models")
    return folder
