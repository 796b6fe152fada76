"""Tokenizers and batches for causal language models."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from federatedscope.llm import IGNORE


@dataclass
class LLMDataCollator:
    """Pads a batch to its longest example."""

    tokenizer: Any

    def __call__(
        self, instances: list[dict[str, Any]]
    ) -> dict[str, torch.Tensor]:
        """``input_ids``, ``labels``, ``attention_mask``: batch x length."""
        input_ids = pad_sequence(
            [each["input_ids"] for each in instances],
            batch_first=True,
            padding_value=self.tokenizer.pad_token_id,
        )
        labels = pad_sequence(
            [each["labels"] for each in instances],
            batch_first=True,
            padding_value=IGNORE,
        )
        mask = input_ids.ne(self.tokenizer.pad_token_id)
        return {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": mask,
        }


def get_tokenizer(
    model_name: str,
    cache_dir: str,
    tok_len: int = 128,
    pkg: str = "huggingface_llm",
) -> tuple[Any, int]:
    """(the tokenizer, the number of special tokens that it lacked)."""
    if pkg != "huggingface_llm":
        raise ValueError(f"model.type: '@{pkg}' needs FederatedScope")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        model_name,
        cache_dir=cache_dir,
        model_max_length=tok_len,
        padding_side="right",
        trust_remote_code=False,
    )
    missing: dict[str, Any] = {
        kind: token
        for kind, token in (
            ("pad_token", "[PAD]"),
            ("eos_token", "</s>"),
            ("bos_token", "<s>"),
            ("unk_token", "<unk>"),
        )
        if getattr(tokenizer, kind) is None
    }
    return tokenizer, tokenizer.add_special_tokens(missing)
