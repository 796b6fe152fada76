"""Aggregators that look at what matters of a layer: the product B A.

The average of products is not the product of averages.  FLoRA, FedEx-LoRA
and FlexLoRA each get the former right, in their own ways; HetLoRA weighs
clients by it.
"""

from collections.abc import Iterator
from typing import Any

import torch

from fs_plugins.aggregator.weighted_average import WeightedAverage
from fs_plugins.wire import Tensors

Factors = tuple[torch.Tensor, torch.Tensor]  # A: k x in, B: out x k


class _Products(WeightedAverage):
    """Has the factors of all clients at the end of a round.

    So memory grows with the clients of a round, by one payload each.  What
    else is shared, a head say, is averaged.
    """

    needs_pairs = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._factors: dict[str, list[Factors]] = {}
        self._of_clients: list[float] = []  # what each weighs

    def add(self, update: Tensors, samples: int) -> None:
        """Put the factors aside; add the rest to the sum."""
        rest = dict(update)
        for layer, (a, b) in self.pairs.items():
            own = (rest.pop(a), rest.pop(b))
            self._factors.setdefault(layer, []).append(own)
        self._of_clients.append(1 if self.ignore_weight else samples)
        super().add(rest, samples)

    def reset(self) -> None:
        """Forget the round's updates."""
        super().reset()
        self._factors = {}
        self._of_clients = []

    def _layers(self) -> Iterator[tuple[str, list[Factors]]]:
        """One layer after the other, in float64."""
        for layer, factors in self._factors.items():
            yield layer, [(a.double(), b.double()) for a, b in factors]

    def _weighted(self) -> list[float]:
        """The clients' weights, which sum to 1."""
        total = sum(self._of_clients)
        return [weight / total for weight in self._of_clients]

    def _stacked(self, factors: list[Factors]) -> Factors:
        """[w_1 B_1, ...] and [A_1; ...]: their product is mean(B A)."""
        weights = self._weighted()
        a = torch.cat([a for a, _ in factors], dim=0)
        b = torch.cat(
            [w * b for w, (_, b) in zip(weights, factors, strict=True)], dim=1
        )
        return a, b

    def _add_to_base(self, changes: dict[str, Factors]) -> None:
        if not changes:
            return
        dtype = {
            layer: self.shared[a].dtype for layer, (a, _) in self.pairs.items()
        }
        self.delta.add(
            {
                layer: (b.to(dtype[layer]), a.to(dtype[layer]))
                for layer, (a, b) in changes.items()
            }
        )


class FLoRA(_Products):
    """Stack the clients' factors, add their product to the base, start afresh.

    W = W + s sum_i w_i B_i A_i.

    (Wang et al., NeurIPS 2024 (arXiv 2409.05976))
    """

    mixes_ranks = True
    changes_base = True
    reinitializes = True

    def finish(self) -> None:
        """The base model changes by mean(B A)."""
        self._add_to_base(
            {layer: self._stacked(own) for layer, own in self._layers()}
        )
        super().finish()


class FedEx(_Products):
    """Average A and B; add to the base what the averages' product lacks.

    W = W + s (mean(B A) - mean(B) mean(A)).  With n clients this has rank
    (n - 1) r: it is the sum over all but the last of
    w_i (B_i - mean(B)) (A_i - A_n).

    (Singhal et al., ACL 2025 (arXiv 2410.09432))
    """

    mixes_ranks = False
    changes_base = True

    def finish(self) -> None:
        """The base model changes by the remainder."""
        changes: dict[str, Factors] = {}
        weights = self._weighted()
        for layer, factors in self._layers():
            mean = [
                torch.stack(
                    [w * f[i] for w, f in zip(weights, factors, strict=True)]
                ).sum(dim=0)
                for i in (0, 1)
            ]
            last, _ = factors[-1]
            *others, _ = zip(weights, factors, strict=True)
            if others:
                changes[layer] = (
                    torch.cat([a - last for _, (a, _) in others], dim=0),
                    torch.cat(
                        [w * (b - mean[1]) for w, (_, b) in others], dim=1
                    ),
                )
            for name, value in zip(self.pairs[layer], mean, strict=True):
                self.shared[name] = value.to(self.shared[name].dtype)
        self._add_to_base(changes)
        super().finish()


class FlexLoRA(_Products):
    """Average the products; hand out their best approximation of each rank.

    mean(B A) = U S V^T;  A = V^T and B = U S, as many of the largest singular
    values as a client has ranks.

    (Bai et al., NeurIPS 2024 (arXiv 2402.11505))
    """

    mixes_ranks = True

    def finish(self) -> None:
        """New factors of the mean product."""
        for layer, factors in self._layers():
            name_a, name_b = self.pairs[layer]
            old = self.shared[name_a]
            a, b = _best(*self._stacked(factors), old.double())
            self.shared[name_a] = a.to(old.dtype)
            self.shared[name_b] = b.to(old.dtype)
        super().finish()


def _best(
    a: torch.Tensor, b: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the best approximation of ``b a``, in ``like``'s rank.

    Where the product has a lower rank, the rows of A that B has no use for
    yet are orthogonal to the others, from the span of ``like``: left at zero
    they would never learn anything.
    """
    rank = like.shape[0]
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    found = int((s > s.max() * 1e-12).sum()) if s.any() else 0
    found = min(found, rank)
    rows = (vt @ q_a.T)[:found]
    columns = (q_b @ (u * s))[:, :found]
    spare = torch.linalg.qr(torch.cat([rows, like]).T).Q.T[found:rank]
    return (
        torch.cat([rows, spare]),
        torch.cat([columns, b.new_zeros(len(b), rank - found)], dim=1),
    )


class HetLoRA(WeightedAverage):
    """Pad with zeros to the highest rank, average, truncate to each rank.

    A layer's clients are weighed by the norm of its B A.  The clients do not
    prune their own ranks, as they may in the paper.

    (Cho et al., EMNLP 2024 (arXiv 2401.06432))
    """

    needs_pairs = True
    mixes_ranks = True

    def add(self, update: Tensors, samples: int) -> None:
        """Add one client's parameters to the sum."""
        rest = dict(update)
        for a, b in self.pairs.values():
            weight = _norm_of_product(rest[a].double(), rest[b].double())
            for name in (a, b):
                self._add(name, rest.pop(name), weight)
        super().add(rest, samples)

    def _mean(self, name: str, old: torch.Tensor) -> torch.Tensor:
        weight = self._weights[name].total()
        return self._sum[name] / weight if weight else old


def _norm_of_product(a: torch.Tensor, b: torch.Tensor) -> float:
    """The Frobenius norm of ``b a``, without forming it."""
    square = ((b.T @ b) * (a @ a.T)).sum()
    return float(square.clamp(min=0).sqrt())
