"""The demo's real data and model, and how assets are checked."""

import pytest

from fs_plugins.data import assets, gguf
from fs_plugins.data.demo import load_demo
from fs_plugins.errors import UserError
from fs_plugins.trainer.scores import final_number


def test_bbc_news():
    """2225 documents of 5 topics, 100 of them duplicates."""
    news = load_demo("bbc")
    assert len(news) == 2225 - 100
    assert sorted(news.names) == [
        "business",
        "entertainment",
        "politics",
        "sports",
        "tech",
    ]
    assert len({text for (text,) in news.texts}) == len(news)
    assert set(news.labels) == set(range(5))


def test_rotten_tomatoes():
    """8530 sentences for and against films; IMDB's are left out."""
    reviews = load_demo("rotten_tomatoes")
    texts = [text for (text,) in reviews.texts]
    assert len(set(texts)) == len(texts)
    assert 8500 < len(texts) <= 8530
    assert max(map(len, texts)) < 300
    positive = sum(reviews.labels) / len(texts)
    assert set(reviews.labels) == {0, 1} and 0.49 < positive < 0.51


def test_a_changed_file_is_refused(monkeypatch):
    asset = assets.ASSETS["minilm"]
    wrong = assets.Asset(
        asset.package, asset.module, asset.folder, {"vocab.txt": "0" * 64}
    )
    monkeypatch.setitem(assets.ASSETS, "minilm", wrong)
    with pytest.raises(UserError, match=r"vocab\.txt is not the file"):
        assets.find_asset("minilm", "model.type")


def test_a_package_that_is_not_installed(monkeypatch):
    missing = assets.Asset("no-such-thing", "no_such_thing", "x", {})
    monkeypatch.setitem(assets.ASSETS, "bbc", missing)
    with pytest.raises(UserError, match="needs the package no-such-thing"):
        load_demo("bbc")


def test_an_unknown_asset():
    with pytest.raises(UserError, match="did you mean 'bbc@demo'"):
        load_demo("bbcc")


def test_assets_are_never_imported():
    import sys

    load_demo("bbc")
    assets.find_asset("minilm", "model.type")
    assert not {a.module for a in assets.ASSETS.values()} & sys.modules.keys()


def test_word_problems():
    """GSM8K's form; each question once; one category a template."""
    import sys

    problems = load_demo("gsm_symbolic")
    assert problems.are_instructions
    questions = [prompt for prompt, _ in problems.texts]
    assert len(set(questions)) == len(questions) > 4000
    assert len(problems.names) > 70
    for _, answer in problems.texts:
        assert final_number(answer) is not None and "####" in answer
    assert not [m for m in sys.modules if m.startswith("reasoning_gym")]
    assert load_demo("gsm_symbolic").texts == problems.texts


def test_a_gguf_file_is_converted_once(tmp_path, monkeypatch):
    """And again if what it became has been changed."""
    made = []

    def convert(file, folder):
        made.append(folder)
        (folder / "model.safetensors").write_bytes(file.read_bytes())
        digest = assets.sha256_of(folder / "model.safetensors")
        (folder / "sha256").write_text(digest)

    monkeypatch.setattr(gguf, "_convert", convert)
    file = tmp_path / "m.gguf"
    file.write_bytes(b"weights")
    digest = assets.sha256_of(file)
    folder = gguf.from_gguf(file, digest, tmp_path / "cache")
    assert gguf.from_gguf(file, digest, tmp_path / "cache") == folder
    assert len(made) == 1
    (folder / "model.safetensors").write_bytes(b"weight")
    assert gguf.from_gguf(file, digest, tmp_path / "cache") == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert len(made) == 2
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def convert(file, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise UserError("no")

    monkeypatch.setattr(gguf, "_convert", convert)
    with pytest.raises(UserError):
        gguf.from_gguf(tmp_path / "m.gguf", "0" * 64, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
