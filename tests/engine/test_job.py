"""The job of a run, as FLARE reads it."""

import importlib
import io
import json
import zipfile

import pytest
import yaml
from helpers import GENERATED
from hypothesis import given, settings
from hypothesis import strategies as st
from nvflare.apis.job_def import JobMetaKey
from nvflare.private.fed.server.job_meta_validator import JobMetaValidator

from fs_plugins.engine.job import write_job
from fs_plugins.engine.site import asked_in

ASKED = {"seed": 1, "train": {"optimizer": {"type": "SGD", "lr": 1e-05}}}
SITES = ["north", "south"]
CONFIG = "app/config/config_fed_"


def read(folder, name):
    return json.loads((folder / name).read_text())


def built(part):
    """The object that FLARE builds."""
    module, _, name = part["path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**part["args"])


@pytest.mark.parametrize("needed, least", [(0, 2), (1, 1), (2, 2)])
def test_flare_takes_it(tmp_path, needed, least):
    folder = tmp_path / "job"
    write_job(folder, ASKED, SITES, "run-1", needed)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for each in folder.rglob("*"):
            file.write(each, each.relative_to(tmp_path))
    valid, error, meta = JobMetaValidator().validate("job", packed.getvalue())
    assert valid, error
    assert meta[JobMetaKey.MIN_CLIENTS] == least
    assert meta["mandatory_clients"] == (SITES if least == 2 else [])
    assert meta["deploy_map"] == {"app": ["server", *SITES]}


def test_no_code_travels(tmp_path):
    write_job(tmp_path, ASKED, SITES, "run-1")
    files = {f.name for f in tmp_path.rglob("*") if f.is_file()}
    assert files == {
        "meta.json",
        "config_fed_server.json",
        "config_fed_client.json",
    }


def test_flare_builds_what_it_names(tmp_path):
    from fs_plugins.engine import Federation, Participant

    write_job(tmp_path, ASKED, SITES, "run-1", needed=1)
    (workflow,) = read(tmp_path, f"{CONFIG}server.json")["workflows"]
    server = built(workflow)
    assert isinstance(server, Federation) and server._needed == 1
    (executor,) = read(tmp_path, f"{CONFIG}client.json")["executors"]
    client = built(executor["executor"])
    assert isinstance(client, Participant) and executor["tasks"] == ["*"]
    asked = {
        "seed": 1,
        "train.optimizer.type": "SGD",
        "train.optimizer.lr": 1e-05,
    }
    for part in (server, client):
        assert asked_in(part._experiment) == asked
        assert part._sites == SITES and part._run == "run-1"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["1e-5", "yes", "null", "0x1f", "1:30", "=", "a: b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab_", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(**GENERATED, max_examples=40)
@given(asked=st.dictionaries(st.text("ab_", min_size=1), values, max_size=4))
def test_the_experiment_arrives_as_it_was_asked(tmp_path_factory, asked):
    folder = tmp_path_factory.mktemp("job")
    write_job(folder, asked, SITES, "run-1")
    (workflow,) = read(folder, f"{CONFIG}server.json")["workflows"]
    (executor,) = read(folder, f"{CONFIG}client.json")["executors"]
    for part in (workflow, executor["executor"]):
        found = yaml.safe_load(part["args"]["experiment"])
        assert found == asked and repr(found) == repr(asked)
