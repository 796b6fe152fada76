"""Means over seeds, and which differences are more than noise."""

import numpy as np
from helpers import finished_run
from scipy.stats import ttest_rel

from fs_plugins.report.over_seeds import seeds_tables


def of_seed(name, seed, accuracy, **others):
    one = finished_run(name, {"test_acc": accuracy, **others})
    one.summary["seed"] = seed
    return one


def cells_of(table):
    """By run and column."""
    return {
        row[0]: dict(zip(table.columns, row, strict=True))
        for row in table.rows
    }


def test_one_seed_has_no_spread():
    assert seeds_tables([of_seed("a", 0, 0.5), of_seed("b", 1, 0.5)]) == []


def test_differences_are_paired_over_seeds():
    """b is always 0.02 better, though seeds differ by far more; c is not."""
    runs = [
        of_seed(name, seed, base + better)
        for name, betters in (
            ("a", [0.0, 0.0, 0.0]),
            ("b", [0.019, 0.021, 0.02]),
            ("c", [0.05, -0.04, 0.01]),
        )
        for (seed, base), better in zip(
            [(0, 0.5), (1, 0.8), (2, 0.65)], betters, strict=True
        )
    ]
    means, differences = map(cells_of, seeds_tables(runs))
    assert means["a"]["seeds"] == "3"
    assert means["a"]["weighted"] == "0.6500 ± 0.1500"
    assert differences.keys() == {"b", "c"}
    interval = ttest_rel([0.519, 0.821, 0.67], [0.5, 0.8, 0.65])
    low, high = interval.confidence_interval(0.95)
    half = (high - low) / 2
    assert differences["b"]["weighted"] == (
        f"+0.0200 ± {half:.4f}: beyond noise"
    )
    assert differences["c"]["weighted"].endswith("within noise")


def test_every_measure_has_its_own_mean_and_verdict():
    """The worst client can lose where the average gains."""
    runs = []
    for name, better in (("a", 0.0), ("b", 0.1)):
        for seed, noise in ((0, 0.0), (1, 0.01), (2, -0.01)):
            one = of_seed(name, seed, 0.5 + better, union_acc=0.3 + noise)
            last = one.summary["results"]["last"]
            last["mean"] = {"test_acc": 0.4 + noise, "union_acc": 0.2 + noise}
            last["clients"] = {
                "1": {"test_acc": 0.9},
                "2": {"test_acc": 0.35 - better + noise * (1 + better)},
            }
            runs.append(one)
    means, differences = map(cells_of, seeds_tables(runs))
    assert means["b"] == {
        "run": "b",
        "seeds": "3",
        "weighted": "0.6000 ± 0.0000",
        "mean over clients": "0.4000 ± 0.0100",
        "worst client": "0.2500 ± 0.0110",
        "on everyone's test": "0.2000 ± 0.0100",
    }
    assert differences["b"] == {
        "run": "b",
        "weighted": "+0.1000 ± 0.0000: beyond noise",
        "mean over clients": "+0.0000 ± 0.0000: within noise",
        "worst client": "-0.1000 ± 0.0025: beyond noise",
        "on everyone's test": "+0.0000 ± 0.0000: within noise",
    }


def test_of_a_loss_the_worst_client_has_the_highest():
    runs = [of_seed("a", seed, 0.0) for seed in (0, 1)]
    for run in runs:
        last = run.summary["results"]["last"]
        last["weighted"] = last["mean"] = {"test_avg_loss": 0.5}
        last["clients"] = {
            "1": {"test_avg_loss": 0.2},
            "2": {"test_avg_loss": 0.8},
        }
    (means,) = map(cells_of, seeds_tables(runs))
    assert means["a"]["worst client"] == "0.8000 ± 0.0000"


def test_seeds_that_runs_do_not_have_in_common():
    runs = [of_seed("a", 0, 0.5), of_seed("a", 1, 0.6), of_seed("b", 2, 0.9)]
    means, differences = map(cells_of, seeds_tables(runs))
    deviation = np.std([0.5, 0.6], ddof=1)
    assert means["a"]["weighted"] == f"0.5500 ± {deviation:.4f}"
    assert means["b"]["seeds"] == "1" and means["b"]["weighted"] == "0.9000"
    assert differences["b"]["weighted"] == "too few seeds in common"
    assert means["b"]["worst client"] == "-", "no client's own is known"
    assert differences["b"]["worst client"] == "-"


def test_two_seeds_are_too_few_for_a_verdict():
    """The same difference twice would look like one without any noise."""
    runs = [
        of_seed(name, seed, base + better)
        for name, better in (("a", 0.0), ("b", 0.25))
        for seed, base in ((0, 0.25), (1, 0.5))
    ]
    _, differences = map(cells_of, seeds_tables(runs))
    assert differences["b"]["weighted"] == "too few seeds in common"
