"""A user's mistake: one plain sentence, exit code 2, nothing left behind."""

from pathlib import Path

import pytest

from fs_plugins.errors import UserError

ARGS = {"r": 2, "target_modules": ["query"]}

SPREAD = {
    "federate__mode": "distributed",
    "federate__share_local_model": False,
    "distribute__use": True,
}

# what is changed, words that the sentence must have
MISTAKES = {
    "distributed, but not used": (
        {
            "federate__mode": "distributed",
            "federate__share_local_model": False,
        },
        ["federate.mode", "is begun by 'fedsa federate'"],
    ),
    "one model for several processes": (
        {"federate__mode": "distributed", "distribute__use": True},
        ["federate.share_local_model", "False"],
    ),
    "role": (
        {**SPREAD, "distribute__role": "sever"},
        ["distribute.role", "'sever'", "'server'"],
    ),
    "number of a client": (
        {**SPREAD, "distribute__role": "client"},
        ["distribute.data_idx", "-1", "3"],
    ),
    "patience": (
        {**SPREAD, "distribute__role": "server", "fedsa__transport__wait": 0},
        ["fedsa.transport.wait", "0"],
    ),
    "mode": (
        {"federate__mode": "distribute"},
        ["federate.mode", "distribute"],
    ),
    "updates that a round needs": (
        {"fedsa__min_received": 4},
        ["fedsa.min_received", "4", "3"],
    ),
    "one B for several models": (
        {
            "federate__method": "sequential_b",
            "federate__share_local_model": False,
        },
        ["federate.share_local_model", "sequential_b"],
    ),
    "unknown key": (
        {"federate__methd": "fedsa"},
        ["federate.methd", "method"],
    ),
    "unknown section": ({"fedrate__method": "x"}, ["fedrate.method"]),
    "key under fedsa": (
        {"fedsa__polcy": "x"},
        ["fedsa.polcy", "fedsa.policy"],
    ),
    "wrong type": (
        {"federate__client_num": "three"},
        ["federate.client_num", "'three'", "whole number"],
    ),
    "a list for a word": ({"seed": [1]}, ["seed", "[1]"]),
    "method": (
        {"federate__method": "fedas"},
        ["federate.method", "'fedas'", "'fedsa'"],
    ),
    "aggregator": (
        {"fedsa__aggregator": "mean"},
        ["fedsa.aggregator", "'mean'", "weighted_average"],
    ),
    "a trimmed mean that trims nothing": (
        {"fedsa__aggregator": "trimmed_mean"},
        ["fedsa.aggregator_args.trim", "0.1 of the 3 clients", "0.334"],
    ),
    "a trimmed mean that trims nothing of those sampled": (
        {
            "federate__client_num": 20,
            "federate__sample_client_num": 9,
            "fedsa__aggregator": "trimmed_mean",
        },
        ["fedsa.aggregator_args.trim", "0.1 of the 9 clients", "0.112"],
    ),
    "a trimmed mean of two": (
        {
            "federate__client_num": 2,
            "fedsa__aggregator": "trimmed_mean",
            "fedsa__aggregator_args": {"trim": 0.49},
        },
        ["fedsa.aggregator_args.trim", "at least three clients"],
    ),
    "a trimmed mean that trims all": (
        {"fedsa__aggregator_args": {"trim": 0.5}},
        ["fedsa.aggregator_args.trim", "below 0.5"],
    ),
    "a negative bound of the norm": (
        {"fedsa__max_norm": -1},
        ["fedsa.max_norm", "at least 0"],
    ),
    "an aggregator of products without B": (
        {"fedsa__aggregator": "flora"},
        ["fedsa.aggregator", "flora", "B", "fedsa", "A alone", "fedit"],
    ),
    "an aggregator of products, and one factor a round": (
        {"fedsa__aggregator": "fedex", "federate__method": "rolora"},
        ["fedex", "rolora", "neither"],
    ),
    "an aggregator of products, and VeRA": (
        {
            "fedsa__aggregator": "flexlora",
            "federate__method": "fedit",
            "llm__adapter__args": [{"adapter_method": "vera", "r": 8}],
        },
        ["flexlora", "vera"],
    ),
    "an aggregator of products, and DoRA": (
        {
            "fedsa__aggregator": "fedex",
            "federate__method": "fedit",
            "llm__adapter__args": [{**ARGS, "use_dora": True}],
        },
        ["fedex", "dora"],
    ),
    "to start afresh from what is no start": (
        {
            "fedsa__aggregator": "flora",
            "federate__method": "fedit",
            "llm__adapter__args": [{**ARGS, "init_lora_weights": "pissa"}],
        },
        ["flora", "pissa"],
    ),
    "ranks that the aggregator can't mix": (
        {"fedsa__aggregator": "median", "fedsa__ranks": [2, 1]},
        ["median", "fedsa.ranks", "hetlora"],
    ),
    "ranks of fedex": (
        {
            "federate__method": "fedit",
            "fedsa__aggregator": "fedex",
            "fedsa__ranks": [2, 1],
        },
        ["fedex cannot combine", "fedsa.ranks", "flexlora"],
    ),
    "a rank beyond the adapter's": (
        {"fedsa__ranks": [2, 3]},
        ["fedsa.ranks", "3", "from 1 to 2"],
    ),
    "a rank that is none": (
        {"fedsa__ranks": [1, "two"]},
        ["fedsa.ranks", "'two'"],
    ),
    "ranks of VeRA": (
        {
            "fedsa__ranks": [2],
            "llm__adapter__args": [{"adapter_method": "vera", "r": 8}],
        },
        ["fedsa.ranks", "vera"],
    ),
    "ranks of one B in turn": (
        {"fedsa__ranks": [2, 1], "federate__method": "sequential_b"},
        ["fedsa.ranks", "sequential_b"],
    ),
    "a private adapter of VeRA": (
        {
            "federate__method": "feddpa",
            "llm__adapter__args": [{"adapter_method": "vera", "r": 8}],
        },
        ["feddpa", "vera"],
    ),
    "a private adapter on embeddings": (
        {
            "federate__method": "feddpa",
            "llm__adapter__args": [
                {"r": 2, "target_modules": ["word_embeddings"]}
            ],
        },
        ["target_modules", "private", "embeddings"],
    ),
    "a private adapter that is shared": (
        {"federate__method": "feddpa", "fedsa__policy__PRIVATE": "share"},
        ["fedsa.policy", "PRIVATE"],
    ),
    "more than all of the private adapter": (
        {"fedsa__private__weight": 1.5},
        ["fedsa.private.weight", "1.5"],
    ),
    "a scale that VeRA does not have": (
        {
            "fedsa__scale_by_clients": True,
            "llm__adapter__args": [{"adapter_method": "vera", "r": 8}],
        },
        ["fedsa.scale_by_clients", "vera"],
    ),
    "policy": (
        {"fedsa__policy__A": "send"},
        ["fedsa.policy.A", "'send'", "share"],
    ),
    "adapter method": (
        {"llm__adapter__args": [{**ARGS, "adapter_method": "lore"}]},
        ["adapter_method", "'lore'", "lora"],
    ),
    "adapter package": (
        {"llm__adapter__args": [{**ARGS, "adapter_package": "pfet"}]},
        ["adapter_package", "'pfet'", "peft"],
    ),
    "adapter argument": (
        {"llm__adapter__args": [{**ARGS, "lora_alhpa": 4}]},
        ["lora_alhpa", "lora_alpha"],
    ),
    "PEFT method without roles": (
        {"llm__adapter__args": [{"adapter_method": "ia3"}]},
        ["adapter_method", "'ia3'", "register_peft_method"],
    ),
    "start that needs data": (
        {"llm__adapter__args": [{**ARGS, "init_lora_weights": "eva"}]},
        ["init_lora_weights", "'eva'", "pissa"],
    ),
    "VeRA's argument": (
        {"llm__adapter__args": [{"adapter_method": "vera", "lora_alpha": 16}]},
        ["VeraConfig", "'lora_alpha'"],
    ),
    "a role's learning rate": (
        {"fedsa__lr__B": -1.0},
        ["fedsa.lr.B", "-1.0"],
    ),
    "type of the base model": (
        {"fedsa__base__dtype": "float8"},
        ["fedsa.base.dtype", "'float8'", "bfloat16"],
    ),
    "quantization": (
        {"fedsa__base__quantize": "3bit"},
        ["fedsa.base.quantize", "'3bit'", "4bit"],
    ),
    "trainer of other data": (
        {"trainer__type": "fedsa_llm"},
        ["trainer.type", "sst2@glue", "fedsa_glue"],
    ),
    "score": (
        {"fedsa__eval": {"generate": {"metric": "rouge"}}},
        ["fedsa.eval.generate.metric", "'rouge'", "rouge_l"],
    ),
    "equal answers": (
        {"fedsa__eval": {"generate": {"samples": 5}}},
        ["fedsa.eval.generate.samples", "temperature"],
    ),
    "programs unasked for": (
        {"fedsa__eval": {"generate": {"metric": "pass_at_1"}}},
        ["fedsa.eval.generate.run_code", "True"],
    ),
    "no problems": (
        {
            "fedsa__eval": {
                "generate": {"metric": "pass_at_1", "run_code": True}
            }
        },
        ["fedsa.eval.generate.problems", "HumanEval"],
    ),
    "instructions that are not there": (
        {"data__type": "gsm8k@llm", "trainer__type": "fedsa_llm"},
        ["gsm8k@llm", "gsm8k_train.jsonl", "data.root"],
    ),
    "no adapter": ({"llm__adapter__use": False}, ["llm.adapter.use"]),
    "target modules": (
        {"llm__adapter__args": [{"target_modules": ["q_proj"]}]},
        ["q_proj", "query"],
    ),
    "rank": (
        {"llm__adapter__args": [{**ARGS, "r": 0}]},
        ["llm.adapter.args", "0"],
    ),
    "task": ({"data__type": "sst3@glue"}, ["data.type", "sst3", "sst2@glue"]),
    "demo": ({"data__type": "bcb@demo"}, ["data.type", "bcb", "bbc@demo"]),
    "metric": ({"eval__metrics": ["accc"]}, ["eval.metrics", "accc", "'acc'"]),
    "update key": (
        {"eval__best_res_update_round_wise_key": "val_f2"},
        ["best_res_update_round_wise_key", "val_f2"],
    ),
    "splitter": ({"data__splitter": "dirichlet"}, ["data.splitter"]),
    "alpha": (
        {"data__splitter_args": [{"alpha": -1}]},
        ["data.splitter_args", "-1"],
    ),
    "trainer": (
        {"trainer__type": "fedsa_gleu"},
        ["trainer.type", "fedsa_gleu", "fedsa_glue"],
    ),
    "optimizer": (
        {"train__optimizer__type": "AdmaW"},
        ["train.optimizer.type", "AdmaW", "AdamW"],
    ),
    "optimizer argument": (
        {"train__optimizer__momentun": 0.9},
        ["train.optimizer", "momentun"],
    ),
    "scheduler": (
        {"train__scheduler__type": "liner"},
        ["train.scheduler.type", "liner", "linear"],
    ),
    "learning rate is a word": (
        {"train__optimizer__lr": "fast"},
        ["train.optimizer.lr", "'fast'"],
    ),
    "learning rate is negative": (
        {"train__optimizer__lr": -0.1},
        ["train.optimizer.lr", "-0.1"],
    ),
    "learning rate is nan": (
        {"train__optimizer__lr": float("nan")},
        ["train.optimizer.lr", "nan"],
    ),
    "no rounds": (
        {"federate__total_round_num": 0},
        ["federate.total_round_num", "0"],
    ),
    "no clients": ({"federate__client_num": 0}, ["federate.client_num"]),
    "batch size": (
        {"dataloader__batch_size": -4},
        ["dataloader.batch_size", "-4"],
    ),
    "model folder": (
        {"model__type": "/no/such/folder@huggingface_llm"},
        ["model.type", "/no/such/folder"],
    ),
    "model without a hub": ({"model__type": "bert"}, ["model.type", "bert"]),
    "model asset": (
        {"model__type": "minilmm@demo"},
        ["model.type", "minilmm@demo", "minilm@demo"],
    ),
    "data folder": ({"data__root": "/no/such"}, ["data.root", "/no/such"]),
    "too many clients": (
        {"federate__client_num": 1000},
        ["federate.client_num", "1000"],
    ),
    "where clients keep theirs": (
        {"fedsa__state__backend": "disc"},
        ["fedsa.state.backend", "'disc'", "did you mean 'disk'"],
    ),
    "cache": ({"fedsa__state__cache": -1.0}, ["fedsa.state.cache", "-1.0"]),
    "checkpoints": (
        {"fedsa__checkpoint__every": -1},
        ["fedsa.checkpoint.every", "-1"],
    ),
    "no checkpoint kept": (
        {"fedsa__checkpoint__keep": 0},
        ["fedsa.checkpoint.keep", "0"],
    ),
    "global evaluation": (
        {"federate__make_global_eval": True},
        ["federate.make_global_eval", "fedsa"],
    ),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_is_one_sentence_and_leaves_nothing(lab, mistake):
    from fs_plugins.experiment.runner import run

    changes, words = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        run(lab.file(**changes), quiet=True)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence
    assert not Path(lab.settings["outdir"]).exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("federate: [", ["not YAML", "line 1"]),
        ("just words", ["no configuration keys"]),
        ("", ["no configuration keys"]),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, text, words):
    from fs_plugins.config.load import load_config

    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_a_broken_line_of_data(lab, tmp_path):
    folder = tmp_path / "broken" / "SST-2"
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("sentence\tlabel\nfine\t1\nbad\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 3: 1 columns"):
        lab.run(data__root=str(tmp_path / "broken"))
    assert not Path(lab.settings["outdir"]).exists()


