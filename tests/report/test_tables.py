"""What the tables of a comparison show."""

from pathlib import Path

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.policy import METHODS
from fs_plugins.report.tables import (
    adapters_table,
    aggregators_table,
    comparison_table,
    experiments_table,
    methods_table,
)


def run(name, weighted):
    last = {"round": 2, "weighted": weighted, "mean": weighted}
    return {
        "name": name,
        "summary": {
            "seed": 0,
            "results": {"last": last, "best": last},
            "communication": {"uplink_bytes": 1500, "downlink_bytes": 10},
            "time": {"total_s": 3.2},
        },
    }


def test_a_classifier_is_shown_by_its_accuracy():
    table = comparison_table(
        [run("a", {"test_acc": 0.5, "test_avg_loss": 0.25, "test_total": 9})]
    )
    assert "test loss, last round" not in table.columns
    assert table.rows[0][:2] == ("a", "0.5000 | 0.5000")
    assert table.rows[0][-3:] == ("1.5 kB", "10 B", "3")


def test_a_language_model_is_shown_by_its_answers_and_its_loss():
    table = comparison_table(
        [
            run("a", {"test_exact_match": 0.5, "test_avg_loss": 0.25}),
            run("b", {"test_avg_loss": 0.75}),
        ]
    )
    place = list(table.columns).index("test loss, last round")
    assert table.rows[0][1] == "0.5000 | 0.5000"
    assert table.rows[0][place] == "0.2500 | 0.2500"
    assert table.rows[1][place] == "0.7500 | 0.7500"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_adapters_with_their_sides():
    rows = {row[0]: row[1:] for row in adapters_table().rows}
    assert rows["vera"] == ("vera_lambda_d", "vera_lambda_b")
    assert rows["rslora"] == rows["lora"]


def test_experiments_by_their_first_sentence():
    folder = Path(__file__).parents[2] / "yaml_configs"
    rows = dict(experiments_table(folder).rows)
    assert rows["demo/fedsa.yaml"].startswith("FedSA-LoRA: all-MiniLM")
    assert rows["+ffa"].startswith("FFA-LoRA: freeze A")
    assert "+vera (demo)" in rows and "+vera" in rows
    assert all(text.endswith(".") for text in rows.values())


def test_methods_by_round_and_aggregators_are_listed():
    rows = {row[0]: row[1:] for row in methods_table().rows}
    assert rows.keys() == METHODS.keys()
    assert rows["fedsa"][:3] == ("share", "keep", "keep")
    assert rows["rolora"][0] == "odd rounds freeze, even share"
    rules = dict(aggregators_table().rows)
    assert rules.keys() == AGGREGATORS.keys() and all(rules.values())
    assert "median" in rules["median"]
