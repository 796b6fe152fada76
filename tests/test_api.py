"""The Python API does what the command does, and says nothing meanwhile."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import processes
import pytest
import torch
import yaml
from helpers import everything_of

import fs_plugins
from fs_plugins import UserError, experiment

DOCS = Path(__file__).parents[1] / "docs"
CONFIGS = DOCS.parent / "yaml_configs"
TEXTS = [" ".join(f"w{(7 * i + j) % 60}" for j in range(4)) for i in range(60)]


@pytest.fixture
def lab(lab):
    """Two rounds are enough here."""
    lab.settings["federate"]["total_round_num"] = 2
    return lab


def test_importing_it_loads_nothing():
    """Neither the host nor torch, until somebody asks for it."""
    code = (
        "import fs_plugins, sys; dir(fs_plugins);"
        "print([m for m in ('torch', 'federatedscope') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_importing_it_registers(bare_python):
    """With the host, whenever that is imported."""
    code = (
        "import fs_plugins;"
        "from federatedscope.core.configs.config import global_cfg;"
        "import federatedscope.register as r;"
        "print('fedsa' in global_cfg, 'fedsa' in r.worker_dict)"
    )
    result = bare_python("-c", code)
    assert result.stdout == "True True\n", result.stderr


@pytest.mark.parametrize("name", fs_plugins.__all__)
def test_every_name_is_there(name):
    assert getattr(fs_plugins, name) is not None and name in dir(fs_plugins)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        fs_plugins.runn  # noqa: B018


def test_a_run_is_that_of_the_command(lab, capfd):
    """Same results from a file, a mapping and a configuration; in silence."""
    file = lab.file(expname="command")
    summary = experiment.run(file, ["seed", "3"], quiet=True)
    expected = Path(summary["outdir"])
    tree = yaml.safe_load(file.read_text())
    cfg = fs_plugins.load_config(file)
    capfd.readouterr()
    for number, given in enumerate((file, tree, cfg)):
        run = fs_plugins.run(given, seed=3, expname=f"run_{number}")
        assert everything_of(run.folder) == everything_of(expected)
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_if_it_is_asked_for(lab, capfd):
    fs_plugins.run(lab.file(), progress=True)
    assert "round 1/2" in capfd.readouterr().out


def test_what_a_run_tells(lab):
    run = fs_plugins.run(lab.file())
    again = fs_plugins.load_run(run.folder)
    assert again.summary == run.summary and again.clients == [1, 2, 3]
    rows = run.metrics
    assert len(rows) == len(run.curve)
    assert list(rows["test_acc"])[-1] == run.last["weighted"]["test_acc"]
    assert (run.client(2).adapter / "adapter_config.json").is_file()
    assert repr(run).startswith("<Run 'fedsa_") and len(repr(run)) < 300
    assert run.client("2").results == run.client(2).results
    for wrong in (4, "four", True, 1.0):
        with pytest.raises(UserError, match="there is no client"):
            run.client(wrong)
    model = run.client(2).model()
    assert type(model).__name__ == "PeftModelForSequenceClassification"


def test_runs_side_by_side(lab, tmp_path):
    one = fs_plugins.run(lab.file(), expname="one")
    other = fs_plugins.run(lab.file(), expname="other", federate__method="ffa")
    found = fs_plugins.compare(one.folder, other, out=tmp_path / "report")
    assert list(found.results["run"]) == ["one", "other"]
    assert str(found) == str(one.compare(other))
    assert isinstance(found.runs[0], fs_plugins.Run)
    with pytest.raises(UserError, match="is given twice"):
        one.compare(other, one.folder)
    with pytest.raises(UserError, match="is not the folder of a run"):
        fs_plugins.compare([one, other])
    assert "other" in str(found)
    assert (tmp_path / "report" / "report.html").is_file()
    with pytest.raises(UserError, match="hand over at least one run"):
        fs_plugins.compare()


def test_a_run_goes_on(lab):
    """A listener ends it after its first round; then it is resumed."""
    whole = fs_plugins.run(lab.file(), expname="whole")

    class End(fs_plugins.Listener):
        def round_begins(self, rnd, clients):
            if rnd == 2:
                raise fs_plugins.RunError("enough")

    with pytest.raises(fs_plugins.RunError, match=r"enough.*goes on"):
        fs_plugins.run(lab.file(), expname="part", listeners=[End()])
    folder = whole.folder.with_name("part")
    run = fs_plugins.resume(folder)
    assert everything_of(run.folder) == everything_of(whole.folder)
    with pytest.raises(UserError, match="has finished"):
        fs_plugins.resume(folder)


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"federate__method": "fedsaa"}, "did you mean 'fedsa'"),
        ({"federate__methd": "fedsa"}, "federate.methd"),
        ({"seed": "many"}, "seed"),
        ({"model": "bert-base-cased"}, "str is no torch.nn.Module"),
        ({"tokenizer": object()}, "goes with model="),
        ({"data": []}, "data: .*it is empty"),
        ({"listeners": fs_plugins.Listener()}, "hand over a list"),
        ({"listeners": None}, "hand over a list"),
        ({"listeners": [fs_plugins.Listener]}, "no object of a subclass"),
        (
            {"model": torch.nn.Linear(2, 2), "tokenizer": "bert"},
            "'bert' is no tokenizer",
        ),
        ({"model.type": "given@huggingface_llm"}, "hand it to fs_plugins.run"),
        ({"data.type": "x@given"}, "hand them to fs_plugins.run"),
    ],
)
def test_a_mistake_is_one_sentence(lab, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        fs_plugins.run(lab.file(), **overrides)
    assert "\n" not in str(caught.value)


# Data of the user's own


def rows(**columns):
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]


def labelled(names, labels):
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=names)
    )
    return datasets.Dataset.from_dict(
        {"text": TEXTS, "label": labels}, features=features
    )


CLASSES = ["ham", "spam"]
NAMED = rows(text=TEXTS, label=[CLASSES[i % 2] for i in range(60)])
DATA = {
    "names": NAMED,
    "numbers": rows(text=TEXTS, label=[i % 2 for i in range(60)]),
    "pairs": rows(
        text=TEXTS, text_pair=TEXTS[::-1], label=[i % 2 for i in range(60)]
    ),
    "with a test set": {"train": NAMED[:40], "test": NAMED[40:]},
}


@pytest.mark.parametrize("kind", ["list", "datasets", "pandas"])
@pytest.mark.parametrize("name", DATA)
def test_data_of_ones_own(lab, name, kind):
    import datasets
    import pandas

    make = {
        "list": list,
        "datasets": datasets.Dataset.from_list,
        "pandas": pandas.DataFrame,
    }[kind]
    own = DATA[name]
    data = (
        {part: make(own[part]) for part in own}
        if isinstance(own, dict)
        else make(own)
    )
    run = fs_plugins.run(lab.file(), data=data)
    counts = run.labels["1"]["train"]
    classes = {"0", "1"} if name in ("numbers", "pairs") else {"ham", "spam"}
    assert {*counts} == classes
    if name == "with a test set":
        assert run.last["weighted"]["test_total"] == 20


def test_classes_are_those_of_their_names(lab):
    """Whatever numbers the test set, or its words, give them."""
    zeros, ones = [i % 2 for i in range(60)], [1 - i % 2 for i in range(60)]
    words = rows(text=TEXTS, label=["ab"[i] for i in zeros])
    Examples = fs_plugins.Examples
    pairs = [(text,) for text in TEXTS]
    curves = [
        fs_plugins.run(lab.file(), data={"train": train, "test": test}).curve
        for train, test in (
            (labelled(["a", "b"], zeros), labelled(["a", "b"], zeros)),
            (labelled(["a", "b"], zeros), labelled(["b", "a"], ones)),
            (words, labelled(["b", "a"], ones)),
            (labelled(["a", "b"], zeros), words),
            (words, Examples(pairs, ones, ("b", "a"))),
        )
    ]
    assert all(curve == curves[0] for curve in curves)


def test_rows_may_come_one_by_one(lab):
    import datasets
    import pandas

    stream = datasets.IterableDataset.from_generator(lambda: iter(NAMED))
    frame = pandas.DataFrame(NAMED, index=range(100, 160))
    flags = rows(text=TEXTS, label=[bool(i % 2) for i in range(60)])
    for data in (stream, frame, flags):
        run = fs_plugins.run(lab.file(), data=data)
        assert len(run.labels["1"]["train"]) == 2


def test_columns_of_one_name_are_refused(lab):
    import pandas

    frame = pandas.DataFrame(
        [("a", "b", 0), ("c", "d", 1)], columns=["text", "text", "label"]
    )
    with pytest.raises(UserError, match="have the same name"):
        fs_plugins.run(lab.file(), data=frame)


def test_scores_are_a_regression(lab):
    data = rows(text=TEXTS, label=[i / 60 if i % 2 else i for i in range(60)])
    run = fs_plugins.run(
        lab.file(),
        data=data,
        eval__metrics=["mse"],
        eval__best_res_update_round_wise_key="val_mse",
    )
    assert run.metric == "test_mse"


def test_instructions_of_ones_own(language_lab):
    for columns in (("instruction", "output"), ("prompt", "completion")):
        data = [
            {columns[0]: f"{i}+1?", columns[1]: f"#### {i + 1}"}
            for i in range(60)
        ]
        run = fs_plugins.run(
            language_lab.file(), data=data, data__splitter="iid"
        )
        assert run.last["weighted"]["test_avg_loss"] > 0


@pytest.mark.parametrize(
    "data, said",
    [
        ([{"text": "a"}], "the columns 'text'; name that of the labels"),
        (rows(label=[1, 0]), "name that of the texts"),
        (rows(a=["a"], b=["b"], label=[0]), "name that of the texts"),
        (rows(text=TEXTS, label=[None] * 60), "row 0: .*'label' is missing"),
        (rows(text=TEXTS, label=["a", 1] * 30), "some labels are words"),
        (rows(text=TEXTS, label=[-1] * 60), "one class only, '-1'"),
        (
            {"train": NAMED, "test": rows(text=TEXTS, label=[0, 1] * 30)},
            "row 0: the label 0 is none of the classes 'ham', 'spam'",
        ),
        (
            {"train": NAMED, "test": labelled(["ham", "egg"], [0, 1] * 30)},
            "row 1: the label 'egg' is none of the classes 'ham', 'spam'",
        ),
        (
            fs_plugins.Examples([("a",), ("b",)], [0, 1], ("a", "a")),
            "two classes have the same name",
        ),
        (fs_plugins.Examples([("a",)], None, ("a", "b")), "must be lists"),
        (pandas.Series(TEXTS), "no data set with rows"),
        (rows(text=TEXTS, label=[[0]] * 60), "nothing to tell apart"),
        ([{"text": "a", "label": 0}, {"text": "b"}], "row 1 has the columns"),
        (
            {"train": NAMED, "test": rows(text=TEXTS, label=[0.5] * 60)},
            "scores are named by fedsa.data.target",
        ),
        (
            {"train": NAMED, "test": rows(prompt=["a"], completion=["b"])},
            "has no column 'text'; its columns are 'prompt', 'completion'",
        ),
        ({"train": NAMED, "tests": NAMED}, "'train', and perhaps"),
        (
            {"train": NAMED, "test": [{"text": "a", "label": "egg"}]},
            "row 0: the label 'egg' is none of the classes 'ham', 'spam'",
        ),
        ("tickets.csv", "no data set with rows"),
        (7, "no data set with rows"),
        (rows(text=["a", None] * 30, label=[0, 1] * 30), "row 1: .* missing"),
        (
            [{"instruction": "a", "output": None}],
            "row 0: the value of 'output' is missing",
        ),
    ],
)
def test_other_data_are_refused_in_one_sentence(lab, data, said):
    with pytest.raises(UserError, match=said) as caught:
        fs_plugins.run(lab.file(), data=data)
    assert "\n" not in str(caught.value)
    assert not list(Path(lab.settings["outdir"]).rglob("metrics.jsonl"))


# A model of the user's own


class Net(torch.nn.Module):
    """Not of transformers: the mean of embeddings, and two layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(64, 8)
        self.query = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        states = torch.tanh(self.query(self.embed(input_ids))) * mask
        return self.head(states.sum(1) / mask.sum(1))


