"""Tokenizers and batches."""

from federatedscope.llm.dataloader.dataloader import (
    LLMDataCollator,
    get_tokenizer,
)

__all__ = ["LLMDataCollator", "get_tokenizer"]
