"""The command ``fedsa``."""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from fs_plugins.commands.completion import complete_files
from fs_plugins.commands.federation import federation
from fs_plugins.commands.results import PAIRS, examples, results
from fs_plugins.commands.words import names_in, numbers_in
from fs_plugins.errors import (
    Interrupted,
    RunError,
    UserError,
    one_sentence,
)
from fs_plugins.notes import show_notes

app = typer.Typer(
    help="Federated LoRA on FederatedScope: share A, keep B.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    if is_asked:
        from fs_plugins import __version__

        print(f"fs_plugins {__version__}")
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Federated LoRA on FederatedScope: share A, keep B."""


_Trust = Annotated[
    bool,
    typer.Option(
        "--trust-plugins",
        help="Execute the plugins that the run's folder names.",
    ),
]


analyze = typer.Typer(help="Look into what was trained.")
app.add_typer(analyze, name="analyze")
app.add_typer(results)
app.add_typer(federation)


@app.command(
    context_settings=PAIRS,
    epilog=examples(
        "run --cfg yaml_configs/demo/fedsa.yaml",
        "run --cfg yaml_configs/demo/fedsa.yaml+ffa+vera seed 1",
        "run --cfg yaml_configs/demo/fedsa.yaml --dry-run",
        "run --resume exp/fedsa_fedsa",
    ),
)
def run(
    context: typer.Context,
    cfg: Annotated[
        str,
        typer.Option(
            help="A YAML file of FederatedScope; 'a.yaml+ffa+vera' is a.yaml "
            "with two variations.",
            autocompletion=complete_files,
        ),
    ] = "",
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Resume with another configuration."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would do and cost."),
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
    verbose: Annotated[
        bool, typer.Option(help="Show the host's log.")
    ] = False,
    trust_plugins: _Trust = False,
) -> None:
    """Run one experiment; 'key value' pairs override the file."""
    from fs_plugins import experiment

    if dry_run and resume:
        raise UserError("run: --dry-run goes with --cfg, not with --resume")
    if dry_run and cfg:
        from fs_plugins.commands.dry_run import dry_run as say

        say(cfg, context.args)
        return
    if resume:
        asked = (resume, cfg, context.args, force, quiet, verbose)
        summary = experiment.resume(*asked, trust_plugins=trust_plugins)
    elif cfg and not (force or trust_plugins):
        summary = experiment.run(cfg, context.args, quiet, verbose)
    else:
        raise UserError(
            "run: --force and --trust-plugins go with --resume"
            if cfg
            else "run: name a YAML file with --cfg, or a run with --resume"
        )
    if not quiet:
        from fs_plugins.experiment.run_folder import RunFolder

        print(f"results: {summary['outdir']}/{RunFolder.SUMMARY}")


@app.command(
    epilog=examples(
        "compare a.yaml b.yaml --seeds 0,1,2 --out exp/mine",
        "compare yaml_configs/demo/fedsa.yaml+{fedsa,fedit,local}",
        "compare a.yaml b.yaml federate.total_round_num 5",
    )
)
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            help="YAML files, then 'key value' pairs for all.",
            autocompletion=complete_files,
        ),
    ],
    seeds: Annotated[str, typer.Option(help="E.g. 0,1,2.")] = "",
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "exp/compare"
    ),
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Run several experiments and set their results side by side."""
    from fs_plugins.commands.compare import compare as compare_files

    numbers = numbers_in("--seeds", seeds)
    if not compare_files(files, numbers, out, quiet):
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "report exp/demo",
        "report exp/fedsa_fedsa exp/fedit_fedit --out exp/report",
    )
)
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folders of runs, finished or not, or folders of such "
            "folders.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(
        "exp/report"
    ),
) -> None:
    """Set runs side by side: report.html, report.md, figures."""
    from fs_plugins.commands.compare import report as write_report
    from fs_plugins.experiment.folder import make_folder
    from fs_plugins.report.runs import find_runs

    runs = find_runs(folders)
    make_folder(out)
    write_report(runs, out)