NET_ADAPTER = [
    {"r": 2, "target_modules": ["query"], "modules_to_save": ["head"]}
]


def classifier(folder):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2
    )


def test_a_given_model_has_the_numbers_of_its_checkpoint(lab, toy_model):
    """The checkpoint loaded by the run, and the same model handed in."""
    expected = fs_plugins.run(lab.file(), expname="checkpoint")
    run = fs_plugins.run(
        lab.file(), model=classifier(toy_model), expname="given"
    )
    assert run.curve == expected.curve
    one = run.client(2).model(base=classifier(toy_model)).state_dict()
    other = expected.client(2).model().state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError, match="with base="):
        run.client(2).model()


def test_a_peft_model_keeps_its_adapter(lab, toy_model):
    """Its rank and layers count, and training goes on from its values."""
    import peft

    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=5, target_modules=["key"]
    )
    model = peft.get_peft_model(classifier(toy_model), config)
    start = {n: p.clone() for n, p in model.named_parameters()}
    run = fs_plugins.run(
        lab.file(), model=model, train__optimizer__lr=1e-12, data=NAMED
    )
    saved = run.client(1).model(base=classifier(toy_model))
    assert saved.peft_config["default"].r == 3
    assert saved.peft_config["default"].target_modules == {"key"}
    lora = {n: p for n, p in saved.named_parameters() if "lora_" in n}
    assert lora
    for name, value in lora.items():
        torch.testing.assert_close(value, start[name], atol=1e-6, rtol=0)


