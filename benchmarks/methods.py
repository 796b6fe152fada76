"""The whole family on real text: accuracy, how even it is, bytes.

    python benchmarks/methods.py [--jobs 2] [--check 3] [--report]

all-MiniLM-L6-v2 with LoRA r 8 on query and value; BBC News (5 topics) and
Rotten Tomatoes (2 classes); 4 clients, IID, Dir(1) and Dir(0.3); 10 rounds of
4 steps of 16 texts (FedDPA: 2 steps for each of its two adapters); AdamW, for
all methods with the learning rate that was best of 0.002, 0.005 and 0.01 when
FedSA, FedIT and FFA were tried at Dir(1) with one seed; seeds 0, 1, 2; each
method with the head kept by its client and with the head shared.  The split is
the same for all seeds; a seed draws the adapter, the head and the batches, the
same for all methods.  ``majority`` trains nothing: each client answers the
most frequent class of its training texts.  A method may want another
learning rate than the common one: two cells of the grid are run with others,
too, and in one of them each method's rate is chosen on validation texts.

Each client's own model of the last round is evaluated on its own test shard
and on the union of all clients' test shards.  There is no choice of a round.

Finished runs stand in results/methods/runs.jsonl, one line each, and are not
run again, so that it can be stopped at any time.  ``--check`` runs some of
them again and compares.  A job is one process with one thread.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from methods_grid import (
    DATA,
    OUT,
    ROOT,
    Run,
    all_runs,
    chooses_rate,
    key_of,
    run_of,
)
from methods_report import report

# FedDPA takes this number of steps for each of its two adapters.
SETTINGS_OF_METHOD = {"feddpa": {"train.local_update_steps": "2"}}
SETTINGS = {
    "llm.tok_len": "32",
    "eval.freq": "10",
    "eval.best_res_update_round_wise_key": "test_acc",  # not reported
    "fedsa.checkpoint.every": "0",
}


def execute(run: Run) -> Run:
    """Run one; returns what identifies the run, and its results."""
    import torch

    torch.set_num_threads(1)
    score = majority if run["method"] == "majority" else trained
    with tempfile.TemporaryDirectory() as folder:
        return run | score(run, folder)


def trained(run: Run, folder: str) -> Run:
    """Train with a method; returns the scores of the last round.

    Args:
        run: what identifies the run.
        folder: the run's folder.

    """
    from fs_plugins.experiment.runner import run as run_experiment

    summary = run_experiment(*experiment(run, folder), quiet=True)
    last, sent = summary["results"]["last"], summary["communication"]
    clients = last["clients"].values()
    chooses = {"val": last["weighted"]["val_acc"]} if chooses_rate(run) else {}
    return chooses | {
        "own": last["weighted"]["test_acc"],
        "own_mean": last["mean"]["test_acc"],
        "worst": min(c["test_acc"] for c in clients),
        "spread": statistics.pstdev(c["test_acc"] for c in clients),
        "union": last["mean"]["union_acc"],
        "union_worst": min(c["union_acc"] for c in clients),
        "up": sent["uplink_bytes"],
        "down": sent["downlink_bytes"],
    }


def majority(run: Run, folder: str) -> Run:
    """The scores of clients that always answer their most frequent class.

    Args:
        run: what identifies the run.
        folder: the run's folder.

    """
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.run_folder import RunFolder
    from fs_plugins.experiment.runner import build_runner

    build_runner(load_config(*experiment(run | {"method": "local"}, folder)))
    clients = (RunFolder(folder).read_label_counts() or {}).values()
    answers = [max(c["train"], key=c["train"].__getitem__) for c in clients]
    tests = [Counter(c["test"]) for c in clients]
    everyone = sum(tests, Counter[str]())
    own = [t[a] / t.total() for t, a in zip(tests, answers, strict=True)]
    union = [everyone[a] / everyone.total() for a in answers]
    right = sum(t[a] for t, a in zip(tests, answers, strict=True))
    return {
        "own": right / everyone.total(),
        "own_mean": statistics.fmean(own),
        "worst": min(own),
        "spread": statistics.pstdev(own),
        "union": statistics.fmean(union),
        "union_worst": min(union),
        "up": 0,
        "down": 0,
    }


def experiment(run: Run, folder: str) -> tuple[str, list[str]]:
    """The YAML file with its variations, and ``key value`` pairs.

    Args:
        run: what identifies the run.
        folder: the run's folder.

    """
    name = ROOT / "yaml_configs" / "demo" / "fedsa.yaml"
    parts = [str(name), run["split"], run["method"]]
    parts += ["shared_head"] if run["head"] == "shared" else []
    splits = ["test", "union"] + (["val"] if chooses_rate(run) else [])
    settings = SETTINGS | {
        "eval.split": str(splits),
        "data.type": f"{run['data']}@demo",
        "data.splits": DATA[run["data"]],
        "seed": str(run["seed"]),
        "train.optimizer.lr": str(run["lr"]),
        "outdir": folder,
        **SETTINGS_OF_METHOD.get(run["method"], {}),
    }
    return "+".join(parts), [w for pair in settings.items() for w in pair]


def finished(file: Path) -> dict[tuple[Any, ...], Run]:
    """The runs in a file, without a line that was cut short."""
    runs = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                run = json.loads(line)
            except ValueError:
                continue
            runs[key_of(run)] = run
    return runs


def run_all(runs: Sequence[Run], jobs: int) -> Iterator[Run]:
    """Run in several processes; yields the runs in the order they end.

    Args:
        runs: what identifies each run.
        jobs: how many processes there are.

    """
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs) as pool:
        yield from pool.imap_unordered(execute, runs)


def main() -> None:
    """Run what is missing, then write the tables and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--check", type=int, default=0)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / "runs.jsonl"
    done = finished(file)
    if arguments.check:
        chosen = random.Random(len(done)).sample(sorted(done), arguments.check)
        for run in run_all([run_of(*key) for key in chosen], arguments.jobs):
            same = run == done[key_of(run)]
            print(*key_of(run), "the same" if same else f"differs: {run}")
        return
    missing = [run for run in all_runs() if key_of(run) not in done]
    for run in run_all([] if arguments.report else missing, arguments.jobs):
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(run) + "\n")
        done[key_of(run)] = run
        print(f"{len(done)}:", *key_of(run), f"{run['own']:.4f}", flush=True)
    report([done[k] for k in map(key_of, all_runs()) if k in done])


if __name__ == "__main__":
    main()
