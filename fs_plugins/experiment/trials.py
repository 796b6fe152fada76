"""Checks, on the run's own model and texts, of what a run relies on."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor

from fs_plugins.data.batches import NO_LOSS
from fs_plugins.errors import UserError, first_line
from fs_plugins.experiment.adapters import Adapter, adapters_of
from fs_plugins.experiment.packing import check_packing, evaluating
from fs_plugins.host.configuration import Config, Model
from fs_plugins.host.protocols import Runner
from fs_plugins.model.build import free_base
from fs_plugins.model.pretrained import load_base
from fs_plugins.notes import note
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.seeds import seed_torch
from fs_plugins.settings import device_of, is_client
from fs_plugins.terms import CAUSAL, GIVEN, TASKS
from fs_plugins.trainer.dual import weighted_adapters
from fs_plugins.trainer.precision import autocast, is_precise
from fs_plugins.worker.ours import participant_of

_TEXTS = 4  # a client's texts on which its saved adapter is checked
_TOKENS = 64  # the first tokens of each text that are used
_ANSWERS = 256  # tokens of a vocabulary whose logits are compared


def check_batches(runner: Runner) -> None:
    """Refuse a model whose result for a text depends on other inputs.

    The model computes the shortest and the longest text of each split alone
    and in one batch.  Refused are a classifier that takes padding for text,
    a language model that sees the tokens that it has to predict, and a model
    that cannot process the texts at all.

    Args:
        runner: a runner that has not run yet.  If its data are not from this
            package, nothing is checked.

    Raises:
        UserError: the model failed the check; says how.

    """
    cfg = runner.cfg
    is_server = runner.mode == "distributed" and not is_client(cfg)
    if cfg.model.task not in TASKS or is_server:
        return  # A distributed server computes nothing; its clients check.
    data = _data_of(runner, 0)
    for split in (data.train_data, data.val_data, data.test_data):
        if split is None or not len(split.tokens):
            continue
        lengths = split.tokens.lengths()
        numbers = [int(lengths.argmin()), int(lengths.argmax())]
        collate = data.collator(split.tokens)
        alone = [collate([number]) for number in numbers]
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
    if cfg.fedsa.data.packing:
        check_packing(_a_model(runner), data.train_data.tokens, cfg)


def _try(
    model: Any,
    alone: Sequence[Mapping[str, Tensor]],
    both: Mapping[str, Tensor],
    cfg: Config,
) -> None:
    """Compare a model's results for two texts, alone and in one batch."""
    logits = [_logits(model, batch, cfg) for batch in alone]
    if not all(values.isfinite().all() for values in logits):
        raise UserError(
            "model.type: the model's result for a text is not a finite "
            "number; are its weights good?"
        )
    if cfg.model.task == CAUSAL:
        _try_causality(model, alone[-1], cfg)
    elif cfg.dataloader.batch_size > 1:
        worst = _difference(torch.cat(logits), _logits(model, both, cfg))
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
    """Refuse a model in which the last token changes earlier results."""
    ids = text["input_ids"]
    if ids.shape[1] < 2:
        return
    first, last = int(ids[0, 0]), int(ids[0, -1])
    other = ids.clone()
    other[:, -1] = first if first != last else abs(first - 1)
    before, after = (
        _logits(model, {**text, "input_ids": tokens}, cfg, place=-2)
        for tokens in (ids, other)
    )
    if _difference(before, after) > _bound(cfg, 1e-3):
        raise UserError(
            "model.type: this model looks at the tokens that it is to "
            "foretell, so it is no causal language model (a BERT needs "
            "is_decoder: true in its config.json)"
        )
    # Nothing comes before the first token, so that it is not foretold.
    labels = torch.full_like(ids, NO_LOSS)
    labels[:, 0] = first
    loss = _loss(model, text, labels, cfg)
    if math.isfinite(loss) and loss > 1e-3:
        raise UserError(
            "model.type: this model's loss compares each token with its own "
            "place in place of the next one's (as that of BART's decoder "
            "does), so that it would learn to repeat; take a model such as "
            "GPT-2 or Llama"
        )


def _loss(
    model: Any, text: Mapping[str, Tensor], labels: Tensor, cfg: Config
) -> float:
    """A language model's own loss for a text with these labels."""
    device = device_of(cfg)
    inputs = {n: t.to(device) for n, t in text.items() if n != "labels"}
    with evaluating(model), autocast(cfg, device):
        loss = model(**inputs, labels=labels.to(device)).loss
    return float(loss)


