"""State of a fan-out in C: bytes that not every sink has got, and refused calls.

Never moves a byte to a sink.
"""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.flow import CALLS
from .._transfer.result import Fallback

if TYPE_CHECKING:
    from .._cffi import struct_sio_error_ptr, struct_sio_fanout_ptr, struct_sio_fanout_report_ptr

__all__ = ["refusals", "take_rest", "too_many"]


def take_rest(c: struct_sio_fanout_ptr) -> bytes:
    """Take the bytes that not every sink has got out of the head of a fan-out."""
    parts = []
    while (left := lib.sio_fanout_rest(c)) > 0:
        memory = bytearray(left)
        n = lib.sio_fanout_take_rest(c, ffi.from_buffer(memory), left)
        if n <= 0:
            break
        parts.append(bytes(memoryview(memory)[:n]))
    return b"".join(parts)


def refusals(report: struct_sio_fanout_report_ptr) -> tuple[Fallback, ...]:
    """Return why the bytes are copied instead of shared."""
    err = int(report.refused)
    why = errors.reason_for(CALLS[report.refused_call], err)
    return (Fallback("tee", err, why),) if err else ()


def too_many(failure: struct_sio_error_ptr, sinks: int) -> OSError | None:
    """Return the exception for EINVAL of poll(2): more descriptors than RLIMIT_NOFILE."""
    if failure.call != lib.SIO_CALL_POLL or failure.err != errno.EINVAL:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OSError(
        errno.EINVAL,
        f"fanout: poll waits for no more than RLIMIT_NOFILE descriptors, which is {soft}, and this "
        f"is a source and {sinks} sinks; raise the limit (ulimit -n), or fan out in two steps",
    )
