"""Roles: what a trainable parameter is to its PEFT method.

The PEFT method gives each parameter a role; the federated method's policy
(``methods.py``) says what happens to the parameters of a role.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from fs_plugins.errors import UserError, unknown


class Role(str, Enum):
    """What a trainable parameter is to its PEFT method."""

    A = "A"  # the factor on the input side
    B = "B"  # the factor on the output side
    HEAD = "HEAD"  # a task head, trained in full
    OTHER = "OTHER"  # anything else that a PEFT method trains
    PRIVATE = "PRIVATE"  # all of a second adapter on the same layers


# For each PEFT method and role, parts of the parameters' names.  The first
# role that matches a name is the parameter's role.
PEFT_METHODS: dict[str, Mapping[Role, tuple[str, ...]]] = {
    # Hu et al., ICLR 2022: W + (alpha / r) B A.  With use_rslora
    # (Kalajdzievski, arXiv 2312.03732): W + (alpha / sqrt(r)) B A.
    "lora": {
        Role.A: (".lora_A.", ".lora_embedding_A."),
        Role.B: (".lora_B.", ".lora_embedding_B."),
        Role.OTHER: (".lora_magnitude_vector.",),
    },
    # Kopiczko et al., ICLR 2024: W + diag(b) B_0 diag(d) A_0.  A_0 and B_0
    # are frozen and drawn from projection_prng_key: the same everywhere.
    "vera": {
        Role.A: (".vera_lambda_d.",),
        Role.B: (".vera_lambda_b.",),
    },
}
# Methods with a name of their own that PEFT offers as arguments of another
# method: the name, that method, and those arguments.
VARIANTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "rslora": ("lora", {"use_rslora": True}),
    "dora": ("lora", {"use_dora": True}),  # Liu et al., ICML 2024
    # Meng et al., NeurIPS 2024
    "pissa": ("lora", {"init_lora_weights": "pissa"}),
    # Buyukakyuz, arXiv 2406.01775
    "olora": ("lora", {"init_lora_weights": "olora"}),
}
HEAD_NAMES = (".modules_to_save.",)
PRIVATE_ADAPTER = "private"  # the second adapter's name in a PEFT model
_PRIVATE_NAME = f".{PRIVATE_ADAPTER}."
# The name of an adapter's parameter is the name of its layer, followed by one
# of these.
_ADAPTER_NAMES = (".lora_", ".vera_")
_MODEL_PREFIX = "base_model.model."  # all names in a PEFT model begin so


def register_peft_method(
    name: str, roles: Mapping[Role, tuple[str, ...]]
) -> None:
    """Make a PEFT method available as ``adapter_method: <name>``.

    Args:
        name: the name of a member of PEFT's ``PeftType``, in upper or lower
            case.
        roles: for each role, parts of the names of its parameters.

    """
    PEFT_METHODS[name.lower()] = roles


def check_peft_method(name: str) -> None:
    """Raise a ``UserError`` if the roles of a PEFT method are not known."""
    if name in PEFT_METHODS:
        return
    from peft import PeftType

    key = "llm.adapter.args: adapter_method"
    if name.upper() in PeftType.__members__:
        raise UserError(
            f"{key}: PEFT has {name!r}, but which of its parameters are A "
            "and B is not known; say so with register_peft_method in a file "
            "that fedsa.plugins names"
        )
    raise unknown(key, name, [*PEFT_METHODS, *VARIANTS])


def canonical(args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The PEFT method and its arguments; a variant's name is resolved.

    Args:
        args: an entry of ``llm.adapter.args``.

    Returns:
        The method's name in lower case, and the arguments without
        ``adapter_method``.

    """
    rest = dict(args)
    name = str(rest.pop("adapter_method", "lora")).lower()
    method, implied = VARIANTS.get(name, (name, {}))
    return method, {**rest, **implied}


def variant_of(args: Mapping[str, Any]) -> str:
    """The common name of the adapter, such as ``rslora`` or ``lora``."""
    method, rest = canonical(args)
    for name, (base, implied) in VARIANTS.items():
        if base == method and implied.items() <= rest.items():
            return name
    return method


