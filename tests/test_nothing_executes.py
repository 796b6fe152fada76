"""Files of somebody else execute nothing: run folders, models, weights."""

import ast
import json
import os
import pickle
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import fs_plugins
from fs_plugins.config.load import load_config
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.settings import command_to_resume

pytestmark = pytest.mark.usefixtures("registries_as_they_were")
PACKAGE = Path(fs_plugins.__file__).parent


@pytest.fixture(scope="module")
def begun():
    """Holds the folder of the run that ``foreign`` copies."""
    return []


@pytest.fixture
def foreign(lab, begun, tmp_path):
    """A run folder whose files name a plugin, and the file that it writes.

    The plugin lies beside them, and has not been executed.
    """
    if not begun:
        summary = lab.run(federate__total_round_num=2)
        begun.append(Path(summary["outdir"]))
    folder = tmp_path / "foreign"
    shutil.copytree(begun[0], folder)
    files, trace = RunFolder(folder), tmp_path / "executed"
    plugin = files.asked.with_name("evil.py")
    plugin.write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "from fs_plugins import Listener, register_listener\n"
        "class Evil(Listener): pass\n"
        "register_listener(Evil)\n"
    )
    asked = yaml.safe_load(files.asked.read_text())
    asked.setdefault("fedsa", {})["plugins"] = ["evil.py"]
    files.write_asked(asked)
    config = folder / "config.yaml"
    used = yaml.safe_load(config.read_text())
    used["fedsa"]["plugins"] = [str(plugin)]
    config.write_text(yaml.safe_dump(used))
    return folder, trace


def unfinished(folder: Path) -> Path:
    (folder / "summary.json").unlink()
    return folder


NEEDING = {
    "resume": ("run", "--resume", "{}"),
    "resume by force": ("run", "--resume", "{}", "--force"),
    "resume with a pair": ("run", "--resume", "{}", "seed", "1"),
    "export": ("export", "{}", "--client", "1", "--out", "{}_out"),
    "merge": ("export", "{}", "--client", "1", "--out", "{}_out", "--merge"),
    "analyze": ("analyze", "asymmetry", "{}", "--out", "{}_out"),
}


