"""Records of TLS that are no data, as the kernel tells of them: scripted, on plain connections.

A kernel that decrypts says EINVAL to splice and EIO to recv; `tls_head` is the look at what it is:
0, close_notify; 1, another one; an errno, none. tests/vm has the same on connections that it does
decrypt.
"""

from __future__ import annotations

import errno
import os

import pytest

import spliceio
from spliceio import Transfer, chunks, copy, fanout, receive_file, relay
from tests.support.cases import cases
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.states import Worker

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
        receive_file(near, wires.file(), 200)
    assert raised.value.result.moved == 100
    assert raised.value.unread == 100


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
