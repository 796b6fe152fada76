"""A model for a client that has taken no part in the training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fs_plugins.config.load import load_config
from fs_plugins.config.scaling import scaling_of
from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import run as run_experiment
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.experiment.saved_models import model_section
from fs_plugins.host.configuration import Config
from fs_plugins.model.start import SCALE, config_in
from fs_plugins.settings import adapter_args
from fs_plugins.terms import CAUSAL, GIVEN

NAME = "me"  # the client's name, where the user gives none


def personalise(
    folder: Path,
    data: str,
    out: Path,
    name: str = NAME,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> str:
    """Train a B and a head on new data, with the A of a finished run.

    FedSA-LoRA's A carries what the clients have in common.  A client that
    was not there trains its own B and head on top of it, alone.  (Guo et
    al., arXiv 2410.01463, section 3)

    Args:
        folder: the run's folder.
        data: a table of the client's own examples.
        out: the folder in which the new run gets a folder, which has the
            client's name.
        name: what the client is called.
        overrides: ``key value`` pairs for the training.
        quiet: whether no progress is shown.

    Returns:
        The folder of the new run, which has the client's adapter.

    Raises:
        UserError: the run, the data or a pair cannot be used, or the folder
            of the new run is there already.

    """
    run = load_run(folder)
    asked = RunFolder(folder).load_asked()
    settings = {**_settings(run, asked, data), **_alone(out, name)}
    cfg: Any = load_config(cast(Any, asked), settings)
    cfg = load_config(cfg, overrides)
    result = Path(cfg.outdir, cfg.expname)
    if result.exists():
        raise UserError(
            f"--out: {result} is there already; give the client another "
            "--name, or take another folder"
        )
    summary = run_experiment(cfg, quiet=quiet, name=f"personalise {name}")
    return str(summary["outdir"])


def _settings(run: Run, asked: Config, data: str) -> dict[str, Any]:
    """What the new run takes over from the earlier one.

    Args:
        run: the earlier run.
        asked: the configuration that it was begun with.
        data: the new client's own data.

    """
    section = model_section(run.config)
    if section.type.startswith(f"{GIVEN}@"):
        raise UserError(
            f"{run.folder}: its model came from Python code; there, hand "
            "run.global_model() to fs_plugins.run as model="
        )
    family = "chat" if section.task == CAUSAL else "text"
    adapter = run.adapter
    return {
        "data.type": f"{data}@{family}",
        "fedsa.data": {
            "classes": list(section.adapter.get("classes", ())),
            "validation": "",
            "test": "",
            "client": "",
            "standardise": scaling_of(run.settings),
        },
        "federate.restore_from": str(adapter),
        "llm.adapter.args": [{**adapter_args(asked), **_scale_of(adapter)}],
        "fedsa.scale_by_clients": False,
        "fedsa.chat.template": run.settings.get("fedsa.chat.template", ""),
    }


def _scale_of(adapter: Path) -> dict[str, Any]:
    """The rank and the scale of a saved adapter.

    They differ from those that the run was asked for where an aggregator has
    added to the adapter.
    """
    saved = config_in(adapter)
    config = saved.to_dict()
    wanted = ("r", "use_dora", *SCALE)
    # A name such as 'rslora' or 'pissa' would imply other values.
    return {
        "adapter_method": saved.peft_type.value.lower(),
        **{name: config[name] for name in wanted if name in config},
        **({"init_lora_weights": True} if "lora_alpha" in config else {}),
    }


def _alone(out: Path, name: str) -> dict[str, Any]:
    """The settings of a run of one client that keeps A as it is."""
    return {
        "federate.method": "local",
        "federate.mode": "standalone",
        "federate.share_local_model": True,
        "federate.save_to": "",
        "distribute.use": False,
        "federate.client_num": 1,
        "federate.sample_client_num": -1,
        "federate.sample_client_rate": -1.0,
        "federate.make_global_eval": False,
        "fedsa.policy.A": "freeze",
        "fedsa.policy.odd.A": "",
        "fedsa.policy.even.A": "",
        "fedsa.data.clients": [name],
        "fedsa.aggregator": "weighted_average",
        "fedsa.ranks": [],
        "fedsa.min_received": 1,
        "data.splitter": "iid",
        "data.splitter_args": [],
        "data.subsample": 1.0,
        "outdir": str(out),
        "expname": name,
        "expname_tag": "",
    }
