"""The options under ``fedsa:`` in a YAML file: one row for each key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fs_plugins.aggregator import AGGREGATOR_ARGS, AGGREGATORS
from fs_plugins.config.kinds import (
    Choice,
    Flag,
    Items,
    Kind,
    Number,
    Text,
    Whole,
)
from fs_plugins.policy import Action, Role
from fs_plugins.report.track import TRACKERS
from fs_plugins.trainer.scores import GENERATION_METRICS

PATH = Text(is_path=True)
DTYPES = ("float32", "bfloat16", "float16", "float64")
_SHARE = Number(least=0, below=1)
_SECONDS = Number(above=0)
_ACTION = Choice(
    names=lambda: [action.value for action in Action],
    or_empty=True,
    in_any_case=True,
)


@dataclass(frozen=True)
class Option:
    """A key of the configuration.

    Attributes:
        key: with dots.
        default: what it is unless a YAML file says otherwise; of keys that
            are not ours, None: the host has it.
        kind: what it may be.
        meaning: what it does, in a full sentence.
        since: the version of the plugins that has had it first.

    """

    key: str
    default: Any
    kind: Kind
    meaning: str
    since: str = "0.1.0"


def _policy(prefix: str, rounds: str) -> list[Option]:
    return [
        Option(
            f"fedsa.policy.{prefix}{role.value}",
            "",
            _ACTION,
            f"What becomes of the role {role.value} in {rounds}, in place of "
            "what the method does; empty leaves it to the method.",
        )
        for role in Role
    ]


def _argument(name: str, kind: Kind, meaning: str) -> Option:
    """An option whose default is the aggregators' own."""
    default = AGGREGATOR_ARGS[name]
    return Option(f"fedsa.aggregator_args.{name}", default, kind, meaning)


