"""Transports: open both ends, put bytes in at one, get all of them back at the other.

A `Source` is what a transfer reads from: it is filled at once as far as it takes without a reader,
and a thread feeds it the rest, then says end of file. A `Sink` is what a transfer writes to: a
thread collects what arrives. So a small payload needs no thread to be scheduled, and the number of
system calls is the same every time.

Data runs feeder -> source.end -> (the transfer) -> sink.end -> collector.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pty
import random
import select
import socket
import termios
import tty
from pathlib import Path

import pytest

from spliceio._cffi import lib
from tests.support.states import Worker

IPPROTO_MPTCP = 262
MIB = 1 << 20
STREAMS = ("pipe", "fifo", "unix", "tcp4", "tcp6", "mptcp")
FILES = ("file", "tmpfs")
KINDS = (*STREAMS, *FILES, "tty")
SOCKETS = ("unix", "tcp4", "tcp6", "mptcp")


@functools.cache
def missing(kind: str) -> str | None:
    """Say why a transport cannot be had on this machine; None when it can."""
    try:
        if kind == "mptcp":
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
        elif kind == "tcp6":
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
                probe.bind(("::1", 0))
        elif kind == "tmpfs" and not os.access("/dev/shm", os.W_OK):
            return "/dev/shm is no writable tmpfs"
    except OSError as error:
        return f"{kind}: {error}"
    return None


def transports(*kinds: str):
    """Parameters for `pytest.mark.parametrize`; what this machine has not is skipped by name."""
    params = []
    for kind in kinds or KINDS:
        reason = missing(kind)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        params.append(pytest.param(kind, marks=marks, id=kind))
    return params


def _have(kind: str) -> None:
    """Skip the test that asks for a transport which this machine has not, by name."""
    reason = missing(kind)
    if reason:
        pytest.skip(reason)


@functools.lru_cache(maxsize=32)
def method_of(size: int) -> str:
    """Name the method by which so much of a file goes into a socket."""
    return "read_write" if 0 < size <= lib.SIO_ACT_SMALL else "sendfile"


def payload(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every position can be told from its neighbours."""
    return random.Random(seed).randbytes(size)


def tcp_pair(family: int = socket.AF_INET, protocol: int = 0) -> tuple[socket.socket, ...]:
    """Return two connected TCP sockets on the loopback."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family, socket.SOCK_STREAM, protocol) as listener:
        listener.bind((host, 0))
        listener.listen(1)
        near = socket.socket(family, socket.SOCK_STREAM, protocol)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def socket_pair(kind: str) -> tuple[socket.socket, ...]:
    """Return two connected stream sockets."""
    if kind == "unix":
        return socket.socketpair()
    if kind == "tcp6":
        return tcp_pair(socket.AF_INET6)
    return tcp_pair(protocol=IPPROTO_MPTCP if kind == "mptcp" else 0)


def fifo_pair(directory: Path) -> tuple[int, int]:
    """Return both ends of a new FIFO."""
    path = directory / f"fifo-{len(list(directory.iterdir()))}"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


class Ends:
    """Descriptors to close when the test is over, and threads to wait for."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def fd(self, fd: int) -> int:
        """Close this number at the end, unless somebody has."""
        self._stack.callback(_close, fd)
        return fd

    def sock(self, sock: socket.socket) -> socket.socket:
        """Close this socket at the end."""
        self._stack.callback(sock.close)
        return sock

    def callback(self, *args) -> None:
        """Call this at the end."""
        self._stack.callback(*args)

    def close(self) -> None:
        """Close everything, the last first."""
        self._stack.close()


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


