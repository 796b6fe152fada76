"""Trained adapters out of a run's folder, ready for PEFT."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.config.load import load_config
from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.experiment.checkpoint import Checkpoints, rounds_in
from fs_plugins.experiment.folder import asked_in
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.runner import build_runner
from fs_plugins.policy import PRIVATE_ADAPTER, Action, Role
from fs_plugins.settings import is_ours, policy_from
from fs_plugins.state.files import write_file


def export(folder: Path, client: str, out: Path, merge: bool = False) -> str:
    """Write adapters of a run, finished or not, with a model card.

    Args:
        folder: the run's.
        client: the number of one, ``global`` for what the server knows, or
            ``all`` for a folder each in ``out``.
        out: becomes a folder that ``PeftModel.from_pretrained`` loads, head
            included.
        merge: write the base model with the adapter merged into it instead,
            as transformers loads it.

    Returns:
        What there is to say of what was written.

    Raises:
        UserError: there is no such run or client, or ``out`` is in use.

    """
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} holds no run: it has no config.yaml")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} is there already, and is not empty")
    part = out.with_name(out.name + ".part")
    with tempfile.TemporaryDirectory() as scratch:
        adapters = _adapters_of(folder, Path(scratch))
        found = {path.name: path for path in sorted(adapters.glob("*"))}
        wanted = _wanted(client, found)
        try:
            for name in wanted:
                target = part / name if client == "all" else part
                if merge:
                    _merge(folder, found[name], target)
                else:
                    shutil.copytree(found[name], target)
                card = _card(folder, name, merge)
                write_file(target / "README.md", card.encode())
            part.replace(out)  # an empty folder may be there
        finally:
            shutil.rmtree(part, ignore_errors=True)
    said = f"{out}: {', '.join(wanted)}, after {_rounds(folder)}"
    if "global" in wanted and _warning(folder):
        said += f"; {_warning(folder)}"
    return said


def _adapters_of(folder: Path, scratch: Path) -> Path:
    """The run's newest adapters; of an unfinished one, its checkpoint's."""
    rounds = rounds_in(folder)
    saved = folder / "adapters"
    if (folder / "summary.json").exists() or not rounds:
        if not saved.is_dir():
            raise UserError(f"{folder} holds nothing that was trained yet")
        return saved
    cfg = load_config(asked_in(folder))
    cfg.outdir = str(scratch / "run")
    cfg.fedsa.state.folder = ""
    runner = build_runner(cfg)
    Checkpoints(runner, Recorder(cfg, {})).restore_parameters(rounds[-1])
    save_adapters(runner, scratch / "adapters")
    return scratch / "adapters"


def _wanted(client: str, found: Mapping[str, Path]) -> list[str]:
    name = f"client_{client}" if client.isdigit() else client
    if name == "all" and found:
        return sorted(found, key=lambda n: (len(n), n))
    if name not in found:
        known = ["all", *(n.removeprefix("client_") for n in found)]
        raise unknown("--client", client, known)
    return [name]


def _merge(folder: Path, adapter: Path, target: Path) -> None:
    """The base model, in the run's precision, with the adapter in it.

    Raises:
        UserError: there are two adapters, or one that changes weights which
            the model uses in several places.

    """
    import warnings

    import peft
    from federatedscope.core.configs.config import CN
    from transformers import AutoTokenizer

    from fs_plugins.model.pretrained import load_base

    if (adapter / PRIVATE_ADAPTER).is_dir():
        raise UserError(
            f"--merge: {adapter.name} has a shared and a private adapter, of "
            "which each input takes as much as suits it; no one model does "
            "that"
        )
    model_config = CN(_config(folder)["model"])
    model_config.adapter.base.quantize = ""  # merged, it would lose again
    model_config.adapter.base.gradient_checkpointing = False
    base = load_base(model_config).model
    ties = _ties(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # of what is done here: see _untie
        warnings.filterwarnings("ignore", ".*tie_word_embeddings")
        merged: Any = peft.PeftModel.from_pretrained(base, str(adapter))
        _untie(merged, ties)
        try:
            whole = merged.merge_and_unload()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"--merge: PEFT cannot merge this adapter: {first_line(error)}"
            ) from error
        whole.save_pretrained(target)
    name = model_config.type.rpartition("@")[0]
    tokenizer = AutoTokenizer.from_pretrained(
        name, cache_dir=model_config.adapter.cache or None
    )
    pad = model_config.adapter.get("pad", -1)
    if pad >= 0:  # what the model's configuration pads with
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.save_pretrained(target)


def _ties(model: Any) -> dict[int, list[str]]:
    """The modules that share a weight, by the weight."""
    users: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            users.setdefault(id(weight), []).append(name)
    return {key: names for key, names in users.items() if names[1:]}


def _untie(merged: Any, ties: Mapping[int, list[str]]) -> None:
    """Give an adapted layer weights of its own, which merging changes.

    Args:
        merged: a PEFT model, before it is merged.
        ties: what ``_ties`` says of its base model.

    Raises:
        UserError: they are not the input's and the output's embeddings, the
            only ones that a configuration can keep apart.

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


