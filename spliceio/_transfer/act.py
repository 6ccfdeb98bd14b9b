"""The first try of a call: one entry into C, on the caller's own descriptors.

Rule 1: only what needs no look at its object goes this way: exact ints, sockets and files without
methods of their own, numbers that are numbers; and to an exact SSLSocket what the kernel encrypts,
as `tls` decides. All else takes the long way, which has the words.
Rule 2: what was tried and is not done goes on the long way with what was done so far, and only
if both descriptors are still what the C has looked at.
Rule 3: whatever is raised, what has been moved is counted and what is held is not lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BufferedReader, FileIO
from socket import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import errors, tls
from .._kernel.arguments import Window
from .._kernel.objects import TLS_SENDS, has_no_own
from .flow import TransferResult
from .transfer import Transfer, flow_of, go_on_from

if TYPE_CHECKING:
    from .._cffi import struct_sio_act_ptr

__all__ = ["Tried", "copied", "note_nothing", "plain", "sent"]

_NAMES = {lib.SIO_READ_WRITE: "read_write", lib.SIO_SENDFILE: "sendfile", lib.SIO_SPLICE: "splice"}
_SHIFT: int = lib.SIO_ACT_SHIFT
_MASK = (1 << _SHIFT) - 1
_MOST_FD = 1 << 31
_copy, _send = lib.sio_act_copy, lib.sio_act_send
_blank = TransferResult.__new__

_spare: list[struct_sio_act_ptr] = []
"""Structs that nobody uses now: a call takes one, and gives it back when it is done."""
_BEYOND = 1 << 62


class Tried:
    """What has been tried and is not done: `rest` goes on from there."""

    __slots__ = ("_begun", "_c")

    def __init__(self, c: struct_sio_act_ptr, begun: float) -> None:
        self._c, self._begun = c, begun

    def rest(self, call: str, make: Callable[[int, bytes], Transfer]) -> Transfer:
        """Return the transfer of what is left, by the bytes moved and the bytes held.

        Whatever `make` raises gets the counts and the held bytes.
        """
        c, transfer = self._c, None
        try:
            transfer = make(c.moved, _held(c))
            flow, _ = flow_of(transfer)
            for end, was in ((flow.src, c.src), (flow.dst, c.dst)):
                if end is not None and (end.info.dev, end.info.ino) != (was.dev, was.ino):
                    raise errors.closed_meanwhile(call, end.name)
            go_on_from(transfer, c, monotonic() - self._begun)
        except BaseException as error:
            if transfer is not None:
                transfer.close()
            _salvage(c, error, self._begun)
            raise
        c.held = 0
        _spare.append(c)
        return transfer


def copied(
    src: Any,
    dst: Any,
    count: int | None,
    offset: int | None,
    timeout: float | None,
    progress: Callable[[int], object] | None,
    *,
    cached_only: bool = False,
) -> TransferResult | Tried | None:
    """Copy in one go; None where that cannot be tried, and nothing has been.

    With `cached_only` no file is read from its disk.
    """
    begun = monotonic()
    if timeout is not None and not _is_seconds(timeout):
        return None
    if count is None:
        most = -1
    elif type(count) is int and 0 < count < _BEYOND:
        most = count
    else:
        return None
    reader = None
    if offset is None:
        at = -1
        if type(src) is BufferedReader:
            reader, src = src, _unbuffered(src)
            at = _position(reader, src)
            if at < 0:
                return None
    elif type(offset) is int and 0 <= offset < _BEYOND:
        at = offset
        if type(src) is BufferedReader:
            src = _unbuffered(src)
    else:
        return None
    if isinstance(src, Window):
        if (part := _part_of(src, at, most)) is None:
            return None
        from_, at, most = part
    else:
        from_ = plain(src)
    to = _destination(dst)
    if from_ < 0 or to < 0:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = _new()
    c.cached_only, c.moved, result = cached_only, 0, None
    try:
        done = _copy(c, from_, to, most, at)
        if reader is not None:
            reader.seek(at + c.moved)
        if done < 0:
            return _not_done(c, done, begun)
        method = _NAMES[done & _MASK]
        moved = done >> _SHIFT
        result = _made(moved, method, monotonic() - begun, {method: moved})
        if progress is not None:
            progress(moved)
    except BaseException as error:
        _salvage(c, error, begun, result)
        raise
    _spare.append(c)
    return result


def sent(
    sock: Any,
    file: Any,
    offset: int,
    count: int | None,
    header: Any,
    trailer: Any,
    timeout: float | None,
    progress: Callable[[int], object] | None,
    *,
    cached_only: bool = False,
) -> TransferResult | Tried | None:
    """Send a header, a piece of a file and a trailer in one go; None where nothing was tried."""
    begun = monotonic()
    if type(header) is not bytes or type(trailer) is not bytes:
        return None
    if type(offset) is not int or not 0 <= offset < _BEYOND:
        return None
    if timeout is not None and not _is_seconds(timeout):
        return None
    if count is None:
        most = -1
    elif type(count) is int and 0 < count < _BEYOND:
        most = count
    else:
        return None
    if type(file) is BufferedReader:
        file = _unbuffered(file)
    if isinstance(file, Window):
        if (part := _part_of(file, offset, most)) is None:
            return None
        from_, offset, most = part
    else:
        from_ = plain(file)
    to = _destination(sock)
    if from_ < 0 or to < 0:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = _new()
    memory = len(header) + len(trailer)
    c.cached_only, c.moved, result = cached_only, 0, None
    try:
        done = _send(c, to, from_, offset, most, header, len(header), trailer, len(trailer))
        if done < 0:
            return _not_done(c, done, begun)
        method = _NAMES[done & _MASK]
        moved = done >> _SHIFT
        by_method = {method: moved - memory, "send": memory} if memory else {method: moved}
        result = _made(moved, method, monotonic() - begun, by_method)
        if progress is not None:
            progress(moved)
    except BaseException as error:
        _salvage(c, error, begun, result)
        raise
    _spare.append(c)
    return result


def plain(end: Any) -> int:
    """Return the number of an end whose bytes are its descriptor's, by its exact type; or -1."""
    kind = type(end)
    if kind is socket:
        return end.fileno()  # type: ignore[no-any-return]
    if kind is int:
        return end if 0 <= end < _MOST_FD else -1
    if kind is FileIO and not end.closed and has_no_own(end):
        return end.fileno()  # type: ignore[no-any-return]
    return -1


