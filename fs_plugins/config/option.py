"""A key of the configuration, as the tables of options hold it."""

from dataclasses import dataclass
from typing import Any

from fs_plugins.config.kinds import Kind, Text

PATH = Text(is_path=True)


@dataclass(frozen=True)
class Option:
    """A key of the configuration.

    Attributes:
        key: the key, with dots between its parts.
        default: the value unless a YAML file says otherwise.  None for a
            key of FederatedScope, which defines the default itself.
        kind: the values that are allowed.
        meaning: what the option does, in a full sentence.
        since: the version of the plugins that introduced the option.
        is_agreed: whether all participants of a distributed run must have
            the same value.

    """

    key: str
    default: Any
    kind: Kind
    meaning: str
    since: str = "0.1.0"
    is_agreed: bool = False
