"""What a copy takes over from its source besides the bytes.

Rule 1: what was asked for by name is there afterwards, or an exception says what was refused.
Rule 2: the owner is set before the mode, because chown clears the set-user-ID bits, and the times
last, because everything else changes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

__all__ = ["Choice", "chosen", "keep_old"]

NAMES = ("mode", "ownership", "timestamps", "xattr")
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODATA, errno.EINVAL)


class Choice(NamedTuple):
    """Which attributes, and whether the kernel may refuse some."""

    names: frozenset[str]
    lenient: bool

    def apply(self, src: int, dst: int) -> None:
        """Give the open file `dst` what `src` has."""
        if not self.names:
            return
        status = os.fstat(src)
        mode = stat.S_IMODE(status.st_mode)
        if "ownership" in self.names and not self._try(
            lambda: os.fchown(dst, status.st_uid, status.st_gid), "ownership"
        ):
            mode &= 0o1777  # a program must not run as whoever copied it
        if "mode" in self.names:
            self._try(lambda: os.fchmod(dst, mode), "mode")
        if "xattr" in self.names:
            self._copy_xattrs(src, dst)
        if "timestamps" in self.names:
            times = (status.st_atime_ns, status.st_mtime_ns)
            self._try(lambda: os.utime(dst, ns=times), "timestamps")

    def _copy_xattrs(self, src: int, dst: int) -> None:
        names: list[str] = []
        self._try(lambda: names.extend(os.listxattr(src)), "xattr")
        for name in names:
            self._try(partial(_copy_xattr, src, dst, name), f"xattr ({name})")

    def _try(self, act: Callable[[], object], what: str) -> bool:
        try:
            act()
        except OSError as error:
            if self.lenient and error.errno in _REFUSALS:
                return False
            raise OSError(
                error.errno, f"copy_file: dst cannot have src's {what}: {error.strerror}"
            ) from None
        return True


def _copy_xattr(src: int, dst: int, name: str) -> None:
    os.setxattr(dst, name, os.getxattr(src, name))


def chosen(preserve: str | Iterable[str]) -> Choice:
    """Read what `preserve` asks for."""
    names = {preserve} if isinstance(preserve, str) else set(preserve)
    unknown = names - {*NAMES, "all"}
    if unknown:
        raise ValueError(
            f"copy_file: preserve takes {', '.join(NAMES)} and all, not "
            + ", ".join(repr(name) for name in sorted(map(str, unknown)))
        )
    if "all" in names:
        return Choice(frozenset(NAMES), lenient=True)
    return Choice(frozenset(names), lenient=False)


def keep_old(fd: int, old: os.stat_result) -> None:
    """Give a file the mode of the one it replaces, and its owner where that is allowed."""
    mode = stat.S_IMODE(old.st_mode)
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
        # EPERM without the right to it, EINVAL where a user namespace has no name for the owner.
        with contextlib.suppress(OSError):
            os.fchown(fd, old.st_uid, old.st_gid)
        now = os.fstat(fd)
        if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
            mode &= 0o1777
    os.fchmod(fd, mode)
