"""Instruction data for causal language models."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from federatedscope.llm import IGNORE


class LLMDataset(Dataset[dict[str, Any]]):
    """Examples ``{input_ids, labels, categories}``.

    The prompt's tokens carry no loss; ``categories`` numbers the distinct
    categories from 0 (-1 where an example has none).
    """

    def __init__(self, examples: list[dict[str, Any]], tokenizer: Any) -> None:
        categories = [
            str(e["category"]) if _has(e, "category") else None
            for e in examples
        ]
        names = sorted({name for name in categories if name is not None})
        number = {name: i for i, name in enumerate(names)}
        self.categories = [
            -1 if name is None else number[name] for name in categories
        ]
        self.input_ids: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        for example in examples:
            source = prompt(example)
            target = f"{example['output']}{tokenizer.eos_token}"
            length = len(_tokens(tokenizer, source))
            ids = torch.tensor(_tokens(tokenizer, source + target))
            labels = ids.clone()
            labels[:length] = IGNORE
            self.input_ids.append(ids)
            self.labels.append(labels)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "input_ids": self.input_ids[i],
            "labels": self.labels[i],
            "categories": self.categories[i],
        }


def prompt(example: dict[str, Any]) -> str:
    """The instruction, its input if it has one, and where to answer."""
    parts = [f"### Instruction:\n{example['instruction']}\n\n"]
    if _has(example, "input"):
        parts.append(f"### Input:\n{example['input']}\n\n")
    return "".join(parts) + "### Response:"


def _has(example: dict[str, Any], field: str) -> bool:
    """Whether a field has a value; null and the empty text are none."""
    return example.get(field) not in (None, "")


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(
        text, truncation=True, max_length=tokenizer.model_max_length
    )["input_ids"]
    return ids


_PLAIN = {
    "instruction": "instruction",
    "input": "input",
    "output": "output",
    "category": "category",
}
# data.type without '@llm': (file under data.root, names of the fields)
_FILES = {
    "alpaca": ("alpaca_data.json", _PLAIN),
    "dolly-15k": (
        "databricks-dolly-15k.jsonl",
        _PLAIN | {"input": "context", "output": "response"},
    ),
    "gsm8k": (
        "gsm8k_train.jsonl",
        {"instruction": "question", "output": "answer"},
    ),
}


def load_llm_dataset(config: Any = None) -> tuple[LLMDataset, Any]:
    """The data set ``<name>@llm``, from files under ``data.root``.

    Raises:
        ValueError: the name is unknown, or a line is broken.
        FileNotFoundError: the file isn't there.

    """
    from federatedscope.llm.dataloader import get_tokenizer

    name = config.data.type.rpartition("@")[0]
    if name.endswith((".json", ".jsonl")):
        file, fields = name, _PLAIN
    elif name.lower() in _FILES:
        file, fields = _FILES[name.lower()]
    else:
        raise ValueError(
            f"data.type: {config.data.type!r} needs FederatedScope; the "
            f"embedded host reads <file>.json, <file>.jsonl and "
            f"{', '.join(_FILES)}"
        )
    path = Path(config.data.root) / file
    if not path.is_file():
        raise FileNotFoundError(
            f"data.type: {config.data.type!r} expects the file {path}"
        )
    examples = [
        _example(record, fields, f"{path}, {place}")
        for place, record in _read(path)
    ]
    model, hub = config.model.type.split("@")
    tokenizer, _ = get_tokenizer(
        model, config.data.root, config.llm.tok_len, hub
    )
    return LLMDataset(examples, tokenizer), config


def _example(
    record: Any, fields: dict[str, str], where: str
) -> dict[str, Any]:
    """The fields of a record, by our names.

    Args:
        record: what the file holds.
        fields: what we call a field -> what the file calls it.
        where: the file and the place in it.

    Raises:
        ValueError: a field is not there, or is not Unicode text.

    """
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object")
    found = {ours: record.get(theirs) for ours, theirs in fields.items()}
    for ours, theirs in fields.items():
        value = found[ours]
        if ours in ("instruction", "output") and not isinstance(value, str):
            raise ValueError(f"{where}: {theirs!r} is not a text")
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{where}: {theirs!r} is not valid Unicode text"
            ) from None
    return found


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, record) of a list of records or of one record a line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 ({error.reason})"
        ) from None
    if path.suffix == ".json":
        records = _parsed(text, str(path))
        if not isinstance(records, list):
            raise ValueError(f"{path} is not a list of JSON objects")
        for number, record in enumerate(records, 1):
            yield f"record {number}", record
        return
    for number, row in enumerate(text.split("\n"), 1):
        if row.strip():
            yield f"line {number}", _parsed(row, f"{path}, line {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error})") from None
