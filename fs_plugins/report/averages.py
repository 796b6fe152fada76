"""Means and spreads of results, of which some may not be finite."""

import math
import statistics
from collections.abc import Callable, Collection

Values = Collection[float]


def mean(values: Values) -> float:
    """The mean; NaN if a value is not finite."""
    return _of(statistics.fmean, values)


def deviation(values: Values) -> float:
    """The standard deviation of a sample; NaN if a value is not finite."""
    return _of(statistics.stdev, values)


def deviation_of_all(values: Values) -> float:
    """The standard deviation of a whole; NaN if a value is not finite."""
    return _of(statistics.pstdev, values)


def _of(measure: Callable[[Values], float], values: Values) -> float:
    """A measure of values; infinity if it is beyond what a float can hold.

    Args:
        measure: a function of ``statistics``, which raises an error for
            values that are not finite.
        values: the values.

    """
    if not all(map(math.isfinite, values)):
        return math.nan
    try:
        return measure(values)
    except OverflowError:
        return math.inf
