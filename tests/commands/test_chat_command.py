"""Answers of a run's language models are those of the run."""

import io
import json
from pathlib import Path

import pytest

from fs_plugins.commands.chat import chat
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.trainer.generate import Decoding


@pytest.fixture
def trained(language_lab):
    def train(**changes):
        options = {
            "federate__total_round_num": 1,
            "fedsa__eval__generate__examples": 2,
            "fedsa__eval__generate__max_new_tokens": 12,
        }
        return Path(language_lab.run(**options | changes)["outdir"])

    return train


@pytest.mark.parametrize("template", ["", "none"])
def test_a_client_answers_as_in_the_run(trained, capsys, template):
    """The run has kept prompts and answers of its last evaluation."""
    folder = trained(fedsa__chat__template=template)
    lines = (folder / "generations.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert kept
    for line in kept[:3]:
        asked = line["prompt"].replace("### Instruction:\n", "")
        asked = asked.partition("\n\n### Response:")[0].strip()
        chat(
            *(folder, str(line["client"]), asked),
            decoding=Decoding(12, 1),
            as_json=True,
        )
        found = json.loads(capsys.readouterr().out)
        assert found["prompt"] == asked
        assert found["answer"] == line["answer"].strip()


def test_a_conversation_is_remembered_until_it_is_new(
    trained, capsys, monkeypatch
):
    folder = trained()
    text = "1+1?\n\n2+2?\n/new\n1+1?\n/end\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    chat(folder, "global", decoding=Decoding(8, 1), as_json=True)
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert [line["prompt"] for line in lines] == ["1+1?", "2+2?", "1+1?"]
    assert lines[0]["answer"] == lines[2]["answer"]


def test_what_cannot_answer_is_one_sentence(trained, lab):
    folder = trained()
    known = ", ".join(map(str, load_run(folder).clients))
    with pytest.raises(UserError, match=f"known are {known}"):
        chat(folder, "9", "a")
    other = lab.run(federate__total_round_num=1)["outdir"]
    with pytest.raises(UserError, match="its model classifies"):
        chat(Path(other), "1", "a")
