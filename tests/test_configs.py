"""Every YAML file of the project runs."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml

from fs_plugins.config.load import load_config, name_of
from fs_plugins.data.glue import TASKS
from fs_plugins.errors import UserError
from fs_plugins.experiment.runner import run

FOLDER = Path(__file__).parent.parent / "yaml_configs"
VARIATIONS = sorted(FOLDER.rglob("variations/*.yaml"))
FILES = sorted(set(FOLDER.rglob("*.yaml")) - set(VARIATIONS))
DEMOS = sorted((FOLDER / "demo").glob("*.yaml"))
GLUE = sorted((FOLDER / "glue").glob("*.yaml"))
COMMON = [f.stem for f in VARIATIONS if f.parent.parent == FOLDER]
SHORT = [
    *("federate.total_round_num", "1"),
    *("train.local_update_steps", "1"),
    *("dataloader.batch_size", "8"),
    *("llm.tok_len", "8"),
    *("data.subsample", "0.2"),
]


def test_there_are_files():
    assert len(FILES) >= 14 and len(COMMON) >= 20 and len(GLUE) == 6
    folders = {f.parent.name for f in FILES}
    assert folders == {"demo", "glue", "gsm8k", "code"}


@pytest.mark.parametrize(
    "file", FILES, ids=lambda f: f"{f.parent.name}/{f.name}"
)
def test_header(file):
    """What it does, then the command that runs it."""
    head = file.read_text().split("\n", 1)[0]
    assert head.startswith("# ") and head.rstrip(".:,")
    path = file.relative_to(FOLDER.parent)
    assert f"#   fedsa run --cfg {path}\n" in file.read_text()


@pytest.mark.parametrize("file", VARIATIONS, ids=lambda f: f.stem)
def test_a_variation_says_what_it_is(file):
    text = file.read_text()
    assert text.startswith("# ") and len(text.splitlines()) < 20


@pytest.mark.slow
@pytest.mark.parametrize("file", DEMOS, ids=lambda f: f.name)
def test_one_short_round(file, tmp_path):
    """The real model and data, one step of one round."""
    assert load_config(file).outdir == "exp"
    more = ["outdir", str(tmp_path), *SHORT]
    if file.stem == "smollm2":
        more += ["data.subsample", "0.1", "llm.tok_len", "96"]
        more += ["data.splits", "[0.98, 0.01, 0.01]"]
        more += ["federate.client_num", "2", "dataloader.batch_size", "1"]
        more += ["fedsa.eval.generate.max_new_tokens", "2"]
        more += ["fedsa.eval.generate.examples", "1"]
    summary = run(file, more, quiet=True)
    last = summary["results"]["last"]
    assert 0 < last["weighted"]["test_avg_loss"] < 5


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory, toy_model, toy_llama):
    """What the files of the paper name, in small: models and data."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    root = tmp_path_factory.mktemp("stand_ins")
    roberta = root / "roberta"
    shutil.copytree(toy_model, roberta)
    torch.manual_seed(7)
    RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
            pad_token_id=0,
        )
    ).save_pretrained(roberta)
    for task in ("sst2", "qnli", "mnli", "mnli-mm", "qqp", "rte"):
        _write_task(root / "glue", TASKS[task])
    (root / "data").mkdir()
    for name, size in (("train", 40), ("test", 6)):
        lines = [
            json.dumps({"question": f"{i}+1?", "answer": f"#### {i + 1}"})
            for i in range(size)
        ]
        file = root / "data" / f"gsm8k_{name}.jsonl"
        file.write_text("\n".join(lines))
    for language in ("go", "java", "python"):
        folder = root / "code" / language / "final" / "jsonl" / "train"
        folder.mkdir(parents=True)
        row = {"docstring": "d", "code": "c", "language": language}
        with gzip.open(folder / f"{language}_train_0.jsonl.gz", "wt") as out:
            out.write((json.dumps(row) + "\n") * 200)
    problem = {"prompt": "def f():\n", "test": "def check(c): c()"}
    (root / "HumanEval.jsonl").write_text(
        json.dumps({**problem, "entry_point": "f"}) + "\n"
    )
    return root


def _write_task(root, task):
    folder = root / task.folder
    folder.mkdir(parents=True, exist_ok=True)
    columns = [names[0] for names in task.texts]
    header = "\t".join([*columns, task.label[0]])
    for name, size in (("train", 1200), (task.dev[0], 120)):
        rows = [
            "\t".join(
                [f"w{i % 50} w{(i * 7) % 50}"] * len(columns)
                + [task.classes[i % len(task.classes)]]
            )
            for i in range(size)
        ]
        text = "\n".join([header, *rows]) + "\n"
        (folder / f"{name}.tsv").write_text(text)


def short_run(experiment, stand_ins, toy_llama, folder, *more):
    """One step of one round on the stand-ins; the rest as the file says."""
    kind = Path(str(experiment).partition("+")[0]).parent.name
    small = {
        "glue": ("glue", stand_ins / "roberta"),
        "gsm8k": ("data", toy_llama),
        "code": ("code", toy_llama),
    }
    data, model = small[kind]
    return run(
        experiment,
        [
            *("outdir", str(folder), "use_gpu", "False"),
            *("data.root", str(stand_ins / data)),
            *("model.type", f"{model}@huggingface_llm"),
            *("federate.total_round_num", "1"),
            *("train.local_update_steps", "1"),
            *("dataloader.batch_size", "2"),
            *("llm.tok_len", "120", "fedsa.token_cache", str(folder / "t")),
            *("fedsa.eval.generate.max_new_tokens", "4"),
            *more,
        ],
        quiet=True,
    )


