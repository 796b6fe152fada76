"""FederatedScope's own gRPC under the plugins' workers, if asked for.

The host's manager is played: it keeps what a message of the host can hold,
which is texts, whole numbers, floats in single precision, lists and mappings.
"""

import struct
import time
from collections import deque
from types import SimpleNamespace

import hypothesis
import pytest
from hypothesis import strategies as st

from fs_plugins.errors import UserError
from fs_plugins.host.unsafe_transport import HostTransport


def as_sent(content):
    if isinstance(content, dict):
        return {key: as_sent(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_sent(value) for value in content]
    if isinstance(content, float):
        return struct.unpack("f", struct.pack("f", content))[0]
    assert type(content) in (int, str), content
    return content


class Theirs:
    def __init__(self):
        self.server_funcs = SimpleNamespace(msg_queue=deque())
        self.neighbors = {1: "127.0.0.1:1"}

    def send(self, message):
        content = as_sent(message.content)
        self.server_funcs.msg_queue.append(SimpleNamespace(content=content))

    def receive(self):
        return self.server_funcs.msg_queue.popleft()


CONTENTS = (
    st.binary(max_size=50)
    | st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=50))
    | st.dictionaries(st.text("abc_", min_size=1), st.floats(allow_nan=False))
)


@hypothesis.given(content=CONTENTS)
def test_what_is_sent_arrives_to_the_bit(content):
    transport = HostTransport(Theirs())
    transport.send(SimpleNamespace(content=content))
    found = transport.receive(timeout=1.0).content
    assert found == (list(content) if type(content) is tuple else content)


def test_it_waits_no_longer_than_asked():
    transport = HostTransport(Theirs())
    begin = time.monotonic()
    assert transport.receive(timeout=0.05) is None
    assert time.monotonic() - begin < 5
    assert transport.neighbors == {1: "127.0.0.1:1"} and not transport.lost


@pytest.mark.parametrize("role", ["server", "client"])
def test_it_is_not_used_unless_asked_for(lab, role):
    """Nor is any other: a distributed run is begun by 'fedsa federate'."""
    changes = {
        "federate__mode": "distributed",
        "federate__share_local_model": False,
        "distribute__use": True,
        "distribute__role": role,
        "distribute__data_idx": 1,
    }
    with pytest.raises(UserError, match="is begun by 'fedsa federate'"):
        lab.runner(**changes)
