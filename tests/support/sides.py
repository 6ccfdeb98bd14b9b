"""Sides of a relay: what a relay is given, and what is at the other end of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import threading

from spliceio import RelayResult, pipe_pair
from tests.support.states import Worker
from tests.support.wires import MIB, socket_pair


class Collector:
    """Reads a descriptor to its end, in a thread; others can wait for so many bytes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = bytearray()
        self.ended = False
        self._changed = threading.Condition()
        self.worker = Worker(self._collect)

    def _collect(self) -> None:
        while part := os.read(self.fd, MIB):
            with self._changed:
                self.data += part
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait_for(self, size: int) -> None:
        """Return when so many bytes are there, or never will be."""
        with self._changed:
            while len(self.data) < size and not self.ended:
                if not self.worker.is_alive():
                    self.worker.result()
                self._changed.wait(1)

    def all(self) -> bytes:
        """Wait for the end of file; return everything."""
        self.worker.result()
        return bytes(self.data)


class Side:
    """A side of a relay, `near`, and what is at its other end, `far`."""

    def __init__(self, kind: str, *, nonblocking: bool = False) -> None:
        self.kind = kind
        self.owned: list[object] = []
        if kind in ("unix", "tcp4", "tcp6"):
            near, self.far = socket_pair(kind)
            self.near: object = near
            self.owned = [near, self.far]
            self.reader = self.writer = self.far.fileno()
            self.fds = [near.fileno()]
        else:
            ours, theirs = pipe_pair()
            self.far = theirs
            self.owned = [ours, theirs]
            self.reader, self.writer = theirs
            self.fds = [ours.reader, ours.writer]
            self.near = ours
            if kind == "pair":
                self.near = tuple(ours)
            elif kind == "objects":
                self.near = (
                    os.fdopen(os.dup(ours.reader), "rb", buffering=0),
                    os.fdopen(os.dup(ours.writer), "wb"),
                )
                ours.close()
                self.owned += self.near
                self.fds = [end.fileno() for end in self.near]
        for fd in self.fds:
            os.set_blocking(fd, not nonblocking)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.writer, view) :]

    def finish(self) -> None:
        """Say end of file to the relay."""
        if isinstance(self.far, socket.socket):
            self.far.shutdown(socket.SHUT_WR)
        else:
            self.far.close_writer()

    def rest(self) -> bytes:
        """Read what the relay has not taken from `near`, without waiting."""
        parts = []
        while select.select([self.fds[0]], [], [], 0)[0]:
            part = os.read(self.fds[0], MIB)
            if not part:
                break
            parts.append(part)
        return b"".join(parts)

    def receive(self, count: int) -> bytes:
        """Read exactly so many bytes at the far end, which may still be on their way."""
        parts = []
        while count:
            parts.append(os.read(self.reader, min(count, MIB)))
            assert parts[-1], f"the end of file came {count} bytes early"
            count -= len(parts[-1])
        return b"".join(parts)

    def arrived(self) -> bytes:
        """Read what has arrived at the far end, without waiting; the end of file is an error."""
        parts = []
        while select.select([self.reader], [], [], 0)[0]:
            part = os.read(self.reader, MIB)
            if not part:
                raise AssertionError("an end of file was passed on")
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        for end in self.owned:
            end.close()


@contextlib.contextmanager
def sides(a: str, b: str, *, nonblocking: bool = False):
    """Make two sides, and close them."""
    one, two = Side(a, nonblocking=nonblocking), Side(b, nonblocking=nonblocking)
    try:
        yield one, two
    finally:
        one.close()
        two.close()


def digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


def check(result: RelayResult, a_to_b: int, b_to_a: int, reason: str = "eof") -> None:
    """Everything that must be true of a relay that carried so many bytes to the end."""
    assert (result.a_to_b, result.b_to_a, result.reason) == (a_to_b, b_to_a, reason)
    assert (result.held_a_to_b, result.held_b_to_a) == (b"", b"")
    assert sum(result.methods.values()) == a_to_b + b_to_a
    assert set(result.methods) <= {"splice", "read_write"}
    assert result.seconds > 0
