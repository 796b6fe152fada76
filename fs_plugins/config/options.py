"""The options under ``fedsa:`` in a YAML file: one row for each key."""

from collections.abc import Sequence

from fs_plugins.aggregator import AGGREGATOR_ARGS, AGGREGATORS
from fs_plugins.config.data_options import DATA_OPTIONS
from fs_plugins.config.kinds import (
    Choice,
    Flag,
    Items,
    Kind,
    Number,
    Whole,
)
from fs_plugins.config.option import PATH, Option
from fs_plugins.policy import Action, Role
from fs_plugins.terms import GENERATION_METRICS, TRACKERS

DTYPES = ("float32", "bfloat16", "float16", "float64")
QUANTIZED = ("4bit", "8bit")
_SHARE = Number(least=0, below=1)
_SECONDS = Number(above=0)
_ACTION = Choice(
    names=lambda: [action.value for action in Action],
    or_empty=True,
    in_any_case=True,
)


def _policy(prefix: str, rounds: str) -> list[Option]:
    return [
        Option(
            f"fedsa.policy.{prefix}{role.value}",
            "",
            _ACTION,
            f"The role {role.value} is shared, kept or frozen in {rounds}, "
            "whatever the method does with it; empty leaves it to the "
            "method.",
            is_agreed=True,
        )
        for role in Role
    ]


