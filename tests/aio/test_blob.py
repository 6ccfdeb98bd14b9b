"""Blob in the awaitable calls: the window is what the blocking ones make of it."""

from __future__ import annotations

import socket

import pytest

from spliceio import Blob
from spliceio._cffi import lib
from tests.support import loops
from tests.support.loops import waited
from tests.support.wires import payload

backend, ending = loops.backend, loops.ending

DATA = payload(5 << 20)


@pytest.mark.parametrize("call", ["copy", "send_file"])
@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (0, 0), (0, 1), (7, 4097), (4096, None), (5 << 20, None)]
)
def test_a_slice_is_sent_from_its_own_beginning(wires, backend, call, offset, count):
    """Twice, what is large by sendfile, and no position moves."""
    with Blob([b"before", DATA, b"after"]) as whole:
        blob = whole[6:-5]
        sink = wires.sink("tcp4")
        end = len(DATA) if count is None else offset + count
        for _ in range(2):
            if call == "copy":
                result = waited(backend, call, blob, sink.end, count, offset_src=offset)
            else:
                result = waited(backend, call, sink.end, blob, offset, count)
            method = "sendfile" if end - offset > lib.SIO_ACT_BUF else "read_write"
            assert result.by_method == ({method: end - offset} if end > offset else {})
        assert sink.received() == DATA[offset:end] * 2


@pytest.mark.parametrize("call", ["copy", "send_file"])
@pytest.mark.parametrize(("offset", "count"), [(0, 6), (6, None), (6, 0), (3, 3)])
def test_what_a_slice_does_not_have_is_refused(backend, call, offset, count):
    """Though the memory goes on behind it; nothing is sent."""
    near, far = socket.socketpair()
    with Blob(DATA) as whole, near, far:
        blob = whole[2:7]
        args: dict = {"count": count}
        args |= (
            {"src": blob, "dst": near, "offset_src": offset}
            if call == "copy"
            else {"sock": near, "file": blob, "offset": offset}
        )
        with pytest.raises(ValueError, match=r"past the end|are asked for, but .* ends at 5"):
            waited(backend, call, **args)
        near.send(b"|")
        assert far.recv(100) == b"|"


def test_a_blob_is_no_destination(backend):
    """Refused before a byte is taken."""
    near, far = socket.socketpair()
    with Blob(b"abc") as blob, near, far:
        near.send(b"xyz")
        with pytest.raises(PermissionError, match="is a Blob"):
            waited(backend, "copy", far, blob)
        with pytest.raises(PermissionError, match="file is a Blob"):
            waited(backend, "receive_file", far, blob, 3)
        assert far.recv(10) == b"xyz"
