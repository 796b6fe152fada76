"""Runs and checks a function that a model has written.

``sandbox.passes`` starts this file as a program of its own, which becomes
three processes:

- the supervisor, which runs nothing that is foreign.  It waits for the
  checker, counts processes and files, ends all that is left, and exits with
  ``PASSED`` or not.  Nothing else tells the result.
- the worker, which runs the model's program and calls the function as often
  as it is asked to.
- the checker, which runs the problem's tests.  The tests get a function that
  asks the worker, so that nothing but plain values (numbers, texts, lists)
  comes from the worker, and the worker never has the tests.
"""

import builtins
import collections
import contextlib
import ctypes
import decimal
import fractions
import json
import os
import resource
import runpy
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PASSED = 93  # the exit code of a program that has passed
PROGRAM = "program.py"
MEMORY = 1 << 30  # bytes of each process
_FILE = 1 << 20  # bytes of each file
_FILES = 1000  # files and folders
_PROCESSES = 32
_MESSAGE = 1 << 24  # bytes of the arguments or of the result of a call
_TO_END = 5.0  # seconds to end all that a program has started
_LONGEST_PAUSE = 0.05

# Of Linux: prctl(2), unshare(2).
_PDEATHSIG, _DUMPABLE, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 4, 36, 38
_NAMESPACES = 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000

_FROM_ITEMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "dict": dict,
    "range": lambda items: range(*items),
    "iterator": iter,
    "keys": lambda items: dict.fromkeys(items).keys(),
    "values": lambda items: dict(enumerate(items)).values(),
    "items": lambda items: dict(items).items(),
}
_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": complex,
    "bytes": bytes.fromhex,
    "Fraction": fractions.Fraction,
    "Decimal": decimal.Decimal,
    "other": lambda _: object(),  # equal to nothing
}


def pack(value: Any) -> Any:
    """A value as JSON holds it: the name of its type, and its contents.

    A value of a subclass becomes one of the class.  What has no plain value
    is replaced by an object that is equal to nothing.
    """
    if value is None or isinstance(value, bool):
        return value
    text = _text_of(value)
    if text is not None:
        return text
    for kind, types in (
        ("list", list),
        ("tuple", tuple),
        ("set", set),
        ("frozenset", frozenset),
        ("deque", collections.deque),
        ("keys", collections.abc.KeysView),
        ("values", collections.abc.ValuesView),
        ("items", collections.abc.ItemsView),
        ("iterator", collections.abc.Iterator),
    ):
        if isinstance(value, types):
            return [kind, [pack(item) for item in value]]
    if isinstance(value, range):
        return [
            "range",
            [pack(n) for n in (value.start, value.stop, value.step)],
        ]
    if isinstance(value, dict):
        return ["dict", [pack(item) for item in dict.items(value)]]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return pack(value.item())  # a number of numpy
    return ["other", type(value).__name__]


def _text_of(value: Any) -> list[str] | None:
    if isinstance(value, int):
        return ["int", hex(value)]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, complex):
        return ["complex", repr(complex(value))]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, (fractions.Fraction, decimal.Decimal)):
        return [type(value).__name__, str(value)]
    return None


def unpack(packed: Any) -> Any:
    """The value that ``pack`` has packed."""
    if packed is None or isinstance(packed, bool):
        return packed
    kind, content = packed
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind](content)
    return _FROM_ITEMS[kind]([unpack(item) for item in content])


def _send(channel: socket.socket, message: Any) -> None:
    """Send a value of JSON; a ValueError if it is too long."""
    data = json.dumps(message).encode()
    if len(data) > _MESSAGE:
        raise ValueError("a value is too large")
    channel.sendall(struct.pack("!I", len(data)) + data)


def _receive(channel: socket.socket) -> Any:
    """The next value of JSON; an EOFError if there is none."""
    (size,) = struct.unpack("!I", _read(channel, 4))
    if size > _MESSAGE:
        raise ValueError("a value is too large")
    return json.loads(_read(channel, size))


def _read(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 16))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _work(channel: socket.socket, name: str) -> None:
    """Run the program, then call its function until nobody asks."""
    file = os.path.abspath(PROGRAM)
    sys.argv[:] = [file]
    function = runpy.run_path(file)[name]
    while True:
        args, kwargs = unpack(_receive(channel))
        reply: list[Any]
        try:
            result = function(*args, **kwargs)
            # The function may have changed its arguments.
            reply = ["returned", pack(result), pack(args)]
        except BaseException as error:
            reply = ["raised", type(error).__name__]
        _send(channel, reply)


