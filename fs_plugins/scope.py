"""Objects that the workers of one run in one process share.

FederatedScope builds the workers of a run one by one and gives each of them
the configuration only.  Objects that they have to share nevertheless, such as
the frozen base model, are in the scope of the run that is being built.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class RunScope:
    """Objects that exist once in a run, and live as long as the run does.

    Args:
        **given: what the user's code hands to the run: a ``model``, a
            ``tokenizer`` or ``data``; None where the configuration decides.

    Attributes:
        keeps_examples: whether ``examples`` are kept, which a run does
            without: it needs their tokens only.
        examples: the examples to train on, to validate and to test, as their
            texts are.

    """

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.keeps_examples = False
        self.examples: Sequence[Any] = ()
        self._objects: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object of a key, which is made when it is first needed.

        Args:
            key: what the object is, and what it depends on.
            make: a function that makes the object.

        """
        if key not in self._objects:
            self._objects[key] = make()
        shared: T = self._objects[key]
        return shared


_current: ContextVar[RunScope | None] = ContextVar("run_scope", default=None)
_is_built_here: ContextVar[bool] = ContextVar("is_built_here", default=False)


def current_scope() -> RunScope:
    """The scope of the run that is being built in this thread."""
    scope = _current.get()
    if scope is None:
        scope = RunScope()
        _current.set(scope)
    return scope


@contextmanager
def building(scope: RunScope) -> Iterator[RunScope]:
    """Make ``scope`` the current one while a run is being built.

    Args:
        scope: a scope that no other run uses.

    """
    tokens = _current.set(scope), _is_built_here.set(True)
    try:
        yield scope
    finally:
        _current.reset(tokens[0])
        _is_built_here.reset(tokens[1])


def begin_run() -> None:
    """Start a new scope for a run that FederatedScope's ``main.py`` builds.

    A run that is built inside ``building`` has its scope already.
    """
    if not _is_built_here.get():
        _current.set(RunScope())
