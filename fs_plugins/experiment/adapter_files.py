"""What a saved adapter carries beside the files that PEFT reads."""

import copy
import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fs_plugins.errors import shown
from fs_plugins.experiment.reading import json_in
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.summary import facts_of
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Runner
from fs_plugins.model.base_files import BaseFiles
from fs_plugins.model.inputs import tokens_of
from fs_plugins.notes import note
from fs_plugins.settings import plain
from fs_plugins.state.files import link_file, write_file
from fs_plugins.terms import CAUSAL, REGRESSION
from fs_plugins.version import __version__
from fs_plugins.worker.ours import participant_of

DESCRIPTION = "fs_plugins.json"
_LIBRARIES = ("peft", "torch", "transformers")


def describe(
    cfg: Config, model: Any, client: int, rounds: int, base: BaseFiles
) -> dict[str, Any]:
    """Describe an adapter: its model, its training and its texts.

    Args:
        cfg: the configuration of the run.
        model: the PEFT model.
        client: the client's ID; 0 for the server.
        rounds: for how many rounds the adapter was trained.
        base: the base model.

    """
    facts = facts_of(cfg)
    config = getattr(model.get_base_model(), "config", None)
    options = cfg.model.adapter
    is_causal = cfg.model.task == CAUSAL
    labels = dict(getattr(config, "id2label", None) or {})
    return {
        "task": cfg.model.task,
        "num_labels": None if is_causal else cfg.model.num_labels,
        "id2label": {} if is_causal else labels,
        "problem_type": getattr(config, "problem_type", None),
        # A score is the model's output times the second plus the first.
        "standardise": list(cfg.fedsa.data.standardise),
        "base": {
            "name": base.name,
            "revision": base.revision,
            "sha256": base.sha256,
            "dtype": options.base.dtype,
            "quantize": options.base.quantize,
        },
        "trained": {
            key: facts[key]
            for key in ("method", "aggregator", "data", "clients", "seed")
        }
        | {
            "client": client,
            "name": RunFolder.adapter_name(client, cfg.fedsa.data.clients),
            "round": rounds,
            "rounds": facts["rounds"],
        },
        "text": {
            "chat": plain(cfg.fedsa.chat) if is_causal else None,
            "tok_len": cfg.llm.tok_len,
            "pad": options.pad,
            "eos": options.eos,
        },
        "versions": {"fs_plugins": __version__} | _versions(),
    }


def tell_other_unit(cfg: Config) -> None:
    """Tell of a run that begins with a head for scores in another unit.

    Args:
        cfg: the configuration, as the data have completed it.

    """
    file = Path(cfg.model.adapter.start, DESCRIPTION)
    if cfg.model.task != REGRESSION or not cfg.model.adapter.start:
        return
    content = json_in(file) if file.is_file() else {}
    before = content.get("standardise") if isinstance(content, dict) else None
    now = list(cfg.fedsa.data.standardise)
    if isinstance(before, list) and before != now:
        note(
            f"federate.restore_from: the head in {file.parent} predicts "
            f"scores with fedsa.data.standardise {shown(before)}, and this "
            f"run's are with {shown(now)}"
        )


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the libraries that an adapter was trained with."""
    return {name: version(name) for name in _LIBRARIES}


def rounds_of(runner: Runner) -> int:
    """How many rounds a runner has run.

    FederatedScope counts one more when a run is over.
    """
    is_distributed = runner.mode == "distributed"
    worker = participant_of(runner) if is_distributed else runner.server
    return min(worker.state, runner.cfg.federate.total_round_num)


def write_description(folder: Path, content: dict[str, Any]) -> None:
    """Write the description of an adapter into the adapter's folder.

    Args:
        folder: the folder of the adapter.
        content: the description, from ``describe``.

    """
    text = json.dumps(content, indent=1) + "\n"
    write_file(folder / DESCRIPTION, text.encode())


def tokenizer_of(data: Any) -> Any:
    """The tokenizer of a run's data; None for data of the host's own.

    Args:
        data: the data by participant, or those of one participant.

    """
    one = data if hasattr(data, "train_data") else data[0]
    return getattr(one, "tokenizer", None)


def save_tokenizer(
    tokenizer: Any, task: str, model: Any, folder: Path
) -> list[Path]:
    """Save the tokenizer of a run, which all adapters have in common.

    A tokenizer with more tokens than the model has embeddings goes into a
    folder of its own, as PEFT would enlarge the model for it.

    Args:
        tokenizer: the tokenizer; None for none.
        task: one of ``TASKS``.
        model: the PEFT model.
        folder: the folder to write.

    Returns:
        The files.

    """
    if tokenizer is None:
        return []
    tokenizer = copy.deepcopy(tokenizer)
    if task == CAUSAL:
        tokenizer.padding_side = "left"  # as a batch of prompts needs it
    # transformers saves the side that a tokenizer was made with
    tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side
    known = tokens_of(model.get_base_model())
    target = folder / "tokenizer" if len(tokenizer) > known > 0 else folder
    tokenizer.save_pretrained(target)
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def link_files(files: list[Path], shared: Path, folder: Path) -> None:
    """Link files that adapters have in common into an adapter's folder.

    Args:
        files: the files.
        shared: the folder that the files are in.
        folder: the folder of the adapter.

    """
    for file in files:
        link_file(file, folder / file.relative_to(shared))
