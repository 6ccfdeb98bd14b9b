"""What the C of a fan-out has to say: the bytes that not all have got, and what was refused.

Never moves a byte to a sink.
"""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.flow import CALLS, Fallback

if TYPE_CHECKING:
    from .._cffi import struct_sio_fanout_ptr, struct_sio_transfer_ptr

__all__ = ["refusals", "rest", "too_many"]


def rest(c: struct_sio_fanout_ptr) -> bytes:
    """Take out of the head of a fan-out what not every sink has got."""
    parts = []
    while (left := lib.sio_fanout_rest(c)) > 0:
        memory = bytearray(left)
        n = lib.sio_fanout_take_rest(c, ffi.from_buffer(memory), left)
        if n <= 0:
            break
        parts.append(bytes(memoryview(memory)[:n]))
    return b"".join(parts)


def refusals(report: Any) -> tuple[Fallback, ...]:
    """Say why the bytes are copied instead of shared."""
    err = int(report.refused)
    return (Fallback("tee", err, errors.why(CALLS[report.refused_call], err)),) if err else ()


def too_many(failure: Any, sinks: int) -> OSError | None:
    """Say what poll(2) means by EINVAL: more descriptors than RLIMIT_NOFILE is now."""
    if failure.call != lib.SIO_CALL_POLL or failure.err != errno.EINVAL:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OSError(
        errno.EINVAL,
        f"fanout: poll waits for no more than RLIMIT_NOFILE descriptors, which is {soft}, and this "
        f"is a source and {sinks} sinks; raise the limit (ulimit -n), or fan out in two steps",
    )
