"""The trained adapters, in the form that PEFT loads."""

from pathlib import Path
from typing import Any

import peft
from safetensors.torch import save_file

from fs_plugins.wire import decode


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
    model.active_peft_config.save_pretrained(folder)
    tensors = peft.get_peft_model_state_dict(model)
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
