"""Path lookup: to a name in an open directory, or through a link of /proc to an open file.

Rule 1: symlinks are followed as open() follows them. The directory is held open, so that one above
it needs no more rights than open() does, and a change of the working directory changes nothing.
Rule 2: the text of a link of /proc (/dev/stdout, /dev/fd/N, /proc/PID/exe) describes an open file
and is no path: what is there is opened through the link, and nothing is ever made beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from .._cffi import lib
from .._kernel import owned as _owned
from .._kernel.fdinfo import PROC, fd_info

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["APPEND_ONLY", "MOUNT_POINT", "Path", "Place", "open_in_place", "statx_attributes"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# STATX_ATTR_APPEND and STATX_ATTR_MOUNT_ROOT, linux/stat.h.
APPEND_ONLY, MOUNT_POINT = 0x20, 0x2000
_MOST_LINKS = 40
_HOLD = os.O_PATH | os.O_DIRECTORY


class Place:
    """Where `path` leads: the name `name` in the open directory `folder`.

    `is_open_file` says that the name there is a link of /proc. A context manager; entering it looks
    the path up, and raises what open() would. Exceptions name `path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = b""
        self.is_open_file = False
        self._owned = _owned.owner()

    @property
    def folder(self) -> int:
        return int(self._owned.fd)

    def __enter__(self) -> Place:
        try:
            self.find()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; safe to repeat."""
        _owned.close(self._owned)

    def find(self) -> None:
        """Look the path up."""
        try:
            self._follow(os.fsencode(self.path))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _follow(self, path: bytes) -> None:
        folder, name = os.path.split(path)
        here = _owned.open_at(self._owned, folder or b".", _HOLD)
        for _ in range(_MOST_LINKS):
            self.name = name
            try:
                link = os.readlink(name, dir_fd=here)
            except OSError:
                if not name:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
                return
            if fd_info(here).filesystem == PROC:
                self.is_open_file = True
                return
            folder, name = os.path.split(link)
            here = _owned.open_at(self._owned, folder or b".", _HOLD, 0, here)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def open(self, owned: struct_sio_owned_ptr, flags: int, mode: int = 0) -> int:
        """Open the file as open() does, with two exceptions for an open file.

        One that is open for appending is appended to, and keeps what it has. A pipe, a socket or a
        terminal of this process is used as it is open: a socket cannot be opened, and a pipe whose
        other end is closed would be waited for.
        """
        if self.is_open_file:
            flags &= ~os.O_CREAT
            number = self._own_stream(flags)
            if number >= 0:
                return _owned.duplicate(owned, number)
            if self._appends():
                flags = flags & ~os.O_TRUNC | os.O_APPEND
        try:
            return _owned.open_at(owned, self.name, flags, mode, self.folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _own_stream(self, flags: int) -> int:
        """Return the number of this process's descriptor for it, if it has no size; or -1."""
        with contextlib.suppress(OSError, ValueError):
            number = int(self.name)
            if os.path.samestat(os.fstat(self.folder), os.stat("/proc/self/fd")):
                found = fd_info(number)
                sized = stat.S_ISREG(found.mode) or stat.S_ISBLK(found.mode)
                reading = flags & os.O_ACCMODE == os.O_RDONLY
                if not (found.err or sized) and (found.reads if reading else found.writes):
                    return number
        return -1

    def _appends(self) -> bool:
        """Return whether the open file behind a link of /proc/PID/fd is open for appending."""
        owned = _owned.owner()
        with contextlib.suppress(OSError, ValueError, IndexError):
            try:
                info = _owned.open_at(
                    owned, b"../fdinfo/" + self.name, os.O_RDONLY, folder=self.folder
                )
                fields = os.read(info, 4096).split(b"flags:", 1)[1].split()
                return bool(int(fields[0], 8) & os.O_APPEND)
            finally:
                _owned.close(owned)
        return False


def open_in_place(owned: struct_sio_owned_ptr, path: Path, flags: int, mode: int = 0) -> int:
    """Open a path as open() does, and an open file as `Place.open` does."""
    place = Place(path)
    try:
        with contextlib.suppress(OSError):
            place.find()  # and if it leads nowhere, open() says so, or makes a file
        if place.is_open_file:
            return place.open(owned, flags, mode)
    finally:
        place.close()
    return _owned.open_at(owned, path, flags, mode)


def statx_attributes(fd: int) -> int:
    """Return stx_attributes of statx(2); 0 where the kernel has none."""
    return int(lib.sio_statx_attributes(fd))
