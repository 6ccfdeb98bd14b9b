"""File metadata: mode, ownership, timestamps and extended attributes, copied to another file.

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

from . import access

__all__ = ["Choice", "parse_preserve"]

NAMES = ("mode", "ownership", "timestamps", "xattr")
# Names for several, of which the kernel may refuse some.
_SETS = {"standard": NAMES[:3], "all": NAMES}
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODATA, errno.EINVAL)


class Choice(NamedTuple):
    """The attributes to copy, and which of them must succeed."""

    names: frozenset[str]
    strict: frozenset[str]

    def apply(self, src: int, dst: int) -> tuple[str, ...]:
        """Copy the attributes from `src` to the open file `dst`; return what was refused."""
        if not self.names:
            return ()
        if not stat.S_ISREG(os.fstat(dst).st_mode):
            return tuple(f"{name}: dst is no regular file" for name in sorted(self.names))
        return _Copier(self.strict, src, dst).do(self.names)

    def check(self, src: int, dst: int, why: str) -> None:
        """Raise if a file refuses an attribute, before it is written in place."""
        status, now = os.fstat(src), os.fstat(dst)
        copier = _Copier(self.strict, src, dst, f"; it can only be written in place ({why})")
        if "ownership" in self.strict:
            copier.own(status.st_uid, status.st_gid)
        owners = {"mode", "timestamps"}
        if access.acl_of(src) is not None:
            owners.add("xattr")
        for name in sorted(self.strict & owners):
            # Who may set the times that a file has may set its times, its mode and its ACL.
            times = (now.st_atime_ns, now.st_mtime_ns)
            copier.attempt(name, partial(os.utime, dst, ns=times))


class _Copier:
    def __init__(self, strict: frozenset[str], src: int, dst: int, because: str = "") -> None:
        self.strict, self.src, self.dst, self.because = strict, src, dst, because
        self.refused: list[str] = []

    def do(self, names: frozenset[str]) -> tuple[str, ...]:
        status = os.fstat(self.src)
        mode = stat.S_IMODE(status.st_mode)
        if "ownership" in names and not self.own(status.st_uid, status.st_gid):
            mode &= 0o1777  # a program must not run as the user who copied it
        if "mode" in names:
            self._set_mode(mode)
        if "xattr" in names:
            self._copy_xattrs(without={access.ACL} if "mode" in names else set())
        if "timestamps" in names:
            times = (status.st_atime_ns, status.st_mtime_ns)
            self.attempt("timestamps", lambda: os.utime(self.dst, ns=times))
        return tuple(self.refused)

    def own(self, uid: int, gid: int) -> bool:
        now = os.fstat(self.dst)
        if (now.st_uid, now.st_gid) == (uid, gid):
            return True
        if self.attempt("ownership", lambda: os.fchown(self.dst, uid, gid)):
            return True
        with contextlib.suppress(OSError):
            os.fchown(self.dst, -1, gid)
        return False

    def _set_mode(self, mode: int) -> None:
        acl = access.acl_of(self.src)
        if acl is not None:
            if self.attempt("mode", lambda: os.setxattr(self.dst, access.ACL, acl), "ACL"):
                self.attempt("mode", lambda: os.fchmod(self.dst, mode))
                return
            mode = access.group_alone(mode, acl)
        self.attempt("mode", lambda: access.set_without_acl(self.dst, mode))

    def _copy_xattrs(self, without: set[str]) -> None:
        for name in sorted(set(access.names_of(self.src)) - without):
            self.attempt("xattr", partial(_copy_xattr, self.src, self.dst, name), f"xattr ({name})")

    def attempt(self, name: str, act: Callable[[], object], what: str = "") -> bool:
        """Call `act`; note down what the kernel refuses, or raise if it was asked for by name."""
        try:
            act()
        except OSError as error:
            if error.errno not in _REFUSALS or name in self.strict:
                text = f"dst cannot have src's {what or name}: {error.strerror}{self.because}"
                raise OSError(error.errno, f"copy_file: {text}") from None
            self.refused.append(f"{what or name}: {error.strerror}")
            return False
        return True


def _copy_xattr(src: int, dst: int, name: str) -> None:
    os.setxattr(dst, name, os.getxattr(src, name))


_NOTHING = Choice(frozenset(), frozenset())


def parse_preserve(preserve: str | Iterable[str]) -> Choice:
    """Parse the `preserve` argument."""
    if isinstance(preserve, tuple) and not preserve:
        return _NOTHING
    names = {preserve} if isinstance(preserve, str) else set(preserve)
    unknown = names - {*NAMES, *_SETS}
    if unknown:
        raise ValueError(
            f"copy_file: preserve takes {', '.join(NAMES)}, standard and all, not "
            + ", ".join(repr(name) for name in sorted(map(str, unknown)))
        )
    strict = names - {*_SETS}
    sets = (_SETS[name] for name in names - strict)
    return Choice(frozenset(strict.union(*sets)), frozenset(strict))
