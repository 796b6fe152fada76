"""The command ``fedsa analyze``: train clients and compare their factors."""

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
from fs_plugins.experiment.folder import make_folder, writing_to
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


def analyze_local_training(
    experiment: str,
    overrides: Sequence[str],
    splits: Sequence[str],
    adapters: Sequence[str],
) -> list[Asymmetry]:
    """Compare clients that train without the others.

    Args:
        experiment: a YAML file, perhaps with variations.
        overrides: options that replace those of the file, as a flat
            sequence of keys and values.
        splits: variations that split the data; if there are none, the data
            are split as the file says.
        adapters: variations with the adapter's arguments; if there are
            none, the adapter is that of the file.

    Returns:
        One group of clients for each adapter and split.

    Raises:
        UserError: the input is wrong.

    """
    groups = []
    for adapter in adapters or [""]:
        for split in splits or [""]:
            parts = [experiment, split, adapter]
            name = "+".join(part for part in parts if part)
            with tempfile.TemporaryDirectory() as folder:
                groups.append(_train_locally(name, overrides, split, folder))
            print(f"{name}: {len(groups[-1].layers)} layers", flush=True)
    return groups


def _train_locally(
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


def analyze_run(folder: Path, trust_plugins: bool = False) -> Asymmetry:
    """Compare a run's clients after local training, before aggregation.

    The clients train for the round after the newest checkpoint, which is the
    last round of a finished run.

    Args:
        folder: the run's folder.
        trust_plugins: whether plugins that the folder names are imported.

    Raises:
        UserError: the folder holds no checkpoint of clients' own parameters,
            or names plugins that are not trusted.

    """
    files = RunFolder(folder)
    cfg, checkpoints = files.load_asked(trust_plugins), files.checkpoints()
    if not checkpoints or not is_ours(cfg):
        raise UserError(
            f"{folder} has no checkpoint of clients' own parameters; run it "
            "with a method that 'fedsa methods' lists, and with "
            "fedsa.checkpoint.every at least 1"
        )
    with tempfile.TemporaryDirectory() as scratch:
        cfg.outdir, cfg.wandb.use = scratch, False
        cfg.fedsa.state.folder = ""
        runner = build_runner(cfg)
        Checkpoints(runner, Recorder(cfg, {})).restore_parameters(
            checkpoints[-1]
        )
        rnd = checkpoints[-1].round + 1
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
    """A client's parameters after it has trained for a round.

    Args:
        client: the client, which belongs to a runner.
        rnd: the round, counted from 1.
        payload: the global parameters that the client begins with.

    Raises:
        UserError: the training has diverged.

    """
    answer = client.train_with(GlobalParameters(payload), rnd)
    if isinstance(answer, NoUpdate):
        raise UserError(
            f"client {client.ID} cannot be compared: {answer.reason}"
        )
    shared = load(answer.payload) if answer.payload else {}
    return shared | dict(client.kept.values)


def _layers(runner: Runner, clients: Sequence[Tensors]) -> Any:
    """The similarities of the clients' factors, by layer."""
    if len(clients) < 2:
        raise UserError(
            "federate.client_num: a comparison needs at least two clients"
        )
    parameters = parameters_in(runner.server)
    assert parameters is not None  # the configuration asks for ours
    roles = parameters.roles
    if not {Role.A, Role.B} <= set(roles.values()):
        raise UserError(
            "the clients train no A or no B; a comparison needs both"
        )
    return measure(clients, parameters.initial, roles)


def write(groups: Sequence[Asymmetry], out: Path) -> None:
    """Print the table, and write the table, the numbers and the figure.

    Args:
        groups: the groups of clients, one per row of the table.
        out: the folder for the files; it is created if it does not exist.

    Raises:
        UserError: the folder cannot be created.

    """
    make_folder(out)
    table = asymmetry_table(groups)
    content = [
        asdict(group)
        | {"mean": {name: group.mean(name) for name in (*COSINES, *ANGLES)}}
        for group in groups
    ]
    text = json.dumps(content, indent=1) + "\n"
    with writing_to(out):
        write_file(out / "asymmetry.json", text.encode())
        write_file(out / "asymmetry.md", markdown(table).encode())
        plot_asymmetry(groups, [out / "asymmetry.png", out / "asymmetry.svg"])
    show(table)
    print(f"figure, table and numbers: {out}/asymmetry.{{png,svg,md,json}}")
