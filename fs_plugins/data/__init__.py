"""GLUE, instruction data, the demo's data, and how they are split."""

from fs_plugins.data.registry import FAMILIES, register_examples

__all__ = ["FAMILIES", "register_examples"]
