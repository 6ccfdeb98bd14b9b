"""Whether the kernel does the TLS of a socket, and why not: by what it and OpenSSL say.

This kernel may have no TLS; what it would say is put in its place. tests/vm asks one that has.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import ssl
import sys

import pytest

import spliceio
from spliceio import copy, explain, features, send_file
from spliceio._kernel import tls
from spliceio._transfer import act
from tests.support.states import Worker
from tests.support.tls import OP_ENABLE_KTLS, connected, contexts, pretend

MODULE_MISSING = "no tls module, or this process may not load it: modprobe tls"


@pytest.fixture
def kernel(monkeypatch):
    """Say what a kernel with TLS would: see `pretend`."""
    return functools.partial(pretend, monkeypatch)


def refused(wires, sock) -> str:
    """Every call refuses it before a byte is sent, in the same words; return them."""
    file = wires.file(b"secret" * 10_000)
    said = set()
    for call in (
        lambda: copy(file, sock),
        lambda: send_file(sock, file, header=b"head"),
        lambda: send_file(sock, file, count=10),
        lambda: spliceio.sendfile(sock, file, 0, 10),
        lambda: explain(file, sock),
    ):
        with pytest.raises(TypeError, match="would put plaintext on the wire") as raised:
            call()
        said.add(str(raised.value).partition("(")[2].partition("):")[0])
    (reason,) = said
    return reason


@pytest.mark.parametrize(
    ("facts", "options", "reason"),
    [
        ({}, {}, MODULE_MISSING),
        ({"module": 0}, {}, r"has the tls module, and its OpenSSL \S+ has not used it"),
        ({"attached": True, "module": 0}, {}, "refused the key of TLS_AES_256_GCM_SHA384"),
        ({"attached": True, "rx": True, "module": 0}, {}, "refused the key"),
        ({}, {"server": False}, r"its SSLContext has no ssl\.OP_ENABLE_KTLS"),
        (
            {"module": 0},
            {"version": "TLS 1.2", "cipher": "ECDHE-ECDSA-AES128-SHA256"},
            "ECDHE-ECDSA-AES128-SHA256 is no cipher of kernel TLS",
        ),
    ],
)
def test_the_reasons(wires, kernel, facts, options, reason):
    """What is to be done about each is another thing."""
    sock, client = connected(wires, **options)
    kernel(**facts)
    assert re.search(reason, refused(wires, sock))
    sock.sendall(b"in step")
    assert client.recv(100) == b"in step"


def test_a_python_without_the_name(wires, kernel, monkeypatch):
    """It is said that a newer one has it."""
    sock, _ = connected(wires, server=False)
    kernel(module=0)
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    assert refused(wires, sock).endswith("which Python has from 3.12 on")
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    assert refused(wires, sock).endswith("among its options")


def test_receiving_that_openssl_keeps_to_itself(wires, kernel):
    """Sending may be the kernel's all the same."""
    sock, _ = connected(wires)
    kernel(attached=True, tx=True)
    assert tls.why_not(sock, sends=True) is None
    with pytest.raises(TypeError, match=r"OpenSSL \S+ decrypts TLSv1\.3 itself"):
        copy(sock, wires.file())


def test_a_key_before_the_handshake_is_done(wires, kernel):
    """A TLS 1.3 server has it before it is known who the client is: refused all the same."""
    near, _ = wires.sockets("tcp4")
    context = contexts()[0]
    sock = wires.ends.sock(
        context.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
    )
    kernel(attached=True, tx=True, rx=True)
    assert refused(wires, sock).startswith("its handshake is not done")


def test_a_connection_that_has_been_unwrapped(wires, kernel):
    """The kernel would still encrypt, and nobody decrypt."""
    server, client = connected(wires, "TLS 1.2")
    other = Worker(client.unwrap)
    server.unwrap()
    other.result()
    kernel(attached=True, tx=True, rx=True)
    assert "unwrap() has ended TLS on it" in refused(wires, server)


def test_over_a_unix_socket(wires, kernel):
    """There is no kernel TLS."""
    serving, asking = contexts()
    near, far = wires.sockets("unix")
    server = Worker(lambda: serving.wrap_socket(near, server_side=True))
    wires.ends.sock(asking.wrap_socket(far, server_hostname="127.0.0.1"))
    kernel(module=0)
    assert refused(wires, wires.ends.sock(server.result())) == "it is not over TCP"


def test_a_closed_one(wires, kernel):
    """Is said to be closed."""
    sock, _ = connected(wires)
    kernel(attached=True, tx=True)
    sock.close()
    with pytest.raises(TypeError, match="it is closed"):
        copy(wires.file(b"x"), sock)


