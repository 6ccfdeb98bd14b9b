"""Raw vmsplice: map memory into a pipe, and the `try_` form.

One call, one system call, as in `syscalls`. Buffers are pinned only while the call lasts; that the
pipe still refers to their memory afterwards is the caller's to know.

"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._public import public
from . import errors
from .arguments import FileDescriptorLike, flags_of, require_contiguous
from .fdinfo import fd_info
from .objects import fileno_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._cffi import Array, c_char

__all__ = ["try_vmsplice", "vmsplice"]

_into_pipe, _either_way = lib.sio_vmsplice_plain, lib.sio_vmsplice_either
_pinned = ffi.from_buffer
_BAD: int = lib.SIO_BAD_COUNT
_NULL = ffi.NULL
_FD = ("fd", "fd")
_NONBLOCK: int = 2
_EINTR = -errno.EINTR
_EAGAIN = -errno.EAGAIN


def _pin(buffers: Buffer | Sequence[Buffer], writable: bool, views: list[Array[c_char]]) -> None:
    """Pin each buffer for the call; raises TypeError that says what is wrong with one."""
    parts: list[Any] = [buffers] if _is_buffer(buffers) else list(buffers)  # type: ignore[arg-type]
    for part in parts:
        with memoryview(part) as view:
            if writable and view.readonly:
                raise TypeError(
                    "vmsplice: fd is the read end of a pipe, so the buffers are written to; "
                    f"{type(part).__name__} is read-only, pass a bytearray"
                )
            require_contiguous(view, "vmsplice: a buffer")
        views.append(ffi.from_buffer(part))


def _is_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _vmsplice_one(fd: Any, buffer: Any, flags: Any) -> int:
    """Make the call for one buffer of a common type; _BAD for anything else.

    The pinned buffer has no name: it is let go of as the call returns, whatever is raised then.
    """
    if fd.__class__ is not int or flags.__class__ is not int:
        return _BAD
    try:
        if buffer.__class__ is memoryview:
            if buffer.readonly:
                return _into_pipe(fd, _pinned(buffer), buffer.nbytes, flags)
            return _either_way(fd, _pinned(buffer), buffer.nbytes, flags)
        if buffer.__class__ is bytes:
            return _into_pipe(fd, buffer, len(buffer), flags)
        if buffer.__class__ is bytearray:
            return _either_way(fd, _pinned(buffer), len(buffer), flags)
    except (TypeError, ValueError, BufferError, OverflowError):
        pass
    return _BAD


def _vmsplice_any(fd: FileDescriptorLike, buffers: Buffer | Sequence[Buffer], flags: int) -> int:
    fd, flags = fileno_of(fd), flags_of(flags)
    end = fd_info(fd)
    if end.err:
        raise errors.failure("vmsplice", errno.EBADF, dst=fd, names=_FD)
    views: list[Array[c_char]] = []
    try:
        _pin(buffers, end.is_pipe and not end.writes, views)
        bases = ffi.new("void *[]", [ffi.cast("void *", view) for view in views] or 1)
        lens = ffi.new("size_t[]", [len(view) for view in views] or 1)
        while True:
            n = lib.sio_vmsplice(_NULL, fd, bases, lens, len(views), flags)
            if n != _EINTR:
                break
    finally:
        # A memoryview that the collector clears while it is pinned crashes the interpreter, and
        # the traceback of an exception would keep both alive.
        for view in views:
            ffi.release(view)
    if n == -errno.EINVAL and len(views) > 1024:
        raise OSError(
            errno.EINVAL, f"vmsplice: {len(views)} buffers; the kernel takes 1024 in one call"
        )
    if n < 0 and n != _EAGAIN:
        raise errors.failure("vmsplice", -n, dst=fd, flags=flags, names=_FD)
    return n


@public
def vmsplice(fd: FileDescriptorLike, buffers: Buffer | Sequence[Buffer], flags: int = 0) -> int:
    """Map memory into a pipe, or copy a pipe's bytes into memory; vmsplice(2).

    With the write end of a pipe, the pages of `buffers` (a bytes-like object, or a sequence of at
    most 1024) become the pipe's content without a copy. With the read end, the pipe's bytes are
    copied into them, and they must be writable. Returns the number of bytes, which may be short.

    Raw and honest: until the reader has the bytes, the memory is the pipe's content. Change it, or
    let it be freed, and the reader sees that, with or without GIFT; no call tells when it is
    over. Keep the buffers alive and unchanged until the reader has acknowledged the bytes.

    Raises BlockingIOError when the pipe is full and NONBLOCK is set (O_NONBLOCK on the pipe is not
    looked at), TypeError for a read-only buffer at a read end, and another OSError that says why:
    EBADF when `fd` is no pipe, ENOSYS or EPERM in sandboxes that block it. Linux 2.6.17.

    Not promised: that nothing is copied. Some kernels and sandboxes do; `features()` tells.
    """
    # What most calls have, without a call in between, which costs a tenth of the kernel's.
    if buffers.__class__ is memoryview and fd.__class__ is int:
        try:
            if not buffers.readonly:
                n = _either_way(fd, _pinned(buffers), buffers.nbytes, flags)
                if n >= 0:
                    return n
        except (TypeError, ValueError, BufferError, OverflowError):
            pass
    n = _vmsplice_one(fd, buffers, flags)
    if n < 0 and n != _EAGAIN:
        n = _vmsplice_any(fd, buffers, flags)
    if n < 0:
        raise errors.failure("vmsplice", -n, dst=fileno_of(fd), names=_FD)
    return n


@public
def try_vmsplice(
    fd: FileDescriptorLike,
    buffers: Buffer | Sequence[Buffer],
    flags: int = 0,
) -> int | None:
    """Do as `vmsplice` with NONBLOCK set, and return None when the pipe is full."""
    n = _vmsplice_one(fd, buffers, flags | _NONBLOCK)
    if n < 0 and n != _EAGAIN:
        n = _vmsplice_any(fd, buffers, flags | _NONBLOCK)
    return n if n >= 0 else None
