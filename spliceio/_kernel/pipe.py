"""Pipes: `Pipe`, with its capacity, its content, and splice into and out of it.

A Pipe owns two descriptors. Each is closed once, and never while one of the methods here uses it:
close() from another thread takes effect at once for new calls, and for a call under way when it
returns. Closing one end wakes a call that waits at the other.

A call that moves bytes between the pipe and a socket or terminal waits with poll(2) first: splice
holds the pipe's lock while it blocks on the other end, and everybody else at this pipe would hang
with it, unkillably.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import warnings
from collections.abc import Iterator
from operator import index
from typing import TYPE_CHECKING

from .._cffi import lib
from .._public import public
from . import endpoint, errors, owned, syscalls
from .arguments import FileDescriptorLike, Window, count_of, offset_of
from .closing import Closing
from .fdinfo import fd_info
from .lock import ForkLock
from .pipe_peek import peek_pipe
from .ready import ready

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Pipe"]

_TTY_WRITE = 256
_SLOT = 4096
_RECHECK_SECONDS = 1.0


class _PipeEnd:
    """The descriptor of one end, closed when the last call that uses it has returned."""

    __slots__ = ("_closing", "_lock", "_users", "name", "owned")

    def __init__(self, name: str) -> None:
        self.name = name
        self.owned = owned.owner()
        self._users = 0
        self._closing = False
        self._lock = ForkLock()

    @property
    def number(self) -> int:
        return int(self.owned.fd)

    @property
    def open(self) -> bool:
        return self.number >= 0 and not self._closing

    @contextlib.contextmanager
    def use(self) -> Iterator[int]:
        """Give the descriptor, which stays open in the block; raises ValueError if it is closed."""
        with self._lock.current(self._reset_users):
            if not self.open:
                raise ValueError(f"the {self.name} end of the pipe is closed")
            self._users += 1
        try:
            yield self.number
        finally:
            with self._lock.current(self._reset_users):
                self._users -= 1
                self._close_if_unused()

    def _reset_users(self) -> None:
        """In a forked child: the threads that used it are not there."""
        self._users = 0

    def close(self) -> None:
        with self._lock.current(self._reset_users):
            self._closing = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closing and not self._users and self.number >= 0:
            owned.close(self.owned)

    def detach(self) -> None:
        """Leave the descriptor to the caller, open."""
        with self._lock.current(self._reset_users):
            self._closing = True
            self.owned.fd = -1


@public
class Pipe(Closing):
    """A pipe, with its capacity, the number of bytes in it, and splice into and out of it.

    `capacity` is in bytes, rounded up to a power-of-two number of pages; None takes the kernel's
    default, 64 KiB. Beyond what the user may have (`/proc/sys/fs/pipe-max-size`, and the quota
    `pipe-user-pages-soft`) the largest size that is allowed is taken; `capacity` tells which.
    `nonblocking` makes both ends nonblocking: what would wait raises BlockingIOError.

    `reader` and `writer` are descriptor numbers. `r, w = Pipe()` hands both over to the caller, who
    closes them, as with `os.pipe`; inside `with Pipe() as pipe:` the Pipe stays the owner. A pipe
    that is neither closed nor handed over is closed with a ResourceWarning when it is collected.

    Raises ValueError for a capacity below 1, and OSError (EMFILE, ENFILE) when there is no
    descriptor left.
    """

    _is_initialised = False

    def __init__(self, capacity: int | None = None, *, nonblocking: bool = False) -> None:
        self._reader, self._writer = _PipeEnd("read"), _PipeEnd("write")
        self._entered = False
        wanted = 0 if capacity is None else _capacity(capacity)
        granted = lib.sio_owned_pipe(self._reader.owned, self._writer.owned, wanted)
        if granted < 0:
            raise errors.failure("pipe", -granted)
        if nonblocking:
            os.set_blocking(self._reader.number, False)
            os.set_blocking(self._writer.number, False)
        self._is_initialised = True

    # -- what it is ----------------------------------------------------------------------------

    @property
    def reader(self) -> int:
        """The number of the read end; -1 when it is closed."""
        return self._reader.number if self._reader.open else -1

    @property
    def writer(self) -> int:
        """The number of the write end; -1 when it is closed."""
        return self._writer.number if self._writer.open else -1

    @property
    def closed(self) -> bool:
        """Whether both ends are closed."""
        return not self._reader.open and not self._writer.open

    @property
    def capacity(self) -> int:
        """What the kernel has granted, in bytes (F_GETPIPE_SZ).

        Setting it grows the pipe as far as is allowed, or shrinks it; read it back. Raises OSError
        (EBUSY) when the pipe holds more than the new size takes. It is no byte budget: a pipe of
        16 pages is full after 16 writes of one byte.
        """
        with self._any_end() as fd:
            return int(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        with self._any_end() as fd:
            granted = lib.sio_pipe_resize(fd, _capacity(capacity))
            if granted < 0:
                raise errors.failure("pipe", -granted)

    @property
    def held(self) -> int:
        """How many bytes are in the pipe (FIONREAD). It may exceed `capacity`."""
        with self._any_end() as fd:
            return _held(fd)

    def _any_end(self) -> contextlib.AbstractContextManager[int]:
        return (self._reader if self._reader.open else self._writer).use()

    # -- moving bytes --------------------------------------------------------------------------

    def fill(self, src: FileDescriptorLike, count: int, offset: int | None = None) -> int:
        """Splice up to `count` bytes from `src` into the pipe; return how many, 0 at its end.

        `offset` is where to read in a file, whose position then stays; in a Blob it is counted
        from its own beginning, and 0 is meant without it. A buffered file is read from where it
        is; a reader that holds bytes of a stream is refused (ValueError). Waits until there is
        something to move; raises BlockingIOError instead when the pipe or `src` is nonblocking,
        and OSError that says why when `src` does not support splice (then `copy` helps).
        """
        end, count = endpoint.raw_source(src, "Pipe.fill"), count_of(count)
        if isinstance(src, Window):
            offset = 0 if offset is None else offset_of(offset, "offset")
            count = max(0, min(count, len(src) - offset))
            offset += src.offset if offset >= 0 else 0
        if offset is not None:
            end.start_at(offset)
        with self._writer.use() as fd:
            if count:
                _wait_ready(self._writer, end.fd, select.POLLIN)
            n = syscalls.splice(end.fd, fd, count, offset_src=end.offset)
        end.moved(n)
        return n

    def drain(self, dst: FileDescriptorLike, count: int, offset: int | None = None) -> int:
        """Splice up to `count` bytes from the pipe to `dst`; return how many, 0 at the end.

        `offset` is where to write in a file, whose position then stays; what a buffered one holds
        is flushed first. Waits and raises as `fill` does. A blocking socket is given no more than
        it takes at once.
        """
        end, count = endpoint.raw_destination(dst, "Pipe.drain"), count_of(count)
        number = end.fd
        with self._reader.use() as fd:
            if count:
                _wait_ready(self._reader, fd, select.POLLIN)
                # Asked for more than is there, TCP holds the last packet back for 200 ms.
                count = min(count, _held(fd) or count)
                while (room := _writable_size(number, fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))) == 0:
                    _wait_ready(self._reader, number, select.POLLOUT)
                count = count if room is None else min(count, room)
            n = syscalls.splice(fd, number, count, offset_dst=offset)
        end.moved(n)
        return n

    def tee(self, other: Pipe | FileDescriptorLike, count: int) -> int:
        """Duplicate up to `count` bytes into another pipe without consuming them; return how many.

        Always begins at the head of this pipe.
        """
        with self._reader.use() as fd:
            if isinstance(other, Pipe):
                with other._writer.use() as target:
                    return syscalls.tee(fd, target, count)
            return syscalls.tee(fd, other, count)

    def peek(self, count: int) -> bytes:
        """Return up to `count` bytes from the head of the pipe and leave them there.

        Never waits: b"" when the pipe is empty. When the pipe quota grants only a small second
        pipe, fewer bytes than asked for and held may come.
        """
        count = index(count)
        if count < 0:
            raise ValueError(f"count cannot be negative (got {count})")
        with self._reader.use() as fd:
            return peek_pipe(fd, count)[0]

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes, as `os.read` does; b"" at the end."""
        with self._reader.use() as fd:
            return os.read(fd, count)

    def write(self, data: Buffer) -> int:
        """Write, as `os.write` does; return how many bytes were written."""
        with self._writer.use() as fd:
            return os.write(fd, data)

    # -- ending it -----------------------------------------------------------------------------

    def close_reader(self) -> None:
        """Close the read end. A writer then gets BrokenPipeError."""
        self._reader.close()

    def close_writer(self) -> None:
        """Close the write end. A reader then gets what is held, and the end of file after it."""
        self._writer.close()

    def close(self) -> None:
        """Close both ends. Safe to call twice and from another thread."""
        self._writer.close()
        self._reader.close()

    def __iter__(self) -> Iterator[int]:
        """Yield reader and writer, handing them over unless the pipe is used in a `with`."""
        if self._reader.number < 0 or self._writer.number < 0:
            raise ValueError("an end of the pipe is closed")
        both = (self._reader.number, self._writer.number)
        if not self._entered:
            self._reader.detach()
            self._writer.detach()
        return iter(both)

    def __enter__(self) -> Pipe:
        self._entered = True
        return self

    def __del__(self) -> None:
        if self._is_initialised and not self.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<Pipe closed>"
        return f"<Pipe reader={self.reader} writer={self.writer}>"


