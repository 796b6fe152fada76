"""Fit FederatedScope to today's Python stack, without touching its files.

Each adaptation is small, has a name, is applied only where it is needed, and
is listed by ``fedsa doctor``.
"""

import importlib
import importlib.metadata
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from fs_plugins.errors import UserError
from fs_plugins.terms import START_WITH_FEDERATE


@dataclass(frozen=True)
class Adaptation:
    """A change to the host, in memory.

    Attributes:
        name: what is changed.
        why: what would happen without the change.
        apply: makes the change; returns False if it is not needed.

    """

    name: str
    why: str
    apply: Callable[[], bool]


def adapt(adaptations: tuple[Adaptation, ...]) -> tuple[Adaptation, ...]:
    """Apply the adaptations that are needed, and return those."""
    return tuple(each for each in adaptations if each.apply())


def _pure_python_protobuf() -> bool:
    variable = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    try:
        version = importlib.metadata.version("protobuf")
    except importlib.metadata.PackageNotFoundError:
        return False
    loaded = "google.protobuf.descriptor" in sys.modules
    if int(version.split(".")[0]) < 4 or loaded or variable in os.environ:
        return False
    os.environ[variable] = "python"
    return True


def _all_threads() -> bool:
    import torch
    from federatedscope.core import fed_runner

    runner: Any = fed_runner.StandaloneRunner
    set_up = runner._set_up

    def with_all_threads(self: Any) -> None:
        threads = torch.get_num_threads()
        set_up(self)
        torch.set_num_threads(threads)

    runner._set_up = with_all_threads
    return True


class _TrainableSize:
    """Takes the place of ``pickle`` where the host wants a model's size.

    The host takes the length of what ``dumps`` returns.
    """

    @staticmethod
    def dumps(model: Any) -> bytes:
        """As many zero bytes as the trained parameters have."""
        trained = (p for p in model.parameters() if p.requires_grad)
        return bytes(sum(p.nbytes for p in trained))


def _no_pickling() -> bool:
    for name in ("client", "server"):
        module: Any = importlib.import_module(
            f"federatedscope.core.workers.{name}"
        )
        module.pickle = _TrainableSize
    return True


def _transport_of_run() -> bool:
    """Let the workers of a distributed run send over what the run was given.

    The host's own transport is used only by runs that ask for it.
    """
    from federatedscope.core import communication, fed_runner
    from federatedscope.core.configs.config import global_cfg

    theirs = getattr(communication, "gRPCCommManager", None)
    _use_transport(theirs, lambda: global_cfg.fedsa.transport)
    runner: Any = fed_runner.DistributedRunner
    set_up = runner._set_up

    def with_transport(self: Any) -> None:
        _use_transport(theirs, lambda: self.cfg.fedsa.transport)
        set_up(self)

    runner._set_up = with_transport
    return True


def _guarded_server() -> bool:
    """Check what reaches FederatedScope's own server in distributed mode."""
    from federatedscope.core import fed_runner

    runner: Any = fed_runner.DistributedRunner
    set_up = runner._set_up

    def with_guard(self: Any) -> None:
        set_up(self)
        if self.cfg.distribute.role == "server":
            from fs_plugins.host.host_server import guard

            guard(self.server)

    runner._set_up = with_guard
    return True


def _use_transport(theirs: Any, options: Callable[[], Any]) -> None:
    """Put a choice among transports in the place of the host's.

    Args:
        theirs: the host's ``gRPCCommManager``; None if it has none.
        options: returns the section ``fedsa.transport``.

    """

    def manager(**kwargs: Any) -> Any:
        from fs_plugins.host.unsafe_transport import HostTransport
        from fs_plugins.scope import current_scope

        given = current_scope().given.get("communication")
        if given is not None:
            return given
        if options().unsafe and theirs is not None:
            return HostTransport(theirs(**kwargs))
        raise UserError(START_WITH_FEDERATE)

    for name in ("communication", "workers.client", "workers.server"):
        module: Any = importlib.import_module(f"federatedscope.core.{name}")
        module.gRPCCommManager = manager


def _no_unpickling() -> bool:
    from federatedscope.core.auxiliaries import utils

    def refuse(text: str, tool: str = "") -> Any:
        raise ValueError("a parameter came as text; it is not unpickled")

    module: Any = utils
    module.b64deserializer = refuse
    return True


