"""Checks that texts in one row of a batch do not change each other.

Some models take the texts of a row for one text: those that compute their
positions from the mask (OPT) or from the place in the row (ALiBi in BLOOM and
MPT), and those that hand a state from token to token (Mamba).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fs_plugins.data.batches import POSITIONS, options_for
from fs_plugins.data.tokens import Tokens
from fs_plugins.errors import UserError, first_line
from fs_plugins.host.configuration import Config
from fs_plugins.settings import device_of
from fs_plugins.trainer.precision import autocast, is_precise

_KEY = "fedsa.data.packing"
_TEXTS = 8  # in the row that is tried


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Have a model compute as in an evaluation, without gradients."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_packing(model: Any, tokens: Tokens, cfg: Config) -> None:
    """Refuse a model that takes the texts of one row for one text.

    In a row of short texts the first one is changed, which must change
    nothing in those behind it, and the last one must give the same as alone.

    Args:
        model: the run's model.
        tokens: the texts to train on.
        cfg: the configuration.

    Raises:
        UserError: the model failed the check.

    """
    texts = _short_texts(tokens)
    if len(texts) < 2:
        return  # No two texts fit into one row.
    last = len(texts[-1])
    other = [_replaced(texts[0]), *texts[1:]]
    try:
        row, changed, alone = (
            _logits(model, each, cfg) for each in (texts, other, texts[-1:])
        )
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"{_KEY}: this model takes no more than one text in a row "
            f"({first_line(error)}); leave it False"
        ) from error
    behind = len(texts[0])
    seen = _difference(row[behind:], changed[behind:])
    moved = _difference(row[-last:], alone)
    # Where nothing is seen the first difference is 0, but for models whose
    # experts round by what else they are given.
    precise = is_precise(cfg)
    if seen > (1e-5 if precise else 1e-2) or moved > (
        1e-3 if precise else 1e-1
    ):
        raise UserError(
            f"{_KEY}: this model takes the texts of one row for one text (its "
            f"logits differ by {max(seen, moved):.2g} of their size); leave "
            "it False"
        )


def _short_texts(tokens: Tokens) -> list[Tensor]:
    """Texts that fit into a row as long as the longest text, longest first."""
    lengths = tokens.lengths()
    room, texts = int(lengths.max()), []
    for number in lengths.argsort(kind="stable")[:_TEXTS].tolist():
        room -= int(lengths[number])
        if room >= 0:
            ids = tokens.ids_of(number).astype("int64")
            texts.append(torch.from_numpy(ids))
    return texts[::-1]


def _replaced(ids: Tensor) -> Tensor:
    """As many tokens, each another one than before."""
    token = ids[-1]
    return torch.where(ids == token, (token - 1).abs(), token)


def _logits(model: Any, texts: Sequence[Tensor], cfg: Config) -> Tensor:
    """The logits for the texts of one row, of shape (tokens, vocabulary)."""
    device = device_of(cfg)
    if not cfg.fedsa.base.quantize:
        model.to(device)
    batch = {
        "input_ids": torch.cat([*texts])[None].to(device),
        POSITIONS: torch.cat([torch.arange(len(t)) for t in texts])[None].to(
            device
        ),
    }
    with evaluating(model), autocast(cfg, device):
        output = model(**batch, **options_for(batch))
    logits: Tensor = output.logits[0].float()
    return logits


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value of ``one``."""
    if not (one.isfinite().all() and other.isfinite().all()):
        return math.inf
    scale = float(one.abs().max()) or 1.0
    return float((one - other).abs().max()) / scale
