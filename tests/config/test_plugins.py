"""Methods and aggregators of the user's own."""

import re
from pathlib import Path

import pytest
import torch

from fs_plugins.config.plugins import load_plugins
from fs_plugins.errors import UserError

pytestmark = pytest.mark.usefixtures("registries_as_they_were")
PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def written(tmp_path):
    def write(text, name="mine.py"):
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return write


def example() -> str:
    """The first plugin of the documents."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# halfway\.py\n.*?)```", text, re.S)
    return code


def test_the_documents_example_in_twenty_lines(lab, written):
    """It runs, and computes what it says."""
    code = example()
    assert len(code.splitlines()) <= 20
    file = written(code)
    runner = lab.runner(
        fedsa__plugins=[file],
        federate__method="share_b_twice",
        fedsa__aggregator="halfway",
        federate__total_round_num=1,
        federate__ignore_weight=True,
    )
    start = dict(runner.server.aggregator.shared)
    assert start and all("lora_B" in name for name in start)
    added = []
    add = runner.server.aggregator.add
    runner.server.aggregator.add = lambda u, n: (added.append(u), add(u, n))
    runner.run()
    for name, value in runner.server.aggregator.shared.items():
        mean = torch.stack([u[name] for u in added]).mean(dim=0)
        torch.testing.assert_close(value, (start[name] + mean) / 2)
        assert value.any()


def test_a_file_beside_the_yaml_file_is_found(lab, written, monkeypatch):
    from fs_plugins.config.load import load_config

    file = Path(written(example(), "beside.py"))
    monkeypatch.chdir("/")
    experiment = lab.file(
        fedsa__plugins=["beside.py"], federate__method="share_b_twice"
    )
    assert experiment.parent == file.parent
    assert load_config(experiment).fedsa.plugins == [str(file)]


def test_a_killed_run_finds_its_plugin_again(lab, written):
    from fs_plugins.config.load import load_config

    file = written(example(), "again.py")
    outdir = lab.run(fedsa__plugins=[file], federate__method="share_b_twice")[
        "outdir"
    ]
    cfg = load_config(Path(outdir) / "checkpoints/experiment.yaml")
    assert cfg.fedsa.plugins == [file]


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = 1\n", "registers nothing"),
        ("import no_such_thing\n", "ModuleNotFoundError: No module named"),
        ("def (:\n", "SyntaxError"),
        ("raise ValueError('a\\nb')\n", "ValueError: a b"),
    ],
)
def test_a_file_that_is_no_plugin(lab, written, fedsa, text, said):
    file = written(text)
    found = fedsa("run", "--cfg", lab.file(fedsa__plugins=[file]))
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert f"fedsa.plugins: {file}" in found.stderr and said in found.stderr


def test_a_plugin_that_is_not_there():
    with pytest.raises(UserError, match="there is no file /no/such"):
        load_plugins(["/no/such.py"])


def test_other_names_than_those_registered_are_refused(lab, written):
    from fs_plugins.config.load import load_config

    file = lab.file(
        fedsa__plugins=[written(example(), "other.py")],
        federate__method="share_b_twize",
    )
    with pytest.raises(UserError, match="did you mean 'share_b_twice'"):
        load_config(file)


LISTENING = """
from fs_plugins import Listener, register_listener
class Counts(Listener):
    rounds = 0
    def round_begins(self, rnd, clients):
        Counts.rounds += 1
