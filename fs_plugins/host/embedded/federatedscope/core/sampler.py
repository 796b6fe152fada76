"""Which clients take part in a round."""

from typing import Any

import numpy as np

_STATES = {"idle": 1, "seen": 1, "working": 0, "unseen": 0}


class UniformSampler:
    """Samples idle clients uniformly, without replacement."""

    def __init__(self, client_num: int) -> None:
        self.client_state = np.ones(client_num + 1, dtype=int)
        self.client_state[0] = 0  # the server never trains

    def change_state(self, indices: Any, state: str) -> None:
        """Mark clients as 'idle', 'seen', 'working' or 'unseen'."""
        if state not in _STATES:
            raise ValueError(f"{state!r} is not one of {sorted(_STATES)}")
        self.client_state[np.atleast_1d(np.asarray(indices, dtype=int))] = (
            _STATES[state]
        )

    def sample(self, size: int) -> list[int]:
        """IDs of ``size`` idle clients, which are now working."""
        idle = np.flatnonzero(self.client_state)
        chosen: list[int] = np.random.choice(
            idle, size=size, replace=False
        ).tolist()
        self.change_state(chosen, "working")
        return chosen
