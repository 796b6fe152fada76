"""An installed package has what a checkout has, in any folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "yaml_configs"
SOURCES = ("fs_plugins", "yaml_configs", "docs")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")


def python(*words, folder, **environment):
    """The output of a Python program, which must not fail."""
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the source distribution, and without a network."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, source)
    python(
        "-c",
        "from setuptools import build_meta; build_meta.build_sdist('..')",
        folder=source,
    )
    (archive,) = folder.glob("*.tar.gz")
    words = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    python("-m", *words, "-w", folder, archive, folder=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    words = ["pip", "install", "--quiet", "--no-deps", "--no-index"]
    python("-m", *words, "--target", folder, wheel, folder=folder)
    return folder


@pytest.fixture(scope="module")
def fedsa(installed, bare_python, tmp_path_factory):
    """The installed command, in a folder that has no YAML files."""
    folder = tmp_path_factory.mktemp("empty")

    def call(*words, **environment):
        path = {"PYTHONPATH": str(installed)}
        words = ("-m", "fs_plugins", *words)
        found = bare_python(*words, folder=folder, **path | environment)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    return call


def test_the_wheel_has_the_package_and_every_yaml_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = [*CONFIGS.rglob("*.yaml"), *(ROOT / "fs_plugins").rglob("*.py")]
    for file in ours:
        name = file.relative_to(ROOT).as_posix()
        wanted = name if name.startswith("fs_") else f"fs_plugins/{name}"
        assert wanted in names
    assert {"fs_plugins/py.typed", "fs_plugins/report/report.html.j2"} <= names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_version_stands_in_one_place(wheel, fedsa):
    text = (ROOT / "fs_plugins" / "version.py").read_text("utf-8")
    (version,) = re.findall(r'__version__ = "(.+)"', text)
    assert wheel.name.startswith(f"fs_plugins-{version}-")
    assert fedsa("--version") == f"fs_plugins {version}\n"
    assert version not in (ROOT / "setup.py").read_text("utf-8")


def test_the_packaged_experiments_are_listed(fedsa, installed):
    text = "".join(fedsa("methods", COLUMNS="300").split())
    assert str(installed) in text
    for name in ("demo/fedsa.yaml", "glue/rte.yaml", "+ffa", "+vera(demo)"):
        assert name in text


def test_packaged_experiments_are_completed(fedsa):
    def completed(begun):
        words = {"_FEDSA_COMPLETE": "complete_bash", "COMP_WORDS": begun}
        return fedsa(**words, COMP_CWORD=str(begun.count(" "))).split()

    assert completed("fedsa run --cfg demo/feds") == ["demo/fedsa.yaml"]
    variations = completed("fedsa run --cfg demo/fedsa.yaml+ff")
    assert variations == ["demo/fedsa.yaml+ffa"]


LOAD = """
import sys, yaml
from fs_plugins.config.load import load_config, tree_of
for name in sys.argv[1:]:
    print("---")
    print(yaml.safe_dump(tree_of(load_config(name))))
"""


def test_packaged_experiments_are_loaded_by_name(
    installed, bare_python, tmp_path
):
    """With variations; a file of the current folder comes first."""
    text = (CONFIGS / "demo" / "local.yaml").read_text("utf-8")
    (tmp_path / "demo").mkdir()
    changed = text.replace("total_round_num: 10", "total_round_num: 3")
    (tmp_path / "demo" / "local.yaml").write_text(changed)
    methods = {
        "demo/fedsa.yaml": "fedsa",
        "demo/fedsa.yaml+ffa+vera": "ffa",
        "yaml_configs/demo/fedsa.yaml+rolora": "rolora",
        "demo/local.yaml": "local",
    }
    path = {"PYTHONPATH": str(installed)}
    found = bare_python("-c", LOAD, *methods, folder=tmp_path, **path)
    assert found.returncode == 0, found.stderr
    loaded = list(yaml.safe_load_all(found.stdout))
    federate = [cfg["federate"] for cfg in loaded]
    assert [f["method"] for f in federate] == [*methods.values()]
    assert [f["total_round_num"] for f in federate] == [10, 10, 10, 3]
    assert all(cfg["data"]["type"] == "bbc@demo" for cfg in loaded)


def test_the_command_runs_a_packaged_experiment(installed, tmp_path):
    """Without a model or training: what it would do and cost."""
    words = ["run", "--cfg", "demo/fedsa.yaml+ffa", "--dry-run"]
    path = {"PYTHONPATH": str(installed)}
    text = python("-m", "fs_plugins", *words, folder=tmp_path, **path)
    assert "  method: ffa\n" in text
