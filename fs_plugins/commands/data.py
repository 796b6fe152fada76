"""What the data of an experiment are: ``fedsa data --cfg X``."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fs_plugins.config.load import load_config
from fs_plugins.data.examples import Examples
from fs_plugins.data.federated import SPLITS
from fs_plugins.data.tokens import NO_CACHE, Tokens, tokenise
from fs_plugins.errors import UserError
from fs_plugins.experiment.loading import load_data
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import silence
from fs_plugins.host.configuration import Config
from fs_plugins.report.tables import Table, show
from fs_plugins.scope import RunScope, building
from fs_plugins.settings import has_own_data, is_client, is_distributed
from fs_plugins.terms import MULTI_LABEL

_SHOWN = 3  # examples
_UNCUT = 2**30  # tokens, more than any text has
_KEPT = 99  # per cent of the texts


def describe(experiment: str, overrides: Sequence[str]) -> None:
    """Print what the data are: examples, shares, lengths, and some of them.

    Args:
        experiment: a YAML file, perhaps with variations.
        overrides: ``key value`` pairs.

    Raises:
        UserError: the input is wrong.

    """
    silence()
    cfg = load_config(experiment, overrides)
    look_from_one_process(cfg)
    scope = RunScope()
    scope.keeps_examples = True
    with tempfile.TemporaryDirectory() as folder, building(scope):
        cfg.outdir = folder
        cfg.wandb.use = False
        data = load_data(cfg)
        counts = RunFolder(folder).read_label_counts() or {}
    for table in tables_of(cfg, data, counts):
        show(table)
    show(lengths_table(cfg.llm.tok_len, scope.examples, data))


def look_from_one_process(cfg: Config) -> None:
    """Have one process see all data that a participant sees.

    Args:
        cfg: the configuration of a participant of a distributed run, which
            is changed; that of another run stays as it is.

    Raises:
        UserError: the participant is a server without data.

    """
    if not is_distributed(cfg):
        return
    if has_own_data(cfg):
        if not is_client(cfg):
            raise UserError(
                "the server has no data to show (data.splitter files); look "
                "at those of a client"
            )
        cfg.federate.client_num = 0
        cfg.federate.sample_client_num = -1
        cfg.federate.sample_client_rate = -1.0
        cfg.fedsa.data.clients = []
    cfg.federate.mode = "standalone"
    cfg.distribute.use = False


def tables_of(
    cfg: Config, data: Mapping[int, Any], counts: Mapping[str, Any]
) -> list[Table]:
    """Tables of the examples, of the clients' shares, and of some examples.

    Args:
        cfg: the configuration, as the data have completed it.
        data: the data of each client by its ID; at 0 those of all.
        counts: the numbers of examples, by client, split and class.

    """
    names = cfg.fedsa.data.clients
    return [
        _examples_table(counts),
        *_labels_tables(cfg, data),
        split_table(counts, names),
        _seen_table(cfg, data, names),
    ]


def _examples_table(counts: Mapping[str, Any]) -> Table:
    """How many examples each split has, and of which classes."""
    rows = []
    for split in SPLITS:
        total: Counter[str] = Counter()
        for shares in counts.values():
            total.update(shares.get(split, {}))
        classes = ", ".join(f"{n} {k}" for k, n in sorted(total.items()))
        rows.append((split, str(total.total()), classes))
    return Table("the examples", ("split", "examples", "classes"), rows)


def _labels_tables(cfg: Config, data: Mapping[int, Any]) -> list[Table]:
    """How many texts have each label, if a text may have several."""
    if cfg.model.task != MULTI_LABEL:
        return []
    parts = [getattr(data[0], f"{split}_data").tokens for split in SPLITS]
    sums = [part.labels.sum(axis=0).astype(int) for part in parts]
    rows = [
        (name, *(str(each[number]) for each in sums))
        for number, name in enumerate(cfg.model.adapter.classes)
    ]
    means = (each.sum() / len(p) for each, p in zip(sums, parts, strict=True))
    rows.append(("labels of a text, on average", *(f"{m:.2f}" for m in means)))
    return [
        Table("the labels: texts that have them", ("label", *SPLITS), rows)
    ]


def split_table(counts: Mapping[str, Any], names: Sequence[str] = ()) -> Table:
    """How many examples each client has in each split, and of which classes.

    Args:
        counts: the numbers of examples, by client, split and class.
        names: the clients' names, if they have names.

    """
    rows = []
    for client, splits in counts.items():
        cells = [
            str(sum(splits.get(split, {}).values()))
            for split in ("train", "val", "test")
        ]
        classes = ", ".join(f"{n} {k}" for k, n in splits["train"].items())
        name = names[int(client) - 1] if names else client
        rows.append((name, *cells, classes))
    columns = ("client", "train", "val", "test", "classes to train on")
    return Table("the split: examples", columns, rows)


def _seen_table(
    cfg: Config, data: Mapping[int, Any], names: Sequence[str]
) -> Table:
    """Some examples to train on, as the model sees them."""
    rows = []
    clients = sorted(ID for ID in data if ID)[:_SHOWN]
    for ID in clients:
        own = data[ID].train_data
        tokens: Tokens = own.tokens
        number = int(own.index[0])
        place = slice(tokens.start(number), int(tokens.ends[number]))
        ids = tokens.ids[place]
        if tokens.prompts.size:
            is_learned = np.arange(len(ids)) >= int(tokens.prompts[number])
            if tokens.learned.size:
                is_learned = tokens.learned[place]
            label = data[ID].tokenizer.decode(ids[is_learned])
        elif tokens.labels.ndim > 1:
            flags = zip(
                cfg.model.adapter.classes, tokens.labels[number], strict=True
            )
            label = ", ".join(name for name, flag in flags if flag) or "none"
        elif cfg.model.adapter.classes:
            label = cfg.model.adapter.classes[int(tokens.labels[number])]
        else:
            label = f"{float(tokens.labels[number]):g}"
        text = data[ID].tokenizer.decode(ids)
        name = names[ID - 1] if names else str(ID)
        rows.append((name, text, label))
    return Table(
        "examples as the model sees them",
        ("client", "text", "label, or what is learned of the text"),
        rows,
    )


def lengths_table(
    limit: int, parts: Sequence[Examples], data: Mapping[int, Any]
) -> Table:
    """How long the texts are, and how many of them are cut.

    Args:
        limit: the most tokens of a text (``llm.tok_len``).
        parts: the examples to train on, to validate and to test.
        data: the data of each client by its ID.

    """
    template = data[1].template
    rows = []
    for split, examples in zip(SPLITS, parts, strict=True):
        whole = tokenise(
            examples,
            data[1].tokenizer,
            _UNCUT,
            NO_CACHE,
            template=template,
        )
        lengths = whole.lengths()
        used = len(getattr(data[1], f"{split}_data").tokens)
        keeps = int(np.percentile(lengths, _KEPT, method="higher"))
        rows.append(
            (
                split,
                f"{int(np.median(lengths))}",
                f"{int(lengths.max())}",
                f"{int((lengths > limit).sum())} of {len(lengths)}",
                str(len(examples) - used),
                str(keeps),
            )
        )
    return Table(
        f"tokens of a text; llm.tok_len is {limit}",
        (
            "split",
            "median",
            "most",
            "cut or left out",
            "of these left out",
            f"llm.tok_len that keeps {_KEPT} % whole",
        ),
        rows,
    )
