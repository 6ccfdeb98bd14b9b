"""Open files of `StaticFiles`, and the ones that were asked for lately.

Rule 1: what is served again is asked for by one stat of its name: another file, another content,
another owner or mode is another file (as in nginx's open_file_cache).
Rule 2: so many are open at the most. One that is let go stays open for the responses that use it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from .._http.conditional import Validators, validators
from .._kernel import owned

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["Fields", "HeldFile", "Recent"]

Fields = list[tuple[bytes, bytes]]
Key = tuple[object, ...]
_LONGEST = 1024


class HeldFile:
    """An open regular file, its version, and what stands in the head of its responses.

    It closes when nothing refers to it.
    """

    __slots__ = (
        "_owner", "_path", "_signature", "fd", "fields", "kind", "names", "now", "size", "whole"
    )  # fmt: skip

    def __init__(
        self,
        fd: int,
        status: os.stat_result,
        names: tuple[bytes, ...],
        path: tuple[bytes, int | None],
    ) -> None:
        self._owner: struct_sio_owned_ptr = owned.owner()
        self._owner.fd = self.fd = fd
        self._path, self._signature = path, _signature(status)
        self.names = names
        """Its path below the directory."""
        self.size = status.st_size
        self.now: Validators = validators(status)
        self.kind = ""
        self.fields: Fields = []
        """Of every response with its version."""
        self.whole: Fields = []
        """Of the response with all of it."""

    def fileno(self) -> int:
        """Return the descriptor's number, for servers that send files."""
        return self.fd

    def is_there(self) -> bool:
        """Return whether its name still is that of this file, unchanged."""
        path, folder = self._path
        try:
            return _signature(os.stat(path, dir_fd=folder)) == self._signature
        except OSError:
            return False


def _signature(status: os.stat_result) -> tuple[int, ...]:
    # Of the change time too, for the owner and the mode, and for what utime() has set back.
    return (
        status.st_ino,
        status.st_ctime_ns,
        status.st_size,
        status.st_mtime_ns,
        status.st_dev,
        stat.S_IFMT(status.st_mode),
    )


class Recent:
    """A bounded number of open files, by what was asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._files: OrderedDict[Key, HeldFile] = OrderedDict()

    def get(self, key: Key) -> HeldFile | None:
        """Return an open file that is still there."""
        held = self._files.get(key)
        if held is None:
            return None
        if held.is_there():
            with contextlib.suppress(KeyError):  # let go by another thread
                self._files.move_to_end(key)
            return held
        self._files.pop(key, None)
        return None

    def add(self, key: Key, held: HeldFile) -> None:
        """Keep a file; the one that was not asked for the longest goes."""
        if self._most and all(not isinstance(part, str) or len(part) <= _LONGEST for part in key):
            self._files[key] = held
            while len(self._files) > self._most:
                self._files.popitem(last=False)

    def clear(self) -> bool:
        """Let go of all; return whether there were any."""
        had = bool(self._files)
        self._files.clear()
        return had
