"""Raw system calls: splice, tee and sendfile, one function each, and their `try_` forms.

Nothing is looped over, waited for or fallen back from: one call, one system call. What is added is
only what a system call needs to be used from Python: EINTR is retried as PEP 475 asks, arguments
are checked first, and a failure says why.
"""

from __future__ import annotations

import errno
from enum import IntFlag

from .._cffi import ffi, lib
from .._public import public
from . import errors
from .arguments import FileDescriptorLike, count_of, flags_of, offset_of
from .fdinfo import is_open
from .objects import fileno_of

__all__ = [
    "SPLICE_F_GIFT",
    "SPLICE_F_MORE",
    "SPLICE_F_MOVE",
    "SPLICE_F_NONBLOCK",
    "SpliceFlag",
    "sendfile",
    "splice",
    "tee",
    "try_sendfile",
    "try_splice",
    "try_tee",
]


@public
class SpliceFlag(IntFlag):
    """Flags of splice, tee and vmsplice (splice(2))."""

    MOVE = 1
    """A hint to move pages. It has done nothing since Linux 2.6.21."""
    NONBLOCK = 2
    """Do not block on the pipe. A blocking socket or terminal at the other end still may."""
    MORE = 4
    """More follows at once. On TCP it holds the last packet back for 200 ms when nothing does."""
    GIFT = 8
    """vmsplice only: the pages are given away. It protects nothing."""


SPLICE_F_MOVE = SpliceFlag.MOVE
SPLICE_F_NONBLOCK = SpliceFlag.NONBLOCK
SPLICE_F_MORE = SpliceFlag.MORE
SPLICE_F_GIFT = SpliceFlag.GIFT

_splice_plain = lib.sio_splice_plain
_try_splice_plain = lib.sio_try_splice_plain
_BAD: int = lib.SIO_BAD_COUNT
_splice_at = lib.sio_splice_at
_sendfile_at = lib.sio_sendfile_at
_tee = lib.sio_tee
_NULL = ffi.NULL
_IN_OUT = ("in_fd", "out_fd")
_NONBLOCK = SPLICE_F_NONBLOCK.value
_EINTR = -errno.EINTR
_EAGAIN = -errno.EAGAIN


def _splice(
    n: int,
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int,
    offset_src: int | None,
    offset_dst: int | None,
    flags: int,
) -> int:
    """Return -EAGAIN, or raise what else `n` says; a call that was not made or interrupted is made.

    That is what _BAD and -EINTR stand for.
    """
    src, dst = fileno_of(src, sends=False), fileno_of(dst, sends=True)
    if n in (_BAD, _EINTR):
        count, flags = count_of(count), flags_of(flags)
        has = 0
        if offset_src is not None:
            offset_src, has = offset_of(offset_src, "offset_src"), 1
        if offset_dst is not None:
            offset_dst, has = offset_of(offset_dst, "offset_dst"), has | 2
        n = _EINTR
        while n == _EINTR:
            n = _splice_at(src, offset_src or 0, dst, offset_dst or 0, has, count, flags)
    if n < 0 and n != _EAGAIN:
        raise errors.failure("splice", -n, src, dst, offsets=(offset_src, offset_dst), flags=flags)
    return n


