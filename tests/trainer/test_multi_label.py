"""Texts with several labels, and standardised scores: losses and metrics.

The oracles are NumPy in float64, and transformers and PEFT by themselves.
"""

import csv
import json
import random
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from helpers import assert_near, in_float64
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, pipeline

from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.trainer.metrics import METRICS, f1_of_labels

WORDS = [f"w{i}" for i in range(60)]
NAMES = ("billing", "sales", "technical")


def rows_of(seed, number=60):
    rng = random.Random(seed)
    rows = []
    for i in range(number):
        labels = [k for k in range(3) if rng.random() < 0.4]
        words = [
            w for k in labels for w in rng.choices(WORDS[20 * k :][:20], k=3)
        ]
        rows.append(
            {
                "text": " ".join(words + rng.choices(WORDS, k=2)),
                "topics": ";".join(NAMES[k] for k in labels),
                "score": repr(1e9 + 7 * len(labels) + rng.random()),
                "region": ["north", "south"][i % 2],
            }
        )
    return rows


def write(file, rows):
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("train.csv", rows_of(1))
    write("test.csv", rows_of(2, 30))
    return {
        "data__type": "train.csv@text",
        "data__splitter": "column",
        "data__splitter_args": [],
        "federate__client_num": 0,
        "federate__total_round_num": 2,
        "fedsa__data": {
            "text": ["text"],
            "labels": "topics",
            "label_separator": ";",
            "client": "region",
            "test": "test.csv",
        },
        "eval__metrics": [],
        "eval__best_res_update_round_wise_key": "val_micro_f1",
    }


def as_scores(options):
    """The options, for a regression."""
    data = options["fedsa__data"]
    kept = {k: data[k] for k in ("text", "client", "test")}
    return {
        **options,
        "fedsa__data": {**kept, "target": "score"},
        "eval__metrics": ["mse", "rmse", "pearson"],
        "eval__best_res_update_round_wise_key": "val_mse",
    }


def truth_of(rows):
    return np.array(
        [[n in row["topics"].split(";") for n in NAMES] for row in rows], float
    )


def entropy(logits, truth):
    """The mean binary cross-entropy, in float64."""
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0, logits) - truth * logits))


def f1s(truth, found):
    """Micro F1, and the F1 of each label, by counting."""

    def f1(t, p):
        hit, miss = np.sum(t * p), np.sum(t != p)
        return 2 * hit / (2 * hit + miss) if hit else 0.0

    each = [f1(t, p) for t, p in zip(truth.T, found.T, strict=True)]
    return f1(truth.ravel(), found.ravel()), each


