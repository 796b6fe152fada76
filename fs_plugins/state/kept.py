"""What one client keeps between rounds."""

from collections.abc import Mapping

import torch

from fs_plugins.wire import Tensors


class KeptParameters:
    """The parameters that never leave a client.

    Until the client has trained, they are the values that every client
    starts from, and cost nothing.

    Args:
        initial: those values; shared by all clients, never written to.

    """

    def __init__(self, initial: Tensors) -> None:
        self._initial = initial
        self._own: dict[str, torch.Tensor] | None = None

    @property
    def values(self) -> Tensors:
        """The parameters as the client left them."""
        return self._initial if self._own is None else self._own

    def save(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Copy the parameters of the model, as they are now."""
        if self._own is None:
            self._own = {
                name: torch.empty_like(value, device="cpu")
                for name, value in self._initial.items()
            }
        for name, own in self._own.items():
            own.copy_(parameters[name].detach())
