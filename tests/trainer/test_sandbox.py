"""A program that a model has written has limits, and must run to its end."""

import time

import pytest

from fs_plugins.data.human_eval import Problem
from fs_plugins.trainer.sandbox import passes

DOUBLE = Problem(
    "def double(x):\n",
    "def check(candidate):\n    assert candidate(2) == 4\n",
    "double",
)


@pytest.mark.parametrize(
    "body, right",
    [
        ("    return 2 * x\n", True),
        ("    print('noise')\n    return x + x\n", True),
        ("    return x\n", False),
        ("    return (\n", False),
        ("    raise SystemExit(0)\n", False),
        ("    import os\n    os._exit(0)\n", False),
        ("    return input()\n", False),
        ("    return [0] * (1 << 40)\n", False),
        ("    open('x', 'wb').write(bytes(1 << 22))\n    return 4\n", False),
    ],
)
def test_a_completion(body, right):
    assert passes(DOUBLE.program(body), seconds=10) is right


def test_memory_has_a_limit():
    """Eight GB of zeros would fit into this machine's address space."""
    assert not passes("x = bytearray(8 << 30)", seconds=20)


def test_what_never_ends_is_ended():
    begin = time.monotonic()
    fork = "import os\nos.fork()\nwhile True: pass"
    assert not passes(fork, seconds=1)
    assert time.monotonic() - begin < 10


def test_it_knows_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    assert passes(
        "import os, sys\nassert 'SECRET' not in os.environ\n"
        "assert os.listdir('.') == ['program.py']\n"
        "assert sys.argv == [__file__]",
        seconds=10,
    )
