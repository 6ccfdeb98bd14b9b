"""Open and read files from an event loop that must not wait for a disk.

Rule 1: what the kernel has in memory is done at once, by the thread of the loop; what it has not,
in another thread. RESOLVE_CACHED (openat2(2)) and RWF_NOWAIT (preadv2(2)) say which it is.
Rule 2: where a kernel or a sandbox knows neither, another thread does it all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio.to_thread

from .._cffi import lib
from .._kernel import owned
from .._kernel.errors import UnexpectedEOF

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["BLOCK", "copy_blocks", "open_path"]

BLOCK = 262144
# A FIFO in place of a file hangs no thread, and a terminal is nobody's controlling one.
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_NOT_KNOWN = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)

_has_cached_opens = True


async def open_path(path: str | bytes | os.PathLike[str]) -> struct_sio_owned_ptr:
    """Open a file to read; raises OSError and ValueError as open() does."""
    global _has_cached_opens
    file, refused = owned.owner(), False
    if _has_cached_opens:
        try:
            owned.open_within(file, path, OPEN, lib.SIO_RESOLVE_CACHED)
            return file
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            refused = True
    await anyio.to_thread.run_sync(owned.open_at, file, path, OPEN)
    if refused:
        _has_cached_opens = False
    return file


async def copy_blocks(
    fd: int, offset: int, count: int, put: Callable[[bytes, int], Awaitable[None]]
) -> None:
    """Read a part of a file, and give each block of it to `put`, with the count that is left then.

    Raises UnexpectedEOF if it ends before.
    """
    while count:
        data = await _read(fd, offset, min(count, BLOCK))
        if not data:
            raise UnexpectedEOF(errno.ENODATA, "the file has become shorter")
        offset, count = offset + len(data), count - len(data)
        await put(data, count)


async def _read(fd: int, offset: int, count: int) -> bytes:
    if _NOWAIT:
        buffer = bytearray(count)
        try:
            n = os.preadv(fd, [buffer], offset, _NOWAIT)
            return bytes(memoryview(buffer)[:n])
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, *_NOT_KNOWN):
                raise
    return await anyio.to_thread.run_sync(os.pread, fd, count, offset)
