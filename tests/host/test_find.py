"""Which host is found, and what is said if it is broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def start(path="", **environment):
    """Import fs_plugins in a process of its own, with ``path`` in front."""
    root = Path(__file__).parent.parent.parent
    environment = {k: v for k, v in environment.items() if v is not None}
    base = {k: v for k, v in os.environ.items() if k != "FS_PLUGINS_HOST"}
    return subprocess.run(
        [sys.executable, "-m", "fs_plugins", "doctor"],
        capture_output=True,
        text=True,
        env=base
        | {"PYTHONPATH": os.pathsep.join([str(path), str(root)])}
        | environment,
        check=False,
    )


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


@pytest.mark.slow
def test_one_can_be_forced(tmp_path):
    broken = package(tmp_path, core="raise ImportError('broken')")
    result = start(broken, FS_PLUGINS_HOST="embedded")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("host: embedded 0.3.0+embedded")


def test_an_unknown_one_is_refused():
    result = start(FS_PLUGINS_HOST="embeded")
    assert result.returncode == 2
    assert "did you mean 'embedded'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("forced", [None, "federatedscope"])
def test_a_broken_installation_is_never_passed_over(tmp_path, forced):
    broken = package(tmp_path, core__configs__config="import no_such_module")
    result = start(broken, FS_PLUGINS_HOST=forced)
    assert result.returncode == 2
    assert "no_such_module" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_wrong_branch_is_named(tmp_path):
    master = package(tmp_path, core__configs__config="global_cfg = object()")
    result = start(master)
    assert result.returncode == 2
    assert "llm branch" in result.stderr
    assert str(tmp_path) in result.stderr


@pytest.mark.slow
def test_without_federatedscope_the_embedded_host_stands_in(host_name):
    result = start()
    assert result.returncode == 0
    assert result.stdout.startswith(f"host: {host_name} ")