def check_saved(runner: Runner, folder: Path) -> str:
    """Load each saved adapter as a user would, and compare it with the run.

    The memory of the run's base model is freed before the base model is
    loaded again, so that there is only one at a time.

    Args:
        runner: a runner that has run.  It cannot be used afterwards.
        folder: the folder that ``save_adapters`` has filled.

    Returns:
        A sentence that says what is wrong; '' if nothing is.

    """
    cfg = runner.cfg
    tolerance = cfg.fedsa.reload_tolerance
    # A model that was handed to the run has no checkpoint to load.
    is_given = cfg.model.type.rpartition("@")[0] == GIVEN
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
    """The logits of the run's model; of two adapters, the shared one's."""
    inner = getattr(adapter.model, "model", adapter.model)
    if PRIVATE_ADAPTER not in getattr(inner, "peft_config", {}):
        return _logits(adapter.model, batch, cfg)
    with weighted_adapters(inner, 1.0, 0.0):
        return _logits(adapter.model, batch, cfg)


def _loaded(
    model_config: Model, folder: Path, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Load each adapter on the base model, which is loaded once.

    Parameters that the checkpoint lacks are drawn at random, with another
    seed than in the run, as each adapter must contain them.
    """
    model: Any = None
    for number, name in enumerate(names):
        path = str(folder / name)
        # A name of PEFT's may hold no dot, and a client's may.
        before, own = f"adapter_{number - 1}", f"adapter_{number}"
        with warnings.catch_warnings():
            # The libraries warn of each other's future versions.
            warnings.simplefilter("ignore", FutureWarning)
            if model is None or _ties(model):
                base = _other_base(model_config)
                model = peft.PeftModel.from_pretrained(base, path, own)
            else:
                model.load_adapter(path, own)
                model.set_adapter(own)
                model.delete_adapter(before)
        yield name, model


def _other_base(model_config: Model) -> Any:
    with torch.random.fork_rng():
        seed_torch(model_config.adapter.seed + 1)
        return load_base(model_config).model


def _ties(model: Any) -> bool:
    """Whether PEFT ties weights, which it can do for one adapter only."""
    configs = model.peft_config.values()
    return any(getattr(c, "ensure_weight_tying", False) for c in configs)


def _a_model(runner: Runner) -> Any:
    """The server's model; in distributed mode, this participant's model."""
    if runner.mode == "distributed":
        return participant_of(runner).model
    return runner.server.model


def _data_of(runner: Runner, client: int) -> Any:
    """A client's data; in distributed mode, those of this participant."""
    # A ClientData is a dict, too, so its attributes tell it from a dict.
    data = runner.data
    return data if hasattr(data, "train_data") else data[client]


def _batch_for(runner: Runner, adapter: Adapter) -> dict[str, Tensor]:
    """The first texts on which the adapter was evaluated, if any."""
    data = _data_of(runner, adapter.client)
    splits = (data.test_data, data.val_data, data.train_data)
    split = next((s for s in splits if s is not None and len(s)), None)
    if split is None:
        return {}
    batch: dict[str, Tensor] = data.collator(split.tokens)(
        [*split.index[:_TEXTS].tolist()]
    )
    if "labels" in batch and batch["labels"].dim() == 2:
        return {n: t[:, :_TOKENS].contiguous() for n, t in batch.items()}
    return batch


def _logits(
    model: Any, batch: Mapping[str, Tensor], cfg: Config, place: int = -1
) -> Tensor:
    """The logits of a model, in float64 on the CPU.

    Args:
        model: the model.
        batch: the model's inputs, of shape (texts, tokens).
        cfg: the configuration.
        place: the token of each text, counted from the end, whose logits are
            taken of a language model.

    Returns:
        Of a classifier all logits, of shape (texts, classes); of a language
        model those of some tokens of the vocabulary.

    """
    device = device_of(cfg)
    if not cfg.fedsa.base.quantize:
        model.to(device)
    with evaluating(model), autocast(cfg, device):
        output = model(**{n: t.to(device) for n, t in batch.items()})
    logits: Tensor = output.logits
    if logits.dim() == 3:
        last = batch["attention_mask"].sum(1).to(logits.device) + place
        rows = torch.arange(len(logits), device=logits.device)
        step = max(1, logits.shape[-1] // _ANSWERS)
        logits = logits[rows, last, ::step]
    return logits.double().cpu()


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value of ``one``.

    Values below 1 count as 1; the difference is infinite if any value is not
    finite.
    """
    if not (one.isfinite().all() and other.isfinite().all()):
        return math.inf
    scale = max(1.0, float(one.abs().max()))
    return float((one - other).abs().max()) / scale


def _bound(cfg: Config, tolerance: float) -> float:
    """The tolerance in the run's precision, from that in float32."""
    return tolerance if is_precise(cfg) else min(1.0, 100 * tolerance)
