"""Run YAML files on one host and write down all that can be compared.

    python record_runs.py OUT FILE...

``OUT`` gets, by file, what each run started from and went through.  The host
is the one that ``FS_PLUGINS_HOST`` names.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from helpers import copied, record, start_of

from fs_plugins.config.load import load_config
from fs_plugins.experiment.events import LiveRun
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.runner import build_runner


def run(file: Path, outdir: Path) -> dict[str, Any]:
    """One experiment, from its start to its last number."""
    cfg = load_config(file)
    outdir.mkdir(parents=True)
    cfg.outdir = str(outdir)
    runner = build_runner(cfg)
    found: dict[str, Any] = {"start": start_of(runner), "rounds": []}
    server = runner.server
    aggregate = server._perform_federated_aggregation

    def aggregated() -> Any:
        number = aggregate()
        is_ours = hasattr(server, "parameters")
        found["rounds"].append(
            {
                "global": copied(
                    server.aggregator.shared
                    if is_ours
                    else server.model.state_dict()
                ),
                "kept": {
                    ID: copied(client.kept.values) if is_ours else {}
                    for ID, client in runner.client.items()
                },
            }
        )
        return number

    server._perform_federated_aggregation = aggregated
    facts = {"method": cfg.federate.method}
    recorder = Recorder(cfg, facts)
    run = LiveRun(runner, [recorder], pauses=False)
    sent = record(runner)
    run.run()
    summary = recorder.finish(0.0)
    found["messages"] = [
        (m.msg_type, m.sender, m.receiver, m.state)
        for m in sorted(sent, key=lambda m: (m.state, m.msg_type, m.sender))
    ]
    found["communication"] = summary["communication"]
    lines = (outdir / "metrics.jsonl").read_text().splitlines()
    found["metrics"] = [json.loads(line) for line in lines]
    return found


def main(out: Path, files: list[Path]) -> None:
    folder = out.parent / out.stem
    runs = {str(f): run(f, folder / str(i)) for i, f in enumerate(files)}
    torch.save(runs, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(file) for file in sys.argv[2:]])
