"""The clients that examples name: which there are, and how many."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from fs_plugins.data.examples import Examples
from fs_plugins.data.spelling import alike
from fs_plugins.data.splitters import BY_CLIENT
from fs_plugins.errors import UserError, did_you_mean, shown
from fs_plugins.host.configuration import Config
from fs_plugins.notes import note
from fs_plugins.settings import has_own_data
from fs_plugins.terms import BY_FILE

_SHOWN = 10  # names in a sentence
_LONGEST = 200  # bytes of the name of a folder
_TAKEN = ("", "global", "all", "base")


def settle_clients(
    cfg: Config, train: Examples, val: Examples | None, test: Examples | None
) -> tuple[Examples, Examples | None, Examples | None]:
    """Find the clients of ``data.splitter: column`` or ``files``.

    Their names are written to ``fedsa.data.clients`` and their number to
    ``federate.client_num``.  With another splitter, only the number of names
    is checked.

    Args:
        cfg: the configuration, which is changed.
        train: the examples to train on.
        val: the validation examples, if there are some of their own.
        test: the test examples, if there are some of their own.

    Returns:
        The examples of the clients that take part.

    Raises:
        UserError: the clients are not known, or are not as many as the
            configuration says.

    """
    if has_own_data(cfg):
        _check_alone(train)
        return train, val, test
    number, names = cfg.federate.client_num, list(cfg.fedsa.data.clients)
    if cfg.data.splitter not in BY_CLIENT:
        if names and len(names) != number:
            raise UserError(
                f"fedsa.data.clients: {len(names)} names are given, and "
                f"there are {number} clients (federate.client_num)"
            )
        _check_names(names)
        return train, val, test
    if not train.clients:
        raise UserError(
            f"data.splitter: {cfg.data.splitter} needs {_needed(cfg)}"
        )
    known = in_order(train.clients)
    for name in names:
        if name not in known:
            raise UserError(
                f"fedsa.data.clients: no example belongs to {shown(name)}"
                f"{did_you_mean(name, known)}; there are {_listed(known)}"
            )
    names = names or known
    if number not in (0, len(names)):
        raise UserError(
            f"federate.client_num: it is {number}, and the examples belong "
            f"to {len(names)} clients ({_listed(names)}); leave it out, or "
            "name those that take part (fedsa.data.clients)"
        )
    _check_names(names)
    _note_alike(names)
    cfg.fedsa.data.clients = names
    _set_number(cfg, len(names))
    before = [len(part) for part in (train, val, test) if part is not None]
    train = _of_clients(train, names)
    val = None if val is None else _of_clients(val, names)
    test = None if test is None else _of_clients(test, names)
    after = [len(part) for part in (train, val, test) if part is not None]
    if sum(after) < sum(before):
        note(
            f"{sum(before) - sum(after)} examples of clients that take no "
            "part are left out"
        )
    return train, val, test


def _check_alone(train: Examples) -> None:
    """Refuse the data of several participants where only one's belong."""
    if len({*train.clients}) > 1:
        raise UserError(
            f"data.type: there are {len({*train.clients})} files, and a "
            "participant of a distributed run has one of its own "
            "(data.splitter files)"
        )


def _check_names(names: Sequence[str]) -> None:
    """Refuse names after which no folder can be called."""
    for name in names:
        size = len(quote(name, " "))
        if name in _TAKEN or name.startswith(".") or size > _LONGEST:
            raise UserError(
                f"fedsa.data.client: {shown(name)} cannot be the name of a "
                "client, as folders are called by the clients' names; rename "
                "it, or name the clients that take part (fedsa.data.clients)"
            )
    if len({*names}) < len(names):
        raise UserError("fedsa.data.clients: a name is there twice")


def _note_alike(names: Sequence[str]) -> None:
    """Tell of clients whose names may be two spellings of one."""
    for group in alike(names):
        told = " and ".join(map(shown, group))
        note(
            f"{told} are {'two' if len(group) == 2 else len(group)} clients; "
            "is it one, spelt in several ways?"
        )


def _needed(cfg: Config) -> str:
    if cfg.data.splitter == BY_FILE:
        return "a file for each client, such as data.type: 'sites/*.csv@text'"
    return "the column that names each example's client (fedsa.data.client)"


def _set_number(cfg: Config, number: int) -> None:
    """Set the number of clients, and of those that a round samples."""
    sampled = cfg.federate.sample_client_num
    if cfg.federate.client_num != number:
        cfg.federate.client_num = number
        rate = cfg.federate.sample_client_rate
        if rate > 0:
            cfg.federate.sample_client_num = max(1, int(rate * number))
        elif sampled <= 0:
            cfg.federate.sample_client_num = number
    if sampled > number:
        raise UserError(
            f"federate.sample_client_num: {sampled} is more than the "
            f"{number} clients that there are"
        )


def _of_clients(examples: Examples, names: Sequence[str]) -> Examples:
    """The examples of some clients."""
    wanted = {*names}
    index = [i for i, n in enumerate(examples.clients) if n in wanted]
    return examples.take(index) if len(index) < len(examples) else examples


def in_order(names: Iterable[str]) -> list[str]:
    """The clients' names, each once, in the order of their IDs."""
    return sorted({*names}, key=_order)


def _order(name: str) -> tuple[int, int, str]:
    """Numbers come first and in their order, then words."""
    is_number = name.isdecimal() and name.isascii() and len(name) < 19
    return (0, int(name), name) if is_number else (1, 0, name)


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if names[_SHOWN:] else ""
    return ", ".join(map(shown, names[:_SHOWN])) + more
