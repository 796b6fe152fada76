"""Keys of earlier versions, and what to write in their place."""

from collections.abc import Iterable

from fs_plugins.config.yaml_file import short
from fs_plugins.errors import UserError, did_you_mean

_TLS = (
    "{key}: runs on several machines go over NVIDIA FLARE, whose startup kits "
    "hold the certificates; leave the key out, and see 'fedsa federate --help'"
)
RETIRED = {
    "fedsa.transport.certificate": _TLS,
    "fedsa.transport.key": _TLS,
    "fedsa.transport.ca": _TLS,
    "fedsa.transport.token_file": _TLS,
}


def no_such_key(key: str, known: Iterable[str]) -> UserError:
    """The error for a key that does not exist, perhaps no longer.

    Args:
        key: the key.
        known: the keys that exist.

    """
    if key in RETIRED:
        return UserError(RETIRED[key].format(key=key))
    return UserError(
        f"{short(key)}: there is no such key{did_you_mean(key, known)}"
    )