def _destination(end: Any) -> int:
    """Return the number of an end that is written to, as `plain` does; or -1."""
    fd = plain(end)
    if fd >= 0 or (ssl := sys.modules.get("ssl")) is None or type(end) is not ssl.SSLSocket:
        return fd
    if vars(end).keys() & TLS_SENDS or tls.why_not(end, sends=True) is not None:
        return -1
    return end.fileno()  # type: ignore[no-any-return]


def _part_of(window: Window, offset: int, count: int) -> tuple[int, int, int] | None:
    """Return number, offset and count of a part of a window; None for one that it does not have."""
    offset = max(0, offset)
    try:
        if count < 0:
            count = len(window) - offset
        if not 0 < count <= len(window) - offset:
            return None
        return window.fileno(), window.offset + offset, count
    except ValueError:  # it is closed, as is said with the name of the parameter
        return None


def _position(file: BufferedReader, raw: object) -> int:
    """Return where a reader is in its file, whatever it has read ahead; -1 where it is in none."""
    if type(raw) is not FileIO:
        return -1
    try:
        return file.tell()
    except (OSError, ValueError):
        return -1


def _unbuffered(file: BufferedReader) -> object:
    """Return the raw file of one that is read at an offset: what it has read ahead is not used."""
    return None if file.closed or not has_no_own(file) else file.raw


def _is_seconds(timeout: object) -> bool:
    return type(timeout) in (int, float) and timeout >= 0  # type: ignore[operator]


def _new() -> struct_sio_act_ptr:
    c = ffi.new("struct sio_act *")
    c.method = lib.SIO_READ_WRITE  # of the nothing that it has moved
    return c


def _not_done(c: struct_sio_act_ptr, state: int, begun: float) -> Tried | None:
    if state != -lib.SIO_UNTRIED:
        return Tried(c, begun)
    _spare.append(c)
    return None


def _made(moved: int, method: str, seconds: float, by_method: dict[str, int]) -> TransferResult:
    """Make a frozen dataclass without its __init__, which takes as long as the system call."""
    result = _blank(TransferResult)
    result.__dict__.update(
        moved=moved, method=method, seconds=seconds, fallbacks=(), by_method=by_method
    )
    return result


def _held(c: struct_sio_act_ptr) -> bytes:
    return bytes(ffi.buffer(c.buf + c.held_at, c.held)) if c.held else b""


def note_nothing(error: BaseException) -> None:
    """Give an exception from before the try the result of nothing."""
    error.result, error.held = _made(0, "read_write", 0.0, {}), b""  # type: ignore[attr-defined]


def _salvage(
    c: struct_sio_act_ptr, error: BaseException, begun: float, result: TransferResult | None = None
) -> None:
    """Give an exception what was done, and the bytes that are nowhere else."""
    if result is None:
        moved, method = c.moved, _NAMES[c.method]
        memory = c.from_memory if moved else 0
        by_method = {method: moved - memory, "send": memory} if memory else {method: moved}
        result = _made(moved, method, monotonic() - begun, by_method)
    error.result, error.held = result, _held(c)  # type: ignore[attr-defined]
