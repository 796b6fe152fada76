"""What the participants of a distributed run must agree in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.config.agreement import agreed, disagreement
from fs_plugins.config.load import load_config
from fs_plugins.wire.messages import Joining

# a key, and two values of it that do not go together
DIFFERENT = {
    "seed": (1, 2),
    "federate__total_round_num": (3, 4),
    "federate__method": ("fedsa", "fedit"),
    "data__splitter": ("lda", "iid"),
    "data__splitter_args": ([{"alpha": 1.0}], [{"alpha": 0.5}]),
    "data__splits": ([0.8, 0.1, 0.1], [0.6, 0.2, 0.2]),
    "data__type": ("sst2@glue", "rte@glue"),
    "dataloader__batch_size": (4, 8),
    "llm__tok_len": (16, 8),
    "train__optimizer": ({"type": "SGD", "lr": 0.5},
                         {"type": "SGD", "lr": 0.5, "momentum": 0.9}),
    "train__scheduler": ({"type": ""}, {"type": "linear"}),
    "fedsa__policy": ({}, {"HEAD": "share"}),
    "fedsa__ranks": ([2, 1], [1, 2]),
    "fedsa__lr": ({"B": 0.5}, {"B": 0.1}),
    "eval__metrics": (["acc"], ["acc", "f1"]),
}  # fmt: skip
# values that each participant chooses
FREE = {
    "outdir": ("a", "b"),
    "expname": ("one", "other"),
    "device": (0, 1),
    "data__root": ("here", "there"),
    "verbose": (0, 1),
    "fedsa__min_received": (1, 2),
    "fedsa__round_timeout": (0.0, 5.0),
    "fedsa__eval": (
        {"generate": {"batch_size": 1}},
        {"generate": {"batch_size": 8}},
    ),
    "fedsa__transport": ({"wait": 3.0}, {"wait": 4.0}),
    "fedsa__token_cache": ("a", "b"),
    "fedsa__state": ({"backend": "disk"}, {"backend": "memory"}),
}


def settings_with(lab, key, value):
    return agreed(load_config(lab.file(**{key: value})))


@pytest.mark.parametrize("key", DIFFERENT)
def test_what_must_agree_is_named(lab, key):
    ours, theirs = (settings_with(lab, key, v) for v in DIFFERENT[key])
    told = disagreement(ours, theirs)
    assert key.replace("__", ".") in told, told
    assert disagreement(ours, ours) == ""
    assert len(told) < 300


@pytest.mark.parametrize("key", FREE)
def test_what_may_differ_is_not_compared(lab, key):
    ours, theirs = (settings_with(lab, key, v) for v in FREE[key])
    assert ours == theirs


def test_nothing_of_a_machine_is_told(lab, tmp_path, toy_model, toy_glue):
    """Neither where files are, nor what a client calls itself."""
    settings = agreed(load_config(lab.file(expname="secret")))
    text = repr(settings)
    for word in (str(tmp_path), str(toy_model), str(toy_glue), "secret"):
        assert word not in text
    assert settings["model.type"] == '"@huggingface_llm"'
    assert settings["data.type"] == '"sst2@glue"'


def test_a_path_and_a_name_are_not_compared(lab):
    hub = settings_with(lab, "model__type", "roberta-large@huggingface_llm")
    assert disagreement(hub, agreed(load_config(lab.file()))) == ""
    other = settings_with(lab, "model__type", "bert-base@huggingface_llm")
    assert "model.type" in disagreement(hub, other)


def test_what_is_told_can_be_sent(lab):
    """Long values too, which are told as digests."""
    settings = settings_with(lab, "fedsa__ranks", [2, 1] * 50)
    content = Joining(settings).to_content()
    assert Joining.from_content(content).settings == settings
    other = settings_with(lab, "fedsa__ranks", [1, 2] * 50)
    assert "fedsa.ranks" in disagreement(settings, other)
    assert len(settings["fedsa.ranks"]) < 30


def test_many_differences_are_counted():
    ours = {f"key{i}": "1" for i in range(20)}
    told = disagreement(ours, dict.fromkeys(ours, "2"))
    assert "key0 is 2 and not 1" in told and "and 15 more" in told


@given(
    st.dictionaries(
        st.sampled_from(["seed", "data.type", "fedsa.ranks"]),
        st.text("ab@/. ", max_size=9),
    )
)
def test_keys_that_only_one_side_knows_are_not_compared(theirs):
    told = disagreement({"seed": "1"}, theirs)
    assert bool(told) == ("seed" in theirs and theirs["seed"] != "1")
