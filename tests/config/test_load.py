"""YAML files, variations and the command line."""

from pathlib import Path

import pytest
import yaml

from fs_plugins.config.load import load_config
from fs_plugins.config.yaml_file import read_yaml
from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import resume, run

ENTRY = {
    "adapter_package": "peft",
    "adapter_method": "lora",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "target_modules": ["query", "value"],
}
LAUGHS = "".join(
    f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n"
    for i in range(9)
)


@pytest.mark.parametrize(
    "text, words",
    [
        ("seed: 1\nseed: 2\n", "line 2, .* 'seed' is given twice"),
        ("a: {b: 1, b: 2}", "line 1, column 11: .* 'b' is given twice"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: {c: *a}}", "contains itself"),
        (LAUGHS, "line 4, .* more than 10000 values"),
        ("a: [" + "1, " * 20000 + "]", "more than 10000 values"),
        ("a: " + "[" * 5000 + "]" * 5000, "more than 32 levels"),
        ("- " * 5000, "more than 32 levels"),
        ("a: " + "x" * 300000, "larger than 256 kB"),
        ("a: " + "9" * 5000, "is not of the type int"),
        ("a: !!int abc", "line 1, column 4: 'abc' is not of the type int"),
        ("a: !!float abc", "'abc' is not of the type float"),
        ("a: !!bool abc", "'abc' is not of the type bool"),
        ("a: !!binary abc", "tag .*binary' is refused"),
        ("a: !!python/object:os.system x", "os.system' is refused"),
        ("a: !!set {b}", "tag .*set' is refused"),
        ("a: \0", "unacceptable character"),
        ("a: 1\n---\nb: 2", "another document"),
        ("? [a]\n: 1", "unhashable"),
    ],
)
def test_yaml_that_is_no_configuration(tmp_path, text, words):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_yaml_of_a_configuration(tmp_path):
    """Anchors, dates as texts, and numbers that YAML 1.1 takes for texts."""
    file = tmp_path / "x.yaml"
    file.write_text(
        "a: &a [1, 1e-3]\nb: *a\nc: 2024-01-01\nd: 1E5\ne: {<<: &m {f: 1}}\n"
        "g: {<<: *m, f: 2}\nh: '1e-3'\n"
    )
    assert read_yaml(file) == {
        **{"a": [1, 0.001], "b": [1, 0.001], "c": "2024-01-01", "d": 1e5},
        **{"e": {"f": 1}, "g": {"f": 2}, "h": "1e-3"},
    }


def test_a_key_in_two_forms_is_given_twice(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("federate.method: fedsa\nfederate: {method: ffa}\n")
    with pytest.raises(UserError, match=r"federate\.method: it is given twi"):
        load_config(file)


@pytest.mark.parametrize(
    "name", ["x" * 300, "/a/" + "x" * 5000, "a\0b", "a\nb", ".", "/dev/zero"]
)
def test_a_file_that_cannot_be_read(name):
    for experiment in (name, f"a.yaml+{name}"):
        with pytest.raises(UserError) as caught:
            load_config(experiment)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "key, word, value",
    [
        ("expname", "123", "123"),
        ("expname", "1e5", "1e5"),
        ("expname", "true", "true"),
        ("expname", "a: b # c", "a: b # c"),
        ("expname", "'123'", "123"),
        ("fedsa.track", "", ""),
        ("train.optimizer.lr", "1e-3", 0.001),
        ("train.optimizer.lr", "1", 1.0),
        ("train.optimizer.weight_decay", "1e-3", 0.001),
        ("seed", "7", 7),
        ("use_gpu", "false", False),
        ("fedsa.ranks", "[2, 1]", [2, 1]),
        ("fedsa.ranks", "(2, 1)", [2, 1]),
        ("eval.metrics", "[acc]", ["acc"]),
        ("data.splitter_args", "[{alpha: 2.0}]", [{"alpha": 2.0}]),
        ("data.splitter_args", "[{'alpha': 2.0}]", [{"alpha": 2.0}]),
        (
            "llm.adapter.args",
            "[{adapter_package: peft, r: 4}]",
            [ENTRY | {"r": 4}],
        ),
    ],
)
def test_a_word_is_read_as_yaml(lab, key, word, value):
    more = []
    if key == "fedsa.ranks":
        more = ["federate.method", "fedit", "fedsa.aggregator", "hetlora"]
    node = load_config(lab.file(), [key, word, *more])
    for part in key.split("."):
        node = node[part]
    assert node == value and type(node) is type(value)


