"""Trials on the real model and texts: what a run relies on, tried out."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor

from fs_plugins.errors import UserError, first_line
from fs_plugins.experiment.adapters import Adapter, adapters_of
from fs_plugins.host.configuration import Config, Model
from fs_plugins.host.protocols import Runner
from fs_plugins.model.build import free_base
from fs_plugins.model.pretrained import load_base
from fs_plugins.notes import note
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.settings import device_of, is_client
from fs_plugins.terms import CAUSAL, GIVEN, TASKS
from fs_plugins.trainer.dual import taking
from fs_plugins.trainer.precision import autocast, is_precise
from fs_plugins.worker.ours import participant_of

_TEXTS = 4  # of a client's, on which a saved adapter is tried
_TOKENS = 64  # of each, and
_ANSWERS = 256  # of a vocabulary: enough to tell two language models apart


def check_batches(runner: Runner) -> None:
    """Refuse a model whose result for a text depends on what it must not.

    The shortest and the longest text of each split are given to it alone and
    together.  A classifier that takes padding for text fails this, as does a
    language model that looks at the tokens that it is to foretell, and one
    that cannot take the texts at all.

    Args:
        runner: a runner, not yet run, whose data are ours.

    Raises:
        UserError: says which of these it is.

    """
    cfg = runner.cfg
    is_server = runner.mode == "distributed" and not is_client(cfg)
    if cfg.model.task not in TASKS or is_server:
        return  # such a server computes nothing; its clients try it
    data = _data_of(runner, 0)
    for split in (data.train_data, data.val_data, data.test_data):
        if split is None or not len(split.tokens):
            continue
        lengths = split.tokens.lengths()
        numbers = [int(lengths.argmin()), int(lengths.argmax())]
        collate = data.collator(split.tokens)
        alone = [collate([each]) for each in numbers]
        try:
            _try(_a_model(runner), alone, collate(numbers), cfg)
        except UserError:
            raise
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                "model.type: the model cannot take texts of "
                f"{lengths.min()} to {lengths.max()} tokens: "
                f"{first_line(error)}"
            ) from error


def _try(
    model: Any,
    alone: Sequence[Mapping[str, Tensor]],
    both: Mapping[str, Tensor],
    cfg: Config,
) -> None:
    """Give a model two texts, alone and together."""
    found = [_logits(model, each, cfg) for each in alone]
    if not all(each.isfinite().all() for each in found):
        raise UserError(
            "model.type: the model's result for a text is not a finite "
            "number; are its weights good?"
        )
    if cfg.model.task == CAUSAL:
        _try_causality(model, alone[-1], cfg)
    elif cfg.dataloader.batch_size > 1:
        worst = _difference(torch.cat(found), _logits(model, both, cfg))
        if worst > _bound(cfg, 1e-3):
            raise UserError(
                "model.type: this model's result for a text depends on what "
                f"the text is batched with (its logits differ by {worst:.2g} "
                "of their size); with dataloader.batch_size 1 there is no "
                "padding"
            )


def _try_causality(
    model: Any, text: Mapping[str, Tensor], cfg: Config
) -> None:
    """The last token of a text must not change what comes before it."""
    ids = text["input_ids"]
    if ids.shape[1] < 2:
        return
    first, last = int(ids[0, 0]), int(ids[0, -1])
    other = ids.clone()
    other[:, -1] = first if first != last else abs(first - 1)
    found = [
        _logits(model, {**text, "input_ids": each}, cfg, place=-2)
        for each in (ids, other)
    ]
    if _difference(*found) > _bound(cfg, 1e-3):
        raise UserError(
            "model.type: this model looks at the tokens that it is to "
            "foretell, so it is no causal language model (a BERT needs "
            "is_decoder: true in its config.json)"
        )


def check_saved(runner: Runner, folder: Path) -> str:
    """Load each saved adapter as a user would, and compare it with the run.

    The run's frozen base model gives up its memory for the one that is
    loaded from its checkpoint, so that there is one at a time.

    Args:
        runner: a runner that has run, and is of no more use after this.
        folder: the one that ``save_adapters`` has filled.

    Returns:
        What is wrong, in a sentence; or ``""``.

    """
    cfg = runner.cfg
    tolerance = cfg.fedsa.reload_tolerance
    is_given = cfg.model.type.rpartition("@")[0] == GIVEN  # can't be loaded
    if not tolerance or is_given or cfg.model.task not in TASKS:
        return ""
    expected: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
    for adapter in adapters_of(runner):
        batch = _batch_for(runner, adapter)
        if batch:
            expected[adapter.name] = batch, _of_run(adapter, batch, cfg)
    if not expected:
        return ""
    free_base(_a_model(runner))
    worst, where = 0.0, ""
    try:
        for name, model in _loaded(cfg.model, folder, list(expected)):
            batch, logits = expected[name]
            difference = _difference(logits, _logits(model, batch, cfg))
            if difference > worst:
                worst, where = difference, name
    except torch.OutOfMemoryError:
        note(
            f"{folder}: there is no memory to load the saved adapters and "
            "compare them with the run"
        )
        return ""
    except (UserError, RuntimeError, ValueError, KeyError) as error:
        reason = first_line(error)
        return f"{folder}: a saved adapter cannot be loaded: {reason}"
    if worst <= _bound(cfg, tolerance):
        return ""
    return (
        f"{folder / where}: loaded by PEFT, this adapter's logits differ by "
        f"{worst:.2g} of their size from those of the run "
        "(fedsa.reload_tolerance); do not rely on it"
    )


def _of_run(
    adapter: Adapter, batch: Mapping[str, Tensor], cfg: Config
) -> Tensor:
    """What the run's model answers; of two adapters, with the shared one."""
    inner = getattr(adapter.model, "model", adapter.model)
    if PRIVATE_ADAPTER not in getattr(inner, "peft_config", {}):
        return _logits(adapter.model, batch, cfg)
    with taking(inner, 1.0, 0.0):
        return _logits(adapter.model, batch, cfg)