def _check(channel: socket.socket, problem: dict[str, str]) -> None:
    """Run a problem's tests; an exception tells that they fail."""

    def candidate(*args: Any, **kwargs: Any) -> Any:
        _send(channel, pack((args, kwargs)))
        kind, *content = _receive(channel)
        if kind != "returned":
            raise _error(str(content[0]))
        result, changed = map(unpack, content)
        for old, new in zip(args, changed, strict=True):
            _become(old, new)
        return result

    # Tests use the helpers that a prompt defines before its function.
    names: dict[str, Any] = {"__name__": "check"}
    for body in ("", "    pass\n", "        pass\n", "\tpass\n", "  pass\n"):
        with contextlib.suppress(SyntaxError):
            code = compile(problem["prompt"] + body, "prompt", "exec")
            with contextlib.suppress(Exception):
                exec(code, names)
            break
    name = problem["entry_point"]
    names[name] = candidate
    exec(f"{problem['test']}\n\ncheck({name})\n", names)


def _error(name: str) -> Exception:
    """The built-in exception of a name, or else one of no special kind."""
    kind = getattr(builtins, name, RuntimeError)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):
            return kind()
    return RuntimeError()


def _become(old: Any, new: Any) -> None:
    """Change an argument as the function has changed its copy."""
    if type(old) is not type(new) or old == new:
        return
    if isinstance(old, list):
        old[:] = new
    elif isinstance(old, (dict, set)):
        old.clear()
        old.update(new)


def _control(option: int, value: int) -> None:
    """Call ``prctl`` where there is one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def isolate() -> bool:
    """Give the next child namespaces of its own, if that is allowed.

    The child is the first process of a namespace: all others in it end when
    the child does.  They reach no network, and signal nobody outside.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).unshare(_NAMESPACES) == 0)


def _limit(seconds: float, has_few_processes: bool) -> None:
    """Limit this process, to some seconds, and those that it starts."""
    limits = [
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, _FILE),
        (resource.RLIMIT_CORE, 0),
    ]
    if has_few_processes and os.path.isdir("/proc/self/task"):
        # The limit counts all processes of the user, and does not bind root.
        number = _PROCESSES + sum(_threads_of_user())
        limits.append((resource.RLIMIT_NPROC, number))
    for kind, most in limits:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def _threads_of_user() -> Iterator[int]:
    user = os.getuid()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                yield len(os.listdir(f"/proc/{entry.name}/task"))


def _descendants() -> list[int]:
    """The processes that this one, or one of its descendants, has started.

    Empty where there is no ``/proc`` of Linux.
    """
    parents: dict[int, int] = {}
    for name in (
        os.listdir("/proc") if os.path.isdir("/proc/self/task") else ()
    ):
        if name.isdigit():
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{name}/stat", "rb") as file,
            ):
                fields = file.read().rpartition(b")")[2].split()
                parents[int(name)] = int(fields[1])
    found: list[int] = []
    new = [os.getpid()]
    while new:
        new = [p for p, parent in parents.items() if parent in new]
        found += new
    return found


def _has_many_files() -> bool:
    """Whether there are too many files in the current folder."""
    folders, number = ["."], 0
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    number += 1
                    if number > _FILES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue
    return False


def _watch(checker: int, seconds: float) -> bool:
    """Whether the checker says in time that the tests have passed."""
    end, pause = time.monotonic() + seconds, 0.002
    while time.monotonic() < end:
        for process, status in _ended():
            if process == checker:
                return os.waitstatus_to_exitcode(status) == PASSED
        if pause >= _LONGEST_PAUSE and (
            len(_descendants()) > _PROCESSES or _has_many_files()
        ):
            return False
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
    return False


def _ended() -> Iterator[tuple[int, int]]:
    """The children that have ended since the last call."""
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            yield process, status


def _end_all(children: Sequence[int]) -> None:
    """End children, each the first of its group, and all below them."""
    for child in children:
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(OSError):
                kill(child, signal.SIGKILL)
    end = time.monotonic() + _TO_END
    while time.monotonic() < end:
        list(_ended())
        left = _descendants()
        if not left:
            return
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _child(seconds: float, job: Callable[[], None], is_worker: bool) -> int:
    """Fork a process that does a job and exits; returns its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _control(_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        _limit(seconds, has_few_processes=is_worker)
        job()
        code = PASSED
    finally:
        os._exit(code)


def main() -> None:
    """Supervise; the arguments are on the command line, the tests in stdin."""
    name, seconds, may_isolate = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    # Other processes of the user may not look into these.
    _control(_DUMPABLE, 0)
    _control(_NO_NEW_PRIVILEGES, 1)
    _control(_SUBREAPER, 1)  # Orphans stay descendants.
    of_checker, of_worker = socket.socketpair()

    def check_it() -> None:
        of_worker.close()
        _check(of_checker, json.loads(sys.stdin.buffer.read()))

    checker = _child(seconds, check_it, is_worker=False)
    of_checker.close()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if may_isolate == "True":
        isolate()
    worker = _child(seconds, lambda: _work(of_worker, name), is_worker=True)
    of_worker.close()
    has_passed = _watch(checker, seconds)
    _end_all([worker, checker])
    os._exit(PASSED if has_passed else 1)


if __name__ == "__main__":
    main()