@pytest.mark.parametrize("case", NEEDING)
def test_a_foreign_plugin_is_named_and_not_executed(foreign, fedsa, case):
    """Until it is trusted."""
    folder, trace = foreign
    unfinished(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    words = [word.format(folder) for word in NEEDING[case]]
    found = fedsa(*words)
    assert found.returncode == 2 and not trace.exists()
    assert len(found.stderr.splitlines()) == 1
    assert "evil.py" in found.stderr and "--trust-plugins" in found.stderr
    assert before == {
        p: p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    found = fedsa(*words, "--trust-plugins")
    assert trace.exists()
    assert "--trust-plugins" not in found.stderr


@pytest.mark.parametrize("method", ["fedsa", "FedAvg", "of_the_plugin"])
def test_what_needs_no_plugin_goes_on_without_it(foreign, fedsa, method):
    folder, trace = foreign
    config = folder / "config.yaml"
    text = config.read_text().replace("method: fedsa", f"method: {method}")
    config.write_text(text)
    out = f"{folder}_out"
    words = ["export", folder, "--client", "global", "--out", out]
    found = fedsa(*words)
    assert found.returncode == 0, found.stderr
    assert ("B at zero" in found.stdout) is (method == "fedsa")
    assert ("keeps anything" in found.stdout) is (method == "of_the_plugin")
    assert not trace.exists()


def test_to_look_at_a_run_needs_no_plugin(foreign, fedsa):
    folder, trace = foreign
    found = fedsa("report", folder, "--out", f"{folder}_out")
    assert found.returncode == 0, found.stderr
    run = fs_plugins.load_run(folder)
    assert fs_plugins.compare(run).results is not None
    assert run.metrics is not None and run.client(1).model() is not None
    assert not trace.exists()


def test_python_asks_for_trust_too(foreign):
    folder, trace = foreign
    unfinished(folder)
    with pytest.raises(fs_plugins.UserError, match=r"evil\.py.*trust_plugins"):
        fs_plugins.resume(folder)
    assert not trace.exists()
    fs_plugins.resume(folder, trust_plugins=True)
    assert trace.exists()


@pytest.mark.parametrize("way", ["--cfg", "a pair"])
def test_a_plugin_that_is_named_again_is_trusted(foreign, fedsa, way, lab):
    folder, trace = foreign
    unfinished(folder)
    plugin = str(folder / "checkpoints" / "evil.py")
    words = ["fedsa.plugins", f"['{plugin}']"]
    if way == "--cfg":
        changes = {"federate__total_round_num": 2}
        words = ["--cfg", lab.file(fedsa__plugins=[plugin], **changes)]
        words += ["--force"]  # its fedsa section is another one
    found = fedsa("run", "--resume", folder, "--quiet", *words)
    assert found.returncode == 0, found.stderr
    assert trace.exists()


def test_another_plugin_of_the_user_trusts_none_of_the_folder(foreign, lab):
    folder, trace = foreign
    unfinished(folder)
    mine = lab.folder / "mine.py"
    mine.write_text(
        "from fs_plugins import Listener, register_listener\n"
        "register_listener(type('Mine', (Listener,), {}))\n"
    )
    with pytest.raises(fs_plugins.UserError, match=r"evil\.py"):
        fs_plugins.resume(folder, force=True, fedsa__plugins=[str(mine)])
    assert not trace.exists()


def test_a_run_of_this_process_keeps_its_trust(lab, tmp_path):
    plugin = tmp_path / "own.py"
    plugin.write_text(
        "from fs_plugins import Listener, register_listener\n"
        "register_listener(type('Own', (Listener,), {}))\n"
    )
    run = fs_plugins.run(lab.file(fedsa__plugins=[str(plugin)]))
    unfinished(run.folder)
    assert fs_plugins.resume(run.folder).last == run.last
    cfg = load_config(lab.file(fedsa__plugins=[str(plugin)]))
    assert command_to_resume(cfg).endswith(" --trust-plugins")
    assert "trust" not in command_to_resume(load_config(lab.file()))


def test_trust_goes_with_a_folder(lab, fedsa):
    found = fedsa("run", "--cfg", lab.file(), "--trust-plugins")
    assert found.returncode == 2 and "--resume" in found.stderr


LINKED = [
    "exp_print.log",
    "metrics.jsonl",
    "eval_results.log",
    "system_metrics.log",
    "lock",
    "summary.json",
    "config.yaml",
    "label_counts.json",
    "checkpoints",
    "checkpoints/round_1",
    "checkpoints/round_1/state.json",
    "adapters/client_1/adapter_config.json",
]


@pytest.mark.parametrize(
    "name, kind",
    [(name, "symbolic") for name in LINKED]
    + [
        (name, "hard")
        for name in LINKED
        if ("." in name or name == "lock") and "adapters" not in name
    ],
)
def test_a_resumed_run_writes_nowhere_but_into_its_folder(
    foreign, begun, fedsa, tmp_path, name, kind
):
    """A link could have it write into ~/.bashrc."""
    folder = tmp_path / "linked"
    shutil.copytree(begun[0], folder)
    path, victim = folder / name, tmp_path / "victim"
    if path.is_dir():
        path.rename(victim)
    else:
        shutil.copy(path, victim)
        path.unlink()
    if kind == "hard":
        os.link(victim, path)
    else:
        path.symlink_to(victim)

    def contents():
        files = [victim, *victim.rglob("*")]
        return {p: p.read_bytes() for p in files if p.is_file()}

    before = contents()
    found = fedsa("run", "--resume", folder, "--force", "--quiet")
    assert contents() == before
    assert found.returncode == 2 and str(path) in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("place", ["round_1", "round_9.part"])
def test_a_second_name_that_a_killed_run_has_left(
    foreign, begun, fedsa, tmp_path, place
):
    """A run is killed between linking a file of tensors and renaming it."""
    folder = tmp_path / "linked"
    shutil.copytree(begun[0], folder)
    own = next((folder / "checkpoints").glob("round_*/*.safetensors"))
    left = folder / "checkpoints" / place
    left.mkdir(exist_ok=True)
    os.link(own, left / f"{own.name}.0123456789abcdef.part")
    found = fedsa("run", "--resume", folder, "--force", "--quiet")
    assert found.returncode == 0, found.stderr


def test_the_files_of_adapters_are_replaced_and_not_written_into(
    foreign, begun, fedsa, tmp_path
):
    """They may have several names, as adapters share their tokenizer."""
    folder = tmp_path / "linked"
    shutil.copytree(begun[0], folder)
    victims = {}
    for number, path in enumerate((folder / "adapters").rglob("*.json")):
        victims[path] = tmp_path / f"victim_{number}"
        shutil.copy(path, victims[path])
        path.unlink()
        os.link(victims[path], path)
    assert victims
    before = {v: v.read_bytes() for v in victims.values()}
    found = fedsa("run", "--resume", folder, "--force", "--quiet")
    assert found.returncode == 0, found.stderr
    assert {v: v.read_bytes() for v in victims.values()} == before
    for path, victim in victims.items():
        assert not path.samefile(victim)


def test_a_link_in_an_adapter_is_not_exported(foreign, fedsa, tmp_path):
    """What is published would hold a file of the user's."""
    folder, _ = foreign
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "adapters/client_1/notes.txt").symlink_to(secret)
    out = tmp_path / "out"
    found = fedsa("export", folder, "--client", 1, "--out", out)
    assert found.returncode == 2 and "notes.txt is a link" in found.stderr
    assert not out.exists()


def test_an_adapter_that_names_a_module_is_not_loaded(foreign, fedsa):
    folder, _ = foreign
    file = folder / "adapters/client_1/adapter_config.json"
    config = json.loads(file.read_text())
    config |= {"megatron_config": {"a": 1}, "megatron_core": "antigravity"}
    file.write_text(json.dumps(config))
    with pytest.raises(fs_plugins.UserError, match="megatron_core"):
        fs_plugins.load_run(folder).client(1).model()
    words = ["--client", 1, "--out", f"{folder}_out", "--merge"]
    found = fedsa("export", folder, *words)
    assert found.returncode == 2 and "megatron_core" in found.stderr


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.fixture
def trace(tmp_path):
    """The file that an executed attack makes."""
    file = tmp_path / "executed"
    pickle.loads(pickle.dumps(Attack(file)))
    assert file.exists()
    file.unlink()
    yield file
    assert not file.exists()


@pytest.fixture
def model(toy_model, tmp_path):
    return Path(shutil.copytree(toy_model, tmp_path / "model"))


def pickled(model: Path, **more) -> None:
    """The model's weights as a pickle, and nothing else."""
    weights = load_file(model / "model.safetensors") | more
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")


def test_a_model_of_pickled_weights_is_the_same_model(lab, model):
    before = lab.run(federate__total_round_num=1)
    pickled(model)
    after = lab.run(
        federate__total_round_num=1, model__type=f"{model}@huggingface_llm"
    )
    assert after["results"] == before["results"]


def test_a_model_with_a_pickle_that_executes_is_refused(
    lab, fedsa, model, trace
):
    pickled(model, x=Attack(trace))
    file = lab.file(model__type=f"{model}@huggingface_llm")
    found = fedsa("run", "--cfg", file)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "not unpickled" in found.stderr


def test_code_of_a_model_is_refused_without_a_question(
    lab, fedsa, model, trace, monkeypatch
):
    """On a terminal transformers would ask."""

    def asked(*_):
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", asked)
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}
    (model / "config.json").write_text(json.dumps(config))
    file = lab.file(model__type=f"{model}@huggingface_llm")
    found = fedsa("run", "--cfg", file)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "custom code" in found.stderr


