"""An iterator that never ends."""

from collections.abc import Iterator
from typing import Any


class ReIterator:
    """Iterates over ``loader`` again and again; ``reset`` starts anew."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.iterator = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.iterator)
        except StopIteration:
            self.reset()
            return next(self.iterator)

    def reset(self) -> None:
        """Start again, in a new order if the loader shuffles."""
        self.iterator = iter(self.loader)
