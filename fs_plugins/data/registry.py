"""The families of data: the names behind the ``@`` in ``data.type``."""

from collections.abc import Callable

from fs_plugins.data.demo import load_demo
from fs_plugins.data.examples import Examples
from fs_plugins.data.given import load_given
from fs_plugins.data.glue import load_glue
from fs_plugins.data.instructions import SOURCES, load_instructions
from fs_plugins.data.loaded import Loaded
from fs_plugins.data.own import load_chat, load_instructed, load_texts
from fs_plugins.errors import UserError, shown
from fs_plugins.host.configuration import Config
from fs_plugins.terms import GIVEN

# A loader of a plugin is called with the name before the '@' and with
# data.root.  It returns the examples, and the test set if the data have one
# of their own.
Loader = Callable[[str, str], tuple[Examples, Examples | None]]


def _glue(name: str, cfg: Config) -> Loaded:
    train, test = load_glue(name, cfg.data.root)
    return Loaded(train, test=test)


def _llm(name: str, cfg: Config) -> Loaded:
    if name.lower() not in SOURCES:
        return load_instructed(name, cfg)
    train, test = load_instructions(name, cfg.data.root)
    return Loaded(train, test=test)


# The functions that load the data of a family, from the name before the '@'
# and the configuration.
FAMILIES: dict[str, Callable[[str, Config], Loaded]] = {
    "glue": _glue,
    "llm": _llm,
    "text": load_texts,
    "chat": load_chat,
    GIVEN: load_given,
    "demo": lambda name, _: Loaded(load_demo(name)),
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

    def loaded(name: str, cfg: Config) -> Loaded:
        pair = load(name, cfg.data.root)
        source = f"data.type: {cfg.data.type}"
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], Examples):
            raise UserError(
                f"{source}: its loader must return a pair of Examples, and "
                "of the test set's or None"
            )
        if not isinstance(pair[1], Examples | None):
            raise UserError(
                f"{source} (test): its loader returned {pair[1]!r:.80}"
            )
        return Loaded(pair[0], test=pair[1])

    FAMILIES[family.lower()] = loaded
