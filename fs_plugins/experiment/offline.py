"""The adapter of a participant in a distributed run, from its files alone.

No process is started that others could take for the participant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fs_plugins.errors import UserError
from fs_plugins.experiment.adapter_files import tokenizer_of
from fs_plugins.experiment.adapters import Adapter, saving
from fs_plugins.experiment.loading import load_data
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.states import split
from fs_plugins.host.configuration import Config
from fs_plugins.model.delta import DELTA
from fs_plugins.policy import truncate
from fs_plugins.scope import RunScope, building
from fs_plugins.settings import is_client, rank_of
from fs_plugins.state import StateOfProcess, state_of_last_run
from fs_plugins.state.files import read_tensors
from fs_plugins.wire import Tensors, spec_of
from fs_plugins.worker.parameters import AdapterParameters, parameters_of


def rounds_trained(files: RunFolder, cfg: Config) -> int:
    """How many rounds a participant's newest adapter has trained.

    Args:
        files: the participant's folder.
        cfg: the configuration that the participant was started with.

    """
    if is_client(cfg):
        return _state_of(files, cfg, {}).newest_round
    return files.checkpoints()[-1].round


def save_newest(files: RunFolder, cfg: Config, folder: Path) -> None:
    """Save the newest adapter of a participant that has not ended its run.

    A client's adapter consists of what it keeps and of the last parameters
    that the server has sent it; the server's is that of its newest
    checkpoint.

    Args:
        files: the participant's folder.
        cfg: the configuration that the participant was started with; it is
            completed by what the data determine.
        folder: the folder in which the adapter gets a folder.

    Raises:
        UserError: a file is missing, damaged or of another model.

    """
    from federatedscope.core.auxiliaries.model_builder import get_model

    with building(RunScope()):
        data = load_data(cfg)
        model = get_model(cfg)
        parameters = parameters_of(model, cfg)
    rounds = rounds_trained(files, cfg)
    load = _client if is_client(cfg) else _server
    with (
        saving(cfg, tokenizer_of(data), folder) as save,
        load(files, cfg, model, parameters) as adapter,
    ):
        if adapter is not None:
            save(adapter, rounds)


@contextmanager
def _server(
    files: RunFolder, cfg: Config, model: Any, parameters: AdapterParameters
) -> Iterator[Adapter | None]:
    aggregator = parameters.aggregator()
    tensors = read_tensors(files.checkpoints()[-1].server)
    aggregator.restore(split(tensors))
    if not aggregator.shared:  # the clients share nothing
        yield None
        return
    with parameters.loaded(aggregator.shared):
        yield Adapter(files.GLOBAL, model, parameters.delta)


@contextmanager
def _client(
    files: RunFolder, cfg: Config, model: Any, parameters: AdapterParameters
) -> Iterator[Adapter]:
    client = int(cfg.distribute.data_idx)
    rank = rank_of(cfg, client)
    shared, initial = (
        truncate(values, parameters.roles, rank)
        for values in (
            parameters.shared,
            parameters.initial_of(parameters.kept),
        )
    )
    kept = _state_of(files, cfg, initial)
    kept.find()
    received = kept.received(spec_of(shared), DELTA)
    changes = {n: t for n, t in received.items() if n.startswith(DELTA)}
    parameters.delta.restore(changes)
    values = {n: received[n] for n in shared}
    with parameters.loaded(values, kept.values, client=client):
        name = files.adapter_name(client, cfg.fedsa.data.clients)
        yield Adapter(name, model, parameters.delta, rank, client)


def _state_of(
    files: RunFolder, cfg: Config, initial: Tensors
) -> StateOfProcess:
    """What a client keeps of the run that it joined last."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.outdir = str(files.path)
    kept = state_of_last_run(int(cfg.distribute.data_idx), initial, cfg)
    if kept is None or not kept.has_received:
        raise UserError(f"{files.path} holds nothing that was trained yet")
    return kept