register_listener(Counts)
"""


def test_a_plugin_that_fails_registers_nothing(lab, written):
    """Once it is corrected it counts once; other runs do not know of it."""
    import sys

    code = "from fs_plugins import KEEP, Policy, register_method\n" + LISTENING
    code += "register_method('half', Policy('half', 'me', A=KEEP, B=KEEP))\n"
    file = written(code + "raise ValueError('not yet')\n")
    with pytest.raises(UserError, match="not yet"):
        lab.run(fedsa__plugins=[file])
    with pytest.raises(UserError, match="'half'"):
        lab.run(federate__method="half")
    lab.run()
    written(code)
    lab.run(fedsa__plugins=[file], federate__total_round_num=2)
    (module,) = (
        m for m in [*sys.modules.values()]
        if getattr(m, "__file__", "") == file
    )  # fmt: skip
    assert module.Counts.rounds == 2


def test_two_plugins_of_one_name_are_two(lab, tmp_path):
    import sys

    files = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "plugin.py"
        file.write_text(LISTENING)
        files.append(str(file))
    lab.run(fedsa__plugins=files[:1], federate__total_round_num=1)
    lab.run(fedsa__plugins=files, federate__total_round_num=2)
    rounds = {
        m.__file__: m.Counts.rounds
        for m in [*sys.modules.values()]
        if getattr(m, "__file__", "") in files
    }
    assert rounds == {files[0]: 3, files[1]: 2}


def test_a_listener_may_be_defined_elsewhere(lab, tmp_path, monkeypatch):
    """In a module that the plugin imports."""
    import sys

    (tmp_path / "my_listeners.py").write_text(
        LISTENING.replace("register_listener(Counts)", "")
    )
    plugin = tmp_path / "uses_it.py"
    plugin.write_text(
        "from my_listeners import Counts\n"
        "from fs_plugins import register_listener\n"
        "register_listener(Counts)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lab.run(fedsa__plugins=[str(plugin)], federate__total_round_num=2)
    assert sys.modules["my_listeners"].Counts.rounds == 2
    lab.run(federate__total_round_num=2)
    assert sys.modules["my_listeners"].Counts.rounds == 2


def test_a_plugin_that_changes_is_noticed(lab, written):
    """Python would go on with what was imported."""
    file = written(LISTENING, "edited.py")
    lab.run(fedsa__plugins=[file])
    written(LISTENING + "x = 1\n", "edited.py")
    with pytest.raises(UserError, match=r"edited\.py has changed since"):
        lab.run(fedsa__plugins=[file])


@pytest.mark.parametrize("name", ["fedsa", "mine"])
def test_a_name_that_is_taken_is_refused(lab, written, name):
    """By the project, or by another plugin."""
    code = (
        "from fs_plugins import KEEP, SHARE, Policy, register_method\n"
        "register_method('{}', Policy('rule', 'me', A={}, B=KEEP))\n"
    )
    first = written(code.format("mine", "SHARE"), "first.py")
    second = written(code.format(name, "KEEP"), "second.py")
    before = lab.run(fedsa__plugins=[first], federate__method="mine")
    with pytest.raises(UserError, match=f"'{name}', which is there already"):
        lab.run(fedsa__plugins=[second], federate__method=name)
    after = lab.run(fedsa__plugins=[first], federate__method="mine")
    assert after["results"] == before["results"]


@pytest.mark.parametrize(
    "call, said",
    [
        ("register_method('x', {'A': 'share'})", "is no Policy"),
        ("Policy('x', 'me', A='share', B=KEEP)", "A: 'share' is not one of"),
        ("Policy('x', 'me', A=KEEP, B=KEEP, even={'b': KEEP})", "Policy: b"),
        ("register_aggregator('x', object)", "no subclass of Aggregator"),
        ("register_aggregator('x', Aggregator)", "it lacks add, finish"),
        ("register_aggregator('x', Old)", "takes_pairs is now called needs"),
        ("register_examples('x', 3)", "3 is no function"),
        ("register_listener(Listener())", "no subclass of Listener"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_cannot_be_registered_is_refused(written, call, said):
    code = (
        "from fs_plugins import *\n"
        "from fs_plugins.aggregator import AGGREGATORS\n"
        "class Old(AGGREGATORS['median']):\n    takes_pairs = True\n"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        load_plugins([written(code + call + "\n", "wrong.py")])


@pytest.mark.parametrize(
    "returned, said",
    [
        ("None", "must return a pair"),
        ("Examples([('a',)], [0], ('a', 'b'))", "must return a pair"),
        ("(Examples([('a',)], [0], ('a', 'b')), 3)", "its loader returned 3"),
    ],
)
def test_what_a_loader_returns_is_checked(lab, written, returned, said):
    file = written(
        "from fs_plugins import Examples, register_examples\n"
        f"register_examples('odd', lambda name, root: {returned})\n"
    )
    with pytest.raises(UserError, match=said):
        lab.run(fedsa__plugins=[file], data__type="mine@odd")
