"""Kernel TLS: files leave by sendfile, encrypted; what comes is received by splice.

The other end decrypts in user space, and a packet socket on the loopback finds no plaintext.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http.client
import io
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

import spliceio
from spliceio import (
    FileWrapper,
    RelayPool,
    Transfer,
    UnexpectedEOF,
    aio,
    chunks,
    copy,
    copyfileobj,
    explain,
    fanout,
    features,
    peek,
    receive_file,
    relay,
    send_file,
    send_ranges,
)
from spliceio._kernel import tls
from spliceio._transfer.send import make_send_file
from tests.support import loops
from tests.support.cases import cases
from tests.support.programs import need, running
from tests.support.seam import Seam, fail
from tests.support.states import Worker, until
from tests.support.tls import (
    VERSIONS,
    Wire,
    certificate,
    connected,
    contexts,
    has_key,
    read_exactly,
)

pytestmark = pytest.mark.skipif(
    tls.is_attachable() != 0, reason="this kernel has no tls module: make vm runs it under one"
)

ending = loops.ending

MARK = b"plaintext that must not be seen! "
SMALL = 16384
"""Up to here one read and one send cost less (SIO_ACT_SMALL)."""
SIZES = (1, 4096, SMALL - 1, SMALL, SMALL + 1, 100_000, 3 << 20)
MODES = {"blocking": None, "timeout": 30.0, "nonblocking": 0.0}
ROOT = Path(__file__).resolve().parents[2]


def content(size: int) -> bytes:
    """Make bytes in which every packet's worth has the mark."""
    return (MARK * (size // len(MARK) + 1))[:size]


def assert_unseen(wire: Wire) -> None:
    assert MARK not in wire.seen
    assert b"\x17\x03\x03" in wire.seen


def needs_decryption(sock) -> None:
    """Skip where OpenSSL keeps receiving to itself, as 3.0 does in TLS 1.3."""
    if not has_key(sock, sends=False):
        pytest.skip(f"{ssl.OPENSSL_VERSION} decrypts {sock.version()} itself")


def sends_by(size: int) -> str:
    return "sendfile" if size > SMALL else "read_write"


# ---- sending ------------------------------------------------------------------------------------


def test_the_wire_shows_plaintext(wires):
    """Without TLS: what the other tests look for would be found."""
    near, far = wires.sockets("tcp4")
    with Wire() as wire:
        near.sendall(content(1000))
        assert far.recv(1000, socket.MSG_WAITALL) == content(1000)
    assert MARK in wire.seen


def test_this_kernel_has_it():
    """features() has sent a page by sendfile, and found it encrypted."""
    probe = features().kernel_tls
    assert (probe.status, probe.errno) == ("works", 0)
    assert "kernel_tls       works" in str(features())


@cases(version=VERSIONS, size=SIZES, mode=MODES, call=["copy", "send_file"])
def test_a_file_is_sent_encrypted(wires, version, size, mode, call):
    """By sendfile, where it is not small; its client decrypts it in user space."""
    server, client = connected(wires, version)
    assert has_key(server, sends=True)
    assert not has_key(client, sends=False)
    server.settimeout(MODES[mode])
    data = content(size)
    file = wires.file(data)
    with Wire() as wire:
        got = Worker(lambda: read_exactly(client, size))
        result = copy(file, server) if call == "copy" else send_file(server, file)
        assert got.result() == data
    assert (result.moved, result.method) == (size, sends_by(size))
    assert result.fallbacks == ()
    assert_unseen(wire)
    assert server.gettimeout() == MODES[mode]


@cases(version=VERSIONS, size=SIZES, mode=MODES)
def test_header_and_trailer_are_encrypted_with_it(wires, version, size, mode):
    """And nothing of them is held back: the connection stays open."""
    server, client = connected(wires, version)
    server.settimeout(MODES[mode])
    data, header, trailer = content(size), b"head " + MARK, MARK + b" tail"
    whole = header + data + trailer
    with Wire() as wire:
        got = Worker(lambda: read_exactly(client, len(whole)))
        result = send_file(server, wires.file(data), header=header, trailer=trailer)
        assert got.result() == whole
    assert (result.moved, result.method) == (len(whole), sends_by(size))
    assert_unseen(wire)


@cases(version=VERSIONS, size=(SMALL + 1, 3 << 20))
def test_a_header_shares_the_record_of_the_file(wires, version, size):
    """The fewest records that there can be: the client pays for each."""
    server, client = connected(wires, version)
    with Wire() as wire:
        got = Worker(lambda: read_exactly(client, size + 100))
        send_file(server, wires.file(content(size)), header=bytes(100))
        assert got.result() == bytes(100) + content(size)
    assert_unseen(wire)


@cases(version=VERSIONS)
def test_ranges(wires, version):
    """Each after its header, in order."""
    server, client = connected(wires, version)
    data = content(300_000)
    ranges = [(0, 20_000), (100_000, 1), (5, 200_000), (299_999, 1)]
    whole = b"".join(b"part" + data[at : at + count] for at, count in ranges)
    with Wire() as wire:
        got = Worker(lambda: read_exactly(client, len(whole) + 3))
        result = send_ranges(
            server, wires.file(data), ranges, headers=[b"part"] * 4, trailer=b"end"
        )
        assert got.result() == whole + b"end"
    assert result.method == "sendfile"
    assert_unseen(wire)


@cases(version=VERSIONS, call=["act", "transfer"])
def test_a_header_leaves_also_when_the_file_fails(wires, monkeypatch, version, call):
    """The kernel would hold a record that was begun with MSG_MORE for ever."""
    server, client = connected(wires, version)
    client.settimeout(30)
    path = wires.tmp_path / "file"
    path.write_bytes(content(100_000))
    with open(path, "rb") as file:
        if call == "act":
            seam = Seam(fail("sendfile", errno.EIO, times=9), fail("read", errno.EIO, times=9))
            with seam.everywhere(monkeypatch), pytest.raises(OSError, match="input/output"):
                send_file(server, file, header=b"header")
        else:
            transfer = make_send_file(server, file, 0, None, b"header", b"", None)
            with transfer:
                os.truncate(path, 0)
                transfer.run()
                with pytest.raises(UnexpectedEOF):
                    transfer._check_complete()
        assert client.recv(100) == b"header"  # and the connection is open


@cases(version=VERSIONS, mode=["blocking", "timeout"])
def test_a_client_that_does_not_read(wires, version, mode):
    """TimeoutError, and what it reads later is the beginning of the file, as much as was moved."""
    server, client = connected(wires, version)
    server.settimeout(MODES[mode])
    data = content(64 << 20)
    with pytest.raises(TimeoutError) as raised:
        send_file(server, wires.file(data, kind="memfd"), header=b"header", timeout=0.2)
    moved = raised.value.result.moved
    assert 0 < moved < len(data)
    assert read_exactly(client, moved) == (b"header" + data)[:moved]


@cases(version=VERSIONS)
def test_its_own_send_goes_before_and_after(wires, version):
    """One stream of records, whoever makes them."""
    server, client = connected(wires, version)
    data = content(100_000)
    got = Worker(lambda: read_exactly(client, len(data) * 2 + 10))
    server.sendall(b"first")
    assert copy(wires.file(data), server).method == "sendfile"
    server.sendall(b"again")
    assert copy(wires.file(data), server).method == "sendfile"
    assert got.result() == b"first" + data + b"again" + data


@cases(version=VERSIONS)
def test_the_end_is_told_by_unwrap(wires, version):
    """close_notify: the client sees no truncation."""
    server, client = connected(wires, version, client=True)
    data = content(50_000)

    def ask():
        got = read_exactly(client, len(data) + 1)
        with contextlib.suppress(ssl.SSLError, OSError):  # OpenSSL 3.5 wants an answer
            client.unwrap()
        return got

    client.suppress_ragged_eofs = False
    got = Worker(ask)
    copy(wires.file(data), server)
    with contextlib.suppress(ssl.SSLError):
        server.unwrap()
    assert got.result() == data


@cases(version=VERSIONS, src=["pipe", "tcp4", "unix"])
def test_a_stream_is_spliced_into_it(wires, version, src):
    """What comes from a pipe or a socket leaves encrypted too."""
    server, client = connected(wires, version)
    data = content(1 << 20)
    with Wire() as wire:
        got = Worker(lambda: read_exactly(client, len(data)))
        result = copy(wires.source(src, data).end, server)
        assert got.result() == data
    assert result.moved == len(data)
    assert result.method == "splice"
    if src != "tcp4":  # which is on the loopback in plaintext, as it comes
        assert_unseen(wire)


@cases(version=VERSIONS)
def test_the_raw_calls(wires, version):
    """Splice and sendfile take the object in the direction of which the kernel has the key."""
    server, client = connected(wires, version)
    client.settimeout(30)
    reader, writer = wires.pipe()
    assert spliceio.sendfile(server, wires.file(b"file"), 0, 4) == 4
    assert client.recv(10) == b"file"
    os.write(writer, b"pipe")
    assert spliceio.splice(reader, server, 4) == 4
    assert client.recv(10) == b"pipe"
    if not has_key(server, sends=False):
        with pytest.raises(TypeError, match=r"decrypts TLSv1\.3 itself"):
            spliceio.splice(server, writer, 4)
        return
    client.sendall(b"received")
    assert server.recv(2) == b"re"
    with pytest.raises(ValueError, match="6 bytes that OpenSSL has decrypted"):
        spliceio.splice(server, writer, 4)
    assert server.recv(10) == b"ceived"
    client.sendall(b"more")
    select.select([server], [], [])
    assert spliceio.try_splice(server, writer, 4) == 4
    assert os.read(reader, 10) == b"more"


# ---- refused ------------------------------------------------------------------------------------


def refuses(wires, sock, match: str) -> None:
    """Nothing is sent, whatever is asked, and the reason is told."""
    file = wires.file(content(100_000))
    for call in (
        lambda: copy(file, sock),
        lambda: send_file(sock, file, header=MARK),
        lambda: send_file(sock, wires.file(b"small"), header=MARK),
        lambda: spliceio.sendfile(sock, file, 0, 100),
        lambda: Transfer(file, sock),
        lambda: explain(file, sock),
        lambda: fanout(file, [sock]),
    ):
        with pytest.raises(TypeError, match="plaintext") as raised:
            call()
        assert re.search(match, str(raised.value)), str(raised.value)


def test_tls_that_has_no_key_is_refused(wires):
    """It is attached, as where the kernel has refused a key: what is sent there is plaintext."""
    serving, asking = contexts("TLS 1.3", server=False)
    near, far = wires.sockets("tcp4")
    near.setsockopt(socket.IPPROTO_TCP, tls.TCP_ULP, b"tls")
    server = Worker(lambda: serving.wrap_socket(near, server_side=True))
    client = wires.ends.sock(asking.wrap_socket(far, server_hostname="127.0.0.1"))
    sock = wires.ends.sock(server.result())
    assert sock.getsockopt(socket.IPPROTO_TCP, tls.TCP_ULP, 8).startswith(b"tls")
    with Wire() as wire:
        refuses(wires, sock, "OP_ENABLE_KTLS|refused the key")
        sock.sendall(b"still in step")
        assert client.recv(100) == b"still in step"
    assert MARK not in wire.seen


def test_a_connection_without_the_option(wires):
    """The reason is the option that is not set."""
    sock, _ = connected(wires, server=False)
    refuses(wires, sock, r"its SSLContext has no ssl.OP_ENABLE_KTLS")


def test_a_cipher_that_the_kernel_has_not(wires):
    """Its name is told."""
    sock, _ = connected(wires, "TLS 1.2", cipher="ECDHE-ECDSA-AES128-SHA256")
    refuses(wires, sock, "ECDHE-ECDSA-AES128-SHA256 is no cipher of kernel TLS")


def test_a_handshake_that_is_not_done(wires):
    """The kernel of a TLS 1.3 server has the key before it is known who the client is."""
    serving, asking = contexts("TLS 1.3")
    near, far = wires.sockets("tcp4")
    near.setblocking(False)
    sock = wires.ends.sock(
        serving.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
    )
    refuses(wires, sock, "handshake is not done")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    far.sendall(outgoing.read())
    peek(sock.fileno(), 1)
    with pytest.raises(ssl.SSLWantReadError):
        sock.do_handshake()
    assert has_key(sock, sends=True)  # and yet
    with Wire() as wire:
        refuses(wires, sock, "handshake is not done")
    assert MARK not in wire.seen


def test_after_unwrap(wires):
    """TLS is over, and the kernel still has the key: refused."""
    server, client = connected(wires, "TLS 1.2", client=True)
    other = Worker(client.unwrap)
    with contextlib.suppress(ssl.SSLError):
        server.unwrap()
    with contextlib.suppress(ssl.SSLError, OSError):
        other.result()
    if server._sslobj is None or server.version() is None:
        refuses(wires, server, "unwrap")


def test_a_subclass_with_a_send_of_its_own(wires):
    """It is not gone around."""

    class Counting(ssl.SSLSocket):
        def send(self, data, flags=0):
            return super().send(data, flags)

    serving, asking = contexts()
    serving.sslsocket_class = Counting
    near, far = wires.sockets("tcp4")
    server = Worker(lambda: serving.wrap_socket(near, server_side=True))
    wires.ends.sock(asking.wrap_socket(far, server_hostname="127.0.0.1"))
    refuses(wires, wires.ends.sock(server.result()), "its send is its own")


def test_explain_says_that_the_kernel_encrypts(wires):
    """Version and cipher, and how the end is told."""
    server, _ = connected(wires, "TLS 1.3")
    plan = explain(wires.file(content(100_000)), server)
    assert plan.method == "sendfile"
    assert "The kernel encrypts what goes to dst (TLS 1.3, AES-256-GCM)" in str(plan)
    assert "unwrap()" in str(plan)


# ---- receiving ----------------------------------------------------------------------------------


def receiving(wires, version):
    """Make a server that the kernel decrypts for, and its client."""
    server, client = connected(wires, version)
    needs_decryption(server)
    return server, client


@cases(version=VERSIONS, size=SIZES, mode=MODES)
def test_a_body_is_received_by_splice(wires, version, size, mode):
    """Exactly so many bytes: the next message stays in the connection."""
    server, client = receiving(wires, version)
    server.settimeout(MODES[mode])
    data = content(size)
    sent = Worker(lambda: client.sendall(data + b"next message"))
    file = wires.file()
    result = receive_file(server, file, size)
    assert os.pread(file, size + 1, 0) == data
    assert result.moved == size
    if size > SMALL:
        assert "splice" in result.by_method
    sent.result()
    server.settimeout(30)
    assert read_exactly(server, 12) == b"next message"


@cases(version=VERSIONS, mode=MODES, call=["copy", "chunks", "step"])
def test_close_notify_is_the_end(wires, version, mode, call):
    """The connection stays open, and still the copy ends; OpenSSL is told of it too."""
    server, client = receiving(wires, version)
    server.settimeout(MODES[mode])
    data = content(200_000)

    def send():
        client.sendall(data)
        client.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            client.unwrap()

    sent = Worker(send)
    file = wires.file()
    if call == "copy":
        assert copy(server, file).moved == len(data)
    elif call == "chunks":
        for piece in chunks(server):
            os.write(file, piece)
    else:
        with Transfer(server, file) as transfer:
            while not transfer.done:
                transfer.step()
    sent.result()
    assert os.pread(file, len(data) + 1, 0) == data
    server.settimeout(30)
    assert server.recv(10) == b""


@cases(version=VERSIONS)
def test_what_openssl_has_decrypted_comes_first(wires, version):
    """A record of which the caller has read a part."""
    server, client = receiving(wires, version)
    client.sendall(b"head" + content(1000))
    assert server.recv(4) == b"head"
    assert server.pending() == 1000
    with pytest.raises(ValueError, match="1000 bytes that OpenSSL has decrypted"):
        peek(server)
    assert "OpenSSL has decrypted 1000 bytes of src" in str(explain(server, wires.file()))
    file = wires.file()
    assert receive_file(server, file, 10).moved == 10
    assert server.pending() == 990
    client.sendall(b"tail")
    assert receive_file(server, file, 994).moved == 994
    assert os.pread(file, 2000, 0) == content(1000) + b"tail"


@cases(version=VERSIONS)
def test_a_buffered_reader_over_it(wires, version):
    """Its buffer, then OpenSSL's, then the connection."""
    server, client = receiving(wires, version)
    client.sendall(b"line\n" + content(20_000))
    with server.makefile("rb", 512) as reader:
        assert reader.readline() == b"line\n"
        client.sendall(content(100_000))
        file = wires.file()
        assert receive_file(reader, file, 120_000).moved == 120_000
    assert os.pread(file, 200_000, 0) == content(20_000) + content(100_000)


@cases(mode=MODES, size=(1, 100_000), version=VERSIONS)
def test_a_client_meets_session_tickets(wires, mode, size, version):
    """Records that are no data: OpenSSL reads them, and the download goes on by splice."""
    server, client = connected(wires, version, client=True)
    needs_decryption(client)
    client.settimeout(MODES[mode])
    data = content(size)
    sent = Worker(lambda: send_file(server, wires.file(data * 2)))
    file = wires.file()
    result = receive_file(client, file, 2 * size)
    assert os.pread(file, 2 * size + 1, 0) == data * 2
    if size > SMALL:
        assert result.method == "splice"
        assert result.fallbacks == ()
    assert sent.result().moved == 2 * size
    assert client.gettimeout() == MODES[mode]


@cases(version=VERSIONS)
def test_an_end_without_close_notify(wires, version):
    """As SSLSocket.recv has it: an end, or SSLEOFError where that is not suppressed."""
    for suppressed in (True, False):
        server, client = receiving(wires, version)
        server.suppress_ragged_eofs = suppressed
        read_tickets(client, server)
        client.sendall(b"cut")
        client.shutdown(socket.SHUT_WR)
        expected = contextlib.nullcontext() if suppressed else pytest.raises(ssl.SSLEOFError)
        file = wires.file()
        with expected:
            assert copy(server, file).moved == 3
        assert os.pread(file, 10, 0) == b"cut"


@cases(version=VERSIONS)
def test_peek(wires, version):
    """The first bytes that the kernel decrypts, over several records; close_notify is the end."""
    server, client = receiving(wires, version)
    client.sendall(b"one line\nand")
    assert peek(server, until=b"\n") == b"one line\nand"
    with pytest.raises(TimeoutError, match="12 bytes are there"):
        peek(server, until=b"never", timeout=0.1)
    asked = Worker(lambda: peek(server, until=b" more\n"))
    client.sendall(b" more\n")
    assert asked.result() == b"one line\nand more\n"
    assert server.recv(100) == b"one line\n" + b"and more\n"
    client.settimeout(0)
    with contextlib.suppress(ssl.SSLError, OSError):
        client.unwrap()
    assert peek(server) == b""
    server.settimeout(30)
    assert server.recv(10) == b""


@pytest.mark.parametrize("asks", ["k", "K"])
def test_a_key_update(wires, asks):
    """What came before is there; then OpenSSL's own error where the kernel changes no key.

    So it is of OpenSSL 3.5 with Linux 6.12. Whatever can do both goes on with the new key.
    """
    serving, _ = contexts("TLS 1.3")
    file = wires.file()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            need("openssl"), "s_client", "-tls1_3", "-connect",
            f"127.0.0.1:{listener.getsockname()[1]}",
        ]  # fmt: skip
        with running(*command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            near = wires.ends.sock(listener.accept()[0])
            sock = wires.ends.sock(serving.wrap_socket(near, server_side=True))
            needs_decryption(sock)
            os.write(client.stdin.fileno(), b"before\n")
            assert receive_file(sock, file, 7).moved == 7
            os.write(client.stdin.fileno(), f"{asks}\n".encode())
            select.select([sock], [], [])
            os.write(client.stdin.fileno(), b"after\n")
            try:
                came = receive_file(sock, file, 6).moved
            except ssl.SSLError as error:
                came = error.result.moved
    assert os.pread(file, 20, 0) == b"before\nafter\n"[: 7 + came]
    assert came in (0, 6)


def read_tickets(client, server):
    """Let the client read what the handshake has left, so that its end is no reset."""
    server.sendall(b"!")
    assert client.recv(1) == b"!"


@cases(version=VERSIONS)
def test_a_timeout_with_half_a_record(wires, version):
    """The kernel has nothing to give yet: TimeoutError, not a byte taken."""
    server, client = receiving(wires, version)
    raw = os.dup(client.fileno())
    wires.ends.fd(raw)
    os.write(raw, b"\x17\x03\x03\x40")
    with pytest.raises(TimeoutError) as raised:
        receive_file(server, wires.file(), 10, timeout=0.1)
    assert raised.value.result.moved == 0
    with pytest.raises(TimeoutError):
        next(chunks(server, timeout=0.1))
    near, _ = wires.sockets("tcp4")
    assert relay(server, near, idle_timeout=0.1).reason == "idle"
    with pytest.raises(TimeoutError):
        fanout(server, [near], timeout=0.1)


class Pieces:
    """A client whose records go to the server in two pieces, the second when it is told so."""

    def __init__(self, wires, version):
        serving, asking = contexts(version)
        near, self._wire = wires.sockets("tcp4")
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = asking.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        server = Worker(lambda: serving.wrap_socket(near, server_side=True))
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wire.sendall(self._out.read())
                self._in.write(self._wire.recv(1 << 16))
        self._wire.sendall(self._out.read())
        self.server = wires.ends.sock(server.result())

    def first(self, data: bytes) -> None:
        self._tls.write(data)
        sealed = self._out.read()
        self._rest = sealed[-7:]
        self._wire.sendall(sealed[:-7])

    def second(self) -> None:
        self._wire.sendall(self._rest)


@cases(version=VERSIONS, call=["receive_file", "relay", "pool", "fanout"])
def test_a_record_that_comes_in_pieces(wires, version, call):
    """The rest is waited for, and then all of it is there."""
    client = Pieces(wires, version)
    server = client.server
    needs_decryption(server)
    near, far = wires.sockets("tcp4")
    with RelayPool() as pool:
        start = {
            "receive_file": lambda: receive_file(server, near, len(MARK)),
            "relay": lambda: relay(server, near, byte_limit=len(MARK)),
            "pool": lambda: pool.submit(server, near, byte_limit=len(MARK)).result(),
            "fanout": lambda: fanout(server, [near, wires.file()], count=len(MARK)),
        }[call]
        client.first(MARK)
        worker = Worker(start)
        until(worker.asleep)
        client.second()
        assert far.recv(len(MARK), socket.MSG_WAITALL) == MARK
        worker.result()


# ---- both ways ----------------------------------------------------------------------------------


@cases(version=VERSIONS, engine=["relay", "pool"])
def test_a_relay_ends_tls(wires, version, engine):
    """A client over TLS and a plain upstream: both directions inside the kernel."""
    server, client = receiving(wires, version)
    near, far = wires.sockets("tcp4")
    question, answer = content(300_000), content(500_000)[::-1]
    with RelayPool() as pool:
        if engine == "relay":
            result = Worker(lambda: relay(server, near)).result
        else:
            result = pool.submit(server, near).result
        sent = Worker(lambda: client.sendall(question))
        assert far.recv(len(question), socket.MSG_WAITALL) == question
        sent.result()
        sent = Worker(lambda: far.sendall(answer))
        assert read_exactly(client, len(answer)) == answer
        sent.result()
        client.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            client.unwrap()
        assert far.recv(10) == b""  # close_notify has become the end
        far.close()
        assert (result().a_to_b, result().b_to_a) == (len(question), len(answer))
        assert "splice" in result().methods


@cases(version=VERSIONS)
def test_a_relay_to_an_upstream_over_tls(wires, version):
    """Session tickets come first from it; OpenSSL reads them, and the relay goes on."""
    server, client = connected(wires, version, client=True)
    needs_decryption(client)
    near, far = wires.sockets("tcp4")
    data = content(500_000)
    result = Worker(lambda: relay(near, client)).result
    sent = Worker(lambda: (send_file(server, wires.file(data)), server.shutdown(socket.SHUT_WR)))
    assert far.recv(len(data), socket.MSG_WAITALL) == data
    sent.result()
    far.sendall(b"answer")
    far.shutdown(socket.SHUT_WR)
    assert result().b_to_a == len(data)
    assert result().a_to_b == len(b"answer")


@cases(version=VERSIONS, engine=["relay", "pool"])
def test_a_slow_reader_over_tls(wires, version, engine):
    """Full again and again, and each time it is told when there is room."""
    server, client = receiving(wires, version)
    near, far = wires.sockets("tcp4")
    data = content(6 << 20)
    with RelayPool() as pool:
        if engine == "relay":
            result = Worker(lambda: relay(server, near)).result
        else:
            result = pool.submit(server, near).result
        sent = Worker(lambda: (far.sendall(data), far.shutdown(socket.SHUT_WR)))
        got = bytearray()
        while len(got) < len(data):
            got += client.recv(5000 if len(got) % (1 << 20) < 100_000 else 1 << 18)
        assert got == data
        sent.result()
        client.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            client.unwrap()
        assert result().b_to_a == len(data)


def test_fanout_to_tls_and_a_file(wires):
    """A sink over kernel TLS is a socket like others."""
    server, client = connected(wires)
    data = content(300_000)
    source, file = wires.source("pipe", data), wires.file()
    got = Worker(lambda: read_exactly(client, len(data)))
    with Wire() as wire:
        fanout(source.end, [server, file])
        assert got.result() == data
    assert os.pread(file, len(data) + 1, 0) == data
    assert_unseen(wire)


@cases(version=VERSIONS, call=["send_file", "copy"])
def test_awaitable(wires, version, call):
    """An SSLSocket with kernel TLS; asyncio's own TLS has none."""
    server, client = connected(wires, version)
    server.setblocking(False)
    data = content(1 << 20)
    file = wires.file(data)
    got = Worker(lambda: read_exactly(client, len(data)))

    async def main():
        if call == "copy":
            return await aio.copy(file, server)
        return await aio.send_file(server, file)

    with Wire() as wire:
        result = anyio.run(main)
        assert got.result() == data
    assert (result.moved, result.method) == (len(data), "sendfile")
    assert_unseen(wire)


@cases(version=VERSIONS, size=(1, 500_000))
def test_awaitable_download(wires, version, size):
    """Session tickets, the body, and close_notify."""
    server, client = connected(wires, version, client=True)
    needs_decryption(client)
    client.setblocking(False)
    data = content(size)

    def serve():
        copy(wires.file(data), server)
        server.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            server.unwrap()

    served, file = Worker(serve), wires.file()
    result = anyio.run(aio.copy, client, file)
    served.result()
    assert result.moved == size
    assert os.pread(file, size + 1, 0) == data


# ---- what stands on it --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "memory"])
def test_file_wrapper(wires, source):
    """A real file by sendfile; what is none by the object's own send()."""
    server, client = connected(wires)
    data = content(200_000)
    path = wires.tmp_path / "file"
    path.write_bytes(data)
    got = Worker(lambda: read_exactly(client, len(data) + 4))
    with open(path, "rb") if source == "file" else io.BytesIO(data) as file:
        result = FileWrapper(file).send(server, header=b"head")
    assert got.result() == b"head" + data
    assert result.method == ("sendfile" if source == "file" else "python")


def test_copyfileobj(wires):
    """By sendfile, past both objects."""
    server, client = connected(wires)
    data = content(200_000)
    path = wires.tmp_path / "file"
    path.write_bytes(data)
    got = Worker(lambda: read_exactly(client, len(data)))
    with open(path, "rb") as file:
        assert copyfileobj(file, server).method == "sendfile"
    assert got.result() == data


def test_an_https_server_of_http_server(wires, tmp_path):
    """SendfileMixin, wrapped as everybody does it."""
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    results = []

    class Handler(spliceio.SendfileMixin, SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve_file(self, *args, **options):
            results.append(super().serve_file(*args, **options))

        def log_message(self, *_):
            pass

    (tmp_path / "big.bin").write_bytes(content(1 << 20))
    serving, asking = contexts()
    handler = functools.partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = serving.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            connection = http.client.HTTPSConnection(*server.server_address, context=asking)
            with Wire() as wire, contextlib.closing(connection):
                for fields in ({}, {"Range": "bytes=5-500000"}):
                    connection.request("GET", "/big.bin", headers=fields)
                    body = connection.getresponse().read()
                    assert body == (content(1 << 20)[5:500_001] if fields else content(1 << 20))
        finally:
            server.shutdown()
            thread.join()
    assert [result.method for result in results] == ["sendfile", "sendfile"]
    assert_unseen(wire)


def test_the_example_of_the_guide(wires, tmp_path):
    """examples/https_server.py says that it uses sendfile; its client decrypts in user space."""
    if not hasattr(ssl, "OP_ENABLE_KTLS"):
        pytest.skip("ssl.OP_ENABLE_KTLS came with Python 3.12")
    (tmp_path / "big.bin").write_bytes(content(1 << 20))
    folder = certificate()
    command = [
        sys.executable, ROOT / "examples/https_server.py", tmp_path, folder / "cert", folder / "key"
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(re.search(r"on port (\d+)", process.stdout.readline())[1])
            _, asking = contexts()
            client = http.client.HTTPSConnection("127.0.0.1", port, context=asking)
            with Wire() as wire, contextlib.closing(client):
                client.request("GET", "/big.bin")
                assert client.getresponse().read() == content(1 << 20)
            assert "by sendfile" in process.stdout.readline()
        finally:
            process.terminate()
    assert_unseen(wire)
