"""How long the command takes to answer, and what it imports meanwhile.

    python benchmarks/start.py [--repeats 5]

Each line is a process of its own, with the files in the cache of the system;
printed are the median and the range of its seconds, and which of the large
packages it has imported.
"""

import argparse
import statistics
import subprocess
import sys
import time

LARGE = ("torch", "transformers", "peft", "federatedscope")
COMMANDS = ("--version", "--help", "methods", "options")
_CODE = """
import sys
from fs_plugins.cli import main
try:
    main({words!r})
except SystemExit:
    pass
print([name for name in {large!r} if name in sys.modules], file=sys.stderr)
"""


def measure(words: list[str], repeats: int) -> tuple[list[float], str]:
    """Seconds of each process, and what it has imported.

    Args:
        words: of the command.
        repeats: how many processes are timed, after one that is not.

    """
    code = _CODE.format(words=words, large=LARGE)
    imported = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
    ).stderr.splitlines()[-1]
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fs_plugins", *words],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - begin)
    return seconds, imported


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for command in COMMANDS:
        seconds, imported = measure([command], repeats)
        print(
            f"fedsa {command:10s} median {statistics.median(seconds):.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f}), imported: "
            f"{imported}",
            flush=True,
        )


if __name__ == "__main__":
    main()