def test_any_module_is_trained(lab, toy_model):
    import peft
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    run = fs_plugins.run(
        lab.file(),
        model=Net(),
        tokenizer=tokenizer,
        data=NAMED,
        llm__adapter__args=NET_ADAPTER,
        federate__total_round_num=3,
    )
    model = run.client(1).model(base=Net())
    assert isinstance(model, peft.PeftModel)
    trained = dict(model.named_parameters())
    assert any("lora_B" in n and p.any() for n, p in trained.items())
    assert not torch.equal(
        model.base_model.model.head.modules_to_save["default"].weight,
        Net().head.weight,
    )


def test_a_run_of_a_given_model_goes_on(lab, toy_model):
    whole = fs_plugins.run(
        lab.file(), model=classifier(toy_model), data=NAMED, expname="whole"
    )

    class End(fs_plugins.Listener):
        def round_begins(self, rnd, clients):
            if rnd == 2:
                raise fs_plugins.RunError("enough")

    with pytest.raises(fs_plugins.RunError):
        fs_plugins.run(
            lab.file(),
            model=classifier(toy_model),
            data=NAMED,
            expname="part",
            listeners=[End()],
        )
    folder = whole.folder.with_name("part")
    with pytest.raises(UserError, match=r"hand it to fs_plugins\.run or"):
        fs_plugins.resume(folder, data=NAMED)
    other = classifier(toy_model)
    torch.nn.init.ones_(other.bert.pooler.dense.weight)
    with pytest.raises(UserError, match="base model's weights changed"):
        fs_plugins.resume(folder, data=NAMED, model=other)
    run = fs_plugins.resume(folder, data=NAMED, model=classifier(toy_model))
    assert run.curve == whole.curve


