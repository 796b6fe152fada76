"""Instruction data for causal language models."""

import json
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
        names = sorted(
            {str(e["category"]) for e in examples if e.get("category")}
        )
        number = {name: i for i, name in enumerate(names)}
        self.categories = [
            number.get(str(e.get("category")), -1) for e in examples
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
    if example.get("input"):
        parts.append(f"### Input:\n{example['input']}\n\n")
    return "".join(parts) + "### Response:"


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
        {field: record.get(source) for field, source in fields.items()}
        for record in _read(path)
    ]
    model, hub = config.model.type.split("@")
    tokenizer, _ = get_tokenizer(
        model, config.data.root, config.llm.tok_len, hub
    )
    return LLMDataset(examples, tokenizer), config


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        records: list[dict[str, Any]] = json.loads(text)
        return records
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return records
