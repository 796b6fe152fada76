"""Metrics of a routine, computed from the trainer's context."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from federatedscope.core.auxiliaries.metric_builder import get_metric

Metric = tuple[Callable[..., float], bool]


def eval_loss(ctx: Any, **_: Any) -> float:
    """The summed loss."""
    return float(ctx.loss_batch_total)


def eval_avg_loss(ctx: Any, **_: Any) -> float:
    """The loss per sample."""
    return float(ctx.loss_batch_total / ctx.num_samples)


def eval_total(ctx: Any, **_: Any) -> int:
    """The number of samples."""
    return int(ctx.num_samples)


def eval_correct(y_true: Any, y_pred: Any, **_: Any) -> float:
    """The number of right answers."""
    return float(np.sum(y_true == y_pred))


def eval_acc(y_true: Any, y_pred: Any, **_: Any) -> float:
    """The share of right answers."""
    return float(np.mean(y_true == y_pred))


def eval_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
    """F1, averaged over the classes."""
    return float(f1_score(y_true, y_pred, average="macro"))


def eval_mse(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Mean squared error."""
    return float(np.mean(np.square(y_true - y_prob)))


def eval_rmse(y_true: Any, y_prob: Any, **_: Any) -> float:
    """Root mean squared error."""
    return float(np.sqrt(eval_mse(y_true, y_prob)))


# name: (function, whether larger is better)
SUPPORT_METRICS: dict[str, Metric] = {
    "loss": (eval_loss, False),
    "avg_loss": (eval_avg_loss, False),
    "total": (eval_total, False),
    "correct": (eval_correct, True),
    "acc": (eval_acc, True),
    "f1": (eval_f1, True),
    "mse": (eval_mse, False),
    "rmse": (eval_rmse, False),
}


class MetricCalculator:
    """Computes loss, average loss, total, and the metrics asked for."""

    def __init__(self, eval_metric: str | Iterable[str]) -> None:
        asked = (
            {eval_metric} if isinstance(eval_metric, str) else set(eval_metric)
        )
        asked |= {"loss", "avg_loss", "total"}
        self.eval_metric: dict[str, Metric] = {
            name: SUPPORT_METRICS[name]
            for name in sorted(asked)
            if name in SUPPORT_METRICS
        }
        self.eval_metric |= get_metric(asked - set(SUPPORT_METRICS))

    def eval(self, ctx: Any) -> dict[str, float]:
        """``{<split>_<metric>: value}``."""
        y_true, y_pred, y_prob = self._parse(ctx)
        return {
            f"{ctx.cur_split}_{name}": function(
                ctx=ctx,
                y_true=y_true,
                y_pred=y_pred,
                y_prob=y_prob,
                metric=name,
            )
            for name, (function, _) in self.eval_metric.items()
        }

    @staticmethod
    def _parse(ctx: Any) -> tuple[Any, Any, Any]:
        """Labels, predicted classes (n x 1 each) and model outputs."""
        y_true, y_prob = np.asarray(ctx.ys_true), np.asarray(ctx.ys_prob)
        if "regression" in ctx.cfg.model.task.lower():
            return y_true, None, y_prob
        if y_true.ndim == 1:
            y_true = y_true[:, None]
        if y_prob.ndim == 2:
            y_prob = y_prob[:, :, None]
        return y_true, np.argmax(y_prob, axis=1), y_prob
