"""Participants of a distributed run: who may join and speak, who is there."""

import time
from types import SimpleNamespace

import pytest
from federatedscope.core.message import Message
from helpers import free_port, wait_for

from fs_plugins.errors import (
    RunError,
    UnknownParticipantError,
    UserError,
)
from fs_plugins.host.comm_manager import CommManager
from fs_plugins.wire.channel import Peer, RefusedError, Security
from fs_plugins.wire.envelope import pack


def options(**changes):
    """The section ``fedsa.transport``."""
    return SimpleNamespace(
        **{
            "certificate": "",
            "key": "",
            "ca": "",
            "token_file": "",
            "wait": 2.0,
            "lost_after": 0.5,
        }
        | changes
    )


@pytest.fixture
def start():
    """Starts participants of a run with 3 clients; stops them."""
    started = []

    def call(role, server=None, port=None, host="127.0.0.1", **changes):
        manager = CommManager(
            host=host,
            port=port or free_port(),
            client_num=3,
            cfg=SimpleNamespace(
                role=role,
                grpc_max_send_message_length=1_000_000,
                grpc_max_receive_message_length=100_000,
            ),
            options=options(**changes),
        )
        started.append(manager)
        if server is not None:
            at = {"host": "127.0.0.1", "port": server.port}
            manager.add_neighbors(0, at)
        return manager

    yield call
    for manager in started:
        manager._outboxes.clear()  # what is undelivered is of no interest
        manager.close()


def say(manager, sender, msg_type="metrics", content=None, receiver=None):
    manager.send(
        Message(
            msg_type=msg_type,
            sender=sender,
            receiver=receiver or [0],
            state=1,
            timestamp=0,
            content=content,
        )
    )


def join(server, client, ID):
    """As a client and a server of FederatedScope do it."""
    address = {"host": client.host, "port": client.port}
    say(client, ID, "join_in", address)
    message = server.receive(timeout=5)
    assert (message.msg_type, message.sender) == ("join_in", ID)
    server.add_neighbors(ID, message.content)


def refusal(client):
    """What the client is told."""
    with pytest.raises(UserError) as error:
        client.receive(timeout=5)
    return str(error.value)


def test_messages_arrive_in_order_and_whole(start):
    server = start("server")
    client = start("client", server)
    join(server, client, 2)
    for i in range(10):
        say(server, 0, "model_para", bytes([i]), [2])
    found = [client.receive(timeout=5) for _ in range(10)]
    assert [each.content for each in found] == [bytes([i]) for i in range(10)]
    assert {(e.sender, e.state, e.timestamp) for e in found} == {(0, 1, 0)}
    say(client, 2, "metrics", {"val_loss": 0.1 + 0.2})
    assert server.receive(timeout=5).content == {"val_loss": 0.1 + 0.2}
    assert server.neighbors == {2: f"127.0.0.1:{client.port}"}
    assert server.receive(timeout=0) is None


def test_one_that_is_gone_holds_up_nobody(start):
    server = start("server")
    clients = {ID: start("client", server) for ID in (1, 2)}
    for ID, client in clients.items():
        join(server, client, ID)
    clients[1].close()
    begin = time.monotonic()
    say(server, 0, "model_para", b"x", [1, 2])
    assert clients[2].receive(timeout=5).content == b"x"
    assert time.monotonic() - begin < 0.5
    wait_for(lambda: server.lost == {1})


@pytest.mark.parametrize("ID", [0, 4, -2])
def test_a_client_that_should_not_be(start, ID):
    server = start("server")
    client = start("client", server)
    say(client, ID, "join_in", {"host": "127.0.0.1", "port": client.port})
    assert f"there is no client {ID}" in refusal(client)
    assert server.receive(timeout=0.1) is None


@pytest.mark.parametrize("address", [None, "a:1", {"host": 1}, {"port": 2}])
def test_a_client_that_does_not_say_where_it_is(start, address):
    server = start("server")
    client = start("client", server)
    say(client, 1, "join_in", address)
    assert "where it listens" in refusal(client)


def test_a_second_client_of_the_same_number(start):
    server = start("server")
    join(server, start("client", server), 1)
    second = start("client", server)
    say(second, 1, "join_in", {"host": "127.0.0.1", "port": second.port})
    assert "client 1 has joined already" in refusal(second)


def test_one_that_is_gone_may_come_back(start):
    server = start("server")
    first = start("client", server)
    join(server, first, 1)
    first.close()
    again = start("client", server, port=first.port)
    join(server, again, 1)
    say(server, 0, "model_para", b"x", [1])
    assert again.receive(timeout=5).content == b"x"
    assert server.lost == set()


def test_nobody_speaks_for_another(start):
    server = start("server")
    clients = {ID: start("client", server) for ID in (1, 2)}
    for ID, client in clients.items():
        join(server, client, ID)
    say(clients[1], 2, "model_para", b"not from 2")
    assert "participant 2 has not joined" in refusal(clients[1])
    assert server.receive(timeout=0.1) is None
    # Nor does a client take orders from another client.
    rogue = start("client")
    rogue.add_neighbors(2, f"127.0.0.1:{clients[2].port}")
    say(rogue, 0, "finish", None, [2])
    assert "participant 0 has not joined" in refusal(rogue)
    assert clients[2].receive(timeout=0.1) is None


