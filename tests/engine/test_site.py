"""What is a site's own affair, whatever a job says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.config.host_options import HOST_OPTIONS
from fs_plugins.config.load import difference, load_config
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.yaml_file import flatten
from fs_plugins.engine.part import folder_of
from fs_plugins.engine.site import (
    EITHER,
    OF_SITES,
    Site,
    asked_in,
    check_run,
    experiment_at,
    load_site,
    without_own,
)
from fs_plugins.errors import UserError

BY_FILE = {"data.splitter": "files"}
OWN = {
    "data.type": "/mine.csv@text",
    "device": 3,
    "model.type": "/mine@huggingface_llm",
    "fedsa.chat.template": "mine.jinja",
    "fedsa.data.text": ["report"],
}
values = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


def is_own(key):
    return any(f"{key}.".startswith(f"{own}.") for own in OF_SITES)


@pytest.fixture(scope="module")
def keys(make_lab, tmp_path_factory):
    """All keys that a job can name."""
    cfg = load_config(make_lab(tmp_path_factory.mktemp("site")).file())
    return sorted(difference({}, cfg))


def test_each_of_them_is_a_key_or_a_section(keys):
    known = {
        o for o in OF_SITES if any(f"{k}.".startswith(f"{o}.") for k in keys)
    }
    # which the embedded host does not have
    assert {*OF_SITES} - known <= {"federate.resource_info_file"}


@pytest.mark.parametrize("ID", [0, 2])
@given(data=st.data())
def test_a_job_sets_no_key_of_a_site(keys, ID, data):
    """It says all the rest; where a site says something, the site counts."""
    drawn = st.dictionaries(st.sampled_from([*keys, *OF_SITES]), values)
    asked = data.draw(drawn) | BY_FILE
    asked |= {f"{own}.more": 1 for own in data.draw(st.sets(
        st.sampled_from(OF_SITES), max_size=2))}  # fmt: skip
    site = Site(Path("/runs"), OWN)
    found = dict(flatten(experiment_at(site, asked, ID)))
    assert {k: v for k, v in found.items() if is_own(k)} == {"device": 3}
    assert OWN.items() <= found.items()
    for key, value in asked.items():
        if not is_own(key) and key not in OWN:
            assert found[key] == value
    assert without_own(asked).items() <= asked.items()


@pytest.mark.parametrize("key", OF_SITES)
def test_each_of_them_is_left_out_and_names_like_it_are_not(key):
    site = Site(Path("/runs"), {"data.type": "mine@text"})
    asked = BY_FILE | {key: 1, f"{key}_too": 2}
    found = dict(flatten(experiment_at(site, asked, 1)))
    assert found == BY_FILE | {"data.type": "mine@text", f"{key}_too": 2}


def test_a_site_says_where_its_data_are():
    """The server has none."""
    asked = BY_FILE | {"data.type": "/etc/passwd@text"}
    with pytest.raises(UserError, match="does not say where its data are"):
        experiment_at(Site(Path("/runs")), asked, 1)
    assert experiment_at(Site(Path("/runs")), asked, 0)


@pytest.mark.parametrize("splitter", ["lda", "iid", "", None, 5, [1]])
def test_a_job_for_data_that_all_share_is_refused(splitter):
    site = Site(Path("/runs"), OWN)
    for asked in ({"data.splitter": splitter}, {}):
        with pytest.raises(UserError, match=r"data.splitter: must be files"):
            experiment_at(site, asked, 1)


def test_a_simulated_site_takes_all_from_the_job():
    asked = {"data.splitter": "lda", "data.root": "x", "device": 0}
    own = ({"device": 1}, {"data.type": "b@text"})
    site = Site(Path("/runs"), {}, True, own)
    found = [dict(flatten(experiment_at(site, asked, i))) for i in (0, 1, 2)]
    assert found == [asked, asked | own[0], asked | own[1]]


def workspace(folder, text):
    (folder / "local").mkdir()
    (folder / "local" / "fedsa.yaml").write_text(text)
    return folder


def test_a_site_without_settings_has_its_runs_in_its_workspace(tmp_path):
    assert load_site(tmp_path) == Site(tmp_path / "fedsa")


def test_its_settings_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = (
        "outdir: ~/runs\ndata: {type: a.csv@text, root: /d}\n"
        "model.type: /m@huggingface_llm\nuse_gpu: True\n"
        "fedsa:\n  state: {folder: /s}\n  transport.wait: 5\n"
    )
    assert load_site(workspace(tmp_path, text)) == Site(
        tmp_path / "home" / "runs",
        {
            "data.type": "a.csv@text",
            "data.root": "/d",
            "model.type": "/m@huggingface_llm",
            "use_gpu": True,
            "fedsa.state.folder": "/s",
            "fedsa.transport.wait": 5,
        },
    )


@pytest.mark.parametrize(
    "text, said",
    [
        ("seed: 5", "'seed' is not for a site to say, but for the job"),
        ("data: {typ: a.csv@text}", "'data.typ' is not for a site"),
        ("data: a.csv@text", "'data' is not for a site to say"),
        ("datatype: a.csv@text", "'datatype' is not for a site"),
        ("fedsa: {policy: {B: share}}", "'fedsa.policy.B' is not for a site"),
        (
            "federate: {method: x}",
            "a site says data.type, model.type",
        ),
        ("a: [", "fedsa.yaml"),
        ("- data", "fedsa.yaml"),
        ("just words", "fedsa.yaml"),
        ("data: {type: a}\ndata: {type: b}", "fedsa.yaml"),
        ("!!python/object/apply:os.system ['true']", "fedsa.yaml"),
        ("simulated: yes", "simulated is for 'fedsa federate'"),
        ("simulated: [5]", "simulated is for 'fedsa federate'"),
        ("simulated: {a: 1}", "simulated"),
    ],
)
def test_wrong_settings_are_a_sentence_that_names_the_file(
    tmp_path, text, said
):
    with pytest.raises(UserError) as error:
        load_site(workspace(tmp_path, text))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path / "local" / "fedsa.yaml") in str(error.value)


GOOD_NAMES = ["a", "Run_1.2-b", "x" * 100, "_", "1"]
BAD_NAMES = [
    *("", ".", "..", ".hidden", "-x", "a/b", "/etc", "../x", "a\\b", "a b"),
    *("a\n", "a\0", "x" * 101, "é", "a:b", "~", None, 5, b"a", ["a"]),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_of_runs(name):
    site = Site(Path("/runs"))
    assert check_run(name) == name
    assert folder_of(site, name, "site-1") == Path("/runs", name, "site-1")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_run_or_a_site_whose_name_is_a_path_is_refused(name):
    for run, own in ((name, "site-1"), ("run", name)):
        with pytest.raises(UserError, match="cannot be the name of a run"):
            folder_of(Site(Path("/runs")), run, own)


@given(st.text())
def test_no_name_leads_out_of_the_sites_folder(name):
    try:
        folder = folder_of(Site(Path("/runs")), name, "site-1")
    except UserError:
        return
    assert folder.resolve() == folder and folder.parent.parent == Path("/runs")


def test_each_option_that_names_a_file_is_for_the_site_to_say():
    """A job that named one would let the site read it."""
    paths = {
        option.key
        for option in (*OPTIONS, *HOST_OPTIONS)
        if getattr(option.kind, "is_path", False)
    }
    assert len(paths) > 10 and "fedsa.data.test" in paths
    assert not {key for key in paths if not is_own(key) and key not in EITHER}


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("model.type", "/etc@huggingface_llm", "model.type: the job names"),
        ("model.type", "../x@huggingface_llm", "model.type: the job names"),
        ("fedsa.chat.template", "/etc/passwd", "template: the job names a fi"),
    ],
)
def test_a_job_names_no_file_of_a_site(key, value, words):
    site = Site(Path("/runs"), {"data.type": "mine@text"})
    for ID in (0, 1):
        with pytest.raises(UserError, match=words):
            experiment_at(site, BY_FILE | {key: value}, ID)
    named = {"model.type": "owner/name@huggingface_llm"}
    assert experiment_at(site, BY_FILE | named, 1)["model"]["type"]


@pytest.mark.parametrize(
    "text",
    [
        "fedsa__plugins: [x.py]",
        "fedsa: {eval__generate__run_code: true}",
        "federate__restore_from: x",
        "a b: 1",
        "[1, 2]",
        "a: [",
        "a: &a [1, 1]\nb: &b [*a, *a]\n"
        + "".join(
            f"{chr(99 + i)}: &{chr(99 + i)} [*{chr(98 + i)}, *{chr(98 + i)}]\n"
            for i in range(20)
        ),
        "x" * 2_000_000,
        None,
        5,
    ],
)
def test_a_job_that_means_other_keys_than_it_says_is_refused(text):
    """Two underscores would stand for a dot; aliases would fill the memory."""
    with pytest.raises(UserError):
        asked_in(text)
    assert asked_in("fedsa: {data: {text: [a]}}") == {"fedsa.data.text": ["a"]}
