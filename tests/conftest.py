"""A tiny model, tiny data, and experiments on them, on either host."""

import copy
import gc
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads cost a toy model more than they gain, and beside other work a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser):
    parser.addoption(
        "--host",
        choices=("embedded", "federatedscope"),
        default="embedded",
        help="the host that the tests run on",
    )


def pytest_configure(config):
    os.environ["FS_PLUGINS_HOST"] = config.getoption("--host")
    import fs_plugins  # noqa: F401  makes federatedscope importable


def pytest_xdist_auto_num_workers():
    """One more than there are cores: some tests wait for their processes."""
    return (os.cpu_count() or 1) + 1


def pytest_sessionstart():
    import processes

    processes.no_fsync()


def pytest_collection_modifyitems(config, items):
    """Each process begins with its share of the slow tests.

    With ``--dist worksteal`` each gets a stretch of the list, and what is
    left to steal at the end is quick.  Slow tests that share a fixture of
    their module stay together.
    """
    slow: dict[object, list[pytest.Item]] = {}
    quick = []
    for item in items:
        if item.get_closest_marker("slow"):
            slow.setdefault(together(item), []).append(item)
        else:
            quick.append(item)
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    left, items[:] = len(items), []
    groups = list(slow.values())
    for number in range(processes):
        own = [item for group in groups[number::processes] for item in group]
        size = left // (processes - number)
        left -= size
        more = max(0, size - len(own))
        items += own + quick[:more]
        del quick[:more]
    items += quick


def together(item):
    """The same for tests that share a fixture of their module."""
    names = item.fixturenames
    found = item._fixtureinfo.name2fixturedefs
    scopes = {each.scope for name in names for each in found.get(name, ())}
    return item.path if "module" in scopes else item.nodeid


