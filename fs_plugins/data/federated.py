"""Splits examples into training, validation and test, and over clients."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fs_plugins.data.clients import settle_clients
from fs_plugins.data.examples import Examples
from fs_plugins.data.label_sets import check_splitter, kinds_of_sets
from fs_plugins.data.loaded import Loaded
from fs_plugins.data.registry import FAMILIES
from fs_plugins.data.split import Parts, split_like, split_train
from fs_plugins.data.splitters import BY_CLIENT, SPLIT_SEED, basis_of
from fs_plugins.data.tokens import Tokens
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.settings import has_own_data

SPLITS = ("train", "val", "test")


def three_splits(
    cfg: Config, name: str, family: str
) -> tuple[Examples, Examples, Examples]:
    """Load the training, validation and test examples.

    Where the data have no test set of their own, ``data.splits`` cuts the
    training set into three.  Where they have one, validation examples are
    taken from the training set: as many as the test set has, but at most the
    share ``data.splits[1]`` of the training set.  The labels of GLUE's test
    sets are secret, so its dev sets are used as test sets.  Examples that
    belong to clients are cut for each client by itself.

    Args:
        cfg: the configuration.  With a splitter by client, the clients'
            names and their number are filled in.
        name: the name of the data, before the ``@`` of ``data.type``.
        family: the family of the data, behind the ``@``.

    Raises:
        UserError: the data cannot be read or split, or a split is empty.

    """
    rng = np.random.default_rng(SPLIT_SEED)
    shares = cfg.data.splits
    is_cut = len(shares) == 3 and all(s > 0 for s in shares)
    if not is_cut or sum(shares) > 1 + 1e-9:
        raise UserError(
            f"data.splits: {shares} are not three shares above 0 that sum to "
            "at most 1"
        )
    source = f"data.type: {cfg.data.type}"
    loaded = _checked(FAMILIES[family.lower()](name, cfg), source)
    whole = loaded.train
    check_splitter(cfg, whole)
    if cfg.data.subsample < 1:
        number = max(1, int(cfg.data.subsample * len(whole)))
        whole = whole.take(rng.permutation(len(whole))[:number])
    whole, val, test = settle_clients(cfg, whole, loaded.val, loaded.test)
    lacking = (val is None, test is None)
    if cfg.data.splitter in BY_CLIENT:
        clients = np.array(whole.clients)
        names = cfg.fedsa.data.clients
        cuts = [
            _cut_of_client(np.flatnonzero(clients == name), shares, lacking)
            for name in ([clients[0]] if has_own_data(cfg) else names)
        ]
        parts = [np.concatenate(part) for part in zip(*cuts, strict=True)]
    else:
        most = len(whole) if test is None else len(test)
        parts = _cut(rng.permutation(len(whole)), shares, lacking, most)
    train = whole.take(parts[0])
    val = whole.take(parts[1]) if val is None else val
    test = whole.take(parts[2]) if test is None else test
    for split, examples in zip(SPLITS, (train, val, test), strict=True):
        if not len(examples):
            raise UserError(
                f"data.splits: {cfg.data.splits} of these data, with "
                f"data.subsample {cfg.data.subsample}, leave no {split} "
                "examples"
            )
    return train, val, test


def _cut(
    order: np.ndarray,
    shares: Sequence[float],
    lacking: tuple[bool, bool],
    most: int,
) -> list[np.ndarray]:
    """Cut examples into those to train on, to validate and to test.

    Args:
        order: the numbers of the examples, in random order.
        shares: the shares of the three parts (``data.splits``).
        lacking: whether validation and whether test examples are to be
            taken from these; a part that is not is empty.
        most: the most validation examples, if no test examples are taken.

    """
    if all(lacking):
        cuts = (np.cumsum(shares[:2]) * len(order)).astype(int)
        return np.split(order, cuts)
    none = order[:0]
    if lacking[0]:
        size = max(1, min(int(shares[1] * len(order)), most))
        return [order[size:], order[:size], none]
    size = max(1, int(shares[2] * len(order))) if lacking[1] else 0
    return [order[size:], none, order[:size]]


def _cut_of_client(
    index: np.ndarray, shares: Sequence[float], lacking: tuple[bool, bool]
) -> list[np.ndarray]:
    """Cut a client's examples as ``_cut`` does, with one at least for each.

    A client with two examples has none to validate, and a client with one
    example has none to test either.  The cut depends on the client's own
    examples only, so that it is the same where nobody else's are known.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    order = index[rng.permutation(len(index))]
    sizes = [
        max(1, int(share * len(order))) if lacks else 0
        for share, lacks in zip(shares[1:], lacking, strict=True)
    ]
    for part in (0, 1):
        if sum(sizes) >= len(order):
            sizes[part] = 0
    val, test = sizes
    return np.split(order, [len(order) - val - test, len(order) - test])


