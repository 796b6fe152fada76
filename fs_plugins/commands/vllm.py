"""The command line with which vLLM serves the adapters of a run."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fs_plugins.data.template import FILE
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.experiment.saved_models import check_adapter, model_section
from fs_plugins.experiment.saved_sections import own_section
from fs_plugins.inference.service import BASE, owners_of
from fs_plugins.model.start import config_in
from fs_plugins.notes import note
from fs_plugins.terms import CAUSAL

# The values that vLLM's --max-lora-rank may have.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_AT_ONCE = 8  # adapters on the GPU
# What PEFT's configuration of an adapter may not have, and what it is.
_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "layers that were trained as a whole",
    "lora_bias": "biases of LoRA",
    "rank_pattern": "ranks that differ between layers",
    "alpha_pattern": "scales that differ between layers",
    "target_parameters": "adapters of single parameters",
}


def vllm_command(folder: Path, host: str, port: int) -> str:
    """The command line with which vLLM serves the adapters of a run.

    Args:
        folder: the run's folder.
        host: the name or the address that vLLM listens on.
        port: the port.

    Raises:
        UserError: vLLM does not serve such adapters.

    """
    run = load_run(folder)
    if model_section(run.config).task != CAUSAL:
        raise UserError(
            f"{folder}: its models classify, and vLLM serves no adapters "
            "with a head; leave out --print-vllm"
        )
    adapters = {
        name: (owner.adapter if owner else run.adapter).absolute()
        for name, owner in owners_of(run).items()
    }
    configs = [_config_of(adapter) for adapter in adapters.values()]
    rank = max(int(config["r"]) for config in configs)
    if rank > _RANKS[-1]:
        raise UserError(
            f"{folder}: its adapters have rank {rank}, and vLLM serves up to "
            f"{_RANKS[-1]}"
        )
    base = str(configs[0]["base_model_name_or_path"])
    words = [
        *("vllm", "serve", base, "--served-model-name", BASE),
        *("--host", host, "--port", str(port), *_precision(run)),
        *("--enable-lora", "--max-loras", str(min(len(adapters), _AT_ONCE))),
        *("--max-lora-rank", str(next(r for r in _RANKS if r >= rank))),
    ]
    template = next(iter(adapters.values())) / FILE
    if template.is_file():
        words += ["--chat-template", str(template)]
    words += ["--lora-modules"]
    words += [
        json.dumps({"name": name, "path": str(path)})
        if "=" in name
        else f"{name}={path}"
        for name, path in adapters.items()
    ]
    return shlex.join(words)


def _config_of(adapter: Path) -> Mapping[str, Any]:
    """The configuration of an adapter, if vLLM serves such adapters."""
    check_adapter(adapter)
    config: dict[str, Any] = config_in(adapter).to_dict()
    found = [what for key, what in _REFUSED.items() if config.get(key)]
    if config["peft_type"] != "LORA":
        found.insert(0, f"the method {config['peft_type']}")
    if found:
        raise UserError(
            f"{adapter}: vLLM does not serve {found[0]}; leave out "
            "--print-vllm"
        )
    return config


def _precision(run: Run) -> list[str]:
    """The words that give the base model the precision of the run."""
    base = own_section(run.config, "fedsa.base")
    system = own_section(run.config, "fedsa.chat").system
    if system:
        note(
            "vLLM adds no system prompt; send that of fedsa.chat.system with "
            "each conversation"
        )
    if base.quantize:
        return ["--quantization", "bitsandbytes"]
    return ["--dtype", str(base.dtype)]
