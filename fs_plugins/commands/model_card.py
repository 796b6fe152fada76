"""The model card of an exported adapter or merged model."""

from collections.abc import Mapping
from typing import Any

import yaml

from fs_plugins.config.scaling import scaling_of
from fs_plugins.errors import UserError
from fs_plugins.experiment.offline import rounds_trained
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run
from fs_plugins.host.configuration import Model
from fs_plugins.notes import note
from fs_plugins.policy import Action, Role
from fs_plugins.report.tables import (
    markdown_code,
    markdown_rows,
    markdown_text,
)
from fs_plugins.settings import is_ours, policy_from
from fs_plugins.terms import CAUSAL, MULTI_LABEL, MULTI_LABEL_TYPE


def model_card(run: Run, model: Model, name: str, is_merged: bool) -> str:
    """A model card: the adapter's origin, its results, how to load it.

    Args:
        run: the run.
        model: the section ``model`` of the run's configuration.
        name: the name of the adapter.
        is_merged: whether the adapter is merged into its base model.

    """
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
        f"after {rounds(run)}.\n",
    ]
    if not client and warning(run):
        lines.append(f"Note: {warning(run)}.\n")
    lines += _figures(run, client)
    lines.append(f"```python\n{_call(model, is_merged)}\n```")
    scaling = scaling_of(run.settings)
    if scaling:
        lines.append(
            f"\nA score is the model's output times {scaling[1]:.17g} plus "
            f"{scaling[0]:.17g}."
        )
    if not is_merged:
        task = "CausalLM" if model.task == CAUSAL else "SequenceClassification"
        lines.append(
            "\nOn the machine of the export "
            f"`peft.AutoPeftModelFor{task}.from_pretrained(<this folder>)` "
            "does so, too. The tokenizer is here, and `fs_plugins.json` says "
            "what the adapter was trained on."
        )
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
    if model.task == MULTI_LABEL:
        lines.append(f"    problem_type={MULTI_LABEL_TYPE!r},")
    if not is_causal:  # the base model may have the head of another task
        lines.append("    ignore_mismatched_sizes=True,")
    lines += [
        ")",
        "model = peft.PeftModel.from_pretrained(base_model, <this folder>)",
    ]
    return "\n".join(lines)


def rounds(run: Run) -> str:
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
    if not run.own_client:
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


def warning(run: Run) -> str:
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


def note_what_is_missing(run: Run, client: str) -> None:
    """Tell whoever asks the server's model what it lacks.

    Args:
        run: the run.
        client: the word of the user; nothing is said unless it is
            ``global``.

    """
    sentence = warning(run) if client == RunFolder.GLOBAL else ""
    if sentence:
        note(f"{sentence}; name a client with --client")


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
