"""Trained adapters out of a run's folder, ready for PEFT."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.commands.model_card import model_card, rounds, warning
from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.folder import writing_to
from fs_plugins.experiment.offline import save_newest
from fs_plugins.experiment.reading import check_path
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import build_runner
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.experiment.saved_models import (
    check_adapter,
    load_base_of,
    model_section,
    with_adapter,
)
from fs_plugins.host.configuration import Model
from fs_plugins.model.base_files import folder_of
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.settings import is_client
from fs_plugins.state.files import write_file


def export(
    folder: Path,
    client: str,
    out: Path,
    merge: bool = False,
    trust_plugins: bool = False,
) -> str:
    """Write adapters of a run, finished or not, with a model card.

    Args:
        folder: the run's folder.
        client: the number or the name of a client, ``global`` for what the
            server knows, or ``all`` for all of these, each in a folder of
            its own.
        out: the folder to write, which ``PeftModel.from_pretrained`` loads,
            head included; with ``all`` it gets a folder for each adapter.
        merge: write the base model with the adapter merged into it instead,
            as transformers loads it.
        trust_plugins: whether plugins that the folder names are imported,
            which an unfinished run needs.

    Returns:
        A sentence for the user that says what was written.

    Raises:
        UserError: there is no such run or client, ``out`` is not empty, the
            adapter cannot be merged, or plugins are needed and not trusted.

    """
    run = load_run(folder)
    if not run.config:
        raise UserError(f"{folder} holds no run: it has no {RunFolder.CONFIG}")
    model = model_section(run.config)
    check_path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} is there already, and is not empty")
    files = RunFolder(folder)
    if trust_plugins and files.asked.exists():
        files.load_asked(trust_plugins)
    with tempfile.TemporaryDirectory() as scratch:
        adapters = _adapters_of(files, RunFolder(scratch))
        wanted = _wanted(client, adapters, run.names)
        for name in wanted:
            check_adapter(adapters[name])
        with writing_to(out), _folder_for(out) as part:
            for name in wanted:
                target = part / name if client == "all" else part
                if merge:
                    _merge(run, model, adapters[name], target)
                else:
                    _copy(adapters[name], target)
                    _bring_base(model, adapters[name], target, part, out)
                card = model_card(run, model, name, merge)
                write_file(target / "README.md", card.encode())
    said = f"{out}: {', '.join(wanted)}, after {rounds(run)}"
    if RunFolder.GLOBAL in wanted and warning(run):
        said += f"; {warning(run)}"
    return said


@contextlib.contextmanager
def _folder_for(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` unless an exception is raised.

    It is for its owner only, as the adapters in it are.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(".part", f"{out.name}.", out.parent))
    try:
        yield part
        part.replace(out)  # an empty folder may be there
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy(adapter: Path, target: Path) -> None:
    """Copy the folder of an adapter, which must not lead out of itself."""
    for path in (adapter, *adapter.rglob("*")):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, which is not exported; put what it leads "
                "to in its place"
            )
    shutil.copytree(adapter, target, dirs_exist_ok=True)


def _bring_base(
    model: Model, adapter: Path, target: Path, part: Path, out: Path
) -> None:
    """Copy the base model that lies beside a run's adapters, if one does.

    It holds a configuration and links, and the adapters name it.

    Args:
        model: the section ``model`` of the run's configuration.
        adapter: the folder of an adapter in the run's folder.
        target: the folder of the exported adapter.
        part: the folder of all that is exported, while it is written.
        out: the folder that ``part`` becomes.

    Raises:
        UserError: a link does not lead to a file of the base model.

    """
    base, copy = adapter.parent / RunFolder.BASE, part / RunFolder.BASE
    if not base.is_dir():
        return
    name = model.type.rpartition("@")[0]
    source = folder_of(name, model.adapter.cache)
    for path in (base, *base.rglob("*")):
        if path.is_symlink() and path.readlink().parent != source:
            raise UserError(
                f"{path} is a link, and does not lead to a file of {name!r}; "
                "it is not exported"
            )
    if not copy.is_dir():
        shutil.copytree(base, copy, symlinks=True)
    for file in target.rglob("adapter_config.json"):
        config = json.loads(file.read_text())
        there = (out / RunFolder.BASE).absolute()
        config["base_model_name_or_path"] = str(there)
        write_file(file, json.dumps(config, indent=2).encode())


def _adapters_of(files: RunFolder, scratch: RunFolder) -> dict[str, Path]:
    """The folders of the newest adapters, by name.

    Those of an unfinished run are written from its newest checkpoint, and
    that of a client in a distributed run from what it keeps.

    Args:
        files: the run's folder.
        scratch: an empty folder for the adapters of a checkpoint.

    """
    if files.are_adapters_newest and files.adapters.is_dir():
        return files.saved_adapters()
    cfg = files.load_asked()
    if not is_client(cfg) and not files.checkpoints():
        raise UserError(f"{files.path} holds nothing that was trained yet")
    cfg.outdir = str(scratch.path / "run")
    if cfg.federate.mode.lower() == "distributed":
        save_newest(files, cfg, scratch.adapters)
        return scratch.saved_adapters()
    cfg.fedsa.state.folder = ""
    runner = build_runner(cfg)
    checkpoints = Checkpoints(runner, Recorder(cfg, {}))
    newest = files.checkpoints()[-1]
    checkpoints.restore_parameters(newest)
    save_adapters(runner, scratch.adapters, newest.round)
    return scratch.saved_adapters()


def _wanted(
    client: str, adapters: Mapping[str, Path], names: Sequence[str]
) -> list[str]:
    """The names of the adapters that ``--client`` asks for.

    Args:
        client: a client's name or number, ``global`` or ``all``.
        adapters: the adapters' folders by name.
        names: the clients' names, if they have names.

    """
    by_word = {
        str(RunFolder.client_of(name, names) or name): name
        for name in adapters
    }
    by_word |= {
        names[ID - 1]: name
        for name in adapters
        if (ID := RunFolder.client_of(name, names)) and names
    }
    if client == "all" and adapters:
        return sorted(adapters, key=lambda name: (len(name), name))
    if client in adapters:
        return [client]
    if client not in by_word:
        raise unknown("--client", client, ["all", *by_word])
    return [by_word[client]]


def _merge(run: Run, model: Model, adapter: Path, target: Path) -> None:
    """Write the base model, in the run's precision, with the adapter in it.

    Args:
        run: the run.
        model: the section ``model`` of the run's configuration.
        adapter: the folder of the adapter.
        target: the folder to write.

    Raises:
        UserError: there are two adapters, or one that changes weights which
            the model uses in several places.

    """
    import warnings

    from transformers import AutoTokenizer

    if (adapter / PRIVATE_ADAPTER).is_dir():
        raise UserError(
            f"--merge: {adapter.name} has a shared and a private adapter, of "
            "which each input takes as much as suits it; no one model does "
            "that"
        )
    # To quantize the merged weights again would round them a second time.
    base = load_base_of(run.config, quantized=False)
    ties = _ties(base)
    with warnings.catch_warnings():
        # PEFT warns of tied embeddings, which _untie takes care of.
        warnings.filterwarnings("ignore", ".*tie_word_embeddings")
        merged = with_adapter(base, adapter)
        _untie(merged, ties)
        try:
            whole = merged.merge_and_unload()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"--merge: PEFT cannot merge this adapter: {first_line(error)}"
            ) from error
        whole.save_pretrained(target)
    name = model.type.rpartition("@")[0]
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            cache_dir=model.adapter.cache or None,
            trust_remote_code=False,
        )
    # Its files may be missing or damaged in as many ways as a model's.
    except Exception as error:
        raise UserError(
            f"--merge: the tokenizer of {name!r} cannot be loaded: "
            f"{first_line(error)}"
        ) from error
    pad = model.adapter.pad
    if pad >= 0:  # what the model's configuration pads with
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.save_pretrained(target)


def _ties(model: Any) -> dict[int, list[str]]:
    """The names of the modules that share a weight, by the weight's id."""
    users: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            users.setdefault(id(weight), []).append(name)
    return {key: names for key, names in users.items() if names[1:]}


def _untie(merged: Any, ties: Mapping[int, list[str]]) -> None:
    """Give each adapted layer that shares its weight a copy of the weight.

    Merging changes the weight, and must not change the layers that share it.

    Args:
        merged: a PEFT model, before it is merged.
        ties: the result of ``_ties`` for its base model.

    Raises:
        UserError: layers other than the input's and the output's embeddings
            share a weight; a model's configuration can untie only those.

    """
    from torch import nn

    base = merged.get_base_model()
    for module in list(merged.modules()):
        inner = getattr(module, "base_layer", None)
        weight: Any = getattr(inner, "weight", None)
        names = ties.get(id(weight), [])
        if inner is None or not names:
            continue
        if len(names) > 2 or base.get_output_embeddings() is None:
            users = " and ".join(names)
            raise UserError(
                f"--merge: the adapter changes weights that {users} share, "
                "and no merged model can hold that; load the adapter beside "
                "its base model with PEFT instead"
            )
        inner.weight = nn.Parameter(weight.detach().clone())
        for config in (base.config, base.config.get_text_config()):
            config.tie_word_embeddings = False
