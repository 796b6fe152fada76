"""From a configuration to the data of every client."""

import json
from pathlib import Path

import numpy as np
import pytest

from fs_plugins.errors import UserError


def test_shards_are_disjoint_and_complete(lab):
    runner = lab.runner(federate__client_num=4)
    for split in ("train", "val", "test"):
        shards = [
            getattr(runner.data[c], f"{split}_data").index
            for c in runner.client
        ]
        whole = getattr(runner.data[0], f"{split}_data").index
        assert sorted(np.concatenate(shards)) == list(whole)


def test_validation_is_cut_from_training_and_dev_is_for_testing(lab):
    runner = lab.runner()
    sizes = [
        len(getattr(runner.data[0], f"{split}_data"))
        for split in ("train", "val", "test")
    ]
    assert sizes == [54, 6, 30]  # of 60 and 30; data.splits[1] is 0.1


def test_label_counts_are_saved_and_true(lab):
    runner = lab.runner()
    file = Path(runner.cfg.outdir) / "label_counts.json"
    counts = json.loads(file.read_text())
    assert counts.keys() == {"1", "2", "3"}
    for client, splits in counts.items():
        for split, by_name in splits.items():
            data = getattr(runner.data[int(client)], f"{split}_data")
            labels = data.tokens.labels[data.index]
            for i, name in enumerate(("negative", "positive")):
                assert by_name.get(name, 0) == int((labels == i).sum())


def shares(runner, split):
    data = [runner.data[c] for c in runner.client]
    parts = [getattr(d, f"{split}_data") for d in data]
    return [float(np.mean(p.tokens.labels[p.index])) for p in parts]


def test_test_shards_follow_training_unless_told_otherwise(lab):
    skewed = {"data__splitter_args": [{"alpha": 0.3}]}
    following = lab.runner(**skewed)
    train, test = shares(following, "train"), shares(following, "test")
    assert np.abs(np.subtract(train, test)).max() < 0.25
    drawn = lab.runner(data__consistent_label_distribution=False, **skewed)
    assert shares(drawn, "train") == train
    assert shares(drawn, "test") != test


def test_regression_has_one_output_and_scores(lab, toy_glue):
    folder = toy_glue / "STS-B"
    folder.mkdir(exist_ok=True)
    lines = ["sentence1\tsentence2\tscore"]
    lines += [f"w{i} w1\tw2 w{i}\t{i % 6 * 0.9:.2f}" for i in range(40)]
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("\n".join(lines))
    runner = lab.runner(
        data__type="stsb@glue",
        eval__metrics=[],
        eval__best_res_update_round_wise_key="val_loss",
        train__optimizer__lr=0.01,
    )
    assert runner.cfg.eval.metrics == ["pearson", "spearman"]
    assert runner.cfg.model.num_labels == 1
    runner.run()
    head = runner.server.parameters.kept
    weight = next(v for n, v in head.items() if n.endswith("weight"))
    assert weight.shape[0] in (1, 16)


def test_data_subsample(lab):
    runner = lab.runner(data__subsample=0.5)
    assert len(runner.data[0].train_data) + len(runner.data[0].val_data) == 30


@pytest.mark.parametrize(
    "splits", [[0.8, 0.2], [1, 0, 0], [0.8, 0.2, 0.2], [0.8, -0.1, 0.3]]
)
def test_bad_shares(lab, splits):
    with pytest.raises(UserError, match=r"data\.splits"):
        lab.runner(data__splits=splits)


def test_more_clients_than_examples_to_validate_on(lab):
    with pytest.raises(UserError, match="more than the 6 validation"):
        lab.runner(federate__client_num=7)
