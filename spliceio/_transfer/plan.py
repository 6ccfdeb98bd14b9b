"""Methods of a transfer: which suit a pair of descriptors, in which order, and why.

Only a plan: the kernel has the last word, and what it refuses is recorded by the transfer. Nothing
here moves a byte or changes a descriptor. The order is decided in csrc/transfer/plan.c, for the
first try too; here is what a name of a method stands for, and what is said of a pair.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, replace
from typing import Any

from .._cffi import ffi, lib
from .._kernel import endpoint, tls
from .._kernel.arguments import FileDescriptorLike
from .._kernel.fdinfo import FdInfo
from .._public import public

__all__ = ["METHODS", "NAMES", "TMPFS", "Plan", "explain", "order"]

NAMES = {
    lib.SIO_COPY_FILE_RANGE: "copy_file_range",
    lib.SIO_SENDFILE: "sendfile",
    lib.SIO_SPLICE: "splice",
    lib.SIO_SPLICE_PIPE: "splice",
    lib.SIO_READ_WRITE: "read_write",
    lib.SIO_CLONE: "reflink",
}
METHODS = ("auto", "copy_file_range", "sendfile", "splice", "read_write")
_FILE: int = lib.SIO_KIND_FILE
TMPFS = 0x01021994


def order(
    src: FdInfo, dst: FdInfo, *, offset_dst: bool = False, left: int | None = None
) -> list[int]:
    """Return the methods to try for a pair, as numbers of the C interface, best first.

    `left` is how many bytes there are to move, for a first try, whose order depends on it.
    """
    pair, found = ffi.new("struct sio_pair *"), ffi.new("int32_t[]", 6)
    pair.src_kind, pair.dst_kind = src.kind, dst.kind
    pair.src_filesystem, pair.dst_filesystem = src.filesystem, dst.filesystem
    pair.has_dst_offset, pair.left = offset_dst, -1 if left is None else left
    return list(found[0 : lib.sio_plan(pair, found)])


def whole_file_order(
    src: FdInfo, dst: FdInfo, *, size: int, may_share: bool, sees_zeros: bool
) -> list[int]:
    """Return the methods to try for a file that is copied from its beginning to its end.

    With `may_share`, dst is empty and its blocks may be those of src; with `sees_zeros`, every byte
    has to be looked at.
    """
    pair, found = ffi.new("struct sio_file_pair *"), ffi.new("int32_t[]", 6)
    pair.src_filesystem, pair.dst_filesystem = src.filesystem, dst.filesystem
    pair.dst_kind, pair.size = dst.kind, size
    pair.may_share, pair.sees_zeros = may_share, sees_zeros
    return list(found[0 : lib.sio_plan_file(pair, found)])


def methods_for(method: str, src: FdInfo, dst: FdInfo, *, offset_dst: bool = False) -> list[int]:
    """Return the methods that a name, or "auto", stands for."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if method == "auto":
        return order(src, dst, offset_dst=offset_dst)
    if method == "splice":
        return [lib.SIO_SPLICE if src.is_pipe or dst.is_pipe else lib.SIO_SPLICE_PIPE]
    if method == "sendfile" and offset_dst:
        raise ValueError("sendfile writes at the file position; offset_dst needs another method")
    return [number for number, name in NAMES.items() if name == method]


@public
@dataclass(frozen=True)
class Plan:
    """What `copy` would do with two descriptors, before any byte moves.

    `method` is the one expected to do the work, `order` all that would be tried, `src` and `dst`
    say what the descriptors are, `notes` what should be known of this pair. `str(plan)` is text for
    a person. The kernel may still refuse: the result of the transfer says what really ran.
    """

    method: str
    order: tuple[str, ...]
    src: str
    dst: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        then = f", then {', then '.join(self.order[1:])}" if len(self.order) > 1 else ""
        return "\n".join(
            [
                f"{self.method}: from {self.src} to {self.dst} {_HOW[self.method]}.",
                f"Tried in this order: {self.order[0]}{then}.",
                *self.notes,
            ]
        )


_HOW = {
    "copy_file_range": "inside the kernel, by the filesystem itself where it can",
    "sendfile": "inside the kernel, from the page cache, without entering user memory",
    "splice": "inside the kernel, by reference through a pipe",
    "read_write": "through user memory, a copy in and a copy out",
}


_SMALL = (
    f"What src has left is small: up to {lib.SIO_ACT_SMALL} bytes, one read and one send cost less "
    "than sendfile."
)


