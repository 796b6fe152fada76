"""What a model has written has limits, and cannot say that it is right."""

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fs_plugins.data.human_eval import Problem
from fs_plugins.trainer import guard, sandbox
from fs_plugins.trainer.sandbox import passes

DOUBLE = Problem(
    "def double(x):\n",
    "def check(candidate):\n    assert candidate(2) == 4\n"
    "    assert candidate(7) == 14\n",
    "double",
)
RIGHT = "    return 2 * x\n"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of temporary folders, which are gone in the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not [*tmp_path.iterdir()]


@pytest.fixture(params=[True, False], ids=["namespaces", "plain"])
def in_both_ways(request, monkeypatch):
    """With namespaces, where the system has them, and without."""
    monkeypatch.setattr(sandbox, "NAMESPACES", request.param)


def body(code: str) -> str:
    """Code as the body of a function."""
    return textwrap.indent(textwrap.dedent(code), "    ")


@pytest.mark.parametrize(
    "completion, right",
    [
        (RIGHT, True),
        ("    print('noise')\n    return x + x\n", True),
        ("    return x\n", False),
        ("    return (\n", False),
        ("    raise SystemExit(0)\n", False),
        ("    return input()\n", False),
        ("    return [0] * (1 << 40)\n", False),
        ("    return bytearray(8 << 30)\n", False),
        (
            "    open('x', 'wb').write(bytes(1 << 22))\n    return 2 * x\n",
            False,
        ),
        ("    while True: pass\n", False),
    ],
)
def test_a_completion(completion, right):
    seconds = 1 if "while" in completion else 10
    assert passes(DOUBLE, completion, seconds) is right