def _config(folder: Path) -> dict[str, Any]:
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _card(folder: Path, name: str, is_merged: bool) -> str:
    """A model card: where it comes from, how it fared, how to load it."""
    config = _config(folder)
    base = config["model"]["type"].rpartition("@")[0]
    federate = config["federate"]
    header = {
        "base_model": base,
        "library_name": "transformers" if is_merged else "peft",
        "tags": ["lora", "federated-learning", federate["method"].lower()],
    }
    of = (
        "what the server knows"
        if name == "global"
        else f"client {name.removeprefix('client_')}'s"
    )
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {folder.name}: {name}\n",
        f"Trained with `{federate['method']}` by federated learning of "
        f"{federate['client_num']} clients on `{config['data']['type']}`; "
        f"this is {of}, after {_rounds(folder)}.\n",
    ]
    if name == "global" and _warning(folder):
        lines.append(f"Note: {_warning(folder)}.\n")
    lines += _figures(folder, name)
    lines.append(f"```python\n{_call(config, is_merged)}\n```")
    return "\n".join(lines) + "\n"


def _call(config: Mapping[str, Any], is_merged: bool) -> str:
    """The lines of Python that load it."""
    model = config["model"]
    is_causal = model["task"] == "CausalLM"
    task = "CausalLM" if is_causal else "SequenceClassification"
    load = f"transformers.AutoModelFor{task}.from_pretrained"
    if is_merged:
        return f"model = {load}(<this folder>)"
    base = model["type"].rpartition("@")[0]
    lines = [f"base_model = {load}(", f"    {base!r},"]
    classes = model["adapter"].get("classes", [])
    if classes:
        lines.append(f"    id2label={dict(enumerate(classes))},")
    elif not is_causal:
        lines.append(f"    num_labels={model['num_labels']},")
    if not is_causal:  # a head of another task makes room for this one
        lines.append("    ignore_mismatched_sizes=True,")
    lines += [
        ")",
        "model = peft.PeftModel.from_pretrained(base_model, <this folder>)",
    ]
    return "\n".join(lines)


def _last(folder: Path) -> dict[str, Any]:
    """The run's newest results; empty before the first."""
    file = folder / "metrics.jsonl"
    if not file.exists():
        return {}
    for line in reversed(file.read_text(encoding="utf-8").splitlines()):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:  # the line that a killed run was writing
            continue
        return found
    return {}


def _rounds(folder: Path) -> str:
    total = _config(folder)["federate"]["total_round_num"]
    if (folder / "summary.json").exists():
        return f"{_last(folder)['round']} of {total} rounds"
    rounds = rounds_in(folder)
    if not rounds:
        return f"an unfinished run of {total} rounds"
    return f"{rounds[-1].name.removeprefix('round_')} of {total} rounds"


def _figures(folder: Path, name: str) -> list[str]:
    """A table of the newest results; of a client, its own."""
    last = _last(folder)
    if not last:
        return []
    ID = name.removeprefix("client_")
    columns = {f"client {ID}": last["clients"].get(ID)}
    columns |= {
        "clients, weighted": last["weighted"],
        "clients, mean": last["mean"],
    }
    shown = {title: own for title, own in columns.items() if own}
    lines = [
        f"| after round {last['round']} | {' | '.join(shown)} |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for key in last["weighted"]:
        values = [f"{own[key]:.6g}" for own in shown.values() if key in own]
        if len(values) == len(shown):
            lines.append(f"| {key} | {' | '.join(values)} |")
    return [*lines, ""]


def _warning(folder: Path) -> str:
    """What "global" lacks, where clients keep something."""
    cfg = load_config(asked_in(folder))
    if not is_ours(cfg):
        return ""
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