@app.command(
    epilog=examples(
        "export exp/fedsa_fedsa --client 2 --out adapter",
        "export exp/fedsa_fedsa --client all --out adapters",
        "export exp/fedsa_fedsa --client 2 --out model --merge",
    )
)
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    client: Annotated[
        str, typer.Option(help="The number of one, global, or all.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge it into the base model.")
    ] = False,
    trust_plugins: _Trust = False,
) -> None:
    """Write trained adapters as PEFT loads them, or merged models."""
    from fs_plugins.commands.export import export as export_adapters

    print(export_adapters(run, client, out, merge, trust_plugins))


@analyze.command(
    epilog=examples(
        "analyze asymmetry exp/fedsa_fedsa",
        "analyze asymmetry --cfg yaml_configs/demo/fedsa.yaml "
        "--splits iid,dir1 --adapters lora,vera",
    )
)
def asymmetry(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS]",
            help="Folders of runs, finished or not; with --cfg 'key value' "
            "pairs.",
        ),
    ] = None,
    cfg: Annotated[
        str,
        typer.Option(
            help="A YAML file: its clients train alone.",
            autocompletion=complete_files,
        ),
    ] = "",
    splits: Annotated[
        str, typer.Option(help="With --cfg: variations, e.g. iid,dir1.")
    ] = "",
    adapters: Annotated[
        str, typer.Option(help="With --cfg: variations, e.g. lora,vera.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "exp/asymmetry"
    ),
    trust_plugins: _Trust = False,
) -> None:
    """Measure how alike the clients' A are, and how alike their B are.

    With --cfg (and 'key value' pairs) the clients train alone; otherwise
    their adapters are those of runs.
    """
    from fs_plugins.analysis import runs as analysis

    if cfg:
        groups = analysis.analyze_local_training(
            cfg, words or [], names_in(splits), names_in(adapters)
        )
    elif words:
        groups = [
            analysis.analyze_run(Path(word), trust_plugins) for word in words
        ]
    else:
        raise UserError(
            "analyze asymmetry: name a YAML file with --cfg, or runs' folders"
        )
    analysis.write(groups, out)


@app.command()
def methods() -> None:
    """List the methods, the aggregators, the adapters, the experiments."""
    from fs_plugins.commands.listings import (
        adapters_table,
        aggregators_table,
        experiments_table,
        methods_table,
    )
    from fs_plugins.configurations import NAME, packaged_folder
    from fs_plugins.report.tables import show

    show(methods_table())
    show(aggregators_table())
    show(adapters_table())
    here = Path(NAME)
    show(experiments_table(here if here.is_dir() else packaged_folder()))


@app.command()
def options(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="As the documents have it.")
    ] = False,
) -> None:
    """List every key under fedsa:, what it may be and what it does."""
    from fs_plugins.commands.listings import options_tables
    from fs_plugins.report.tables import markdown, show

    for table in options_tables():
        if as_markdown:
            print(markdown(table))
        else:
            show(table)


@app.command()
def doctor() -> None:
    """Say which host runs, its version, and what it runs on."""
    from fs_plugins.commands.listings import say_what_runs

    say_what_runs()


@app.command()
def install_contrib(
    path: Annotated[Path, typer.Argument(help="FederatedScope's folder.")],
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove it again.")
    ] = False,
) -> None:
    """Make FederatedScope's own main.py see the plugins."""
    from fs_plugins.host import contrib

    if uninstall:
        print(f"removed {contrib.uninstall_contrib(path)}")
    else:
        print(f"wrote {contrib.install_contrib(path)}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command, and exit.

    The exit code is 0 if all went well, 2 for wrong input, 128 and the
    signal's number after an interruption, and 1 for anything else.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold what the terminal's encoding does not have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    show_notes()
    try:
        code: Any = app(arguments, prog_name="fedsa", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except Interrupted as stop:
        _fail(str(stop), 128 + stop.signal)
    except typer.TyperException as error:
        describe = getattr(error, "format_message", error.__str__)
        if not describe():  # The help has been printed.
            sys.exit(2)
        _fail(describe(), 2)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, code: int) -> None:
    print(f"fedsa: {one_sentence(sentence)}", file=sys.stderr)
    sys.exit(code)
