"""FederatedScope's own keys that are bounded: one row for each.

Their defaults are FederatedScope's.  A key without a row must be of the type
of its default.
"""

from collections.abc import Iterable, Sequence

from fs_plugins.config.kinds import (
    Arguments,
    Choice,
    Items,
    Kind,
    Number,
    Text,
    Whole,
)
from fs_plugins.config.options import PATH, Option
from fs_plugins.policy import METHODS


def host_methods() -> list[str]:
    """Methods that the host's own workers run, in lower case."""
    from federatedscope.core.configs.constants import CLIENTS_TYPE

    return sorted({name.lower() for name in CLIENTS_TYPE} | {"global"})


def _methods() -> list[str]:
    return [*METHODS, *(m for m in host_methods() if m not in METHODS)]


def _optimizers() -> Iterable[str]:
    import federatedscope.register as register
    import torch

    for name in dir(torch.optim):
        if isinstance(getattr(torch.optim, name), type):
            yield from () if name == "Optimizer" else (name,)
    yield from register.optimizer_dict


def _row(key: str, kind: Kind, meaning: str) -> Option:
    return Option(key, None, kind, meaning)


_WORDS = Items(Text())
_PORT = Whole(1, 65535)
_MODES = Choice(names=("batch", "epoch"))
_SPLITS = Choice(names=("train", "val", "test", "union"))

HOST_OPTIONS: Sequence[Option] = (
    _row(
        "seed",
        Whole(0, 2**32 - 1),
        "All that is drawn at random depends on it.",
    ),
    _row("outdir", PATH, "The folder that the run's folder is made in."),
    _row(
        "expname",
        PATH,
        "The name of the run's folder; empty stands for the method and the "
        "name of the YAML file.",
    ),
    _row("expname_tag", PATH, "What is added to that name."),
    _row(
        "device",
        Whole(-1, 1023),
        "The number of the GPU, with use_gpu; -1 stands for any.",
    ),
    _row(
        "federate.method",
        Choice(
            names=_methods,
            in_any_case=True,
            described="what 'fedsa methods' lists, or FederatedScope's own",
        ),
        "The federated method.",
    ),
    _row(
        "federate.mode",
        Choice(names=("standalone", "distributed")),
        "Whether all participants are in one process, or each in its own.",
    ),
    _row(
        "federate.client_num",
        Whole(0),
        "How many clients there are; 0 leaves it to data that come as "
        "clients' own.",
    ),
    _row(
        "federate.sample_client_num",
        Whole(-1),
        "How many clients take part in a round; -1 and 0 stand for all.",
    ),
    _row(
        "federate.sample_client_rate",
        Number(least=-1, most=1),
        "The share of the clients that take part in a round, in place of "
        "their number; -1 and 0 leave it out.",
    ),
    _row(
        "federate.client_idx_for_local_train",
        Whole(0),
        "The only client that takes part; 0 stands for all.",
    ),
    _row("federate.total_round_num", Whole(1), "How many rounds there are."),
    _row(
        "federate.restore_from",
        PATH,
        "The file of global parameters that the run starts from.",
    ),
    _row(
        "federate.save_to",
        PATH,
        "The file that the global parameters are written to.",
    ),
    _row(
        "federate.save_freq",
        Whole(-1),
        "They are written every so many rounds; -1 stands for at the end.",
    ),
    _row("federate.join_in_info", _WORDS, "What clients say as they join."),
    _row("data.root", PATH, "The folder of the data."),
    _row("data.type", PATH, "The data, <name>@<family>."),
    _row(
        "data.args",
        Items(Arguments()),
        "Arguments for FederatedScope's own data.",
    ),
    _row(
        "data.splitter_args",
        Items(Arguments(), at_most=1),
        "The arguments of data.splitter, one mapping in a list.",
    ),
    _row(
        "data.splits",
        Items(Number(least=0, most=1)),
        "The shares of the examples for training, validation and test.",
    ),
    _row(
        "data.subsample",
        Number(above=0, most=1),
        "The share of the examples that are used.",
    ),
    _row("dataloader.batch_size", Whole(1), "How many examples a batch has."),
    _row(
        "dataloader.num_workers",
        Whole(0, 1024),
        "How many processes load examples.",
    ),
    _row("model.type", PATH, "The model, <name or folder>@<hub>."),
    _row(
        "train.local_update_steps",
        Whole(1),
        "How many steps, or epochs, a client trains in a round.",
    ),
    _row(
        "train.batch_or_epoch", _MODES, "What train.local_update_steps counts."
    ),
    _row(
        "train.optimizer.type",
        Choice(names=_optimizers, described="an optimizer of torch.optim"),
        "The clients' optimizer.",
    ),
    _row("train.optimizer.lr", Number(above=0), "The clients' learning rate."),
    _row(
        "train.scheduler.warmup_ratio",
        Number(least=0, most=1),
        "The share of the steps in which the learning rate rises.",
    ),
    _row(
        "finetune.local_update_steps",
        Whole(1),
        "As train.local_update_steps, before an evaluation.",
    ),
    _row(
        "finetune.batch_or_epoch",
        _MODES,
        "What finetune.local_update_steps counts.",
    ),
    _row(
        "grad.grad_accum_count",
        Whole(1),
        "How many batches' gradients make a step.",
    ),
    _row(
        "early_stop.patience",
        Whole(0),
        "How many evaluations without an improvement end the run; 0 stands "
        "for any number.",
    ),
    _row(
        "early_stop.improve_indicator_mode",
        Choice(names=("best", "mean")),
        "Whether an improvement is one on the best result, or on the mean of "
        "the last ones.",
    ),
    _row(
        "personalization.local_param",
        _WORDS,
        "Parts of the names of parameters that FederatedScope's own methods "
        "keep at the clients.",
    ),
    _row("eval.freq", Whole(1), "Results are taken every so many rounds."),
    _row("eval.metrics", _WORDS, "What is measured besides the loss."),
    _row("eval.split", Items(_SPLITS), "The splits that are evaluated."),
    _row("eval.report", _WORDS, "How FederatedScope sums results up."),
    _row("llm.tok_len", Whole(1), "How many tokens a text can have."),
    _row("llm.cache.model", PATH, "The folder of models from the hub."),
    _row(
        "llm.adapter.args",
        Items(Arguments()),
        "The adapter: one mapping in a list, with adapter_method and "
        "arguments of PEFT's configuration.",
    ),
    _row(
        "distribute.role",
        Choice(names=("server", "client")),
        "What this process is in distributed mode.",
    ),
    _row(
        "distribute.data_idx",
        Whole(-1),
        "The number of this client in distributed mode, from 1.",
    ),
    _row("distribute.server_port", _PORT, "The port that the server is at."),
    _row("distribute.client_port", _PORT, "The port that this client is at."),
)