@pytest.mark.parametrize("file", GLUE, ids=lambda f: f.stem)
def test_the_papers_glue(file, stand_ins, toy_llama, tmp_path):
    summary = short_run(file, stand_ins, toy_llama, tmp_path)
    assert summary["method"] == "fedsa" and summary["clients"] == 3
    assert 0 <= summary["results"]["last"]["weighted"]["test_acc"] <= 1
    assert summary["communication"]["shared_parameters"] == 2 * 2 * 8 * 16


@pytest.mark.parametrize("name", COMMON)
def test_each_variation(name, stand_ins, toy_llama, tmp_path):
    """It changes what it sets, and the run goes through."""
    base = FOLDER / "glue" / "rte.yaml"
    alone, varied = load_config(base), load_config(f"{base}+{name}")
    variation = yaml.safe_load(
        (FOLDER / "variations" / f"{name}.yaml").read_text()
    )
    for section, content in variation.items():
        if isinstance(content, dict):
            for key, value in content.items():
                if not isinstance(value, dict):
                    assert varied[section][key] == value
    alone.expname = varied.expname
    same = {"fedsa", "dir05", "lora"}  # as the base file has it
    assert (str(alone) == str(varied)) == (name in same)
    # 300 texts are too few for 100 clients at Dir(0.5)
    name += "+iid" if name == "clients100" else ""
    summary = short_run(f"{base}+{name}", stand_ins, toy_llama, tmp_path)
    assert summary["results"]["last"]["weighted"]["test_total"] == 120


@pytest.mark.parametrize("adapter", ["lora", "rslora", "vera"])
@pytest.mark.parametrize("method", ["fedsa", "fedavg", "ffa"])
def test_methods_and_adapters_combine(
    method, adapter, stand_ins, toy_llama, tmp_path
):
    """The paper's tables: what travels is A, both, or B."""
    base = FOLDER / "glue" / "sst2.yaml"
    experiment = f"{base}+{method}+{adapter}"
    summary = short_run(experiment, stand_ins, toy_llama, tmp_path)
    assert summary["method"].lower() == method
    assert summary["adapter"] == adapter
    a, b = {"vera": (256, 16)}.get(adapter, (8 * 16, 16 * 8))
    expected = {"fedsa": a, "fedavg": a + b, "ffa": b}[method]
    communication = summary["communication"]
    assert communication["shared_parameters"] == 4 * expected
    name = f"{method}_sst2+{method}+{adapter}"
    assert Path(summary["outdir"]).name.lower() == name


@pytest.mark.parametrize("method", ["fedsa", "fedavg", "ffa"])
@pytest.mark.parametrize("kind", ["gsm8k", "code"])
def test_the_papers_generation(kind, method, stand_ins, toy_llama, tmp_path):
    base = FOLDER / kind / "llama3_8b.yaml"
    more, extra = [], ""
    metric = "test_exact_match"
    if kind == "code":
        more = ["fedsa.eval.generate.problems"]
        more += [str(stand_ins / "HumanEval.jsonl"), "data.subsample", "1.0"]
        extra, metric = "+human_eval", "test_pass_at_5"
    summary = short_run(
        f"{base}{extra}+{method}", stand_ins, toy_llama, tmp_path, *more
    )
    assert 0 <= summary["results"]["last"]["weighted"][metric] <= 1


LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05}
VERA = {"adapter_method": "vera", "r": 256, "vera_dropout": 0.05}


@pytest.mark.parametrize(
    "names, expected",
    [
        ("r4", {"adapter_method": "lora", **LORA, "r": 4}),
        ("vera", VERA),
        ("rslora+r4", {"adapter_method": "rslora", **LORA, "r": 4}),
        ("vera+r4", {**VERA, "r": 4}),
        ("r4+vera", VERA),
        ("vera+lora", {"adapter_method": "lora", **LORA}),
        ("dora+pissa", {"adapter_method": "pissa", **LORA}),
    ],
)
def test_a_variation_of_the_adapter_stays_on_its_layers(names, expected):
    """And has no argument of another adapter's."""
    cfg = load_config(f"{FOLDER}/demo/smollm2.yaml+{names}")
    (args,) = cfg.llm.adapter.args
    assert args.pop("adapter_package", "peft") == "peft"
    assert args == {**expected, "target_modules": ["q_proj", "v_proj"]}


def test_an_unknown_variation_is_named():
    with pytest.raises(UserError, match="did you mean 'vera'"):
        load_config(f"{FOLDER}/glue/rte.yaml+veera")


def test_a_variation_may_be_any_file(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("seed: 17\n")
    base = FOLDER / "glue" / "rte.yaml"
    assert load_config(f"{base}+{own}+ffa").seed == 17
    assert load_config(f"{base}+{own}", ["seed", "3"]).seed == 3
    assert name_of(f"{base}+{own}+ffa") == "rte+mine+ffa"


def test_the_demos_differ_in_their_method_only():
    """A fair comparison: the same model, split, batches and seed."""
    trees = []
    for name in ("fedsa", "fedavg", "fedit", "local", "sequential_b"):
        tree = yaml.safe_load((FOLDER / "demo" / f"{name}.yaml").read_text())
        method = tree["federate"].pop("method")
        assert method.lower() == name
        trees.append(tree)
    assert all(tree == trees[0] for tree in trees)