def _capacity(capacity: int) -> int:
    capacity = index(capacity)
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1 byte (got {capacity})")
    return min(capacity, 2**62)


def _held(fd: int) -> int:
    answer = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def _wait_ready(own: _PipeEnd, fd: int, events: int) -> None:
    """Wait until a blocking socket, terminal or pipe is ready.

    So does one that is not open in this direction: nothing would ever come. A nonblocking pipe
    is not waited for, and one that is closed meanwhile no longer.
    """
    end = fd_info(fd)
    right_way = end.reads if events == select.POLLIN else end.writes
    if end.err or end.nonblocking or not right_way or end.kind == lib.SIO_KIND_FILE:
        return
    if fd_info(own.number).nonblocking:
        if not ready(fd, events):
            raise BlockingIOError(
                errno.EAGAIN, f"splice: {end.text} is not ready; wait with poll()"
            )
        return
    while not ready(fd, events, _RECHECK_SECONDS):
        if not own.open:
            raise ValueError(f"the {own.name} end of the pipe was closed")
    # It may have been long, and the number another file's by now.
    if not fd_info(fd).same_file(end):
        raise errors.closed_meanwhile("splice", "its other end")


def _writable_size(fd: int, capacity: int) -> int | None:
    """Return how much a blocking socket or terminal takes now; None for any other descriptor."""
    end = fd_info(fd)
    if end.nonblocking or not end.writes:
        return None
    if end.kind == lib.SIO_KIND_TTY:
        return _TTY_WRITE if ready(fd, select.POLLOUT) else 0
    if not end.is_stream or not end.connected:
        return None
    free = lib.sio_sockbuf_free(fd, end.kind == lib.SIO_KIND_TCP)
    return int(lib.sio_sockbuf_fits(free, capacity // _SLOT)) if free else 0
