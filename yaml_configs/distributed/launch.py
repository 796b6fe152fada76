"""Start a server and its clients on this machine, and wait for them.

python yaml_configs/distributed/launch.py [key value ...]

Each participant is a process of its own, ``fedsa run --cfg <its file>``; the
``key value`` pairs go to all of them.  Ends with the highest exit code.
"""

import os
import subprocess
import sys
from pathlib import Path


def main(pairs: list[str]) -> int:
    """Run ``server.yaml`` and every ``client_*.yaml`` beside this file."""
    folder = Path(__file__).parent
    files = [folder / "server.yaml", *sorted(folder.glob("client_*.yaml"))]
    # Clients that train at the same time would fight for the cores.
    cores = max(1, (os.cpu_count() or 1) // (len(files) - 1))
    environment = {"OMP_NUM_THREADS": str(cores)} | os.environ
    command = [sys.executable, "-m", "fs_plugins", "run"]
    processes = [
        subprocess.Popen(
            [*command, "--cfg", str(file), *pairs],
            env=environment,
        )
        for file in files
    ]
    try:
        return max(abs(process.wait()) for process in processes)
    finally:
        for process in processes:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
