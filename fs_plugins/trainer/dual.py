"""Two adapters on the same layers, one shared and one private: FedDPA-T.

Yang et al., Dual-Personalizing Adapter for Federated Foundation Models,
NeurIPS 2024 (arXiv 2403.19211).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fs_plugins.data.client_data import NO_LOSS
from fs_plugins.host.configuration import Private
from fs_plugins.policy import (
    PRIVATE_ADAPTER,
    b_modules,
    is_of_adapter,
    is_private,
)
from fs_plugins.seeds import random_state
from fs_plugins.trainer.precision import widened

Share = float | Tensor  # of an adapter: for all inputs, or one for each


class Mixture:
    """How much of either adapter a forward pass takes.

    A round trains the private adapter first, W + (1 - w) s B A + w s B' A'
    with A and B as they came from the server; then the shared one alone.
    Each takes ``train.local_update_steps`` steps.  In evaluation the private
    adapter has for each input the share w times the mean cosine similarity
    of the input to some of the client's training examples.  What is compared
    is the mean over a prompt's tokens of the last layer's output with the
    private adapter alone.

    Args:
        model: the PEFT model.
        data: the client's.
        options: ``fedsa.private``.
        key: what the choice of the examples depends on.

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
        """The shared adapter takes part and does not learn."""
        with (
            taking(self._model, 1 - self._weight, self._weight),
            _frozen(self._model, lambda name: not is_private(name)),
        ):
            yield

    @contextmanager
    def training_shared(self) -> Iterator[None]:
        """The private adapter takes no part."""
        with (
            taking(self._model, 1.0, 0.0),
            _frozen(self._model, is_private),
        ):
            yield

    def forget(self) -> None:
        """The adapters have changed since the last evaluation."""
        self._references = None

    @contextmanager
    def mixed_for(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """What is right for each input of a batch."""
        share: Share = self._weight
        if self._number:
            with torch.no_grad(), taking(self._model, 0.0, 1.0):
                if self._references is None:
                    device = batch["input_ids"].device
                    self._references = self._seen(self._examples(device))
                likeness = self._seen(batch) @ self._references.T
            share = self._weight * likeness.mean(dim=1).clamp(0, 1)
        with taking(self._model, 1 - share, share):
            yield

    def _examples(self, device: torch.device) -> dict[str, Tensor]:
        """Some of the client's training examples."""
        data = self._data.train_data
        number = min(self._number, len(data))
        with random_state("references", *self._key):
            chosen = torch.randperm(len(data))[:number].tolist()
        collate = self._data.collator(data.tokens)
        batch = collate([data[i] for i in chosen])
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def _seen(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The inputs as the model sees them: rows of norm 1."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: batch[name] for name in names if name in batch}
        inner = self._model.get_base_model().base_model
        output = widened(inner(**inputs).last_hidden_state)
        mask = batch["attention_mask"]
        labels = batch.get("labels")
        if labels is not None and labels.dim() == 2:
            mask = mask * (labels == NO_LOSS)  # the response is not looked at
        mean = (output * mask.unsqueeze(-1)).sum(dim=1)
        return nn.functional.normalize(mean, dim=1)


@contextmanager
def taking(model: nn.Module, shared: Share, private: Share) -> Iterator[None]:
    """Forward passes take so much of each adapter."""
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
    def scale(_: Any, __: Any, output: Tensor) -> Tensor:
        if not isinstance(share, Tensor):
            return output * share
        # several answers to a prompt follow each other
        own = share.repeat_interleave(len(output) // len(share))
        return output * own.view(-1, *[1] * (output.dim() - 1)).to(output)

    return scale


@contextmanager
def _frozen(
    model: nn.Module, is_frozen: Callable[[str], bool]
) -> Iterator[None]:
    """Without gradients for these adapter parameters; a head learns."""
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
