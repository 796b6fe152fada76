"""A check that A and B have one row and one column per component."""

from collections.abc import Mapping
from typing import Any

from fs_plugins.errors import UserError
from fs_plugins.policy import Role, name_in_base, pairs_of


def check_factors(
    model: Any, roles: Mapping[str, Role], key: str, multiplies: bool
) -> None:
    """Refuse layers whose A and B lack one row and column per component.

    For a 3-D parameter, PEFT stacks the experts' A below each other and
    their B beside each other.  It does so for ``target_parameters``, and for
    the target modules of some mixtures of experts.  The A and B of a
    convolution are kernels.

    Args:
        model: the PEFT model.
        roles: the roles of the model's trained parameters.
        key: the key of the option that needs the components, which begins
            the message.
        multiplies: whether the option also multiplies A and B.

    Raises:
        UserError: a layer's A and B do not fit.

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