class _Reading:
    """Takes the place of ``pickle`` or ``torch`` in a module of the host.

    Args:
        module: ``pickle`` or ``torch``.
        load: takes the place of the module's ``load``.

    """

    def __init__(self, module: ModuleType, load: Callable[..., Any]) -> None:
        self._module = module
        self.load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _no_unpickling_of_files() -> bool:
    import torch

    def refuse(file: Any) -> Any:
        name = getattr(file, "name", file)
        raise UserError(
            f"{name} is a pickle, which could execute anything when it is "
            "read; save the data in another format"
        )

    def load_weights(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("weights_only", None)
        return torch.load(*args, weights_only=True, **kwargs)

    for name in _READS_FILES:
        try:
            module: Any = importlib.import_module(f"federatedscope.{name}")
        except ImportError:  # for want of a package that it needs
            continue
        if hasattr(module, "pickle"):
            module.pickle = _Reading(module.pickle, refuse)
        if hasattr(module, "torch"):
            module.torch = _Reading(module.torch, load_weights)
    return True


# The modules that read a file of which a configuration says the name.
_READS_FILES = (
    "core.aggregators.aggregator",
    "core.aggregators.clients_avg_aggregator",
    "core.auxiliaries.utils",
    "core.trainers.torch_trainer",
    "contrib.data.load_from_files",
    "contrib.data.mini_graph_dt",
    "llm.offsite_tuning.utils",
)


def _client_words() -> bool:
    from federatedscope.core import cmd_args

    # main.py may have imported the function already, so that to replace the
    # module's attribute would not reach it: replace the function's code.
    parse: Any = cmd_args.parse_client_cfg
    parse.__code__ = _split_pairs.__code__
    return True


def _split_pairs(arg_opts: list[str]) -> tuple[list[str], list[str]]:
    """``key value`` pairs of the run, and those of ``client_<ID>``."""
    run: list[str] = []
    clients: list[str] = []
    for i in range(0, len(arg_opts), 2):
        group = clients if arg_opts[i].startswith("client_") else run
        group.extend(arg_opts[i : i + 2])
    return run, clients


class _NumpyWithInt:
    """numpy as it was before 1.24."""

    int = int

    def __getattr__(self, name: str) -> Any:
        import numpy as np

        return getattr(np, name)


def _group_sampler() -> bool:
    import numpy as np
    from federatedscope.core import sampler

    module: Any = sampler
    module.np = _NumpyWithInt()
    return not hasattr(np, "int")


def _plain_numbers() -> bool:
    from federatedscope.core.monitors import monitor

    cls: Any = monitor.Monitor
    format_results = cls.format_eval_res

    def with_plain_numbers(self: Any, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # Too few clients leave some statistics undefined.
            warnings.simplefilter("ignore", RuntimeWarning)
            return _plain(format_results(self, *args, **kwargs))

    cls.format_eval_res = with_plain_numbers
    return True


def _plain(value: Any) -> Any:
    """Replace numpy's numbers by Python's, in nested lists and dicts."""
    import numpy as np

    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _no_number_for_wandb() -> bool:
    from federatedscope.core.auxiliaries import logging
    from federatedscope.core.monitors import monitor

    parse = cast(Any, logging).logline_2_wandb_dict

    def with_no_number(
        stops: bool, line: str, *args: Any, **kwargs: Any
    ) -> Any:
        # JSON's spelling of what Python writes as nan and inf.
        line = re.sub(r"(?<=: )nan\b", "NaN", line)
        line = re.sub(r"(?<=: )(-?)inf\b", r"\1Infinity", line)
        return parse(stops, line, *args, **kwargs)

    for module in (logging, monitor):
        cast(Any, module).logline_2_wandb_dict = with_no_number
    return True


BEFORE_IMPORT = (
    Adaptation(
        "protobuf in pure Python",
        "FederatedScope's generated code is refused by protobuf 4 and newer",
        _pure_python_protobuf,
    ),
)
ON_ANY_HOST = (
    Adaptation(
        "messages over NVIDIA FLARE",
        "FederatedScope's transport takes messages from anyone and unpickles "
        "them",
        _transport_of_run,
    ),
    Adaptation(
        "messages are checked before FederatedScope's own server handles them",
        "a message of an unknown kind or content would end the server",
        _guarded_server,
    ),
)
AFTER_IMPORT = (
    Adaptation(
        "no unpickling of messages",
        "FederatedScope unpickles text that comes from the network",
        _no_unpickling,
    ),
    Adaptation(
        "no unpickling of files",
        "federate.restore_from, federate.resource_info_file and data.type "
        "'file' would execute what a file says",
        _no_unpickling_of_files,
    ),
    Adaptation(
        "command-line words that begin with 'client'",
        "FederatedScope loses 'distribute.role client'",
        _client_words,
    ),
    Adaptation(
        "numpy's int in the group sampler",
        "numpy 1.24 removed it",
        _group_sampler,
    ),
    Adaptation(
        "all threads",
        "FederatedScope trains on one core in standalone mode",
        _all_threads,
    ),
    Adaptation(
        "no pickling of models",
        "every worker pickles the whole model to learn its size",
        _no_pickling,
    ),
    Adaptation(
        "plain numbers in results",
        "numpy 2 writes np.float64(...) into the result logs",
        _plain_numbers,
    ),
    Adaptation(
        "statistics without a value for Weights & Biases",
        "with wandb.use FederatedScope reads its own log, and stops at a nan",
        _no_number_for_wandb,
    ),
)
