"""Trials on the real model and texts: what a run relies on, tried out."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor

from fs_plugins.config.settings import device_of
from fs_plugins.errors import RunError, UserError, first_line
from fs_plugins.model.base import CAUSAL, TASKS, load_base
from fs_plugins.model.build import free_base
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.state.adapters import Adapter, adapters_of
from fs_plugins.trainer.dual import taking
from fs_plugins.trainer.precision import autocast, is_precise

_TEXTS = 4  # of a client's, on which a saved adapter is tried
_TOKENS = 64  # of each, and
_ANSWERS = 256  # of a vocabulary: enough to tell two language models apart


def check_batches(runner: Any) -> None:
    """Refuse a model whose result for a text depends on the text's batch.

    The shortest and the longest of the training texts are given to it alone
    and together.  A model that takes padding for text fails this, and so
    does one that cannot take the texts at all.

    Args:
        runner: a runner, not yet run, whose data are ours.

    Raises:
        UserError: says so.

    """
    cfg, model = runner.cfg, _a_model(runner)
    batch_size = cfg.dataloader.batch_size
    if cfg.model.task not in TASKS or batch_size == 1:
        return
    data = _data_of(runner, 0)
    tokens = data.train_data.tokens
    lengths = tokens.lengths()
    numbers = [int(lengths.argmin()), int(lengths.argmax())]
    collate = data.collator(tokens)
    is_causal = cfg.model.task == CAUSAL
    try:
        both = _logits(model, collate(numbers), cfg)
        if is_causal:  # padding is masked, token by token
            return
        alone = [_logits(model, collate([each]), cfg) for each in numbers]
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"model.type: the model cannot take texts of {lengths.min()} to "
            f"{lengths.max()} tokens: {first_line(error)}"
        ) from error
    worst = _difference(both, torch.cat(alone))
    if worst > _bound(cfg, 1e-3):
        raise UserError(
            "model.type: this model's result for a text depends on what the "
            f"text is batched with (its logits differ by {worst:.2g} of their "
            "size); with dataloader.batch_size 1 there is no padding"
        )


def check_saved(runner: Any, folder: Path) -> str:
    """Load each saved adapter as a user would, and compare it with the run.

    The run's frozen base model gives up its memory for the one that is
    loaded from its checkpoint, so that there is one at a time.

    Args:
        runner: a runner that has run, and is of no more use after this.
        folder: the one that ``save_adapters`` has filled.

    Returns:
        What is wrong, in a sentence; or ``""``.

    Raises:
        RunError: an adapter or its base model cannot be loaded.

    """
    cfg = runner.cfg
    tolerance = cfg.fedsa.reload_tolerance
    if not tolerance or cfg.model.task not in TASKS:
        return ""
    expected: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
    for adapter in adapters_of(runner):
        batch = _batch_for(runner, adapter)
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
    except (UserError, RuntimeError, ValueError, KeyError) as error:
        raise RunError(
            f"{folder}: a saved adapter cannot be loaded: {first_line(error)}"
        ) from error
    if worst <= _bound(cfg, tolerance):
        return ""
    return (
        f"{folder / where}: loaded by PEFT, this adapter's logits differ by "
        f"{worst:.2g} of their size from those of the run "
        "(fedsa.reload_tolerance); do not rely on it"
    )


def _of_run(adapter: Adapter, batch: Mapping[str, Tensor], cfg: Any) -> Tensor:
    """What the run's model answers; of two adapters, with the shared one."""
    inner = getattr(adapter.model, "model", adapter.model)
    if PRIVATE_ADAPTER not in getattr(inner, "peft_config", {}):
        return _logits(adapter.model, batch, cfg)
    with taking(inner, 1.0, 0.0):
        return _logits(adapter.model, batch, cfg)


def _loaded(
    model_config: Any, folder: Path, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Each adapter on the base model, which is loaded once.

    What a checkpoint lacks is drawn at random, and otherwise than in the
    run: an adapter must bring it along.
    """
    with torch.random.fork_rng():
        torch.manual_seed(model_config.adapter.seed + 1)
        base = load_base(model_config).model
    model: Any = None
    for before, name in zip([None, *names], names, strict=False):
        path = str(folder / name)
        with warnings.catch_warnings():
            # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            if model is None:
                model = peft.PeftModel.from_pretrained(base, path, name)
            else:
                model.load_adapter(path, name)
                model.set_adapter(name)
                model.delete_adapter(before)
        yield name, model


def _a_model(runner: Any) -> Any:
    """The server's; in distributed mode, that of this participant."""
    return (getattr(runner, "server", None) or runner.client).model


def _data_of(runner: Any, client: int) -> Any:
    """A client's data; in distributed mode, those of this participant."""
    data = runner.data  # a ClientData is a dict, too
    return data if hasattr(data, "train_data") else data[client]


def _batch_for(runner: Any, adapter: Adapter) -> dict[str, Tensor]:
    """The first of the texts that the adapter was evaluated on."""
    data = _data_of(runner, adapter.client)
    split = next(
        own
        for own in (data.test_data, data.val_data, data.train_data)
        if own is not None and len(own)
    )
    batch = data.collator(split.tokens)([*split.index[:_TEXTS].tolist()])
    if "labels" in batch and batch["labels"].dim() == 2:
        return {n: each[:, :_TOKENS] for n, each in batch.items()}
    found: dict[str, Tensor] = batch
    return found


def _logits(model: Any, batch: Mapping[str, Tensor], cfg: Any) -> Tensor:
    """What a model answers, on the CPU: of a vocabulary, a part of it."""
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
        last = batch["attention_mask"].sum(1).to(logits.device) - 1
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


def _bound(cfg: Any, tolerance: float) -> float:
    """The tolerance, which is meant for float32, for the run's precision."""
    return tolerance if is_precise(cfg) else min(1.0, 100 * tolerance)
