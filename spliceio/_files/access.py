"""Access rights of a file: owner, mode, ACL and security labels, kept when it is replaced.

Rule 1: the group bits in the mode of a file with an ACL are the list's mask; what its group may do
is an entry of the list. The mask is never given to a group.
Rule 2: a new file takes over from an old one what a write in place leaves, all of it, or raises
OSError: user attributes too, but neither capabilities nor signatures, which belong to the content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

from .place import Path

__all__ = ["ACL", "Inherited", "acl_of", "group_alone", "names_of", "set_without_acl"]

ACL = "system.posix_acl_access"
_OF_THE_CONTENT = {"security.capability", "security.ima", "security.evm"}
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_GROUP_OBJ, _MASK = 0x04, 0x10  # linux/posix_acl.h
_NONE = (errno.EOPNOTSUPP, errno.ENOSYS)


class Inherited:
    """Owner, mode and attributes that a new file takes over from the one that it replaces."""

    def __init__(self, path: Path, old: os.stat_result) -> None:
        self._old = old
        self._attributes = _attributes_of(path)
        self._mode = stat.S_IMODE(old.st_mode)

    def prepare(self, fd: int) -> None:
        """Set them on an empty file, and restrict it to its owner again."""
        before = os.fstat(fd)
        try:
            changed = self._own(fd, before)
            changed |= _set_attributes(fd, self._attributes)
            if self._mode & _SPECIAL:
                changed = True
                # Whether a write by this process leaves them is the kernel's rule: let it do one.
                os.fchmod(fd, self._mode)
                os.ftruncate(fd, 0)
                self._mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if changed:
                os.fchmod(fd, 0o600)
        except OSError:
            # A file that is another's can stay in a sticky directory for ever.
            with contextlib.suppress(OSError):
                os.fchown(fd, before.st_uid, before.st_gid)
            raise

    def _own(self, fd: int, now: os.stat_result) -> bool:
        wanted = (self._old.st_uid, self._old.st_gid)
        if (now.st_uid, now.st_gid) == wanted:
            return False
        os.fchown(fd, *wanted)
        now = os.fstat(fd)
        if (now.st_uid, now.st_gid) != wanted:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return True

    def finish(self, fd: int) -> None:
        """Set the mode and attributes of the old file, when the content is complete."""
        os.fchmod(fd, self._mode)
        if self._attributes:
            # Each chmod masks a POSIX ACL, and rewrites one of NFSv4 (RFC 8881, 6.4.1.1).
            _set_attributes(fd, self._attributes)


def names_of(file: int | Path) -> list[str]:
    """Return the names of a file's extended attributes; none where the filesystem has no such."""
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise


def _attributes_of(path: Path) -> dict[str, bytes]:
    names = set(names_of(path)) - _OF_THE_CONTENT
    return {name: os.getxattr(path, name) for name in names}


def _set_attributes(fd: int, wanted: dict[str, bytes]) -> bool:
    """Set the attributes of a file; return whether anything had to be changed.

    A new file has an ACL if its directory has a default one, and a label by the rules of the
    system; only the first is more than the old one may have had.
    """
    there = set(names_of(fd))
    changed = ACL in there and ACL not in wanted
    if changed:
        os.removexattr(fd, ACL)
    for name, value in wanted.items():
        if name not in there or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)
            changed = True
    return changed


def acl_of(fd: int) -> bytes | None:
    """Return the ACL of an open file that has more than its mode."""
    with contextlib.suppress(OSError):
        if ACL in names_of(fd):
            return os.getxattr(fd, ACL)
    return None


def group_alone(mode: int, acl: bytes | None) -> int:
    """Return the mode of a file less its ACL: the group has what its entry and the mask grant."""
    if acl is None:
        return mode
    group = mask = 7
    for tag, allowed, _ in struct.iter_unpack("<HHI", acl[4:]):
        if tag == _GROUP_OBJ:
            group = allowed
        elif tag == _MASK:
            mask = allowed
    return mode & ~0o070 | (group & mask) << 3


def set_without_acl(fd: int, mode: int) -> None:
    """Set the mode of an open file, and remove its ACL."""
    if ACL in names_of(fd):
        os.fchmod(fd, mode & 0o7700)  # the mask of the list that goes is no right of the group
        os.removexattr(fd, ACL)
    os.fchmod(fd, mode)
