"""The Python API: experiments without the command line.

The functions print nothing unless they are asked to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fs_plugins.config.load import Experiment
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment import runner, runs
from fs_plugins.listeners import Listener, check_hooks
from fs_plugins.report import comparison
from fs_plugins.scope import RunScope
from fs_plugins.terms import GIVEN


class Run(runs.Run):
    """A run, finished or not, as its folder describes it.

    Attributes:
        name: the run's name, which runs that differ in their seed alone
            share.
        folder: the run's folder.
        summary: the content of ``summary.json`` in the folder.
        metrics: all evaluations, a row each; a ``pandas.DataFrame`` where
            pandas is installed.
        last: the results of the last evaluation.
        best: the results of the evaluation that was best on validation.
        clients: the clients' IDs; ``client(2)`` is a client with
            ``results``, ``adapter`` and ``model()``.
        adapter: the folder of the adapter that the server knows;
            ``global_model()`` is the base model with this adapter.

    """

    def compare(
        self, *others: runs.Run | str | Path, out: str | Path | None = None
    ) -> comparison.Comparison:
        """Compare this run with others.

        Args:
            others: runs, or their folders.
            out: a folder that gets ``report.html``, ``report.md`` and their
                figures; None to write nothing.

        Raises:
            UserError: a folder holds no run, or ``out`` cannot be written
                to.

        """
        return comparison.compare(self, *others, out=out)


def compare(
    *compared: runs.Run | str | Path, out: str | Path | None = None
) -> comparison.Comparison:
    """Set runs side by side.

    Args:
        compared: runs, or their folders.
        out: a folder that gets ``report.html``, ``report.md`` and their
            figures; None to write nothing.

    Raises:
        UserError: no run is given, a folder holds none, or ``out`` cannot be
            written to.

    """
    if out is not None:
        out = _folder(out)
    read = [
        run if isinstance(run, runs.Run) else load_run(run) for run in compared
    ]
    return comparison.compare(*read, out=out)


def load_run(folder: str | Path) -> Run:
    """Read a run from its folder.

    Args:
        folder: the run's folder.

    Raises:
        UserError: the folder holds no run, or one of its files is damaged.

    """
    run_read = runs.load_run(_folder(folder))
    return Run(
        **{
            field.name: getattr(run_read, field.name)
            for field in fields(run_read)
        }
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
            (``a.yaml+ffa``); the name of an experiment that comes with the
            project; or the content of such a file, as a mapping or a
            configuration.
        model: a model of transformers, a PEFT model with one adapter, or any
            module that takes ``input_ids`` and ``attention_mask`` and
            returns logits of shape (texts, labels).  The model takes the
            place of ``model.type``.  The run puts an adapter on the object
            and leaves the adapter as it was at the beginning; what is
            trained is in the run's folder.
        tokenizer: the model's tokenizer; not needed if the model says where
            it was loaded from.
        data: ``Examples``, a ``datasets.Dataset``, a pandas frame or a list
            of mappings; or a mapping with such a set for ``train`` and one
            for ``test``.  The data take the place of ``data.type``.
        listeners: objects that are told what happens during the run.
        progress: show the progress.
        verbose: show FederatedScope's log, too.
        overrides: values of the configuration by key, with ``__`` in place
            of each dot.

    Returns:
        The finished run.

    Raises:
        UserError: the input is wrong; the run's folder is removed, unless
            results are in it.
        RunError: the run cannot go on; what it has trained is saved.
        Interrupted: Ctrl-C has ended the run between two rounds; ``resume``
            goes on.

    """
    scope, values = _handed_over(model, tokenizer, data, listeners)
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
    trust_plugins: bool = False,
    **overrides: Any,
) -> Run:
    """Go on with a run, from its newest checkpoint.

    The run ends with the numbers, bit for bit, of a run that was never
    interrupted.

    Args:
        folder: the run's folder.
        model: the model that was passed to ``run``, as it was before the run.
        tokenizer: the tokenizer that was passed to ``run``.
        data: the data that were passed to ``run``.
        listeners: objects that are told what happens during the run.
        progress: show the progress.
        verbose: show FederatedScope's log, too.
        force: go on even if the configuration, the data or the model has
            changed since the run began.
        trust_plugins: import the plugins that the run's folder names, which
            executes them.  Not needed for those that this process has
            imported, or that ``fedsa__plugins`` names.
        overrides: values of the configuration, as for ``run``.

    Returns:
        The finished run.

    Raises:
        UserError: there is no such run, it has finished, its configuration,
            data or model has changed, or its plugins are not trusted.
        RunError: the run cannot go on; what it has trained is saved.
        Interrupted: Ctrl-C has ended the run between two rounds.

    """
    scope, values = _handed_over(model, tokenizer, data, listeners)
    summary = runner.resume(
        _folder(folder),
        overrides={**values, **overrides},
        force=force,
        quiet=not progress,
        verbose=verbose,
        listeners=listeners,
        scope=scope,
        trust_plugins=trust_plugins,
    )
    return load_run(Path(summary["outdir"]))


def _folder(folder: object) -> Path:
    if not isinstance(folder, (str, Path)):
        raise UserError(f"{shown(folder)} is not the folder of a run")
    return Path(folder)


def _handed_over(
    model: Any, tokenizer: Any, data: Any, listeners: Sequence[Any]
) -> tuple[RunScope, Mapping[str, Any]]:
    """Put what the user hands over into the run's scope.

    Returns:
        The scope, and the values of the configuration that refer to it.

    """
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
    if tokenizer is not None:
        from transformers import PreTrainedTokenizerBase

        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"tokenizer: {shown(tokenizer)} is no tokenizer of "
                "transformers"
            )
    if not isinstance(listeners, Sequence):
        raise UserError("listeners: hand over a list of listeners")
    for listener in listeners:
        if not isinstance(listener, Listener):
            raise UserError(
                f"listeners: {shown(listener)} is no object of a subclass of "
                "Listener"
            )
        check_hooks(type(listener))
    if data is not None:
        values["data.type"] = f"data@{GIVEN}"
    return RunScope(model=model, tokenizer=tokenizer, data=data), values
