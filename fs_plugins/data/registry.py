"""The families of data: the names behind the ``@`` in ``data.type``."""

from collections.abc import Callable

from fs_plugins.data.demo import load_demo
from fs_plugins.data.examples import Examples
from fs_plugins.data.given import load_given
from fs_plugins.data.glue import load_glue
from fs_plugins.data.instructions import load_instructions
from fs_plugins.errors import UserError, shown
from fs_plugins.terms import GIVEN

# A loader is called with the name before the '@' and with data.root.  It
# returns the examples, and the test set if the data have one of their own.
Loader = Callable[[str, str], tuple[Examples, Examples | None]]
FAMILIES: dict[str, Loader] = {
    "glue": load_glue,
    "llm": load_instructions,
    GIVEN: load_given,
    "demo": lambda name, _: (load_demo(name), None),
}


def register_examples(family: str, load: Loader) -> None:
    """Make examples available as ``data.type: <name>@<family>``.

    The examples are split, tokenised and distributed over the clients in the
    same way as those of the other families.

    Args:
        family: the name behind the ``@``, in upper or lower case.
        load: a function of the name before the ``@`` and of ``data.root``.
            It returns the examples, and the test set or None.

    Raises:
        UserError: the loader is no function.

    """
    if not callable(load):
        raise UserError(
            f"register_examples: {family}: {shown(load)} is no function"
        )
    FAMILIES[family.lower()] = load
