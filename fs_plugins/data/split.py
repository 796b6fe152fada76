"""Splits examples over the clients."""

from collections.abc import Sequence

import numpy as np

from fs_plugins.data.splitters import BY_CLIENT
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config

Parts = list[list[int]]  # for each client, the numbers of its examples


def split_train(
    labels: Sequence[int], cfg: Config, least: int | None = None
) -> Parts:
    """Split the training examples with FederatedScope's splitter.

    Args:
        labels: the class of each example.
        cfg: the configuration, of which ``data.splitter``,
            ``data.splitter_args`` and ``federate.client_num`` are used.
        least: the least number of examples of a client; None for
            ``fedsa.data.min_examples``.

    Returns:
        For each client, the numbers of its examples.

    Raises:
        UserError: the splitter is unknown or fails, or a client would have
            less than one batch.

    """
    from federatedscope.core.auxiliaries.splitter_builder import get_splitter

    clients, name = cfg.federate.client_num, cfg.data.splitter
    if len(labels) < clients:
        raise UserError(
            f"federate.client_num: {clients} clients are more than the "
            f"{len(labels)} training examples"
        )
    _check_alpha(cfg)
    # FederatedScope's splitters lose examples unless classes are 0, 1, 2, ...
    codes = list(labels)
    if name not in BY_CLIENT:
        codes = np.unique(labels, return_inverse=True)[1].tolist()
    least = cfg.fedsa.data.min_examples if least is None else least
    try:
        splitter = get_splitter(cfg)
        if splitter is None:
            raise UserError(f"data.splitter: there is no {name!r}")
        parts = splitter(list(enumerate(codes)))
    except (TypeError, ValueError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"data.splitter: {name!r} with splitter_args "
            f"{cfg.data.splitter_args} fails: {error}"
        ) from error
    # After the clients' parts, FederatedScope's splitter 'meta' returns those
    # that it has merged into them.
    index = [[int(i) for i, _ in part] for part in parts[:clients]]
    if least > 1 and name not in BY_CLIENT:
        _fill_up(index, least)
    _check_batches(index, cfg, least)
    return index


def split_like(
    labels: Sequence[int],
    train_labels: Sequence[Sequence[int]],
    rng: np.random.Generator,
    split: str,
) -> Parts:
    """Split so that each client's labels are distributed as in training.

    The examples of each class are distributed in proportion to the clients'
    training examples of this class.  A client that would have no example is
    given one, if possible of a class that the client trains on.

    Args:
        labels: the class of each example.
        train_labels: the classes of each client's training examples.
        rng: the random generator that shuffles the examples.
        split: the name of the split, for the error message.

    Returns:
        For each client, the numbers of its examples.

    Raises:
        UserError: there are fewer examples than clients.

    """
    classes = np.asarray(labels)
    clients = len(train_labels)
    if len(labels) < clients:
        raise UserError(
            f"federate.client_num: {clients} clients are more than the "
            f"{len(labels)} {split} examples; use fewer clients or a larger "
            "share in data.splits"
        )
    counts = {
        label: np.array([list(t).count(label) for t in train_labels], float)
        for label in np.unique(classes).tolist()
    }
    parts: Parts = [[] for _ in range(clients)]
    for label, count in counts.items():
        index = rng.permutation(np.flatnonzero(classes == label))
        weights = count if count.sum() else np.ones(clients)
        cuts = np.cumsum(weights)[:-1] / weights.sum() * len(index)
        chunks = np.split(index, np.rint(cuts).astype(int))
        for part, chunk in zip(parts, chunks, strict=True):
            part.extend(chunk.tolist())
    _fill_empty(parts, classes, train_labels)
    return [sorted(part) for part in parts]


def _fill_empty(
    parts: Parts, labels: np.ndarray, train_labels: Sequence[Sequence[int]]
) -> None:
    """Move an example to each client without one, from a client with many."""
    for client, part in enumerate(parts):
        if part:
            continue
        classes = set(train_labels[client])
        donors = sorted(parts, key=len, reverse=True)
        donor = next(
            (d for d in donors if len(d) > 1 and classes & set(labels[d])),
            donors[0],
        )
        given = ([i for i in donor if labels[i] in classes] or donor)[-1]
        donor.remove(given)
        part.append(given)


def _check_alpha(cfg: Config) -> None:
    args = cfg.data.splitter_args[0] if cfg.data.splitter_args else {}
    alpha = args.get("alpha", 1)
    is_number = isinstance(alpha, (int, float)) and alpha > 0
    if cfg.data.splitter == "lda" and not is_number:
        raise UserError(
            f"data.splitter_args: alpha is {alpha!r}, but must be a number "
            "above 0"
        )


def _check_batches(parts: Parts, cfg: Config, needed: int) -> None:
    least = cfg.dataloader.batch_size if cfg.dataloader.drop_last else 1
    names = cfg.fedsa.data.clients
    for client, part in enumerate(parts, 1):
        if len(part) < least:
            raise UserError(
                f"data.splitter: client {client} gets {len(part)} training "
                f"examples, less than one batch ({least}); use fewer "
                "clients, a larger alpha or a smaller dataloader.batch_size"
            )
        if len(part) < needed:
            name = names[client - 1] if names else client
            raise UserError(
                f"fedsa.data.min_examples: client {name} has {len(part)} "
                f"examples to train on, fewer than {needed}; leave it out "
                "(fedsa.data.clients)"
            )


def _fill_up(parts: Parts, least: int) -> None:
    """Move examples from the largest client to each that has too few."""
    if sum(map(len, parts)) < least * len(parts):
        raise UserError(
            f"fedsa.data.min_examples: {least} examples for each of "
            f"{len(parts)} clients are more than the "
            f"{sum(map(len, parts))} to train on"
        )
    for part in parts:
        while len(part) < least:
            part.append(max(parts, key=len).pop())
