"""The project's own YAML files are found by name; what is here comes first."""

import pytest

from fs_plugins.config.load import files_of, load_config
from fs_plugins.configurations import (
    find_configuration,
    packaged_folder,
    packaged_names,
)
from fs_plugins.errors import UserError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder without YAML files."""
    monkeypatch.chdir(tmp_path)


def test_names_are_those_of_experiments():
    """A variation is no experiment, and is not offered as one."""
    names = packaged_names()
    assert {"demo/fedsa.yaml", "glue/rte.yaml"} <= set(names)
    assert not any("variations" in name for name in names)


@pytest.mark.parametrize("start", ["", "yaml_configs/", "./"])
def test_an_experiment_is_found_by_name(start):
    file = find_configuration(f"{start}demo/fedsa.yaml")
    assert file == packaged_folder() / "demo" / "fedsa.yaml"
    assert file.is_file()


def test_its_variations_are_found_with_it():
    files = files_of("demo/fedsa.yaml+ffa+vera")
    folder = packaged_folder()
    assert files == [
        folder / "demo" / "fedsa.yaml",
        folder / "variations" / "ffa.yaml",
        folder / "demo" / "variations" / "vera.yaml",
    ]


@pytest.mark.parametrize("name", ["demo/fedsa.yaml", "yaml_configs/a.yaml"])
def test_a_path_that_exists_comes_first(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text("seed: 7\n")
    assert find_configuration(name).resolve() == file
    assert load_config(name).seed == 7


@pytest.mark.parametrize(
    "name", ["../setup.py", "demo", "demo/../demo/fedsa.yaml", "", "none.yaml"]
)
def test_nothing_but_an_experiment_is_found(name):
    """No other file of the package, and no folder."""
    assert packaged_folder() not in find_configuration(name).parents


def test_a_name_that_is_nearly_right():
    with pytest.raises(UserError, match=r"did you mean 'demo/fedsa\.yaml'"):
        load_config("demo/fedsaa.yaml")
