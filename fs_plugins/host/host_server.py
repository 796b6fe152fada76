"""What reaches FederatedScope's own server in distributed mode.

FederatedScope's server takes for granted that every message is what its own
clients send: any other kind or content would end its loop.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from fs_plugins.wire import WireError, check_tensors, spec_of, told
from fs_plugins.wire.messages import MOST_EXAMPLES, Joining, Known, Metrics

logger = logging.getLogger("federatedscope.fs_plugins")
_MOST_LINES = 100  # in the log, of a run


class HostServerGuard:
    """Passes on what the server's handlers can handle, and nothing else.

    Args:
        server: a server of FederatedScope's own, which has not run.

    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._cfg = server._cfg
        self._receive = server.comm_manager.receive
        self._handled: Counter[tuple[int, str, int]] = Counter()
        self._refused = 0
        server.comm_manager.receive = self.receive

    def receive(self, *args: Any, **kwargs: Any) -> Any:
        """The next message that is good; None if none arrives in time."""
        while True:
            message = self._receive(*args, **kwargs)
            if message is None:
                return None
            try:
                self._check(message)
            except WireError as error:
                why = str(error)
            except Exception as error:  # a gap in the checks
                why = type(error).__name__
            else:
                return message
            self._refused += 1
            if self._refused <= _MOST_LINES:
                logger.warning(
                    "a message of client %s is refused: %s",
                    told(message.sender),
                    why,
                )

    def _check(self, message: Any) -> None:
        """Raise a ``WireError`` if the server could not handle a message."""
        server, kind, sender = self._server, message.msg_type, message.sender
        checks = {
            "join_in": self._check_joining,
            "join_in_info": self._check_info,
            "model_para": self._check_update,
            "metrics": self._check_results,
        }
        if not isinstance(kind, str) or kind not in checks:
            raise WireError(f"there are no messages of the kind {told(kind)}")
        for number in (sender, message.state):
            if type(number) is not int:
                raise WireError("sender and round are no numbers")
        if type(message.timestamp) not in (int, float) or not (
            server.cur_timestamp <= message.timestamp < math.inf
        ):
            raise WireError("its time is not possible")
        if kind != "join_in":
            if sender not in server.comm_manager.neighbors:
                raise WireError("it has not joined")
            if not 0 <= message.state <= server.total_round_num + 1:
                raise WireError(f"its round is {told(message.state)}")
        checks[kind](message)
        once = (sender, kind, message.state)
        is_asynchronous = (self._cfg.get("asyn") or {}).get("use", False)
        if sender != -1 and self._handled[once] and not is_asynchronous:
            raise WireError("it has sent this already")
        self._handled[once] += 1

    def _check_joining(self, message: Any) -> None:
        server = self._server
        if server.join_in_client_num >= server.client_num:
            raise WireError("all clients have joined")
        if message.sender != -1 and not (
            1 <= message.sender <= server.client_num
        ):
            raise WireError("there is no such client")
        Joining.from_content(message.content)

    def _check_info(self, message: Any) -> None:
        wanted, info = {*self._cfg.federate.join_in_info}, message.content
        if not wanted or not isinstance(info, dict) or info.keys() != wanted:
            raise WireError("it is not what was asked for")
        if message.sender in self._server.join_in_info:
            raise WireError("it has told this already")
        for value in info.values():
            if type(value) not in (int, float) or not 0 <= value < 1e100:
                raise WireError(f"{told(value)} is no number")

    def _check_update(self, message: Any) -> None:
        content = message.content
        if not self._has_begun:
            raise WireError("it was not asked for")
        if not isinstance(content, (tuple, list)) or len(content) != 2:
            raise WireError("it is not a pair of samples and parameters")
        samples, models = content
        if type(samples) is not int or not 0 < samples <= MOST_EXAMPLES:
            raise WireError(f"it claims {told(samples)} samples")
        several = self._cfg.model.model_num_per_trainer > 1
        models = models if several and isinstance(models, list) else [models]
        if len(models) != len(self._server.models):
            raise WireError("it has another number of models")
        for model, own in zip(models, self._server.models, strict=True):
            self._check_model(model, own.state_dict())

    def _check_model(self, sent: object, own: Mapping[str, Any]) -> None:
        """Refuse parameters that are not those of the server's model."""
        if not isinstance(sent, dict) or not sent:
            raise WireError("it holds no parameters by name")
        if not all(isinstance(t, torch.Tensor) for t in sent.values()):
            raise WireError("it holds something other than tensors")
        quantization = self._cfg.get("quantization") or {}
        if quantization.get("method", "none") != "none":
            return  # the host's own code decides how they look
        words = self._cfg.personalization.local_param
        expected = {
            name: tensor
            for name, tensor in own.items()
            if not any(word in name for word in words)
        }
        check_tensors(sent, spec_of(expected))

    def _check_results(self, message: Any) -> None:
        if not self._has_begun:
            raise WireError("they were not asked for")
        known = Known(self._cfg.eval.split)
        metrics = Metrics.from_content(message.content, known)
        message.content = metrics.defined

    @property
    def _has_begun(self) -> bool:
        """Whether the server has asked the clients for anything yet."""
        server = self._server
        return bool(server.check_client_join_in())


def guard(server: Any) -> None:
    """Guard a server, unless it is one of the plugins' own.

    The plugins' own servers check what they get themselves.
    """
    if getattr(server, "parameters", None) is None:
        HostServerGuard(server)
