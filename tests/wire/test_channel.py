"""Who may connect, what may arrive, and what is said if it may not."""

import socket
import time
from types import SimpleNamespace

import pytest
import trustme
from helpers import free_port, write_certificates

from fs_plugins.errors import UserError
from fs_plugins.wire.channel import (
    Listener,
    Peer,
    RefusedError,
    Security,
    UnreachableError,
    is_loopback,
)

OPEN = Security()
LIMIT = 100_000


@pytest.fixture
def listen():
    """Starts listeners, which record what they get; stops them."""
    listeners = []

    def start(security=OPEN, port=None, refuse=""):
        got = []

        def on_send(request):
            got.append(request)
            if refuse:
                raise RefusedError(refuse)

        port = port or free_port()
        listener = Listener(
            "127.0.0.1", port, security, LIMIT, on_send, "mine".__eq__
        )
        listeners.append(listener)
        return SimpleNamespace(address=f"127.0.0.1:{port}", got=got)

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def certificates(tmp_path):
    """Two CAs, each with a certificate of one participant."""
    return [
        Security.load(*write_certificates(tmp_path / name), "")
        for name in ("ours", "theirs")
    ]


def peer(at, security=OPEN, session="mine"):
    return Peer(at.address, security, session, 10 * LIMIT)


def with_token(folder, text):
    (folder / "token").write_text(text)
    return Security.load("", "", "", str(folder / "token"))


def test_a_request_arrives_with_its_session(listen):
    at = listen()
    peer(at).send(b"hello", 5)
    assert [(r.data, r.session) for r in at.got] == [(b"hello", "mine")]
    peer(at).ping(5)
    with pytest.raises(RefusedError, match="session is unknown"):
        peer(at, session="other").ping(5)


def test_the_reason_of_a_refusal_arrives(listen):
    with pytest.raises(RefusedError, match="not today"):
        peer(listen(refuse="not today")).send(b"", 5)


@pytest.mark.parametrize("text", ["", "wrong"])
def test_a_wrong_token_is_refused_unread(listen, tmp_path, text):
    at = listen(with_token(tmp_path, "right\n"))
    theirs = with_token(tmp_path, text) if text else OPEN
    with pytest.raises(RefusedError, match="token is not the one"):
        peer(at, theirs).send(b"hello", 5)
    with pytest.raises(RefusedError, match="token is not the one"):
        peer(at, theirs).ping(5)
    assert at.got == []
    peer(at, with_token(tmp_path, "right")).send(b"hello", 5)


def test_too_large_is_refused_unread(listen):
    at = listen()
    with pytest.raises(RefusedError, match="larger than max") as error:
        peer(at).send(bytes(LIMIT + 1), 5)
    assert error.value.is_final and at.got == []


def test_mutual_tls(listen, certificates):
    ours, _ = certificates
    at = listen(ours)
    peer(at, ours).send(b"hello", 5)
    assert len(at.got) == 1


@pytest.mark.parametrize("case", ["other CA", "no TLS", "TLS to none"])
def test_without_the_right_certificate_nobody_gets_in(
    listen, certificates, case
):
    ours, theirs = certificates
    at = listen(OPEN if case == "TLS to none" else ours)
    mine = {"other CA": theirs, "no TLS": OPEN, "TLS to none": ours}[case]
    with pytest.raises(UnreachableError, match="certificates of one CA"):
        peer(at, mine).send(b"hello", 5)
    assert at.got == []


def test_a_trusted_certificate_for_another_name_is_not_enough(
    listen, tmp_path
):
    ca = trustme.CA()
    at = listen(Security.load(*write_certificates(tmp_path / "a", ca), ""))
    here = Security.load(*write_certificates(tmp_path / "a", ca), "")
    peer(at, here).send(b"hello", 5)
    files = write_certificates(tmp_path / "b", ca, "example.org")
    elsewhere = listen(Security.load(*files, ""))
    with pytest.raises(UnreachableError, match="issued for the names"):
        peer(elsewhere, here).send(b"hello", 5)


def test_nobody_is_there():
    at = SimpleNamespace(address=f"127.0.0.1:{free_port()}")
    with pytest.raises(UnreachableError, match="is not there"):
        peer(at).ping(1)


def test_who_takes_a_connection_and_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = SimpleNamespace(address=f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnreachableError, match="does not answer"):
            peer(at).ping(0.5)


def test_slow_peers_hold_up_nobody(listen):
    """Fifty connections that never finish a request."""
    at = listen()
    host, port = at.address.split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for each in slow:
        each.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    begin = time.monotonic()
    peer(at).send(b"hello", 5)
    assert time.monotonic() - begin < 5 and len(at.got) == 1
    for each in slow:
        each.close()


def test_rubbish_instead_of_a_request_harms_nobody(listen):
    at = listen()
    host, port = at.address.split(":")
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 100):
        with socket.create_connection((host, int(port))) as each:
            each.sendall(rubbish)
    peer(at).send(b"hello", 5)
    assert len(at.got) == 1


def test_a_port_that_is_taken(listen):
    at = listen()
    port = int(at.address.split(":")[1])
    with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be"):
        listen(port=port)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"key": ""}, "transport.key: is empty"),
        ({"ca": "/no/such/file"}, r"transport.ca: .*No such file"),
        ({"key": "other"}, "do not belong together"),
        ({"certificate": "junk"}, "do not belong together"),
        ({"ca": "junk"}, "transport.ca: .* holds no certificate"),
        ({"token_file": "empty"}, "transport.token_file: .* is empty"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, words):
    names = ("certificate", "key", "ca")
    files = dict(zip(names, write_certificates(tmp_path / "a"), strict=True))
    _, other, _ = write_certificates(tmp_path / "b")
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "empty").write_text("\n")
    there = {"junk": str(tmp_path / "junk"), "other": other}
    there["empty"] = str(tmp_path / "empty")
    files |= {k: there.get(v, v) for k, v in change.items()}
    with pytest.raises(UserError, match=words):
        Security.load(*(files.get(n, "") for n in (*names, "token_file")))


def test_what_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "127.1.2.3")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "::", "a.org")))
