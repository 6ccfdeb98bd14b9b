"""`copy_file`: copy a whole file by its path, atomically, with reflinks and holes.

Rule 1: a path is the old file or the whole new one, never a part of it. The bytes go into a file
beside it, which takes its name when everything is there and is removed on any exception. Writing
in place and removing after an error was rejected: a reader would meet half a file meanwhile, and
a full disk would have cost the old one.
Rule 2: what has no name to take over (devices, FIFOs, /proc and /sys, an open file), or could not
be taken over without a change of who may use it, is written in place: see `target`.
Rule 3: what was not copied is a hole that both files have; `moved` and `holes` are the size.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from typing import Any

from .._cffi import lib
from .._kernel import endpoint
from .._kernel import owned as _owned
from .._kernel.arguments import FileDescriptorLike
from .._kernel.fdinfo import FdInfo
from .._public import public
from .._transfer import plan
from .._transfer.flow import INT64_MAX, Flow
from .._transfer.transfer import from_flow, run_and_close
from . import access, act, metadata, target
from .atomic import AtomicFile
from .place import Path, Place
from .result import CopyResult

__all__ = ["CopyResult", "copy_file"]

_WHEN = ("auto", "always", "never")


@public
def copy_file(
    src: Path,
    dst: Path | FileDescriptorLike,
    *,
    reflink: str = "auto",
    sparse: str = "auto",
    preserve: str | Iterable[str] = (),
    overwrite: bool = True,
    progress: Callable[[int], object] | None = None,
) -> CopyResult:
    """Copy the regular file `src` to `dst`, the fastest way these two filesystems have.

    `dst` is a path, or a file that is open for writing. At a path, the new file is written beside
    the old one, under the name ".NAME.XXXXXXXX.part" (without a name, if it replaces nothing and
    has no more than 1 MiB), and takes its place when it is complete: whoever opens `dst` gets the
    old file or the new one, whole. After any exception the old one is there as it was. A symlink
    stays, and what it points to is replaced; other hard links of an old file keep its content. A
    new file has the permissions of `src` less the umask. One that replaces another is used by whom
    that one was: it has its owner, mode, ACL and other attributes, of which setuid, setgid and
    capabilities go as with any write.

    Where no new file can have these, the old one is written in place, as cp(1) does, and `in_place`
    of the result says why: it belongs to another user, its directory takes no new file, it is a
    mount point. So are a FIFO, a device, a file of /proc or /sys, and an open file, given as such
    or as /dev/stdout, /dev/fd/N or /proc/PID/fd/N. In place the old content is lost with the first
    byte, and after an exception there is what had arrived. An open file is written at its position,
    or at its end if it was opened with O_APPEND; by a path it is emptied first, but not with
    O_APPEND.

    `reflink` shares the blocks (ioctl FICLONE; btrfs, XFS and others): "auto" tries, "always"
    raises OSError where it is refused, "never" rules out sharing altogether. `sparse` says what
    becomes of holes: "auto" keeps them, "always" makes more of blocks of zeros, "never" fills them;
    only "auto" goes with reflink="always". Where data already follows the position of an open
    `dst`, zeros are written. `preserve` is one or several of "mode" (with the ACL), "ownership",
    "timestamps" and "xattr" (the ACL among them), which must succeed; "standard" is the first three
    and "all" all four, of which the kernel may refuse what it will: `not_preserved` has that.
    `progress` is called about every 80 ms with the bytes that are done, holes included.

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
    if reflink == "always" and sparse != "auto":
        raise ValueError(f"copy_file: reflink='always' shares holes too: no sparse={sparse!r}")
    attributes = metadata.parse_preserve(preserve)
    if (
        reflink == sparse == "auto"
        and progress is None
        and (done := act.copied(src, dst, overwrite, attributes.names))
    ):
        return done
    _refuse_irregular(src, os.stat(src).st_mode)
    old = None
    if isinstance(dst, str | bytes | os.PathLike):
        # Before the source may get the number that it names.
        old = target.stat_target(dst, overwrite)
    elif not overwrite:
        raise ValueError("copy_file: overwrite=False needs a path; dst is an open file")
    owned = _owned.owner()
    try:
        # Looked at first, because opening a FIFO waits and a device acts; and once more.
        from_ = _owned.open_at(owned, src, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        _refuse_irregular(src, os.fstat(from_).st_mode)
        job = _Job(src, from_, reflink, sparse, attributes, progress)
        if not isinstance(dst, str | bytes | os.PathLike):
            return job.into_open(dst)
        if old:
            _refuse_same(job.status, old, src, dst)
        with Place(dst) as place:
            return job.into_place(place, old, overwrite)
    finally:
        _owned.close(owned)


def _refuse_irregular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise shutil.SpecialFileError(
            f"copy_file: {os.fsdecode(path)!r} is {target.kind(mode)}, no regular file; open it "
            "and use copy()"
        )


def _refuse_same(now: os.stat_result, to: os.stat_result, src: object, dst: object) -> None:
    if os.path.samestat(now, to):
        raise shutil.SameFileError(f"{src!r} and {dst!r} are the same file")


class _Job:
    """One copy, from an open source to one of three kinds of target."""

    def __init__(
        self,
        path: Path,
        src: int,
        reflink: str,
        sparse: str,
        attributes: metadata.Choice,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.path, self.src, self.reflink, self.sparse = path, src, reflink, sparse
        self.attributes, self.progress = attributes, progress
        self.status = os.fstat(src)
        self.why = ""

    def into_place(self, place: Place, old: os.stat_result | None, overwrite: bool) -> CopyResult:
        self.why = target.why_in_place(place, old)
        if not self.why:
            try:
                return self._replace(place, old, overwrite)
            except target.Irreplaceable as refusal:
                self.why = str(refusal)
        return self._in_place(place, old)

    def _replace(self, place: Place, old: os.stat_result | None, overwrite: bool) -> CopyResult:
        with target.ReplaceStep(old, "its attributes cannot be read"):
            inherited = access.Inherited(place.path, old) if old else None
        file = AtomicFile(place, 0o600 if old else self._mode_of_new())
        try:
            with file:
                return self._through(file, old, inherited, overwrite)
        finally:
            file.close()  # where a signal came as the block was left

    def _through(
        self,
        file: AtomicFile,
        old: os.stat_result | None,
        inherited: access.Inherited | None,
        overwrite: bool,
    ) -> CopyResult:
        step = target.ReplaceStep
        with step(old, "its directory takes no new file"):
            file.make()
        if inherited:
            with step(old, "no new file can have its owner, mode and attributes"):
                inherited.prepare(file.fd)
        result = self._copy(file.fd)
        if inherited:
            with step(old, "no new file can have its owner, mode and attributes"):
                inherited.finish(file.fd)
        result["not_preserved"] = self.attributes.apply(self.src, file.fd)
        with step(old, "its name cannot be taken"):
            file.publish(overwrite)
        return CopyResult(**result)

    def _mode_of_new(self) -> int:
        mode = self.status.st_mode & 0o777
        return access.group_alone(mode, access.acl_of(self.src)) if mode & 0o070 else mode

    def _in_place(self, place: Place, old: os.stat_result | None) -> CopyResult:
        flags, mode = os.O_WRONLY | os.O_NOCTTY, 0
        if old is None:
            flags, mode = flags | os.O_CREAT | os.O_EXCL, self._mode_of_new()
        size = old.st_size if old and stat.S_ISREG(old.st_mode) else -1
        if size > 0 and self.reflink == "always":
            raise OSError(
                errno.EINVAL,
                f"copy_file: dst can only be written in place ({self.why}), and a refused reflink "
                "would cost it what it has; copy with reflink='auto'",
            )
        owned = _owned.owner()
        try:
            if size >= 0 and self.attributes.strict:
                self.attributes.check(self.src, place.open(owned, flags), self.why)
            return self.into_open(place.open(owned, flags | os.O_TRUNC, mode), self.why)
        finally:
            _owned.close(owned)

    def into_open(self, dst: FileDescriptorLike, why: str = "dst is an open file") -> CopyResult:
        fd = endpoint.info_of(dst, "copy_file", "dst").fd
        _refuse_same(self.status, os.fstat(fd), self.path, dst)
        result = self._copy(dst)
        result["not_preserved"] = self.attributes.apply(self.src, fd)
        return CopyResult(**result, in_place=why)

    def _copy(self, dst: FileDescriptorLike) -> dict[str, Any]:
        from_ = endpoint.source(self.src, "copy_file", "src")
        from_.start_at(0)
        to = endpoint.destination(dst, "copy_file", "dst")
        try:
            flow = self._flow(from_, to)
        finally:
            to.close()
        events = self.progress
        progress = None if events is None else lambda moved: events(moved + flow.skipped)
        result = run_and_close(from_flow(flow, -1, "copy_file"), progress)
        fields: dict[str, Any] = {name: getattr(result, name) for name in _FIELDS}
        fields["holes"] = flow.skipped
        return fields

    def _flow(self, from_: endpoint.Endpoint, to: endpoint.Endpoint) -> Flow:
        size = self.status.st_size if from_.info.size_is_known else 0
        free, empty = _end_and_empty(to)
        sparse = bool(size) and self._has_holes(from_.info, size)
        holes, reserve = lib.SIO_HOLES_FILL, 0
        if free and self.sparse == "always":
            holes = lib.SIO_HOLES_MAKE
        elif free and self.sparse == "auto" and sparse:
            holes = lib.SIO_HOLES_KEEP
        elif free and lib.sio_plan_reserves(to.info.filesystem, size):
            reserve = size
        return Flow(
            from_,
            to,
            self._methods(from_, to, size, sparse, empty),
            call="copy_file",
            holes=holes,
            reserve=reserve,
            extent=0 if size else INT64_MAX,  # without a size it is all data: SEEK_DATA finds none
        )

    def _methods(
        self, from_: endpoint.Endpoint, to: endpoint.Endpoint, size: int, sparse: bool, empty: bool
    ) -> list[int]:
        if self.reflink == "always":
            if not empty:
                raise OSError(
                    errno.EINVAL,
                    "copy_file: a reflink replaces all that a file holds, and dst is an open file "
                    "with bytes in it, or no regular file; copy with reflink='auto'",
                )
            return [lib.SIO_CLONE]
        fills_holes = sparse and self.sparse == "never"
        return plan.whole_file_order(
            from_.info,
            to.info,
            size=size,
            may_share=empty and self.reflink == "auto" and not fills_holes,
            sees_zeros=self.sparse == "always",
        )

    def _has_holes(self, info: FdInfo, size: int) -> bool:
        if info.filesystem == plan.TMPFS and self.status.st_blocks * 512 >= size:
            return False  # to look for one takes as long there as to copy 2 % of it
        try:
            return os.lseek(self.src, 0, os.SEEK_HOLE) < size
        except OSError:
            return False


_FIELDS = ("moved", "method", "seconds", "fallbacks", "by_method")


def _end_and_empty(to: endpoint.Endpoint) -> tuple[bool, bool]:
    """Return whether the target's position is at its end, and whether the target is empty."""
    if not stat.S_ISREG(to.info.mode) or to.info.appends or not to.info.size_is_known:
        return False, False
    at, size = os.lseek(to.fd, 0, os.SEEK_CUR), os.fstat(to.fd).st_size
    return at >= size, at == size == 0
