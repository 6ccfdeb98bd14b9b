"""Records of TLS that are no data, as the kernel tells of them: scripted, on plain connections.

A kernel that decrypts says EINVAL to splice and EIO to recv; `tls_head` is the look at what it is:
0, close_notify; 1, another one; an errno, none. tests/vm has the same on connections that it does
decrypt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl

import anyio
import pytest

import spliceio
from spliceio import Transfer, aio, chunks, copy, fanout, receive_file, relay
from tests.support import loops
from tests.support.cases import cases
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.states import Worker
from tests.support.tls import VERSIONS, connected, pretend

ending = loops.ending

DATA = b"before the record" * 1000
SINKS = ("file", "pipe", "tcp4")
ANOTHER = -1  # fail() answers the negative of it


def record_after(first: int) -> Seam:
    """Let `first` bytes come, and then a close_notify, for which the rest of the bytes stands."""
    gone = {"times": ALWAYS}
    return Seam(
        cap("splice", first, site="fill", times=1),
        cap("splice", first, site="direct", times=1),
        fail("splice", errno.EINVAL, site="fill", **gone),
        fail("splice", errno.EINVAL, site="direct", **gone),
        fail("read", errno.EIO, site="fill", **gone),
        fail("peek", errno.EIO, **gone),
        zero("tls_head", **gone),
    )


@cases(dst=SINKS, nonblocking=[False, True], method=["auto", "splice"])
def test_close_notify_is_the_end(wires, monkeypatch, dst, nonblocking, method):
    """All that came before has been moved, and no method is given up for it."""
    near, far = wires.sockets("tcp4")
    near.setblocking(not nonblocking)
    far.sendall(DATA)  # and it stays open
    sink = wires.sink(dst)
    with record_after(5000).everywhere(monkeypatch):
        result = copy(near, sink.end, method=method)
    assert sink.received() == DATA[:5000]
    assert (result.moved, result.fallbacks) == (5000, ())


def test_close_notify_while_copying(wires, monkeypatch):
    """It is the end for read() as well."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    file = wires.file()
    seam = Seam(
        cap("read", 5000, times=1), fail("read", errno.EIO, times=9), zero("tls_head", times=9)
    )
    with seam.everywhere(monkeypatch):
        assert copy(near, file, method="read_write").moved == 5000


@cases(method=["splice", "read_write"])
def test_another_record_is_an_error_that_loses_nothing(wires, method):
    """EIO at the source, in words; whoever has had it read goes on from there."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    far.shutdown(1)
    file = wires.file()
    seam = Seam(
        fail("splice", errno.EINVAL, site="fill"),
        fail("read", errno.EIO, site="fill"),
        fail("tls_head", ANOTHER),
    )
    with seam.attach(Transfer(near, file, method=method)) as transfer:
        with pytest.raises(OSError, match="the next TLS record of src is no data") as raised:
            transfer.run()
        assert raised.value.errno == errno.EIO
        assert transfer.failed_at == "src"
        assert transfer.held == 0
        seam.lift()
        transfer.run()
    assert os.pread(file, len(DATA) + 1, 0) == DATA


@cases(head=[errno.ENODATA, errno.EAGAIN, errno.EINVAL])
def test_a_refusal_without_a_record_is_one(wires, monkeypatch, head):
    """The next method is taken, as ever."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    far.shutdown(1)
    file = wires.file()
    seam = Seam(fail("splice", errno.EINVAL, site="fill"), fail("tls_head", head))
    with seam.everywhere(monkeypatch):
        result = copy(near, file)
    assert os.pread(file, len(DATA) + 1, 0) == DATA
    assert [fallback.method for fallback in result.fallbacks] == ["splice"]


@cases(refusal=[("splice", errno.EINVAL), ("read", errno.EIO)], reset=[errno.ECONNRESET])
def test_a_reset_that_the_look_has_met_is_told(wires, refusal, reset):
    """The kernel tells it once, and would call it an end the next time."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    method = "splice" if refusal[0] == "splice" else "read_write"
    seam = Seam(fail(*refusal, site="fill"), fail("tls_head", reset))
    with seam.attach(Transfer(near, wires.file(), method=method)) as transfer:
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                transfer.run()
        assert transfer.failed_at == "src"


def test_the_end_of_chunks(wires, monkeypatch):
    """A generator ends too."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    seam = Seam(
        cap("read", 100, times=1), fail("read", errno.EIO, times=9), zero("tls_head", times=9)
    )
    with seam.everywhere(monkeypatch):
        assert b"".join(chunks(near)) == DATA[:100]


def test_the_end_of_one_way_of_a_relay(wires, monkeypatch):
    """Half-close: the other side is told, and its answer still comes."""
    client, near = wires.sockets("tcp4")
    upstream, far = wires.sockets("tcp4")
    client.sendall(DATA)
    answered = Worker(lambda: (read_to_end(far), far.sendall(b"answer"), far.shutdown(1)))
    seam = Seam(
        cap("read", 5000, site="fill", times=1),
        fail("read", errno.EIO, site="fill", skip=1),  # one look for an answer comes before
        zero("tls_head"),
    )
    with seam.everywhere(monkeypatch):
        result = relay(near, upstream)
    answered.result()
    assert (result.reason, result.a_to_b, result.b_to_a) == ("eof", 5000, 6)
    assert client.recv(10) == b"answer"


