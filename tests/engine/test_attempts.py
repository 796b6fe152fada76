"""What an attempt leaves that has trained nothing is not in the way."""

import pytest

from fs_plugins.commands.federate import on_this_machine
from fs_plugins.engine.simulation import Simulation
from fs_plugins.errors import RunError, UserError


@pytest.fixture
def attempt(lab, monkeypatch):
    """Begins a run whose participants leave files, and do not say more."""

    def call(number=3, leaves=(), **changes):
        file = lab.file(expname="tried", federate__client_num=0, **changes)
        folder = lab.folder / "exp" / "tried"

        def run(self, job, sites, needed):
            for name in leaves:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
            return iter(())

        monkeypatch.setattr(Simulation, "run", run)
        with pytest.raises((RunError, UserError)) as error:
            on_this_machine(file, number, quiet=True)
        return folder, str(error.value)

    return call


def test_it_begins_again_unless_something_was_trained(attempt):
    folder, said = attempt(leaves=["server/config.yaml", "other/mine.csv"])
    assert "the server's process has ended" in said
    folder, said = attempt()
    assert "the server's process has ended" in said
    assert not (folder / "server/config.yaml").exists()
    assert (folder / "other/mine.csv").exists(), "it is nobody's of the run"
    kept = "site-2/state/run/client_2.safetensors"
    attempt(leaves=[kept])
    folder, said = attempt()
    assert "add --resume to go on with it" in said
    assert (folder / kept).exists()


def test_the_number_of_sites_is_that_of_the_clients(attempt):
    """The YAML file need not say it."""
    _, said = attempt(number=0)
    assert "federate.client_num" in said
