"""Instruction data: FederatedScope's ``<name>@llm``, read from local files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.data.chat import Chat, answered
from fs_plugins.data.examples import Examples
from fs_plugins.data.sources import Row, is_missing, read_rows, text_of
from fs_plugins.errors import UserError, unknown
from fs_plugins.terms import ALPACA


@dataclass(frozen=True)
class Source:
    """Where the files of a data set are, and what their fields are called.

    Attributes:
        train: the training file under ``data.root``; a pattern may match
            several files.
        public: where the data set can be downloaded from.
        fields: the file's name of each field, by the name that this package
            gives the field.
        test: the file of the test set; empty if there is none.
        also: other names of the files, as pairs (train, test).

    """

    train: str
    public: str
    fields: Mapping[str, str]
    test: str = ""
    also: tuple[tuple[str, str], ...] = ()


_PLAIN = {
    "instruction": "instruction",
    "input": "input",
    "output": "output",
    "category": "category",
}
# The data sets, by the name before '@llm' in ``data.type``.
SOURCES: dict[str, Source] = {
    "alpaca": Source(
        "alpaca_data.json", "github.com/tatsu-lab/stanford_alpaca", _PLAIN
    ),
    "alpaca_cleaned": Source(
        "alpaca_data_cleaned.json",
        "github.com/gururise/AlpacaDataCleaned",
        _PLAIN,
    ),
    "dolly-15k": Source(
        "databricks-dolly-15k.jsonl",
        "huggingface.co/datasets/databricks/databricks-dolly-15k",
        {**_PLAIN, "input": "context", "output": "response"},
    ),
    "gsm8k": Source(
        "gsm8k_train.jsonl",
        "github.com/openai/grade-school-math, folder "
        "grade_school_math/data (train.jsonl and test.jsonl)",
        {"instruction": "question", "output": "answer"},
        test="gsm8k_test.jsonl",
        also=(
            ("train.jsonl", "test.jsonl"),
            ("gsm8k/train.jsonl", "gsm8k/test.jsonl"),
        ),
    ),
    "rosetta_alpaca": Source(
        "rosetta_alpaca.json",
        "github.com/sahil280114/codealpaca, folder data",
        {**_PLAIN, "category": "input"},
    ),
    "code_search_net": Source(
        "*/final/jsonl/train/*_train_*.jsonl.gz",
        "github.com/github/CodeSearchNet",
        {
            "instruction": "docstring",
            "input": "language",
            "output": "code",
            "category": "language",
        },
    ),
}


def load_instructions(
    name: str, root: str
) -> tuple[Examples, Examples | None]:
    """Load the examples of ``data.type: <name>@llm``.

    Args:
        name: a key of ``SOURCES``, or a ``.json`` or ``.jsonl`` file whose
            records have the fields ``instruction``, ``output`` and perhaps
            ``input`` and ``category``.
        root: ``data.root``, the folder of the files.

    Returns:
        The examples, and the test set if the data have one of their own.

    Raises:
        UserError: the name is unknown, a file is missing or broken.

    """
    if name.endswith((".json", ".jsonl")):
        source = Source(name, "", _PLAIN)
    elif name.lower() in SOURCES:
        source = SOURCES[name.lower()]
    else:
        raise unknown(
            "data.type", f"{name}@llm", [f"{s}@llm" for s in SOURCES]
        )
    folder = Path(root).expanduser()
    for train, test in ((source.train, source.test), *source.also):
        files = (
            sorted(folder.glob(train)) if "*" in train else [folder / train]
        )
        if not files or not files[0].is_file():
            continue
        rows = [pair for file in files for pair in _read(file, source)]
        if not test:
            return instructions(rows), None
        test_file = folder / test
        if not test_file.is_file():
            raise _missing(name, test_file, source)
        return instructions(rows), instructions(_read(test_file, source))
    raise _missing(name, folder / source.train, source)


# The category of examples without one, if other examples have one.
NO_CATEGORY = "(none)"


def instructions(rows: Sequence[Row]) -> Examples:
    """Convert instructions to examples: prompt, response and category.

    Args:
        rows: mappings with the keys ``instruction`` and ``output``, and
            perhaps ``input`` and ``category``.

    """
    numbers, names = numbered(rows)
    texts = [(prompt_of(row), str(row["output"])) for row in rows]
    return Examples(
        [*texts],
        numbers,
        names,
        are_instructions=True,
        chats=[_chat(row) for row in rows],
        template=ALPACA,
    )


def numbered(rows: Sequence[Row]) -> tuple[list[float], tuple[str, ...]]:
    """The number of each row's category, and the categories' names."""
    categories = [
        str(row["category"]) if _has(row, "category") else NO_CATEGORY
        for row in rows
    ]
    names = sorted({*categories} - {NO_CATEGORY})
    if names and NO_CATEGORY in categories:
        names.append(NO_CATEGORY)
    names = names or ["all"]
    number = {name: i for i, name in enumerate(names)}
    return [number.get(category, 0) for category in categories], (*names,)


def _chat(row: Row) -> Chat:
    """The conversation of an instruction and its response."""
    about = str(row["input"]) if _has(row, "input") else ""
    return answered(str(row["instruction"]), str(row["output"]), about)


INSTRUCTION = "### Instruction:"  # the first line of each prompt


def _has(row: Row, field: str) -> bool:
    """Whether a field has a value other than null and the empty text."""
    value = row.get(field)
    return not (is_missing(value) or value == "")


def prompt_of(row: Row) -> str:
    """The prompt of an instruction, in the format of Alpaca.

    The prompt consists of the instruction, the input if there is one, and
    the line after which the response begins.
    """
    parts = [f"{INSTRUCTION}\n{row['instruction']}\n\n"]
    if _has(row, "input"):
        parts.append(f"### Input:\n{row['input']}\n\n")
    return "".join(parts) + "### Response:\n"


def until_next(text: str) -> str:
    """The text before the line with which the next instruction begins.

    Headings that belong to the answer, as in Markdown or as GSM8K's
    ``#### 72``, do not end it.
    """
    begin = f"^{re.escape(INSTRUCTION)}[ \t]*$"
    return re.split(begin, text, maxsplit=1, flags=re.MULTILINE)[0]


def _read(file: Path, source: Source) -> list[Row]:
    rows: list[Row] = []
    for place, row in read_rows(file):
        where = f"{file}, {place}"
        fields: dict[str, Any] = {}
        for field, name_in_file in source.fields.items():
            value = row.get(name_in_file)
            is_needed = field in ("instruction", "output")
            if is_needed and not isinstance(value, str):
                raise UserError(f"{where}: {name_in_file!r} is not a text")
            if not is_missing(value):
                fields[field] = text_of(value, name_in_file, where)
        rows.append(fields)
    if not rows:
        raise UserError(f"{file} holds no examples")
    return rows


def _missing(name: str, path: Path, source: Source) -> UserError:
    where = f"; its public source is {source.public}" if source.public else ""
    return UserError(
        f"data.type: {name}@llm expects the file {path} (data.root){where}"
    )
