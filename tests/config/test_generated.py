"""Any file that is no configuration is refused in a sentence.

``FEDSA_TIMES=10 FEDSA_SEED=1 pytest tests/config/test_generated.py`` draws
ten times as many files, at random.
"""

import os

import hypothesis
import pytest
from generated import BASE, ROWS, files, nested, right
from helpers import GENERATED, TIMES, within
from hypothesis import strategies as st

from fs_plugins.config.load import load_config
from fs_plugins.config.yaml_file import dump, flatten, read_yaml
from fs_plugins.errors import UserError


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file to write to, outside of the folder that is worked in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return tmp_path / "drawn.yaml"


def refused(call, *words):
    """The sentence of a refusal; "" if there is none."""
    with within(10):
        try:
            call(*words)
        except UserError as error:
            sentence = str(error)
            assert sentence.isprintable() and sentence.strip() == sentence
            assert len(sentence) < 600, sentence
            return sentence
    return ""


@hypothesis.settings(max_examples=1700 * TIMES, **GENERATED)
@hypothesis.given(data=files(), alone=st.booleans())
def test_a_file_is_accepted_or_refused_in_a_sentence(file, data, alone):
    file.write_bytes(data)
    refused(load_config, file, {} if alone else BASE)
    assert not os.listdir() and len(os.listdir(file.parent)) == 2


def test_as_many_values_as_are_refused_at_once(file):
    for text in ("[" + "1, " * 20_000 + "1]", "{" + "a, " * 20_000 + "}"):
        file.write_text(f"b: {text}\n")
        assert "more than 10000 values" in refused(load_config, file)


# Keys whose values depend on other keys, on what is registered, on the
# machine or on files.
NOT_ALONE = {
    "eval.metrics",
    "federate.client_idx_for_local_train",
    "federate.join_in_info",
    "federate.mode",
    "federate.restore_from",
    "federate.sample_client_num",
    "fedsa.adapter_dtype",
    "fedsa.base.dtype",
    "fedsa.chat.template",
    "fedsa.data.packing",
    "fedsa.eval.choices.data",
    "fedsa.eval.generate.metric",
    "fedsa.eval.generate.problems",
    "fedsa.eval.generate.samples",
    "fedsa.plugins",
    "fedsa.ranks",
    "fedsa.state.optimizer",
    "fedsa.track",
    "llm.adapter.args",
}


@hypothesis.settings(max_examples=300 * TIMES, **GENERATED)
@hypothesis.given(data=st.data())
def test_a_value_that_the_table_allows_is_accepted(file, data):
    key = data.draw(st.sampled_from(sorted(set(ROWS) - NOT_ALONE)))
    value = data.draw(right(ROWS[key].kind))
    is_right = value != [] and (key, value) != ("federate.client_num", 0)
    file.write_text(dump(nested({key: value})))
    sentence = refused(load_config, BASE, dict(flatten(read_yaml(file))))
    assert not (is_right and sentence), (key, value, sentence)
