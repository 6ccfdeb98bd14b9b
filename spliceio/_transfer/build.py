"""Both ends of a one-way transfer: checked, taken, and made into a flow, before a byte moves.

Rule 1: whatever is wrong with the numbers, the objects or the pair is said here, with the names
that the caller's parameters have, and nothing has been read, written or moved by then.
Rule 2: what an end opens for itself is closed here; the flow has duplicates.
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
    "begin",
    "between",
    "checked_count",
    "checked_offset",
    "least",
    "length_within",
    "refuse_circle",
    "within",
]


def checked_count(count: int | None, name: str = "count") -> int | None:
    """Refuse what is no number of bytes. Any other is taken: `Flow` clamps what is past 64 bits."""
    if count is None:
        return None
    count = index(count)
    if count < 0:
        raise ValueError(f"{name} cannot be negative (got {count})")
    return count


def checked_offset(offset: int, name: str = "offset") -> int:
    """Refuse what is no place in a file."""
    offset = index(offset)
    if offset < 0:
        raise ValueError(f"{name} cannot be negative (got {offset})")
    if offset > INT64_MAX:
        raise OverflowError(f"{name} is beyond 64 bits (got {offset})")
    return offset


def _offset(
    call: str, offset: int | None, name: str, end: endpoint.Stream, side: str
) -> int | None:
    if offset is None:
        return None
    offset = checked_offset(offset, name)
    if end.about.kind != lib.SIO_KIND_FILE:
        fds, names = {side: end.fd}, {"src": "src", "dst": "dst", side: end.name}
        given = (offset, None) if side == "src" else (None, offset)
        raise errors.failure(
            call,
            errno.ESPIPE,
            offsets=given,
            names=(names["src"], names["dst"]),
            **fds,  # type: ignore[arg-type]
        )
    return offset


def within(ahead: bytes, count: int | None) -> tuple[bytes, int | None]:
    """Split a count: the bytes read before that it covers, and how many to take besides."""
    if count is None:
        return ahead, None
    first = ahead[:count]
    return first, count - len(first)


def begin(call: str, src: endpoint.Stream, offset: int | None, count: int | None) -> int | None:
    """Let a source begin at `offset`; return how many bytes to take, None for all to the end.

    Of a window that is always a number, and one that it has.
    """
    if src.window is None:
        if offset is not None:
            src.start_at(offset)
        return count
    base, size = src.window
    offset = offset or 0
    length = length_within(call, src.name, size, offset, count)
    src.start_at(base + offset)
    return length


def length_within(call: str, whole: str, size: int, offset: int, count: int | None) -> int:
    """Say how many bytes a range has, and refuse one that `whole` does not have."""
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


def least(*timeouts: float | None) -> float | None:
    """Return the shortest of the timeouts that are set."""
    given = [timeout for timeout in timeouts if timeout is not None]
    return min(given) if given else None


def between(
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
        methods = plan.named(method, from_.about, to.about, offset_dst=at_dst is not None)
        ahead, left = within(contiguous(ahead, f"{call}: ahead"), count)
        left = begin(call, from_, at_src, left)
        if at_dst is not None and to.about.appends:
            raise ValueError(
                f"{call}: {to.name} is open for appending (O_APPEND), so the kernel would ignore "
                f"{offset_names[1]}; leave it out, or open {to.name} without O_APPEND"
            )
        length = INT64_MAX if left is None else left + len(ahead)
        refuse_circle(call, from_, to, length, at_dst)
        limit = idle_ns(timeout if timeout is not None else least(from_.timeout, to.timeout))
        flow = Flow(
            from_,
            to,
            methods,
            call=call,
            count=left,
            offset_dst=at_dst,
            prefix=ahead,
            adaptive=method == "auto" and from_.about.kind != lib.SIO_KIND_FILE,
        )
        if from_.about.size_is_known:
            begun = _position(from_.fd) if from_.offset is None else from_.offset
            flow.expect(max(0, from_.about.size - begun))
    finally:
        from_.close()
        if to is not None:
            to.close()
    return flow, limit


def refuse_circle(
    call: str,
    src: endpoint.Stream,
    dst: endpoint.Stream,
    length: int,
    offset_dst: int | None = None,
) -> None:
    """Refuse to copy a file or a pipe onto itself: it would read what it has just written."""
    if src.about.is_pipe and src.about.same_file(dst.about):
        raise errors.failure(call, errno.EINVAL, src.fd, dst.fd, names=(src.name, dst.name))
    if src.about.kind != lib.SIO_KIND_FILE or not src.about.same_file(dst.about):
        return
    begin = _position(src.fd) if src.offset is None else src.offset
    to = _position(dst.fd) if offset_dst is None else offset_dst
    if dst.about.appends:
        to = src.about.size
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