def roles_of(peft_method: str, names: Iterable[str]) -> dict[str, Role]:
    """The role of each trainable parameter.

    Args:
        peft_method: a key of ``PEFT_METHODS``.
        names: the parameters' names in the PEFT model.

    Raises:
        UserError: a parameter has no role in this PEFT method.

    """
    check_peft_method(peft_method)
    patterns = {
        Role.HEAD: HEAD_NAMES,
        Role.PRIVATE: (_PRIVATE_NAME,),
        **PEFT_METHODS[peft_method],
    }
    roles = {}
    for name in names:
        role = next(
            (
                role
                for role, parts in patterns.items()
                if any(part in name for part in parts)
            ),
            None,
        )
        if role is None:
            raise UserError(
                f"the trainable parameter {name!r} has no role in the PEFT "
                f"method {peft_method!r}; freeze it, or give it one with "
                "register_peft_method"
            )
        roles[name] = role
    return roles


def possible_roles(name: str) -> set[Role]:
    """The roles that a parameter of this name has in some PEFT method.

    Args:
        name: the parameter's name in a PEFT model.

    """
    patterns = [
        {Role.HEAD: HEAD_NAMES, Role.PRIVATE: (_PRIVATE_NAME,)},
        *PEFT_METHODS.values(),
    ]
    return {
        role
        for of_method in patterns
        for role, parts in of_method.items()
        if any(part in name for part in parts)
    }


def pairs_of(roles: Mapping[str, Role]) -> dict[str, tuple[str, str]]:
    """The names of LoRA's A and B, by the layer that they belong to.

    The bias of B (``lora_bias``) has the role of B, but is no factor and
    belongs to no pair.

    Args:
        roles: the roles that ``roles_of`` has returned for LoRA.

    """
    names: dict[str, dict[Role, str]] = {}
    for name, role in roles.items():
        for part in PEFT_METHODS["lora"].get(role, ()):
            layer, matched, _ = name.partition(part)
            if matched and role in (Role.A, Role.B) and not is_bias(name):
                names.setdefault(layer, {})[role] = name
    return {
        layer: (factors[Role.A], factors[Role.B])
        for layer, factors in names.items()
        if len(factors) == 2
    }


def is_bias(name: str) -> bool:
    """Whether a parameter is a bias, by PyTorch's convention for names."""
    return name.endswith(".bias")


# The functions below take names of a model and of the files that PEFT saves.
# A name in a file leaves out the adapter's name: it has ``.lora_A.weight`` in
# place of ``.lora_A.default.weight``.


def is_a(name: str) -> bool:
    """Whether a parameter is LoRA's factor A."""
    return any(part in f"{name}." for part in PEFT_METHODS["lora"][Role.A])


def is_b(name: str) -> bool:
    """Whether a parameter is LoRA's factor B; the bias of B is not."""
    parts = PEFT_METHODS["lora"][Role.B]
    return any(part in f"{name}." for part in parts) and not is_bias(name)


def is_of_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter rather than to a head."""
    return any(part in name for part in _ADAPTER_NAMES)


def is_private(name: str) -> bool:
    """Whether a parameter belongs to a client's second adapter."""
    return _PRIVATE_NAME in name


def layer_of(name: str) -> str:
    """The name of the layer that an adapter's parameter belongs to."""
    for part in _ADAPTER_NAMES:
        name = name.partition(part)[0]
    return name


def name_in_base(name: str) -> str:
    """The name in the base model of a layer of a PEFT model."""
    return name.removeprefix(_MODEL_PREFIX)


def saved_names(layer: str) -> dict[Role, tuple[str, str]]:
    """The names that a layer's A and B may have in a file that PEFT saves.

    For each role, the first name is that of a linear layer's factor, the
    second that of an embedding's.
    """
    return {
        role: (
            f"{layer}.lora_{role.value}.weight",
            f"{layer}.lora_embedding_{role.value}",
        )
        for role in (Role.A, Role.B)
    }


def is_embedding(layer: Any) -> bool:
    """Whether a module is an embedding with LoRA on it."""
    return bool(getattr(layer, "lora_embedding_A", None))


def b_modules(layer: Any) -> Mapping[str, Any]:
    """The modules that hold a linear layer's B, by the adapter's name.

    A module that is no linear layer with LoRA has none.
    """
    modules: Mapping[str, Any] = getattr(layer, "lora_B", {})
    return modules