def test_only_a_server_can_be_joined(start):
    server = start("server")
    client = start("client", server)
    rogue = start("client")
    rogue.add_neighbors(1, f"127.0.0.1:{client.port}")
    say(rogue, 2, "join_in", {"host": "127.0.0.1", "port": 1}, [1])
    assert "not the server" in refusal(rogue)


def test_before_joining_nothing_is_taken(start):
    server = start("server")
    client = start("client", server)
    say(client, 1, "model_para", b"x")
    assert "participant 1 has not joined" in refusal(client)


def test_rubbish_and_repetition_are_not_passed_on(start):
    server = start("server")
    client = start("client", server)
    join(server, client, 1)
    peer = client._peers[0]
    with pytest.raises(RefusedError, match="not a message"):
        peer.send(b"rubbish", 5)
    with pytest.raises(RefusedError, match="larger than max"):
        peer.send(bytes(200_000), 5)
    fields = {"sender": 1, "state": 0, "timestamp": 0, "content": b"x"}
    data = pack(fields | {"msg_type": "metrics", "serial": 50})
    peer.send(data, 5)
    peer.send(data, 5)  # as after an answer that was lost on its way
    assert server.receive(timeout=5).content == b"x"
    assert server.receive(timeout=0.1) is None


def test_a_sender_that_sends_too_much_waits(start):
    server = start("server")
    clients = {ID: start("client", server) for ID in (1, 2)}
    for ID, client in clients.items():
        join(server, client, ID)
    for i in range(20):
        say(clients[1], 1, "metrics", i)
    wait_for(lambda: server._waiting[1] == 16)
    say(clients[2], 2, "metrics", "heard")
    wait_for(lambda: server._waiting[2] == 1)
    assert server._waiting[1] == 16
    found = [server.receive(timeout=5) for _ in range(21)]
    assert [m.content for m in found if m.sender == 1] == list(range(20))


def test_a_wrong_token_is_an_error_at_once(start, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    server = start("server", token_file=str(tmp_path / "a"))
    client = start("client", server, token_file=str(tmp_path / "b"))
    begin = time.monotonic()
    say(client, 1, "join_in", {"host": "127.0.0.1", "port": client.port})
    assert "token is not the one" in refusal(client)
    assert time.monotonic() - begin < 2


def test_a_server_that_is_not_there(start):
    client = start("client", SimpleNamespace(port=free_port()))
    begin = time.monotonic()
    say(client, 1, "join_in", {"host": "127.0.0.1", "port": client.port})
    with pytest.raises(RunError, match=r"no server for 2 seconds.*not there"):
        client.receive(timeout=10)
    assert time.monotonic() - begin >= 2


def test_a_server_that_starts_late_is_found(start):
    port = free_port()
    client = start("client", SimpleNamespace(port=port))
    say(client, 1, "join_in", {"host": "127.0.0.1", "port": client.port})
    time.sleep(1)
    server = start("server", port=port)
    assert server.receive(timeout=5).msg_type == "join_in"


def test_a_server_that_goes_away(start):
    server = start("server")
    client = start("client", server)
    join(server, client, 1)
    server.close()
    with pytest.raises(RunError, match="no server for 2 seconds"):
        client.receive(timeout=10)


def test_a_server_that_starts_again_can_be_joined_again(start):
    """It knows nobody: the client is told so once, whatever it does."""
    server = start("server")
    client = start("client", server)
    join(server, client, 2)
    say(server, 0, "model_para", b"x", [2])
    assert client.receive(timeout=5).content == b"x"
    server.close()
    again = start("server", port=server.port)
    say(client, 2, "metrics", b"for the earlier one")
    with pytest.raises(UnknownParticipantError):
        client.receive(timeout=5)
    assert client.receive(timeout=0.5) is None
    join(again, client, 2)
    say(again, 0, "model_para", b"y", [2])  # its first message, too
    assert client.receive(timeout=5).content == b"y"
    say(client, 2, "metrics", b"z")
    assert again.receive(timeout=5).content == b"z"


def test_a_pause_is_no_loss(start):
    """A client that was thought lost is there again with a sign of life."""
    server = start("server")
    client = start("client", server)
    join(server, client, 1)
    server.lost.add(1)
    wait_for(lambda: server.lost == set())


def test_open_to_others_without_tls_is_said_once(start, capfd):
    start("server", host="0.0.0.0")
    err = capfd.readouterr().err
    assert err.count("without TLS") == 1 and err.startswith("fedsa: warning:")
    start("server")
    assert capfd.readouterr().err == ""


def test_the_session_is_no_secret_between_strangers(start):
    """Two clients never draw the same session."""
    server = start("server")
    clients = [start("client", server) for _ in range(2)]
    assert len({each._own_session for each in clients}) == 2
    at = f"127.0.0.1:{server.port}"
    with pytest.raises(RefusedError, match="unknown"):
        Peer(at, Security(), "", 100).ping(5)
