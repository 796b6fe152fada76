"""The options under ``fedsa:`` in a YAML file, and their defaults."""

from typing import Any

from federatedscope.core.configs.config import CN, global_cfg
from federatedscope.register import register_config

from fs_plugins.aggregator import AGGREGATOR_ARGS
from fs_plugins.checks import check
from fs_plugins.policy import Role

_BASE = {"dtype": "float32", "quantize": "", "gradient_checkpointing": False}
_ROLES = {role.value: "" for role in Role}
# key, default, description
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    (
        "fedsa.policy",
        {**_ROLES, "odd": _ROLES, "even": _ROLES},
        "share, keep or freeze a role, in place of what the method does; in "
        "all rounds, or in the odd or even ones",
    ),
    (
        "fedsa.plugins",
        [],
        "Python files of your own that register methods, aggregators, or "
        "anything that FederatedScope has a registry for",
    ),
    (
        "fedsa.aggregator",
        "weighted_average",
        "how the server combines what the clients share",
    ),
    (
        "fedsa.aggregator_args",
        dict(AGGREGATOR_ARGS),
        "lr and momentum of fedavgm; lr, beta1, beta2 and tau of fedadam; "
        "trim, the share that trimmed_mean leaves out at either end",
    ),
    (
        "fedsa.ranks",
        [],
        "ranks of the clients, one each, and again from the first if there "
        "are more clients; at most the adapter's r, whose scale all have",
    ),
    (
        "fedsa.scale_by_clients",
        False,
        "multiply lora_alpha by the square root of the clients of a round: "
        "with use_rslora, the scale of SFed-LoRA, alpha * sqrt(N / r)",
    ),
    (
        "fedsa.private",
        {"weight": 0.5, "references": 5},
        "with a private adapter (feddpa): its share while it is trained, and "
        "the most it can have in evaluation, where an input takes as much "
        "of it as it is like so many of the client's training examples; 0 "
        "examples: always that share",
    ),
    (
        "fedsa.min_received",
        1,
        "updates that a round needs; with fewer it is repeated",
    ),
    (
        "fedsa.max_samples",
        0,
        "samples that a client can at most have trained on in a round: who "
        "claims more is refused; 0 stands for local_update_steps * batch_size "
        "(* grad_accum_count), or 2^31 - 1 with batch_or_epoch: epoch",
    ),
    (
        "fedsa.round_timeout",
        0.0,
        "seconds after which the server goes on without the clients that "
        "haven't answered (distributed mode); 0 waits for all that are there",
    ),
    (
        "fedsa.transport",
        {
            "certificate": "",
            "key": "",
            "ca": "",
            "token_file": "",
            "wait": 300.0,
            "lost_after": 10.0,
        },
        "distributed mode: PEM files for mutual TLS; a file with a secret "
        "that all participants know; seconds that participants wait for each "
        "other at the start, and a client for its server; seconds without a "
        "sign of life after which the server goes on without a client",
    ),
    (
        "fedsa.lr",
        {role.value: 0.0 for role in Role},
        "learning rate of a role, in place of train.optimizer.lr",
    ),
    (
        "fedsa.base",
        _BASE,
        "the frozen base model: float32, bfloat16, float16 or, together with "
        "fedsa.adapter_dtype, float64; 4bit or 8bit (bitsandbytes); recompute "
        "activations in place of keeping them",
    ),
    (
        "fedsa.adapter_dtype",
        "float32",
        "type of what is trained and travels: float32, bfloat16, float16 or "
        "float64",
    ),
    (
        "fedsa.half",
        "bfloat16",
        "what train.is_enable_half computes in: bfloat16 or float16",
    ),
    (
        "fedsa.eval",
        {
            "generate": {
                "examples": 0,
                "every": 1,
                "metric": "",
                "shots": 0,
                "max_new_tokens": 256,
                "batch_size": 8,
                "temperature": 0.0,
                "top_p": 1.0,
                "samples": 1,
                "problems": "",
                "run_code": False,
                "timeout": 3.0,
            }
        },
        "evaluation by generation (fedsa_llm): test examples a client, 0 for "
        "none, -1 for all; every how many rounds; exact_match, rouge_l or "
        "pass_at_1, by default what the data call for; worked examples before "
        "the question; greedy at temperature 0, else sampled; answers a "
        "problem; HumanEval's file; allow running generated programs, for so "
        "many seconds each",
    ),
    (
        "fedsa.state",
        {"backend": "memory", "folder": "", "cache": 64.0, "optimizer": False},
        "what clients keep between rounds: in memory, or on disk (for "
        "thousands of clients) in a folder, by default state in the run's, "
        "with so many MB of it mapped into memory; whether the optimizer's "
        "state is kept, too, in place of a fresh one each round",
    ),
    (
        "fedsa.checkpoint",
        {"every": 1, "keep": 2},
        "write the whole state of the run after every so many rounds, 0 for "
        "never; how many of these checkpoints stay on the disk",
    ),
    (
        "fedsa.reload_tolerance",
        1e-3,
        "after a run each saved adapter is loaded by PEFT on the base model, "
        "and its logits may differ from those of the run by this share of "
        "their size (a hundred times as much in less than float32); 0 leaves "
        "the check out",
    ),
    (
        "fedsa.track",
        "",
        "tensorboard: write every result as event files, too, in the folder "
        "tensorboard of the run's; Weights & Biases has wandb.use",
    ),
    (
        "fedsa.token_cache",
        "",
        "folder for tokenised text; by default fs_plugins in the user's cache",
    ),
    (
        "model.adapter",
        {
            "args": [{}],
            "cache": "",
            "seed": 0,
            "private": False,
            "dtype": "float32",
            "base": {**_BASE, "device": "cpu"},
            "classes": [],
            "pad": -1,
            "eos": -1,
        },
        "filled in from llm.adapter, llm.cache, seed, fedsa.base and the "
        "data; not to be set",
    ),
)


def extend_fedsa_cfg(cfg: Any) -> None:
    """Add our options to a configuration."""
    cfg.fedsa = CN()
    for key, default, _ in OPTIONS:
        section, name = key.split(".")
        cfg[section][name] = _node(default)
    cfg.register_cfg_check_fun(check)


def _node(default: Any) -> Any:
    """A default; a dictionary becomes a section."""
    if not isinstance(default, dict):
        return default
    node = CN()
    for name, value in default.items():
        node[name] = _node(value)
    return node


register_config("fedsa", extend_fedsa_cfg)
if "fedsa" not in global_cfg:  # the host's configuration is built already
    extend_fedsa_cfg(global_cfg)
