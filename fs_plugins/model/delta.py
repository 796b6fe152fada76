"""Low-rank changes of the base model, which some aggregators make."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fs_plugins.policy import is_embedding
from fs_plugins.wire import Tensors, WireError, told

Pair = tuple[torch.Tensor, torch.Tensor]  # left: out x k, right: k x in
Pairs = Mapping[str, Pair]  # by layer
DELTA = "delta."  # the prefix of a change's tensors in messages and files


class Delta:
    """A low-rank change of the frozen weights, W + s left right.

    The scale s is that of the layer's LoRA.  The base model itself stays as
    it is, so that all workers of a process can use one object.  Where the
    rank would grow beyond min(out, in), one factor becomes the identity, and
    the rank stays at that limit.

    Attributes:
        rounds: how many changes were added.
        pairs: for each layer, the factors of the sum of all changes.

    """

    def __init__(self) -> None:
        self.rounds = 0
        self.pairs: dict[str, Pair] = {}
        # The latest changes, the newest at the end, as long as they are
        # smaller than the sum of all.
        self._recent: list[Pairs] = []

    def add(self, pairs: Pairs) -> None:
        """Add a change; ``pairs`` holds the factors of each layer."""
        self.rounds += 1
        self.pairs = _sum([self.pairs, pairs])
        self._recent.append(pairs)
        while self._recent and _rank(self.pairs) < sum(
            map(_rank, self._recent)
        ):
            self._recent.pop(0)

    def since(self, rounds: int) -> dict[str, torch.Tensor]:
        """The changes that a worker lacks, as tensors for a message.

        If the sum of all changes is smaller than the sum of the missing
        ones, it is returned instead, to replace what the worker has.

        Args:
            rounds: how many changes the worker has.

        """
        missing = self.rounds - rounds
        first, pairs = rounds, self.pairs
        if missing <= len(self._recent):
            pairs = _sum(self._recent[len(self._recent) - missing :])
        else:
            first = 0
        span = torch.tensor([first, self.rounds])
        return {f"{DELTA}rounds": span, **_tensors(pairs)}

    def take(self, tensors: Tensors) -> None:
        """Add the changes that ``since`` has returned elsewhere.

        Raises:
            WireError: the changes do not follow on those that are here.

        """
        first, last = tensors[f"{DELTA}rounds"].tolist()
        if last == self.rounds:  # the sender uses this very object
            return
        if first not in (0, self.rounds) or last < first:
            raise WireError(
                f"its changes of the base model follow on round {first}, and "
                f"the base model here is that of round {self.rounds}"
            )
        pairs = _pairs(tensors)
        self.pairs = _sum([self.pairs, pairs]) if first else dict(pairs)
        self.rounds = last
        self._recent = []

    def state(self) -> dict[str, torch.Tensor]:
        """All changes, as tensors for a checkpoint."""
        state = {f"{DELTA}rounds": torch.tensor([0, self.rounds])}
        state |= _tensors(self.pairs)
        for age, pairs in enumerate(reversed(self._recent)):
            state |= _tensors(pairs, f"recent.{age}.")
        return state

    def restore(self, state: Tensors) -> None:
        """Continue from what ``state`` has returned; empty for no changes."""
        span = state.get(f"{DELTA}rounds", torch.zeros(2, dtype=torch.int64))
        self.rounds = int(span[1])
        self.pairs = _pairs(state)
        self._recent = []
        while pairs := _pairs(state, f"recent.{len(self._recent)}."):
            self._recent.insert(0, pairs)

    @contextmanager
    def beside(self, model: nn.Module) -> Iterator[None]:
        """Let the PEFT model compute with the change inside the context."""
        with ExitStack() as stack:
            if self.pairs:
                for name, layer in model.named_modules():
                    if name in self.pairs:
                        hook = self._hook(name, layer)
                        handle = layer.register_forward_hook(hook)
                        stack.callback(handle.remove)
            yield

    def _hook(self, name: str, layer: Any) -> Any:
        """A forward hook that adds the change to a layer's output."""
        device = next(layer.parameters()).device
        left, right = (factor.to(device) for factor in self.pairs[name])
        self.pairs[name] = (left, right)
        scale = layer.scaling["default"]
        looks_up = is_embedding(layer)

        def add(_: Any, inputs: tuple[Any, ...], output: Any) -> Any:
            inner = (
                functional.embedding(inputs[0], right.T)
                if looks_up
                else functional.linear(inputs[0].to(right.dtype), right)
            )
            change = scale * functional.linear(inner, left)
            return output + change.to(output.dtype)

        return add


