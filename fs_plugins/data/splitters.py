"""Ways to split examples over clients, registered with FederatedScope.

A splitter is called with examples ``(x, value)``, where the value is what
the splitter goes by: the class of the example, its length, or the number of
its client.  It returns the examples of each client.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from fs_plugins.terms import BY_FILE

SPLIT_SEED = 12345  # FederatedScope's splits do not depend on ``seed``.


class Splitter(abc.ABC):
    """Splits examples by their values.

    Args:
        client_num: the number of clients.

    Attributes:
        basis: what the values are: ``label``, ``length`` or ``client``.

    """

    basis = "label"

    def __init__(self, client_num: int) -> None:
        self.client_num = client_num

    def __call__(
        self, dataset: Any, prior: Any = None, **_: Any
    ) -> list[list[Any]]:
        """Split the examples.

        Args:
            dataset: the examples, as pairs of anything and a value.
            prior: not used.

        Returns:
            The examples of each client.

        """
        examples = [dataset[i] for i in range(len(dataset))]
        parts = self.parts(np.array([value for _, value in examples]))
        return [[examples[i] for i in part] for part in parts]

    @abc.abstractmethod
    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples.

        Args:
            values: the value of each example.

        """


class ByClient(Splitter):
    """Each example goes to its own client: ``column`` and ``files``."""

    basis = "client"

    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples."""
        return [
            np.flatnonzero(values == client).tolist()
            for client in range(self.client_num)
        ]


class ByLength(Splitter):
    """The first client has the shortest texts, the last the longest."""

    basis = "length"

    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples."""
        order = np.argsort(values, kind="stable")
        return [
            part.tolist() for part in np.array_split(order, self.client_num)
        ]


class Pathological(Splitter):
    """Each client has examples of a few classes only.

    The classes are dealt out in turn, and the examples of a class evenly to
    the clients that have it.

    Args:
        client_num: the number of clients.
        classes: how many classes each client has.

    """

    def __init__(self, client_num: int, classes: int = 2) -> None:
        super().__init__(client_num)
        self.classes = _whole("classes", classes)

    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples."""
        rng = np.random.default_rng(SPLIT_SEED)
        known = rng.permutation(np.unique(values))
        if self.classes > len(known):
            raise ValueError(
                f"classes is {self.classes}, and there are {len(known)}"
            )
        if self.client_num * self.classes < len(known):
            raise ValueError(
                f"{self.client_num} clients with {self.classes} classes each "
                f"leave some of the {len(known)} classes to nobody"
            )
        owners: list[list[int]] = [[] for _ in known]
        for place in range(self.client_num * self.classes):
            owners[place % len(known)].append(place // self.classes)
        parts: list[list[int]] = [[] for _ in range(self.client_num)]
        for value, clients in zip(known, owners, strict=True):
            index = rng.permutation(np.flatnonzero(values == value))
            chunks = np.array_split(index, len(clients))
            for client, chunk in zip(clients, chunks, strict=True):
                parts[client].extend(chunk.tolist())
        return parts


class Shards(Splitter):
    """Examples sorted by class are cut into shards; each client has a few.

    (McMahan et al., AISTATS 2017, section 3)

    Args:
        client_num: the number of clients.
        shards: how many shards each client has.

    """

    def __init__(self, client_num: int, shards: int = 2) -> None:
        super().__init__(client_num)
        self.shards = _whole("shards", shards)

    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples."""
        rng = np.random.default_rng(SPLIT_SEED)
        number = self.client_num * self.shards
        # Within a class the order is random.
        mixed = rng.permutation(len(values))
        order = mixed[np.argsort(values[mixed], kind="stable")]
        pieces = np.array_split(order, number)
        dealt = rng.permutation(number).reshape(self.client_num, self.shards)
        return [
            np.concatenate([pieces[i] for i in own]).tolist() for own in dealt
        ]


class PowerLaw(Splitter):
    """Client i has a share of the examples proportional to i^-exponent.

    Args:
        client_num: the number of clients.
        exponent: 0 for equal shares; the larger, the more unequal.

    """

    def __init__(self, client_num: int, exponent: float = 1.0) -> None:
        super().__init__(client_num)
        is_number = isinstance(exponent, (int, float))
        if not is_number or isinstance(exponent, bool) or exponent < 0:
            raise ValueError(f"exponent is {exponent!r}, not 0 or above")
        self.exponent = float(exponent)

    def parts(self, values: np.ndarray) -> Sequence[Sequence[int]]:
        """The numbers of each client's examples."""
        weights = np.arange(1.0, self.client_num + 1) ** -self.exponent
        cuts = np.cumsum(weights)[:-1] / weights.sum() * len(values)
        order = np.random.default_rng(SPLIT_SEED).permutation(len(values))
        pieces = np.split(order, np.rint(cuts).astype(int))
        return [piece.tolist() for piece in pieces]


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}, not a whole number above 0")
    return value


SPLITTERS: dict[str, type[Splitter]] = {
    "column": ByClient,
    BY_FILE: ByClient,
    "length": ByLength,
    "pathological": Pathological,
    "shards": Shards,
    "power_law": PowerLaw,
}
BY_CLIENT = ("column", BY_FILE)


def basis_of(splitter: str) -> str:
    """What a splitter goes by: ``label``, ``length`` or ``client``."""
    known = SPLITTERS.get(splitter)
    return known.basis if known else "label"
