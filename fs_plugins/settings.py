"""Settings that follow from the options of a configuration."""

from collections.abc import Mapping
from typing import Any

import torch

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.policy import METHODS, Policy, canonical, policy_of
from fs_plugins.terms import BY_FILE


def policy_from(cfg: Config) -> Policy:
    """The policy that ``federate.method`` and ``fedsa.policy`` ask for."""
    return policy_of(cfg.federate.method, plain(cfg.fedsa.policy))


def plain(node: Any) -> dict[str, Any]:
    """A section of the configuration without the host's own entries."""
    return {
        key: plain(value) if isinstance(value, dict) else value
        for key, value in node.items()
        if not key.startswith("__") and key != "is_ready_for_run"
    }


def peft_method_of(cfg: Config) -> str:
    """The PEFT method that ``llm.adapter.args`` asks for."""
    return canonical(adapter_args(cfg))[0]


def adapter_args(cfg: Config) -> Mapping[str, Any]:
    """The first (and only) entry of ``llm.adapter.args``."""
    args = cfg.llm.adapter.args
    return dict(args[0]) if args else {}


def clients_of_a_round(cfg: Config) -> int:
    """How many clients are asked to train in a round."""
    sampled = int(cfg.federate.sample_client_num)
    return sampled if sampled > 0 else int(cfg.federate.client_num)


def rank_of(cfg: Config, client: int) -> int:
    """A client's rank (``fedsa.ranks``); 0 stands for the adapter's rank.

    Args:
        cfg: the configuration.
        client: the client's ID, from 1; 0 for the server.

    """
    ranks = cfg.fedsa.ranks
    return int(ranks[(client - 1) % len(ranks)]) if ranks and client else 0


def device_of(cfg: Config) -> str:
    """The device that the model computes on: ``cpu``, or a GPU as ``cuda:0``.

    Raises:
        UserError: this machine has no such GPU.

    """
    if not cfg.use_gpu:
        return "cpu"
    number, known = max(int(cfg.device), 0), torch.cuda.device_count()
    if not known:
        raise UserError(
            "use_gpu: there is no GPU that PyTorch can use; set it to False"
        )
    if number >= known:
        raise UserError(
            f"device: {number} is not the number of a GPU; there are "
            f"{known}, counted from 0"
        )
    return f"cuda:{number}"


def is_ours(cfg: Config) -> bool:
    """Whether the plugins' workers run the method, not the host's own."""
    return cfg.federate.method.lower() in METHODS


def is_distributed(cfg: Config) -> bool:
    """Whether each participant is a process of its own."""
    return cfg.federate.mode.lower() == "distributed"


def has_own_data(cfg: Config) -> bool:
    """Whether a participant reads its own data, and nobody else's.

    The server of such a run has no data.
    """
    return is_distributed(cfg) and cfg.data.splitter == BY_FILE


def is_client(cfg: Config) -> bool:
    """Whether this process is a client of a distributed run."""
    return is_distributed(cfg) and cfg.distribute.role == "client"


def command_to_resume(cfg: Config) -> str:
    """The command that goes on with the run of a configuration.

    The run's own user trusts the plugins that the run has imported.
    """
    if is_distributed(cfg):
        return "fedsa federate --cfg ... --resume"
    trust = " --trust-plugins" if cfg.fedsa.plugins else ""
    return f"fedsa run --resume {cfg.outdir}{trust}"
