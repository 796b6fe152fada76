"""What clients have learned, compared: ``fedsa analyze``."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load

from fs_plugins.analysis.asymmetry import (
    ANGLES,
    COSINES,
    Asymmetry,
    asymmetry_table,
    measure,
    plot_asymmetry,
)
from fs_plugins.config.load import load_config
from fs_plugins.errors import UserError
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.folder import make_folder
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import build_runner
from fs_plugins.host.protocols import Runner
from fs_plugins.policy import Role, variant_of
from fs_plugins.report.tables import markdown, show
from fs_plugins.settings import adapter_args, is_ours
from fs_plugins.state.files import write_file
from fs_plugins.wire import Tensors
from fs_plugins.wire.messages import GlobalParameters, NoUpdate
from fs_plugins.worker.ours import (
    is_our_server,
    our_clients,
    parameters_in,
)

if TYPE_CHECKING:
    from fs_plugins.worker.client import FedSAClient


def alone(
    experiment: str,
    overrides: Sequence[str],
    splits: Sequence[str],
    adapters: Sequence[str],
) -> list[Asymmetry]:
    """Clients that train by themselves, by adapter and split.

    Args:
        experiment: a YAML file, perhaps with variations.
        overrides: ``key value`` pairs.
        splits: variations; none: what the file says.
        adapters: variations; none: what the file says.

    Raises:
        UserError: the input is wrong.

    """
    groups = []
    for adapter in adapters or [""]:
        for split in splits or [""]:
            parts = [experiment, split, adapter]
            name = "+".join(part for part in parts if part)
            with tempfile.TemporaryDirectory() as folder:
                groups.append(_alone(name, overrides, split, folder))
            print(f"{name}: {len(groups[-1].layers)} layers", flush=True)
    return groups


def _alone(
    experiment: str, overrides: Sequence[str], split: str, folder: str
) -> Asymmetry:
    pairs = [*overrides, "federate.method", "local", "outdir", folder]
    pairs += ["wandb.use", "False"]
    cfg = load_config(experiment, pairs)
    runner = build_runner(cfg)
    rounds = cfg.federate.total_round_num
    clients = [
        [_trained(client, rnd, b"") for rnd in range(1, rounds + 1)][-1]
        for client in our_clients(runner).values()
    ]
    return Asymmetry(
        variant_of(adapter_args(cfg)),
        split or cfg.data.splitter,
        len(clients),
        f"after {rounds} rounds of local training",
        _layers(runner, clients),
    )


def of_run(folder: Path) -> Asymmetry:
    """A run's clients, after local training and before it is aggregated.

    It is the round after the newest checkpoint; of a finished run, the last.

    Raises:
        UserError: the folder holds no such thing.

    """
    files = RunFolder(folder)
    cfg, found = files.load_asked(), files.checkpoints()
    if not found or not is_ours(cfg):
        raise UserError(
            f"{folder} has no checkpoint of clients' own parameters; run it "
            "with a method of ours and fedsa.checkpoint.every at least 1"
        )
    with tempfile.TemporaryDirectory() as scratch:
        cfg.outdir, cfg.wandb.use = scratch, False
        cfg.fedsa.state.folder = ""
        runner = build_runner(cfg)
        Checkpoints(runner, Recorder(cfg, {})).restore_parameters(found[-1])
        rnd = found[-1].round + 1
        server = runner.server
        assert is_our_server(server)  # as the configuration says
        known = server.parameters.delta.rounds
        clients = [
            _trained(
                client,
                rnd,
                server.parameters.payload_for(
                    ID, server.aggregator.shared, known
                ),
            )
            for ID, client in our_clients(runner).items()
        ]
        return Asymmetry(
            variant_of(adapter_args(cfg)),
            folder.name,
            len(clients),
            f"in round {rnd} of {cfg.federate.method.lower()}, before "
            "aggregation",
            _layers(runner, clients),
        )


def _trained(
    client: "FedSAClient", rnd: int, payload: bytes
) -> dict[str, Any]:
    """A client's parameters after a round.

    Args:
        client: of a runner.
        rnd: the round.
        payload: the global parameters that it begins with.

    """
    answer = client.train_with(GlobalParameters(payload), rnd)
    if isinstance(answer, NoUpdate):
        raise UserError(
            f"client {client.ID} cannot be compared: {answer.reason}"
        )
    shared = load(answer.payload) if answer.payload else {}
    return shared | dict(client.kept.values)


def _layers(runner: Runner, clients: Sequence[Tensors]) -> Any:
    if len(clients) < 2:
        raise UserError("federate.client_num: one client has no other like it")
    parameters = parameters_in(runner.server)
    assert parameters is not None  # the configuration asks for ours
    roles = parameters.roles
    if not {Role.A, Role.B} <= set(roles.values()):
        raise UserError("there is no A, or no B, that is trained")
    return measure(clients, parameters.initial, roles)


def write(groups: Sequence[Asymmetry], out: Path) -> None:
    """Print the table; write it, the numbers and the figure.

    Raises:
        UserError: the folder can't be made.

    """
    make_folder(out)
    table = asymmetry_table(groups)
    content = [
        asdict(group)
        | {"mean": {what: group.mean(what) for what in (*COSINES, *ANGLES)}}
        for group in groups
    ]
    text = json.dumps(content, indent=1) + "\n"
    write_file(out / "asymmetry.json", text.encode())
    write_file(out / "asymmetry.md", markdown(table).encode())
    plot_asymmetry(groups, [out / "asymmetry.png", out / "asymmetry.svg"])
    show(table)
    print(f"figure, table and numbers: {out}/asymmetry.{{png,svg,md,json}}")
