"""Instruction data: FederatedScope's ``<name>@llm``, from local files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.data.examples import Examples
from fs_plugins.data.sources import Row, is_missing, read_rows, text_of
from fs_plugins.errors import UserError, unknown


@dataclass(frozen=True)
class Source:
    """Where a data set's files are, and what is in them.

    Attributes:
        train: the file under ``data.root``; a pattern may match several.
        public: where it can be had.
        fields: what we call a field -> what the file calls it.
        test: the file of the test set, if it has one of its own.
        also: other names of the files (train, test).

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
# The name before '@llm' in ``data.type``.
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
    """The examples of ``data.type: <name>@llm``, and its own test set.

    Args:
        name: a key of ``SOURCES``, or a ``.json`` or ``.jsonl`` file of
            instruction, output and perhaps input and category.
        root: ``data.root``.

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
        own = folder / test
        if not test:
            return instructions(rows), None
        if not own.is_file():
            raise _missing(name, own, source)
        return instructions(rows), instructions(_read(own, source))
    raise _missing(name, folder / source.train, source)


# The category of the examples that have none, where others have one.
NO_CATEGORY = "(none)"


def instructions(rows: list[Row]) -> Examples:
    """Prompts, responses and categories of instructions.

    Args:
        rows: ``instruction``, ``output``, perhaps ``input``, ``category``.

    """
    categories = [
        str(row["category"]) if _has(row, "category") else NO_CATEGORY
        for row in rows
    ]
    names = sorted({*categories} - {NO_CATEGORY})
    if names and NO_CATEGORY in categories:
        names.append(NO_CATEGORY)
    names = names or ["all"]
    number = {name: i for i, name in enumerate(names)}
    return Examples(
        [(prompt_of(r), str(r["output"])) for r in rows],
        [number.get(category, 0) for category in categories],
        tuple(names),
        are_instructions=True,
    )


INSTRUCTION = "### Instruction:"  # the line that a prompt begins with


def _has(row: Row, field: str) -> bool:
    """Whether a field has a value; null and the empty text are none."""
    value = row.get(field)
    return not (is_missing(value) or value == "")


def prompt_of(row: Row) -> str:
    """The instruction, its input if it has one, and where to answer."""
    parts = [f"{INSTRUCTION}\n{row['instruction']}\n\n"]
    if _has(row, "input"):
        parts.append(f"### Input:\n{row['input']}\n\n")
    return "".join(parts) + "### Response:\n"


def _read(file: Path, source: Source) -> list[Row]:
    rows: list[Row] = []
    for place, row in read_rows(file):
        where = f"{file}, {place}"
        fields: dict[str, Any] = {}
        for ours, theirs in source.fields.items():
            value = row.get(theirs)
            is_needed = ours in ("instruction", "output")
            if is_needed and not isinstance(value, str):
                raise UserError(f"{where}: {theirs!r} is not a text")
            if not is_missing(value):
                fields[ours] = text_of(value, theirs, where)
        rows.append(fields)
    if not rows:
        raise UserError(f"{file} holds no examples")
    return rows


def _missing(name: str, path: Path, source: Source) -> UserError:
    where = f"; its public source is {source.public}" if source.public else ""
    return UserError(
        f"data.type: {name}@llm expects the file {path} (data.root){where}"
    )
