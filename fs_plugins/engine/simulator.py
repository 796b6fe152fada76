"""Runs a job in FLARE's simulator: ``python -m fs_plugins.engine.simulator``.

The simulator gets a process of its own, as it changes the process's folder,
its log and its modules.
"""

import sys


def main(job: str, workspace: str, sites: str) -> int:
    """Run a job, with a process for each site.

    Args:
        job: the folder of the job.
        workspace: the folder that FLARE works in.
        sites: the names of the sites, with commas between them.

    Returns:
        FLARE's exit code.

    """
    from nvflare.private.fed.app.simulator.simulator_runner import (
        SimulatorRunner,
    )

    simulator = SimulatorRunner(
        job_folder=job,
        workspace=workspace,
        clients=sites,
        threads=len(sites.split(",")),
    )
    return int(simulator.run() or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
