"""An adapter in the form that PEFT loads."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save

from fs_plugins.model.delta import Delta
from fs_plugins.policy import (
    Role,
    is_a,
    is_b,
    layer_of,
    name_in_base,
    saved_names,
)
from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors


def save_adapter(
    wrapper: Any, folder: Path, delta: Delta | None = None, rank: int = 0
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    A client's second, private adapter goes into a folder ``private``.

    Args:
        wrapper: a PEFT model, or a wrapper with one in ``.model``; it has
            the values that are saved.
        folder: is made if need be.
        delta: what an aggregator has added to the base model; it becomes a
            part of the saved adapter.
        rank: of what was trained; 0 if it is all of the adapter's.

    """
    model = getattr(wrapper, "model", wrapper)
    if not isinstance(model, peft.PeftModel):
        return
    for name, config in model.peft_config.items():
        if name != "default" and folder.name == "global":
            continue
        tensors = _state_of(model, adapter_name=name)
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
        target.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(target))
        # Copies: tied weights are one tensor of several names.
        plain = {
            n: t.detach().cpu().clone(memory_format=torch.contiguous_format)
            for n, t in tensors.items()
        }
        write_file(
            target / "adapter_model.safetensors", save(plain, {"format": "pt"})
        )


def _state_of(model: Any, **kwargs: Any) -> Tensors:
    """What PEFT would save; of the base model, which is frozen, nothing."""
    with warnings.catch_warnings():
        # of B's bias, which PEFT takes for a part of a matrix
        warnings.filterwarnings("ignore", ".*have invalid shape")
        found: Tensors = peft.get_peft_model_state_dict(
            model, save_embedding_layers=False, **kwargs
        )
    return found


def _changes_base(config: Any) -> bool:
    """Whether the adapter's start was taken out of the base model."""
    start = getattr(config, "init_lora_weights", True)
    return isinstance(start, str) and start.startswith(("pissa", "olora"))


def _negative(initial: Tensors) -> dict[str, torch.Tensor]:
    """-B_0 A_0: what PiSSA and OLoRA have taken out of the base model.

    They train W - s B_0 A_0 + s B A.  (Meng et al., NeurIPS 2024, appendix)
    """
    return {n: -t if is_a(n) else t for n, t in initial.items()}


def _named(delta: Delta) -> dict[str, torch.Tensor]:
    """What was added to the base model, by the names that PEFT saves."""
    found: dict[str, torch.Tensor] = {}
    for layer, (left, right) in delta.pairs.items():
        names = saved_names(layer)
        found |= dict.fromkeys(names[Role.A], right.cpu())
        found |= dict.fromkeys(names[Role.B], left.cpu())
    return found


def _sum(
    model: Any, config: Any, tensors: Tensors, parts: list[Any], rank: int
) -> tuple[Any, dict[str, torch.Tensor]]:
    """One LoRA on the pretrained model that is the sum of several.

    W + s B A + s B_1 A_1 + ... = W + s [B, B_1, ...] [A; A_1; ...].

    Args:
        model: the PEFT model.
        config: the adapter's configuration.
        tensors: what was trained, B and A among it.
        parts: what else there is, B_i and A_i, by the same names.
        rank: of what was trained, if it is not all of the adapter's.

    """
    joined = dict(tensors)
    ranks, alphas = {}, {}
    for name, own in tensors.items():
        if is_a(name):
            own = own[: rank or None]
            joined[name] = torch.cat([own, *(p[name].to(own) for p in parts)])
            layer = layer_of(name)
            scale = model.get_submodule(layer).scaling["default"]
            # PEFT takes it for a regular expression and matches the ends of
            # names: this one is one layer's.
            short = "^" + re.escape(name_in_base(layer))
            ranks[short] = len(joined[name])
            alphas[short] = scale * len(joined[name])
        elif is_b(name):
            own = own[:, : rank or None]
            joined[name] = torch.cat(
                [own, *(p[name].to(own) for p in parts)], dim=1
            )
    config = copy.deepcopy(config)
    config.init_lora_weights = True
    config.use_rslora = False
    config.r, config.lora_alpha = max(ranks.values()), max(alphas.values())
    config.rank_pattern = {n: r for n, r in ranks.items() if r != config.r}
    config.alpha_pattern = {
        n: a for n, a in alphas.items() if a != config.lora_alpha
    }
    return config, joined
