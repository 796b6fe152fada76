"""The rows of the options, and values that they do not allow."""

import math
import os
import re
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from fs_plugins.config.host_options import HOST_OPTIONS
from fs_plugins.config.kinds import (
    Arguments,
    Choice,
    Flag,
    Items,
    Number,
    Text,
    Whole,
)
from fs_plugins.config.load import load_config
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.scaling import Scaling
from fs_plugins.errors import UserError
from fs_plugins.experiment.runner import run

ROWS = [*OPTIONS, *HOST_OPTIONS]
KEYS = {option.key for option in ROWS}


def leaves(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def global_values():
    from federatedscope.core.configs.config import global_cfg

    return dict(leaves(global_cfg))


def test_every_key_of_the_section_has_a_row_and_its_default():
    values = {
        key: value
        for key, value in global_values().items()
        if key.startswith("fedsa.")
        and "__" not in key
        and not key.endswith("is_ready_for_run")
    }
    assert values == {option.key: option.default for option in OPTIONS}
    assert len(KEYS) == len(ROWS)


@pytest.mark.parametrize("option", ROWS, ids=lambda o: o.key)
def test_a_row_allows_its_default_and_says_what_it_does(option):
    default = global_values()[option.key]
    value = option.kind.read(option.key, default)
    assert value == default and type(value) is type(default)
    sentence = option.meaning
    assert sentence[0].isupper() and sentence.endswith(".")
    assert not re.search(r"[.;] .*[.;] ", sentence), "one plain sentence"
    assert re.fullmatch(r"\d+\.\d+\.\d+", option.since)


def wrong(kind):
    """Values that a kind does not allow."""
    if isinstance(kind, Whole):
        others = [True, 1.5, "word", [1], None, math.nan, math.inf, 10**30]
        return st.sampled_from([*others, kind.least - 1, kind.most + 1])
    if isinstance(kind, Number):
        others = [False, "word", [0.5], None, math.nan, math.inf, -math.inf]
        bounds = [kind.above, kind.below]
        bounds += [None if kind.least is None else kind.least - 0.5]
        bounds += [None if kind.most is None else kind.most + 0.5]
        return st.sampled_from(
            [*others, 10**400, *(b for b in bounds if b is not None)]
        )
    if isinstance(kind, Flag):
        return st.sampled_from([0, 1, 0.5, "maybe", [True], None])
    if isinstance(kind, Choice):
        near = [name + name[-1] for name in kind.known()]
        return st.sampled_from([*near, 5, True, ["x"], None])
    if isinstance(kind, Text):
        texts = [5, True, 0.5, None, ["x"], "a\0b", "\ud800", "x" * 5000]
        return st.sampled_from([*texts, *(["y" * 256] * kind.is_path)])
    if isinstance(kind, Items):
        inside = wrong(kind.item).map(lambda value: [value])
        others = [5, True, None] if kind.or_one else [5, True, "word", None]
        return inside | st.sampled_from(others)
    if isinstance(kind, Scaling):
        others = [5, None, "word", [5], [1, 0], [1, -2.0], [1, 2, 3], [[]]]
        return st.sampled_from([*others, ["a", 1], [0, math.nan], [False]])
    assert isinstance(kind, Arguments)
    return st.sampled_from([5, True, "word", None, {1: 2}, {"x": math.nan}])


@st.composite
def broken(draw):
    """A key and a value that is wrong, or a misspelt key."""
    option = draw(st.sampled_from(ROWS))
    if draw(st.booleans()):
        return option.key, draw(wrong(option.kind))
    place = draw(st.sampled_from(range(len(option.key))))
    letter = option.key[place]
    hypothesis.assume(letter.isalpha())
    return f"{option.key[:place]}{letter}{option.key[place:]}", 1


@hypothesis.settings(
    max_examples=400,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(broken())
def test_whatever_is_wrong_is_one_sentence_and_leaves_nothing(lab, case):
    key, value = case
    file = lab.folder / "broken.yaml"
    text = yaml.dump({key: value})
    if isinstance(value, int) and value > 10**300:
        text = f"{key}: {'9' * 400}\n"
    file.write_text(text, encoding="utf-8")
    before = sorted(os.listdir(lab.folder))
    base = lab.folder / "base.yaml"
    if not base.exists():
        base.write_text(yaml.safe_dump(lab.settings))
    with pytest.raises(UserError) as caught:
        run(f"{base}+{file}", quiet=True)
    sentence = str(caught.value)
    assert key in sentence and "\n" not in sentence
    assert not Path(lab.settings["outdir"]).exists()
    assert {*before, "base.yaml"} == {*os.listdir(lab.folder)}


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("seed", 2**32, "at most 4294967295"),
        ("federate.total_round_num", 10**30, "at most 2147483647"),
        ("federate.sample_client_num", 4, "more than the 3 clients"),
        ("federate.sample_client_rate", 1.5, "from -1 to 1"),
        ("federate.client_idx_for_local_train", 4, "more than the 3 clients"),
        ("expname", "../../../x", "leads out of outdir"),
        ("expname", "a/../../x", "leads out of outdir"),
        ("expname", "/tmp/x", "leads out of outdir"),
        ("expname_tag", "/../..", "expname: .* leads out of outdir"),
        ("data.splits", ["a", "b", "c"], "'a' is not a number"),
        ("data.splitter_args", [{"alpha": 1}, {}], "there are 2 entries"),
        ("data.splitter_args", [5], "5 is not a mapping"),
        ("llm.adapter.args", [5], "5 is not a mapping"),
        ("llm.adapter.args", {"r": 4}, "no section with a key 'r'"),
        ("eval.metrics", [1], "1 is not a text"),
        ("fedsa.ranks", [True], "True is not a whole number"),
        ("fedsa.plugins", [1], "1 is not a text"),
        ("fedsa", None, "None stands where a section does"),
        ("seed", {}, "{} is not a whole number"),
        ("early_stop.delta", math.inf, "inf is not a number"),
        ("eval.metric", ["acc"], "did you mean 'eval.metrics'"),
        ("data.subsampel", 0.5, "did you mean 'data.subsample'"),
        ("train.optimizer.lrr", 0.5, "did you mean 'train.optimizer.lr'"),
        ("eval.split", [], "names no split"),
        ("train.optimizer.type", "LBFGS", "there is no 'LBFGS'"),
        ("federate.join_in_info", ["num"], "there is no 'num'"),
        ("fedsa.base.dtype", "bfloat61", "did you mean 'bfloat16'"),
    ],
)
def test_a_value_is_refused_with_its_reason(lab, key, value, words):
    file = lab.file(**{key.replace(".", "__"): value})
    with pytest.raises(UserError, match=words) as caught:
        load_config(file)
    assert str(caught.value).startswith(key.partition("_tag")[0])


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"train__optimizer": {"type": "Adam", "lr": 0.1, "betas": [1]}},
            r"train\.optimizer: Adam refuses its arguments",
        ),
        (
            {"fedsa__state": {"backend": "disk", "folder": "/dev/null/x"}},
            r"fedsa\.state\.folder: '/dev/null/x' is no folder",
        ),
        (
            {"data__subsample": 1e-9},
            r"data\.subsample 1e-09, leave no train examples",
        ),
    ],
)
def test_what_a_run_would_trip_over(lab, changes, words):
    with pytest.raises(UserError, match=words):
        lab.run(**changes)
    assert not Path(lab.settings["outdir"]).exists()


def test_a_gpu_that_is_not_there_is_named(lab, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"device: 99 .* there are 2"):
        lab.run(use_gpu=True, device=99)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="use_gpu: there is no GPU"):
        lab.run(use_gpu=True, device=0)
    assert not Path(lab.settings["outdir"]).exists()


def test_what_a_plugin_registers_can_be_chosen(
    lab, tmp_path, registries_as_they_were
):
    """In whatever order the keys stand in the file."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from fs_plugins.aggregator import register_aggregator\n"
        "from fs_plugins.aggregator.robust import Median\n"
        "register_aggregator('middle', Median)\n"
    )
    file = tmp_path / "first.yaml"
    file.write_text(f"fedsa: {{aggregator: middle, plugins: [{plugin}]}}\n")
    cfg = load_config(f"{lab.file()}+{file}")
    assert cfg.fedsa.aggregator == "middle"
    with pytest.raises(UserError, match="did you mean 'middle'"):
        load_config(f"{lab.file()}+{file}", ["fedsa.aggregator", "midle"])
