"""`peek`: the first bytes of a pipe or socket, which stay there.

Rule 1: nothing is consumed, whatever happens: neither bytes nor a mode nor an option of the
        descriptor is another one after a peek than before it.
Rule 2: waiting for more than is there never spins. A level-triggered poll reports at once the bytes
        that were seen; an edge-triggered one reports each arrival once. So it is armed before the
        peek, and polled after it.
Rule 3: what can get no more is not waited for: at the end of file, and where a pipe or a socket
        takes no more until it is read.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import select
import socket
import time
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._kernel import endpoint, errors
from .._kernel import owned as _owned
from .._kernel.arguments import FileDescriptorLike
from .._kernel.fdinfo import FdInfo
from .._kernel.pipe_peek import peek_pipe
from .._public import public
from .flow import idle_ns

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["peek"]

_COUNT = 1 << 14
_SIOCATMARK = 0x8905
_ARRIVALS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_ENDED = select.POLLHUP | select.POLLRDHUP
_INTERVAL, _MAX_INTERVAL = 2.0, 16.0
"""Seconds until the next peek though nothing has arrived: twice as long each time.

A receive window that closes is no event, and Linux 5.5 to 5.13 report only the first arrival in a
pipe. Before there is a byte, no peek is needed.
"""
_PIPES_NOTIFY = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 14)
_SLICE = 1.0
"""Seconds until a signal is answered that comes just before the wait begins."""


@public
def peek(
    src: FileDescriptorLike,
    count: int = _COUNT,
    *,
    until: Buffer | Callable[[bytes], object] | None = None,
    at_least: int = 1,
    timeout: float | None = None,
) -> bytes:
    """Return up to `count` bytes from the head of a pipe or stream socket, and leave them there.

    Waits until there are `at_least` bytes; with `until`, also until they contain it, or, if it is a
    callable, until `until(first)` is true for what has come so far. It is asked whenever there is
    more. `src` may be in any blocking mode, which stays as it is. A BufferedReader is one too: what
    it has read ahead comes first.

    With `count` bytes it never waits for more. And it gives what there is when no more can be seen:
    at the end of file (b"" when nothing is before it); when a pipe has no free slot left, or the
    pipe quota grants no second one of its size; when a TCP socket has closed its receive window
    (from Linux 6.2 on); and before what only a read passes, a TCP urgent mark or a unix message
    with descriptors. So look at what you got. A pipe without a free slot may hold a page less than
    its capacity, and far less if splice has filled it.

    `timeout` is in seconds, for all of it; None takes the socket's own `settimeout()`, or waits
    for ever. Raises TimeoutError when it is over, which says how many bytes are there; they can be
    peeked at again. Raises ValueError or TypeError for what is no pipe or stream socket (a file:
    use `os.pread`; a datagram socket; TLS that the kernel does not decrypt; text), and OSError when
    the socket has failed and holds nothing; a failure is reported once, to this call or to a
    `recv`. What `until` or a signal handler raises passes through.

    Not promised: that the bytes are still there later if somebody else reads too, and that a unix
    socket whose peer sends tiny messages can hold `count` bytes: give a `timeout`.

    Source: recv(2), MSG_PEEK; tee(2); epoll(7). Any Linux that the library runs on.
    """
    condition = _Condition(count, at_least, until)
    end, owned = endpoint.source(src, "peek"), _owned.owner()
    try:
        _check_kind(end.info)
        limit = idle_ns(timeout if timeout is not None else end.timeout)
        fd = end.duplicate(owned, "peek")
        ahead = end.peek_ahead("peek")
    finally:
        end.close()
    try:
        return _PeekLoop(fd, end, ahead, condition).wait(limit)
    finally:
        _owned.close(owned)


def _check_kind(info: FdInfo) -> None:
    if info.kind == lib.SIO_KIND_FILE:
        raise ValueError(
            f"peek: src is {info.text}, which can be read at any position; use os.pread(), or "
            "read and seek back"
        )
    if not info.is_pipe and not info.is_stream:
        raise ValueError(
            f"peek: src is {info.text}, which shows its bytes only to who takes them; pass a "
            "pipe or a stream socket"
        )


class _Condition:
    """The condition that `peek` waits for."""

    def __init__(
        self, count: int, at_least: int, until: Buffer | Callable[[bytes], object] | None
    ) -> None:
        self.count, self.at_least = index(count), index(at_least)
        if self.count < 1:
            raise ValueError(f"peek: count must be at least 1 (got {count})")
        if not 0 <= self.at_least <= self.count:
            raise ValueError(f"peek: at_least must be from 0 to count (got {at_least} of {count})")
        self.predicate: Callable[[bytes], object] | None = None
        self.delimiter = b""
        if callable(until):
            self.predicate = until
        elif until is not None:
            self.delimiter = bytes(memoryview(until))
            if not self.delimiter:
                raise ValueError("peek: until is empty, which is among any bytes; leave it out")
        self._seen = 0

    def is_met(self, first: bytes) -> bool:
        """Return whether the bytes meet it; those of the last call are not searched again."""
        seen, self._seen = self._seen, len(first)
        if len(first) >= self.count:
            return True
        if len(first) < self.at_least:
            self._seen = seen
            return False
        if self.delimiter:
            return first.find(self.delimiter, max(0, seen - len(self.delimiter) + 1)) >= 0
        return self.predicate is None or (len(first) > seen and bool(self.predicate(first)))

    @property
    def text(self) -> str:
        least = f"waited for at least {self.at_least}"
        if self.delimiter:
            return f"{least}, with {self.delimiter!r} among them"
        return least if self.predicate is None else f"{least}, and for until()"


class _PeekLoop:
    """Peeks at one descriptor again and again, until the condition is met."""

    def __init__(
        self, fd: int, end: endpoint.Endpoint, ahead: bytes, condition: _Condition
    ) -> None:
        self._fd, self._ahead, self._condition = fd, ahead, condition
        self._is_pipe = end.info.is_pipe
        self._is_tcp = end.info.protocol == socket.IPPROTO_TCP
        self._is_tls = end.tls is not None
        self._state = select.poll()
        self._state.register(fd, select.POLLRDHUP | select.POLLPRI)

    def wait(self, limit: int) -> bytes:
        """Peek until the condition is met; `limit` is in nanoseconds, -1 for none."""
        begun = time.monotonic_ns()
        first, final = self._peek()
        if final or self._condition.is_met(first):
            return first
        interval = _INTERVAL
        with select.epoll() as arrivals:
            arrivals.register(self._fd, _ARRIVALS)
            while True:
                # Polled before the peek, which then shows all that came before the end.
                final = self._can_get_no_more()
                first, stuck = self._peek()
                if self._condition.is_met(first) or final or stuck:
                    return first
                is_notified = not first or (self._is_pipe and _PIPES_NOTIFY)
                left = math.inf if is_notified else interval
                if limit >= 0:
                    left = min(left, (begun + limit - time.monotonic_ns()) / 1e9)
                if left <= 0:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"peek: {len(first)} bytes are there after {limit / 1e9:g} s, still "
                        f"unread; {self._condition.text}",
                    )
                timed_out = not _wait(arrivals, left)
                interval = min(2 * interval, _MAX_INTERVAL) if timed_out else _INTERVAL

    def _can_get_no_more(self) -> bool:
        events = dict(self._state.poll(0)).get(self._fd, 0)
        if events & _ENDED:
            return True
        if not self._is_tcp:
            return False
        # No peek passes the mark, until it is at the head.
        marked = events & select.POLLPRI and not any(fcntl.ioctl(self._fd, _SIOCATMARK, bytes(4)))
        return bool(marked) or bool(lib.sio_window_closed(self._fd))

    def _peek(self) -> tuple[bytes, bool]:
        """Return the first bytes, and whether no peek will ever show more."""
        left = self._condition.count - len(self._ahead)
        if left <= 0:
            return self._ahead[: self._condition.count], True
        if self._is_pipe:
            here, final = peek_pipe(self._fd, left)
        else:
            here, final = _peek_socket(self._fd, left, is_tls=self._is_tls)
        return self._ahead + here, final


def _wait(arrivals: select.epoll, seconds: float) -> bool:
    """Wait for an arrival; return False when the time is over."""
    until = time.monotonic() + seconds
    while seconds > 0:
        if arrivals.poll(min(seconds, _SLICE)):
            return True
        seconds = until - time.monotonic()
    return False


def _peek_socket(fd: int, count: int, *, is_tls: bool) -> tuple[bytes, bool]:
    # More unread bytes than a peek shows: something between them stops it. Of TLS these are the
    # bytes of records, which always are more.
    unread = 0 if is_tls else lib.sio_unread(ffi.NULL, fd)
    room = min(count, _COUNT)
    while True:
        memory = ffi.new("char[]", room)
        n = lib.sio_peek(ffi.NULL, fd, memory, room)
        if n < room or room == count:
            break
        room = min(count, 4 * room)
    if n == -errno.EAGAIN:
        return b"", False
    if n == -errno.EIO and is_tls and lib.sio_tls_head(ffi.NULL, fd) == 0:
        return b"", True  # close_notify
    if n < 0:
        raise errors.failure("peek", -n, fd)
    return bytes(ffi.buffer(memory, n)), n == 0 or unread > n
