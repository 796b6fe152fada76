"""Run several experiments and set their results side by side."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config_file import load_config, name_of
from fs_plugins.errors import UserError
from fs_plugins.report.plots import plot_curves
from fs_plugins.report.tables import comparison_table, markdown, show


def compare(
    arguments: Sequence[str | Path],
    seeds: Sequence[int] | None,
    out: Path,
    quiet: bool = False,
) -> bool:
    """Run every file with every seed, each in a process of its own.

    Args:
        arguments: YAML files (``a.yaml+ffa`` too), then perhaps
            ``key value`` pairs for all.
        seeds: by default, each file's own.
        out: gets a folder a run, ``comparison.json``, ``comparison.md`` and
            ``curves.png``.
        quiet: show no progress.

    Returns:
        Whether all went well; what failed is missing from the results.

    Raises:
        UserError: the input is wrong; nothing has run.

    """
    files, overrides = _files_and_pairs([str(a) for a in arguments])
    runs = []
    for file in files:
        cfg = load_config(file, overrides)  # refuse before running any
        if cfg.federate.mode.lower() == "distributed":
            raise UserError(
                f"{file}: federate.mode is 'distributed'; start each "
                "participant with 'fedsa run' instead"
            )
        runs += [(file, seed) for seed in seeds or [cfg.seed]]
    done: list[dict[str, Any]] = []
    for file, seed in runs:
        folder = _free_folder(out, f"{name_of(file)}_seed{seed}")
        if _run(file, seed, overrides, folder, quiet):
            done.append(_read(name_of(file), folder))
    if done:
        _report(done, out)
    missing = len(runs) - len(done)
    if missing:
        print(f"{missing} of {len(runs)} runs failed", file=sys.stderr)
    return not missing


def _files_and_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    number = 0
    while number < len(words) and _is_experiment(words[number]):
        number += 1
    if not number:
        raise UserError("compare: name at least one .yaml file")
    return words[:number], words[number:]


def _is_experiment(word: str) -> bool:
    return word.partition("+")[0].endswith((".yaml", ".yml"))


def _free_folder(out: Path, name: str) -> Path:
    """A folder that no earlier run has used."""
    folder, number = out / name, 1
    while folder.exists():
        number += 1
        folder = out / f"{name}_{number}"
    return folder


def _run(
    file: str, seed: int, overrides: list[str], folder: Path, quiet: bool
) -> bool:
    command = [sys.executable, "-m", "fs_plugins", "run", "--cfg", file]
    command += ["--quiet"] if quiet else []
    command += [*overrides, "seed", str(seed), "outdir", str(folder.parent)]
    command += ["expname", folder.name, "expname_tag", ""]
    return subprocess.run(command, check=False).returncode == 0


def _read(name: str, folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return {
        "name": name,
        "folder": str(folder),
        "summary": summary,
        "curve": [json.loads(line) for line in lines],
    }


def _report(runs: list[dict[str, Any]], out: Path) -> None:
    table = comparison_table(runs)
    content = [{"name": r["name"], **r["summary"]} for r in runs]
    (out / "comparison.json").write_text(
        json.dumps(content, indent=1) + "\n", encoding="utf-8"
    )
    (out / "comparison.md").write_text(markdown(table), encoding="utf-8")
    plot_curves(runs, out / "curves.png")
    show(table)
    print(f"table: {out / 'comparison.md'}  curves: {out / 'curves.png'}")
