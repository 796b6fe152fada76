"""The Python API: experiments without the command line.

Nothing here prints, unless it is asked to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fs_plugins.config.load import Experiment
from fs_plugins.errors import UserError
from fs_plugins.experiment import runner, runs
from fs_plugins.listeners import Listener
from fs_plugins.report import comparison
from fs_plugins.scope import RunScope
from fs_plugins.terms import GIVEN


class Run(runs.Run):
    """A run, finished or not, as its folder tells of it.

    Attributes:
        name: what it is called; runs that differ in their seed alone share
            it.
        folder: where it is.
        summary: what ``summary.json`` in it holds.
        metrics: all evaluations, a row each; a ``pandas.DataFrame`` where
            pandas is installed.
        last, best: the results of the last evaluation, and of the one that
            was best on validation.
        clients: the clients' IDs; ``client(2)`` is one of them, with
            ``results``, ``adapter`` and ``model()``.
        adapter: the folder of what the server knows; ``global_model()`` is
            the base model with it.

    """

    def compare(
        self, *others: runs.Run | str | Path, out: str | Path | None = None
    ) -> comparison.Comparison:
        """Set this run beside others.

        Args:
            others: runs, or their folders.
            out: a folder that gets ``report.html``, ``report.md`` and their
                figures; None to write nothing.

        Raises:
            UserError: a folder holds no run, or ``out`` cannot be written
                to.

        """
        return comparison.compare(self, *others, out=out)


def load_run(folder: str | Path) -> Run:
    """Read what a run has left.

    Args:
        folder: the run's.

    Raises:
        UserError: there is no run, or one of its files is damaged.

    """
    found = runs.load_run(folder)
    return Run(
        **{each.name: getattr(found, each.name) for each in fields(found)}
    )


def run(
    experiment: Experiment,
    *,
    model: Any = None,
    tokenizer: Any = None,
    data: Any = None,
    listeners: Sequence[Listener] = (),
    progress: bool = False,
    verbose: bool = False,
    **overrides: Any,
) -> Run:
    """Run an experiment in this process.

    ``run("demo/fedsa.yaml", seed=1, federate__total_round_num=5)`` is what
    ``fedsa run --cfg demo/fedsa.yaml seed 1 federate.total_round_num 5``
    does.

    Args:
        experiment: a YAML file of FederatedScope, perhaps with variations
            (``a.yaml+ffa``), or the name of one that comes with the project;
            or what such a file says, as a mapping or a configuration.
        model: takes the place of ``model.type``: a model of transformers, a
            PEFT model with one adapter, or any module that takes
            ``input_ids`` and ``attention_mask`` and returns logits of shape
            (texts, labels).  The run trains it in place.
        tokenizer: of that model, unless it says where it was loaded from.
        data: take the place of ``data.type``: ``Examples``, a
            ``datasets.Dataset``, a pandas frame or a list of mappings; or a
            mapping with such a set for ``train`` and one for ``test``.
        listeners: are told what happens during the run.
        progress: show the progress.
        verbose: show FederatedScope's log, too.
        overrides: values of the configuration by key, with ``__`` in place
            of each dot.

    Returns:
        The run, as its folder tells of it.

    Raises:
        UserError: the input is wrong, in one sentence; nothing is left
            behind.
        RunError: the run cannot go on; what it has trained is saved.
        Interrupted: by Ctrl-C, between two rounds; ``resume`` goes on.

    """
    scope, values = _handed_over(model, tokenizer, data)
    summary = runner.run(
        experiment,
        {**values, **overrides},
        quiet=not progress,
        verbose=verbose,
        listeners=listeners,
        scope=scope,
    )
    return load_run(Path(summary["outdir"]))


def resume(
    folder: str | Path,
    *,
    model: Any = None,
    tokenizer: Any = None,
    data: Any = None,
    listeners: Sequence[Listener] = (),
    progress: bool = False,
    verbose: bool = False,
    force: bool = False,
    **overrides: Any,
) -> Run:
    """Go on with a run, from its newest checkpoint.

    It ends with the numbers, bit for bit, of a run that was never
    interrupted.

    Args:
        folder: the run's.
        model: what was handed to ``run``, as it was then.
        tokenizer: likewise.
        data: likewise.
        listeners: are told what happens during the run.
        progress: show the progress.
        verbose: show FederatedScope's log, too.
        force: the configuration, the data or the model may have changed.
        overrides: as for ``run``.

    Returns:
        The run, as its folder tells of it.

    Raises:
        UserError: there is nothing to resume, or it has changed.
        RunError: the run cannot go on.
        Interrupted: by Ctrl-C, between two rounds.

    """
    scope, values = _handed_over(model, tokenizer, data)
    summary = runner.resume(
        Path(folder),
        overrides={**values, **overrides},
        force=force,
        quiet=not progress,
        verbose=verbose,
        listeners=listeners,
        scope=scope,
    )
    return load_run(Path(summary["outdir"]))


def _handed_over(
    model: Any, tokenizer: Any, data: Any
) -> tuple[RunScope, Mapping[str, Any]]:
    """What a run gets of Python's objects, and what its YAML says of them."""
    values: dict[str, Any] = {}
    if model is not None:
        from torch import nn

        if not isinstance(model, nn.Module):
            raise UserError(
                f"model: {type(model).__name__} is no torch.nn.Module; the "
                "name of a checkpoint is a value of model.type"
            )
        values["model.type"] = f"{GIVEN}@huggingface_llm"
    elif tokenizer is not None:
        raise UserError("tokenizer: it goes with model=")
    if data is not None:
        values["data.type"] = f"data@{GIVEN}"
    return RunScope(model=model, tokenizer=tokenizer, data=data), values