# Each says "passed" by itself in some way, and is wrong.
CHEATS = {
    "exits at once": "import os\nos._exit(0)",
    "exits with the code": "import os\nos._exit(93)",
    "exits with the code outside": "pass\nimport os\nos._exit(93)",
    "exits in the end": "import atexit, os\natexit.register(os._exit, 93)",
    "a thread": """
        import os, threading
        threading.Timer(0.0, os._exit, [93]).start()
        return 0
    """,
    "a signal": """
        import os, signal
        signal.signal(signal.SIGALRM, lambda *_: os._exit(93))
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while True: pass
    """,
    "frames": """
        import gc, os, sys
        frame = sys._getframe()
        while frame:
            for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
                try:
                    os.write(1, str(value).encode())
                except BaseException:
                    pass
            frame = frame.f_back
        os._exit(93)
    """,
    "the packing is replaced": """
        import sys
        main = sys.modules["__main__"]
        main.pack = lambda value: True
        return 0
    """,
    "os.write is replaced": """
        import os
        os.write = lambda fd, data: len(data)
        return 0
    """,
    "all descriptors": """
        import os
        for fd in range(64):
            for text in (b"passed", b"0", b"\\0\\0\\0\\4true"):
                try:
                    os.write(fd, text)
                except OSError:
                    pass
        os._exit(93)
    """,
    "another program": """
        import os, sys
        for fd in range(64):
            try:
                os.set_inheritable(fd, True)
            except OSError:
                pass
        os.execv(sys.executable, [sys.executable, "-c", "exit(93)"])
    """,
    "descriptors of its parent": """
        import os
        for fd in range(3):
            try:
                os.write(os.open(f"/proc/{os.getppid()}/fd/{fd}", 1), b"0")
            except OSError:
                pass
        return 0
    """,
    "an equal of all": """
        class Equal:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        return Equal()
    """,
    "a number that equals all": """
        class Equal(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        return Equal(0)
    """,
    "assertions are off": """
        import builtins
        builtins.AssertionError = SystemExit
        return 0
    """,
    "a caught failure": "raise AssertionError",
    "the tests in its file": """
        import re
        return int(re.findall(r"== (\\d+)", open("program.py").read())[0])
    """,
    "the tests in memory": """
        import gc
        for o in gc.get_objects():
            if isinstance(o, dict) and "test" in o and "entry_point" in o:
                return int(o["test"].partition(f"({x}) == ")[2].split()[0])
        return 0
    """,
    "a reply too many": """
        import gc, socket, json, struct
        for o in gc.get_objects():
            if type(o) is socket.socket:
                for packed in (["int", "0x4"], ["int", "0x4"]):
                    data = json.dumps(["returned", packed, []]).encode()
                    o.sendall(struct.pack("!I", len(data)) + data)
        return 0
    """,
    "a reply that is no reply": """
        import gc, socket
        for o in gc.get_objects():
            if type(o) is socket.socket:
                o.sendall(b"\\xff" * 100)
        return 0
    """,
    "its supervisor is ended": """
        import os, signal
        for pid in (os.getppid(), *range(os.getpid() - 3, os.getpid())):
            try:
                if b"guard.py" in open(f"/proc/{pid}/cmdline", "rb").read():
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        return 0
    """,
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_is_wrong_does_not_pass(cheat, monkeypatch):
    """Without namespaces, where it can do more."""
    monkeypatch.setattr(sandbox, "NAMESPACES", False)
    assert not passes(DOUBLE, body(CHEATS[cheat]), seconds=5)


def test_a_program_that_exits_while_it_is_read_does_not_pass():
    for code in (93, 0):
        program = f"    return 0\nimport os\nos._exit({code})\n"
        assert not passes(DOUBLE, program, seconds=5)


def running(mark: str) -> list[str]:
    """The processes on this machine that have a mark in their command."""
    found = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat=,command="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [x for x in found if mark in x and " Z" not in x[:16]]


DAEMONS = """
import os, subprocess, sys
for i in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c",
                "import time; time.sleep(99)  # {mark}"])
        os._exit(0)
import time; time.sleep(0.3)  # they are on their own by now
"""


@pytest.mark.parametrize("rest", ["return 2 * x", "while True: pass"])
def test_no_process_is_left(in_both_ways, rest):
    """Even if it has left its parent, its group and its session."""
    mark = f"daemon_{os.getpid()}_{time.monotonic_ns()}"
    program = body(DAEMONS.format(mark=mark) + rest)
    is_right = rest.startswith("return")
    assert passes(DOUBLE, program, seconds=5 if is_right else 1) is is_right
    assert not running(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_process_is_left_if_the_supervisor_is_ended(monkeypatch):
    monkeypatch.setattr(sandbox, "NAMESPACES", False)
    mark = f"daemon_{os.getpid()}_{time.monotonic_ns()}"
    program = body(
        DAEMONS.format(mark=mark) + CHEATS["its supervisor is ended"]
    )
    assert not passes(DOUBLE, program, seconds=3)
    assert not running(mark)


def test_many_processes_are_too_many(in_both_ways):
    bomb = (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    )
    begin = time.monotonic()
    assert not passes(DOUBLE, body(bomb), seconds=3)
    assert time.monotonic() - begin < 30
    assert not running("guard.py double")


FILES = {
    "deep": """
        import os
        for _ in range(3000):
            os.mkdir("d"); os.chdir("d")
    """,
    "many": "for i in range(5000): open(str(i), 'w').close()",
    "without permissions": """
        import os
        os.makedirs("a/b"); open("a/b/c", "w").close()
        os.chmod("a/b", 0); os.chmod("a", 0); os.chmod(".", 0)
    """,
    "moved, and a link in its place": """
        import os
        here = os.getcwd()
        os.mkdir("inner"); open("inner/file", "w").close()
        os.rename(here, here + "_moved")
        os.symlink({victim!r}, here)
    """,
    "links": """
        import os
        os.symlink({victim!r}, "a"); os.symlink("a", "b")
        os.symlink("c", "c"); os.mkdir("d"); os.symlink({victim!r}, "d/e")
    """,
    "a daemon that writes": """
        import os
        if os.fork() == 0:
            os.setsid()
            while True:
                try: open(str(os.urandom(4).hex()), "w").close()
                except OSError: pass
    """,
}


@pytest.mark.parametrize("kind", FILES)
def test_no_file_is_left(kind, in_both_ways, tmp_path_factory):
    """And none outside is touched."""
    victim = tmp_path_factory.mktemp("victim")
    (victim / "file").write_text("untouched")
    code = textwrap.dedent(FILES[kind]).format(victim=str(victim))
    passes(DOUBLE, body(code + "\nreturn 2 * x"), seconds=3)
    assert (victim / "file").read_text() == "untouched"
    moved = [*Path(tempfile.gettempdir()).glob("*_moved")]
    assert not any(any(folder.iterdir()) for folder in moved)
    for folder in moved:  # empty; where it went is not searched for
        folder.rmdir()


def test_what_it_writes_takes_no_memory(in_both_ways):
    """Of the supervisor, or of the process that trains."""
    import resource

    flood = """
        import os
        while True:
            for fd in range(16):
                try: os.write(fd, b"x" * 65536)
                except OSError: pass
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not passes(DOUBLE, body(flood), seconds=1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 50_000  # kB; macOS counts bytes


@pytest.mark.parametrize("fault", [OSError, RecursionError, MemoryError])
def test_whatever_fails_is_not_passed(monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(subprocess, "Popen", fail)
    assert not passes(DOUBLE, RIGHT, seconds=1)


def test_a_program_that_is_no_text():
    assert not passes(DOUBLE, "    return '\0'\n", seconds=5)
    assert passes(DOUBLE, "    '\ud800'\n    return 2 * x\n", seconds=5)


def test_it_knows_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    program = body("""
        import os, sys
        assert 'SECRET' not in os.environ
        assert os.listdir('.') == ['program.py']
        assert sys.argv == [__file__]
        return 2 * x
    """)
    assert passes(DOUBLE, program, seconds=10)


def test_the_prompts_helpers_and_the_functions_own_name():
    """HumanEval's tests use both; helpers are those of the prompt."""
    problem = Problem(
        "import math\n\n\ndef helper(x):\n    return x + 1\n\n\n"
        'def f(x):\n    """Add two."""\n',
        "def check(candidate):\n"
        "    assert f(1) == candidate(1) == helper(2) == math.floor(3.5)\n",
        "f",
    )
    assert passes(problem, "    return helper(helper(x))\n", seconds=10)
    assert not passes(problem, "    return helper(x)\n", seconds=10)
    cheat = "    return 0\n\ndef helper(x): return 0\n"
    assert not passes(problem, cheat, seconds=10)


def test_tests_see_what_the_function_did():
    """Exceptions, changed arguments, iterators, arguments by name."""
    problem = Problem(
        "def f(a, b=None):\n",
        textwrap.dedent("""
            def check(candidate):
                try:
                    candidate(1)
                except ValueError:
                    pass
                else:
                    assert False
                values, table = [2, 1], {}
                assert candidate(values, b=table) is None
                assert values == [1, 2]
                assert tuple(candidate([], 3)) == (0, 1, 2)
                assert candidate([], 3) != [0, 1, 2]
        """),
        "f",
    )
    right = body("""
        if a == 1: raise ValueError("no")
        if b == 3: return (i for i in range(3))
        a.sort()
    """)
    assert passes(problem, right, seconds=10)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.fractions(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers())
    ),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=60)
def test_values_stay_what_they_are(value):
    import json

    again = guard.unpack(json.loads(json.dumps(guard.pack(value))))
    assert repr(again) == repr(value) or again == value
    assert type(again) is type(value)


def test_the_network_is_not_reached_where_there_are_namespaces():
    """Whether there are is the system's; where not, this shows nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
            import socket
            try:
                socket.create_connection(("127.0.0.1", {port}), 2)
            except OSError:
                return 2 * x
            return 0
        """
        code = textwrap.dedent(code)
        tried = "import guard, sys; sys.exit(not guard.isolate())"
        found = subprocess.run(
            [sys.executable, "-c", tried], cwd=Path(guard.__file__).parent
        )
        can_isolate = found.returncode == 0
        assert passes(DOUBLE, body(code), seconds=5) is can_isolate
