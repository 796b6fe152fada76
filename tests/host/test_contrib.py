"""FederatedScope's own ``main.py`` sees the plugins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fs_plugins.host import find_host


@pytest.fixture
def package(tmp_path):
    """A folder laid out as FederatedScope's repository."""
    package = tmp_path / "repository" / "federatedscope"
    (package / "contrib" / "data").mkdir(parents=True)
    (package / "main.py").touch()
    (package / "contrib" / "data" / "__init__.py").touch()
    return package


@pytest.mark.parametrize("at_the_root", [True, False])
def test_it_is_written_and_removed(fedsa, package, at_the_root):
    folder = package.parent if at_the_root else package
    before = sorted(package.rglob("*"))
    result = fedsa("install-contrib", folder)
    assert result.returncode == 0
    file = package / "contrib" / "data" / "fs_plugins_contrib.py"
    assert str(file) in result.stdout
    assert file.read_text().count("\n") == 1
    assert fedsa("install-contrib", folder).returncode == 0  # once more
    assert fedsa("install-contrib", folder, "--uninstall").returncode == 0
    assert sorted(package.rglob("*")) == before
    again = fedsa("install-contrib", folder, "--uninstall")
    assert again.returncode == 2 and "nothing to uninstall" in again.stderr


def test_another_folder_is_refused(fedsa, tmp_path):
    result = fedsa("install-contrib", tmp_path)
    assert result.returncode == 2
    assert "is not FederatedScope" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    find_host().name != "federatedscope",
    reason="it is FederatedScope's main.py (--host federatedscope)",
)
def test_main_runs_fedsa(lab, tmp_path):
    """On a copy of FederatedScope; the installed one stays as it is."""
    import shutil

    copy = tmp_path / "copy" / "federatedscope"
    shutil.copytree(find_host().path, copy)
    result = lab.command("install-contrib", copy)
    assert result.returncode == 0
    root = Path(__file__).parent.parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(copy.parent), str(root)]),
    }
    result = subprocess.run(
        [sys.executable, copy / "main.py", "--cfg", lab.file()],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (log,) = Path(lab.settings["outdir"]).rglob("eval_results.log")
    assert log.read_text().count("Results_weighted_avg") == 3
