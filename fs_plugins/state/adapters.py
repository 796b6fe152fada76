"""The trained adapters, in the form that PEFT loads."""

import copy
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save

from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors, decode


def save_adapters(runner: Any, folder: Path) -> None:
    """Write what a run has trained.

    ``PeftModel.from_pretrained(base_model, <folder>/client_<ID>)`` is the
    model that client ID was last evaluated with, its head included.
    ``<folder>/global`` holds what the server knows: with FedSA the shared A,
    B at zero and the head that everyone started from.  With ``local`` there
    is no such thing; with the host's own workers there is nothing else.

    Args:
        runner: a runner that has run.
        folder: gets one folder an adapter; in distributed mode, that of
            this process's participant.

    """
    if runner.mode == "distributed":
        _save_own(runner, folder)
        return
    server = runner.server
    own = getattr(server, "parameters", None)
    if own is None:
        _save(server.model, folder / "global")
        return
    shared = server.aggregator.shared
    if shared:
        with own.lent(shared):
            _save(server.model, folder / "global")
    for ID, client in runner.client.items():
        with client.parameters.lent(shared, client.kept.values):
            _save(client.model, folder / f"client_{ID}")


def _save_own(runner: Any, folder: Path) -> None:
    """Write the adapter of a distributed run's participant."""
    is_server = runner.cfg.distribute.role == "server"
    worker = runner.server if is_server else runner.client
    name = "global" if is_server else f"client_{worker.ID}"
    own = getattr(worker, "parameters", None)
    if own is None:
        _save(worker.model, folder / name)
        return
    if is_server:
        values = [worker.aggregator.shared]
    elif worker.final is not None:
        values = [decode(worker.final, own.spec), worker.kept.values]
    else:
        return
    if any(values):
        with own.lent(*values):
            _save(worker.model, folder / name)


def _save(wrapper: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``."""
    model = getattr(wrapper, "model", wrapper)
    if not isinstance(model, peft.PeftModel):
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = model.active_peft_config
    # The base model is frozen, its embeddings too: they are not saved.
    tensors = peft.get_peft_model_state_dict(
        model, save_embedding_layers=False
    )
    if _changes_base(config):
        initial = peft.get_peft_model_state_dict(
            model,
            state_dict=model.state_dict() | wrapper.initial,
            save_embedding_layers=False,
        )
        config, tensors = _on_unchanged_base(config, tensors, initial)
    config.save_pretrained(folder)
    plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    write_file(
        folder / "adapter_model.safetensors", save(plain, {"format": "pt"})
    )


def _changes_base(config: Any) -> bool:
    """Whether the adapter's start was taken out of the base model."""
    start = getattr(config, "init_lora_weights", True)
    return isinstance(start, str) and start.startswith(("pissa", "olora"))


def _on_unchanged_base(
    config: Any, tensors: Tensors, initial: Tensors
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The same update as LoRA of twice the rank, on the pretrained model.

    PiSSA and OLoRA train W - s B_0 A_0 + s B A, which is
    W + s [B, B_0] [A; -A_0].  (Meng et al., NeurIPS 2024, appendix)

    Args:
        config: the adapter's configuration, of scale s.
        tensors: what was trained.
        initial: what it started from.

    """
    config = copy.deepcopy(config)
    # s is alpha / r, or alpha / sqrt(r)
    factor = 2**0.5 if config.use_rslora else 2
    config.init_lora_weights = True
    config.r *= 2
    config.lora_alpha *= factor
    config.rank_pattern = {k: 2 * r for k, r in config.rank_pattern.items()}
    config.alpha_pattern = {
        k: factor * alpha for k, alpha in config.alpha_pattern.items()
    }
    doubled = {}
    for name, trained in tensors.items():
        start = initial[name].to(trained)
        if ".lora_A." in name:
            doubled[name] = torch.cat([trained, -start], dim=0)
        elif ".lora_B." in name:
            doubled[name] = torch.cat([trained, start], dim=1)
        else:
            doubled[name] = trained
    return config, doubled