OPTIONS: Sequence[Option] = (
    *_policy("", "all rounds"),
    *_policy("odd.", "odd rounds"),
    *_policy("even.", "even rounds"),
    Option(
        "fedsa.plugins",
        [],
        Items(PATH),
        "Your own Python files, which register methods, aggregators, or "
        "anything else that there is a registry for.",
    ),
    Option(
        "fedsa.aggregator",
        "weighted_average",
        Choice(names=lambda: AGGREGATORS),
        "How the server combines what the clients share.",
    ),
    _argument(
        "lr",
        Number(least=0),
        "The server's learning rate with fedavgm and fedadam.",
    ),
    _argument("momentum", _SHARE, "The server's momentum with fedavgm."),
    _argument(
        "beta1", _SHARE, "How slowly fedadam's mean of the steps decays."
    ),
    _argument(
        "beta2", _SHARE, "How slowly fedadam's mean of their squares decays."
    ),
    _argument(
        "tau",
        Number(least=0),
        "What fedadam adds to the denominator of its step.",
    ),
    _argument(
        "trim",
        Number(least=0, below=0.5),
        "The share of the clients that trimmed_mean leaves out at either end.",
    ),
    Option(
        "fedsa.ranks",
        [],
        Items(Whole(1)),
        "The ranks of the clients, one each, and again from the first if "
        "there are more clients; none may exceed the adapter's r, whose "
        "scale all clients have.",
    ),
    Option(
        "fedsa.scale_by_clients",
        False,
        Flag(),
        "Multiply lora_alpha by the square root of the clients of a round; "
        "with use_rslora this is SFed-LoRA's scale, alpha * sqrt(N / r).",
    ),
    Option(
        "fedsa.private.weight",
        0.5,
        Number(least=0, most=1),
        "The share of a private adapter (feddpa) while it is trained, and "
        "the largest that it can have in evaluation.",
    ),
    Option(
        "fedsa.private.references",
        5,
        Whole(0),
        "With how many of a client's training examples an input is compared "
        "to decide the share of the private adapter; with 0 the share is "
        "fedsa.private.weight for all inputs.",
    ),
    Option(
        "fedsa.min_received",
        1,
        Whole(1),
        "How many updates a round needs; with fewer it is repeated.",
    ),
    Option(
        "fedsa.max_samples",
        0,
        Whole(0),
        "How many samples a client can have trained on in a round: a client "
        "that claims more is refused; 0 stands for local_update_steps * "
        "batch_size * grad_accum_count or, with batch_or_epoch: epoch, for "
        "2^31 - 1.",
    ),
    Option(
        "fedsa.round_timeout",
        0.0,
        Number(least=0),
        "Seconds after which the server goes on without the clients that "
        "have not answered (distributed mode); with 0 it waits for all that "
        "are there.",
    ),
    *(
        Option(f"fedsa.transport.{name}", "", PATH, meaning)
        for name, meaning in (
            (
                "certificate",
                "The PEM file with this participant's certificate for mutual "
                "TLS (distributed mode).",
            ),
            (
                "key",
                "The PEM file with the private key of that certificate.",
            ),
            (
                "ca",
                "The PEM file with the certificate of the authority that "
                "signed all participants' certificates.",
            ),
            (
                "token_file",
                "A file with a secret that all participants know "
                "(distributed mode).",
            ),
        )
    ),
    Option(
        "fedsa.transport.wait",
        300.0,
        _SECONDS,
        "Seconds that participants wait for each other at the start, and a "
        "client for its server later (distributed mode).",
    ),
    Option(
        "fedsa.transport.lost_after",
        10.0,
        _SECONDS,
        "Seconds without a sign of life after which the server goes on "
        "without a client (distributed mode).",
    ),
    *(
        Option(
            f"fedsa.lr.{role.value}",
            0.0,
            Number(least=0),
            f"The learning rate of the role {role.value}; 0 stands for "
            "train.optimizer.lr.",
        )
        for role in Role
    ),
    Option(
        "fedsa.base.dtype",
        "float32",
        Choice(names=DTYPES),
        "The type of the frozen base model; float64 goes with "
        "fedsa.adapter_dtype float64 only.",
    ),
    Option(
        "fedsa.base.quantize",
        "",
        Choice(names=("4bit", "8bit"), or_empty=True),
        "How bitsandbytes quantizes the base model; empty leaves it as it is.",
    ),
    Option(
        "fedsa.base.gradient_checkpointing",
        False,
        Flag(),
        "Recompute the base model's activations in place of keeping them.",
    ),
    Option(
        "fedsa.adapter_dtype",
        "float32",
        Choice(names=DTYPES),
        "The type of what is trained and travels.",
    ),
    Option(
        "fedsa.half",
        "bfloat16",
        Choice(names=("bfloat16", "float16")),
        "The type that train.is_enable_half computes in.",
    ),
    Option(
        "fedsa.eval.generate.examples",
        0,
        Whole(-1),
        "How many test examples each client answers in an evaluation by "
        "generation (fedsa_llm); 0 stands for none, -1 for all.",
    ),
    Option(
        "fedsa.eval.generate.every",
        1,
        Whole(1),
        "Answers are generated every so many rounds, and after the last.",
    ),
    Option(
        "fedsa.eval.generate.metric",
        "",
        Choice(names=GENERATION_METRICS, or_empty=True),
        "What answers are scored by; empty leaves it to the data.",
    ),
    Option(
        "fedsa.eval.generate.shots",
        0,
        Whole(0),
        "How many worked examples come before a question.",
    ),
    Option(
        "fedsa.eval.generate.max_new_tokens",
        256,
        Whole(1),
        "How many tokens an answer can have.",
    ),
    Option(
        "fedsa.eval.generate.batch_size",
        8,
        Whole(1),
        "How many answers are generated together.",
    ),
    Option(
        "fedsa.eval.generate.temperature",
        0.0,
        Number(least=0),
        "The temperature of sampling; at 0 the likeliest token is taken.",
    ),
    Option(
        "fedsa.eval.generate.top_p",
        1.0,
        Number(above=0, most=1),
        "Tokens are sampled from the likeliest ones that have this "
        "probability together.",
    ),
    Option(
        "fedsa.eval.generate.samples",
        1,
        Whole(1),
        "How many answers are generated for each example.",
    ),
    Option(
        "fedsa.eval.generate.problems",
        "",
        PATH,
        "The file with HumanEval's problems, for the metric pass_at_1.",
    ),
    Option(
        "fedsa.eval.generate.run_code",
        False,
        Flag(),
        "Allow running programs that a model has written, which pass_at_1 "
        "needs.",
    ),
    Option(
        "fedsa.eval.generate.timeout",
        3.0,
        Number(least=0.1),
        "Seconds that each such program may take.",
    ),
    Option(
        "fedsa.state.backend",
        "memory",
        Choice(names=("memory", "disk")),
        "Where what clients keep is between rounds; disk is for thousands "
        "of clients.",
    ),
    Option(
        "fedsa.state.folder",
        "",
        PATH,
        "The folder for it on disk; empty stands for the folder state in "
        "the run's.",
    ),
    Option(
        "fedsa.state.cache",
        64.0,
        Number(least=0),
        "How many MB of that folder are mapped into memory.",
    ),
    Option(
        "fedsa.state.optimizer",
        False,
        Flag(),
        "Keep each client's optimizer state from round to round, in place of "
        "beginning each round with a fresh one.",
    ),
    Option(
        "fedsa.checkpoint.every",
        1,
        Whole(0),
        "The state of the run is written after every so many rounds; 0 "
        "stands for never.",
    ),
    Option(
        "fedsa.checkpoint.keep",
        2,
        Whole(1),
        "How many of these checkpoints stay on the disk.",
    ),
    Option(
        "fedsa.reload_tolerance",
        1e-3,
        Number(least=0),
        "After a run PEFT loads each saved adapter on the base model, and "
        "the logits may differ from the run's by this share of their size "
        "(a hundred times as much in less than float32); 0 leaves the check "
        "out.",
    ),
    Option(
        "fedsa.track",
        "",
        Choice(names=lambda: TRACKERS, or_empty=True),
        "Write every result for TensorBoard, too, into the folder "
        "tensorboard in the run's; Weights & Biases has wandb.use.",
    ),
    Option(
        "fedsa.token_cache",
        "",
        PATH,
        "The folder for tokenised text; empty stands for fs_plugins in the "
        "user's cache.",
    ),
)
