"""Merges adapters that were trained apart, without a run."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.errors import UserError, shown, unknown
from fs_plugins.experiment.folder import make_folder
from fs_plugins.model.start import SCALE, WEIGHTS, config_in, tensors_in
from fs_plugins.policy import (
    METHODS,
    PEFT_METHODS,
    Action,
    Role,
    is_a,
    is_b,
    layer_of,
)
from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors

# The method whose policy says what is shared, and the aggregator.
WAYS: dict[str, tuple[str, str]] = {
    "fedsa": ("fedsa", "weighted_average"),
    "fedit": ("fedit", "weighted_average"),
    "flexlora": ("fedit", "flexlora"),
}


def merge(
    folders: Sequence[Path], out: Path, by: str, weights: Sequence[int] = ()
) -> list[Path]:
    """Write each adapter with what a round of a method would have sent it.

    ``fedsa`` gives each adapter the mean of all A, and leaves it its B;
    ``fedit`` gives it the mean of A and of B; ``flexlora`` the best
    approximation of the mean of the products B A.  Each adapter keeps its
    own head.

    Args:
        folders: the folders of adapters, of one base model and one shape.
        out: the folder in which each adapter gets a folder of its name.
        by: a key of ``WAYS``.
        weights: the weight of each adapter, such as its number of examples;
            empty for equal weights.

    Returns:
        The folders that were written.

    Raises:
        UserError: an adapter cannot be used, differs from the first, or
            ``out`` cannot be written to.

    """
    if by not in WAYS:
        raise unknown("--by", by, WAYS)
    if len(folders) < 2:
        raise UserError("merge: name two adapters at least")
    names = [folder.resolve().name for folder in folders]
    if len({*names}) < len(names):
        names = [f"{i}_{name}" for i, name in enumerate(names, 1)]
    if weights and len(weights) != len(folders):
        raise UserError(
            f"--weights: {len(weights)} are given for {len(folders)} adapters"
        )
    adapters = [tensors_in(folder) for folder in folders]
    roles = _roles_in(folders[0], adapters[0])
    _check_alike(folders, adapters)
    shared = _merged(adapters, roles, by, weights or [1] * len(folders))
    make_folder(out)
    for name in names:
        if (out / name).exists():
            raise UserError(f"--out: {out / name} is there already")
    written = []
    for folder, name, tensors in zip(folders, names, adapters, strict=True):
        target = out / name
        shutil.copytree(folder, target)
        (target / WEIGHTS).unlink()
        data = save({**tensors, **shared}, {"format": "pt"})
        write_file(target / WEIGHTS, data, private=True)
        written.append(target)
    return written


def _roles_in(folder: Path, tensors: Tensors) -> dict[str, Role]:
    """The role of each parameter of an adapter, by its name in the file."""
    method = str(config_in(folder).peft_type.value).lower()
    if method not in PEFT_METHODS:
        raise unknown(f"{folder}: the PEFT method", method, PEFT_METHODS)
    roles = {}
    for name in tensors:
        roles[name] = Role.HEAD
        for role, parts in PEFT_METHODS[method].items():
            if any(part in f"{name}." for part in parts):
                roles[name] = role
    return roles


def _check_alike(folders: Sequence[Path], adapters: Sequence[Tensors]) -> None:
    """Refuse adapters of other layers, ranks or scales than the first."""
    first = config_in(folders[0])
    shapes = {name: tensor.shape for name, tensor in adapters[0].items()}
    for folder, tensors in zip(folders[1:], adapters[1:], strict=True):
        config = config_in(folder)
        for name in ("peft_type", "r", "use_dora", *SCALE):
            here, there = getattr(config, name, 0), getattr(first, name, 0)
            if here != there:
                raise UserError(
                    f"{folder} has {name} {shown(here)}, and {folders[0]} "
                    f"has {shown(there)}"
                )
        for name in sorted(shapes.keys() | tensors.keys()):
            if name not in tensors or shapes.get(name) != tensors[name].shape:
                raise UserError(
                    f"{folder} and {folders[0]} differ in {name}; are they "
                    "of one base model, one task and one target_modules?"
                )


def _merged(
    adapters: Sequence[Tensors],
    roles: Mapping[str, Role],
    by: str,
    weights: Sequence[int],
) -> dict[str, Any]:
    """The shared parameters after one round of a method."""
    method, name = WAYS[by]
    policy = METHODS[method]
    wanted = [n for n, role in roles.items() if policy[role] is Action.SHARE]
    if not wanted:
        raise UserError(f"--by: {by} shares nothing that the adapters have")
    aggregator = AGGREGATORS[name](
        {n: adapters[0][n] for n in wanted}, pairs=_pairs(wanted)
    )
    for tensors, weight in zip(adapters, weights, strict=True):
        aggregator.add({n: tensors[n] for n in wanted}, weight)
    aggregator.finish()
    return {n: t.contiguous() for n, t in aggregator.shared.items()}


def _pairs(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of A and B in a file, by layer."""
    a = {layer_of(name): name for name in names if is_a(name)}
    b = {layer_of(name): name for name in names if is_b(name)}
    return {layer: (a[layer], b[layer]) for layer in a if layer in b}
