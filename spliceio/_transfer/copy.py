"""Blocking calls: `copy`, `discard` and `chunks`.

A Transfer is closed on every path, and an exception gets the counts and the held bytes, so that
nothing is lost with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from operator import index

from .._cffi import ffi, lib
from .._kernel import endpoint
from .._kernel import owned as _owned
from .._kernel.arguments import FileDescriptorLike, at_most
from .._public import public
from . import act
from .build import apply_window, checked_count, make_transfer
from .flow import INT64_MAX, SLICE_NS, Flow, check_forked, idle_ns, next_slice
from .result import TransferResult
from .transfer import Transfer, from_flow, run_and_close

__all__ = ["chunks", "copy", "discard"]


@public
def copy(
    src: FileDescriptorLike,
    dst: FileDescriptorLike,
    count: int | None = None,
    *,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    method: str = "auto",
    timeout: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> TransferResult:
    """Move `count` bytes, or all to the end, from `src` to `dst` the fastest way there is.

    The arguments are those of `Transfer`. `progress` is called about every 80 ms with the total in
    bytes, and about once a second while nothing moves. Nonblocking descriptors are waited for.

    Raises what `Transfer` and `Transfer.run` raise. The exception then has two more attributes:
    `result`, a TransferResult of what was moved before, and `held`, bytes that had been taken from
    `src` and had not reached `dst` (for a file always empty: its position is put back).

    Not promised: a snapshot of a file that is edited while it is sent, or that nothing is copied;
    the result says which method ran.
    """
    if method == "auto":
        done = act.copied(src, dst, count, offset_src, timeout, progress, offset_dst=offset_dst)
        if type(done) is TransferResult:
            return done
    transfer = Transfer(
        src,
        dst,
        count,
        offset_src=offset_src,
        offset_dst=offset_dst,
        method=method,
        timeout=timeout,
    )
    return run_and_close(transfer, progress)


@public
def discard(
    src: FileDescriptorLike, count: int | None = None, *, timeout: float | None = None
) -> int:
    """Read and drop `count` bytes, or all to the end; return how many there were.

    Takes and raises what `copy` does. The bytes do not enter user memory where the kernel can.
    """
    owned = _owned.owner()
    try:
        null = _owned.open_at(owned, os.devnull, os.O_WRONLY)
        flow, limit = make_transfer(src, null, count, timeout=timeout, call="discard")
        return run_and_close(from_flow(flow, limit, "discard")).moved
    finally:
        _owned.close(owned)


@public
def chunks(
    src: FileDescriptorLike,
    size: int = 65536,
    *,
    count: int | None = None,
    timeout: float | None = None,
) -> Iterator[memoryview]:
    """Iterate over the bytes of `src` in pieces of 1 to `size` bytes, to the end or for `count`.

    Each memoryview has memory of its own, which stays as it is when the next one is made. Bytes
    that a BufferedReader has read ahead come first. Nonblocking descriptors are waited for.

    Raises at once ValueError for a size below 1 and what `copy` raises for a source it refuses;
    the source is opened, and nothing is taken from it, before the first piece is asked for.
    """
    size = index(size)
    if size < 1:
        raise ValueError(f"size must be at least 1 (got {size})")
    size = at_most(size, INT64_MAX, "size")
    count = checked_count(count)
    idle_ns(timeout)
    # Only inspected: an iterator that is never started owns nothing.
    apply_window("chunks", endpoint.inspect(src, "chunks", "src"), None, count)
    return _chunks(src, size, count, timeout)


def _chunks(
    src: FileDescriptorLike, size: int, count: int | None, timeout: float | None
) -> Iterator[memoryview]:
    from_ = endpoint.source(src, "chunks")
    try:
        limit = idle_ns(timeout if timeout is not None else from_.timeout)
        count = apply_window("chunks", from_, None, count)
        flow = Flow(from_, None, [lib.SIO_READ_WRITE], call="chunks", count=count)
    finally:
        from_.close()
    given = 0
    try:
        while True:
            memory = bytearray(size)
            n = _read_chunk(flow, memory, limit)
            if not n:
                return
            given += n
            yield memoryview(memory)[:n]
    finally:
        from_.moved(given)
        flow.close()


def _read_chunk(flow: Flow, memory: bytearray, limit: int) -> int:
    flow.restart()
    slice_ns = SLICE_NS
    while True:
        n: int = lib.sio_transfer_read(
            flow.c, ffi.from_buffer(memory), len(memory), slice_ns, limit
        )
        slice_ns = next_slice(slice_ns, has_moved=n >= 0)
        if n >= 0:
            if not n:
                flow.past_record(lib.SIO_DONE)
            return n
        check_forked(-n)
        if n == -lib.SIO_ERROR and flow.past_record(-n) == lib.SIO_ERROR:
            raise flow.error()
        if n == -lib.SIO_TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, f"chunks: nothing came for {limit / 1e9:g} s")
