"""A destination that is full does not hide the end of the source.

Everything has been moved, nothing is held, nobody reads yet: the call returns all the same. And
where the end is still to come, it is the source that is waited for.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading

import pytest

import spliceio
from spliceio import RelayPool, Transfer
from tests.support.cases import cases
from tests.support.seam import Seam
from tests.support.states import syscall_of, until
from tests.support.wires import payload

F_GETPIPE_SZ = 1032
PIPES = {"4 KiB": 4096, "64 KiB": 65536, "256 KiB": 262144}
pipes = pytest.mark.parametrize("capacity", PIPES.values(), ids=PIPES)
SOURCES = ("file", "tmpfs", "pipe", "fifo", "unix", "tcp4")
sources = pytest.mark.parametrize("kind", SOURCES)


def sized(wires, capacity):
    """Return a pipe of this size, and check that it is."""
    reader, writer = wires.pipe(capacity)
    assert fcntl.fcntl(writer, F_GETPIPE_SZ) == capacity
    return reader, writer


def source_of(wires, kind, data):
    """Return a source that has `data` and has ended."""
    if kind in ("pipe", "fifo"):
        return wires.source(kind, data).end
    if kind in ("file", "tmpfs"):
        fd = wires.file(data, kind=kind)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    return wires.source(kind, data).end


def full_of(reader, size):
    """Read what is in a pipe."""
    data = b""
    while len(data) < size:
        data += os.read(reader, size)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    return data


def by_copy(src, dst):
    return spliceio.copy(src, dst).moved


def by_run(src, dst):
    with Transfer(src, dst) as transfer:
        return transfer.run().moved


def by_steps(src, dst):
    with Transfer(src, dst) as transfer:
        while not transfer.done:
            transfer.step()
        return transfer.moved


def by_read_write(src, dst):
    return spliceio.copy(src, dst, method="read_write").moved


@cases(
    kind=SOURCES,
    capacity=PIPES.values(),
    short=[0, 1, 4095],
    call=[by_copy, by_run, by_steps, by_read_write],
)
def test_a_source_that_fits_exactly_ends(wires, kind, capacity, short, call):
    """The pipe is full, or nearly, and the call is over."""
    reader, writer = sized(wires, capacity)
    if call is by_read_write and kind in ("unix", "tcp4"):
        capacity //= 2  # what recv gives has any size, and leaves room in the pipe's pages
    data = payload(max(1, capacity - short))
    assert call(source_of(wires, kind, data), writer) == len(data)
    assert full_of(reader, len(data)) == data


@pytest.mark.parametrize("pieces", [15, 16])
def test_slots_that_are_used_up_hide_no_end(wires, pieces):
    """A pipe without a free slot is full too, whatever its bytes say."""
    source_r, source_w = wires.pipe()
    for i in range(pieces):
        os.write(source_w, bytes([i]))
        scratch_r, scratch_w = os.pipe()
        os.write(scratch_w, b"x")
        os.splice(scratch_r, source_w, 1)
        os.close(scratch_r), os.close(scratch_w)
        if i == 7:
            break
    os.close(source_w)
    reader, writer = wires.pipe(65536)
    assert spliceio.copy(source_r, writer).moved == 16
    assert len(full_of(reader, 16)) == 16


@sources
def test_a_source_without_a_byte_ends_though_the_destination_is_full(wires, clogged, kind):
    _, writer = clogged
    assert spliceio.copy(source_of(wires, kind, b""), writer).moved == 0


@pytest.mark.parametrize("kind", ["file", "pipe", "unix"])
@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_an_empty_source_ends_though_the_socket_is_full(wires, stuffed, kind, method):
    near, _ = stuffed
    assert spliceio.copy(source_of(wires, kind, b""), near, method=method).moved == 0


@cases(
    kind=["file", "pipe", "unix", "tcp4"],
    to=["unix", "tcp4"],
    mode=["blocking", "nonblocking"],
)
def test_a_source_that_fills_a_socket_is_never_waited_for_in_vain(wires, kind, to, mode):
    """How much fits differs by packets; but with all of it moved, no call times out."""
    whole = payload(8 << 20)

    def fill(data):
        near, _far = wires.sockets(to)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        near.setblocking(mode == "blocking")
        try:
            return spliceio.copy(source_of(wires, kind, data), near, timeout=0.1).moved
        except TimeoutError as error:
            moved = error.result.moved
        assert moved < len(data)
        return moved

    fits = fill(whole)
    assert 0 < fits < len(whole)
    assert any(fill(whole[:size]) == size for size in (fits, fits - 1, fits - 4096, fits // 2))


@pytest.mark.parametrize("kind", ["pipe", "fifo", "unix", "tcp4"])
def test_an_end_that_comes_while_the_destination_is_full_is_seen(wires, kind):
    """Empty but open, a source is waited for, and not the destination that takes no more."""
    near, far = wires.pipe() if kind in ("pipe", "fifo") else wires.sockets(kind)
    data = payload(65536)
    reader, writer = sized(wires, 65536)
    done = []
    if kind in ("pipe", "fifo"):
        os.write(far, data)
    else:
        far.sendall(data)
    thread = threading.Thread(target=lambda: done.append(spliceio.copy(near, writer).moved))
    thread.start()
    until(lambda: syscall_of(thread.native_id) in _POLLS and _unread(writer) == len(data))
    assert not done
    os.close(far) if isinstance(far, int) else far.shutdown(socket.SHUT_WR)
    thread.join()
    assert done == [len(data)]
    assert full_of(reader, len(data)) == data


_POLLS = {7, 271, 73}


def _unread(fd):
    return struct.unpack("i", fcntl.ioctl(fd, 0x541B, b"\0\0\0\0"))[0]


def test_bytes_that_come_while_the_destination_is_full_arrive_later(wires):
    near, far = wires.pipe()
    data, more = payload(65536), payload(5000, 2)
    reader, writer = sized(wires, 65536)
    os.write(far, data)
    done = []
    thread = threading.Thread(target=lambda: done.append(spliceio.copy(near, writer).moved))
    thread.start()
    until(lambda: _unread(writer) == len(data))
    os.write(far, more)
    os.close(far)
    assert not done
    got = b""
    while len(got) < len(data) + len(more):
        got += os.read(reader, 1 << 20)
    thread.join()
    assert got == data + more
    assert done == [len(got)]


def test_a_reset_is_told_though_the_destination_is_full(wires):
    """To look for the end takes the error off the socket, which must not lose it."""
    near, far = wires.sockets("tcp4")
    data = payload(65536)
    reader, writer = sized(wires, 65536)
    far.sendall(data)
    failed = []

    def run():
        try:
            spliceio.copy(near, writer)
        except ConnectionResetError as error:
            failed.append(error.result.moved)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: _unread(writer) == len(data))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    thread.join()
    assert failed == [len(data)]
    assert full_of(reader, len(data)) == data


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_count_that_is_reached_ends_though_the_destination_is_full(wires, kind):
    data = payload(70000)
    reader, writer = sized(wires, 65536)
    assert spliceio.copy(source_of(wires, kind, data), writer, 65536).moved == 65536
    assert full_of(reader, 65536) == data[:65536]


def test_a_file_that_grows_behind_a_full_pipe_is_copied_on(wires, tmp_path):
    """What is more than the pipe takes is waited for, though the size was known before."""
    data, more = payload(65536), payload(3000, 2)
    fd = wires.file(data)
    os.lseek(fd, 0, os.SEEK_SET)
    reader, writer = sized(wires, 65536)
    with Transfer(fd, writer) as transfer:
        os.pwrite(fd, more, len(data))
        transfer.step()
        assert not transfer.done
        assert transfer.waiting_for == "dst"
        got = os.read(reader, 65536)
        transfer.step()
        assert transfer.done
        assert got + os.read(reader, 65536) == data + more


@pytest.mark.parametrize("pooled", [False, True], ids=["relay", "pool"])
def test_a_relay_passes_the_end_on_into_a_pipe_that_is_full(wires, pooled):
    """A side that is a pair of pipes: the reader finds the end after the last byte."""
    near, far = wires.sockets("unix")
    data = payload(65536)
    there_r, there_w = sized(wires, 65536)
    back_r, back_w = wires.pipe()
    os.close(back_w)
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)
    side = (os.fdopen(back_r, "rb", buffering=0), os.fdopen(there_w, "wb", buffering=0))
    for one in side:
        wires.ends.callback(one.close)
    if pooled:
        with RelayPool() as pool:
            result = pool.submit(near, side).result()
    else:
        result = spliceio.relay(near, side)
    assert (result.a_to_b, result.reason) == (len(data), "eof")
    got = b""
    while piece := os.read(there_r, 1 << 20):
        got += piece
    assert got == data


def test_the_end_of_a_file_of_known_size_is_not_asked_for_again(wires):
    """One sendfile for a small file: asked for more, the kernel gave all that there is."""
    fd = wires.file(payload(1000))
    os.lseek(fd, 0, os.SEEK_SET)
    near, _far = wires.sockets("tcp4")
    with Transfer(fd, near) as transfer:
        seam = Seam()
        seam.attach(transfer)
        assert transfer.run().moved == 1000
        assert [(row.call, row.result) for row in seam.log if row.call != "poll"] == [
            ("sendfile", 1000)
        ]
