"""Startup kits of FLARE's, prepared by their participants."""

import json
import logging
import shutil
from types import SimpleNamespace

import pytest
import yaml
from nvflare.lighter.provision import provision

from fs_plugins.engine.kit import prepare
from fs_plugins.errors import UserError

BUILDERS = {
    "workspace.WorkspaceBuilder": {"template_file": ["master_template.yml"]},
    "static_file.StaticFileBuilder": {"config_folder": "config"},
    "cert.CertBuilder": {},
    "signature.SignatureBuilder": {},
}
PROJECT = {
    "api_version": 3,
    "name": "hospitals",
    "participants": [
        {"name": "localhost", "type": "server", "org": "lead",
         "fed_learn_port": 18002, "admin_port": 18003},
        {"name": "north", "type": "client", "org": "north"},
        {"name": "a@lead.org", "type": "admin", "org": "lead",
         "role": "lead"},
    ],
    "builders": [
        {"path": f"nvflare.lighter.impl.{name}", "args": args}
        for name, args in BUILDERS.items()
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory):
    """The kits as FLARE makes them."""
    folder = tmp_path_factory.mktemp("kits")
    logging.disable()
    try:
        provision(
            SimpleNamespace(gen_scripts=False),
            json.loads(json.dumps(PROJECT)),
            "project.yml",
            str(folder),
        )
    finally:
        logging.disable(logging.NOTSET)
    (kits,) = folder.rglob("prod_00")
    return kits


@pytest.fixture
def kits(provisioned, tmp_path):
    shutil.copytree(provisioned, tmp_path / "kits")
    return tmp_path / "kits"


def read(kit, name):
    return json.loads((kit / "local" / name).read_text())


def test_a_sites_kit(kits):
    kit = kits / "north"
    written = prepare(kit, "/d/a.csv@text", ["A", "HEAD"], "/m@hf")
    names = ["resources.json", "authorization.json", "privacy.json"]
    assert [f.name for f in written] == [*names, "fedsa.yaml"]
    assert all(f.parent == kit / "local" for f in written)
    own = yaml.safe_load((kit / "local" / "fedsa.yaml").read_text())
    assert own == {"data": {"type": "/d/a.csv@text"},
                   "model": {"type": "/m@hf"}}  # fmt: skip
    privacy = read(kit, "privacy.json")
    (scope,) = privacy["scopes"]
    assert privacy["default_scope"] == scope["name"]
    (own,) = scope["task_result_filters"]
    assert own["path"] == "fs_plugins.engine.SharedOnly"
    assert own["args"] == {"share": ["A", "HEAD"]}


@pytest.mark.parametrize("name", ["north", "localhost"])
def test_no_code_travels_and_no_log_leaves(kits, name):
    kit = kits / name
    prepare(kit, "a.csv@text" if name == "north" else "")
    resources = read(kit, "resources.json")
    assert resources["class_allow_list"] == [
        "fs_plugins.engine.Federation",
        "fs_plugins.engine.Participant",
        "fs_plugins.engine.SharedOnly",
    ]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    by_default = read(kit, "resources.json.default")["components"]
    kept = {each["id"] for each in resources["components"]}
    assert {c["id"] for c in by_default} - kept <= {"site_log_streamer"}
    permissions = read(kit, "authorization.json")["permissions"]
    assert {"project_admin", "lead"} <= permissions.keys()
    for role, rights in permissions.items():
        if isinstance(rights, str):
            assert rights == "none", role
        else:
            assert rights["byoc"] == rights["shell_commands"] == "none", role
    may = permissions["project_admin"]
    assert may["submit_job"] == may["download_job"] == "any"


def test_what_the_server_keeps_is_in_its_kit(kits):
    """Not in the folder of the process, where a restart would miss it."""
    kit = kits / "localhost"
    prepare(kit)
    text = (kit / "local" / "resources.json").read_text()
    assert str(kit / "jobs") in text and str(kit / "snapshots") in text
    assert "/tmp/nvflare" not in text
    assert not (kit / "local" / "privacy.json").exists()
    assert not (kit / "local" / "fedsa.yaml").exists()


@pytest.mark.parametrize(
    "name, data", [("north", "a@text"), ("localhost", "")]
)
def test_a_second_time_changes_nothing(kits, name, data):
    kit = kits / name
    first = {f: f.read_bytes() for f in prepare(kit, data)}
    second = {f: f.read_bytes() for f in prepare(kit, data)}
    assert first == second


def test_a_new_answer_replaces_the_old_one(kits):
    kit = kits / "north"
    prepare(kit, "a@text", ["A", "B"], "m@hf")
    prepare(kit, "b@text")
    own = yaml.safe_load((kit / "local" / "fedsa.yaml").read_text())
    assert own == {"data": {"type": "b@text"}}
    assert '"B"' not in (kit / "local" / "privacy.json").read_text()


def test_paths_are_absolute_as_flare_starts_elsewhere(
    kits, tmp_path, monkeypatch
):
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    prepare(kits / "north", "a.csv@text", model="none@hf")
    own = yaml.safe_load((kits / "north" / "local/fedsa.yaml").read_text())
    assert own == {"data": {"type": f"{tmp_path}/a.csv@text"},
                   "model": {"type": "none@hf"}}  # fmt: skip


@pytest.mark.parametrize(
    "name, words, said",
    [
        ("", {"data": "a@text"}, "is not the startup kit of a server or a"),
        ("none", {"data": "a@text"}, "is not the startup kit"),
        ("a@lead.org", {"data": "a@text"}, "is not the startup kit"),
        ("north/startup", {"data": "a@text"}, "is not the startup kit"),
        ("localhost", {"data": "a@text"}, "the server has no data"),
        ("north", {}, "say with --data where this site's data are"),
        ("north", {"data": "a@text", "share": ["C"]}, "'C' is not one of"),
        ("north", {"data": "a@text", "share": ["a"]}, "A, B, HEAD, OTHER"),
    ],
)
def test_a_wrong_word_is_a_sentence_and_changes_nothing(
    kits, name, words, said
):
    before = sorted(kits.rglob("*"))
    with pytest.raises(UserError) as error:
        prepare(kits / name, **words)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert sorted(kits.rglob("*")) == before


@pytest.mark.parametrize("how", ["is gone", "is no JSON"])
def test_a_kit_without_flares_own_files_is_refused(kits, how):
    file = kits / "north" / "local" / "authorization.json.default"
    file.unlink() if how == "is gone" else file.write_text("{")
    with pytest.raises(UserError, match=r"authorization.json.default cannot"):
        prepare(kits / "north", "a@text")
    assert not (kits / "north" / "local" / "resources.json").exists()
