"""The values of ``fedsa.data.standardise``."""

from collections.abc import Mapping
from typing import Any

from fs_plugins.config.kinds import Items, Kind, Number, refused
from fs_plugins.errors import UserError

KEY = "fedsa.data.standardise"
FROM_DATA = [True]  # the mean and the standard deviation are computed


class Scaling(Kind):
    """True, false, or a mean and a standard deviation.

    What is read is a list, so that the key has values of one type only:
    ``[]`` for false and ``[True]`` for true.
    """

    name = "true, false or two numbers"

    def read(self, key: str, value: Any) -> list[Any]:
        """``[]``, ``[True]`` or ``[mean, standard deviation]``."""
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if isinstance(value, bool):
            return [*FROM_DATA] if value else []
        if value in ([], FROM_DATA) and all(each is True for each in value):
            return [*value]
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise refused(
                key, value, "true, false, or [mean, standard deviation]"
            )
        mean, deviation = Items(Number()).read(key, value)
        return [mean, Number(above=0).read(key, deviation)]

    def allowed(self) -> str:
        """What may be there."""
        return "true, false, [mean, standard deviation]"


def scaling_of(settings: Mapping[str, Any]) -> list[float]:
    """The mean and the deviation by which a run has standardised scores.

    Args:
        settings: the values of the run's configuration, by keys with dots.

    Returns:
        The two numbers; empty if the scores are as they are.

    Raises:
        UserError: the configuration has something else in their place.

    """
    scaling = Scaling().read(KEY, settings.get(KEY, False))
    if scaling == FROM_DATA:
        raise UserError(
            f"{KEY}: the run's configuration has not the mean and the "
            "standard deviation that its data had"
        )
    return scaling
