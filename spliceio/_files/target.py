"""Target of a file copy: whether it is created, replaced, or written in place.

Rule 1: an old file is replaced by a new one only where that leaves who may use it as it was. Where
the new one cannot have its owner, its mode, its ACL or its name, the old one is written in place,
as cp does, and the result says why. This is decided here, and in no other file.
Rule 2: it is decided before the old file is touched. What cannot be written at all is refused.
"""

from __future__ import annotations

import errno
import os
import stat

from .._kernel import owned as _owned
from .._kernel.fdinfo import fd_info
from .place import APPEND_ONLY, MOUNT_POINT, Path, Place, statx_attributes

__all__ = ["Irreplaceable", "ReplaceStep", "kind", "stat_target", "why_in_place"]

# Of the kernel, to a step of the replacement. A full disk is none: it would cost the old file too.
_REFUSALS = {
    errno.EPERM,
    errno.EACCES,
    errno.EROFS,
    errno.EBUSY,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENODATA,
    errno.E2BIG,
    errno.ENAMETOOLONG,
}


class Irreplaceable(Exception):
    """No new file can replace the old one, which is untouched; the text says why."""


class ReplaceStep:
    """A step of replacing a file: what the kernel refuses in the block is Irreplaceable.

    Of a file that is not there yet, it is what it is.
    """

    def __init__(self, old: os.stat_result | None, why: str) -> None:
        self._old, self._why = old, why

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._old and isinstance(error, OSError) and error.errno in _REFUSALS:
            raise Irreplaceable(f"{self._why}: {os.strerror(error.errno)}") from None


def stat_target(path: Path, overwrite: bool) -> os.stat_result | None:
    """Return the status of the target, None if there is none; raises if it cannot become a file."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is None and os.fsencode(path).endswith(b"/"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if old and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if old and not os.access(path, os.W_OK, effective_ids=True):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))  # says why
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    return old


def why_in_place(place: Place, old: os.stat_result | None) -> str:
    """Return why the target can only be written in place, as far as stat says; or ""."""
    if old and not stat.S_ISREG(old.st_mode):
        return f"dst is {kind(old.st_mode)}"
    if place.is_open_file:
        if old is None:  # opened since: it was not there to be written
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place.path)
        return "dst is an open file"
    if old and (why := _why_of_file(place)):
        return why
    if statx_attributes(place.folder) & APPEND_ONLY:
        return "its directory is append-only"  # what is made there can never be removed
    return ""


def _why_of_file(place: Place) -> str:
    owned = _owned.owner()
    try:
        fd = _owned.open_at(owned, place.name, os.O_PATH, folder=place.folder)
        if not fd_info(fd).size_is_known:
            return "the kernel makes up what it has"
        attributes = statx_attributes(fd)
    finally:
        _owned.close(owned)
    if attributes & APPEND_ONLY:
        text = "it is append-only (chattr +a); open it for appending, and pass the open file"
        raise PermissionError(errno.EPERM, text, place.path)
    return "it is a mount point" if attributes & MOUNT_POINT else ""


def kind(mode: int) -> str:
    """Return the kind of a file that is not regular."""
    kinds = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((text for test, text in kinds if test(mode)), "a character device")
