"""Build a transfer: check both endpoints and all numbers, before a byte moves.

Rule 1: whatever is wrong with the numbers, the objects or the pair is raised here, with the names
that the caller's parameters have, and nothing has been read, written or moved by then.
Rule 2: what an endpoint opens for itself is closed here; the flow has duplicates.
"""

from __future__ import annotations

import errno
import os
from operator import index

from .._cffi import lib
from .._kernel import endpoint, errors
from .._kernel.arguments import FileDescriptorLike, contiguous
from . import plan
from .flow import INT64_MAX, Flow, idle_ns

__all__ = [
    "apply_window",
    "checked_count",
    "checked_offset",
    "make_transfer",
    "min_timeout",
    "range_length",
    "refuse_overlap",
    "split_count",
]


def checked_count(count: int | None, name: str = "count") -> int | None:
    """Return a count; raises for what is no number of bytes. `Flow` clamps it to 64 bits."""
    if count is None:
        return None
    count = index(count)
    if count < 0:
        raise ValueError(f"{name} cannot be negative (got {count})")
    return count


def checked_offset(offset: int, name: str = "offset") -> int:
    """Return an offset; raises for what is no position in a file."""
    offset = index(offset)
    if offset < 0:
        raise ValueError(f"{name} cannot be negative (got {offset})")
    if offset > INT64_MAX:
        raise OverflowError(f"{name} is beyond 64 bits (got {offset})")
    return offset


def _offset(
    call: str, offset: int | None, name: str, end: endpoint.Endpoint, side: str
) -> int | None:
    if offset is None:
        return None
    offset = checked_offset(offset, name)
    if end.info.kind != lib.SIO_KIND_FILE:
        given = (offset, None) if side == "src" else (None, offset)
        raise endpoint.failure(call, errno.ESPIPE, end, side, given)
    return offset


def split_count(ahead: bytes, count: int | None) -> tuple[bytes, int | None]:
    """Split a count: the bytes read ahead that it covers, and how many to take besides."""
    if count is None:
        return ahead, None
    first = ahead[:count]
    return first, count - len(first)


def apply_window(
    call: str, src: endpoint.Endpoint, offset: int | None, count: int | None
) -> int | None:
    """Set where a source begins; return how many bytes to take, None for all to the end.

    Of a window that is always a number, and one that it has.
    """
    if src.window is None:
        if offset is not None:
            src.start_at(offset)
        return count
    base, size = src.window
    offset = offset or 0
    length = range_length(call, src.name, size, offset, count)
    src.start_at(base + offset)
    return length


def range_length(call: str, whole: str, size: int, offset: int, count: int | None) -> int:
    """Return how many bytes a range has; raises ValueError for one beyond the end of `whole`."""
    if offset > size:
        raise ValueError(
            f"{call}: offset {offset} is past the end of {whole}, which has {size} bytes"
        )
    if count is None:
        return size - offset
    if offset + count > size:
        raise ValueError(
            f"{call}: {count} bytes from offset {offset} on are asked for, but {whole} ends at "
            f"{size}; leave count out to send what there is"
        )
    return count


def min_timeout(*timeouts: float | None) -> float | None:
    """Return the shortest of the timeouts that are set."""
    given = [timeout for timeout in timeouts if timeout is not None]
    return min(given) if given else None


def make_transfer(
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int | None,
    *,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    method: str = "auto",
    timeout: float | None = None,
    call: str = "copy",
    names: tuple[str, str] = ("src", "dst"),
    offset_names: tuple[str, str] = ("offset_src", "offset_dst"),
    ahead: bytes = b"",
) -> tuple[Flow, int]:
    """Make the flow from `src` to `dst`, and its idle limit in nanoseconds (-1: none).

    `ahead` has been read from `src` before, and goes first as far as `count` allows.
    """
    from_, to = endpoint.source(src, call, names[0]), None
    try:
        to = endpoint.destination(dst, call, names[1])
        count = checked_count(count)
        at_src = _offset(call, offset_src, offset_names[0], from_, "src")
        at_dst = _offset(call, offset_dst, offset_names[1], to, "dst")
        methods = plan.methods_for(method, from_.info, to.info, offset_dst=at_dst is not None)
        ahead, left = split_count(contiguous(ahead, f"{call}: ahead"), count)
        left = apply_window(call, from_, at_src, left)
        if at_dst is not None and to.info.appends:
            raise ValueError(
                f"{call}: {to.name} is open for appending (O_APPEND), so the kernel would ignore "
                f"{offset_names[1]}; leave it out, or open {to.name} without O_APPEND"
            )
        length = INT64_MAX if left is None else left + len(ahead)
        refuse_overlap(call, from_, to, length, at_dst)
        limit = idle_ns(timeout if timeout is not None else min_timeout(from_.timeout, to.timeout))
        flow = Flow(
            from_,
            to,
            methods,
            call=call,
            count=left,
            offset_dst=at_dst,
            prefix=ahead,
            adaptive=method == "auto" and from_.info.kind != lib.SIO_KIND_FILE,
        )
        if from_.info.size_is_known:
            begun = _position(from_.fd) if from_.offset is None else from_.offset
            flow.expect(max(0, from_.info.size - begun))
    finally:
        from_.close()
        if to is not None:
            to.close()
    return flow, limit


def refuse_overlap(
    call: str,
    src: endpoint.Endpoint,
    dst: endpoint.Endpoint,
    length: int,
    offset_dst: int | None = None,
) -> None:
    """Raise if a file or a pipe would be copied onto itself: it would read what it has written."""
    if src.info.is_pipe and src.info.same_file(dst.info):
        raise errors.failure(call, errno.EINVAL, src.fd, dst.fd, names=(src.name, dst.name))
    if src.info.kind != lib.SIO_KIND_FILE or not src.info.same_file(dst.info):
        return
    begin = _position(src.fd) if src.offset is None else src.offset
    to = _position(dst.fd) if offset_dst is None else offset_dst
    if dst.info.appends:
        to = src.info.size
    if length and begin < to + length and to < begin + length:
        raise ValueError(
            f"{call}: {src.name} and {dst.name} are the same file and the ranges overlap; it would "
            "read what it has just written. Give count and offsets that keep them apart, or copy "
            "to another file"
        )


def _position(fd: int) -> int:
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return 0
