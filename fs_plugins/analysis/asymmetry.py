"""How alike the clients' A are, and how alike their B.

What FedSA-LoRA rests on: learned A are alike, learned B are not, the less so
the more the clients' data differ.  (Guo et al., arXiv 2410.01463, section 3)
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fs_plugins.policy import (
    Role,
    first_of,
    is_bias,
    layer_of,
    name_in_base,
)
from fs_plugins.report.tables import Table
from fs_plugins.wire import Tensors

COSINES = ("A", "A - A_0", "B")
ANGLES = ("angle A", "angle B")


@dataclass
class Asymmetry:
    """One group of clients.

    Attributes:
        panel: what is drawn together, the adapter say.
        name: what it is called there, the split say.
        clients: how many they are.
        about: what was measured, in words.
        layers: by layer, the mean over all pairs of clients of the cosine
            similarity of ``COSINES``, and of the principal angles (degrees)
            between the subspaces that they span, ``ANGLES``; None where
            there is no such thing.

    """

    panel: str
    name: str
    clients: int
    about: str
    layers: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def mean(self, what: str) -> float | None:
        """Over layers."""
        found = self.values(what)
        return statistics.fmean(found) if found else None

    def values(self, what: str) -> list[float]:
        """Of the layers that have it: a frozen factor is not compared."""
        found = [own.get(what) for own in self.layers.values()]
        return [value for value in found if value is not None]


def measure(
    clients: Sequence[Tensors], initial: Tensors, roles: Mapping[str, Role]
) -> dict[str, dict[str, float | None]]:
    """The numbers of each adapted layer.

    Works on one layer at a time, so that it takes little more memory than
    the clients' parameters themselves.

    Args:
        clients: the parameters of each, by name.  A client of lower rank has
            the first rows of A and columns of B.
        initial: what all of them started from.
        roles: which parameter is A, and which B.

    """
    layers: dict[str, dict[str, float | None]] = {}
    for name, role in roles.items():
        if role not in (Role.A, Role.B) or name not in clients[0]:
            continue
        if is_bias(name):  # has B's role and is no factor
            continue
        start = initial[name].double()
        values = torch.stack([_padded(c[name], start) for c in clients])
        own = layers.setdefault(name_in_base(layer_of(name)), {})
        own[role.value] = mean_cosine(values)
        if role is Role.A:
            own["A - A_0"] = mean_cosine(values - start)
        rank = min(min(c[name].shape) for c in clients)
        own[f"angle {role.value}"] = (
            mean_angle(_columns(values, role, rank))
            if start.dim() == 2  # not of VeRA's vectors, nor of kernels
            else None
        )
    return layers


def mean_cosine(values: Tensor) -> float | None:
    """Of all pairs of rows, flattened; None if fewer than two are not 0.

    sum_(i != j) x_i x_j = |sum_i x_i|^2 - n for x_i of norm 1.
    """
    rows = values.flatten(1)
    norms = rows.norm(dim=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    number = len(rows)
    if number < 2:
        return None
    total = rows.sum(dim=0)
    return float((total @ total - number) / (number * (number - 1)))


def mean_angle(bases: Tensor) -> float | None:
    """The mean principal angle of all pairs of subspaces, in degrees.

    Args:
        bases: clients x space x rank; the columns span a client's.

    """
    bases = bases[bases.flatten(1).norm(dim=1) > 0]
    number, _, rank = bases.shape
    if number < 2:
        return None
    q = torch.linalg.qr(bases).Q.mT.reshape(number * rank, -1)
    gram = (q @ q.T).view(number, rank, number, rank).transpose(1, 2)
    first, second = torch.triu_indices(number, number, 1)
    cosines = torch.linalg.svdvals(gram[first, second])
    return float(cosines.clamp(0, 1).arccos().rad2deg().mean())


def _padded(value: Tensor, like: Tensor) -> Tensor:
    whole = torch.zeros_like(like)
    whole[first_of(value.shape)] = value.double()
    return whole


def _columns(values: Tensor, role: Role, rank: int) -> Tensor:
    """A's rows, or B's columns, of the rank that all clients have."""
    columns = values.mT if role is Role.A else values
    return columns[..., :rank]


def asymmetry_table(groups: Sequence[Asymmetry]) -> Table:
    """One row a group: means over layers."""
    columns = (*COSINES, *ANGLES)
    return Table(
        "mean over layers and pairs of clients: cosine similarity of A, of "
        "what A has learned, and of B; principal angles between the subspaces "
        "that A's rows, and B's columns, span",
        ("", "", "clients", *columns, "measured"),
        [
            (
                group.panel,
                group.name,
                str(group.clients),
                *(_shown(group.mean(what), what) for what in columns),
                group.about,
            )
            for group in groups
        ],
    )


def _shown(value: float | None, what: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}°" if what in ANGLES else f"{value:.3f}"


def plot_asymmetry(groups: Sequence[Asymmetry], files: Sequence[Path]) -> None:
    """A panel for each adapter: the three cosines, and each layer's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys(group.panel for group in groups))
    figure, all_axes = plt.subplots(
        1,
        len(panels),
        figsize=(1.5 + 3.2 * len(panels), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    styles = dict(zip(COSINES, ("#4477aa", "#66ccee", "#ee6677"), strict=True))
    for panel, axes in zip(panels, all_axes.flat, strict=True):
        shown = [group for group in groups if group.panel == panel]
        for place, what in enumerate(COSINES):
            _plot_series(axes, shown, what, 0.2 * (place - 1), styles[what])
        axes.set_xticks(range(len(shown)), [group.name for group in shown])
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_title(panel)
        axes.grid(axis="y", alpha=0.3)
        axes.axhline(0, color="gray", linewidth=0.8)
    all_axes.flat[0].set_ylabel("cosine similarity of two clients'")
    handles, labels = all_axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    for file in files:
        figure.savefig(file, dpi=150)
    plt.close(figure)


def _plot_series(
    axes: Any, groups: Sequence[Asymmetry], what: str, shift: float, color: str
) -> None:
    """The mean of each group, and every layer as a faint dot."""
    for place, group in enumerate(groups):
        values = group.values(what)
        axes.plot(
            [place + shift] * len(values), values, ".", color=color, alpha=0.25
        )
    means = [(i + shift, g.mean(what)) for i, g in enumerate(groups)]
    points = [(x, y) for x, y in means if y is not None]
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        "o-",
        color=color,
        label=what.replace("A_0", "$A_0$"),
    )
