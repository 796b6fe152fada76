"""What one client keeps between rounds."""

import mmap
from collections.abc import Mapping

import torch

from fs_plugins.wire import Tensors

_ALIGN = 64  # bytes; any type of tensor may begin there


class KeptParameters:
    """The parameters that never leave a client.

    Until the client has trained, they are the values that every client
    starts from, and cost nothing.  Then they lie in pages of their own: on
    the heap, what lives as long as the run would lie between the activations
    that come and go, and keep that memory from being used again.

    Args:
        initial: those values; shared by all clients, never written to.

    """

    def __init__(self, initial: Tensors) -> None:
        self._initial = initial
        self._memory: mmap.mmap | None = None

    @property
    def values(self) -> Tensors:
        """The parameters as the client left them."""
        return self._initial if self._memory is None else self._views()

    def save(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Copy the parameters of the model, as they are now."""
        if self._memory is None:
            size = sum(_padded(t) for t in self._initial.values())
            self._memory = mmap.mmap(-1, max(size, 1))
        for name, own in self._views().items():
            own.copy_(parameters[name].detach())

    def _views(self) -> dict[str, torch.Tensor]:
        """Tensors on the client's memory."""
        memory = torch.frombuffer(self._memory, dtype=torch.uint8)
        views, start = {}, 0
        for name, like in self._initial.items():
            part = memory[start : start + like.nbytes]
            views[name] = part.view(like.dtype).view(like.shape)
            start += _padded(like)
        return views


def _padded(tensor: torch.Tensor) -> int:
    return -(-tensor.nbytes // _ALIGN) * _ALIGN
