"""Public functions say what each of their arguments is.

Ruff checks the form of the docstrings; that arguments are described at all,
it checks only where some are.
"""

import ast
import functools
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fs_plugins"
# The arguments of commands are described by what '--help' prints.
TYPER = ("cli.py", "federation.py", "results.py")
FILES = sorted(
    str(file.relative_to(PACKAGE))
    for file in PACKAGE.rglob("*.py")
    # the embedded host has FederatedScope's signatures, and the command's
    # arguments are described where it reads them
    if "embedded" not in file.parts and file.name not in TYPER
)


def undescribed(tree, inherited=frozenset()):
    """Public functions with two or more arguments, and what they leave out.

    Args:
        tree: of a module.
        inherited: methods that a base class describes; a class that
            overrides them need not do so again.

    """
    found = []
    for name, function, bases in functions_in(tree):
        is_described = bases and function.name in inherited
        missing = missing_in(function, "." in name)
        if missing and not is_described:
            found.append(f"{name}: {missing}")
    return found


def functions_in(tree, prefix="", bases=()):
    """Public functions and methods: name, definition, bases of the class."""
    for child in tree.body:
        name = getattr(child, "name", "_")
        if name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from functions_in(child, f"{name}.", child.bases)
        elif isinstance(child, ast.FunctionDef):
            yield f"{prefix}{name}", child, bases


@functools.cache
def methods_described():
    """The methods that any class of the package describes in full."""
    return {
        function.name
        for file in FILES
        for name, function, _ in functions_in(parsed(file))
        if "." in name and "Args:" in (ast.get_docstring(function) or "")
        and not missing_in(function, True)
    }  # fmt: skip


@functools.cache
def parsed(file):
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def missing_in(function, is_method):
    arguments = [
        each.arg
        for each in (
            *function.args.posonlyargs,
            *function.args.args,
            *function.args.kwonlyargs,
        )
    ]
    is_static = any(
        isinstance(each, ast.Name) and each.id == "staticmethod"
        for each in function.decorator_list
    )
    if is_method and not is_static:
        arguments = arguments[1:]
    if len(arguments) < 2:
        return []
    text = ast.get_docstring(function) or ""
    described = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    lines = described.group(1) if described else ""
    names = re.findall(r"^    ([\w, ]+):", lines, re.MULTILINE)
    known = {each.strip() for name in names for each in name.split(",")}
    return [each for each in arguments if each not in known]


@pytest.mark.parametrize("file", FILES)
def test_arguments_are_described(file):
    assert undescribed(parsed(file), methods_described()) == []


def test_what_is_looked_for_is_found():
    code = '''
def both(one, two):
    """Do it.

    Args:
        one: the first.

    """
class A:
    def alone(self, one):
        """Do it."""
    def pair(self, one, two=1):
        """Do it."""
'''
    assert undescribed(ast.parse(code)) == [
        "both: ['two']",
        "A.pair: ['one', 'two']",
    ]