def test_what_does_not_fit_is_refused(lab, toy_model):
    import peft
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    with pytest.raises(UserError, match="has 2 labels, and the data have 3"):
        three = rows(text=TEXTS, label=["a", "b", "c"] * 20)
        fs_plugins.run(lab.file(), model=classifier(toy_model), data=three)
    with pytest.raises(UserError, match="hand over its tokenizer"):
        fs_plugins.run(lab.file(), model=Net(), llm__adapter__args=NET_ADAPTER)
    prompt = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    adapted = peft.get_peft_model(classifier(toy_model), prompt)
    with pytest.raises(UserError, match="of the kind 'prompt_tuning'"):
        fs_plugins.run(lab.file(), model=adapted)
    lora = peft.LoraConfig(target_modules=["query"])
    adapted = peft.get_peft_model(classifier(toy_model), lora)
    with pytest.raises(UserError, match="hand over the base model"):
        fs_plugins.run(lab.file(), model=adapted, federate__method="feddpa")
    with pytest.raises(UserError, match="cannot take texts"):
        fs_plugins.run(
            lab.file(),
            model=torch.nn.Sequential(torch.nn.Linear(2, 2)),
            tokenizer=tokenizer,
            llm__adapter__args=[{"r": 2, "target_modules": ["0"]}],
        )


