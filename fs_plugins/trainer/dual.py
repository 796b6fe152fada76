"""FedDPA-T: a shared and a private adapter on the same layers.

Yang et al., Dual-Personalizing Adapter for Federated Foundation Models,
NeurIPS 2024 (arXiv 2403.19211).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fs_plugins.data.batches import NO_LOSS
from fs_plugins.host.configuration import Private
from fs_plugins.policy import (
    PRIVATE_ADAPTER,
    b_modules,
    is_of_adapter,
    is_private,
)
from fs_plugins.seeds import random_state
from fs_plugins.trainer.precision import widened

# The weight of an adapter: for all inputs, or of shape (inputs,).
Share = float | Tensor


class Mixture:
    """Weights the shared and the private adapter in forward passes.

    A round first trains the private adapter A', B' in the layers W + (1 - w)
    s B A + w s B' A', where A and B are those received from the server, and
    then the shared adapter alone.  Each is trained for
    ``train.local_update_steps`` steps.  In evaluation the weight of the
    private adapter for an input is w times the mean cosine similarity of the
    input to some of the client's training examples.  The vectors that are
    compared are the outputs of the last layer with the private adapter
    alone, averaged over the tokens of the prompt.

    Args:
        model: the PEFT model.
        data: the client's data.
        options: the section ``fedsa.private``.
        key: what the choice of the training examples depends on.

    """

    def __init__(
        self, model: Any, data: Any, options: Private, key: tuple[Any, ...]
    ) -> None:
        self._model = model
        self._data = data
        self._weight = float(options.weight)
        self._number = int(options.references)
        self._key = key
        self._references: Tensor | None = None

    @contextmanager
    def training_private(self) -> Iterator[None]:
        """Train the private adapter; the shared one is frozen."""
        with (
            weighted_adapters(self._model, 1 - self._weight, self._weight),
            _frozen(self._model, lambda name: not is_private(name)),
        ):
            yield

    @contextmanager
    def training_shared(self) -> Iterator[None]:
        """Train the shared adapter; the private one has weight 0."""
        with (
            weighted_adapters(self._model, 1.0, 0.0),
            _frozen(self._model, is_private),
        ):
            yield

    def forget(self) -> None:
        """Drop the vectors of the training examples.

        To be called before each evaluation, as the adapters have changed.
        """
        self._references = None

    @contextmanager
    def mixed_for(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Weight the adapters as suits each input of a batch.

        Args:
            batch: ``input_ids``, ``attention_mask`` and so on, of shape
                (inputs, tokens).

        """
        share: Share = self._weight
        if self._number:
            with torch.no_grad(), weighted_adapters(self._model, 0.0, 1.0):
                if self._references is None:
                    device = batch["input_ids"].device
                    self._references = self._embed(self._examples(device))
                similarity = self._embed(batch) @ self._references.T
            share = self._weight * similarity.mean(dim=1).clamp(0, 1)
        with weighted_adapters(self._model, 1 - share, share):
            yield

    def _examples(self, device: torch.device) -> dict[str, Tensor]:
        """A batch of some of the client's training examples."""
        data = self._data.train_data
        number = min(self._number, len(data))
        with random_state("references", *self._key):
            chosen = torch.randperm(len(data))[:number].tolist()
        collate = self._data.collator(data.tokens)
        batch = collate([data[i] for i in chosen])
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def _embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The inputs as vectors of norm 1, of shape (inputs, hidden size)."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: batch[name] for name in names if name in batch}
        inner = self._model.get_base_model().base_model
        output = widened(inner(**inputs).last_hidden_state)
        mask = batch["attention_mask"]
        labels = batch.get("labels")
        if labels is not None and labels.dim() == 2:
            mask = mask * (labels == NO_LOSS)  # leaves out the response
        mean = (output * mask.unsqueeze(-1)).sum(dim=1)
        return nn.functional.normalize(mean, dim=1)


@contextmanager
def weighted_adapters(
    model: nn.Module, shared: Share, private: Share
) -> Iterator[None]:
    """Scale the output of each adapter in forward passes.

    Args:
        model: the PEFT model.
        shared: the weight of the shared adapter.
        private: the weight of the private adapter.

    """
    shares = {"default": shared, PRIVATE_ADAPTER: private}
    with ExitStack() as stack:
        for layer in model.modules():
            factors = b_modules(layer)
            for name, share in shares.items():
                if name in factors:
                    handle = factors[name].register_forward_hook(_times(share))
                    stack.callback(handle.remove)
        yield


def _times(share: Share) -> Any:
    """A forward hook that multiplies the output of a module by a weight."""

    def scale(_: Any, __: Any, output: Tensor) -> Tensor:
        if not isinstance(share, Tensor):
            return output * share
        # Several answers to the same prompt are consecutive rows.
        row_share = share.repeat_interleave(len(output) // len(share))
        shape = (-1, *[1] * (output.dim() - 1))
        return output * row_share.view(shape).to(output)

    return scale


@contextmanager
def _frozen(
    model: nn.Module, is_frozen: Callable[[str], bool]
) -> Iterator[None]:
    """Freeze some parameters of the adapters; a head is trained as before."""
    chosen = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and is_of_adapter(name) and is_frozen(name)
    ]
    try:
        for parameter in chosen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(True)
