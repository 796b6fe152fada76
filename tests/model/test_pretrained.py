"""The task decides what a checkpoint's head is, whatever it was made for."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from fs_plugins.errors import UserError
from fs_plugins.model.head import modules_of

KEY = "model__type"


@pytest.fixture
def checkpoint(toy_model, tmp_path):
    """The toy model with a head for some labels, in a folder of its own."""

    def make(
        labels=None, problem=None, cls=AutoModelForSequenceClassification
    ):
        folder = tmp_path / "checkpoint"
        shutil.copytree(toy_model, folder)
        options = {}
        if labels is not None:
            options["id2label"] = dict(enumerate(labels))
            options["label2id"] = {n: i for i, n in enumerate(labels)}
            options["num_labels"] = len(labels)
            options["ignore_mismatched_sizes"] = True
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, **options
        )
        if problem:
            model.config.problem_type = problem
        model.save_pretrained(folder)
        return folder

    return make


def head_of(runner):
    (weight,) = (
        value
        for name, value in runner.server.model.state_dict().items()
        if name.endswith("classifier.modules_to_save.default.weight")
    )
    return weight


def saved_head(folder):
    return load_file(folder / "model.safetensors")["classifier.weight"]


@pytest.mark.parametrize("labels", [["NEGATIVE", "Positive"], None])
def test_a_head_of_the_task_is_where_training_starts(lab, checkpoint, labels):
    folder = checkpoint(labels)
    runner = lab.runner(model__type=f"{folder}@huggingface_llm")
    assert torch.equal(head_of(runner), saved_head(folder))


def test_a_head_with_the_classes_in_another_order_is_brought_into_ours(
    lab, checkpoint
):
    folder = checkpoint(["positive", "negative"])
    runner = lab.runner(model__type=f"{folder}@huggingface_llm")
    assert torch.equal(head_of(runner), saved_head(folder)[[1, 0]])
    config = runner.server.model.model.config
    assert config.id2label == {0: "negative", 1: "positive"}


def test_a_head_of_other_classes_is_drawn_anew_and_it_is_said(
    lab, checkpoint, notes
):
    folder = checkpoint(["joy", "anger"])
    runner = lab.runner(model__type=f"{folder}@huggingface_llm")
    head = head_of(runner)
    assert (head - saved_head(folder)).abs().min() > 1e-4
    assert 0.1 < head.std() < 0.6  # the toy's initializer_range is 0.3
    (said,) = notes
    assert "tells joy, anger apart, not negative, positive" in said


@pytest.mark.parametrize(
    "problem, labels",
    [
        ("multi_label_classification", ["a", "b"]),
        ("multi_label_classification", ["a", "b", "c", "d", "e"]),
        ("regression", ["score"]),
        ("single_label_classification", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_loss_is_the_tasks(lab, checkpoint, problem, labels, batch):
    """Cross-entropy, whatever the checkpoint was trained with."""
    folder = checkpoint(labels, problem)
    runner = lab.runner(
        model__type=f"{folder}@huggingface_llm", dataloader__batch_size=batch
    )
    model = runner.server.model
    inputs = next(iter(runner.data[1]["train"]))
    output = model(**inputs)
    expected = torch.nn.functional.cross_entropy(
        output.logits, inputs["labels"]
    )
    assert output.loss == expected


@pytest.mark.parametrize("problem", ["single_label_classification", None])
def test_scores_need_one_output(lab, checkpoint, tmp_path, problem):
    folder = checkpoint(["a", "b"], problem)
    (tmp_path / "stsb/STS-B").mkdir(parents=True)
    lines = [f"{i}\tw1 w{i % 60}\tw2\t{i % 6}.5" for i in range(40)]
    text = "\n".join(["index\tsentence1\tsentence2\tscore", *lines]) + "\n"
    for stem in ("train", "dev"):
        (tmp_path / f"stsb/STS-B/{stem}.tsv").write_text(text)
    runner = lab.runner(
        model__type=f"{folder}@huggingface_llm",
        data__root=str(tmp_path / "stsb"),
        data__type="stsb@glue",
        eval={
            "freq": 1,
            "metrics": ["mse"],
            "best_res_update_round_wise_key": "val_mse",
        },
    )
    inputs = next(iter(runner.data[1]["train"]))
    output = runner.server.model(**inputs)
    assert output.logits.shape[1] == 1
    mean = (output.logits[:, 0] - inputs["labels"]).square().mean()
    torch.testing.assert_close(output.loss, mean)


def test_a_checkpoint_without_some_of_its_layers_is_refused(lab, checkpoint):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if ".layer.1." not in n}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights .* for bert\.encoder"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


def test_weights_of_another_shape_are_refused(lab, checkpoint):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:50].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="word_embeddings"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


def test_a_language_model_without_its_head_is_refused(
    language_lab, toy_llama, tmp_path
):
    folder = tmp_path / "headless"
    shutil.copytree(toy_llama, folder)
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(toy_llama).save_pretrained(folder)
    with pytest.raises(UserError, match=r"no weights .* for lm_head"):
        language_lab.runner(model__type=f"{folder}@huggingface_llm")


def test_an_adapter_is_no_base_model(lab, toy_model):
    first = lab.run(federate__total_round_num=1)
    folder = f"{first['outdir']}/adapters/client_1"
    with pytest.raises(UserError, match="is an adapter, not a base model"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named(lab, checkpoint, file):
    folder = checkpoint()
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=rf"{file} is a pointer of Git LFS"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_weights_that_are_cut_off_are_one_sentence(lab, checkpoint, size):
    folder = checkpoint()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"model\.type: .* cannot be loaded"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


def test_the_fewest_modules_that_hold_some_parameters():
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=9,
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=4,
        )
    )
    names = {n for n, _ in model.named_parameters()}
    assert modules_of(model, names) == [""]
    assert modules_of(model, set()) == []
    pooler = {n for n in names if "pooler" in n or "classifier" in n}
    assert modules_of(model, pooler) == ["bert.pooler", "classifier"]
    assert modules_of(model, {"classifier.bias"}) == ["classifier"]


def test_config_of_a_merged_model_names_the_classes(lab, fedsa):
    folder = lab.run(federate__total_round_num=1)["outdir"]
    out = lab.folder / "merged"
    words = ["--client", 1, "--merge", "--out", out]
    assert fedsa("export", folder, *words).returncode == 0
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}


@pytest.mark.parametrize(
    "labels, classes, permuted",
    [
        ([">50K", "<=50K"], ("<=50K", ">50K"), True),
        (["+", "-"], ("-", "+"), True),
        (["C++", "C"], ("C", "C++"), True),
        (["Not-Entailed", "entailed"], ("entailed", "not entailed"), True),
        (["1", "0"], ("0", "1"), True),
        (["0", "1"], ("no", "yes"), False),
        (["class_0", "CLASS_1"], ("no", "yes"), False),
        (["LABEL_0", "LABEL_1"], ("no", "yes"), False),
    ],
)
def test_names_of_classes_are_compared_as_a_reader_would(
    lab, checkpoint, registries_as_they_were, labels, classes, permuted
):
    from fs_plugins.data import register_examples
    from fs_plugins.data.examples import Examples

    texts = [(f"w{i} w{i + 1}",) for i in range(40)]
    examples = Examples(texts, [i % 2 for i in range(40)], classes)
    register_examples("own", lambda name, root: (examples, None))
    folder = checkpoint(labels)
    runner = lab.runner(
        model__type=f"{folder}@huggingface_llm", data__type="any@own"
    )
    order = [1, 0] if permuted else [0, 1]
    assert torch.equal(head_of(runner), saved_head(folder)[order])


@pytest.mark.parametrize(
    "missing", ["classifier.bias", "bert.pooler.dense.weight"]
)
def test_a_head_that_lacks_a_tensor_is_brought_into_order_all_the_same(
    lab, checkpoint, missing
):
    folder = checkpoint(["positive", "negative"])
    tensors = load_file(folder / "model.safetensors")
    del tensors[missing]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    runner = lab.runner(model__type=f"{folder}@huggingface_llm")
    assert torch.equal(head_of(runner), saved_head(folder)[[1, 0]])


def test_classes_that_are_numbered_backwards_are_turned_round(lab, checkpoint):
    folder = checkpoint(["LABEL_1", "LABEL_0"])
    runner = lab.runner(model__type=f"{folder}@huggingface_llm")
    assert torch.equal(head_of(runner), saved_head(folder)[[1, 0]])


def test_fewer_layers_than_the_checkpoint_has_are_refused(lab, checkpoint):
    folder = checkpoint()
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="describes 1 such layers only"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


@pytest.mark.parametrize(
    "flag",
    ["output_attentions", "output_hidden_states", "torchscript", "no dict"],
)
def test_what_a_configuration_wants_returned_does_not_matter(
    lab, fedsa, checkpoint, flag
):
    """Neither in the run, nor where its adapter is merged."""
    folder = checkpoint()
    config = json.loads((folder / "config.json").read_text())
    config |= {"return_dict": False} if flag == "no dict" else {flag: True}
    (folder / "config.json").write_text(json.dumps(config))
    run = lab.run(
        model__type=f"{folder}@huggingface_llm", federate__total_round_num=1
    )
    out = lab.folder / "merged"
    words = ["--client", 1, "--merge", "--out", out]
    found = fedsa("export", run["outdir"], *words)
    assert found.returncode == 0, found.stderr


def test_weights_that_are_not_finite_are_told(lab, checkpoint):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.encoder.layer.1.output.dense.bias"][2] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="not a finite number"):
        lab.runner(model__type=f"{folder}@huggingface_llm")
