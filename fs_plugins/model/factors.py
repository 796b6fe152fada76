"""Refuse layers whose A and B have no row and column a component."""

from collections.abc import Mapping
from typing import Any

from fs_plugins.errors import UserError
from fs_plugins.policy import Role, name_in_base, pairs_of


def check_factors(
    model: Any, roles: Mapping[str, Role], key: str, multiplies: bool
) -> None:
    """Refuse layers whose A and B have no row and column a component.

    PEFT puts the experts of a 3-D parameter (``target_parameters``, which it
    also makes of the target modules of some mixtures of experts) below each
    other in A and beside each other in B, and A and B of a convolution are
    kernels.

    Args:
        model: the PEFT model.
        roles: what its trained parameters are.
        key: what needs to know the components, as a message begins.
        multiplies: whether it also multiplies A and B.

    Raises:
        UserError: says which layer, and why.

    """
    parameters = dict(model.named_parameters())
    for layer, (name_a, name_b) in pairs_of(roles).items():
        a, b = parameters[name_a], parameters[name_b]
        module = model.get_submodule(layer)
        rank = module.r["default"]
        short = name_in_base(layer)
        if hasattr(module, "parameter_name") or not (
            a.shape[0] == b.shape[1] == rank
        ):
            raise UserError(
                f"{key} needs A of r rows and B of r columns; the adapter of "
                f"{short!r} has them for several matrices at once "
                "(llm.adapter.args: target_parameters, or the experts among "
                "target_modules); target other layers"
            )
        if multiplies and not a.dim() == b.dim() == 2:
            raise UserError(
                f"{key} multiplies A and B; those of {short!r} are a "
                "convolution's kernels (llm.adapter.args: target_modules); "
                "target other layers"
            )
