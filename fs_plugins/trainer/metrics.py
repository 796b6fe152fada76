"""Metrics that FederatedScope lacks: those of GLUE and of generation."""

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from fs_plugins.errors import UserError
from fs_plugins.terms import (
    ANSWER_METRICS,
    CLASSIFICATION,
    LABEL_SET_METRICS,
    MULTI_LABEL,
    REGRESSION,
)

Metric = Callable[..., float]


def matthews(y_true: Any, y_pred: Any, **_: Any) -> float:
    """Matthews correlation of classes; 0 if it is undefined.

    Args:
        y_true: the numbers of the true classes.
        y_pred: the numbers of the predicted classes.

    """
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(np.ravel(y_true), np.ravel(y_pred)))


def binary_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
    """F1 score of class 1 (the host's ``f1`` averages over the classes).

    Args:
        y_true: the numbers of the true classes.
        y_pred: the numbers of the predicted classes.

    """
    from sklearn.metrics import f1_score

    return float(
        f1_score(np.ravel(y_true), np.ravel(y_pred), zero_division=0.0)
    )


def pearson(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Pearson correlation of scores; 0 if it is undefined.

    Args:
        y_true: the true scores.
        y_prob: the predicted scores.

    """
    return _correlation(np.ravel(y_true), np.ravel(y_prob))


def spearman(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Spearman rank correlation of scores; 0 if it is undefined.

    Args:
        y_true: the true scores.
        y_prob: the predicted scores.

    """
    return _correlation(_ranks(np.ravel(y_true)), _ranks(np.ravel(y_prob)))


def _ranks(x: np.ndarray) -> np.ndarray:
    """The rank of each value; equal values have their mean rank."""
    _, group, size = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    return (last - (size - 1) / 2)[group]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def micro_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
    """F1 score of all labels of all texts together; 0 if it is undefined.

    Args:
        y_true: a row for each text, with a 1 for each label that applies.
        y_pred: the same, for the labels that are predicted.

    """
    from sklearn.metrics import f1_score

    return float(f1_score(y_true, y_pred, average="micro", zero_division=0.0))


def macro_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
    """Mean over the labels of their F1 scores; see ``f1_of_labels``.

    Args:
        y_true: as for ``micro_f1``.
        y_pred: as for ``micro_f1``.

    """
    return float(f1_of_labels(y_true, y_pred).mean())


def f1_of_labels(y_true: Any, y_pred: Any) -> np.ndarray:
    """F1 score of each label; 0 if it neither occurs nor is predicted.

    Args:
        y_true: as for ``micro_f1``.
        y_pred: as for ``micro_f1``.

    """
    from sklearn.metrics import f1_score

    scores = f1_score(y_true, y_pred, average=None, zero_division=0.0)
    return np.asarray(scores, np.float64)


def subset_acc(y_true: Any, y_pred: Any, **_: Any) -> float:
    """Share of texts of which all labels are right, and no other predicted.

    Args:
        y_true: as for ``micro_f1``.
        y_pred: as for ``micro_f1``.

    """
    return float(np.all(y_true == y_pred, axis=1).mean())


METRICS: dict[str, Metric] = {
    "binary_f1": binary_f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "micro_f1": micro_f1,
    "pearson": pearson,
    "spearman": spearman,
    "subset_acc": subset_acc,
}


_PASS_AT = re.compile(r"pass_at_(?!1$)\d+")
# The metrics of the host and of this package, by what they compare.  Metrics
# that a user registers may compare anything.
_OF_CLASSES = ("acc", "correct", "f1", "binary_f1", "matthews", "roc_auc")
_OF_SCORES = ("pearson", "spearman", "mse", "rmse")
_OF_TWO_CLASSES = ("binary_f1", "roc_auc")


def unfit(metric: str, task: str, classes: int) -> str:
    """The reason why a metric does not suit a task.

    Args:
        metric: one of ``eval.metrics``.
        task: one of ``terms.TASKS``; any metric suits other tasks.
        classes: the number of classes of the task.

    Returns:
        The end of a sentence that begins with the metric; '' if the metric
        suits the task.

    """
    if task not in (CLASSIFICATION, MULTI_LABEL, REGRESSION):
        return ""
    if _is_of_answers(metric):
        return "scores answers, and these data have none"
    if task == MULTI_LABEL and metric in (*_OF_CLASSES, *_OF_SCORES):
        return (
            "compares one class or score for each text, and these texts may "
            f"have several labels; take {', '.join(LABEL_SET_METRICS)}"
        )
    if task != MULTI_LABEL and metric in LABEL_SET_METRICS:
        return (
            "compares sets of labels, and these texts have one class or "
            "score each"
        )
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
    return metric in ANSWER_METRICS or bool(_PASS_AT.fullmatch(metric))


def metric_among(
    types: Collection[str], name: str
) -> tuple[str, Metric, bool] | None:
    """A metric of this package, in the form that the host's registry needs.

    Args:
        types: ``eval.metrics``.
        name: the name of the metric; ``pass_at_k`` stands for ``pass_at_<k>``
            with any k but 1.

    Returns:
        The metric's name, its function, and whether a higher value is
        better; None if ``types`` does not contain the metric.

    """
    if name == "pass_at_k":
        name = next((kind for kind in types if _PASS_AT.fullmatch(kind)), "")
    if name not in types:
        return None
    return name, METRICS.get(name, _by_generation), True


def _by_generation(**_: Any) -> float:
    """Stand for the metrics that the trainer ``fedsa_llm`` computes itself.

    The host needs their entries to know that higher values are better.

    Raises:
        UserError: another trainer tries to compute such a metric.

    """
    raise UserError(
        f"eval.metrics: {', '.join(ANSWER_METRICS)} are computed by "
        "trainer.type fedsa_llm, when fedsa.eval asks for them"
    )
