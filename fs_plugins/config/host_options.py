"""FederatedScope's own keys whose values are checked: one row for each key.

FederatedScope itself defines their defaults.  The value of a key without a
row must have the type of the key's default.
"""

from collections.abc import Iterable, Sequence

from fs_plugins.config.kinds import (
    Arguments,
    Choice,
    Flag,
    Items,
    Kind,
    Number,
    Text,
    Whole,
)
from fs_plugins.config.option import PATH, Option
from fs_plugins.policy import METHODS


def host_methods() -> list[str]:
    """The methods of FederatedScope's own workers, in lower case."""
    from federatedscope.core.configs.constants import CLIENTS_TYPE

    return sorted({name.lower() for name in CLIENTS_TYPE} | {"global"})


def _methods() -> list[str]:
    return [*METHODS, *(m for m in host_methods() if m not in METHODS)]


def _optimizers() -> Iterable[str]:
    import federatedscope.register as register
    import torch

    # Optimizer is the abstract base, LBFGS needs a closure, and SparseAdam
    # needs sparse gradients.
    unusable = ("Optimizer", "LBFGS", "SparseAdam")
    for name, value in vars(torch.optim).items():
        if isinstance(value, type) and name not in unusable:
            yield name
    yield from register.optimizer_dict


def _row(key: str, kind: Kind, meaning: str) -> Option:
    return Option(key, None, kind, meaning)


def _agreed(key: str, kind: Kind, meaning: str) -> Option:
    """The row of a key in which all participants must agree."""
    return Option(key, None, kind, meaning, is_agreed=True)


_WORDS = Items(Text())
_INFO = Choice(names=("num_sample", "client_resource"))
_PORT = Whole(1, 65535)
_MODES = Choice(names=("batch", "epoch"))
_SPLITS = Choice(names=("train", "val", "test", "union"))

