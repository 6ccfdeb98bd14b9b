"""File descriptors that no signal handler can leak: each has an owner before it is opened.

Rule 1: what opens one is given the owner, and is one call into C; what closes it is one too.
Rule 2: an owner without references closes its descriptor, without running Python.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from .._cffi import ffi, lib

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["close", "duplicate", "open_at", "open_within", "owner"]

_AT_FDCWD = -100
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def owner() -> struct_sio_owned_ptr:
    """Make the owner of a descriptor: a `struct sio_owned`, whose `fd` is -1 so far."""
    return ffi.gc(ffi.new("struct sio_owned *", [-1]), lib.sio_owned_close)


def open_at(
    owned: struct_sio_owned_ptr, path: _Path, flags: int, mode: int = 0, folder: int = -1
) -> int:
    """Open a file into `owned`, close-on-exec; raises as os.open does."""
    where, name = _AT_FDCWD if folder < 0 else folder, _encoded(path)
    err = -errno.EINTR
    while err == -errno.EINTR:
        err = lib.sio_owned_open(owned, where, name, flags, mode)
    return _number(owned, err, path)


def open_within(
    owned: struct_sio_owned_ptr, path: _Path, flags: int, resolve: int, folder: int = -1
) -> int:
    """Open a file into `owned` by openat2(2), close-on-exec, with limits on how it is found.

    Raises OSError, also where the kernel has no such call or no such limit (ENOSYS, EINVAL).
    """
    where, name = _AT_FDCWD if folder < 0 else folder, _encoded(path)
    err = -errno.EINTR
    while err == -errno.EINTR:
        err = lib.sio_owned_open_within(owned, where, name, flags, resolve)
    return _number(owned, err, path)


def _encoded(path: _Path) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:  # where the C would take it for ended
        raise ValueError("embedded null byte")
    return name


def duplicate(owned: struct_sio_owned_ptr, fd: int) -> int:
    """Duplicate a descriptor into `owned`, close-on-exec."""
    return _number(owned, lib.sio_owned_dup(owned, fd))


def close(owned: struct_sio_owned_ptr) -> None:
    """Close the descriptor of an owner; safe to repeat, and from another thread."""
    lib.sio_owned_close(owned)


def _number(owned: struct_sio_owned_ptr, err: int, *path: _Path) -> int:
    if err:
        raise OSError(-err, os.strerror(-err), *path)
    return int(owned.fd)
