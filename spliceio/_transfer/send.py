"""`send_file` and `send_ranges`: files to sockets, with header and trailer.

Rule 1: everything is checked, and every length known, before the first byte leaves: what a header
has promised is kept, or the exception says how far it went.
Rule 2: header, file and trailer are one run in C: they share segments, and no byte of them waits
for the interpreter.
Rule 3: the position of the file is neither used nor moved.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING

from .._cffi import lib
from .._kernel import endpoint
from .._kernel.arguments import FileDescriptorLike, contiguous
from .._public import public
from . import act, plan
from .build import checked_count, checked_offset, min_timeout, range_length, refuse_overlap
from .flow import Flow, Segment, idle_ns
from .result import TransferResult
from .transfer import Transfer, from_flow, run_and_close

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["make_send_file", "send_file", "send_ranges"]

_TO_THE_END = -1


@public
def send_file(
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    offset: int = 0,
    count: int | None = None,
    *,
    header: Buffer = b"",
    trailer: Buffer = b"",
    timeout: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> TransferResult:
    """Send `header`, `count` bytes of `file` from `offset` on, and `trailer`, in that order.

    `sock` is a connected stream socket in any blocking mode, or any other destination that `copy`
    takes. `file` is a regular file, a Blob, a memfd or a block device; its position stays where it
    is, and `offset` is counted from its beginning, or from that of the Blob.
    `count` None is to the end that the file has now: what is appended meanwhile is not sent. Files
    whose size the kernel makes up (/proc, /sys) are sent to their end.

    On TCP a header or trailer shares segments with the file (MSG_MORE, send(2), and for the end
    before a trailer TCP_CORK, tcp(7), which is taken off on every path): a small file leaves as one
    packet. At the end everything is pushed, so that nothing waits for the peer's delayed
    acknowledgement. TCP_NODELAY stays as it was, and a socket that you have corked stays corked
    and is not pushed.

    `timeout` is the longest time in seconds without any byte moving; None takes the socket's own
    `settimeout()`, or waits for ever. `progress` is called about every 80 ms with the total in
    bytes, and about once a second while nothing moves. The result counts everything in `moved`;
    `by_method` has the header and trailer as "send".

    Raises, before anything is sent, ValueError for an offset or count beyond the file and for a
    source without offsets (use `copy`), and what `copy` raises for ends it refuses. Raises
    UnexpectedEOF if the file turns out shorter than that, TimeoutError, and OSError when a side
    fails. `result.moved` of the exception says how much of header, file and trailer, in that
    order, went out.

    Not promised: that the receiver sees the file as it was at one moment, see sendfile(2); and that
    bytes in the socket's buffer arrive.
    """
    done = act.sent(sock, file, offset, count, header, trailer, timeout, progress)
    if type(done) is TransferResult:
        return done
    transfer = make_send_file(sock, file, offset, count, header, trailer, timeout)
    return run_and_close(transfer, progress)


def make_send_file(
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    offset: int,
    count: int | None,
    header: Buffer,
    trailer: Buffer,
    timeout: float | None,
) -> Transfer:
    """Make the transfer of a `send_file`, for a driver that waits by other means."""
    wanted = [(checked_offset(offset), checked_count(count))]
    return _send("send_file", sock, file, wanted, [b""], header, trailer, timeout)


@public
def send_ranges(
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    ranges: Iterable[tuple[int, int]],
    *,
    headers: Iterable[Buffer] | None = None,
    header: Buffer = b"",
    trailer: Buffer = b"",
    timeout: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> TransferResult:
    """Send several (offset, count) ranges of `file`, as in a multipart/byteranges response.

    `headers` gives one bytes-like object for each range, sent before it; `header` goes before
    everything and `trailer` after it. Ranges are sent as they are asked for, in any order, also
    where they overlap or are empty. Everything else is as in `send_file`; but the kernel puts only
    about 16 pieces of memory into a packet, so that many small ranges take several.

    Raises ValueError when a range runs past the end of the file, or `headers` and `ranges` are not
    equally many, and what `send_file` raises.
    """
    wanted: list[tuple[int, int | None]] = [
        (checked_offset(offset, "a range's offset"), checked_count(index(count), "a range's count"))
        for offset, count in ranges
    ]
    before = [b""] * len(wanted) if headers is None else list(headers)
    if len(before) != len(wanted):
        raise ValueError(
            f"send_ranges: {len(before)} headers for {len(wanted)} ranges; give one for each"
        )
    made = _send("send_ranges", sock, file, wanted, before, header, trailer, timeout)
    return run_and_close(made, progress)


def _send(
    call: str,
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    ranges: Sequence[tuple[int, int | None]],
    headers: Sequence[Buffer],
    header: Buffer,
    trailer: Buffer,
    timeout: float | None,
) -> Transfer:
    from_ = endpoint.source(file, call, "file")
    if from_.info.kind != lib.SIO_KIND_FILE:
        from_.close()
        raise ValueError(
            f"{call}: file is {from_.text}, which has no offset and no size; use copy()"
        )
    from_.start_at(0)
    base, size = from_.window or (0, _size(from_))
    segments = [_memory(call, "header", header)]
    for (offset, count), before in zip(ranges, headers, strict=True):
        segments.append(_memory(call, "a range's header", before))
        segments.append((None, base + offset, _length(call, size, offset, count)))
    segments.append(_memory(call, "trailer", trailer))
    segments = [segment for segment in segments if segment[2]]
    expected = sum(max(length, 0) for memory, _, length in segments if memory is None)
    to = endpoint.destination(sock, call, "sock")
    try:
        refuse_overlap(call, from_, to, sum(abs(length) for _, _, length in segments))
        limit = idle_ns(timeout if timeout is not None else min_timeout(to.timeout))
        methods = plan.order(from_.info, to.info)
        flow = Flow(from_, to, methods, call=call, count=0, segments=segments)
    finally:
        to.close()
    return from_flow(flow, limit, call, expected)


def _size(file: endpoint.Endpoint) -> int | None:
    """Return the number of bytes of a file; None where only reading tells."""
    if not file.info.size_is_known:
        return None
    # Asked again: what a buffered object held has been flushed into it meanwhile.
    return os.fstat(file.fd).st_size if stat.S_ISREG(file.info.mode) else file.info.size


def _memory(call: str, name: str, data: Buffer) -> Segment:
    memory = contiguous(data, f"{call}: {name}")
    return memory, 0, len(memory)


def _length(call: str, size: int | None, offset: int, count: int | None) -> int:
    """Return how many bytes a range has; raises ValueError for one beyond the end of the file."""
    if size is None:
        return _TO_THE_END if count is None else count
    return range_length(call, "the file", size, offset, count)
