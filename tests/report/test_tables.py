"""What the tables of a comparison show."""

from pathlib import Path

import numpy as np
from helpers import finished_run as run

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.commands.listings import (
    adapters_table,
    aggregators_table,
    experiments_table,
    methods_table,
)
from fs_plugins.policy import METHODS
from fs_plugins.report.comparison_tables import comparison_table


def test_a_classifier_is_shown_by_its_accuracy():
    table = comparison_table(
        [run("a", {"test_acc": 0.5, "test_avg_loss": 0.25, "test_total": 9})]
    )
    assert "test loss, last round" not in table.columns
    assert table.rows[0][:2] == ["a", "0.5000 | 0.5000"]
    assert table.rows[0][-3:] == ["1.5 kB", "10 B", "3"]


def test_how_even_the_clients_are_and_how_far_their_models_reach():
    own = {"1": 0.9, "2": 0.5, "3": 0.7}
    one = run("a", {"test_acc": 0.7, "union_acc": 0.6})
    last = one.summary["results"]["last"]
    last["clients"] = {ID: {"test_acc": acc} for ID, acc in own.items()}
    table = comparison_table([one, run("b", {"test_acc": 0.5})])
    cells = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert cells[0]["worst client"] == "0.5000"
    assert cells[0]["spread"] == f"{np.std([0.9, 0.5, 0.7]):.4f}"
    assert cells[0]["on everyone's test"] == "0.6000 | 0.6000"
    assert cells[1]["worst client"] == cells[1]["spread"] == "-"
    assert cells[1]["on everyone's test"] == "-"


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
    assert rows.keys() == {*METHODS, "FedAvg"}
    assert rows["FedAvg"][:3] == ("share", "share", "share")
    assert rows["fedsa"][:3] == ("share", "keep", "keep")
    assert rows["rolora"][0] == "odd rounds freeze, even share"
    rows = aggregators_table().rows
    rules = {name: rule for name, rule, _ in rows}
    assert all(source for *_, source in rows)
    assert rules.keys() == AGGREGATORS.keys() and all(rules.values())
    assert "median" in rules["median"]