def write_all(fd: int, data) -> None:
    """Write everything, waiting where needed."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


def prefill(fd: int, data) -> int:
    """Write what is taken without a reader; return how much that was."""
    was = os.get_blocking(fd)
    os.set_blocking(fd, False)
    done = 0
    try:
        while done < len(data):
            done += os.write(fd, memoryview(data)[done:])
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(fd, was)
    return done


def read_all(fd: int) -> bytes:
    """Read to the end of file, or of the terminal."""
    parts = []
    while True:
        try:
            part = os.read(fd, MIB)
        except BlockingIOError:
            select.select([fd], [], [])
            continue
        except (ConnectionResetError, OSError) as error:
            if isinstance(error, ConnectionResetError):
                raise
            break  # EIO: the other side of a pty is gone
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


class Source:
    """What a transfer reads from. `end` is handed to it; `left()` reads what it did not take."""

    def __init__(self, kind: str, end, feed_fd: int, data: bytes, ends: Ends) -> None:
        self.kind, self.end, self.data = kind, end, data
        self.counted = kind == "tty"  # a raw terminal has no end of file to tell
        self.fd = end if isinstance(end, int) else end.fileno()
        self._feed_fd, self._ends = feed_fd, ends
        self._feeder: Worker | None = None

    def begin(self) -> None:
        """Put the data in, and after it the end of file."""
        if self._feed_fd < 0:
            return
        done = prefill(self._feed_fd, self.data)
        if done == len(self.data):
            self._finish()
        else:
            self._feeder = Worker(lambda: self._feed(done))
            self._ends.callback(self._stop)

    def _feed(self, done: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            write_all(self._feed_fd, memoryview(self.data)[done:])
            self._finish()

    def _finish(self) -> None:
        if self.kind in SOCKETS:
            feeder = socket.socket(fileno=self._feed_fd)
            try:
                feeder.shutdown(socket.SHUT_WR)
            finally:  # a peer that has gone meanwhile makes it fail; the number is not ours
                feeder.detach()
        elif self.kind != "tty":
            os.close(self._feed_fd)
            self._feed_fd = -1

    def _stop(self) -> None:
        # The reading side goes first, so that a feeder that still writes ends; the master of a
        # terminal would not notice.
        while self.kind == "tty" and self._feeder is not None and self._feeder.is_alive():
            termios.tcflush(self.end, termios.TCIFLUSH)
        if isinstance(self.end, int):
            _close(self.end)
        else:
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_RDWR)
            self.end.close()
        if self._feeder is not None:
            self._feeder.join()

    @property
    def count(self) -> int | None:
        """The count to ask for so that the transfer ends with the data."""
        return len(self.data) if self.counted else None

    def left(self, moved: int = 0) -> bytes:
        """Read what is still in the source; `moved` bytes are known to be gone from a terminal."""
        if not self.counted:
            return read_all(self.fd)
        rest = b""
        while len(rest) < len(self.data) - moved:
            select.select([self.fd], [], [])
            rest += os.read(self.fd, MIB)
        return rest


class Sink:
    """What a transfer writes to. `end` is handed to it; `received()` returns all that arrived."""

    def __init__(self, kind: str, end, collect_fd: int, ends: Ends) -> None:
        self.kind, self.end = kind, end
        self.fd = end if isinstance(end, int) else end.fileno()
        self._collect_fd, self._ends = collect_fd, ends
        self._collector: Worker | None = None

    def begin(self) -> None:
        """Collect from now on, in a thread."""
        if self._collect_fd >= 0:
            self._collector = Worker(lambda: read_all(self._collect_fd))
            self._ends.callback(self.received)

    def received(self) -> bytes:
        """Close the transfer's end, and return everything that came out at the other."""
        if self.kind in (*FILES, "memfd"):
            return os.pread(self.fd, os.fstat(self.fd).st_size, 0) if self.fd >= 0 else b""
        if self.kind in SOCKETS:
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_WR)
        elif self.kind == "tty" and self._collector is None:
            return self._from_terminal()
        else:
            _close(self.end)
        if self._collector is None:
            self.begin()
        assert self._collector is not None
        value = self._collector.result()
        assert isinstance(value, bytes)
        return value

    def _from_terminal(self) -> bytes:
        parts = []
        while select.select([self._collect_fd], [], [], 0)[0]:
            parts.append(os.read(self._collect_fd, MIB))
        return b"".join(parts)


