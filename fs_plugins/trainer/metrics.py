"""Metrics that the host lacks: GLUE's, and those of generation."""

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from fs_plugins.errors import UserError
from fs_plugins.terms import CLASSIFICATION, GENERATION_METRICS, REGRESSION

Metric = Callable[..., float]


def matthews(y_true: Any, y_pred: Any, **_: Any) -> float:
    """Matthews correlation; 0 where it is undefined."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(np.ravel(y_true), np.ravel(y_pred)))


def binary_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
    """F1 of class 1 (the host's ``f1`` averages over the classes)."""
    from sklearn.metrics import f1_score

    return float(
        f1_score(np.ravel(y_true), np.ravel(y_pred), zero_division=0.0)
    )


def pearson(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Pearson correlation of scores; 0 where it is undefined."""
    return _correlation(np.ravel(y_true), np.ravel(y_prob))


def spearman(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Spearman rank correlation of scores; 0 where it is undefined."""
    return _correlation(_ranks(np.ravel(y_true)), _ranks(np.ravel(y_prob)))


def _ranks(x: np.ndarray) -> np.ndarray:
    """The rank of each value; equal ones share their mean rank."""
    _, group, size = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    return (last - (size - 1) / 2)[group]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


METRICS: dict[str, Metric] = {
    "binary_f1": binary_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


_PASS_AT = re.compile(r"pass_at_(?!1$)\d+")
# What the host's metrics and ours compare; a user's own may compare anything.
_OF_CLASSES = ("acc", "correct", "f1", "binary_f1", "matthews", "roc_auc")
_OF_SCORES = ("pearson", "spearman", "mse", "rmse")
_OF_TWO_CLASSES = ("binary_f1", "roc_auc")


def unfit(metric: str, task: str, classes: int) -> str:
    """Why a metric says nothing about a task; empty if it does.

    Args:
        metric: one of ``eval.metrics``.
        task: one of ``terms.TASKS``; others are not looked at.
        classes: how many the task has.

    """
    if task in (CLASSIFICATION, REGRESSION) and _is_of_answers(metric):
        return "scores generated answers, and these data have none"
    if task == REGRESSION and metric in _OF_CLASSES:
        return (
            "compares classes, and these data have scores; take "
            f"{', '.join(_OF_SCORES)}"
        )
    if task == CLASSIFICATION and metric in _OF_SCORES:
        return (
            "compares scores, and these data have classes; take "
            f"{', '.join(_OF_CLASSES)}"
        )
    if task == CLASSIFICATION and metric in _OF_TWO_CLASSES and classes != 2:
        return (
            f"is for two classes, and these data have {classes}; take f1, "
            "the mean over the classes"
        )
    return ""


def _is_of_answers(metric: str) -> bool:
    return metric in GENERATION_METRICS or bool(_PASS_AT.fullmatch(metric))


def metric_among(
    types: Collection[str], name: str
) -> tuple[str, Metric, bool] | None:
    """A metric in the form in which the host asks for it.

    Args:
        types: ``eval.metrics``.
        name: a metric; ``pass_at_k`` stands for ``pass_at_<k>`` of any k but
            1.

    Returns:
        Its name, its function, and whether a higher value is better; None
        if it is not among those that are asked for.

    """
    if name == "pass_at_k":
        name = next((each for each in types if _PASS_AT.fullmatch(each)), "")
    if name not in types:
        return None
    return name, METRICS.get(name, _by_generation), True


def _by_generation(**_: Any) -> float:
    """What ``fedsa_llm`` computes itself; the host asks for its direction.

    Raises:
        UserError: another trainer was asked to compute it.

    """
    raise UserError(
        f"eval.metrics: {', '.join(GENERATION_METRICS)} are computed by "
        "trainer.type fedsa_llm, when fedsa.eval.generate asks for them"
    )
