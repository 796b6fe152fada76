"""The options under ``fedsa.data:`` and ``fedsa.chat:`` in a YAML file."""

from collections.abc import Sequence

from fs_plugins.config.kinds import Choice, Flag, Items, Text, Whole
from fs_plugins.config.option import PATH, Option
from fs_plugins.config.scaling import Scaling

_NAME = Text()


def _column(name: str, meaning: str) -> Option:
    return Option(
        f"fedsa.data.{name}",
        "",
        _NAME,
        f"This column holds {meaning}; empty stands for a column that is "
        f"called {name}.",
    )


DATA_OPTIONS: Sequence[Option] = (
    Option(
        "fedsa.data.text",
        [],
        Items(_NAME, at_most=2, or_one=True),
        "This column holds the texts, or these two hold pairs of texts; "
        "empty finds them where there is no doubt.",
    ),
    _column("label", "the classes, by name or by number"),
    Option(
        "fedsa.data.labels",
        [],
        Items(_NAME, or_one=True),
        "A text may have several labels, or none: this column holds them, as "
        "a list or as a text; or these columns say with 1 or 0 whether the "
        "label that each is called after applies.",
    ),
    Option(
        "fedsa.data.label_separator",
        ",",
        _NAME,
        "This stands between two labels in a text of the column "
        "fedsa.data.labels.",
    ),
    Option(
        "fedsa.data.target",
        "",
        _NAME,
        "This column holds scores, which a regression predicts.",
    ),
    Option(
        "fedsa.data.standardise",
        [],
        Scaling(),
        "A regression is trained on scores minus their mean, divided by "
        "their standard deviation: true takes both from the training "
        "examples, and [] leaves the scores as they are. Metrics and "
        "predictions are in the unit of the scores.",
        is_agreed=True,
    ),
    Option(
        "fedsa.data.classes",
        [],
        Items(_NAME),
        "The classes have these names, in the order of their numbers; empty "
        "takes those that occur, sorted.",
        is_agreed=True,
    ),
    Option(
        "fedsa.data.client",
        "",
        _NAME,
        "This column says to which client an example belongs, with "
        "data.splitter column.",
    ),
    Option(
        "fedsa.data.clients",
        [],
        Items(_NAME),
        "The clients have these names, in the order of their numbers; "
        "with data.splitter column or files only those are taken, and empty "
        "takes all, sorted.",
    ),
    Option(
        "fedsa.data.min_examples",
        1,
        Whole(1),
        "Each client has at least this number of training examples.",
    ),
    Option(
        "fedsa.data.validation",
        "",
        PATH,
        "The validation examples are read from this file; empty takes them "
        "from those to train on.",
    ),
    Option(
        "fedsa.data.test",
        "",
        PATH,
        "The test examples are read from this file; empty takes them from "
        "those to train on.",
    ),
    _column("prompt", "the prompts that a language model answers"),
    _column("completion", "the answers to the prompts"),
    _column("instruction", "the instructions that a language model follows"),
    _column("input", "what an instruction is about"),
    _column("output", "the answers to the instructions"),
    _column("category", "the categories of the instructions"),
    Option(
        "fedsa.data.messages",
        "",
        _NAME,
        "This column holds conversations, each a list of messages; empty "
        "stands for a column that is called messages or conversations.",
    ),
    Option(
        "fedsa.data.incomplete",
        "refuse",
        Choice(names=("refuse", "skip")),
        "A row without a text or a label is an error, or is left out and "
        "counted in a note.",
    ),
    Option(
        "fedsa.data.packing",
        False,
        Flag(),
        "Short examples to train on share a row of the batch in place of "
        "padding, and none sees another (fedsa_llm).",
    ),
    Option(
        "fedsa.data.separator",
        "",
        _NAME,
        "This character separates the columns of a csv or tsv file; empty "
        "stands for a comma, and for a tab in tsv files.",
    ),
    Option(
        "fedsa.chat.template",
        "",
        PATH,
        "Conversations become texts by this template: auto stands for the "
        "tokenizer's own, alpaca for the format of Alpaca, none for the "
        "texts as they are, anything else for a file of Jinja; empty stands "
        "for auto with @chat and for alpaca with @llm and @demo.",
    ),
    Option(
        "fedsa.chat.system",
        "",
        Text(),
        "This system prompt begins each conversation that has none of its "
        "own.",
    ),
    Option(
        "fedsa.chat.loss",
        "all",
        Choice(names=("all", "last")),
        "All answers of a conversation are learned, or only its last one.",
    ),
    Option(
        "fedsa.eval.choices.data",
        "",
        _NAME,
        "Each client's model answers the multiple-choice questions of this "
        "file, folder or data set of the hub (fedsa_llm), as often as "
        "fedsa.eval.generate.every says.",
    ),
    Option(
        "fedsa.eval.choices.examples",
        100,
        Whole(-1),
        "Each client answers this number of the questions; -1 stands for all.",
    ),
)
