"""The commands for runs on NVIDIA FLARE."""

from pathlib import Path
from typing import Annotated

import typer

from fs_plugins.commands.completion import complete_files
from fs_plugins.commands.results import PAIRS, examples
from fs_plugins.commands.words import names_in, numbers_in
from fs_plugins.errors import UserError

federation = typer.Typer()


@federation.command(
    context_settings=PAIRS,
    epilog=examples(
        "federate --cfg hospitals.yaml",
        "federate --cfg yaml_configs/demo/fedsa.yaml --sites 3",
        "federate --cfg hospitals.yaml --resume",
    ),
)
def federate(
    context: typer.Context,
    cfg: Annotated[
        str,
        typer.Option(
            help="A YAML file, as for 'fedsa run'.",
            autocompletion=complete_files,
        ),
    ],
    sites: Annotated[
        int, typer.Option(min=0, help="How many sites, on this machine.")
    ] = 0,
    gpus: Annotated[
        str, typer.Option(help="GPUs that the sites get in turn: 0,1.")
    ] = "",
    startup_kit: Annotated[
        Path | None,
        typer.Option(help="An admin's kit: the run takes place at its sites."),
    ] = None,
    min_sites: Annotated[
        int, typer.Option(min=0, help="How many sites must stay; 0: all.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Run an experiment on NVIDIA FLARE, a process for each site."""
    from fs_plugins.commands import federate as environments

    words = context.args
    if startup_kit is None:
        numbers = numbers_in("--gpus", gpus) or []
        results = environments.on_this_machine(
            cfg, sites, words, numbers, resume, quiet
        )
    elif sites or gpus:
        raise UserError(
            "federate: --sites and --gpus are for this machine, and "
            "--startup-kit is for a federation"
        )
    else:
        results = environments.on_a_federation(
            cfg, startup_kit, words, min_sites, resume, quiet
        )
    print(f"results: {results}")


@federation.command(
    context_settings=PAIRS,
    epilog=examples(
        "job --cfg hospitals.yaml --out job",
        "job --cfg hospitals.yaml --sites north,south --out job",
    ),
)
def job(
    context: typer.Context,
    cfg: Annotated[
        str,
        typer.Option(
            help="A YAML file, as for 'fedsa run'.",
            autocompletion=complete_files,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    sites: Annotated[
        str, typer.Option(help="The sites, unless the file names them.")
    ] = "",
    min_sites: Annotated[
        int, typer.Option(min=0, help="How many sites must stay; 0: all.")
    ] = 0,
) -> None:
    """Write an experiment as a job of FLARE, to submit it yourself."""
    from fs_plugins.commands.federate import job_of

    job_of(cfg, names_in(sites), out, context.args, min_sites)
    print(f"wrote {out}")


@federation.command(
    epilog=examples(
        "site kits/north --data reports.csv@text",
        "site kits/north --data reports.csv@text --share A,HEAD",
        "site kits/server",
    )
)
def site(
    kit: Annotated[Path, typer.Argument(help="A startup kit of FLARE.")],
    data: Annotated[
        str, typer.Option(help="Where the site's data are, as data.type.")
    ] = "",
    share: Annotated[
        str, typer.Option(help="What may leave the site: A,B,HEAD,OTHER.")
    ] = "A",
    model: Annotated[
        str, typer.Option(help="The base model, as model.type.")
    ] = "",
) -> None:
    """Prepare a participant's startup kit: its data, and what it shares."""
    from fs_plugins.engine.kit import prepare

    for file in prepare(kit, data, names_in(share), model):
        print(f"wrote {file}")
