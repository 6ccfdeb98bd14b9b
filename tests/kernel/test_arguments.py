"""Numbers and memory that are no good: told as they were given, before anything is done."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import struct

import pytest

import spliceio
from spliceio import FileWrapper, Transfer
from tests.support.seam import Seam, fail
from tests.support.states import Worker, until

GAPS = memoryview(b"abcdef")[::2]
LINGER = struct.pack("ii", 1, 0)


def real(wires):
    (wires.tmp_path / "real").write_bytes(b"real")
    return kept(wires, open(wires.tmp_path / "real", "rb"))


def kept(wires, owner):
    """Close it after the test."""
    wires.ends.callback(owner.close)
    return owner


MEMORY = {
    "header": lambda w, bad: spliceio.send_file(w.sink("unix").end, w.file(b"x"), header=bad),
    "trailer": lambda w, bad: spliceio.send_file(w.sink("unix").end, w.file(b"x"), trailer=bad),
    "a range's header": lambda w, bad: spliceio.send_ranges(
        w.sink("unix").end, w.file(b"x"), [(0, 1)], headers=[bad]
    ),
    "FileWrapper": lambda w, bad: FileWrapper(real(w)).send(w.sink("unix").end, header=bad),
    "vmsplice": lambda w, bad: spliceio.vmsplice(w.pipe()[1], bad),
    "vmsplice of two": lambda w, bad: spliceio.vmsplice(w.pipe()[1], [b"x", bad]),
    "try_vmsplice": lambda w, bad: spliceio.try_vmsplice(w.pipe()[1], bad),
    "ahead": lambda w, bad: Transfer(w.source("unix", b"x").end, w.file(), ahead=bad),
    "to_a": lambda w, bad: spliceio.relay(*w.sockets("unix"), to_a=bad),
    "to_b": lambda w, bad: spliceio.relay(*w.sockets("unix"), to_b=bad),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_with_gaps(wires, name):
    """TypeError that says what is missing, and not that it is no bytes-like object."""
    with pytest.raises(TypeError, match=r"contiguous.*pass bytes\(\)"):
        MEMORY[name](wires, GAPS)


@pytest.mark.parametrize("name", [name for name in MEMORY if "vmsplice" not in name])
@pytest.mark.parametrize("bad", ["text", None, 5, object], ids=repr)
def test_what_is_no_memory(wires, name, bad):
    """TypeError; a number is no memory of that size."""
    with pytest.raises(TypeError, match="bytes-like"):
        MEMORY[name](wires, bad)


def test_memory_of_other_items_is_counted_in_bytes(wires):
    """A limit holds for bytes, whatever the items are."""
    four = memoryview(bytes(8)).cast("i")
    with pytest.raises(ValueError, match=r"hold \(8\)"):
        spliceio.relay(*wires.sockets("unix"), to_a=four, byte_limit=7)


def test_writers_that_copy_take_memory_with_gaps(wires):
    """PageWriter and Blob make memory of their own."""
    reader, writer = wires.pipe()
    with spliceio.PageWriter(writer) as pages, spliceio.Blob(GAPS) as blob:
        assert pages.write(GAPS) == 3
        assert os.read(reader, 10) == b"ace"
        assert os.pread(blob.fileno(), 10, blob.offset) == b"ace"


HUGE = (2**63 - 1, 2**63, 2**70)
COUNTS = {
    "send_file": lambda w, count: spliceio.send_file(w.sink("unix").end, w.file(b"abc"), 0, count),
    "send_ranges": lambda w, count: spliceio.send_ranges(
        w.sink("unix").end, w.file(b"abc"), [(0, count)]
    ),
    "copy": lambda w, count: spliceio.copy(blob(w), w.file(), count),
    "discard": lambda w, count: spliceio.discard(blob(w), count),
    "chunks": lambda w, count: spliceio.chunks(blob(w), count=count),
    "fanout": lambda w, count: spliceio.fanout(blob(w), [w.file()], count),
    "receive_file": lambda w, count: spliceio.receive_file(blob(w), w.file(), count),
}


def blob(wires):
    return kept(wires, spliceio.Blob(b"abc"))


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("call", COUNTS.values(), ids=COUNTS)
def test_a_count_is_told_as_it_was_given(wires, call, count):
    """The refusal repeats the number, and no other that is nearly as large."""
    with pytest.raises(ValueError, match=rf"\b{count} bytes from offset 0"):
        call(wires, count)


@pytest.mark.parametrize("count", HUGE)
def test_a_count_beyond_all_is_all(wires, count):
    """Where there is no end to hold it against."""
    assert spliceio.copy(wires.file(b"abc"), wires.file(), count).moved == 3
    assert spliceio.fanout(wires.file(b"abc"), [wires.file()], count).moved == 3
    assert b"".join(spliceio.chunks(wires.file(b"abc"), count=count)) == b"abc"
    with open(wires.tmp_path / "f", "w+b") as file:
        file.write(b"abc")
        file.seek(0)
        assert FileWrapper(file).send(wires.sink("unix").end, count=count).moved == 3
    with pytest.raises(spliceio.UnexpectedEOF, match=rf"3 of the {count} bytes"):
        spliceio.receive_file(wires.source("unix", b"abc").end, wires.file(), count)
    near, far = wires.sockets("unix")
    far.shutdown(socket.SHUT_WR)
    sink = wires.file()
    reader, writer = wires.pipe()
    os.close(writer)
    assert spliceio.relay(near, (reader, sink), byte_limit=count).reason == "eof"


def test_a_file_of_the_kernel_and_a_count_beyond_all(wires):
    """UnexpectedEOF with the count as it was given."""
    with (
        open("/proc/version", "rb") as file,
        pytest.raises(spliceio.UnexpectedEOF, match=str(2**63)),
    ):
        spliceio.send_file(wires.sink("unix").end, file, 0, 2**63)


def pooled(**options):
    spliceio.RelayPool(**options).shutdown()


def proxied(**options):
    with spliceio.Proxy("127.0.0.1:0", "127.0.0.1:1", **options):
        pass


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        *[(make, "max_pipes", n) for make in (pooled, proxied) for n in (2**31, 2**63, 2**70)],
        *[(make, "threads", n) for make in (pooled, proxied) for n in (2**31, 2**63, 2**70)],
        *[(proxied, "max_connections", n) for n in (2**63, 2**70)],
        (lambda size: spliceio.chunks(0, size), "size", 2**63),
    ],
)
def test_numbers_that_the_c_does_not_take(make, name, value):
    """ValueError with name and number, before a thread or a pipe is made."""
    with pytest.raises(ValueError, match=rf"{name} must be \d+ at most \(got {value}\)"):
        make(**{name: value})


@pytest.mark.parametrize(
    "seconds", [1e300, 10**400, float("inf"), 2**63], ids=["float", "int", "inf", "c"]
)
def test_a_time_that_never_comes(wires, seconds):
    """Any number of seconds is one, also where floats end."""
    spliceio.copy(wires.file(b"abc"), wires.file(), timeout=seconds)
    spliceio.fanout(wires.file(b"abc"), [wires.file()], timeout=seconds, stall_timeout=seconds)
    proxied(idle_timeout=seconds, connect_timeout=seconds, peek_timeout=seconds)
    for file in (real(wires), io.BytesIO(b"abc")):
        FileWrapper(file).send(wires.sink("unix").end, timeout=seconds)


# ---- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (lambda w: {"src": "name"}, TypeError),
        (lambda w: {"src": -1}, OSError),
        (lambda w: {"src": w.pipe()[1]}, OSError),
        (lambda w: {"src": w.ends.sock(socket.socket(type=socket.SOCK_DGRAM))}, ValueError),
        (lambda w: {"src": w.file(), "timeout": -1}, ValueError),
        (lambda w: {"src": w.file(), "count": -1}, ValueError),
        (lambda w: {"src": w.file(), "count": "1"}, TypeError),
        (lambda w: {"src": blob(w), "count": 4}, ValueError),
    ],
    ids=["str", "number", "writer", "datagrams", "timeout", "count", "text", "blob"],
)
def test_chunks_refuses_when_it_is_called(wires, bad, kind):
    """And not when the first piece is asked for, far from there."""
    with pytest.raises(kind):
        spliceio.chunks(**bad(wires))


def test_chunks_that_are_never_asked_for_own_nothing(wires):
    """No descriptor is open, nothing read; close() is that of any generator."""
    reader, writer = wires.pipe()
    os.write(writer, b"kept")
    before = os.listdir("/proc/self/fd")
    with open(reader, "rb", closefd=False) as file:
        pieces = spliceio.chunks(file)
        assert os.listdir("/proc/self/fd") == before
        pieces.close()
        assert list(pieces) == []
        assert file.read1() == b"kept"


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["poll", "pipe", "read", "write", "splice", "sendfile"])
def test_no_error_advises_a_function_that_does_not_exist(wires, monkeypatch, call):
    """Whichever call says EAGAIN, what is advised can be called."""
    src = wires.source("unix", b"") if call == "poll" else None
    end = src.end if src else wires.file(b"x")
    with Seam(fail(call, errno.EAGAIN)).everywhere(monkeypatch):
        try:
            spliceio.copy(end, wires.sink("file").end, 1, timeout=0.01)
        except OSError as error:
            text = str(error)
        else:
            text = ""
    for name in re.findall(r"\b(\w+)\(\)", text):
        assert name == "poll" or hasattr(spliceio, name), text
    from spliceio._kernel import errors as _errors

    for name in re.findall(r"\btry_(\w+)\(\)", _errors.reason_for(call, errno.EAGAIN)):
        assert hasattr(spliceio, f"try_{name}")


def test_a_poll_that_is_refused_for_the_moment(wires, monkeypatch):
    """It is the transfer that can be run again."""
    near, _ = wires.sockets("unix")
    with (
        Seam(fail("poll", errno.EAGAIN)).everywhere(monkeypatch),
        pytest.raises(BlockingIOError, match="can be run again"),
    ):
        spliceio.copy(near, wires.file(), 1)


@pytest.mark.parametrize("early", [True, False])
def test_a_reset_of_the_connection_that_is_both_ends(wires, early):
    """An echo: it is not told as that of the source alone."""
    near, far = wires.sockets("tcp4")
    far.sendall(b"echo")
    if early:
        near.sendall(b"not read")
    else:
        copying = Worker(lambda: spliceio.copy(near, near))
        until(lambda: far.recv(4, socket.MSG_PEEK) == b"echo")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    with pytest.raises(ConnectionResetError, match="src is a TCP socket, dst is a TCP socket"):
        spliceio.copy(near, near) if early else copying.result()


@pytest.mark.parametrize("kind", ["file", "pipe", "unix", "tcp4"])
@pytest.mark.parametrize("method", ["auto", "splice", "read_write"])
def test_a_reset_met_while_sending_is_that_of_the_destination(wires, kind, method):
    """Whatever the source is."""
    near, far = wires.sockets("tcp4")
    near.sendall(b"not read")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    src = wires.file(b"data") if kind == "file" else wires.source(kind, b"data").end
    with pytest.raises(ConnectionResetError, match=r"\(dst is a TCP socket\)"):
        spliceio.copy(src, near, method=method)
