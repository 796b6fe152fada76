"""Local training of causal language models."""