def _refused(method: int, src: FdInfo, dst: FdInfo) -> str | None:
    """Return why the kernel will refuse a method for a pair, as far as fstat tells; or None."""
    if method == lib.SIO_READ_WRITE:
        return None
    name = NAMES[method]
    if dst.appends and dst.kind == _FILE:
        return f"{name} is refused: dst is open for appending (O_APPEND)."
    if dst.seals & fcntl.F_SEAL_WRITE:
        return f"{name} is refused: dst is a memfd sealed against writing, and so will be a write."
    if method == lib.SIO_COPY_FILE_RANGE and src.dev != dst.dev:
        return f"{name} is refused, or slower, between different filesystems."
    if src.kind != _FILE and _is_null(src):
        return f"{name} is refused: /dev/null is no source for it."
    if dst.kind == lib.SIO_KIND_OTHER and dst.rdev == os.makedev(1, 7):
        return f"{name} is refused: /dev/full takes no pages."
    return None


def _is_null(info: FdInfo) -> bool:
    return info.kind == lib.SIO_KIND_OTHER and info.rdev == os.makedev(1, 3)


def _notes(src: FdInfo, dst: FdInfo, method: int) -> list[str]:
    notes = []
    if src.kind == _FILE and src.size == 0:
        notes.append(
            "src is empty, or a file whose content the kernel makes up (/proc, /sys); those mostly "
            "refuse everything but read_write."
        )
    may_change = src.kind == _FILE and not src.seals & fcntl.F_SEAL_WRITE
    if may_change and dst.kind != _FILE and method != lib.SIO_READ_WRITE:
        notes.append(
            "The receiver may see edits made to the file while it is sent; "
            "method='read_write' copies instead."
        )
    if src.is_socket and method == lib.SIO_SPLICE_PIPE:
        notes.append(
            "Small reads from the socket, and a count of up to 64 KiB that has come, go by recv "
            "and write, which cost less then."
        )
    return notes


def plan_of(src: FdInfo, dst: FdInfo, left: int | None = None) -> Plan:
    """Return the plan for two descriptors.

    `left` is what a source that is a file has from its position on, where that is known.
    """
    methods = order(src, dst, left=left)
    is_small = methods != order(src, dst)
    refusals = [_refused(method, src, dst) for method in methods]
    works = next(m for m, refusal in zip(methods, refusals, strict=True) if refusal is None)
    said = [refusal for refusal in refusals[: methods.index(works)] if refusal]
    return Plan(
        method=NAMES[works],
        order=tuple(dict.fromkeys(NAMES[method] for method in methods)),
        src=src.text,
        dst=dst.text,
        notes=(*said, *([_SMALL] if is_small else ()), *_notes(src, dst, works)),
    )


@public
def explain(src: FileDescriptorLike, dst: FileDescriptorLike) -> Plan:
    """Return how `copy(src, dst)` would move bytes, without moving any.

    Takes what `copy` takes and raises what it raises for objects it refuses: of an SSLSocket the
    TypeError says why the kernel does not encrypt for it. Nothing is read, flushed or moved (a
    SpooledTemporaryFile in memory goes to disk: before, it has no descriptor).
    Not promised: that the kernel agrees; `copy(...).method` says what ran.
    """
    from_ = endpoint.inspect(src, "explain", "src")
    to = endpoint.inspect(dst, "explain", "dst")
    made = plan_of(from_.info, to.info, _left(from_))
    return replace(made, notes=(*_tls_notes(from_, to), *made.notes))


def _tls_notes(src: endpoint.Endpoint, dst: endpoint.Endpoint) -> list[str]:
    notes = []
    if dst.tls is not None:
        notes.append(
            f"The kernel encrypts what goes to dst ({tls.key_text(dst.tls, sends=True)}); the end "
            "of the connection is told by its unwrap(), not by shutdown()."
        )
    if src.tls is not None:
        notes.append(f"The kernel decrypts src ({tls.key_text(src.tls, sends=False)}).")
        if held := tls.pending(src.tls):
            notes.append(f"OpenSSL has decrypted {held} bytes of src already; they go first.")
    return notes


def _left(src: endpoint.Endpoint) -> int | None:
    """Return how many bytes a file has from its position on; None where that is unclear."""
    if src.info.kind != _FILE or not src.info.size_is_known:
        return None
    if src.window is not None:
        return src.window[1]
    given: Any = src.given
    try:
        at = os.lseek(src.fd, 0, os.SEEK_CUR) if isinstance(given, int) else given.tell()
    except (OSError, AttributeError):
        return None
    return max(0, src.info.size - int(at))
