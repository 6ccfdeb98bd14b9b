"""`receive_file`: a body from a socket into a file.

Rule 1: exactly `count` bytes are taken from the connection: the next message stays in it.
Rule 2: when the file fails, nothing is unaccounted for: in the file (`result.moved`), in hand
(`held`), still in the connection (`unread`); together they are `count`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .._kernel.arguments import FileDescriptorLike
from .._public import public
from . import act, copy
from .build import make_transfer
from .result import TransferResult
from .transfer import Transfer, from_flow, run_and_close

__all__ = ["count_drained", "make_receive_file", "receive_file", "set_unread"]


@public
def receive_file(
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    count: int | None = None,
    *,
    offset: int | None = None,
    drain: bool = False,
    timeout: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> TransferResult:
    """Write `count` bytes from `sock`, or all to its end, into `file`.

    Past user memory, but for a count of up to 64 KiB that has come already, which costs less by a
    read and a write.

    `sock` is a stream socket in any blocking mode, or any other source that `copy` takes; what a
    buffered reader of it (`makefile`, `rfile`) has read ahead comes first. `file` is written at its
    position, which moves, or at `offset`, and then the position stays. `timeout` is the longest
    time in seconds without any byte coming; None takes the socket's own `settimeout()`, or waits
    for ever. `progress` is called about every 80 ms with the total in bytes, and about once a
    second while nothing moves.

    Raises UnexpectedEOF when the peer ends before `count` bytes, TimeoutError, and OSError when a
    side fails, each with `result`, what has reached the file (not the disk: call fsync), and
    `held`, bytes that were taken from the connection and did not reach it. `unread` is how many
    bytes of the body are still in the connection, None where `count` was not given.

    With `drain`, a file that fails (full disk, quota, file size limit) does not put the protocol
    out of step: the rest of the body is read and dropped before the exception is raised, and then
    `held` is empty and `unread` is 0. If that reading fails too, its exception is the `__context__`
    of the first, and `unread` says what is left.

    Not promised: that the file is left without what came before a failure; write beside it and
    rename if that matters. See splice(2).
    """
    made: list[Transfer] = []
    try:
        result = act.copied(
            sock,
            file,
            count,
            None,
            timeout,
            progress,
            call="receive_file",
            names=("sock", "file"),
            expected=count,
            made=made.append,
            offset_dst=offset,
        )
        if isinstance(result, TransferResult):
            return result
        made.append(make_receive_file(sock, file, count, offset, timeout))
        return run_and_close(made[0], progress)
    except BaseException as error:
        transfer = made[0] if made else None
        unread = set_unread(error, transfer, count)
        if drain and transfer is not None and transfer.failed_at == "dst":
            with count_drained(error, unread) as done:
                done(copy.discard(sock, unread, timeout=timeout))
        raise


def make_receive_file(
    sock: FileDescriptorLike,
    file: FileDescriptorLike,
    count: int | None,
    offset: int | None,
    timeout: float | None,
    ahead: bytes = b"",
) -> Transfer:
    """Make the transfer of a `receive_file`, for a driver that waits by other means.

    `ahead` has been taken from the connection.
    """
    flow, limit = make_transfer(
        sock,
        file,
        count,
        offset_dst=offset,
        timeout=timeout,
        call="receive_file",
        names=("sock", "file"),
        offset_names=("offset", "offset"),
        ahead=ahead,
    )
    return from_flow(flow, limit, "receive_file", count)


def set_unread(error: BaseException, transfer: Transfer | None, count: int | None) -> int | None:
    """Set `unread` of an exception: how much of the body is still in the connection."""
    result = getattr(error, "result", None)
    if count is None:
        unread = None
    elif transfer is not None:
        # What was read ahead by a Python object has been taken from it all the same.
        unread = transfer.left
    elif result is not None:
        unread = count - result.moved - len(error.held)  # type: ignore[attr-defined]
    else:
        return None  # of a call that was refused
    error.unread = unread  # type: ignore[attr-defined]
    return unread


@contextlib.contextmanager
def count_drained(error: BaseException, unread: int | None) -> Iterator[Callable[[int], None]]:
    """Count the rest of a body whose file has failed, while it is dropped in the block.

    The block says how much it has dropped.
    """
    error.held = b""  # type: ignore[attr-defined]

    def done(dropped: int) -> None:
        error.unread = 0 if unread is None else unread - dropped  # type: ignore[attr-defined]

    try:
        yield done
    except BaseException as second:
        if unread is not None:
            error.unread = unread - second.result.moved  # type: ignore[attr-defined]
        if not isinstance(second, Exception):
            for name in ("result", "held", "unread"):  # of the body, not of its dropping
                setattr(second, name, getattr(error, name))
            second.__context__ = error
            raise
        second.__context__ = None
        error.__context__ = second
