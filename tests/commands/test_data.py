"""What a participant of a distributed run may look at."""

import pytest

from fs_plugins.commands.data import describe
from fs_plugins.commands.dry_run import dry_run
from fs_plugins.data import FAMILIES
from fs_plugins.errors import UserError

SITE = {
    "data__splitter": "files",
    "data__splitter_args": [],
    "fedsa__data__classes": ["ham", "spam"],
    "fedsa__data__text": ["text"],
    "fedsa__data__label": "label",
    "federate__mode": "distributed",
    "federate__share_local_model": False,
    "distribute__use": True,
}


@pytest.fixture
def site(lab, tmp_path):
    lines = [f"w{i} w{i + 1},{['ham', 'spam'][i % 2]}" for i in range(30)]
    file = tmp_path / "site.csv"
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return lambda **own: lab.file(**SITE, data__type=f"{file}@text", **own)


@pytest.mark.parametrize("look", [describe, dry_run])
def test_a_client_sees_its_own_data(site, capsys, look):
    file = site(distribute__role="client", distribute__data_idx=2)
    look(str(file), ())
    shown = capsys.readouterr().out
    assert "24" in shown and "ham" in shown and "[CLS]" in shown


@pytest.mark.parametrize("look", [describe, dry_run])
def test_a_server_has_none(site, look):
    with pytest.raises(UserError, match="the server has no data to show"):
        look(str(site(distribute__role="server")), ())


@pytest.mark.parametrize("look", [describe, dry_run])
def test_participants_that_read_the_same_data_see_all(lab, capsys, look):
    changes = {
        k: v for k, v in SITE.items() if k[:8] in ("federate", "distribu")
    }
    file = lab.file(distribute__role="server", **changes)
    look(str(file), ())
    assert "negative" in capsys.readouterr().out


def test_the_data_are_read_once(lab, capsys, monkeypatch):
    """Lengths are those of the texts before they are cut."""
    loader, read = FAMILIES["glue"], []

    def counted(name, cfg):
        read.append(loader(name, cfg))
        return read[-1]

    monkeypatch.setitem(FAMILIES, "glue", counted)
    monkeypatch.setenv("COLUMNS", "200")
    describe(str(lab.file(llm__tok_len=8)), ())
    (loaded,) = read
    (row,) = (
        line.split("│")
        for line in capsys.readouterr().out.splitlines()
        if "test" in line and " of 30" in line
    )
    # [CLS] and [SEP] stand around a sentence.
    lengths = [len(text.split()) + 2 for (text,) in loaded.test.texts]
    longer = sum(length > 8 for length in lengths)
    assert f"{max(lengths)}" == row[3].strip() and max(lengths) > 8
    assert f"{longer} of 30" == row[4].strip()
