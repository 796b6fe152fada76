"""A site's own filter: what is not to be shared does not leave the site."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nvflare.apis.filter import ContentBlockedException, Filter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from safetensors import SafetensorError
from safetensors import deserialize as _deserialize

from fs_plugins.engine.links import FAILED, LEFT, REFUSED, SiteLink, unpacked
from fs_plugins.engine.outcome import MESSAGES, PROBLEM
from fs_plugins.errors import unknown
from fs_plugins.policy.roles import Role, possible_roles
from fs_plugins.wire import WireError, told
from fs_plugins.wire.codec import check_bytes
from fs_plugins.wire.messages import DIVERGED, Joining, Known, Metrics

_METADATA = "__metadata__"  # a text in the header of tensors
# Where FederatedScope's client says that it listens.
_NOWHERE = {"host": SiteLink.host, "port": SiteLink.port}
_SAID = ("", REFUSED, FAILED, LEFT)
_SPLITS = ("train", "val", "test", "union")
_MOST = 2**31 - 1  # samples


class SharedOnly(Filter):  # type: ignore[misc]
    """Lets out the parameters that a site agrees to share, and nothing else.

    A site names the filter in its own ``local/privacy.json``, so that it
    holds for every job, whatever the job's own configuration says.  A result
    passes if it consists of the messages of FederatedScope's client: its
    settings as it joins, the tensors of an update, and results that are
    numbers.  Anything else is refused and logged, and the site's part ends.

    Args:
        share: the roles whose parameters may leave the site, such as ``A``.
        embeddings: whether the A of an embedding may leave it, too.  It
            tells which tokens occur in the site's texts.

    Raises:
        UserError: there is no such role.

    """

    def __init__(
        self, share: Sequence[str] = ("A",), embeddings: bool = False
    ) -> None:
        super().__init__()
        self._embeddings = embeddings
        roles = {role.value: role for role in Role}
        for name in share:
            if name not in roles:
                raise unknown("SharedOnly: share", name, roles)
        self._share = {roles[name] for name in share}

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Pass a result on as it is, or refuse it.

        Args:
            shareable: the result of a task.
            fl_ctx: FLARE's context.

        Raises:
            ContentBlockedException: the result holds something that may not
                leave the site.

        """
        try:
            self._check(shareable)
        except WireError as error:
            why = f"SharedOnly refuses a result: {error}"
        except Exception as error:  # a gap in the checks
            why = f"SharedOnly refuses a result: {type(error).__name__}"
        else:
            return shareable
        # FLARE lets the server read an event and an exception.
        self.log_error(fl_ctx, why, fire_event=False)
        raise ContentBlockedException("SharedOnly has refused a result")

    def _check(self, shareable: Mapping[str, Any]) -> None:
        for key, value in shareable.items():
            if key == PROBLEM:
                if value not in _SAID:
                    raise WireError("it says something in its own words")
            elif key == MESSAGES:
                for fields in value:
                    self._check_message(fields)
            elif key not in _OF_FLARE:
                raise WireError(f"it has an entry {told(key)}")

    def _check_message(self, fields: object) -> None:
        message = unpacked(fields, 0)
        if message is None:
            raise WireError("it holds something that is no message")
        kind, content = message.msg_type, message.content
        for number in (message.state, message.timestamp):
            if type(number) not in (int, float):
                raise WireError("it counts rounds with something else")
        if kind == "join_in":
            _check_joining(content)
        elif kind == "metrics":
            Metrics.from_content(content, Known(_SPLITS))
        elif kind == "model_para":
            self._check_update(content)
        else:
            raise WireError(f"it has a message of the kind {told(kind)}")

    def _check_update(self, content: object) -> None:
        """Refuse tensors that the site does not share."""
        if not isinstance(content, (tuple, list)) or len(content) != 2:
            raise WireError("it has an update of another form")
        samples, payload = content
        if type(samples) is not int or not 0 <= samples <= _MOST:
            raise WireError("it has samples that are no number")
        if samples == 0 and payload in DIVERGED:
            return
        try:
            tensors = _tensors(payload) if check_bytes(payload) else []
        except SafetensorError:
            raise WireError("it has an update that is no tensors") from None
        if tensors and _METADATA in _header(payload):
            raise WireError("it has an update that is more than tensors")
        for name, _ in tensors:
            if "embedding" in name and not self._embeddings:
                raise WireError(f"{told(name)} would tell which tokens occur")
            roles = possible_roles(name)
            if not roles or not roles <= self._share:
                called = "/".join(sorted(role.value for role in roles))
                raise WireError(
                    f"{told(name)} would leave the site, which is "
                    f"{called or 'of no role'}"
                )


def _check_joining(content: Any) -> None:
    """Refuse a joining that says more than the settings."""
    Joining.from_content(content)
    more = {k: v for k, v in content.items() if k != "settings"}
    if more not in ({}, _NOWHERE):
        raise WireError("it has a joining with more than settings")


def _header(payload: bytes) -> Any:
    """The header of tensors that can be read."""
    size = int.from_bytes(payload[:8], "little")
    return json.loads(payload[8 : 8 + size])


_tensors: Any = _deserialize
# What FLARE itself puts into a result.
_OF_FLARE = ("__headers__",)
