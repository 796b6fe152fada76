"""How examples are split among clients."""

from collections.abc import Sequence

import numpy as np

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config

Parts = list[list[int]]


def split_train(labels: Sequence[int], cfg: Config) -> Parts:
    """Split the training examples with the host's splitter.

    Args:
        labels: the class of each example.
        cfg: ``data.splitter``, ``data.splitter_args`` and
            ``federate.client_num`` are used.

    Returns:
        The numbers of each client's examples.

    Raises:
        UserError: the splitter is unknown or refuses, or a client would have
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
    codes = np.unique(labels, return_inverse=True)[1].tolist()
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
    # FederatedScope's 'meta' returns what it has merged into these, too
    index = [[int(i) for i, _ in part] for part in parts[:clients]]
    _check_batches(index, cfg)
    return index


def split_like(
    labels: Sequence[int],
    train_labels: Sequence[Sequence[int]],
    rng: np.random.Generator,
    what: str,
) -> Parts:
    """Split so that each client's labels are distributed as in training.

    Each class is dealt out in proportion to the clients' training examples
    of it.  A client to which nothing falls is given one example of a class
    that it trains on.

    Args:
        labels: the class of each example.
        train_labels: the classes of each client's training examples.
        rng: shuffles.
        what: the split's name, for the error.

    Raises:
        UserError: there is not one example for every client.

    """
    classes = np.asarray(labels)
    clients = len(train_labels)
    if len(labels) < clients:
        raise UserError(
            f"federate.client_num: {clients} clients are more than the "
            f"{len(labels)} {what} examples; use fewer clients or a larger "
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
    for client, part in enumerate(parts):
        if part:
            continue
        own = set(train_labels[client])
        donors = sorted(parts, key=len, reverse=True)
        donor = next(
            (d for d in donors if len(d) > 1 and own & set(labels[d])),
            donors[0],
        )
        given = ([i for i in donor if labels[i] in own] or donor)[-1]
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


def _check_batches(parts: Parts, cfg: Config) -> None:
    least = cfg.dataloader.batch_size if cfg.dataloader.drop_last else 1
    for client, part in enumerate(parts, 1):
        if len(part) < least:
            raise UserError(
                f"data.splitter: client {client} gets {len(part)} training "
                f"examples, less than one batch ({least}); use fewer "
                "clients, a larger alpha or a smaller dataloader.batch_size"
            )
