"""What an experiment would do, without training: ``fedsa run --dry-run``."""

import tempfile
from collections.abc import Sequence

from fs_plugins.commands.data import look_from_one_process, tables_of
from fs_plugins.commands.listings import action_of
from fs_plugins.config.load import load_config, tree_of
from fs_plugins.config.yaml_file import dump
from fs_plugins.experiment.evaluations import size
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import build_runner, silence
from fs_plugins.host.protocols import Runner
from fs_plugins.policy import Role
from fs_plugins.report.tables import Table, show
from fs_plugins.settings import clients_of_a_round
from fs_plugins.wire import encode
from fs_plugins.worker.ours import parameters_in

# how many tensors of state an optimizer has for each parameter
_MOMENTS = {"SGD": 0, "Adam": 2, "AdamW": 2}


def dry_run(experiment: str, overrides: Sequence[str]) -> None:
    """Print the configuration, the split, who trains what, and the costs.

    Args:
        experiment: a YAML file, perhaps with variations.
        overrides: ``key value`` pairs.

    Raises:
        UserError: the input is wrong.

    """
    silence()
    cfg = load_config(experiment, overrides)
    look_from_one_process(cfg)
    with tempfile.TemporaryDirectory() as folder:
        outdir, cfg.outdir = cfg.outdir, folder
        tracked, cfg.wandb.use = cfg.wandb.use, False
        runner = build_runner(cfg)
        counts = RunFolder(folder).read_label_counts()
    cfg.defrost()
    cfg.outdir, cfg.wandb.use = outdir, tracked
    print(dump(tree_of(cfg)))
    if counts:
        for table in tables_of(cfg, runner.data, counts):
            show(table)
    show(parameters_table(runner))
    show(costs_table(runner))


def parameters_table(runner: Runner) -> Table:
    """How many parameters each role has, and what becomes of them."""
    parameters = parameters_in(runner.server)
    if parameters is None:
        trained = runner.server.model.state_dict()
        number = sum(tensor.numel() for tensor in trained.values())
        rows = [("all", f"{number:,}", "as FederatedScope's own method does")]
    else:
        rows = []
        for role in Role:
            number = sum(
                tensor.numel()
                for name, tensor in parameters.initial.items()
                if parameters.roles[name] is role
            )
            if number:
                action = action_of(parameters.policy, role)
                rows.append((role.value, f"{number:,}", action))
    return Table(
        "what is trained", ("role", "parameters", "what becomes of it"), rows
    )


def costs_table(runner: Runner) -> Table:
    """Bytes that a round sends, and bytes of memory without activations."""
    cfg = runner.cfg
    up, down = _payloads(runner)
    clients = clients_of_a_round(cfg)
    model = runner.server.model
    base = {
        tensor.data_ptr(): tensor.nbytes
        for tensor in (*model.parameters(), *model.buffers())
    }
    trained = sum(t.nbytes for t in model.state_dict().values())
    parameters = parameters_in(runner.server)
    kept = sum(t.nbytes for t in parameters.kept.values()) if parameters else 0
    if cfg.fedsa.state.optimizer:
        kept += trained * _MOMENTS.get(cfg.train.optimizer.type, 1)
    moments = _MOMENTS.get(cfg.train.optimizer.type, 1)
    has_many_models = parameters is None and not cfg.federate.share_local_model
    where = "on disk" if cfg.fedsa.state.backend == "disk" else "in memory"
    rows = [
        ("up, a client and round", size(up)),
        ("down, a client and round", size(down)),
        (
            f"up and down, a round of {clients} clients",
            size(clients * (up + down)),
        ),
        (
            "the base model and its adapter, in memory once",
            size(sum(base.values())),
        ),
        (
            "gradients and optimizer while a client trains",
            size(trained * (1 + moments)),
        ),
        (
            f"kept by all {cfg.federate.client_num} clients, {where}",
            size(kept * cfg.federate.client_num),
        ),
    ]
    if has_many_models:
        rows.append(
            (
                "the host's models of all clients",
                size(trained * cfg.federate.client_num),
            )
        )
    if parameters is not None and parameters.changes_base:
        rows.append(
            (
                "what the aggregator adds to the base model",
                "comes on top, in memory and down",
            )
        )
    return Table(
        "what it costs; activations come on top", ("what", "bytes"), rows
    )


def _payloads(runner: Runner) -> tuple[int, int]:
    """Bytes that a client sends and receives in a round.

    They are means over the clients, and over an odd and an even round.
    """
    server = runner.server
    parameters = parameters_in(server)
    if parameters is None:
        client = next(iter(runner.client.values()))
        up = len(encode(client.trainer.get_model_para()))
        return up, len(encode(server.model.state_dict()))
    IDs = list(runner.client)
    ups = [
        len(encode(parameters.sent_by(ID, rnd)))
        for ID in IDs
        for rnd in (1, 2)
    ]
    shared = server.aggregator.shared
    downs = [len(parameters.payload_for(ID, shared, 0)) for ID in IDs]
    return sum(ups) // len(ups), sum(downs) // len(downs)
