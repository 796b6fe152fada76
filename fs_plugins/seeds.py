"""Randomness that depends on what it is for, and on nothing else."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state(*key: object) -> Iterator[None]:
    """Torch's random state as the key decides; then as it was."""
    text = " ".join(map(str, key))
    digest = hashlib.sha256(text.encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        yield
