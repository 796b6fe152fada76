"""Examples that Python code hands to a run."""

from collections.abc import Mapping
from typing import Any

from fs_plugins.data.examples import Examples
from fs_plugins.data.loaded import Loaded
from fs_plugins.data.own_examples import examples_in
from fs_plugins.data.tables import Numbered, Table, table_of
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.scope import current_scope
from fs_plugins.terms import GIVEN

_PARTS = {"train": "train", "validation": "val", "test": "test"}


def load_given(name: str, cfg: Config) -> Loaded:
    """The examples of ``data.type: <any name>@given``.

    Args:
        name: the name before the ``@``, which is only used in error messages.
        cfg: the configuration, of which the section ``fedsa.data`` is used.

    Raises:
        UserError: no data were handed to the run, or they have another form.

    """
    data = current_scope().given.get("data")
    if data is None:
        raise UserError(
            f"data.type: {name}@{GIVEN} stands for data that Python code "
            "hands to the run; hand them to fs_plugins.run or "
            "fs_plugins.resume as data="
        )
    if isinstance(data, tuple) and len(data) == 2:
        data = {"train": data[0], "test": data[1]}
    if not isinstance(data, Mapping):
        data = {"train": data}
        where = {"train": "data"}
    else:
        where = {part: f"data[{part!r}]" for part in data}
    if not {"train"} <= {*data} <= {*_PARTS}:
        raise UserError(
            f"data: it has the parts {', '.join(map(repr, data))}; hand over "
            "'train', and perhaps 'validation' and 'test'"
        )
    examples = {
        _PARTS[part]: each
        for part, each in data.items()
        if isinstance(each, Examples)
    }
    tables = {
        _PARTS[part]: [_table(each, where[part])]
        for part, each in data.items()
        if not isinstance(each, Examples)
    }
    read = examples_in(tables, cfg.fedsa.data) if tables else {}
    return Loaded(**{**read, **examples})


def _table(data: Any, where: str) -> Table:
    """The rows of a data set, all with the same columns.

    Args:
        data: a ``datasets.Dataset``, a ``pandas.DataFrame``, or a list of
            mappings.
        where: what the data set is called in an error message.

    Raises:
        UserError: it is none of these, or rows differ in their columns.

    """
    is_frame = hasattr(data, "iloc") and hasattr(data, "columns")
    if is_frame and not data.columns.is_unique:
        raise UserError(f"{where}: two of its columns have the same name")
    try:
        rows = data.to_dict("records") if is_frame else [*data]
    except TypeError:  # The object cannot be iterated over.
        rows = []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(
            f"{where}: it is no data set with rows of named columns, or it "
            "is empty"
        )
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            raise UserError(
                f"{where}: row {number} has the columns {_listed(row)}, and "
                f"row 0 has {_listed(rows[0])}"
            )
    classes = table_of(data, where).classes
    return Table(where, Numbered(rows), "", classes)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(map(str, names)))