def pytest_collection_finish():
    """Tests that collect garbage need not look through what is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def host_name(pytestconfig) -> str:
    return pytestconfig.getoption("--host")


WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> Path:
    """The folder of a random BERT: 2 layers, hidden 16."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("toy_model")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocab = {word: i for i, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    torch.manual_seed(7)
    BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.3,  # so that what is trained moves
            id2label={0: "negative", 1: "positive"},  # SST-2's
            label2id={"negative": 0, "positive": 1},
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_llama(tmp_path_factory) -> Path:
    """The folder of a random Llama: 2 layers, hidden 16; letters as tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("toy_llama")
    letters = [chr(i) for i in range(32, 127)] + ["\n"]
    vocab = {word: i for i, word in enumerate(["<unk>", "</s>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(7)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
            max_position_embeddings=256,
            initializer_range=0.3,
            eos_token_id=1,
            pad_token_id=None,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_sums(tmp_path_factory) -> Path:
    """A folder with sums.jsonl: 60 sums of small numbers, 3 categories."""
    import json
    import random

    rng = random.Random(5)
    root = tmp_path_factory.mktemp("sums")
    lines = []
    for i in range(60):
        a, b = rng.randrange(9), rng.randrange(9)
        lines.append(
            {
                "instruction": f"{a}+{b}?",
                "output": "so " * rng.randrange(3) + f"#### {a + b}",
                "category": f"c{i % 3}",
            }
        )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "sums.jsonl").write_text(text)
    return root


@pytest.fixture
def language_lab(toy_llama, toy_sums, tmp_path) -> "Lab":
    """Experiments with a causal language model."""
    return Lab(language_settings_of(toy_llama, toy_sums, tmp_path), tmp_path)


def language_settings_of(
    model: Path, data: Path, folder: Path
) -> dict[str, Any]:
    """As ``settings_of``, for a causal language model."""
    settings = settings_of(model, data, folder)
    settings["data"] |= {
        "type": "sums.jsonl@llm",
        "splitter": "meta",
        "splitter_args": [],
        "splits": [0.6, 0.2, 0.2],
    }
    settings["trainer"] = {"type": "fedsa_llm"}
    settings["eval"] = {
        "freq": 1,
        "best_res_update_round_wise_key": "val_avg_loss",
    }
    settings["llm"]["tok_len"] = 64
    args = settings["llm"]["adapter"]["args"][0]
    args["target_modules"] = ["q_proj", "v_proj"]
    return settings


@pytest.fixture(scope="session")
def trained_llama(toy_llama, toy_sums, tmp_path_factory) -> Path:
    """The folder of a run of a language model with three clients.

    Tests read it only.
    """
    folder = tmp_path_factory.mktemp("trained_llama")
    lab = Lab(language_settings_of(toy_llama, toy_sums, folder), folder)
    # Steps as large as these let the clients' answers differ.
    summary = lab.run(
        federate__total_round_num=1,
        train__optimizer={"type": "SGD", "lr": 5.0},
        train__local_update_steps=4,
    )
    return Path(summary["outdir"])


@pytest.fixture(scope="session")
def toy_glue(tmp_path_factory) -> Path:
    """A GLUE folder with an SST-2 of 60 + 30 sentences of toy words."""
    import random

    rng = random.Random(3)
    root = tmp_path_factory.mktemp("glue")
    (root / "SST-2").mkdir()
    for name, size in (("train", 60), ("dev", 30)):
        lines = ["sentence\tlabel"]
        for _ in range(size):
            label = rng.randrange(2)
            # The first half of the words leans to class 0.
            half = WORDS[:30] if label == 0 else WORDS[30:]
            words = rng.choices(half + WORDS, k=rng.randint(3, 9))
            lines.append(f"{' '.join(words)}\t{label}")
        (root / "SST-2" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def settings(toy_model, toy_glue, tmp_path) -> dict[str, Any]:
    return settings_of(toy_model, toy_glue, tmp_path)


def settings_of(model: Path, glue: Path, folder: Path) -> dict[str, Any]:
    """The configuration of a small experiment, as a YAML file has it."""
    return {
        "seed": 1,
        "outdir": str(folder / "exp"),
        "federate": {
            "method": "fedsa",
            "mode": "standalone",
            "client_num": 3,
            "total_round_num": 3,
            "share_local_model": True,
        },
        "data": {
            "root": str(glue),
            "type": "sst2@glue",
            "splitter": "lda",
            "splitter_args": [{"alpha": 1.0}],
        },
        "dataloader": {"batch_size": 4},
        "model": {"type": f"{model}@huggingface_llm"},
        "llm": {
            "tok_len": 16,
            "adapter": {
                "use": True,
                "args": [
                    {
                        "adapter_package": "peft",
                        "adapter_method": "lora",
                        "r": 2,
                        "lora_alpha": 4,
                        "lora_dropout": 0.0,
                        "target_modules": ["query", "value"],
                    }
                ],
            },
        },
        "trainer": {"type": "fedsa_glue"},
        "train": {
            "local_update_steps": 2,
            "optimizer": {"type": "SGD", "lr": 0.5},
        },
        "early_stop": {"patience": 0},
        "eval": {
            "freq": 1,
            "metrics": ["acc"],
            "best_res_update_round_wise_key": "val_acc",
        },
        "fedsa": {"token_cache": str(folder / "tokens")},
    }


class Lab:
    """Runs experiments from ``settings`` with changes."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.number = 0

    def file(self, **changes: Any) -> Path:
        """A YAML file; a change ``a__b=1`` sets the key ``a.b``."""
        tree = copy.deepcopy(self.settings)
        for key, value in changes.items():
            node = tree
            *path, name = key.split("__")
            for part in path:
                node = node.setdefault(part, {})
            node[name] = value
        self.number += 1
        path = self.folder / f"experiment_{self.number}.yaml"
        path.write_text(yaml.dump(tree, Dumper=yaml.CSafeDumper))
        return path

    def runner(self, **changes: Any) -> Any:
        """A runner that has not run; its results go to a folder."""
        from fs_plugins.config.load import load_config
        from fs_plugins.experiment.runner import build_runner

        cfg = load_config(self.file(**changes))
        cfg.outdir = str(self.folder / f"run_{self.number}")
        Path(cfg.outdir).mkdir()
        return build_runner(cfg)

    def part(self, ID: int, link: Any, **changes: Any) -> Any:
        """The runner of a participant of a distributed run; 0: the server.

        Args:
            ID: the client's ID; 0 for the server.
            link: the ``comm_manager`` of the worker.
            changes: what is changed in the experiment.

        """
        from fs_plugins.config.load import load_config
        from fs_plugins.experiment.runner import build_runner
        from fs_plugins.scope import RunScope

        own = {
            "federate__mode": "distributed",
            "federate__share_local_model": False,
            "distribute__use": True,
            "distribute__role": "client" if ID else "server",
            "distribute__data_idx": ID or -1,
        }
        cfg = load_config(self.file(**own | changes))
        cfg.outdir = str(self.folder / f"run_{self.number}")
        Path(cfg.outdir).mkdir()
        return build_runner(cfg, RunScope(communication=link))

    def run(self, **changes: Any) -> dict[str, Any]:
        """Run; what ``fedsa run`` returns."""
        from fs_plugins.experiment.runner import run

        return run(self.file(**changes), quiet=True)

    def command(self, *words: Any, **environment: str) -> Any:
        """``fedsa <words>`` in a process of its own."""
        from types import SimpleNamespace

        import processes

        process = processes.fedsa(*words, **environment)
        out, err = process.communicate()
        return SimpleNamespace(
            returncode=process.returncode, stdout=out, stderr=err
        )


