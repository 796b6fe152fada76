"""The commands that look at data, and that use what a run has trained."""

from pathlib import Path
from typing import Annotated

import typer

from fs_plugins.commands.completion import complete_files
from fs_plugins.errors import UserError, shown

results = typer.Typer()
PAIRS = {"allow_extra_args": True}  # ``key value`` pairs
RUN = Annotated[Path, typer.Argument(help="A run's folder.")]
JSON = Annotated[bool, typer.Option("--json", help="As JSON.")]
THRESHOLD = Annotated[
    float | None,
    typer.Option(
        help="If a text may have several labels: how likely, from 0 to 1, "
        "those are that are predicted; 0.5 if it is not given."
    ),
]


def examples(*lines: str) -> str:
    """The examples at the end of a command's ``--help``."""
    return "\n\n".join(["Examples:", *(f"fedsa {line}" for line in lines)])


@results.command(
    epilog=examples(
        "predict exp/fedsa_tickets new.csv --client north",
        "predict exp/fedsa_tickets --client north --text 'where is my order'",
    )
)
def predict(
    run: RUN,
    file: Annotated[
        str, typer.Argument(help="A table of texts, such as new.csv.")
    ] = "",
    client: Annotated[
        str, typer.Option(help="The name or number of one, or global.")
    ] = "global",
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text in place of a file; twice for a pair."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; else the terminal.")
    ] = None,
    threshold: THRESHOLD = None,
    as_json: JSON = False,
) -> None:
    """Predict the labels of new texts with a client's model."""
    from fs_plugins.commands.predict import predict as print_predictions

    print_predictions(run, client, file, text or (), out, as_json, threshold)


@results.command(
    epilog=examples("evaluate exp/fedsa_tickets labelled.csv --client all")
)
def evaluate(
    run: RUN,
    file: Annotated[
        str, typer.Argument(help="A table of texts with their labels.")
    ],
    client: Annotated[
        str, typer.Option(help="The name or number of one, global, or all.")
    ] = "all",
    threshold: THRESHOLD = None,
    as_json: JSON = False,
) -> None:
    """Evaluate the models of a run on labelled texts."""
    from fs_plugins.commands.predict import evaluate as print_results

    print_results(run, client, file, as_json, threshold)


@results.command(
    context_settings=PAIRS,
    epilog=examples(
        "data --cfg yaml_configs/demo/fedsa.yaml",
        "data --cfg tickets.yaml llm.tok_len 128",
    ),
)
def data(
    context: typer.Context,
    cfg: Annotated[
        str,
        typer.Option(
            help="A YAML file of FederatedScope.",
            autocompletion=complete_files,
        ),
    ],
) -> None:
    """Show an experiment's data: shares, lengths, and some examples."""
    from fs_plugins.commands.data import describe

    describe(cfg, context.args)


@results.command(
    context_settings=PAIRS,
    epilog=examples(
        "personalise exp/fedsa_tickets --data east.csv --out exp --name east",
        "personalise exp/fedsa_tickets --data east.csv "
        "federate.total_round_num 20",
    ),
)
def personalise(
    context: typer.Context,
    run: RUN,
    data: Annotated[str, typer.Option(help="A table of your examples.")],
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "exp"
    ),
    name: Annotated[
        str, typer.Option(help="What the new client is called.")
    ] = "me",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Train a model for a client that was not there, on a finished run's A."""
    from fs_plugins.commands.personalise import personalise as train

    print(f"results: {train(run, data, out, name, context.args, quiet)}")


@results.command(
    epilog=examples(
        "merge site_a/adapter site_b/adapter --by fedsa --out merged",
        "merge a b c --by flexlora --weights 120,80,300 --out merged",
    )
)
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of adapters."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    by: Annotated[
        str, typer.Option(help="fedsa, fedit or flexlora.")
    ] = "fedsa",
    weights: Annotated[
        str, typer.Option(help="Numbers of examples, e.g. 120,80.")
    ] = "",
) -> None:
    """Merge adapters that were trained apart, as a round would have."""
    from fs_plugins.commands.merge import merge as merge_adapters

    for folder in merge_adapters(folders, out, by, whole_numbers(weights)):
        print(folder)


def whole_numbers(text: str) -> list[int]:
    """The weights of ``--weights``.

    Raises:
        UserError: the text is not whole numbers above 0.

    """
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UserError(
            f"--weights: {shown(text)} is not whole numbers above 0 with "
            "commas between them"
        )
    return [int(part) for part in parts]


@results.command(
    epilog=examples(
        "chat exp/fedsa_prompts --client 2",
        "chat exp/fedsa_prompts --client 2 --prompt 'What is LoRA?'",
    )
)
def chat(
    run: RUN,
    client: Annotated[
        str, typer.Option(help="The name or number of one, or global.")
    ] = "global",
    prompt: Annotated[
        str, typer.Option(help="The only thing to answer.")
    ] = "",
    system: Annotated[str, typer.Option(help="The system prompt.")] = "",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="The most tokens of an answer.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option(min=0, help="Above 0 tokens are drawn.")
    ] = 0.0,
    as_json: JSON = False,
) -> None:
    """Talk with a client's language model, as it was trained."""
    from fs_plugins.commands.chat import chat as talk
    from fs_plugins.trainer.generate import Decoding

    decoding = Decoding(max_new_tokens, 1, temperature)
    talk(run, client, prompt, system, decoding, as_json)


@results.command(
    epilog=examples(
        "serve exp/fedsa_prompts",
        "serve exp/fedsa_prompts --port 0 --json",
        "serve exp/fedsa_prompts --print-vllm",
    )
)
def serve(
    run: RUN,
    host: Annotated[
        str, typer.Option(help="The address of this machine to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")
    ] = 8000,
    print_vllm: Annotated[
        bool,
        typer.Option(
            "--print-vllm",
            help="Print the command with which vLLM serves the adapters.",
        ),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Serve all clients' models, as OpenAI's interface has it."""
    if print_vllm:
        from fs_plugins.commands.vllm import vllm_command

        print(vllm_command(run, host, port))
        return
    from fs_plugins.commands.serve import serve as serve_models

    serve_models(run, host, port, as_json)
