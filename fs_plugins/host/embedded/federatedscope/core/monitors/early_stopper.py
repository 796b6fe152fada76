"""Early stopping."""

from collections.abc import Sequence


class EarlyStopper:
    """Stops once a metric has not improved for ``patience`` checks.

    Args:
        patience: checks without improvement that are tolerated; 0 never
            stops.
        delta: the least change that counts as an improvement.
        improve_indicator_mode: 'best' compares with the best value so far,
            'mean' with the mean of the last ``patience`` values.
        the_larger_the_better: whether larger values are better.

    """

    def __init__(
        self,
        patience: int = 5,
        delta: float = 0,
        improve_indicator_mode: str = "best",
        the_larger_the_better: bool = True,
    ) -> None:
        if improve_indicator_mode not in ("best", "mean"):
            raise ValueError(
                "early_stop.improve_indicator_mode must be 'best' or 'mean'"
            )
        self.patience = patience
        self.delta = delta
        self.mode = improve_indicator_mode
        self.sign = 1 if the_larger_the_better else -1
        self.counter_no_improve = 0
        self.early_stopped = False

    def track_and_check(self, history: Sequence[float]) -> bool:
        """Look at the newest value; True once it is time to stop."""
        if self.patience == 0 or len(history) < 2:
            return False
        *before, newest = (self.sign * value for value in history)
        if self.mode == "best":
            reference = max(before)
        else:
            recent = before[-self.patience :]
            reference = sum(recent) / len(recent)
        improved = newest > reference + self.delta
        self.counter_no_improve = (
            0 if improved else self.counter_no_improve + 1
        )
        self.early_stopped = self.counter_no_improve >= self.patience
        return self.early_stopped
