"""The Python API does what the command does, and says nothing meanwhile."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import everything_of

import fs_plugins
from fs_plugins import UserError

DOCS = Path(__file__).parents[1] / "docs"
TEXTS = [" ".join(f"w{(7 * i + j) % 60}" for j in range(4)) for i in range(60)]


def test_importing_it_registers_and_loads_nothing():
    """Neither the host nor torch, until somebody asks for it."""
    code = (
        "import fs_plugins, sys; dir(fs_plugins);"
        "print([m for m in ('torch', 'federatedscope') if m in sys.modules]);"
        "from federatedscope.core.configs.config import global_cfg;"
        "import federatedscope.register as r;"
        "print('fedsa' in global_cfg, 'fedsa' in r.worker_dict)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[0] == "[]"
    assert result.stdout.splitlines()[-1] == "True True"


@pytest.mark.parametrize("name", fs_plugins.__all__)
def test_every_name_is_there(name):
    assert getattr(fs_plugins, name) is not None and name in dir(fs_plugins)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        fs_plugins.runn  # noqa: B018


def test_a_run_is_that_of_the_command(lab, capfd):
    """Same results from a file, a mapping and a configuration; in silence."""
    file = lab.file(expname="command")
    assert lab.command("run", "--cfg", file, "seed", "3").returncode == 0
    (expected,) = Path(lab.settings["outdir"]).glob("command")
    tree = yaml.safe_load(file.read_text())
    cfg = fs_plugins.load_config(file)
    capfd.readouterr()
    for number, given in enumerate((file, tree, cfg)):
        run = fs_plugins.run(given, seed=3, expname=f"run_{number}")
        assert everything_of(run.folder) == everything_of(expected)
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_if_it_is_asked_for(lab, capfd):
    fs_plugins.run(lab.file(), progress=True)
    assert "round 1/3" in capfd.readouterr().out


def test_what_a_run_tells(lab):
    run = fs_plugins.run(lab.file())
    again = fs_plugins.load_run(run.folder)
    assert again.summary == run.summary and again.clients == [1, 2, 3]
    rows = run.metrics
    assert len(rows) == len(run.curve)
    assert list(rows["test_acc"])[-1] == run.last["weighted"]["test_acc"]
    assert (run.client(2).adapter / "adapter_config.json").is_file()
    model = run.client(2).model()
    assert type(model).__name__ == "PeftModelForSequenceClassification"


def test_runs_side_by_side(lab, tmp_path):
    one = fs_plugins.run(lab.file(), expname="one")
    other = fs_plugins.run(lab.file(), expname="other", federate__method="ffa")
    found = one.compare(other, other.folder, out=tmp_path / "report")
    assert list(found.results["run"]) == ["one", "other", "other"]
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


CLASSES = ["ham", "spam"]
NAMED = rows(text=TEXTS, label=[CLASSES[i % 2] for i in range(60)])
DATA = {
    "names": NAMED,
    "numbers": rows(text=TEXTS, label=[i % 2 for i in range(60)]),
    "pairs": rows(
        one=TEXTS, two=TEXTS[::-1], label=[i % 2 for i in range(60)]
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


def test_scores_are_a_regression(lab):
    data = rows(text=TEXTS, label=[i / 60 for i in range(60)])
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
        ([{"text": "a"}], "the columns 'text'; name the column of labels"),
        (rows(label=[1, 0]), "0 hold texts"),
        (rows(a=["a"], b=["b"], c=["c"], label=[0]), "3 hold texts"),
        (rows(text=TEXTS, label=[None] * 60), "row 0 has no label"),
        (rows(text=TEXTS, label=["a", 1] * 30), "labels are of several"),
        ({"train": NAMED, "validation": NAMED}, "'train', and perhaps"),
        (
            {"train": NAMED, "test": [{"text": "a", "label": "egg"}]},
            "row 0: the label 'egg' is none of 'ham', 'spam'",
        ),
        ("tickets.csv", "no data set with rows"),
        (7, "no data set with rows"),
        (rows(text=["a", None] * 30, label=[0, 1] * 30), "is not a text"),
        (
            [{"instruction": "a", "output": None}],
            "row 0: 'output' is not a text",
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
    result = subprocess.run(
        [sys.executable, DOCS / "python_api.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "did you mean 'fedsa'" in result.stdout
    assert "test_acc" in result.stdout
    assert (tmp_path / "exp/python/report/report.html").is_file()
