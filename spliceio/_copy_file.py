"""Whole files by their names: `copy_file`.

Rule 1: a path is the old file or the whole new one, never a part of it. The bytes go into a file
beside it, which takes its name when everything is there and is removed on any exception. Writing
in place and removing after an error was rejected: a reader would meet half a file meanwhile, and
a full disk would have cost the old one.
Rule 2: what has no name to take over (devices, FIFOs, /proc and /sys, an open file) is written in
place.
Rule 3: what was not copied is a hole that both files have; `moved` and `holes` are the size.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import _attributes, _beside, _fds, _owned, _plan
from ._about import About, about
from ._arguments import FileDescriptorLike
from ._cffi import lib
from ._flow import INT64_MAX, Flow
from ._transfer import TransferResult, driven, finished

__all__ = ["CopyResult", "copy_file"]

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_WHEN = ("auto", "always", "never")


@dataclass(frozen=True)
class CopyResult(TransferResult):
    """What `copy_file` did.

    `holes` is in bytes: what neither file has blocks for. `method` may also be "reflink": both
    files share their blocks, holes among them and counted as moved, until one is written to.
    """

    holes: int = 0


def copy_file(
    src: _Path,
    dst: _Path | FileDescriptorLike,
    *,
    reflink: str = "auto",
    sparse: str = "auto",
    preserve: str | Iterable[str] = (),
    overwrite: bool = True,
    progress: Callable[[int], object] | None = None,
) -> CopyResult:
    """Copy the regular file `src` to `dst`, the fastest way these two filesystems have.

    `dst` is a path, or a file that is open for writing. At a path, the new file is written beside
    the old one, under the name ".NAME.XXXXXXXX.part", and takes its place when it is complete:
    whoever opens `dst` gets the old file or the new one, whole. After any exception the old one is
    there as it was. A symlink stays, and what it points to is replaced; other hard links of an old
    file keep its content. A new file has the permissions of `src` less the umask; one that replaces
    another has that one's permissions, and its owner where that is allowed. A FIFO, a device, a
    file of /proc or /sys, one that is itself a mount point, and an open file are written in place;
    an open file at its position, or at its end if it was opened with O_APPEND.

    `reflink` shares the blocks (ioctl FICLONE; btrfs, XFS and others): "auto" tries, "always"
    raises OSError where it is refused, "never" rules out sharing altogether. `sparse` says what
    becomes of holes: "auto" keeps them, "always" makes more of blocks of zeros, "never" fills them.
    Where data already follows the position of an open `dst`, zeros are written. `preserve` is one
    or several of "mode", "ownership", "timestamps", "xattr" (with them, ACLs), or "all": what is
    named must succeed, of "all" the kernel may refuse parts. `progress` is called about every 80 ms
    with the bytes that are done, holes included.

    Raises FileExistsError without `overwrite` when `dst` is there, also if it appears while the
    copy runs; PermissionError when `dst` cannot be written to, even if it could be replaced;
    `shutil.SameFileError` when both are one file, `shutil.SpecialFileError` when `src` is no
    regular file, IsADirectoryError, and OSError from either side. A full disk is found before the
    first byte where the filesystem can tell (fallocate(2)).

    Not promised: a snapshot of a file that is changed while it is copied, that it is on disk when
    this returns (see fsync(2)), or that a process that is killed leaves no ".part".
    """
    for name, when in (("reflink", reflink), ("sparse", sparse)):
        if when not in _WHEN:
            raise ValueError(f"copy_file: {name} must be one of {', '.join(_WHEN)}, not {when!r}")
    attributes = _attributes.chosen(preserve)
    owned = _owned.owner()
    try:
        from_ = _open_source(owned, src)
        job = _Job(src, from_, reflink, sparse, attributes, progress)
        if not isinstance(dst, str | bytes | os.PathLike):
            if not overwrite:
                raise ValueError("copy_file: overwrite=False needs a path; dst is an open file")
            return job.into_open(dst)
        old = _old(dst, overwrite)
        if old:
            _refuse_same(job.status, old, src, dst)
        if old is None or _can_be_replaced(dst, old):
            return job.beside(dst, old, overwrite)
        return job.in_place(dst)
    finally:
        _owned.close(owned)


def _open_source(owned: Any, src: _Path) -> int:
    """Open a regular file; looked at first, because opening a FIFO waits and a device acts."""
    mode = os.stat(src).st_mode
    if stat.S_ISREG(mode):
        fd = _owned.open_at(owned, src, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return fd
        _owned.close(owned)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), src)
    raise shutil.SpecialFileError(
        f"copy_file: {os.fsdecode(src)!r} is {_kind(mode)}, no regular file; open it and use copy()"
    )


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((text for test, text in kinds if test(mode)), "a character device")


def _refuse_same(now: os.stat_result, to: os.stat_result, src: object, dst: object) -> None:
    if os.path.samestat(now, to):
        raise shutil.SameFileError(f"{src!r} and {dst!r} are the same file")


def _old(dst: _Path, overwrite: bool) -> os.stat_result | None:
    """Look at what is at a path now; refuse what cannot become a file."""
    try:
        old = os.stat(dst)
    except FileNotFoundError:
        old = None
    if (old and stat.S_ISDIR(old.st_mode)) or os.fsencode(dst).endswith(b"/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), dst)
    if old and not os.access(dst, os.W_OK, effective_ids=True):
        os.close(os.open(dst, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))  # says why
    if not overwrite and os.path.lexists(dst):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), dst)
    return old


def _can_be_replaced(dst: _Path, old: os.stat_result) -> bool:
    if not stat.S_ISREG(old.st_mode):
        return False
    owned = _owned.owner()
    try:
        return about(_owned.open_at(owned, dst, os.O_PATH)).size_is_known
    finally:
        _owned.close(owned)


class _Job:
    """One copy, from a source that is open to one of three kinds of target."""

    def __init__(
        self,
        path: _Path,
        src: int,
        reflink: str,
        sparse: str,
        attributes: _attributes.Choice,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.path, self.src, self.reflink, self.sparse = path, src, reflink, sparse
        self.attributes, self.progress = attributes, progress
        self.status = os.fstat(src)

    def beside(self, dst: _Path, old: os.stat_result | None, overwrite: bool) -> CopyResult:
        mode = 0o600 if old else self.status.st_mode & 0o777
        with _beside.Part(dst, mode) as part:
            result = self._copy(part.fd)
            if old:
                _attributes.keep_old(part.fd, old)
            self.attributes.apply(self.src, part.fd)
            if part.publish(overwrite):
                return result
        # Something is mounted over that very file: its name is not to be had, its bytes are.
        return self.in_place(dst)

    def in_place(self, dst: _Path) -> CopyResult:
        owned = _owned.owner()
        try:
            fd = _owned.open_at(owned, dst, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY)
            return self.into_open(fd)
        finally:
            _owned.close(owned)

    def into_open(self, dst: FileDescriptorLike) -> CopyResult:
        fd = _fds.look(dst, "copy_file", "dst").fd
        _refuse_same(self.status, os.fstat(fd), self.path, dst)
        result = self._copy(dst)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            self.attributes.apply(self.src, fd)
        return result

    def _copy(self, dst: FileDescriptorLike) -> CopyResult:
        from_ = _fds.source(self.src, "copy_file", "src")
        from_.start_at(0)
        to = _fds.destination(dst, "copy_file", "dst")
        try:
            flow = self._flow(from_, to)
        finally:
            to.close()
        told = self.progress
        progress = None if told is None else lambda moved: told(moved + flow.c.skipped)
        result = finished(driven(flow, -1, "copy_file"), progress)
        fields: dict[str, Any] = {name: getattr(result, name) for name in _FIELDS}
        return CopyResult(**fields, holes=int(flow.c.skipped))

    def _flow(self, from_: _fds.Stream, to: _fds.Stream) -> Flow:
        size = self.status.st_size if from_.about.size_is_known else 0
        free, empty = _room_behind(to)
        sparse = bool(size) and self._has_holes(from_.about, size)
        holes, reserve = lib.SIO_HOLES_FILL, 0
        if free and self.sparse == "always":
            holes = lib.SIO_HOLES_MAKE
        elif free and self.sparse == "auto" and sparse:
            holes = lib.SIO_HOLES_KEEP
        elif free and _plan.reserves(to.about, size):
            reserve = size
        flow = Flow(from_, to, self._methods(from_, to, size, sparse, empty), call="copy_file")
        flow.c.holes, flow.c.reserve = holes, reserve
        if not size:
            flow.c.extent = INT64_MAX  # a file without a size is all data: SEEK_DATA finds none
        return flow

    def _methods(
        self, from_: _fds.Stream, to: _fds.Stream, size: int, sparse: bool, empty: bool
    ) -> list[int]:
        if self.reflink == "always":
            if not empty:
                raise OSError(
                    errno.EINVAL,
                    "copy_file: a reflink replaces all that a file holds, and dst is an open file "
                    "with bytes in it, or no regular file; copy with reflink='auto'",
                )
            return [lib.SIO_CLONE]
        shares = empty and size and not (sparse and self.sparse == "never")
        return _plan.whole_file(
            from_.about,
            to.about,
            size=size,
            reflink=self.reflink if shares else "never",
            zeros=self.sparse == "always",
        )

    def _has_holes(self, about: About, size: int) -> bool:
        if about.filesystem == _plan.TMPFS and self.status.st_blocks * 512 >= size:
            return False  # to look for one takes as long there as to copy 2 % of it
        try:
            return os.lseek(self.src, 0, os.SEEK_HOLE) < size
        except OSError:
            return False


_FIELDS = ("moved", "method", "seconds", "fallbacks", "by_method")


def _room_behind(to: _fds.Stream) -> tuple[bool, bool]:
    """Whether nothing follows the target's position that a hole would show, nor precedes it."""
    if not stat.S_ISREG(to.about.mode) or to.about.appends or not to.about.size_is_known:
        return False, False
    at, size = os.lseek(to.fd, 0, os.SEEK_CUR), os.fstat(to.fd).st_size
    return at >= size, at == size == 0