class Wires:
    """Makes transports for one test, and closes them after it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.ends = Ends()

    def close(self) -> None:
        """Close everything that was made."""
        self.ends.close()

    def source(self, kind: str, data: bytes, *, nonblocking: bool = False) -> Source:
        """Make a source that gives `data` and then ends."""
        end, other = self._pair(kind, reads=True)
        if other == -1:
            write_all(end, data)
            os.lseek(end, 0, os.SEEK_SET)
        source = Source(kind, end, other, data, self.ends)
        os.set_blocking(source.fd, not nonblocking)
        source.begin()
        return source

    def sink(self, kind: str, *, nonblocking: bool = False, collecting: bool = True) -> Sink:
        """Make a sink; without `collecting`, nobody reads before `received()`."""
        end, other = self._pair(kind, reads=False)
        sink = Sink(kind, end, other, self.ends)
        os.set_blocking(sink.fd, not nonblocking)
        if collecting:
            sink.begin()
        return sink

    def pipe(self, capacity: int = 0) -> tuple[int, int]:
        """Return both ends of a pipe."""
        reader, writer = os.pipe()
        if capacity:
            fcntl.fcntl(writer, 1031, capacity)  # F_SETPIPE_SZ
        return self.ends.fd(reader), self.ends.fd(writer)

    def sockets(self, kind: str) -> tuple[socket.socket, socket.socket]:
        """Return two connected sockets."""
        _have(kind)
        near, far = socket_pair(kind)
        return self.ends.sock(near), self.ends.sock(far)

    def file(self, data: bytes = b"", *, kind: str = "file", flags: int = 0) -> int:
        """Return a descriptor of a new file with this content, at its beginning."""
        _have(kind)
        if kind == "memfd":
            fd = os.memfd_create("sink", os.MFD_CLOEXEC)
        else:
            directory = self.tmp_path if kind == "file" else Path("/dev/shm")
            path = directory / f"spliceio-{os.getpid()}-{os.urandom(6).hex()}"
            write = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fd = write
            if flags:
                fd = os.open(path, flags | os.O_CLOEXEC)
                write_all(write, data)
                os.close(write)
                os.unlink(path)
                return self.ends.fd(fd)
            os.unlink(path)
        write_all(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return self.ends.fd(fd)

    def terminal(self) -> tuple[int, int]:
        """Return (master, slave) of a raw terminal."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        return self.ends.fd(master), self.ends.fd(slave)

    def clogged(self) -> tuple[int, int]:
        """Return a pipe that is full by slots: one byte in each, most of its capacity unused."""
        reader, writer = self.pipe()
        scratch_r, scratch_w = self.pipe()
        while True:  # write() would merge the bytes into one page; splice keeps each in its own
            os.write(scratch_w, b".")
            if lib.sio_splice_plain(scratch_r, writer, 1, 2) < 0:
                break
        os.close(scratch_r)
        os.close(scratch_w)
        return reader, writer

    def stuffed(self, kind: str) -> tuple[socket.socket, socket.socket]:
        """Return a blocking socket that takes nothing more, and its silent peer."""
        near, far = self.sockets(kind)
        near.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(MIB))
        # The last few bytes go one by one; and TCP moves some on by itself, so ask poll too.
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(b".")
        while select.select([], [near], [], 0)[1]:
            with contextlib.suppress(BlockingIOError):
                near.send(b".")
        near.setblocking(True)
        return near, far

    def _pair(self, kind: str, *, reads: bool):
        if kind in ("file", "tmpfs", "memfd"):
            return self.file(kind=kind), -1
        if kind in SOCKETS:
            near, far = self.sockets(kind)
            return near, far.fileno()
        if kind == "tty":
            master, slave = self.terminal()
            return slave, master
        reader, writer = self.pipe(MIB) if kind == "pipe" else fifo_pair(self.tmp_path)
        self.ends.fd(reader)
        self.ends.fd(writer)
        return (reader, writer) if reads else (writer, reader)