def check_delta(tensors: Tensors, layers: Pairs) -> None:
    """Refuse tensors that ``Delta.since`` cannot have returned.

    Args:
        tensors: the tensors that have arrived, whose names begin with
            ``delta.``.
        layers: for each layer that may change, a pair of factors with the
            sizes out and in, and the type, such as (B, A).

    Raises:
        WireError: a tensor is missing or unexpected, or has another shape,
            another type or values that are not finite.

    """
    rest = dict(tensors)
    span = rest.pop(f"{DELTA}rounds", None)
    if span is None or span.shape != (2,) or span.dtype != torch.int64:
        raise WireError(f"{DELTA}rounds is missing, or not two numbers")
    lefts = {n for n in rest if n.startswith(f"{DELTA}left.")}
    for name in sorted(lefts):
        layer = name.removeprefix(f"{DELTA}left.")
        left, right = rest.pop(name), rest.pop(f"{DELTA}right.{layer}", None)
        if layer not in layers or right is None:
            raise WireError(f"{told(name)} does not belong in it")
        known_left, known_right = layers[layer]
        out, into = known_left.shape[0], known_right.shape[1]
        rank = left.shape[-1] if left.dim() else -1
        if (
            left.shape != (out, rank)
            or right.shape != (rank, into)
            or rank > min(out, into)
        ):
            raise WireError(
                f"{told(name)} has shape {tuple(left.shape)} beside "
                f"{tuple(right.shape)}, expected ({out}, k) and (k, {into}), "
                f"k at most {min(out, into)}"
            )
        for factor, like in ((left, known_left), (right, known_right)):
            if factor.dtype != like.dtype or not factor.isfinite().all():
                raise WireError(
                    f"{told(name)} is not finite, or not {like.dtype}"
                )
    if rest:
        raise WireError(f"{told(min(rest))} does not belong in it")


def most_bytes(layers: Pairs) -> int:
    """The most bytes that a change to these layers can take in a message."""
    return 1024 + sum(
        min(left.shape[0], right.shape[1])
        * (left.shape[0] + right.shape[1])
        * left.element_size()
        + 2 * (len(layer.encode()) + 256)
        for layer, (left, right) in layers.items()
    )


def _tensors(pairs: Pairs, prefix: str = "") -> dict[str, torch.Tensor]:
    """The factors of a change under their names in messages and files."""
    return {
        f"{DELTA}{prefix}{side}.{layer}": factor
        for layer, pair in pairs.items()
        for side, factor in zip(("left", "right"), pair, strict=True)
    }


def _pairs(tensors: Tensors, prefix: str = "") -> dict[str, Pair]:
    """The factors of a change by layer: the inverse of ``_tensors``."""
    left, right = f"{DELTA}{prefix}left.", f"{DELTA}{prefix}right."
    return {
        name.removeprefix(left): (
            tensors[name],
            tensors[right + name.removeprefix(left)],
        )
        for name in tensors
        if name.startswith(left)
    }


def _sum(changes: list[Pairs]) -> dict[str, Pair]:
    """The sum of changes.

    W + s l_1 r_1 + s l_2 r_2 = W + s [l_1, l_2] [r_1; r_2].
    """
    parts: dict[str, list[Pair]] = {}
    for pairs in changes:
        for layer, pair in pairs.items():
            parts.setdefault(layer, []).append(pair)
    return {
        layer: _of_full_rank_at_most(
            torch.cat([left.cpu() for left, _ in factors], dim=1),
            torch.cat([right.cpu() for _, right in factors], dim=0),
        )
        for layer, factors in parts.items()
    }


def _of_full_rank_at_most(left: torch.Tensor, right: torch.Tensor) -> Pair:
    """Factors of the same product, of rank min(out, in) at most."""
    (out, rank), into = left.shape, right.shape[1]
    if rank <= min(out, into):
        return left, right
    product = (left.double() @ right.double()).to(left.dtype)
    identity = torch.eye(min(out, into), dtype=left.dtype)
    return (identity, product) if out <= into else (product, identity)


def _rank(pairs: Pairs) -> int:
    """The highest rank of a change in any layer."""
    return max((left.shape[1] for left, _ in pairs.values()), default=0)
