"""What Python may pass where the kernel takes a number.

The rules, and the types of the exceptions, are those of `os.splice` and `os.sendfile`; the one
addition is that a descriptor may be anything with `fileno()`.
"""

from __future__ import annotations

import errno
import sys
from operator import index
from typing import Any, Protocol

__all__ = [
    "FileDescriptorLike",
    "HasFileno",
    "InvalidCount",
    "Window",
    "count_of",
    "fileno_of",
    "flags_of",
    "offset_of",
    "refuse_ssl_without_ktls",
]

_SOL_TLS, _TLS_TX, _TLS_RX = 282, 1, 2
_SSIZE_MAX = 2**63 - 1
_OFF_MIN = -(2**63)
_INT_MAX = 2**31 - 1


class HasFileno(Protocol):
    """Anything with a `fileno()` method."""

    def fileno(self) -> int:
        """Return the descriptor's number."""


FileDescriptorLike = int | HasFileno


class Window:
    """A part of a file, and all of it that a transfer from it sees; the position is not used.

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


def fileno_of(fd: FileDescriptorLike) -> int:
    """Return the number behind an int or an object with `fileno()`.

    Raises TypeError for anything else, and OverflowError for a number that no C int holds.
    """
    if not isinstance(fd, int):
        fileno = getattr(fd, "fileno", None)
        if fileno is None:
            number = index(fd)  # type: ignore[arg-type]  # the TypeError, and its words, are the standard library's
        else:
            refuse_ssl_without_ktls(fd, None)
            number = fileno()
            if not isinstance(number, int):
                raise TypeError(f"fileno() returned {type(number).__name__}, not int")
    else:
        number = fd
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise OverflowError("Python int too large to convert to C int: no such descriptor")
    return number


def refuse_ssl_without_ktls(fd: Any, sends: bool | None, where: str = "") -> None:
    """Raise TypeError for an SSLSocket unless the kernel does its encryption.

    `sends` names the direction that matters, None means both; `where` begins the message.
    """
    ssl = sys.modules.get("ssl")
    if ssl is None or not isinstance(fd, ssl.SSLSocket):
        return
    wanted = [_TLS_TX, _TLS_RX] if sends is None else [_TLS_TX if sends else _TLS_RX]
    try:
        for direction in wanted:
            fd.getsockopt(_SOL_TLS, direction, 4)
    except OSError:
        raise TypeError(
            f"{where}an SSLSocket encrypts in user space: moving bytes through its descriptor "
            "would put plaintext on the wire. Use its own send, recv and sendfile, or end TLS "
            "in a proxy in front"
        ) from None


class InvalidCount(OSError, ValueError):
    """A negative count: EINVAL for who comes from `os.sendfile`, ValueError for everyone else."""


def count_of(count: int) -> int:
    count = index(count)
    if -_SSIZE_MAX - 1 <= count < 0:
        raise InvalidCount(errno.EINVAL, f"count cannot be negative (got {count})")
    if not 0 <= count <= _SSIZE_MAX:
        raise OverflowError("Python int too large to convert to C ssize_t: count")
    return count


def flags_of(flags: int) -> int:
    flags = index(flags)
    if flags < 0:
        raise ValueError(f"flags cannot be negative (got {flags})")
    if flags > 0xFFFFFFFF:
        raise OverflowError("Python int too large for C unsigned int: flags")
    return int(flags)


def offset_of(offset: int, name: str) -> int:
    offset = index(offset)
    if not _OFF_MIN <= offset <= _SSIZE_MAX:
        raise OverflowError(f"Python int too large to convert to C off_t: {name}")
    return offset