def test_the_command_says_it_and_exits_with_2(lab, host_name):
    file = lab.file(federate__method="fedas")
    result = lab.command("run", "--cfg", file, FS_PLUGINS_HOST=host_name)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("fedsa: federate.method: there is no")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["run", "--cfg", "/no/such.yaml"], "/no/such.yaml cannot be read"),
        (["run"], "cfg"),
        (["run", "--cfg", "FILE", "seed"], "'seed' has no value"),
        (["run", "--cfg", "FILE", "sed", "1"], "did you mean 'seed'"),
        (["compare", "FILE", "--seeds", "a"], "--seeds"),
        (["compare", "words"], "at least one .yaml"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_the_command_line_itself(lab, fedsa, words, message):
    file = str(lab.file())
    words = [file if word == "FILE" else word for word in words]
    result = fedsa(*words)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path(lab.settings["outdir"]).exists()


def test_folders_that_were_there_before_stay(lab, tmp_path):
    kept = tmp_path / "exp" / "earlier"
    kept.mkdir(parents=True)
    with pytest.raises(UserError):
        lab.run(data__splitter_args=[{"alpha": -1}])
    assert [p.name for p in (tmp_path / "exp").iterdir()] == ["earlier"]


def test_a_failure_at_run_time_keeps_what_was_finished(lab, monkeypatch):
    from fs_plugins.trainer.classification import ClassificationTrainer

    train = ClassificationTrainer.train

    def failing(self, *args, **kwargs):
        if self._state == 2:
            raise RuntimeError("the disk is on fire")
        return train(self, *args, **kwargs)

    monkeypatch.setattr(ClassificationTrainer, "train", failing)
    with pytest.raises(RuntimeError, match="on fire"):
        lab.run()
    (file,) = Path(lab.settings["outdir"]).rglob("metrics.jsonl")
    # On FederatedScope the results of a round are merged a round later.
    assert file.read_text().count("\n") in (1, 2)
