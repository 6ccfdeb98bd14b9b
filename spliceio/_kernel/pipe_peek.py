"""Peek into a pipe: copy its head with tee(2) to a second pipe, and read that.

Nothing is consumed, and the second pipe is closed whatever happens: a signal handler may raise at
any point.
"""

from __future__ import annotations

import fcntl
import os
import select

from .._cffi import lib
from . import errors, owned, syscalls
from .ready import ready

__all__ = ["peek_pipe"]

_EVERYTHING = 2**31 - 1


def peek_pipe(fd: int, count: int) -> tuple[bytes, bool]:
    """Return up to `count` bytes from the head of a pipe, and whether no more can be seen.

    The second pipe gets a slot for each that the first one uses. So once it is full, either the
    first one is too, or the quota has granted a smaller one, in which the rest has no place.
    """
    ends = owned.owner(), owned.owner()
    try:
        granted = lib.sio_owned_pipe(*ends, int(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)))
        if granted < 0:
            raise errors.failure("pipe", -granted)
        reader, writer = (int(end.fd) for end in ends)
        copied = syscalls.try_tee(fd, writer, _EVERYTHING) or 0
        full = not ready(writer, select.POLLOUT)
        parts, left = [], min(count, copied)
        while left:  # one packet a read, where the writer has made it packets (O_DIRECT)
            parts.append(os.read(reader, left))
            left -= len(parts[-1])
        return b"".join(parts), full
    finally:
        for end in ends:
            owned.close(end)
