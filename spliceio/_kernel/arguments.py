"""Arguments of system calls: types and ranges of counts, flags, offsets and buffers.

The rules, and the types of the exceptions, are those of `os.splice` and `os.sendfile`; the one
addition is that a descriptor may be anything with `fileno()`.
"""

from __future__ import annotations

import errno
from operator import index
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "MOST_THREADS",
    "FileDescriptorLike",
    "HasFileno",
    "InvalidCount",
    "Window",
    "at_most",
    "contiguous",
    "count_of",
    "flags_of",
    "offset_of",
    "require_contiguous",
]

MOST_THREADS = 1024
"""Of engines; more would be slower than few, and a typing error would fill the memory."""

_SSIZE_MAX = 2**63 - 1
_OFF_MIN = -(2**63)


class HasFileno(Protocol):
    """Anything with a `fileno()` method."""

    def fileno(self) -> int:
        """Return the descriptor's number."""


FileDescriptorLike = int | HasFileno


class Window:
    """A byte range of a file that a transfer reads as if it were a whole file; see Blob.

    `fileno()` is that of the file, `offset` where in it the part begins, `len()` how many bytes.
    """

    __slots__ = ()

    def fileno(self) -> int:
        """Return the number of the file's descriptor."""
        raise NotImplementedError

    @property
    def offset(self) -> int:
        """Where the part begins, in bytes from the beginning of the file."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class InvalidCount(OSError, ValueError):
    """A negative count: EINVAL as from `os.sendfile`, and a ValueError."""


def count_of(count: int) -> int:
    """Return a count as an int from 0 to SSIZE_MAX; raises InvalidCount or OverflowError."""
    count = index(count)
    if -_SSIZE_MAX - 1 <= count < 0:
        raise InvalidCount(errno.EINVAL, f"count cannot be negative (got {count})")
    if not 0 <= count <= _SSIZE_MAX:
        raise OverflowError("Python int too large to convert to C ssize_t: count")
    return count


def flags_of(flags: int) -> int:
    """Return flags as an unsigned int; raises ValueError or OverflowError."""
    flags = index(flags)
    if flags < 0:
        raise ValueError(f"flags cannot be negative (got {flags})")
    if flags > 0xFFFFFFFF:
        raise OverflowError("Python int too large for C unsigned int: flags")
    return int(flags)


def offset_of(offset: int, name: str) -> int:
    """Return an offset as a signed 64-bit int; raises OverflowError."""
    offset = index(offset)
    if not _OFF_MIN <= offset <= _SSIZE_MAX:
        raise OverflowError(f"Python int too large to convert to C off_t: {name}")
    return offset


def at_most(value: int, most: int, name: str) -> int:
    """Return an int that is at most `most`; raises ValueError for a larger one."""
    value = index(value)
    if value > most:
        raise ValueError(f"{name} must be {most} at most (got {value})")
    return value


def contiguous(data: Buffer, where: str) -> bytes:
    """Return the bytes of a bytes-like object; all but bytes are copied, as they may change."""
    if isinstance(data, bytes):
        return data
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{where} must be a bytes-like object, not {type(data).__name__}") from None
    with view:
        require_contiguous(view, where)
        return bytes(view)


def require_contiguous(view: memoryview, where: str) -> None:
    """Raise TypeError for memory with gaps, which no system call takes."""
    if not view.c_contiguous:
        raise TypeError(
            f"{where} must be contiguous memory, and this memoryview has gaps (strides "
            f"{view.strides}); pass bytes() of it"
        )
