"""The numbers of short runs, to compare two versions of the code to the bit.

    python tests/same_numbers.py record FOLDER   runs all
    python tests/same_numbers.py compare A B     exits with 1 if they differ

Both versions must be recorded on the same machine, as sums in another order
round otherwise.  ``record`` makes the inputs in FOLDER/inputs unless they
are there: copy that folder first, so that both versions have the same.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("FS_PLUGINS_HOST", "embedded")

LORA = {"adapter_package": "peft", "r": 2, "lora_alpha": 4}
QV = {"target_modules": ["query", "value"]}


def adapter(**args: Any) -> dict[str, Any]:
    """A change of the adapter's arguments."""
    return {
        "llm__adapter__args": [{**LORA, "lora_dropout": 0.1, **QV, **args}]
    }


SHARED = {"federate__method": "fedit"}
METHODS = (
    *("fedsa", "fedit", "ffa", "rolora", "feddpa", "share_b"),
    *("sequential_b", "local", "FedAvg"),
)
AGGREGATORS = (
    *("weighted_average", "median", "trimmed_mean", "fedavgm", "fedadam"),
    *("flora", "fedex", "flexlora", "hetlora"),
)
CLASSES: dict[str, dict[str, Any]] = {
    **{f"method {n}": {"federate__method": n} for n in METHODS},
    **{
        f"aggregator {n}": {**SHARED, "fedsa__aggregator": n}
        for n in AGGREGATORS
    },
    "aggregator trimmed_mean": {
        **SHARED,
        "fedsa__aggregator": "trimmed_mean",
        "fedsa__aggregator_args": {"trim": 0.34},
    },
    "adapter rslora": adapter(adapter_method="rslora"),
    "adapter dora": adapter(adapter_method="dora"),
    "adapter pissa": adapter(adapter_method="pissa"),
    "adapter olora": adapter(adapter_method="olora"),
    "adapter vera": adapter(adapter_method="vera", r=8) | {
        "llm__adapter__args": [
            {"adapter_method": "vera", "r": 8, "vera_dropout": 0.1, **QV}
        ],
        "train__optimizer__lr": 4.0,
    },
    "adapter embedding": adapter(
        target_modules=["query", "word_embeddings"]
    ),
    "disk": {"fedsa__state__backend": "disk"},
    "a model each": {"federate__share_local_model": False},
    "sampled": {"federate__sample_client_num": 2},
    "shared head": {**SHARED, "fedsa__policy": {"HEAD": "share"}},
    "ranks": {
        **SHARED,
        "fedsa__aggregator": "hetlora",
        "fedsa__ranks": [2, 1],
    },
    "adam, its state kept": {
        "train__optimizer": {"type": "AdamW", "lr": 0.05},
        "fedsa__state__optimizer": True,
    },
    "schedule": {
        "train__scheduler": {"type": "linear", "warmup_ratio": 0.2}
    },
    "bfloat16": {"train__is_enable_half": True},
    "union": {"eval__split": ["test", "val", "union"]},
    "epochs": {"train__batch_or_epoch": "epoch"},
    "released splits": {"data__consistent_label_distribution": False},
}  # fmt: skip
LANGUAGE: dict[str, dict[str, Any]] = {
    "language fedsa": {},
    "language FedAvg": {"federate__method": "FedAvg"},
    "language, answers": {
        "fedsa__eval": {
            "generate": {"examples": 4, "max_new_tokens": 8, "shots": 1}
        }
    },
}


def record(folder: Path) -> None:
    """Run everything; the runs' folders stay in ``folder/runs``."""
    import conftest

    inputs = folder / "inputs"
    if not inputs.exists():
        _make_inputs(inputs)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    (folder / "runs").mkdir(parents=True)
    cwd = Path.cwd()
    os.chdir(folder)
    try:
        for cases, settings in (
            (CLASSES, conftest.settings_of),
            (LANGUAGE, conftest.language_settings_of),
        ):
            model, data = (
                ("inputs/bert", "inputs/glue")
                if cases is CLASSES
                else ("inputs/llama", "inputs/sums")
            )
            tree = settings(Path(f"./{model}"), Path(data), Path("runs"))
            tree["model"]["type"] = f"./{model}@huggingface_llm"
            tree["dataloader"]["shuffle"] = True
            for name, changes in cases.items():
                lab = conftest.Lab(tree, Path("runs"))
                lab.run(expname=name, **changes)
                print(name, flush=True)
    finally:
        os.chdir(cwd)


def _make_inputs(inputs: Path) -> None:
    import conftest

    class Folders:
        def mktemp(self, name: str) -> Path:
            made = inputs / f"{name}.made"
            made.mkdir(parents=True)
            return made

    for fixture, name in (
        (conftest.toy_model, "bert"),
        (conftest.toy_llama, "llama"),
        (conftest.toy_glue, "glue"),
        (conftest.toy_sums, "sums"),
    ):
        make = (
            getattr(fixture, "__wrapped__", None)
            or fixture.__pytest_wrapped__.obj
        )
        make(Folders()).rename(inputs / name)


def compare(one: Path, other: Path) -> list[str]:
    """What differs; nothing if all runs have the same numbers."""
    from helpers import everything_of

    names = [
        {f.parent.name for f in (each / "runs/exp").glob("*/summary.json")}
        for each in (one, other)
    ]
    differs = [f"{name}: in one only" for name in names[0] ^ names[1]]
    for name in sorted(names[0] & names[1]):
        found, expected = (
            everything_of(each / "runs/exp" / name) for each in (one, other)
        )
        differs += [
            f"{name}: {what}"
            for what, value in expected.items()
            if found[what] != value
        ]
    if not names[0] & names[1]:
        differs.append("there are no runs to compare")
    return differs


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import fs_plugins  # noqa: F401  makes federatedscope importable

    command, *folders = sys.argv[1:]
    if command == "record":
        record(Path(folders[0]).absolute())
    else:
        found = compare(*map(Path, folders))
        print(json.dumps(found, indent=1) if found else "the same")
        sys.exit(bool(found))
