"""Causal language models."""

IGNORE = -100  # the label that a loss of transformers skips
