"""A digest of a base model's weights."""

from typing import Any

import torch
import xxhash


@torch.no_grad()
def digest_of_frozen(model: Any) -> str:
    """A digest of the parameters that are not trained."""
    inner = getattr(model, "model", model)
    trained = getattr(model, "initial", None) or model.state_dict()
    digest = xxhash.xxh3_128()
    for name, parameter in inner.named_parameters():
        if name in trained:
            continue
        update_with(digest, name, parameter)
    return digest.hexdigest()


def update_with(digest: Any, name: str, tensor: torch.Tensor) -> None:
    """Add a tensor to a digest: its name, type, shape and values.

    Args:
        digest: an object of ``xxhash`` or ``hashlib``.
        name: the name of the tensor.
        tensor: the tensor, of any type, on any device.

    """
    digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
    digest.update(raw.cpu().numpy().data)
