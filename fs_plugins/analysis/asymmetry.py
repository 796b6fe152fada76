"""How similar the clients' A are, and how similar their B.

FedSA-LoRA rests on an asymmetry: the A that clients learn are similar, the B
are not, and the more the clients' data differ, the less similar the B are.
(Guo et al., arXiv 2410.01463, section 3)
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
    is_bias,
    layer_of,
    leading_slices,
    name_in_base,
)
from fs_plugins.report.labels import label_of
from fs_plugins.report.tables import Table
from fs_plugins.wire import Tensors

COSINES = ("A", "A - A_0", "B")
ANGLES = ("angle A", "angle B")


@dataclass
class Asymmetry:
    """The measured similarities of one group of clients.

    Attributes:
        panel: the panel of the figure that shows the group; it names the
            adapter.
        name: the group's name in its panel; it names the split of the data.
        clients: the number of clients in the group.
        about: what was measured, in words.
        layers: for each layer, the means over all pairs of clients: the
            cosine similarities ``COSINES`` and the principal angles
            ``ANGLES``, in degrees, between the subspaces that A's rows and
            B's columns span.  A value is None where it is not defined.

    """

    panel: str
    name: str
    clients: int
    about: str
    layers: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def mean(self, quantity: str) -> float | None:
        """The mean of a quantity over layers; None if no layer has it."""
        values = self.values(quantity)
        return statistics.fmean(values) if values else None

    def values(self, quantity: str) -> list[float]:
        """The values of a quantity in the layers that have it.

        A frozen factor is not compared, and has no values.
        """
        values = [layer.get(quantity) for layer in self.layers.values()]
        return [value for value in values if value is not None]


def measure(
    clients: Sequence[Tensors], initial: Tensors, roles: Mapping[str, Role]
) -> dict[str, dict[str, float | None]]:
    """The similarities of the clients' factors in each adapted layer.

    The function works on one layer at a time, so that it takes little more
    memory than the clients' parameters themselves.

    Args:
        clients: the parameters of each client, by name.  A client of lower
            rank has the first rows of A and columns of B.
        initial: the parameters that all clients have started from.
        roles: the role of each parameter.

    Returns:
        What ``Asymmetry.layers`` holds.

    """
    layers: dict[str, dict[str, float | None]] = {}
    for name, role in roles.items():
        if role not in (Role.A, Role.B) or name not in clients[0]:
            continue
        if is_bias(name):  # has B's role and is no factor
            continue
        start = initial[name].double()
        values = torch.stack([_padded(c[name], start) for c in clients])
        layer = layers.setdefault(name_in_base(layer_of(name)), {})
        layer[role.value] = mean_cosine(values)
        if role is Role.A:
            layer["A - A_0"] = mean_cosine(values - start)
        rank = min(min(c[name].shape) for c in clients)
        layer[f"angle {role.value}"] = (
            mean_angle(_columns(values, role, rank))
            if start.dim() == 2  # vectors (VeRA) and kernels span nothing
            else None
        )
    return layers


def mean_cosine(values: Tensor) -> float | None:
    """The mean cosine similarity of all pairs of clients.

    For x_i of norm 1, sum_(i != j) x_i x_j = |sum_i x_i|^2 - n.

    Args:
        values: one tensor per client, along the first dimension; each is
            flattened to a vector.

    Returns:
        The mean; None if fewer than two vectors differ from zero.

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
        bases: a tensor of shape (clients, space, rank); the columns of
            each matrix span the subspace of a client.

    Returns:
        The mean; None if fewer than two matrices differ from zero.

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
    """A factor of lower rank in the shape of ``like``, with zeros."""
    whole = torch.zeros_like(like)
    whole[leading_slices(value.shape)] = value.double()
    return whole


def _columns(values: Tensor, role: Role, rank: int) -> Tensor:
    """The rows of A, or the columns of B, as the columns of matrices.

    Args:
        values: the factors of all clients, stacked.
        role: ``Role.A`` or ``Role.B``.
        rank: the lowest rank of all clients; only so many components are
            compared.

    """
    columns = values.mT if role is Role.A else values
    return columns[..., :rank]


def asymmetry_table(groups: Sequence[Asymmetry]) -> Table:
    """A table of one row per group, with means over layers."""
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
                *(_shown(group.mean(column), column) for column in columns),
                group.about,
            )
            for group in groups
        ],
    )


def _shown(value: float | None, quantity: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}°" if quantity in ANGLES else f"{value:.3f}"


def plot_asymmetry(groups: Sequence[Asymmetry], files: Sequence[Path]) -> None:
    """Draw the cosine similarities, with one panel per adapter.

    Args:
        groups: the groups of clients to draw.
        files: the image files to write; the suffix is the format.

    """
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
        for place, cosine in enumerate(COSINES):
            shift = 0.2 * (place - 1)
            _plot_series(axes, shown, cosine, shift, styles[cosine])
        names = [label_of(group.name) for group in shown]
        axes.set_xticks(range(len(shown)), names, parse_math=False)
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_title(label_of(panel), parse_math=False)
        axes.grid(axis="y", alpha=0.3)
        axes.axhline(0, color="gray", linewidth=0.8)
    all_axes.flat[0].set_ylabel("cosine similarity of two clients'")
    handles, labels = all_axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    for file in files:
        figure.savefig(file, dpi=150)
    plt.close(figure)


def _plot_series(
    axes: Any,
    groups: Sequence[Asymmetry],
    quantity: str,
    shift: float,
    color: str,
) -> None:
    """Draw the mean of each group, and every layer as a faint dot."""
    for place, group in enumerate(groups):
        values = group.values(quantity)
        axes.plot(
            [place + shift] * len(values), values, ".", color=color, alpha=0.25
        )
    means = [(i + shift, g.mean(quantity)) for i, g in enumerate(groups)]
    points = [(x, y) for x, y in means if y is not None]
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        "o-",
        color=color,
        label=quantity.replace("A_0", "$A_0$"),
    )
