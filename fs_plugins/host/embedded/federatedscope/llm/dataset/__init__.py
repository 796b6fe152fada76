"""Instruction data."""

from federatedscope.llm.dataset.llm_dataset import LLMDataset, load_llm_dataset

__all__ = ["LLMDataset", "load_llm_dataset"]
