"""Random states that depend on their purpose only."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def random_state(*key: object) -> Iterator[None]:
    """Seed torch's generators with a key; restore their states afterwards.

    Args:
        *key: what the random numbers are for, such as the seed, the client
            and the round.

    """
    text = " ".join(map(str, key))
    digest = hashlib.sha256(text.encode()).digest()
    with torch.random.fork_rng():
        seed_torch(int.from_bytes(digest[:8], "little") >> 1)
        yield


def seed_torch(number: int) -> None:
    """Seed torch's generators on the CPU and, if there are any, on GPUs.

    ``torch.manual_seed`` does the same, but also notes the number, with a
    stack trace, for each kind of device that the machine does not have.
    """
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)


def random_states() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, as JSON."""
    name, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": _text(torch.get_rng_state()),
        "cuda": [_text(state) for state in cuda],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to states that ``random_states`` has returned."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(_tensor(states["torch"]))
    for device, state in enumerate(states["cuda"]):
        if device < torch.cuda.device_count():
            torch.cuda.set_rng_state(_tensor(state), device)


def _text(state: torch.Tensor) -> str:
    return bytes(state.tolist()).hex()


def _tensor(text: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
