"""Data of the user's own: ``data.type: <file>@text`` and ``<file>@chat``."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fs_plugins.data.clients import in_order
from fs_plugins.data.examples import Examples
from fs_plugins.data.loaded import Loaded
from fs_plugins.data.own_examples import examples_in
from fs_plugins.data.tables import Table, find_table, find_tables
from fs_plugins.errors import UserError, shown
from fs_plugins.host.configuration import Config
from fs_plugins.terms import AUTO, BY_FILE


def load_texts(name: str, cfg: Config) -> Loaded:
    """The examples of ``data.type: <name>@text``: texts with labels.

    Args:
        name: a file, a pattern of files, a folder, or a data set of the hub.
        cfg: the configuration.

    Raises:
        UserError: there is nothing of this name, or it cannot be used.

    """
    return _load(name, cfg, "text")


def load_chat(name: str, cfg: Config) -> Loaded:
    """The examples of ``data.type: <name>@chat``: conversations.

    A conversation is a prompt and its completion, an instruction and its
    output, or a list of messages.

    Args:
        name: a file, a pattern of files, a folder, or a data set of the hub.
        cfg: the configuration.

    Raises:
        UserError: there is nothing of this name, or it cannot be used.

    """
    parts = {
        part: replace(examples, template=AUTO)
        for part, examples in vars(load_instructed(name, cfg)).items()
        if examples is not None
    }
    return Loaded(**parts)


def load_instructed(name: str, cfg: Config) -> Loaded:
    """The examples of ``data.type: <file>@llm``, in the format of Alpaca.

    Args:
        name: a file, a pattern of files, a folder, or a data set of the hub.
        cfg: the configuration.

    Raises:
        UserError: there is nothing of this name, or it cannot be used.

    """
    return _load(name, cfg, "chat")


def files_of_clients(cfg: Config) -> dict[str, str]:
    """The file of each client of ``data.splitter: files``, by its name.

    The names are those of ``fedsa.data.clients``, or else all that the files
    have, in the order of the clients' IDs.

    Args:
        cfg: the configuration of a run whose clients have a file each.

    Raises:
        UserError: a client has no file.

    """
    name, options = cfg.data.type.rpartition("@")[0], cfg.fedsa.data
    tables = find_tables(name, cfg.data.root, options.separator)["train"]
    files = {table.name: os.path.abspath(table.source) for table in tables}
    names = list(options.clients) or in_order(files)
    for client in names:
        if client not in files:
            raise UserError(
                f"fedsa.data.clients: {shown(client)} has no file among those "
                f"of data.type: {cfg.data.type}"
            )
    return {client: files[client] for client in names}


def expected_examples(cfg: Config) -> Examples:
    """No examples, but with the classes that all participants agree on.

    Args:
        cfg: the configuration of a participant that has no data.

    """
    is_text = cfg.data.type.lower().endswith("@text")
    names = cfg.fedsa.data.classes if is_text else ["all"]
    return Examples(
        [],
        [],
        tuple(names),
        are_instructions=not is_text,
        are_multi_label=is_text and bool(cfg.fedsa.data.labels),
    )


def _apart(tables: Mapping[str, Sequence[Table]], name: str) -> list[Table]:
    """The tables to train on, without those that are validated or tested on.

    A pattern or a folder may have them, too.
    """
    others = {
        os.path.realpath(table.source)
        for part, of_part in tables.items()
        if part != "train"
        for table in of_part
    }
    kept = [
        table
        for table in tables["train"]
        if os.path.realpath(table.source) not in others
    ]
    if not kept:
        raise UserError(
            f"data.type: {name} has no file to train on beside those of "
            "fedsa.data.validation and fedsa.data.test"
        )
    return kept


def _load(name: str, cfg: Config, kind: str) -> Loaded:
    options, root = cfg.fedsa.data, cfg.data.root
    tables = find_tables(name, root, options.separator)
    for part, option, file in (
        ("val", "validation", options.validation),
        ("test", "test", options.test),
    ):
        if file:
            tables[part] = find_table(
                f"fedsa.data.{option}", file, root, options.separator
            )
    tables["train"] = _apart(tables, name)
    by_file = cfg.data.splitter == BY_FILE
    return Loaded(**examples_in(tables, options, kind, by_file))