HOST_OPTIONS: Sequence[Option] = (
    _agreed(
        "seed",
        Whole(0, 2**32 - 1),
        "All that is drawn at random depends on it.",
    ),
    _row("outdir", PATH, "The run's folder is made in this folder."),
    _row(
        "expname",
        PATH,
        "The run's folder has this name; empty stands for the method "
        "and the name of the YAML file.",
    ),
    _row(
        "expname_tag", PATH, "This is added to the name of the run's folder."
    ),
    _row(
        "device",
        Whole(-1, 1023),
        "With use_gpu the GPU of this number is used; -1 stands for any.",
    ),
    _agreed(
        "federate.method",
        Choice(
            names=_methods,
            in_any_case=True,
            described="what 'fedsa methods' lists, or FederatedScope's own",
        ),
        "The clients and the server follow this federated method.",
    ),
    _row(
        "federate.mode",
        Choice(names=("standalone", "distributed")),
        "All participants are in one process (standalone), or each in "
        "its own (distributed).",
    ),
    _agreed(
        "federate.client_num",
        Whole(0),
        "There is this number of clients; 0 leaves the number to data that "
        "are split over clients already.",
    ),
    _agreed(
        "federate.sample_client_num",
        Whole(-1),
        "This number of clients takes part in a round; -1 and 0 stand "
        "for all.",
    ),
    _row(
        "federate.sample_client_rate",
        Number(least=-1, most=1),
        "This share of the clients takes part in a round; -1 and 0 "
        "leave it to sample_client_num.",
    ),
    _row(
        "federate.client_idx_for_local_train",
        Whole(0),
        "Only the client of this number takes part; 0 stands for all.",
    ),
    _agreed(
        "federate.total_round_num",
        Whole(1),
        "The run ends after this number of rounds.",
    ),
    _row(
        "federate.restore_from",
        PATH,
        "The run starts from the adapter in this folder, or from the "
        "global parameters in this file.",
    ),
    _row(
        "federate.save_to",
        PATH,
        "The global parameters are written to this file.",
    ),
    _row(
        "federate.save_freq",
        Whole(-1),
        "The global parameters are written after every round whose number "
        "is a multiple of this; with -1 they are written at the end.",
    ),
    _row(
        "federate.join_in_info",
        Items(_INFO),
        "Clients tell the server this as they join.",
    ),
    _row("data.root", PATH, "The data are read from this folder."),
    _agreed("data.type", PATH, "The data are given as 'name@family'."),
    _row(
        "data.args",
        Items(Arguments()),
        "FederatedScope's own data are loaded with these arguments.",
    ),
    _agreed(
        "data.splitter",
        Text(),
        "The examples are split over the clients in this way.",
    ),
    _agreed(
        "data.consistent_label_distribution",
        Flag(),
        "A client's validation and test examples have the distribution of "
        "its training examples.",
    ),
    _agreed(
        "data.splitter_args",
        Items(Arguments(), at_most=1),
        "The splitter has these arguments, one mapping in a list.",
    ),
    _agreed(
        "data.splits",
        Items(Number(least=0, most=1)),
        "Training, validation and test have these shares of the examples.",
    ),
    _agreed(
        "data.subsample",
        Number(above=0, most=1),
        "This share of the examples is used.",
    ),
    _agreed(
        "dataloader.batch_size",
        Whole(1),
        "A batch has this number of examples.",
    ),
    _row(
        "dataloader.num_workers",
        Whole(0, 1024),
        "This number of processes loads examples.",
    ),
    _agreed(
        "model.type",
        PATH,
        "The base model is given as 'name@hub' or 'folder@hub'.",
    ),
    _agreed(
        "train.local_update_steps",
        Whole(1),
        "A client trains this number of steps, or epochs, in a round.",
    ),
    _agreed(
        "train.batch_or_epoch",
        _MODES,
        "This is what train.local_update_steps counts.",
    ),
    _agreed(
        "train.optimizer.type",
        Choice(names=_optimizers, described="an optimizer of torch.optim"),
        "The clients train with this optimizer.",
    ),
    _agreed(
        "train.optimizer.lr",
        Number(above=0),
        "The clients train at this learning rate.",
    ),
    _agreed(
        "train.scheduler.warmup_ratio",
        Number(least=0, most=1),
        "The learning rate rises in this share of the steps.",
    ),
    _row(
        "finetune.local_update_steps",
        Whole(1),
        "A client trains this number of steps, or epochs, before an "
        "evaluation, with finetune.before_eval.",
    ),
    _row(
        "finetune.batch_or_epoch",
        _MODES,
        "This is what finetune.local_update_steps counts.",
    ),
    _agreed(
        "grad.grad_clip",
        Number(),
        "Gradients are scaled down to this norm; -1 leaves them as they are.",
    ),
    _agreed(
        "grad.grad_accum_count",
        Whole(1),
        "The gradients of this number of batches make a step.",
    ),
    _row(
        "early_stop.patience",
        Whole(0),
        "The run ends after this number of evaluations without an "
        "improvement; with 0 it does not.",
    ),
    _row(
        "early_stop.improve_indicator_mode",
        Choice(names=("best", "mean")),
        "A result is an improvement if it is better than the best one so "
        "far, or than the mean of the last ones.",
    ),
    _agreed(
        "personalization.local_param",
        _WORDS,
        "FederatedScope's own methods keep parameters at the clients "
        "whose names contain one of these.",
    ),
    _agreed(
        "eval.freq",
        Whole(1),
        "Results are taken after every round whose number is a "
        "multiple of this.",
    ),
    _agreed("eval.metrics", _WORDS, "These are measured besides the loss."),
    _agreed("eval.split", Items(_SPLITS), "These splits are evaluated."),
    _row(
        "eval.report", _WORDS, "FederatedScope reports results in these ways."
    ),
    _agreed(
        "llm.tok_len",
        Whole(1),
        "A text is cut off after this number of tokens.",
    ),
    _row(
        "llm.cache.model", PATH, "Models from the hub are kept in this folder."
    ),
    _agreed(
        "llm.adapter.args",
        Items(Arguments()),
        "The adapter is made from this mapping in a list: "
        "adapter_method, and arguments of PEFT's configuration.",
    ),
    _row(
        "distribute.role",
        Choice(names=("server", "client")),
        "This process has this role in distributed mode.",
    ),
    _row(
        "distribute.data_idx",
        Whole(-1),
        "This client has this number in distributed mode, from 1.",
    ),
    _row("distribute.server_port", _PORT, "The server listens at this port."),
    _row("distribute.client_port", _PORT, "This client listens at this port."),
)