@pytest.fixture
def fedsa(capsys):
    """``fedsa <words>`` in this process: exit code and what it printed."""
    from types import SimpleNamespace

    from fs_plugins.cli import main

    def call(*words: Any) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(
            returncode=stop.value.code, stdout=out, stderr=err
        )

    return call


@pytest.fixture(scope="session")
def bare_python():
    """``python <words>``, at once, with nothing of the project imported."""
    import processes

    python = processes.BarePython()
    yield python
    python.close()


@pytest.fixture
def forked_runs(monkeypatch):
    """The runs that a comparison starts in this process are forked."""
    import subprocess

    import processes

    monkeypatch.setattr(subprocess, "Popen", processes.started)


@pytest.fixture
def notes():
    """The notes that are told during a test."""
    import logging

    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())

    listener = Listener()
    logger = logging.getLogger("federatedscope.fs_plugins.notes")
    logger.addHandler(listener)
    yield told
    logger.removeHandler(listener)


@pytest.fixture
def registries_as_they_were():
    """What a test registers is gone after it."""
    from fs_plugins.aggregator import AGGREGATORS
    from fs_plugins.data import FAMILIES
    from fs_plugins.policy import METHODS, PEFT_METHODS

    registries = (METHODS, AGGREGATORS, FAMILIES, PEFT_METHODS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


@pytest.fixture
def lab(settings, tmp_path) -> Lab:
    return Lab(settings, tmp_path)


@pytest.fixture(scope="session")
def make_lab(toy_model, toy_glue):
    """Makes a ``Lab`` in a folder, for fixtures that outlive a test."""
    return lambda folder: Lab(settings_of(toy_model, toy_glue, folder), folder)


@pytest.fixture(scope="session")
def trained_tickets(make_lab, tmp_path_factory) -> Path:
    """The folder of a run on the tickets; tests read it only."""
    from tickets import changes_for

    folder = tmp_path_factory.mktemp("trained_tickets")
    lab = make_lab(folder)
    return Path(lab.run(**changes_for(folder))["outdir"])


@pytest.fixture
def train_tickets(lab, tmp_path, monkeypatch):
    """A function that trains on the tickets with changes.

    The tickets are in the current folder, too.
    """
    from tickets import changes_for

    monkeypatch.chdir(tmp_path)
    options = changes_for(tmp_path)
    return lambda **changes: Path(lab.run(**options | changes)["outdir"])


@pytest.fixture
def federation(lab):
    """Makes a ``Federation``, whose processes end with the test."""
    from federations import Federation

    started = []

    def call(**changes: Any) -> Federation:
        started.append(Federation(lab, **changes))
        return started[-1]

    yield call
    for each in started:
        for process in each.processes.values():
            process.kill()
            process.wait()
