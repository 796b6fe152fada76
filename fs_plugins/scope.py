"""What the workers of one run in one process have in common.

FederatedScope builds the workers of a run one by one and tells each of them
the configuration only.  What they are to share nevertheless, the frozen base
model say, they find in the scope of the run that is being built.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class RunScope:
    """Objects that exist once in a run; they live as long as the run does.

    Args:
        given: objects that the user hands to the run, by what they are.

    """

    def __init__(self, **given: Any) -> None:
        self.given = given
        self._objects: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object of a key, made when it is first asked for.

        Args:
            key: what it is, and what it depends on.
            make: makes it.

        """
        if key not in self._objects:
            self._objects[key] = make()
        found: T = self._objects[key]
        return found


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
    """Build a run in this scope.

    Args:
        scope: of that run alone.

    """
    tokens = _current.set(scope), _is_built_here.set(True)
    try:
        yield scope
    finally:
        _current.reset(tokens[0])
        _is_built_here.reset(tokens[1])


def begin_run() -> None:
    """Another run begins, if FederatedScope's own ``main.py`` builds it."""
    if not _is_built_here.get():
        _current.set(RunScope())