@pytest.mark.parametrize("kind", ["torch", "plain", "empty", "random", "list"])
@pytest.mark.parametrize("method", ["fedsa", "FedAvg"])
def test_weights_that_execute_are_refused(
    lab, fedsa, tmp_path, trace, kind, method
):
    file = tmp_path / "start.pt"
    if kind == "torch":
        torch.save({"cur_round": 1, "model": {"x": Attack(trace)}}, file)
    elif kind == "list":
        torch.save([1.0], file)
    else:
        plain = pickle.dumps(Attack(trace))
        data = {"plain": plain, "empty": b"", "random": os.urandom(99)}
        file.write_bytes(data[kind])
    changes = {"federate__method": method}
    found = fedsa(
        "run", "--cfg", lab.file(federate__restore_from=str(file), **changes)
    )
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "federate.restore_from" in found.stderr


def test_the_hosts_workers_load_weights_only(tmp_path, trace):
    """Whatever the default of torch.load, and whoever calls them."""
    from federatedscope.core.aggregators import ClientsAvgAggregator
    from federatedscope.core.trainers.torch_trainer import GeneralTorchTrainer

    file = tmp_path / "start.pt"
    torch.save({"cur_round": 1, "model": {"x": Attack(trace)}}, file)
    layer = torch.nn.Linear(1, 1)
    trainer = GeneralTorchTrainer.__new__(GeneralTorchTrainer)
    trainer.ctx = type("Ctx", (), {"device": "cpu", "model": layer})()
    aggregator = ClientsAvgAggregator(model=layer, device="cpu")
    calls = []
    load = torch.load

    def noted(*args, **kwargs):
        calls.append(kwargs.get("weights_only"))
        return load(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", noted)
        for worker in (aggregator, trainer):
            with pytest.raises(pickle.UnpicklingError):
                worker.load_model(str(file))
    assert calls == [True, True]


def test_files_that_the_host_unpickles_are_refused(tmp_path, trace, host_name):
    """The stand-in has neither of them."""
    file = tmp_path / "data.pkl"
    file.write_bytes(pickle.dumps(Attack(trace)))
    from federatedscope.core.auxiliaries import utils

    if host_name == "embedded":
        assert not hasattr(utils, "get_resource_info")
        return
    with pytest.raises(fs_plugins.UserError, match=r"data\.pkl is a pickle"):
        utils.get_resource_info(str(file))
    from federatedscope.contrib.data.load_from_files import load_data_from_file

    cfg = type("Cfg", (), {"data": type("Data", (), {})})
    cfg.data.file_path = str(file)
    with pytest.raises(fs_plugins.UserError, match=r"data\.pkl is a pickle"):
        load_data_from_file(cfg)


def test_yaml_that_names_python_objects_is_refused(foreign, fedsa, trace):
    folder, _ = foreign
    text = f"seed: !!python/object/apply:os.system ['touch {trace}']\n"
    (folder / "config.yaml").write_text(text)
    for words in (
        ("report", folder, "--out", f"{folder}_out"),
        ("export", folder, "--client", 1, "--out", f"{folder}_out"),
        ("run", "--cfg", folder / "config.yaml"),
    ):
        found = fedsa(*words)
        assert found.returncode == 2 and found.stderr.count("\n") == 1


# What executes what it reads, and where it is allowed nevertheless.
FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
    "jsonpickle", "code", "codeop",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {"trainer/guard.py": {"exec", "compile", "runpy"}}


def risks(tree: ast.AST) -> set[str]:
    """Names of all in a module that may execute what it reads."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                names = {str(node.module).partition(".")[0]}
            found |= names & (FORBIDDEN | {"runpy"})
        if not isinstance(node, ast.Call):
            continue
        options = {
            word.arg: getattr(word.value, "value", None)
            for word in node.keywords
        }
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.add(node.func.id)
        called = ast.unparse(node.func)
        if called == "torch.load" and options.get("weights_only") is not True:
            found.add(called)
        is_numpys = re.fullmatch(r"(np|numpy)\.load", called)
        if is_numpys and options.get("allow_pickle") is not False:
            found.add(called)
        if re.fullmatch(r"yaml\.(unsafe_|full_)?load(_all)?", called):
            found.add(called)
        loads = re.search(r"(^|\.)Auto\w+\.from_pretrained$", called)
        if loads and options.get("trust_remote_code") is not False:
            found.add(called)
        if options.get("trust_remote_code") or options.get("shell"):
            found.add("trust_remote_code or shell")
    return found


def test_no_module_executes_what_it_reads():
    """Beside plugins, which ``importlib`` executes, and the sandbox."""
    files = [*PACKAGE.rglob("*.py")]
    assert len(files) > 100
    for file in files:
        name = file.relative_to(PACKAGE).as_posix()
        found = risks(ast.parse(file.read_text("utf-8")))
        assert found == ALLOWED.get(name, set()), name


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import shelve as s",
        "import marshal", "eval('1')", "exec('1')", "torch.load(f)",
        "torch.load(f, weights_only=False)", "np.load(f)", "yaml.load(f, L)",
        "numpy.load(f, allow_pickle=True)", "yaml.unsafe_load(f)",
        "subprocess.run(x, shell=True)", "AutoModel.from_pretrained(x)",
        "m.AutoConfig.from_pretrained(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_what_executes_is_found(code):
    assert risks(ast.parse(textwrap.dedent(code)))
    safe = "torch.load(f, weights_only=True); np.load(f, allow_pickle=False)"
    assert not risks(ast.parse(f"{safe}; yaml.safe_load(f); m.eval()"))
