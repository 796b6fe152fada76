"""Where examples come from: what stands behind the ``@`` in ``data.type``."""

from collections.abc import Callable

from fs_plugins.data.demo import load_demo
from fs_plugins.data.examples import Examples
from fs_plugins.data.given import load_given
from fs_plugins.data.glue import load_glue
from fs_plugins.data.instructions import load_instructions
from fs_plugins.terms import GIVEN

# From the name before the '@' and data.root, to all examples, and the test
# set if the data have one of their own.
Loader = Callable[[str, str], tuple[Examples, Examples | None]]
FAMILIES: dict[str, Loader] = {
    "glue": load_glue,
    "llm": load_instructions,
    GIVEN: load_given,
    "demo": lambda name, _: (load_demo(name), None),
}


def register_examples(family: str, load: Loader) -> None:
    """Make examples available as ``data.type: <name>@<family>``.

    They are split, tokenised and handed to the clients as all others are.

    Args:
        family: what stands behind the ``@``.
        load: called with the name before it and with ``data.root``.

    """
    FAMILIES[family.lower()] = load
