"""The moments at which nothing of a standalone run is under way."""

from collections.abc import Callable
from typing import Any


def call_between_rounds(server: Any, action: Callable[[], None]) -> None:
    """Call ``action`` before each round but the first.

    All updates are in then, and all results of the evaluation before it.
    The host's own server begins the next round while its clients still
    evaluate; here it waits for them.  The clients do the same, in the same
    order, either way.

    Args:
        server: ours or the host's, not yet run.
        action: may raise, which ends the run.

    """
    begin = server._start_new_training_round
    evaluate = server.eval
    merge = server._merge_and_format_eval_results
    waiting: list[tuple[Any, ...]] = []  # the round that must wait
    awaited = [False]  # whether the host's clients evaluate

    def is_evaluating() -> bool:
        # Our own server knows; it calls again once all are in.
        return bool(getattr(server, "_evaluating", awaited[0]))

    def begun(*args: Any) -> None:
        if not is_evaluating():
            action()
            begin(*args)
        elif hasattr(server, "_evaluating"):
            begin(*args)
        else:
            waiting.append(args)

    def evaluated() -> None:
        awaited[0] = not server._cfg.federate.make_global_eval
        evaluate()

    def merged() -> None:
        merge()
        awaited[0] = False
        while waiting and not server.is_finish:
            begun(*waiting.pop())

    server._start_new_training_round = begun
    server.eval = evaluated
    server._merge_and_format_eval_results = merged
