"""From examples to each client's share of them."""

from typing import Any

import numpy as np

from fs_plugins.data.examples import Examples
from fs_plugins.data.registry import FAMILIES
from fs_plugins.data.split import Parts, split_like, split_train
from fs_plugins.data.tokens import Tokens
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config

SPLITS = ("train", "val", "test")
# FederatedScope splits the same way whatever ``seed`` is; so do we.
SPLIT_SEED = 12345


def three_splits(
    cfg: Config, name: str, family: str
) -> tuple[Examples, Examples, Examples]:
    """Training, validation and test examples.

    GLUE's own test labels are secret: its dev set is our test set.  Where
    there is a test set, as many examples as it has (at most
    ``data.splits[1]`` of the training set) are taken from the training set
    for validation.

    Args:
        cfg: the configuration.
        name: of the data, what stands before the ``@`` of ``data.type``.
        family: what stands behind it.

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
    whole, test = FAMILIES[family.lower()](name, cfg.data.root)
    whole.check(f"data.type: {cfg.data.type}")
    if test is not None:
        test.check(f"data.type: {cfg.data.type} (test)")
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


def split_over_clients(cfg: Config, tokens: list[Tokens]) -> list[Parts]:
    """Each client's part of each split, as indices of its examples.

    Args:
        cfg: the configuration.
        tokens: of the training, validation and test examples.

    """
    classes = [_classes(part) for part in tokens]
    train = split_train(classes[0], cfg)
    if not cfg.data.consistent_label_distribution:
        # As in the released FedSA-LoRA code: a draw of its own a split.
        return [train, *(split_train(part, cfg) for part in classes[1:])]
    train_labels = [[classes[0][i] for i in part] for part in train]
    rng = np.random.default_rng(SPLIT_SEED)
    return [
        train,
        *(
            split_like(part, train_labels, rng, what)
            for part, what in zip(
                classes[1:], ("validation", "test"), strict=True
            )
        ),
    ]


def label_counts(
    tokens: list[Tokens], parts: list[Parts], names: Any
) -> dict[str, dict[str, dict[str, int]]]:
    """How many examples of each class each client has, by client and split.

    Args:
        tokens: of the training, validation and test examples.
        parts: what ``split_over_clients`` returned for them.
        names: of the classes; empty if labels are scores.

    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, whole, shares in zip(SPLITS, tokens, parts, strict=True):
        classes = np.array(_classes(whole))
        for client, index in enumerate(shares, 1):
            found, number = np.unique(classes[index], return_counts=True)
            counts.setdefault(str(client), {})[split] = {
                str(names[c] if len(names) else c): int(n)
                for c, n in zip(found, number, strict=True)
            }
    return counts


def _classes(tokens: Tokens) -> list[int]:
    """What label skew is about; scores are rounded."""
    classes: list[int] = np.rint(tokens.labels).astype(int).tolist()
    return classes
