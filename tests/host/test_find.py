"""Which host is found, and what is said if it is broken."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def python(bare_python):
    """Python in a process of its own, with ``path`` in front."""

    def call(*words, path="", **environment):
        places = os.pathsep.join([str(path), str(ROOT)])
        return bare_python(*words, **{"PYTHONPATH": places} | environment)

    return call


@pytest.fixture
def start(python):
    """Import fs_plugins in a process of its own, with ``path`` in front."""

    def call(path="", FS_PLUGINS_HOST=None):
        words = ("-m", "fs_plugins", "doctor")
        return python(*words, path=path, FS_PLUGINS_HOST=FS_PLUGINS_HOST)

    return call


def package(folder, **files):
    """A package 'federatedscope' with the given modules."""
    for name, content in files.items():
        file = folder / "federatedscope" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    for parent in (folder / "federatedscope").rglob("*"):
        if parent.is_dir():
            (parent / "__init__.py").touch()
    (folder / "federatedscope" / "__init__.py").touch()
    return folder


def test_one_can_be_forced(start, tmp_path):
    broken = package(tmp_path, core="raise ImportError('broken')")
    result = start(broken, FS_PLUGINS_HOST="embedded")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("host: embedded 0.3.0+embedded")


def test_an_unknown_one_is_refused(start):
    result = start(FS_PLUGINS_HOST="embeded")
    assert result.returncode == 2
    assert "did you mean 'embedded'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("forced", [None, "federatedscope"])
def test_a_broken_installation_is_never_passed_over(start, tmp_path, forced):
    broken = package(tmp_path, core__configs__config="import no_such_module")
    result = start(broken, FS_PLUGINS_HOST=forced)
    assert result.returncode == 2
    assert "no_such_module" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_wrong_branch_is_named(start, tmp_path):
    master = package(tmp_path, core__configs__config="global_cfg = object()")
    result = start(master)
    assert result.returncode == 2
    assert "llm branch" in result.stderr
    assert str(tmp_path) in result.stderr


def test_without_federatedscope_the_embedded_host_stands_in(start, host_name):
    result = start()
    assert result.returncode == 0
    assert result.stdout.startswith(f"host: {host_name} ")


REGISTERED = (
    "from federatedscope.core.configs.config import global_cfg;"
    "print('fedsa' in global_cfg)"
)


@pytest.mark.parametrize(
    "before",
    [
        "import importlib, fs_plugins; importlib.reload(fs_plugins);",
        "import fs_plugins, sys; [sys.modules.pop(n) for n in [*sys.modules] "
        "if n.startswith('fs_plugins')]; import fs_plugins;",
        "import fs_plugins, importlib.util as u; u.find_spec('federatedscope')"
        "; u.find_spec('federatedscope');",
        "import fs_plugins, federatedscope, importlib;"
        "importlib.reload(federatedscope);",
    ],
)
def test_the_plugins_are_registered_whatever_was_imported(python, before):
    result = python("-c", before + REGISTERED)
    assert result.stdout == "True\n", result.stderr


def test_a_folder_of_that_name_is_no_host(start, tmp_path, host_name):
    (tmp_path / "federatedscope").mkdir()
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"host: {host_name} ")


def test_another_host_may_be_tried_after_a_failure(python, tmp_path):
    """As the sentence says, in the same process."""
    broken = package(tmp_path, core__configs__config="global_cfg = object()")
    code = (
        "import os, fs_plugins; os.environ.pop('FS_PLUGINS_HOST', None)\n"
        "try: import federatedscope\n"
        "except fs_plugins.UserError as error: print('no LLM' in str(error))\n"
        "os.environ['FS_PLUGINS_HOST'] = 'embedded'\n"
    )
    result = python("-c", code + REGISTERED, path=broken)
    assert result.stdout == "True\nTrue\n", result.stderr