@pytest.mark.parametrize("where", ["class", "object"])
def test_a_send_of_its_own(wires, kernel, where):
    """It is never gone around, whatever the kernel has."""

    class Own(ssl.SSLSocket):
        def sendall(self, data, flags=0):
            return super().sendall(data, flags)

    serving, asking = contexts()
    if where == "class":
        serving.sslsocket_class = Own
    near, far = wires.sockets("tcp4")
    server = Worker(lambda: serving.wrap_socket(near, server_side=True))
    wires.ends.sock(asking.wrap_socket(far, server_hostname="127.0.0.1"))
    sock = wires.ends.sock(server.result())
    if where == "object":
        sock.sendall = sock.sendall
    kernel(attached=True, tx=True, rx=True)
    assert refused(wires, sock) == "its sendall is its own"


def test_the_first_try_takes_what_the_kernel_encrypts(wires, kernel):
    """An exact SSLSocket; of no other is the descriptor touched before it is looked at."""
    sock, _ = connected(wires)
    kernel(module=0)
    assert act._destination(sock) == -1
    kernel(attached=True)
    assert act._destination(sock) == -1
    kernel(attached=True, tx=True)
    assert act._destination(sock) == sock.fileno()
    assert act.plain(sock) == -1  # as a source never: OpenSSL may hold something


def test_explain_says_who_encrypts(wires, kernel):
    """And what is not said by shutdown()."""
    sock, client = connected(wires)
    kernel(attached=True, tx=True, rx=True)
    text = str(explain(wires.file(b"x" * 100_000), sock))
    assert text.startswith("sendfile: ")
    assert "The kernel encrypts what goes to dst (TLS 1.3, AES-256-GCM)" in text
    assert "by its unwrap(), not by shutdown()" in text
    client.sendall(b"some bytes")
    assert sock.recv(5) == b"some "
    text = str(explain(sock, wires.file()))
    assert "The kernel decrypts src (TLS 1.3, AES-256-GCM)." in text
    assert "OpenSSL has decrypted 5 bytes of src already; they go first." in text


def test_what_openssl_holds_comes_first(wires, kernel):
    """It is taken as what a reader has read ahead; what cannot is refused."""
    sock, client = connected(wires)
    client.sendall(b"0123456789")
    assert sock.recv(1) == b"0"
    kernel(attached=True, tx=True, rx=True)
    reader, writer = wires.pipe()
    with pytest.raises(ValueError, match="9 bytes that OpenSSL has decrypted"):
        spliceio.splice(sock, writer, 5)
    with pytest.raises(ValueError, match="9 bytes that OpenSSL has decrypted"):
        spliceio.peek(sock)
    with (
        spliceio.Pipe() as pipe,
        pytest.raises(ValueError, match="9 bytes that OpenSSL has decrypted"),
    ):
        pipe.fill(sock, 5)
    assert copy(sock, writer, 4).moved == 4
    assert spliceio.receive_file(sock, writer, 5).moved == 5
    assert sock.pending() == 0
    assert os.read(reader, 20) == b"123456789"


@pytest.mark.parametrize("err", [0, errno.ENOENT, errno.EPERM, errno.EMFILE])
def test_the_probe(monkeypatch, err):
    """Missing, blocked and untried are told apart."""
    monkeypatch.setattr(tls, "is_attachable", lambda: err)
    probe = features().kernel_tls
    if err:
        status = {errno.ENOENT: "missing", errno.EPERM: "blocked", errno.EMFILE: "untried"}[err]
        assert (probe.status, probe.errno) == (status, err)
    else:  # then it is tried, and a kernel without says so
        assert probe.status in ("works", "blocked")


def test_the_probe_needs_a_connection(monkeypatch):
    """Without a loopback there is nothing to try it with."""

    def refuse(*_, **__):
        raise OSError(errno.ENETUNREACH, "none")

    monkeypatch.setattr(tls, "is_attachable", lambda: 0)
    monkeypatch.setattr(socket, "create_connection", refuse)
    probe = features().kernel_tls
    assert (probe.status, probe.errno) == ("untried", errno.ENETUNREACH)


def test_whether_it_can_be_attached_is_a_question():
    """Nothing is left of it, and an unconnected socket is enough."""
    assert tls.is_attachable() in (0, errno.ENOENT, errno.ENOPROTOOPT)


def test_the_number_of_the_option():
    """Python has the name from 3.12 on."""
    assert OP_ENABLE_KTLS == 8 == tls._OP_ENABLE_KTLS
