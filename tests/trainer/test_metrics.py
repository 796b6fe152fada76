"""Metrics, against scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from fs_plugins.trainer.metrics import METRICS

pairs = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30
)
scores = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30
)


@given(pairs)
def test_classification(found):
    y_true, y_pred = (
        np.array(column)[:, None] for column in zip(*found, strict=True)
    )
    assert METRICS["binary_f1"](y_true=y_true, y_pred=y_pred) == (
        pytest.approx(f1_score(y_true, y_pred, zero_division=0.0))
    )
    assert METRICS["matthews"](y_true=y_true, y_pred=y_pred) == (
        pytest.approx(matthews_corrcoef(y_true.ravel(), y_pred.ravel()))
    )


@settings(deadline=None)
@given(scores)
def test_correlations(found):
    x, y = (np.array(column, float) for column in zip(*found, strict=True))
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    for name, oracle in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
    ):
        value = METRICS[name](y_true=x, y_prob=y)
        expected = 0.0 if constant else oracle(x, y).statistic
        assert value == pytest.approx(expected, abs=1e-9)


def test_the_host_computes_them(lab):
    summary = lab.run(eval__metrics=["acc", "binary_f1", "matthews"])
    results = summary["results"]["last"]["clients"]["1"]
    for metric in ("acc", "binary_f1", "matthews"):
        assert f"test_{metric}" in results and f"val_{metric}" in results