def _loaded(
    model_config: Model, folder: Path, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Each adapter on the base model, which is loaded once.

    What a checkpoint lacks is drawn at random, and otherwise than in the
    run: an adapter must bring it along.
    """
    model: Any = None
    for before, name in zip([None, *names], names, strict=False):
        path = str(folder / name)
        with warnings.catch_warnings():
            # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            if model is None or _ties(model):
                base = _other_base(model_config)
                model = peft.PeftModel.from_pretrained(base, path, name)
            else:
                model.load_adapter(path, name)
                model.set_adapter(name)
                model.delete_adapter(before)
        yield name, model


def _other_base(model_config: Model) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(model_config.adapter.seed + 1)
        return load_base(model_config).model


def _ties(model: Any) -> bool:
    """Whether PEFT ties what it saves, which it does for one adapter only."""
    configs = model.peft_config.values()
    return any(getattr(c, "ensure_weight_tying", False) for c in configs)


def _a_model(runner: Runner) -> Any:
    """The server's; in distributed mode, that of this participant."""
    if runner.mode == "distributed":
        return participant_of(runner).model
    return runner.server.model


def _data_of(runner: Runner, client: int) -> Any:
    """A client's data; in distributed mode, those of this participant."""
    data = runner.data  # a ClientData is a dict, too
    return data if hasattr(data, "train_data") else data[client]


def _batch_for(runner: Runner, adapter: Adapter) -> dict[str, Tensor]:
    """The first of the texts that the adapter was evaluated on, if any."""
    data = _data_of(runner, adapter.client)
    splits = (data.test_data, data.val_data, data.train_data)
    split = next((own for own in splits if own is not None and len(own)), None)
    if split is None:
        return {}
    batch = data.collator(split.tokens)([*split.index[:_TEXTS].tolist()])
    if "labels" in batch and batch["labels"].dim() == 2:
        return {n: each[:, :_TOKENS].contiguous() for n, each in batch.items()}
    found: dict[str, Tensor] = batch
    return found


def _logits(
    model: Any, batch: Mapping[str, Tensor], cfg: Config, place: int = -1
) -> Tensor:
    """What a model answers, on the CPU: of a vocabulary, a part of it.

    Args:
        model: the model.
        batch: its inputs.
        cfg: the configuration.
        place: of a language model, at which token of each text.

    """
    device = device_of(cfg)
    if not cfg.fedsa.base.quantize:
        model.to(device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), autocast(cfg, device):
            output = model(**{n: t.to(device) for n, t in batch.items()})
    finally:
        for module, mode in modes:
            module.training = mode
    logits: Tensor = output.logits
    if logits.dim() == 3:
        last = batch["attention_mask"].sum(1).to(logits.device) + place
        rows = torch.arange(len(logits), device=logits.device)
        step = max(1, logits.shape[-1] // _ANSWERS)
        logits = logits[rows, last, ::step]
    return logits.double().cpu()


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    if not (one.isfinite().all() and other.isfinite().all()):
        return math.inf
    scale = max(1.0, float(one.abs().max()))
    return float((one - other).abs().max()) / scale


def _bound(cfg: Config, tolerance: float) -> float:
    """The tolerance, which is meant for float32, for the run's precision."""
    return tolerance if is_precise(cfg) else min(1.0, 100 * tolerance)
