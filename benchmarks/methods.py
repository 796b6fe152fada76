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
import datetime
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "methods"
# Variations of yaml_configs/demo/fedsa.yaml, and an answer without reading.
METHODS = (
    "majority",  # no method: each client answers its most frequent class
    "fedsa",
    "fedit",
    "ffa",
    "rolora",
    "share_b",
    "local",
    "sequential_b",
    "sfed",
    "feddpa",
    "flora",
    "fedex",
    "flexlora",
    "hetlora",
)
# FedDPA takes this number of steps for each of its two adapters.
SETTINGS_OF_METHOD = {"feddpa": {"train.local_update_steps": "2"}}
DATA = {"bbc": "[0.8, 0.1, 0.1]", "rotten_tomatoes": "[0.9, 0.05, 0.05]"}
SPLITS = ("iid", "dir1", "dir03")
HEADS = ("kept", "shared")
SEEDS = (0, 1, 2)
LR = 0.005
# Two cells run again with other learning rates, to see whether the order of
# the methods depends on the rate.
OTHER_LRS = {
    ("bbc", "dir03", "kept"): (0.002, 0.01),
    ("rotten_tomatoes", "iid", "kept"): (0.001, 0.002, 0.01),
}
# In this cell each method's rate is chosen on validation texts.
CHOSEN = ("bbc", "dir03", "kept")
SETTINGS = {
    "llm.tok_len": "32",
    "eval.freq": "10",
    "eval.best_res_update_round_wise_key": "test_acc",  # not reported
    "fedsa.checkpoint.every": "0",
}
Run = dict[str, Any]  # what identifies a run, and what came of it
KEYS = ("data", "split", "head", "method", "seed", "lr")


def all_runs() -> Iterator[Run]:
    """Every run, one seed after the other, then the other rates."""
    for values in itertools.product(SEEDS, DATA, SPLITS, METHODS, HEADS):
        seed, data, split, method, head = values
        # a shared head is not local; the split is the same for all seeds
        if (method, head) != ("local", "shared") and not (
            method == "majority" and seed
        ):
            yield _run(data, split, head, method, seed, LR)
    for cell, rates in OTHER_LRS.items():
        for seed, method, lr in itertools.product(SEEDS, METHODS[1:], rates):
            yield _run(*cell, method, seed, lr)


def _run(*values: Any) -> Run:
    return dict(zip(KEYS, values, strict=True))


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


def chooses_rate(run: Run) -> bool:
    """Whether the best learning rate is chosen among runs like this."""
    cell = (run["data"], run["split"], run["head"])
    return run["method"] != "majority" and cell == CHOSEN


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


def key_of(run: Run) -> tuple[Any, ...]:
    """What identifies a run."""
    return tuple(run[key] for key in KEYS)


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
        for run in run_all([_run(*key) for key in chosen], arguments.jobs):
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


def report(runs: Sequence[Run]) -> None:
    """Write README.md, methods.png and methods.svg."""
    packages = ("torch", "transformers", "peft")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in packages
    )
    lines = [
        "# The family on real text\n",
        "`python benchmarks/methods.py` wrote this on "
        f"{datetime.date.today()}, with {versions}; {len(runs)} runs of "
        f"{len(list(all_runs()))}. What it runs is said at its top.\n",
        "Each number is a mean over seeds, ± their standard deviation, of "
        "accuracy in per cent after the last round. *own*: each client's "
        "model on its own test shard, weighted by examples. *worst*: of its "
        "clients. *union*: each client's model on everyone's test shard, the "
        "mean over clients. **Bold**: differs from `fedsa` with the same "
        "head by more than noise (the 95 % interval of the difference, "
        "paired over seeds, leaves out 0); one cell in twenty would be so by "
        "chance.\n",
    ]
    if len(runs) < len(list(all_runs())):
        lines.append(
            "**Not finished**: cells rest on fewer than three seeds, one "
            "seed says little, and none is bold yet.\n"
        )
    else:
        lines.append("![Accuracy by method, split and head](methods.png)\n")
    common = _of(runs, lr=LR)
    for data in DATA:
        for head in HEADS:
            lines += _table(common, data, head)
    lines += _learning_rates(runs)
    text = "\n".join(map(_filled, lines))
    (OUT / "README.md").write_text(text, encoding="utf-8")
    _plot(common)


def _filled(text: str) -> str:
    """Prose in lines of at most 100 columns; tables as they are."""
    if text.startswith("|"):
        return text
    lines = textwrap.wrap(text, 100, break_on_hyphens=False)
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")


