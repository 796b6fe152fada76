"""Adapters in the form of files that PEFT loads."""

import copy
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save

from fs_plugins.model.base_files import BaseFiles
from fs_plugins.model.delta import Delta
from fs_plugins.policy import (
    Role,
    is_a,
    is_b,
    is_of_adapter,
    layer_of,
    name_in_base,
    saved_names,
)
from fs_plugins.state.files import ensure_private, write_file
from fs_plugins.wire import Tensors


def save_adapter(
    wrapper: Any,
    folder: Path,
    base: BaseFiles,
    delta: Delta | None = None,
    rank: int = 0,
) -> list[Path]:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    A client's second, private adapter is written into a folder ``private``
    inside ``folder``, with the head that both adapters have.

    Args:
        wrapper: a PEFT model, or a wrapper that has one as ``model``; the
            model has the values that are saved.
        folder: the folder of the files; it is created if it does not exist.
        base: the base model, as the adapter names it.
        delta: the change of the base model by an aggregator, which becomes a
            part of the saved adapter.
        rank: the rank of the client; 0 stands for the adapter's rank.

    Returns:
        The folders that were written.

    """
    written: list[Path] = []
    model = getattr(wrapper, "model", wrapper)
    if not isinstance(model, peft.PeftModel):
        return written
    default: Any = model.peft_config["default"]
    for name, trained in model.peft_config.items():
        if name != "default" and folder.name == "global":
            continue
        tensors = _state_of(model, adapter_name=name)
        config: Any = copy.deepcopy(trained)
        if name != "default":
            whole = _state_of(model)
            tensors |= {n: t for n, t in whole.items() if not is_of_adapter(n)}
            config.modules_to_save = default.modules_to_save
        parts = []
        if _changes_base(config):
            start = model.state_dict() | wrapper.initial
            initial = _state_of(model, state_dict=start)
            parts = [_negative(initial)]
        if delta is not None and delta.pairs and name == "default":
            parts.append(_named(delta))
        if parts or rank:
            config, tensors = _sum(model, config, tensors, parts, rank)
        target = folder / name if name != "default" else folder
        _write(target, config, tensors, base)
        written.append(target)
    return written


def _write(
    folder: Path, config: Any, tensors: Tensors, base: BaseFiles
) -> None:
    """Write the two files of an adapter.

    Args:
        folder: the folder of the adapter.
        config: the configuration of the adapter, which is changed.
        tensors: the adapter's tensors, by the names that PEFT saves.
        base: the base model, as the adapter names it.

    """
    ensure_private(folder)
    is_on_hub = base.path == base.name
    config.base_model_name_or_path = base.path or None
    config.revision = (base.revision or None) if is_on_hub else None
    config.inference_mode = True
    with tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        content = Path(scratch, CONFIG_NAME).read_bytes()
    write_file(folder / CONFIG_NAME, content)
    # Copies, as one tensor may have several names (tied weights).
    plain = {
        n: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for n, t in tensors.items()
    }
    write_file(
        folder / SAFETENSORS_WEIGHTS_NAME,
        save(plain, {"format": "pt"}),
        private=True,
    )


def _state_of(model: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
    """The tensors that PEFT saves, without any of the frozen base model."""
    with warnings.catch_warnings():
        # PEFT takes the bias of B for a part of a matrix, and warns
        warnings.filterwarnings("ignore", ".*have invalid shape")
        tensors: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(
            model, save_embedding_layers=False, **kwargs
        )
    return tensors


def _changes_base(config: Any) -> bool:
    """Whether PEFT has subtracted the adapter's start from the base model."""
    start = getattr(config, "init_lora_weights", True)
    return isinstance(start, str) and start.startswith(("pissa", "olora"))


def _negative(initial: Tensors) -> dict[str, torch.Tensor]:
    """The factors of -B_0 A_0, the initial product with its sign changed.

    PiSSA and OLoRA train W - s B_0 A_0 + s B A.
    (Meng et al., NeurIPS 2024, appendix)

    Args:
        initial: the initial values of the adapter's parameters, by name.

    """
    return {n: -t if is_a(n) else t for n, t in initial.items()}


def _named(delta: Delta) -> dict[str, torch.Tensor]:
    """The factors of a change of the base, by the names that PEFT saves."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, (left, right) in delta.pairs.items():
        names = saved_names(layer)
        tensors |= dict.fromkeys(names[Role.A], right.cpu())
        tensors |= dict.fromkeys(names[Role.B], left.cpu())
    return tensors


def _sum(
    model: Any, config: Any, tensors: Tensors, parts: list[Any], rank: int
) -> tuple[Any, dict[str, torch.Tensor]]:
    """One LoRA adapter that equals the sum of several.

    W + s B A + s B_1 A_1 + ... = W + s [B, B_1, ...] [A; A_1; ...].

    Args:
        model: the PEFT model.
        config: the adapter's configuration, which is changed.
        tensors: the adapter's parameters, B and A among them, by name.
        parts: the factors B_i and A_i of the other terms, each by the names
            in ``tensors``.
        rank: how many rows of A and columns of B are used; 0 stands for all.

    Returns:
        The configuration and the parameters of the sum.

    """
    joined = dict(tensors)
    ranks, alphas = {}, {}
    for name, tensor in tensors.items():
        if is_a(name):
            a = tensor[: rank or None]
            joined[name] = torch.cat([a, *(p[name].to(a) for p in parts)])
            layer = layer_of(name)
            scale = model.get_submodule(layer).scaling["default"]
            # PEFT matches the keys, as regular expressions, with the ends of
            # the layers' names; "^" makes a key match one layer only.
            pattern = "^" + re.escape(name_in_base(layer))
            ranks[pattern] = len(joined[name])
            alphas[pattern] = scale * len(joined[name])
        elif is_b(name):
            b = tensor[:, : rank or None]
            joined[name] = torch.cat(
                [b, *(p[name].to(b) for p in parts)], dim=1
            )
    config.init_lora_weights = True
    config.use_rslora = False
    config.r, config.lora_alpha = max(ranks.values()), max(alphas.values())
    config.rank_pattern = {n: r for n, r in ranks.items() if r != config.r}
    config.alpha_pattern = {
        n: a for n, a in alphas.items() if a != config.lora_alpha
    }
    return config, joined
