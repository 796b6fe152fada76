"""Scores minus their mean, divided by their standard deviation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fs_plugins.config.scaling import FROM_DATA, KEY
from fs_plugins.data.examples import Examples
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config


def settle_scaling(cfg: Config, train: Examples) -> None:
    """Find the mean and the deviation of ``fedsa.data.standardise: True``.

    Args:
        cfg: the configuration, to which the two numbers are written.
        train: the examples to train on, of all clients.

    Raises:
        UserError: the examples have no scores, or all have the same.

    """
    asked = cfg.fedsa.data.standardise
    if not asked:
        return
    if train.are_instructions or len(train.names):
        raise UserError(
            f"{KEY}: it is for scores (fedsa.data.target), and these data "
            "have none"
        )
    if asked != FROM_DATA:
        return
    scores = np.array(train.labels, np.float64)
    if scores.min() == scores.max():
        raise UserError(
            f"{KEY}: all {len(scores)} scores to train on are "
            f"{scores[0]:g}; there is nothing to predict"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(scores.mean()), float(scores.std())
    if not (np.isfinite(mean) and np.isfinite(deviation) and deviation):
        raise UserError(
            f"{KEY}: the scores, from {scores.min():g} to "
            f"{scores.max():g}, are too large or too close together for "
            "their mean and deviation to be computed"
        )
    cfg.fedsa.data.standardise = [mean, deviation]


def standardised(scores: Any, scaling: Sequence[float]) -> Any:
    """Scores as a regression is trained on them.

    Args:
        scores: a tensor or an array.
        scaling: the mean and the standard deviation; empty for scores that
            are trained on as they are.

    """
    return (scores - scaling[0]) / scaling[1] if scaling else scores


def in_own_unit(outputs: Any, scaling: Sequence[float]) -> Any:
    """What a model predicts, in the unit of the scores.

    Args:
        outputs: the model's outputs, a tensor or an array.
        scaling: as for ``standardised``.

    """
    return outputs * scaling[1] + scaling[0] if scaling else outputs
