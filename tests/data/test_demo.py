"""The demo's real data and model, and how assets are checked."""

import pytest

from fs_plugins.data import assets
from fs_plugins.data.demo import load_demo
from fs_plugins.errors import UserError


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
