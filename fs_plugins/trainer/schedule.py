"""Learning rates over a whole federated run."""

import warnings
from functools import lru_cache
from typing import Any

import torch

from fs_plugins.errors import UserError

Table = tuple[tuple[float, ...], ...]  # learning rates by step and group


def schedule(
    scheduler: dict[str, Any], rates: tuple[float, ...], steps: int
) -> Table:
    """Compute the learning rate of every step of a run.

    FederatedScope builds the optimizer and its schedule anew in every round,
    so that each round would begin the schedule again.  Here the schedule
    runs once over all rounds, and each step looks up its learning rates.

    Args:
        scheduler: the section ``train.scheduler``.  ``type`` is '' (constant
            rates), a schedule of transformers ('linear', 'cosine', ...) or a
            class of ``torch.optim.lr_scheduler``; ``warmup_ratio`` is the
            share of steps in which the rate rises; all other keys are
            arguments of the schedule.
        rates: the learning rate of each parameter group.
        steps: the number of steps that a client takes in the whole run.

    Returns:
        For each step, the learning rate of each parameter group.

    Raises:
        UserError: there is no such schedule, or it refuses its arguments.

    """
    kwargs: dict[str, Any] = {
        key: value
        for key, value in scheduler.items()
        # FederatedScope's sections hold more than the user's keys.
        if isinstance(value, (int, float, str, list))
        and not key.startswith("__")
        and key != "is_ready_for_run"
    }
    kind = kwargs.pop("type", "")
    ratio = kwargs.pop("warmup_ratio", 0.0)
    frozen = tuple(
        (k, tuple(v) if isinstance(v, list) else v)
        for k, v in sorted(kwargs.items())
    )
    return _table(kind, ratio, frozen, rates, steps)


@lru_cache(maxsize=64)
def _table(
    kind: str,
    warmup_ratio: float,
    kwargs: tuple[tuple[str, Any], ...],
    rates: tuple[float, ...],
    steps: int,
) -> Table:
    if not kind:
        return (rates,) * steps
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate}
        for rate in rates
    ]
    optimizer = torch.optim.SGD(groups, lr=rates[0])
    try:
        stepper = _build(kind, optimizer, warmup_ratio, dict(kwargs), steps)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.scheduler: {kind}: {error}") from error
    table = []
    with warnings.catch_warnings():
        # torch warns of a scheduler's step without an optimizer's step.
        warnings.simplefilter("ignore")
        for _ in range(steps):
            table.append(tuple(g["lr"] for g in optimizer.param_groups))
            stepper.step()
    return tuple(table)


def _build(
    kind: str, optimizer: Any, ratio: float, kwargs: dict[str, Any], steps: int
) -> Any:
    from transformers import SchedulerType, get_scheduler

    if kind in [member.value for member in SchedulerType]:
        return get_scheduler(
            kind,
            optimizer,
            num_warmup_steps=int(ratio * steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=kwargs,
        )
    if not hasattr(torch.optim.lr_scheduler, kind):
        known = ", ".join(member.value for member in SchedulerType)
        raise UserError(
            f"train.scheduler.type: there is no {kind!r}; known are {known} "
            "and the classes of torch.optim.lr_scheduler"
        )
    return getattr(torch.optim.lr_scheduler, kind)(optimizer, **kwargs)