def _argument(name: str, kind: Kind, meaning: str) -> Option:
    """An option of an aggregator, whose default the aggregators define."""
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
        "These Python files of your own are imported first; they register "
        "methods, aggregators, or anything else that has a registry.",
    ),
    Option(
        "fedsa.aggregator",
        "weighted_average",
        Choice(names=lambda: AGGREGATORS),
        "This aggregator combines the parameters that the clients share.",
        is_agreed=True,
    ),
    _argument(
        "lr",
        Number(least=0),
        "The server's step with fedavgm and fedadam is scaled by this "
        "learning rate.",
    ),
    _argument(
        "momentum", _SHARE, "The server's step with fedavgm has this momentum."
    ),
    _argument(
        "beta1",
        _SHARE,
        "The mean of the steps decays by this factor a round with fedadam.",
    ),
    _argument(
        "beta2",
        _SHARE,
        "The mean of the squared steps decays by this factor a round "
        "with fedadam.",
    ),
    _argument(
        "tau",
        Number(least=0),
        "This is added to the denominator of the step with fedadam.",
    ),
    _argument(
        "trim",
        Number(least=0, below=0.5),
        "This share of the clients is left out at either end by trimmed_mean.",
    ),
    Option(
        "fedsa.ranks",
        [],
        Items(Whole(1)),
        "The clients have these ranks, one each, and again from the "
        "first if there are more clients; none may exceed the "
        "adapter's r, whose scale all clients have.",
        is_agreed=True,
    ),
    Option(
        "fedsa.scale_by_clients",
        False,
        Flag(),
        "The adapter's lora_alpha is multiplied by the square root of "
        "the clients of a round; with use_rslora this is SFed-LoRA's "
        "scale, alpha * sqrt(N / r).",
        is_agreed=True,
    ),
    Option(
        "fedsa.private.weight",
        0.5,
        Number(least=0, most=1),
        "A private adapter (feddpa) has this share while it is "
        "trained, and at most this share in evaluation.",
        is_agreed=True,
    ),
    Option(
        "fedsa.private.references",
        5,
        Whole(0),
        "An input is compared with this number of the client's training "
        "examples to decide the share of the private adapter; with 0 the "
        "share is fedsa.private.weight for all inputs.",
        is_agreed=True,
    ),
    Option(
        "fedsa.min_received",
        1,
        Whole(1),
        "A round with fewer updates than this is repeated.",
    ),
    Option(
        "fedsa.max_norm",
        100.0,
        Number(least=0),
        "An update is refused if its distance from the round's start is more "
        "than this number of times the median of the round's updates, and "
        "than this number of hundredths of the norm of what is shared; with "
        "0 there is no such bound.",
    ),
    Option(
        "fedsa.max_samples",
        0,
        Whole(0),
        "A client that claims to have trained on more samples than this in "
        "a round is refused; 0 stands for local_update_steps * batch_size * "
        "grad_accum_count or, with batch_or_epoch: epoch, for 2^31 - 1.",
    ),
    Option(
        "fedsa.round_timeout",
        0.0,
        Number(least=0),
        "After this number of seconds the server goes on without the "
        "clients that have not answered (distributed mode); with 0 it "
        "waits for all that are there.",
    ),
    Option(
        "fedsa.transport.wait",
        300.0,
        _SECONDS,
        "The server waits this number of seconds for sites that are away, and "
        "'fedsa federate' for the server.",
    ),
    Option(
        "fedsa.transport.lost_after",
        60.0,
        _SECONDS,
        "A site is gone once nothing has been heard of it for this number of "
        "seconds.",
    ),
    Option(
        "fedsa.transport.unsafe",
        False,
        Flag(),
        "A distributed run that FederatedScope's own runner starts uses "
        "FederatedScope's own gRPC, which takes messages from anyone and "
        "unpickles them.",
    ),
    *(
        Option(
            f"fedsa.lr.{role.value}",
            0.0,
            Number(least=0),
            f"The role {role.value} is trained at this learning rate; 0 "
            "stands for train.optimizer.lr.",
            is_agreed=True,
        )
        for role in Role
    ),
    Option(
        "fedsa.base.dtype",
        "float32",
        Choice(names=DTYPES),
        "The frozen base model is of this type; float64 goes with "
        "fedsa.adapter_dtype float64 only.",
    ),
    Option(
        "fedsa.base.quantize",
        "",
        Choice(names=QUANTIZED, or_empty=True),
        "The base model is quantized to this precision by bitsandbytes; "
        "empty leaves it as it is.",
    ),
    Option(
        "fedsa.base.gradient_checkpointing",
        False,
        Flag(),
        "The base model's activations are recomputed in place of being kept.",
    ),
    Option(
        "fedsa.adapter_dtype",
        "float32",
        Choice(names=DTYPES),
        "The parameters that are trained and sent are of this type.",
        is_agreed=True,
    ),
    Option(
        "fedsa.half",
        "bfloat16",
        Choice(names=("bfloat16", "float16")),
        "With train.is_enable_half the model computes in this type.",
    ),
    Option(
        "fedsa.eval.generate.examples",
        0,
        Whole(-1),
        "Each client answers this number of test examples in an evaluation "
        "by generation (fedsa_llm); 0 stands for none, -1 for all.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.every",
        1,
        Whole(1),
        "Answers are generated after every round whose number is a "
        "multiple of this, and after the last.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.metric",
        "",
        Choice(names=GENERATION_METRICS, or_empty=True),
        "Answers are scored by this metric; empty leaves it to the data.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.shots",
        0,
        Whole(0),
        "This number of worked examples comes before each question.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.max_new_tokens",
        256,
        Whole(1),
        "An answer has at most this number of tokens.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.batch_size",
        8,
        Whole(1),
        "This number of answers is generated together.",
    ),
    Option(
        "fedsa.eval.generate.temperature",
        0.0,
        Number(least=0),
        "Tokens are sampled at this temperature; at 0 the likeliest "
        "one is taken.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.top_p",
        1.0,
        Number(above=0, most=1),
        "Tokens are sampled from the likeliest ones that have this "
        "probability together.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.samples",
        1,
        Whole(1),
        "This number of answers is generated for each example.",
        is_agreed=True,
    ),
    Option(
        "fedsa.eval.generate.problems",
        "",
        PATH,
        "This file holds HumanEval's problems, for the metric pass_at_1.",
    ),
    Option(
        "fedsa.eval.generate.run_code",
        False,
        Flag(),
        "Programs that a model has written may be run, which pass_at_1 needs.",
    ),
    Option(
        "fedsa.eval.generate.timeout",
        3.0,
        Number(least=0.1),
        "A program that a model has written is stopped after this number "
        "of seconds.",
    ),
    Option(
        "fedsa.state.backend",
        "memory",
        Choice(names=("memory", "disk")),
        "What clients keep between rounds is held here; disk is for "
        "thousands of clients.",
    ),
    Option(
        "fedsa.state.folder",
        "",
        PATH,
        "With backend disk this folder holds what clients keep; empty "
        "stands for the folder state in the run's folder.",
    ),
    Option(
        "fedsa.state.cache",
        64.0,
        Number(least=0),
        "At most this number of MB of that folder is mapped into memory.",
    ),
    Option(
        "fedsa.state.optimizer",
        False,
        Flag(),
        "Each client's optimizer keeps its state from round to round, "
        "in place of beginning each round with a fresh one.",
        is_agreed=True,
    ),
    Option(
        "fedsa.checkpoint.every",
        1,
        Whole(0),
        "The state of the run is written after every round whose "
        "number is a multiple of this; 0 stands for never.",
    ),
    Option(
        "fedsa.checkpoint.keep",
        2,
        Whole(1),
        "This number of checkpoints stays on the disk.",
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
        "Every result is also written for this tool, into a folder of the "
        "tool's name in the run's folder; for Weights & Biases set "
        "wandb.use.",
    ),
    Option(
        "fedsa.token_cache",
        "",
        PATH,
        "This folder holds tokenised text; empty stands for "
        "fs_plugins in the user's cache, and 'none' for nowhere.",
    ),
    *DATA_OPTIONS,
)
