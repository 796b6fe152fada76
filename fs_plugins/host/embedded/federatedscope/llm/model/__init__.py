"""Causal language models."""

from federatedscope.llm.model.model_builder import get_llm

__all__ = ["get_llm"]
