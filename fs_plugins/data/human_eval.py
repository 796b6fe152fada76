"""HumanEval's problems (Chen et al., arXiv 2107.03374)."""

from dataclasses import dataclass
from pathlib import Path

from fs_plugins.data.sources import read_rows, text_of
from fs_plugins.errors import UserError

_FIELDS = ("prompt", "test", "entry_point")


@dataclass(frozen=True)
class Problem:
    """A function to complete, and the program that checks the function.

    Attributes:
        prompt: the function's signature and docstring.
        test: a program that defines ``check(candidate)``, which raises an
            error if the function ``candidate`` is wrong.
        entry_point: the name of the function.

    """

    prompt: str
    test: str
    entry_point: str


def load_problems(file: str) -> tuple[Problem, ...]:
    """The problems of ``fedsa.eval.generate.problems``.

    Raises:
        UserError: the file is missing, or does not hold HumanEval's problems.

    """
    key = "fedsa.eval.generate.problems"
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(
            f"{key}: there is no file {file!r}; HumanEval.jsonl.gz is in "
            "github.com/openai/human-eval, folder data"
        )
    problems = []
    for place, row in read_rows(path):
        where = f"{key}: {file}, {place}"
        for name in _FIELDS:
            if name not in row:
                raise UserError(
                    f"{where}: no {name!r}, so it is not HumanEval's"
                )
            if not isinstance(row[name], str):
                raise UserError(f"{where}: {name!r} is not a text")
            text_of(row[name], name, where)
        problems.append(Problem(*(row[name] for name in _FIELDS)))
    if not problems:
        raise UserError(f"{key}: {file} holds no problems")
    return tuple(problems)