def _checked(loaded: Loaded, source: str) -> Loaded:
    """What a loader has returned, with the same classes in all parts."""
    whole = loaded.train
    parts = {
        split: part for split, part in vars(loaded).items() if part is not None
    }
    names = [*map(str, whole.names)]
    for split, part in parts.items():
        where = source if split == "train" else f"{source} ({split})"
        part.check(where)
        if part.are_instructions != whole.are_instructions:
            raise UserError(f"{where}: only one part holds instructions")
        if part.are_multi_label != whole.are_multi_label:
            raise UserError(
                f"{where}: only in one part may a text have several labels"
            )
        if len(part.texts[0]) != len(whole.texts[0]):
            raise UserError(
                f"{where}: its examples have {len(part.texts[0])} texts, and "
                f"those to train on {len(whole.texts[0])}"
            )
        if bool(part.clients) != bool(whole.clients):
            raise UserError(f"{where}: only one part names the clients")
        if part.are_instructions:  # A category may be in any part.
            names += [n for n in map(str, part.names) if n not in names]
    return Loaded(
        **{
            split: part.with_names(
                names if whole.are_instructions else whole.names,
                source if split == "train" else f"{source} ({split})",
            )
            for split, part in parts.items()
        }
    )


def split_over_clients(cfg: Config, tokens: list[Tokens]) -> list[Parts]:
    """Split the training, validation and test examples over the clients.

    Args:
        cfg: the configuration.
        tokens: the tokens of the training, validation and test examples.

    Returns:
        For each of the three splits and each client, the numbers of the
        client's examples.

    """
    if has_own_data(cfg):
        return [[list(range(len(part)))] for part in tokens]
    basis = basis_of(cfg.data.splitter)
    if basis == "client":
        return _of_clients(cfg, tokens)
    if basis == "length":
        lengths = [part.lengths().tolist() for part in tokens]
        return [
            split_train(lengths[0], cfg),
            *(split_train(part, cfg, least=1) for part in lengths[1:]),
        ]
    classes = [_classes(part) for part in tokens]
    train = split_train(classes[0], cfg)
    if not cfg.data.consistent_label_distribution:
        # As in the released FedSA-LoRA code, each split is drawn by itself.
        rest = (split_train(part, cfg, least=1) for part in classes[1:])
        return [train, *rest]
    train_labels = [[classes[0][i] for i in part] for part in train]
    rng = np.random.default_rng(SPLIT_SEED)
    return [
        train,
        *(
            split_like(labels, train_labels, rng, split)
            for labels, split in zip(
                classes[1:], ("validation", "test"), strict=True
            )
        ),
    ]


def _of_clients(cfg: Config, tokens: list[Tokens]) -> list[Parts]:
    """The examples that name each client, in each of the three splits."""
    names = cfg.fedsa.data.clients
    place = {name: number for number, name in enumerate(names)}
    train, *rest = (
        np.array([place[name] for name in part.clients], np.int64)
        for part in tokens
    )
    return [
        split_train(train.tolist(), cfg),
        *(
            [np.flatnonzero(part == c).tolist() for c in range(len(names))]
            for part in rest
        ),
    ]


def label_counts(
    tokens: list[Tokens], parts: list[Parts], names: Any, first: int = 1
) -> dict[str, dict[str, dict[str, int]]]:
    """Count the examples of each class that each client has in each split.

    Args:
        tokens: the tokens of the training, validation and test examples.
        parts: what ``split_over_clients`` returned for ``tokens``.
        names: the names of the classes; empty if the labels are scores.
        first: the ID of the first client.

    Returns:
        The counts by the client's ID, the split and the name of the class,
        or the names of all classes of an example that has several.

    """
    if len(tokens) and tokens[0].labels.ndim > 1:
        names, coded = kinds_of_sets([each.labels for each in tokens], names)
    else:
        coded = [np.array(_classes(each)) for each in tokens]
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, classes, shares in zip(SPLITS, coded, parts, strict=True):
        for client, index in enumerate(shares, first):
            labels, numbers = np.unique(classes[index], return_counts=True)
            found: Counter[str] = Counter()
            for label, number in zip(labels, numbers, strict=True):
                name = str(names[label] if len(names) else label)
                found[name] += int(number)
            counts.setdefault(str(client), {})[split] = dict(found)
    return counts


def _classes(tokens: Tokens) -> list[int]:
    """The class of each example, by which data are split over clients.

    Scores are rounded to whole numbers.  Texts that may have several labels
    are all of one class, as ``check_splitter`` leaves the splitters that
    need no classes.
    """
    if tokens.labels.ndim > 1:
        return [0] * len(tokens)
    classes: list[int] = np.rint(tokens.labels).astype(int).tolist()
    return classes