def _table(runs: Sequence[Run], data: str, head: str) -> list[str]:
    columns = [(s, c) for s in SPLITS for c in ("own", "worst", "union")]
    lines = [
        f"## {data}, head {head}\n",
        "| method | "
        + " | ".join(f"{s}: {c}" for s, c in columns)
        + " | MB up | MB down |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for method in METHODS:
        cells = []
        own = _of(runs, data=data, head=head, method=method)
        if not own:
            continue
        for split, column in columns:
            values = _by_seed(_of(own, split=split), column)
            first = _of(
                runs, data=data, head=head, method="fedsa", split=split
            )
            cells.append(_cell(values, _by_seed(first, column)))
        cells += [f"{own[0][way] / 1e6:.1f}" for way in ("up", "down")]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return [*lines, ""]


def _learning_rates(runs: Sequence[Run]) -> list[str]:
    lines = [
        "## Other learning rates\n",
        f"*own* with each; the tables above have {LR}.\n",
    ]
    for cell, others in OTHER_LRS.items():
        here = _of(runs, **dict(zip(KEYS, cell, strict=False)))
        lines += _rates_table(here, cell, sorted((LR, *others)))
    return lines


def _rates_table(
    runs: Sequence[Run], cell: tuple[str, str, str], rates: Sequence[float]
) -> list[str]:
    columns = list(map(str, rates))
    lines = [f"### {cell[0]}, {cell[1]}, head {cell[2]}\n"]
    if cell == CHOSEN:
        lines.append(
            "With an arrow: the rate that is best for the method on its "
            "clients' validation texts, the mean over seeds (of two, the "
            "lower); *own* and *union* are with that rate, bold as above.\n"
        )
        columns += ["own", "union"]
    lines.append(f"| method | {' | '.join(columns)} |")
    lines.append("|---" * (len(columns) + 1) + "|")
    first: list[Run] = []  # of fedsa, with its best rate
    for method in METHODS[1:]:
        found = [_of(runs, method=method, lr=rate) for rate in rates]
        cells = [_cell(_by_seed(each, "own"), {}) for each in found]
        if cell == CHOSEN:
            best = max(found, key=_on_validation)
            first = first or best
            cells[found.index(best)] += " ←"
            cells += [
                _cell(_by_seed(best, column), _by_seed(first, column))
                for column in ("own", "union")
            ]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return [*lines, ""]


def _of(runs: Iterable[Run], **wanted: Any) -> list[Run]:
    return [r for r in runs if all(r[k] == v for k, v in wanted.items())]


def _on_validation(runs: Iterable[Run]) -> float:
    """The mean accuracy; 0 before there is any."""
    return statistics.fmean([run.get("val", 0) for run in runs] or [0])


def _by_seed(runs: Iterable[Run], column: str) -> dict[int, float]:
    return {run["seed"]: 100 * run[column] for run in runs}


def _cell(values: dict[int, float], first: dict[int, float]) -> str:
    if not values:
        return "-"
    text = f"{statistics.fmean(values.values()):.1f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values.values()):.1f}"
    return f"**{text}**" if _differs(values, first) else text


def _differs(values: dict[int, float], first: dict[int, float]) -> bool:
    from fs_plugins.report.over_seeds import paired

    found = paired(values, first)
    return found is not None and abs(found[0]) > found[1]


def _plot(runs: Sequence[Run]) -> None:
    """Own and union accuracy of each method, a panel a data set and head."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = {"iid": "#4477aa", "dir1": "#ccbb44", "dir03": "#ee6677"}
    figure, panels = plt.subplots(
        len(DATA),
        len(HEADS),
        figsize=(12, 9),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    for (data, head), axes in zip(
        itertools.product(DATA, HEADS), panels.flat, strict=True
    ):
        for split, method in itertools.product(SPLITS, METHODS):
            own = _of(runs, data=data, head=head, method=method, split=split)
            if not own:
                continue
            row = METHODS.index(method) + 0.22 * (SPLITS.index(split) - 1)
            for column, marker in (("own", "o"), ("union", "|")):
                values = list(_by_seed(own, column).values())
                axes.errorbar(
                    statistics.fmean(values),
                    row,
                    xerr=statistics.stdev(values) if values[1:] else None,
                    fmt=marker,
                    color=colors[split],
                    markersize=5 if marker == "o" else 10,
                    label=f"{split}, {column}",
                )
        axes.set_yticks(range(len(METHODS)), METHODS)
        axes.invert_yaxis()
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
        axes.set_title(f"{data}, head {head}")
        axes.set_xlabel("accuracy after the last round, %")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=6
    )
    # The same runs give the same files, to the byte.
    with plt.rc_context({"svg.hashsalt": "methods"}):
        figure.savefig(OUT / "methods.svg", metadata={"Date": None})
    figure.savefig(OUT / "methods.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
