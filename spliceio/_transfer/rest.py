"""What a first try has left: the transfer that C has made of it, as one that Python can drive.

Rule 1: it is of duplicates of what the try has looked at, and of objects that still have the
number: what was closed on the way is refused.
Rule 2: nothing is looked at here; the ends are asked what they are when an error has to say it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from socket import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import lib
from .._kernel import errors
from .._kernel.endpoint import Endpoint
from .flow import Flow, idle_ns
from .transfer import Transfer, from_flow

if TYPE_CHECKING:
    from .._cffi import struct_sio_act_ptr

__all__ = ["Ends", "is_made", "limit_of", "rest_of"]

Ends = tuple[tuple[Any, int], tuple[Any, int]]
"""Source and destination, each as it was given and by number."""


def is_made(
    answer: int, c: struct_sio_act_ptr, call: str, names: tuple[str, str], ends: Ends
) -> bool:
    """Return whether there is a transfer of what is left; raises if it cannot be made.

    From then on another thread may close what it likes. But what it has closed before, while the
    number was on its way to the C, may have been another's when it was duplicated.
    """
    if answer == -lib.SIO_ERROR:
        err, is_src = int(c.error.err), c.error.side == lib.SIO_SIDE_SRC
        if err == errno.ESTALE:
            raise errors.closed_meanwhile(call, names[0 if is_src else 1])
        raise errors.failure(call, err, ends[0][1], ends[1][1], names=names)
    if answer:
        if c.moved or c.held:  # then it was something else
            raise errors.closed_meanwhile(call, names[1])
        return False
    for (end, fd), name in zip(ends, names, strict=True):
        if type(end) is not int and _number(end) != fd:
            raise errors.closed_meanwhile(call, name)
    return True


def _number(end: Any) -> int:
    """Return the number that an object has now; -1 once it is closed."""
    try:
        return end.fileno()  # type: ignore[no-any-return]
    except ValueError:
        return -1


def rest_of(
    c: struct_sio_act_ptr,
    call: str,
    names: tuple[str, str],
    ends: Ends,
    limit: int,
    begun: float,
    expected: int | None,
    resync: Callable[[int], object] | None = None,
    memory: object = None,
) -> Transfer:
    """Return the transfer of what is left, to be driven as any other."""
    (src, _), (dst, _) = ends
    fd = lib.sio_transfer_fd
    flow = Flow.of_rest(
        c,
        Endpoint.known(src, fd(c.rest, lib.SIO_SIDE_SRC), names[0], resync),
        Endpoint.known(dst, fd(c.rest, lib.SIO_SIDE_DST), names[1], None),
        memory=memory,
    )
    return from_flow(flow, limit, call, expected, monotonic() - begun)


def limit_of(timeout: float | None, src: Any, dst: Any) -> int:
    """Return how long it may wait, in nanoseconds: by `timeout`, or those that sockets have."""
    if timeout is None:
        set_ = [end.gettimeout() for end in (src, dst) if isinstance(end, socket)]
        timeout = min((seconds for seconds in set_ if seconds), default=None)
    return idle_ns(timeout)