def logits_by(model, tokenizer, rows):
    """A model's logits for texts, one after the other."""
    model = model.eval()
    with torch.inference_mode():
        return torch.cat(
            [
                model(**tokenizer(row["text"], return_tensors="pt")).logits
                for row in rows
            ]
        ).double()


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.booleans(), min_size=n, max_size=n),
            min_size=2,
            max_size=2,
        )
    ),
    st.integers(1, 3),
)
def test_the_metrics_count(flags, labels):
    truth, found = (
        np.array((row * labels)[: len(row) // labels * labels] or [0] * labels,
                 float).reshape(-1, labels)
        for row in flags
    )  # fmt: skip
    if labels == 1:  # a run has two classes or more
        truth, found = (np.hstack([x, x]) for x in (truth, found))
    micro, each = f1s(truth, found)
    both = {"y_true": truth, "y_pred": found}
    assert METRICS["micro_f1"](**both) == pytest.approx(micro)
    assert METRICS["macro_f1"](**both) == pytest.approx(np.mean(each))
    assert f1_of_labels(truth, found) == pytest.approx(each)
    exact = np.mean(
        [(t == p).all() for t, p in zip(truth, found, strict=True)]
    )
    assert METRICS["subset_acc"](**both) == pytest.approx(exact)


def test_a_step_is_that_of_plain_peft(lab, options):
    """Binary cross-entropy by transformers, one step of SGD, in float64."""
    runner = in_float64(lab).runner(
        **options
        | {
            "federate__total_round_num": 1,
            "train__local_update_steps": 1,
            "train__optimizer": {"type": "SGD", "lr": 0.5},
            "dataloader__batch_size": 100,
            "dataloader__shuffle": False,
        }
    )
    client = runner.client[1]
    plain = client.model.model
    assert plain.config.problem_type == "multi_label_classification"
    trained = {n: p for n, p in plain.named_parameters() if p.requires_grad}
    data = runner.data[1]
    tokens, index = data.train_data.tokens, data.train_data.index
    batch = data.collator(tokens)(index.tolist())
    labels = batch.pop("labels").double()
    logits = plain(**batch).logits
    loss = (logits.exp().log1p() - labels * logits).mean()
    grads = torch.autograd.grad(loss, [*trained.values()])
    expected = {
        name: (value - 0.5 * grad).detach().clone()
        for (name, value), grad in zip(trained.items(), grads, strict=True)
    }
    client.state = 0
    with runner.server.parameters.loaded():
        client.trainer.train()
        found = {n: p.detach().clone() for n, p in plain.named_parameters()}
    scale = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        assert_near(found[name], value, scale)
    assert any(bool(grad.abs().max() > 1e-3) for grad in grads)


@pytest.mark.parametrize("half", [False, True])
def test_a_run_and_plain_libraries_agree(lab, options, half):
    """The run's results are those of the saved adapter, loaded by PEFT."""
    more = {"train__is_enable_half": half}
    folder = Path(lab.run(**options | more)["outdir"])
    run = load_run(folder)
    test = rows_of(2, 30)
    for ID, name in enumerate(("north", "south"), 1):
        rows = [row for row in test if row["region"] == name]
        adapter = folder / "adapters" / name
        model = peft.AutoPeftModelForSequenceClassification.from_pretrained(
            adapter
        )
        tokenizer = AutoTokenizer.from_pretrained(adapter)
        config = model.get_base_model().config
        assert config.problem_type == "multi_label_classification"
        assert config.id2label == dict(enumerate(NAMES))
        logits = logits_by(model, tokenizer, rows).numpy()
        truth = truth_of(rows)
        results = run.client(ID).results
        near = {"abs": 2e-2 if half else 1e-5}
        assert results["test_avg_loss"] == pytest.approx(
            entropy(logits, truth), **near
        )
        if half:  # a logit near 0 may change its sign
            continue
        micro, each = f1s(truth, logits > 0)
        assert results["test_micro_f1"] == pytest.approx(micro)
        assert results["test_macro_f1"] == pytest.approx(np.mean(each))
        exact = np.mean([*map(np.array_equal, truth, logits > 0)])
        assert results["test_subset_acc"] == pytest.approx(exact)
        said = json.loads((adapter / "fs_plugins.json").read_text())
        assert said["problem_type"] == "multi_label_classification"
        assert said["id2label"] == dict(zip("012", NAMES, strict=True))
        # A pipeline of transformers reads the problem type, too.
        ask = pipeline(
            "text-classification",
            model=model.merge_and_unload(),
            tokenizer=tokenizer,
            top_k=None,
        )
        answers = {a["label"]: a["score"] for a in ask([rows[0]["text"]])[0]}
        likely = 1 / (1 + np.exp(-logits[0]))
        assert [answers[n] for n in NAMES] == pytest.approx(likely, abs=1e-5)


def test_a_checkpoint_of_the_same_classes(lab, options):
    """Only the problem type differs, and an adapter's base model has it."""
    rows = [
        {**row, "topics": ("negative", "negative;positive", "")[i % 3]}
        for i, row in enumerate(rows_of(1))
    ]
    write("train.csv", rows)
    options["fedsa__data"]["test"] = ""
    options["federate__total_round_num"] = 1
    adapter = Path(lab.run(**options)["outdir"]) / "adapters" / "north"
    load = peft.AutoPeftModelForSequenceClassification.from_pretrained
    config = load(adapter).get_base_model().config
    assert config.id2label == {0: "negative", 1: "positive"}
    assert config.problem_type == "multi_label_classification"


def test_a_model_that_returns_logits_only():
    """The loss of a given model is the same as that of transformers."""
    from fs_plugins.model.given import with_loss

    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(9, 3)) * 50, rng.random((9, 3)) > 0.5
    output = with_loss(
        torch.from_numpy(logits),
        torch.from_numpy(truth.astype(np.float32)),
        "MultiLabelClassification",
        3,
    )
    assert float(output.loss) == pytest.approx(entropy(logits, truth))


@pytest.mark.parametrize(
    "metric", ["acc", "f1", "correct", "binary_f1", "matthews", "mse"]
)
def test_metrics_of_one_class_are_refused(lab, options, metric):
    with pytest.raises(UserError, match=f"'{metric}' .*take micro_f1"):
        lab.runner(**options | {"eval__metrics": [metric]})


def test_metrics_of_several_labels_are_refused_elsewhere(lab, options):
    with pytest.raises(UserError, match="'micro_f1' compares sets of labels"):
        lab.runner(eval__metrics=["micro_f1"])
    scores = as_scores(options) | {"eval__metrics": ["subset_acc"]}
    with pytest.raises(UserError, match="'subset_acc' compares sets of"):
        lab.runner(**scores)


@pytest.mark.parametrize(
    "splitter, args",
    [("iid", []), ("power_law", [{"exponent": 1.0}]), ("length", [])],
)
def test_splitters_that_need_no_class(lab, options, splitter, args):
    more = {
        "data__splitter": splitter,
        "data__splitter_args": args,
        "federate__client_num": 3,
    }
    options["fedsa__data"] |= {"client": ""}
    runner = lab.runner(**options | more)
    shares = [[*runner.data[ID].train_data.index] for ID in (1, 2, 3)]
    whole = len(runner.data[0].train_data)
    assert sorted(i for share in shares for i in share) == [*range(whole)]