def test_a_section_is_one_word_too(lab):
    cfg = load_config(lab.file(), ["fedsa.lr", "{A: 0.5, B: 1e-1}"])
    assert (cfg.fedsa.lr.A, cfg.fedsa.lr.B, cfg.fedsa.lr.HEAD) == (0.5, 0.1, 0)


def test_a_text_that_looks_like_a_number_runs_and_is_resumed(lab):
    summary = lab.run(expname="0123", federate__total_round_num=1)
    folder = summary["outdir"]
    assert folder.endswith("/exp/0123")
    file = Path(folder) / "checkpoints" / "experiment.yaml"
    assert yaml.safe_load(file.read_text())["expname"] == "0123"
    more = ["federate.total_round_num", "2"]
    again = resume(Path(folder), "", more, force=True, quiet=True)
    assert again["outdir"] == folder and again["rounds"] == 2


@pytest.mark.parametrize(
    "before, change, after",
    [
        ({}, {"r": 4}, {"r": 4}),
        ({}, {"adapter_method": "lora", "r": 4}, {"r": 4}),
        ({}, {"adapter_method": "LoRA", "r": 4}, None),
        ({"use_rslora": True}, {"r": 4}, {"use_rslora": True, "r": 4}),
        (
            {"use_rslora": True},
            {"adapter_method": "rslora", "r": 4},
            {"adapter_method": "rslora", "use_rslora": True, "r": 4},
        ),
    ],
)
def test_arguments_of_the_same_method_are_merged(lab, before, change, after):
    file = lab.file(llm__adapter__args=[ENTRY | before])
    cfg = load_config(file, ["llm.adapter.args", str([change])])
    expected = ENTRY | before | (change if after is None else after)
    assert cfg.llm.adapter.args == [expected]


@pytest.mark.parametrize(
    "before, change, kept",
    [
        ({}, {"adapter_method": "vera", "r": 8}, ["target_modules"]),
        ({}, {"adapter_method": "dora", "r": 8}, ["target_modules"]),
        (
            {"use_rslora": True},
            {"adapter_method": "lora", "r": 8},
            ["target_modules"],
        ),
        (
            {
                "modules_to_save": ["classifier"],
                "layers_to_transform": [0],
                "rank_pattern": {"query": 1},
                "init_lora_weights": "gaussian",
            },
            {"adapter_method": "vera", "r": 8},
            ["target_modules", "modules_to_save", "layers_to_transform"],
        ),
    ],
)
def test_another_method_keeps_where_the_adapter_is(lab, before, change, kept):
    entry = ENTRY | before
    file = lab.file(llm__adapter__args=[entry])
    cfg = load_config(file, ["llm.adapter.args", str([change])])
    expected = {name: entry[name] for name in kept} | change
    assert cfg.llm.adapter.args == [expected]


def test_a_file_alone_is_merged_with_no_adapter(lab):
    args = [{"adapter_method": "vera", "r": 8}]
    cfg = load_config(lab.file(llm__adapter__args=args))
    assert cfg.llm.adapter.args == args


@pytest.mark.parametrize(
    "key", ["outdir", "fedsa.token_cache", "federate.save_to"]
)
def test_a_folder_at_home(lab, tmp_path, monkeypatch, key):
    """FederatedScope would make a folder of the name ``~``."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cfg = load_config(lab.file(), [key, "~/x"])
    node = cfg
    for part in key.split("."):
        node = node[part]
    assert node == str(tmp_path / "home" / "x")


def test_a_text_like_a_number_is_the_same_text_later(lab):
    """In what a run is resumed with, and in what it is reported from."""
    file = lab.file(federate__total_round_num=1)
    files = RunFolder(run(file, ["expname", "1e5"], quiet=True)["outdir"])
    assert files.load_asked().expname == "1e5"
    assert files.read_config()["expname"] == "1e5"