def saved(model, folder):
    """The folder of a model, with a tokenizer beside it."""
    import shutil

    model.save_pretrained(folder)
    for file in Path(model.name_or_path).glob("*token*"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("what", ["order", "precision", "pairs"])
def test_other_given_models_have_the_numbers_of_their_checkpoints(
    lab, toy_model, tmp_path, what
):
    """Classes in another order, another precision, pairs of texts."""
    model = classifier(toy_model)
    options = {"data": NAMED}
    if what == "order":
        model.config.id2label = {0: "spam", 1: "ham"}
    elif what == "precision":
        model = model.to(torch.bfloat16)
    else:
        options["data"] = DATA["pairs"]
    folder = saved(model, tmp_path / "model")
    if what == "precision":
        options["fedsa__base__dtype"] = "bfloat16"
    expected = fs_plugins.run(
        lab.file(model__type=f"{folder}@huggingface_llm"),
        expname="checkpoint",
        **options,
    )
    options.pop("fedsa__base__dtype", None)
    run = fs_plugins.run(lab.file(), model=model, expname="given", **options)
    assert run.curve == expected.curve


def lora(model, seed=0, **arguments):
    import peft

    torch.manual_seed(seed)
    arguments = {"task_type": "SEQ_CLS", "r": 2, **arguments}
    config = peft.LoraConfig(target_modules=["query"], **arguments)
    return peft.get_peft_model(model, config)


def test_a_peft_model_is_given_what_its_base_takes(toy_model):
    """Segments, which PEFT's classes do not name."""
    from fs_plugins.model.given import base_model_of
    from fs_plugins.model.inputs import inputs_of
    from fs_plugins.terms import CLASSIFICATION

    model = lora(classifier(toy_model))
    inputs = inputs_of(model.config, CLASSIFICATION, base_model_of(model))
    assert inputs == inputs_of(model.config, CLASSIFICATION)
    assert inputs.segments == 2


def test_a_peft_model_of_any_past_is_trained(lab, toy_model, tmp_path):
    """Loaded for inference; frozen in part by an earlier run."""
    import peft

    lora(classifier(toy_model)).save_pretrained(tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(
        classifier(toy_model), tmp_path / "adapter"
    )
    curves = [
        fs_plugins.run(
            lab.file(), model=model, data=NAMED, federate__method=method
        ).curve
        for method in ("fedsa", "ffa", "fedsa")
    ]
    assert curves[0] == curves[2] != curves[1]


def test_another_start_of_a_given_adapter_is_noticed(lab, toy_model):
    """A that the policy freezes is in no checkpoint."""

    class End(fs_plugins.Listener):
        def round_begins(self, rnd, clients):
            if rnd == 2:
                raise fs_plugins.RunError("enough")

    file = lab.file(federate__method="ffa", expname="part")
    with pytest.raises(fs_plugins.RunError, match="enough") as caught:
        fs_plugins.run(
            file,
            data=NAMED,
            model=lora(classifier(toy_model)),
            listeners=[End()],
        )
    folder = re.search(r"--resume (\S+)'", str(caught.value))[1]
    other = lora(classifier(toy_model), seed=1)
    with pytest.raises(UserError, match="given model's adapter and head"):
        fs_plugins.resume(folder, data=NAMED, model=other)
    again = lora(classifier(toy_model))
    run = fs_plugins.resume(folder, data=NAMED, model=again)
    assert run.is_finished


class Outputs(Net):
    """Returns something else than logits of two classes."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, input_ids, attention_mask):
        return self.change(super().forward(input_ids, attention_mask))


class Configured(Net):
    """Has a configuration, which is not that of transformers."""

    def __init__(self):
        super().__init__()
        self.config = {"width": 8}


def test_a_module_may_have_a_configuration_of_its_own(lab, toy_model):
    from transformers import AutoTokenizer

    curves = [
        fs_plugins.run(
            lab.file(),
            model=model,
            tokenizer=AutoTokenizer.from_pretrained(toy_model),
            data=NAMED,
            llm__adapter__args=NET_ADAPTER,
        ).curve
        for model in (Net(), Configured())
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda logits: logits[:, :1], r"shape \(1, 1\); \(texts, 2\) is"),
        (lambda logits: logits.unsqueeze(1), r"shape \(1, 1, 2\)"),
        (lambda logits: {"scores": logits}, "it returns a NoneType"),
        (lambda logits: (logits,), "it returns a tuple"),
    ],
)
def test_other_outputs_are_refused(lab, toy_model, change, said):
    from transformers import AutoTokenizer

    with pytest.raises(UserError, match=said):
        fs_plugins.run(
            lab.file(),
            model=Outputs(change),
            tokenizer=AutoTokenizer.from_pretrained(toy_model),
            data=NAMED,
            llm__adapter__args=NET_ADAPTER,
        )


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda m: torch.nn.DataParallel(m), "is wrapped in DataParallel"),
        (lambda m: torch.compile(m), "is wrapped in OptimizedModule"),
        (lambda m: lora(m).get_base_model(), "has the layers of an adapter"),
        (lambda m: lora(m, task_type=None), "leaves the head untrained"),
    ],
)
def test_models_that_would_not_be_trained_are_refused(
    lab, toy_model, make, said
):
    from transformers import AutoTokenizer

    with pytest.raises(UserError, match=said):
        fs_plugins.run(
            lab.file(),
            model=make(classifier(toy_model)),
            tokenizer=AutoTokenizer.from_pretrained(toy_model),
            data=NAMED,
        )


def test_other_classes_than_those_of_a_given_head_are_refused(lab, toy_model):
    three = rows(text=TEXTS, label=["a", "b", "c"] * 20)
    for model in (classifier(toy_model), lora(classifier(toy_model))):
        with pytest.raises(UserError, match="has 2 labels"):
            fs_plugins.run(lab.file(), model=model, data=three)
    swapped = classifier(toy_model)
    swapped.config.id2label = {0: "spam", 1: "ham"}
    with pytest.raises(UserError, match="in the order spam, ham"):
        fs_plugins.run(lab.file(), model=lora(swapped), data=NAMED)


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"fedsa__base__gradient_checkpointing": True}, "leave it out"),
        ({"fedsa__scale_by_clients": True}, "leave it out"),
        ({"fedsa__adapter_dtype": "float64"}, "float64"),
    ],
)
def test_what_a_given_model_decides_is_refused(
    lab, toy_model, overrides, said
):
    with pytest.raises(UserError, match=said):
        fs_plugins.run(
            lab.file(), model=lora(classifier(toy_model)), **overrides
        )


def test_an_adapter_on_another_base_is_refused(lab, toy_model):
    run = fs_plugins.run(lab.file(), model=classifier(toy_model), data=NAMED)
    other = classifier(toy_model)
    other.bert.encoder.layer = other.bert.encoder.layer[:1]
    with pytest.raises(UserError, match="the base model of the run"):
        run.client(1).model(base=other)
    with pytest.raises(UserError, match="it has an adapter already"):
        run.client(1).model(base=lora(classifier(toy_model)))


def test_values_of_numpy_are_values(lab):
    import numpy as np

    found = fs_plugins.load_config(
        lab.file(),
        {
            "seed": np.int64(3),
            "train.optimizer.lr": np.float64(0.25),
            "eval": {"split": ("test", "val")},
            "data__splits": np.array([0.5, 0.25, 0.25]),
            "outdir": Path("somewhere"),
        },
    )
    assert (found.seed, found.train.optimizer.lr) == (3, 0.25)
    assert found.eval.split == ["test", "val"] and found.outdir == "somewhere"
    assert found.data.splits == [0.5, 0.25, 0.25]


# The page


def test_the_pages_code_is_that_of_the_script():
    script = (DOCS / "python_api.py").read_text()
    page = (DOCS / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks and all(block.strip() in script for block in blocks)
    cells = re.split(r"^# %%.*\n", script, flags=re.MULTILINE)[1:]
    assert [c.strip() for c in cells] == [b.strip() for b in blocks]


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    """All of it; the experiment that it names is a short one here."""
    for name in ("demo", "variations"):
        shutil.copytree(CONFIGS / name, tmp_path / name)
    file = tmp_path / "demo" / "fedsa.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["llm"]["tok_len"] = 8
    tree["train"]["local_update_steps"] = 1
    tree["dataloader"]["batch_size"] = 4
    file.write_text(yaml.safe_dump(tree))
    process = processes.script(DOCS / "python_api.py", tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    assert "did you mean 'fedsa'" in out
    assert "test_acc" in out
    assert (tmp_path / "exp/python/report/report.html").is_file()
