"""Trained adapters out of a run's folder, ready for PEFT."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.folder import writing_to
from fs_plugins.experiment.offline import rounds_trained, save_newest
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
from fs_plugins.policy import PRIVATE_ADAPTER, Action, Role
from fs_plugins.report.tables import (
    markdown_code,
    markdown_rows,
    markdown_text,
)
from fs_plugins.settings import is_client, is_ours, policy_from
from fs_plugins.state.files import write_file
from fs_plugins.terms import CAUSAL


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
                card = _card(run, model, name, merge)
                write_file(target / "README.md", card.encode())
    said = f"{out}: {', '.join(wanted)}, after {_rounds(run)}"
    if RunFolder.GLOBAL in wanted and _warning(run):
        said += f"; {_warning(run)}"
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
    checkpoints.restore_parameters(files.checkpoints()[-1])
    save_adapters(runner, scratch.adapters)
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


def _policy_section(run: Run) -> Any:
    """The sections of a run's configuration that decide on the policy.

    They are read from the file of what was used, for which no plugin has to
    be executed.
    """
    from federatedscope.core.configs.config import CN

    config = run.config
    try:
        method = str(config["federate"]["method"])
        section = config.get("fedsa", {})
        policy = dict(section.get("policy", {}))
        plugins = list(section.get("plugins", []))
        return CN(
            {
                "federate": {"method": method},
                "fedsa": {"policy": policy, "plugins": plugins},
            }
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(
            f"{run.folder} has no usable {RunFolder.CONFIG}"
        ) from error


def _card(run: Run, model: Model, name: str, is_merged: bool) -> str:
    """A model card: the adapter's origin, its results, how to load it."""
    method = run.setting("federate.method", "")
    header = {
        "base_model": model.type.rpartition("@")[0],
        "library_name": "transformers" if is_merged else "peft",
        "tags": ["lora", "federated-learning", method.lower()],
    }
    client = RunFolder.client_of(name, run.names)
    owner = (
        f"client {run.name_of(client)}'s"
        if client
        else "what the server knows"
    )
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {markdown_text(f'{run.folder.name}: {name}')}\n",
        f"Trained with {markdown_code(method)} by federated learning of "
        f"{run.setting('federate.client_num', 0)} clients on "
        f"{markdown_code(run.setting('data.type', ''))}; this is {owner}, "
        f"after {_rounds(run)}.\n",
    ]
    if not client and _warning(run):
        lines.append(f"Note: {_warning(run)}.\n")
    lines += _figures(run, client)
    lines.append(f"```python\n{_call(model, is_merged)}\n```")
    return "\n".join(lines) + "\n"


def _call(model: Model, is_merged: bool) -> str:
    """The lines of Python that load what was exported."""
    is_causal = model.task == CAUSAL
    task = "CausalLM" if is_causal else "SequenceClassification"
    load = f"transformers.AutoModelFor{task}.from_pretrained"
    if is_merged:
        return f"model = {load}(<this folder>)"
    base = model.type.rpartition("@")[0]
    lines = [f"base_model = {load}(", f"    {base!r},"]
    classes = model.adapter.classes
    if classes:
        lines.append(f"    id2label={dict(enumerate(classes))},")
    elif not is_causal:
        lines.append(f"    num_labels={model.num_labels},")
    if not is_causal:  # the base model may have the head of another task
        lines.append("    ignore_mismatched_sizes=True,")
    lines += [
        ")",
        "model = peft.PeftModel.from_pretrained(base_model, <this folder>)",
    ]
    return "\n".join(lines)


def _rounds(run: Run) -> str:
    """After how many rounds the adapters were written."""
    total = run.setting("federate.total_round_num", 0)
    if run.is_finished:
        return f"{run.last.get('round', total)} of {total} rounds"
    files = RunFolder(run.folder)
    if files.are_adapters_newest and files.adapters.is_dir():
        return f"an unfinished run of {total} rounds"
    return f"{rounds_trained(files, files.load_asked())} of {total} rounds"


def _figures(run: Run, client: int) -> list[str]:
    """A table of the newest results, with the client's own in a column."""
    last = run.last
    if not last["weighted"]:
        return []
    columns: dict[str, Mapping[str, float] | None] = {}
    if client:
        title = f"client {run.name_of(client)}"
        columns[title] = last["clients"].get(str(client))
    columns |= {
        "clients, weighted": last["weighted"],
        "clients, mean": last["mean"],
    }
    shown = {title: results for title, results in columns.items() if results}
    rows = [
        (key, *(f"{results[key]:.6g}" for results in shown.values()))
        for key in last["weighted"]
        if all(key in results for results in shown.values())
    ]
    return [*markdown_rows((f"after round {last['round']}", *shown), rows), ""]


def _warning(run: Run) -> str:
    """A sentence on what "global" lacks because the clients keep it."""
    cfg = _policy_section(run)
    if not is_ours(cfg):
        if cfg.federate.method.lower() == "fedavg" or not cfg.fedsa.plugins:
            return ""
        return (
            "global holds what clients share; if the method "
            f"{cfg.federate.method!r} keeps anything, it never came to the "
            "server"
        )
    policy = policy_from(cfg)
    kept = [r.value for r in Role if policy[r] is Action.KEEP]
    starts = {
        "A": "A as it was drawn",
        "B": "B at zero, so that the adapter changes nothing",
        "HEAD": "a head, if the task has one, that is untrained",
    }
    lacks = [starts[role] for role in kept if role in starts]
    if not lacks:
        return ""
    return (
        "global holds what clients share; what they keep never came to the "
        f"server: it has {' and '.join(lacks)}"
    )