@pytest.mark.parametrize("splitter", ["lda", "meta", "shards", "pathological"])
def test_splitters_by_class_are_refused(lab, options, splitter):
    options["fedsa__data"] |= {"client": ""}
    more = {"data__splitter": splitter, "federate__client_num": 3}
    with pytest.raises(UserError, match=r"data.splitter: .*power_law"):
        lab.runner(**options | more)


# Standardised scores


def test_scores_are_learned_standardised_and_told_in_their_unit(lab, options):
    """Scores near 1e9 would lose their digits in float32."""
    options = as_scores(options)
    options["fedsa__data"]["standardise"] = True
    runner = lab.runner(**options)
    own = [runner.data[ID].train_data for ID in (1, 2)]
    test = runner.data[1].test_data
    scores = np.concatenate([d.tokens.labels[d.index] for d in own])
    mean, deviation = runner.cfg.fedsa.data.standardise
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert deviation == pytest.approx(np.std(scores), rel=1e-9)
    client = runner.client[1]
    client.trainer.ctx.cur_mode = "test"
    seen = []
    forward = client.model.model.forward

    def watched(*args, **inputs):
        seen.append(inputs["labels"].clone())
        return forward(*args, **inputs)

    client.model.model.forward = watched
    with runner.server.parameters.loaded():
        results = client.trainer.evaluate("test")
    labels = torch.cat(seen).double().numpy()
    raw = test.tokens.labels[test.index]
    assert labels == pytest.approx((raw - mean) / deviation, abs=1e-6)
    # The loss is that of what is learned; metrics have the scores' unit.
    assert results["test_mse"] == pytest.approx(
        results["test_avg_loss"] * deviation**2, rel=1e-4
    )


def test_a_run_of_standardised_scores_and_plain_libraries_agree(lab, options):
    options = as_scores(options)
    options["fedsa__data"]["standardise"] = True
    options["train__optimizer"] = {"type": "AdamW", "lr": 0.01}
    folder = Path(lab.run(**options)["outdir"])
    run = load_run(folder)
    adapter = folder / "adapters" / "north"
    said = json.loads((adapter / "fs_plugins.json").read_text())
    mean, deviation = said["standardise"]
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        adapter
    )
    rows = [row for row in rows_of(2, 30) if row["region"] == "north"]
    logits = logits_by(model, AutoTokenizer.from_pretrained(adapter), rows)
    found = logits[:, 0].numpy() * deviation + mean
    truth = np.array([float(row["score"]) for row in rows])
    results = run.client(1).results
    mse = np.mean((found - truth) ** 2)
    assert results["test_mse"] == pytest.approx(mse, rel=1e-4)
    assert results["test_rmse"] == pytest.approx(mse**0.5, rel=1e-4)
    centred = [x - x.mean() for x in (found, truth)]
    pearson = np.prod(centred, axis=0).sum() / np.prod(
        [np.sqrt((x**2).sum()) for x in centred]
    )
    assert results["test_pearson"] == pytest.approx(pearson, rel=1e-4)
    assert mse < 2 * deviation**2


def test_the_numbers_may_be_given(lab, options):
    """They are used as they are, and the split does not depend on them."""
    options = as_scores(options)
    plain = lab.runner(**options)
    options["fedsa__data"]["standardise"] = [1e9, 5]
    runner = lab.runner(**options)
    assert runner.cfg.fedsa.data.standardise == [1e9, 5.0]
    for ID in (1, 2):
        one, other = (r.data[ID].train_data.index for r in (plain, runner))
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"standardise": "mean"}, "true, false, or .mean, standard deviation"),
        ({"standardise": [1]}, "true, false, or .mean, standard deviation"),
        ({"standardise": [0, 0]}, "is not a number above 0"),
        ({"standardise": [0, -1]}, "is not a number above 0"),
        ({"standardise": ["a", 1]}, "'a' is not a number"),
        ({"standardise": [float("nan"), 1]}, "is not a number"),
        ({"standardise": True, "target": "same"}, "all 48 scores .* are 2;"),
        ({"standardise": True, "target": "huge"}, "are too large or too clo"),
        (
            {"standardise": True, "target": "", "label": "region"},
            "standardise: it is for scores",
        ),
    ],
)
def test_what_cannot_be_standardised(lab, options, changes, said):
    rows = [
        {**row, "same": 2, "huge": (-1) ** (i // 2) * 1.7e308}
        for i, row in enumerate(rows_of(1))
    ]
    write("train.csv", rows)
    options = as_scores(options)
    options["fedsa__data"] |= {"test": "", **changes}
    with pytest.raises(UserError, match=said) as caught:
        lab.runner(**options | {"eval__metrics": []})
    assert "fedsa.data.standardise" in str(caught.value)
