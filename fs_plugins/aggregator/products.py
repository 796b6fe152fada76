"""Aggregators that work on the product B A of a layer's two factors.

The average of the clients' products B A is not the product of their averaged
factors.  FLoRA and FedEx-LoRA apply the average of the products exactly,
FlexLoRA applies its best approximation of each client's rank, and HetLoRA
weighs the clients by the norm of their products.
"""

from collections.abc import Iterator
from typing import Any

import torch

from fs_plugins.aggregator.weighted_average import WeightedAverage
from fs_plugins.wire import Tensors

Factors = tuple[torch.Tensor, torch.Tensor]  # A: k x in, B: out x k


class _Products(WeightedAverage):
    """Keeps the factors of all clients until the end of a round.

    Memory therefore grows with the number of clients in a round, by one
    payload each.  Shared parameters that are no factors, such as a head's,
    are averaged.
    """

    needs_pairs = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._factors: dict[str, list[Factors]] = {}
        self._client_weights: list[float] = []  # in the order of ``add``

    def add(self, update: Tensors, samples: int) -> None:
        """Keep the factors; add the other parameters to the sum."""
        rest = dict(update)
        for layer, (a, b) in self.pairs.items():
            factors = (rest.pop(a), rest.pop(b))
            self._factors.setdefault(layer, []).append(factors)
        self._client_weights.append(1 if self.ignore_weight else samples)
        super().add(rest, samples)

    def reset(self) -> None:
        """Forget the round's updates."""
        super().reset()
        self._factors = {}
        self._client_weights = []

    def _layers(self) -> Iterator[tuple[str, list[Factors]]]:
        """Each layer with its clients' factors, converted to float64."""
        for layer, factors in self._factors.items():
            yield layer, [(a.double(), b.double()) for a, b in factors]

    def _weighted(self) -> list[float]:
        """The clients' weights, which sum to 1."""
        total = sum(self._client_weights)
        return [weight / total for weight in self._client_weights]

    def _stacked(self, factors: list[Factors]) -> Factors:
        """The factors of the weighted mean of the products B A.

        They are A = [A_1; A_2; ...] and B = [w_1 B_1, w_2 B_2, ...].
        """
        weights = self._weighted()
        a = torch.cat([a for a, _ in factors], dim=0)
        b = torch.cat(
            [w * b for w, (_, b) in zip(weights, factors, strict=True)], dim=1
        )
        return a, b

    def _add_to_base(self, changes: dict[str, Factors]) -> None:
        """Add the products of factors (A, B), by layer, to the base model."""
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

    W = W + s sum_i w_i B_i A_i, where s is LoRA's scale.

    (Wang et al., NeurIPS 2024 (arXiv 2409.05976))
    """

    mixes_ranks = True
    changes_base = True
    reinitializes = True

    def finish(self) -> None:
        """Add the weighted mean of B A to the base model."""
        self._add_to_base(
            {
                layer: self._stacked(factors)
                for layer, factors in self._layers()
            }
        )
        super().finish()


class FedEx(_Products):
    """Average A and B; add to the base what the averages' product lacks.

    W = W + s (mean(B A) - mean(B) mean(A)), where s is LoRA's scale.  With n
    clients the difference has rank (n - 1) r at most, as it equals the sum
    of w_i (B_i - mean(B)) (A_i - A_n) over all clients i but the last.

    (Singhal et al., ACL 2025 (arXiv 2410.09432))
    """

    mixes_ranks = False
    changes_base = True

    def finish(self) -> None:
        """Average the factors and add the difference to the base model."""
        changes: dict[str, Factors] = {}
        weights = self._weighted()
        for layer, factors in self._layers():
            mean = [
                torch.stack(
                    [w * f[i] for w, f in zip(weights, factors, strict=True)]
                ).sum(dim=0)
                for i in (0, 1)  # A and B
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

    mean(B A) = U S V^T;  A = V^T and B = U S.  A client of rank k receives
    the components of the k largest singular values.

    (Bai et al., NeurIPS 2024 (arXiv 2402.11505))
    """

    mixes_ranks = True

    def finish(self) -> None:
        """Compute new factors from the mean product."""
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
    """The factors of the best approximation of ``b a`` of a given rank.

    Where the product has a lower rank, the remaining columns of B are zero,
    and the remaining rows of A are orthogonal to the others and taken from
    the span of ``like``.  If those rows were zero as well, neither factor
    would ever have a gradient.

    Args:
        a: the stacked A, of shape (n r, in).
        b: the stacked B, of shape (out, n r).
        like: the A before, of shape (rank, in).

    Returns:
        A of shape (rank, in) and B of shape (out, rank).

    """
    rank = like.shape[0]
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    product_rank = int((s > s.max() * 1e-12).sum()) if s.any() else 0
    used = min(product_rank, rank)
    rows = (vt @ q_a.T)[:used]
    columns = (q_b @ (u * s))[:, :used]
    spare = torch.linalg.qr(torch.cat([rows, like]).T).Q.T[used:rank]
    return (
        torch.cat([rows, spare]),
        torch.cat([columns, b.new_zeros(len(b), rank - used)], dim=1),
    )


class HetLoRA(WeightedAverage):
    """Pad with zeros to the highest rank, average, truncate to each rank.

    In each layer, a client's weight is the Frobenius norm of its product
    B A.  Unlike in the paper, clients do not prune their own ranks.

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
        """The mean over all clients, with lower ranks padded with zeros."""
        weight = self._weights[name].total()
        return self._sum[name] / weight if weight else old


def _norm_of_product(a: torch.Tensor, b: torch.Tensor) -> float:
    """The Frobenius norm of ``b a``, without forming it."""
    square = ((b.T @ b) * (a @ a.T)).sum()
    return float(square.clamp(min=0).sqrt())