@public
def splice(
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int:
    """Move up to `count` bytes from `src` to `dst`, one of which is a pipe; splice(2).

    A drop-in for `os.splice`. Returns the number of bytes moved, which may be less than asked for;
    0 means end of file, with the exceptions that the documentation of splice lists. `count` is in
    bytes and clamped to 0x7ffff000 for one call. An offset is in bytes from the beginning of the
    file; with one, the file position stays where it is.

    Raises BlockingIOError when it would block and may not, and another OSError that says why when
    the kernel refuses. Negative counts are a ValueError, numbers beyond 64 bits an OverflowError.

    Not promised: that nothing was copied (some kernels and devices copy), that it blocks or does
    not block as the flags say when the other end is a socket or terminal, and that the bytes are a
    snapshot: a file spliced into a pipe shows later edits to the reader. Linux 2.6.17.
    """
    n: int = _BAD
    # The plain case is checked by the C conversions; whatever they do not take goes the long way.
    if offset_src is None and offset_dst is None:
        try:
            # cffi takes whatever has __int__; `|` raises TypeError for all but integers.
            src | dst | count  # type: ignore[operator]
            if flags and flags.__class__ is not int:
                flags = flags_of(flags)
            n = _splice_plain(src, dst, count, flags)  # type: ignore[arg-type]
            if n >= 0:
                return n
        except (TypeError, OverflowError):
            pass
    n = _splice(n, src, dst, count, offset_src, offset_dst, flags)
    if n < 0:
        raise errors.failure(
            "splice", -n, fileno_of(src, sends=False), fileno_of(dst, sends=True), flags=flags
        )
    return n


@public
def try_splice(
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int | None:
    """Do as `splice` with NONBLOCK set, and return None when it would block.

    The flag covers the pipe; a socket or terminal at the other end must be nonblocking itself.
    """
    n: int = _BAD
    if offset_src is None and offset_dst is None:  # as in splice(), where a call costs too much
        try:
            src | dst | count  # type: ignore[operator]
            if flags and flags.__class__ is not int:
                flags = flags_of(flags)
            n = _try_splice_plain(src, dst, count, flags)  # type: ignore[arg-type]
            if n >= 0:
                return n
            if n == _EAGAIN:
                return None
        except (TypeError, OverflowError):
            pass
    n = _splice(n, src, dst, count, offset_src, offset_dst, flags | _NONBLOCK)
    return n if n >= 0 else None


def _do_tee(src: FileDescriptorLike, dst: FileDescriptorLike, count: int, flags: int) -> int:
    src, dst = fileno_of(src), fileno_of(dst)
    count, flags = count_of(count), flags_of(flags)
    if count == 0:
        _check_open("tee", src, dst)
    while True:
        n: int = _tee(_NULL, src, dst, count, flags)
        if n != _EINTR:
            break
    if n < 0 and n != _EAGAIN:
        raise errors.failure("tee", -n, src, dst, flags=flags)
    return n


@public
def tee(src: FileDescriptorLike, dst: FileDescriptorLike, count: int, flags: int = 0) -> int:
    """Duplicate up to `count` bytes from pipe `src` into pipe `dst` without consuming them; tee(2).

    Returns the number of bytes duplicated; 0 when `src` is empty and nobody writes to it. It always
    begins at the head of `src`: after a short count the next call repeats the same bytes.

    Raises BlockingIOError when it would block and may not, ValueError for a negative count, and
    another OSError that says why, EINVAL where either end is no pipe. Linux 2.6.17.

    Not promised: that the copy is independent. Both pipes refer to the same pages.
    """
    n = _do_tee(src, dst, count, flags)
    if n < 0:
        raise errors.failure("tee", -n, fileno_of(src), fileno_of(dst))
    return n


@public
def try_tee(
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int,
    flags: int = 0,
) -> int | None:
    """Do as `tee` with NONBLOCK set, and return None when it would block."""
    n = _do_tee(src, dst, count, flags | _NONBLOCK)
    return n if n >= 0 else None


def _do_sendfile(
    out_fd: FileDescriptorLike, in_fd: FileDescriptorLike, offset: int | None, count: int
) -> int:
    out_fd, in_fd = fileno_of(out_fd, sends=True), fileno_of(in_fd, sends=False)
    count, has = count_of(count), offset is not None
    offset = 0 if offset is None else offset_of(offset, "offset")
    while True:
        n: int = _sendfile_at(out_fd, in_fd, offset, has, count)
        if n != _EINTR:
            break
    if n < 0 and n != _EAGAIN:
        raise errors.failure(
            "sendfile", -n, in_fd, out_fd, offsets=(offset if has else None, None), names=_IN_OUT
        )
    return n


@public
def sendfile(
    out_fd: FileDescriptorLike, in_fd: FileDescriptorLike, offset: int | None, count: int
) -> int:
    """Send up to `count` bytes of a file to any descriptor; sendfile(2).

    A drop-in for `os.sendfile` on Linux. Returns the number of bytes sent; 0 at the end of the
    file. `offset` is in bytes from the beginning, and the file position stays; with None the
    position is used, and moves. `count` is clamped to 0x7ffff000 for one call.

    Raises BlockingIOError when a nonblocking `out_fd` takes nothing now, ValueError for a negative
    count, and another OSError that says why, EINVAL when `in_fd` is no seekable file or `out_fd` is
    open for appending. `out_fd` may be any descriptor since Linux 2.6.33.

    Not promised: a snapshot. Edits of the file reach a receiver that has not yet read the bytes.
    """
    n = _do_sendfile(out_fd, in_fd, offset, count)
    if n < 0:
        raise errors.failure(
            "sendfile",
            -n,
            fileno_of(in_fd, sends=False),
            fileno_of(out_fd, sends=True),
            names=_IN_OUT,
        )
    return n


@public
def try_sendfile(
    out_fd: FileDescriptorLike, in_fd: FileDescriptorLike, offset: int | None, count: int
) -> int | None:
    """Do as `sendfile`, but return None when it would block.

    There is no flag for that: `out_fd` must be nonblocking itself.
    """
    n = _do_sendfile(out_fd, in_fd, offset, count)
    return n if n >= 0 else None


def _check_open(call: str, src: int, dst: int) -> None:
    if not (is_open(src) and is_open(dst)):
        raise errors.failure(call, errno.EBADF, src, dst)
