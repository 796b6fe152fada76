"""Splits examples into training, validation and test, and over clients."""

from typing import Any

import numpy as np

from fs_plugins.data.examples import Examples
from fs_plugins.data.registry import FAMILIES
from fs_plugins.data.split import Parts, split_like, split_train
from fs_plugins.data.tokens import Tokens
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config

SPLITS = ("train", "val", "test")
# FederatedScope's splits do not depend on ``seed``, so these do not either.
SPLIT_SEED = 12345


def three_splits(
    cfg: Config, name: str, family: str
) -> tuple[Examples, Examples, Examples]:
    """Load the training, validation and test examples.

    If the data have a test set of their own, validation examples are taken
    from the training set: as many as the test set has, but at most the share
    ``data.splits[1]`` of the training set.  Otherwise ``data.splits`` cuts
    the examples into three.  The labels of GLUE's test sets are secret, so
    its dev sets are used as test sets.

    Args:
        cfg: the configuration.
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
    loaded = FAMILIES[family.lower()](name, cfg.data.root)
    whole, test = _checked(loaded, f"data.type: {cfg.data.type}")
    if cfg.data.subsample < 1:
        number = max(1, int(cfg.data.subsample * len(whole)))
        whole = whole.take(rng.permutation(len(whole))[:number])
    if test is None:
        order = rng.permutation(len(whole))
        cuts = (np.cumsum(shares[:2]) * len(whole)).astype(int)
        parts = [whole.take(part) for part in np.split(order, cuts)]
        train, val, test = parts
    else:
        order = rng.permutation(len(whole))
        size = max(1, min(int(shares[1] * len(whole)), len(test)))
        train, val = whole.take(order[size:]), whole.take(order[:size])
    for split, examples in zip(SPLITS, (train, val, test), strict=True):
        if not len(examples):
            raise UserError(
                f"data.splits: {cfg.data.splits} of these data, with "
                f"data.subsample {cfg.data.subsample}, leave no {split} "
                "examples"
            )
    return train, val, test


def _checked(loaded: Any, source: str) -> tuple[Examples, Examples | None]:
    """What a loader has returned, with the same classes in both parts."""
    is_pair = isinstance(loaded, tuple) and len(loaded) == 2
    if not is_pair or not isinstance(loaded[0], Examples):
        raise UserError(
            f"{source}: its loader must return a pair of Examples, and of "
            "the test set's or None"
        )
    whole, test = loaded
    whole.check(source)
    if test is None:
        return whole, None
    source = f"{source} (test)"
    if not isinstance(test, Examples):
        raise UserError(f"{source}: its loader returned {test!r:.80}")
    test.check(source)
    if whole.are_instructions != test.are_instructions:
        raise UserError(f"{source}: only one part holds instructions")
    if not whole.are_instructions:
        return whole, test.with_names(whole.names, source)
    # A category of instructions may be in either part only.
    names = [*map(str, whole.names)]
    names += [n for n in map(str, test.names) if n not in names]
    return (
        whole.with_names(names, source),
        test.with_names(names, source),
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
    classes = [_classes(part) for part in tokens]
    train = split_train(classes[0], cfg)
    if not cfg.data.consistent_label_distribution:
        # As in the released FedSA-LoRA code, each split is drawn by itself.
        return [train, *(split_train(part, cfg) for part in classes[1:])]
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


def label_counts(
    tokens: list[Tokens], parts: list[Parts], names: Any
) -> dict[str, dict[str, dict[str, int]]]:
    """Count the examples of each class that each client has in each split.

    Args:
        tokens: the tokens of the training, validation and test examples.
        parts: what ``split_over_clients`` returned for ``tokens``.
        names: the names of the classes; empty if the labels are scores.

    Returns:
        The counts by the client's ID, the split and the name of the class.

    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, whole, shares in zip(SPLITS, tokens, parts, strict=True):
        classes = np.array(_classes(whole))
        for client, index in enumerate(shares, 1):
            labels, numbers = np.unique(classes[index], return_counts=True)
            counts.setdefault(str(client), {})[split] = {
                str(names[label] if len(names) else label): int(number)
                for label, number in zip(labels, numbers, strict=True)
            }
    return counts


def _classes(tokens: Tokens) -> list[int]:
    """The class of each example, by which data are split over clients.

    Scores are rounded to whole numbers.
    """
    classes: list[int] = np.rint(tokens.labels).astype(int).tolist()
    return classes
