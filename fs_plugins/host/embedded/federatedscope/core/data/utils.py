"""Odds and ends of data."""

from typing import Any


def convert_data_mode(data: Any, config: Any) -> Any:
    """What this process needs of the data of all participants.

    Args:
        data: ``{0: the server's ClientData, 1: client 1's, ...}``.
        config: in distributed mode ``distribute.data_idx`` says whose data
            to take; -1 takes them all.

    Raises:
        ValueError: there is no such participant.

    """
    index = config.distribute.data_idx
    if config.federate.mode.lower() == "standalone" or index == -1:
        return data
    if index not in data:
        raise ValueError(
            f"distribute.data_idx is {index}; it must be 0 to {max(data)}"
        )
    return data[index]
