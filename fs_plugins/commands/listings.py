"""What there is to choose from: methods, adapters, options, YAML files."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.policy import METHODS, PEFT_METHODS, VARIANTS, Policy, Role
from fs_plugins.report.tables import Table

# FederatedScope's own worker runs FedAvg, without a policy of ours.
_FEDAVG = (
    "FedAvg",
    *["share"] * 3,
    "average all that is trained: FederatedScope's own worker and aggregator",
    "McMahan et al., AISTATS 2017",
)


def methods_table() -> Table:
    """The federated methods and their policies."""
    shown = (Role.A, Role.B, Role.HEAD)
    ours = [
        (name, *(action_of(p, r) for r in shown), p.rule, p.source)
        for name, p in METHODS.items()
    ]
    return Table(
        "federated methods (federate.method)",
        ("method", "A", "B", "head", "rule", "source"),
        [*ours, _FEDAVG],
    )


def action_of(policy: Policy, role: Role) -> str:
    """What a policy does with a role: share, keep, freeze, or both by round.

    Args:
        policy: the policy of a method.
        role: the role of some parameters.

    """
    odd, even = policy.in_round(1)[role], policy.in_round(2)[role]
    both = f"odd rounds {odd.value}, even {even.value}"
    return odd.value if odd is even else both


def aggregators_table() -> Table:
    """The aggregators: how the server combines what the clients share."""
    rows = []
    for name in AGGREGATORS:
        described = AGGREGATORS.describe(name)
        rows.append((name, described.rule, described.source))
    return Table(
        "aggregators (fedsa.aggregator)",
        ("aggregator", "rule", "source"),
        rows,
    )


def adapters_table() -> Table:
    """The PEFT methods, and which of their parameters are A and which B."""
    variants = {name: base for name, (base, _) in VARIANTS.items()}
    rows = []
    for name in (*PEFT_METHODS, *variants):
        roles = PEFT_METHODS[variants.get(name, name)]
        sides = [
            ", ".join(part.strip(".") for part in roles[role])
            for role in (Role.A, Role.B)
        ]
        rows.append((name, *sides))
    return Table(
        "adapters (llm.adapter.args: adapter_method)", ("name", "A", "B"), rows
    )


def options_tables() -> list[Table]:
    """The keys under ``fedsa:``, and those of FederatedScope with bounds.

    Each key has one row: its type, default, allowed values, meaning, and the
    version that brought it.
    """
    from federatedscope.core.configs.config import global_cfg

    from fs_plugins.config.host_options import HOST_OPTIONS
    from fs_plugins.config.options import OPTIONS

    columns = ("key", "type", "default", "allowed", "meaning", "since")
    tables = []
    for title, options in (
        ("the keys under fedsa:", OPTIONS),
        (
            "keys of FederatedScope with bounds; others are of the type of "
            "their default",
            HOST_OPTIONS,
        ),
    ):
        rows = []
        for option in options:
            default: Any = global_cfg
            for part in option.key.split("."):
                default = default[part]
            rows.append(
                (
                    option.key,
                    option.kind.name,
                    _as_yaml(default),
                    option.kind.allowed(),
                    option.meaning,
                    option.since,
                )
            )
        tables.append(Table(title, columns, rows))
    return tables


def _as_yaml(value: Any) -> str:
    # As copies, so that YAML does not write an alias for a repeated section.
    plain = json.loads(json.dumps(value))
    text = yaml.safe_dump(
        plain, default_flow_style=True, sort_keys=False, width=10_000
    )
    return text.removesuffix("...\n").strip()


def experiments_table(folder: Path) -> Table:
    """The project's YAML files, each with the first sentence of its header."""
    files = sorted(folder.rglob("*.yaml"), key=_variations_last)
    return Table(
        f"experiments in {folder}; a variation is added with '+'",
        ("file", "what it does"),
        [(_shown(file, folder), _first_line(file)) for file in files],
    )


def _variations_last(file: Path) -> tuple[bool, Path]:
    return file.parent.name == "variations", file


def _shown(file: Path, folder: Path) -> str:
    if file.parent.name != "variations":
        return str(file.relative_to(folder))
    parent = file.parent.parent.relative_to(folder)
    return f"+{file.stem}" + (f" ({parent})" if parent.name else "")


def _first_line(file: Path) -> str:
    """The first sentence of a YAML file's header."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        words += line[2:].split()
        if line.endswith("."):
            break
    return " ".join(words)


def say_what_runs() -> None:
    """Print the host, what was adapted in it, and the versions of packages."""
    from fs_plugins.host import find_host

    host = find_host()
    print(f"host: {host.name} {host.version} ({host.path})")
    for adaptation in host.adaptations:
        print(f"  adapted: {adaptation.name} ({adaptation.why})")
    print(f"python {sys.version.split()[0]}")
    for package in ("torch", "transformers", "peft", "safetensors", "numpy"):
        print(f"{package} {metadata.version(package)}")
    if host.name == "embedded":
        print(
            "FederatedScope itself is not in use; to use it, take the llm "
            "branch of github.com/alibaba/FederatedScope, then 'pip install "
            "--no-deps <its folder>' and 'pip install grpcio protobuf pympler'"
        )