def read_to_end(sock) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def test_a_body_that_ends_too_early(wires, monkeypatch):
    """close_notify in the middle is UnexpectedEOF, as any end is."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    with record_after(100).everywhere(monkeypatch), pytest.raises(spliceio.UnexpectedEOF) as raised:
        receive_file(near, wires.file(), 20_000)  # less needs no splice
    assert raised.value.result.moved == 100
    assert raised.value.unread == 19_900


def test_the_end_of_a_fanout(wires, monkeypatch):
    """All sinks have what came."""
    near, far = wires.sockets("tcp4")
    far.sendall(DATA)
    seam = Seam(
        cap("splice", 100, site="direct", times=1),
        fail("splice", errno.EINVAL, site="direct"),
        fail("read", errno.EIO, site="fill"),
        zero("tls_head", times=9),
    )
    one, two = wires.file(), wires.file()
    with seam.everywhere(monkeypatch):
        fanout(near, [one, two])
    assert os.pread(one, 200, 0) == os.pread(two, 200, 0) == DATA[:100]


# ---- what OpenSSL reads -------------------------------------------------------------------------


def at_records() -> Seam:
    """Let all that comes be records that are no data to the kernel: OpenSSL has to read them."""
    always = {"times": ALWAYS}
    return Seam(
        fail("splice", errno.EINVAL, site="fill", **always),
        fail("read", errno.EIO, site="fill", **always),
        fail("tls_head", ANOTHER, **always),
    )


@cases(version=VERSIONS, call=["receive_file", "chunks", "step", "aio"], settings=[None, 30.0, 0.0])
def test_openssl_reads_on(wires, monkeypatch, version, call, settings):
    """All of it in order, more than fits into one record; what is beyond the count stays there."""
    sock, client = connected(wires, version, server=False)
    pretend(monkeypatch, attached=True, rx=True)
    client.sendall(DATA + DATA + b"next")
    sock.settimeout(settings)
    select.select([sock], [], [])
    file, count = wires.file(), 2 * len(DATA)
    with at_records().everywhere(monkeypatch):
        if call == "receive_file":
            assert receive_file(sock, file, count).moved == count
        elif call == "chunks":
            for piece in chunks(sock, count=count):
                os.write(file, piece)
        elif call == "aio":
            assert anyio.run(aio.receive_file, sock, file, count).moved == count
        else:
            with Transfer(sock, file, count) as transfer:
                while not transfer.done:
                    transfer.step()
                assert transfer.result().moved == count
    assert os.pread(file, count + 1, 0) == DATA + DATA
    assert sock.gettimeout() == settings
    sock.settimeout(30)
    assert sock.recv(4) == b"next"


def test_openssl_reads_the_end(wires, monkeypatch):
    """close_notify behind a record that was no data."""
    sock, client = connected(wires, "TLS 1.2", server=False)
    pretend(monkeypatch, attached=True, rx=True)
    client.sendall(DATA)
    client.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.unwrap()
    file = wires.file()
    with at_records().everywhere(monkeypatch):
        assert copy(sock, file).moved == len(DATA)
    assert os.pread(file, len(DATA) + 1, 0) == DATA


def test_openssl_has_an_error(wires, monkeypatch):
    """It is told as it is, with the counts; the socket has its timeout back."""
    sock, client = connected(wires, "TLS 1.2", server=False)
    pretend(monkeypatch, attached=True, rx=True)
    client.sendall(DATA)
    os.write(client.fileno(), b"no record")
    with at_records().everywhere(monkeypatch), pytest.raises(ssl.SSLError) as raised:
        copy(sock, wires.file())
    assert raised.value.result.moved == len(DATA)
    assert sock.gettimeout() is None


@cases(suppressed=[True, False], call=["copy", "chunks", "aio"])
def test_an_end_without_close_notify(wires, monkeypatch, suppressed, call):
    """As recv() has it: an end, or SSLEOFError where that is not suppressed."""
    sock, client = connected(wires, "TLS 1.2", server=False)
    pretend(monkeypatch, attached=True, rx=True)
    sock.suppress_ragged_eofs = suppressed
    client.shutdown(socket.SHUT_WR)
    file = wires.file()
    with contextlib.nullcontext() if suppressed else pytest.raises(ssl.SSLEOFError):
        if call == "copy":
            assert copy(sock, file).moved == 0
        elif call == "aio":
            sock.setblocking(False)
            assert anyio.run(aio.copy, sock, file).moved == 0
        else:
            assert list(chunks(sock)) == []


def test_a_relay_goes_on_behind_a_record(wires, monkeypatch):
    """Both ways; with a byte_limit it is an error, since what OpenSSL has could be beyond."""
    sock, client = connected(wires, "TLS 1.2", server=False)
    near, far = wires.sockets("unix")
    pretend(monkeypatch, attached=True, tx=True, rx=True)
    client.sendall(b"through OpenSSL")
    with at_records().everywhere(monkeypatch), pytest.raises(OSError, match="no data"):
        relay(sock, near, byte_limit=100)
    seam = Seam(
        fail("read", errno.EIO, site="fill"),
        fail("tls_head", ANOTHER),
    )
    select.select([sock], [], [])
    with seam.everywhere(monkeypatch):
        result = Worker(lambda: relay(sock, near))
        assert far.recv(100) == b"through OpenSSL"
        far.shutdown(socket.SHUT_WR)
        client.close()
        assert result.result().a_to_b == len(b"through OpenSSL")
