"""The first try of a call: one entry into C, on the caller's own descriptors.

Rule 1: only what needs no look at its object goes this way: exact ints, sockets and files without
methods of their own, numbers that are numbers; and to an exact SSLSocket what the kernel encrypts,
as `tls` decides. All else takes the long way, which has the words.
Of an exact socket the type is known, and is not asked for: as in its own `sendfile`.
Rule 2: what was tried and is not done goes on in C, in a transfer of duplicates of what it has
looked at; if that is not done within a slice, it is driven as any other.
Rule 3: whatever is raised, what has been moved is counted and what is held is not lost.
"""

from __future__ import annotations

import _socket
import contextlib
import sys
from collections.abc import Callable
from io import BufferedReader, FileIO
from socket import SOCK_STREAM, socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import tls
from .._kernel.arguments import Window
from .._kernel.objects import TLS_SENDS, has_no_own
from .flow import SLICE_NS, spares
from .plan import NAMES
from .rest import is_made, limit_of, rest_of
from .result import TransferResult
from .transfer import Transfer, run_and_close

if TYPE_CHECKING:
    from .._cffi import struct_sio_act_ptr

__all__ = ["STREAM", "copied", "note_nothing", "plain", "sent", "type_of"]

_SHIFT: int = lib.SIO_ACT_SHIFT
_MASK = (1 << _SHIFT) - 1
_CACHED_ONLY: int = lib.SIO_CACHED_ONLY
_KNOWN_SRC: int = lib.SIO_KNOWN_SRC
_KNOWN_DST: int = lib.SIO_KNOWN_DST
type_of = _socket.socket.type.__get__  # of the class in C: a number, not an enum
STREAM = int(SOCK_STREAM)
_MOST_FD, _BEYOND = 1 << 31, 1 << 62
_LEFT: int = -lib.SIO_BUDGET
_copy, _send = lib.sio_act_copy, lib.sio_act_send
_copy_rest, _send_rest, _run = lib.sio_act_copy_rest, lib.sio_act_send_rest, lib.sio_act_run
_blank = TransferResult.__new__

_spare: list[struct_sio_act_ptr] = []
"""Structs that nobody uses now: a call takes one, and gives it back when it is done."""


def copied(
    src: Any,
    dst: Any,
    count: int | None,
    offset: int | None,
    timeout: float | None,
    progress: Callable[[int], object] | None,
    cached_only: bool = False,
    call: str = "copy",
    names: tuple[str, str] = ("src", "dst"),
    expected: int | None = None,
    made: Callable[[Transfer], object] | None = None,
    offset_dst: int | None = None,
) -> TransferResult | Transfer | None:
    """Copy in one go; None where that cannot be tried, and nothing has been.

    What is not done at once is driven to its end, by a Transfer that `made` is told. With
    `cached_only` no file is read from its disk, nothing is waited for, and the Transfer returned.
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
    if offset_dst is None:
        at_dst = -1
    elif type(offset_dst) is int and 0 <= offset_dst < _BEYOND:
        at_dst = offset_dst
    else:
        return None
    known = _CACHED_ONLY if cached_only else 0
    if type(src) is int and 0 <= src < _MOST_FD:
        from_ = src
    elif type(src) is socket:
        from_ = src.fileno()
        if type_of(src) == STREAM:
            known |= _KNOWN_SRC
    elif isinstance(src, Window):
        if (part := _part_of(src, at, most)) is None:
            return None
        from_, at, most = part
    else:
        from_ = plain(src)
    if type(dst) is socket:
        to = dst.fileno()
        if type_of(dst) == STREAM:
            known |= _KNOWN_DST
    else:
        to = _destination(dst)
    if from_ < 0 or to < 0:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = _new()
    c.moved, result, transfer = 0, None, None
    try:
        done = _copy(c, known, from_, to, most, at, at_dst)
        if done < 0:
            limit, ends = limit_of(timeout, src, dst), ((src, from_), (dst, to))
            if not is_made(_copy_rest(c, from_, to, most, at, at_dst), c, call, names, ends):
                _spare.append(c)
                return None
            if expected is not None:
                c.whole = expected
            done = _LEFT if cached_only else _run(c, SLICE_NS, limit)
        if done < 0:
            resync = None if reader is None else lambda moved: reader.seek(at + moved)
            transfer = rest_of(c, call, names, ends, limit, begun, expected, resync)
            if cached_only:
                return transfer
            if made is not None:
                made(transfer)
            return run_and_close(transfer, progress)
        if reader is not None:
            reader.seek(at + c.moved)
        method = NAMES[done & _MASK]
        moved = done >> _SHIFT
        result = _blank(TransferResult)  # by hand: _made() would be a tenth of a small call
        told = result.__dict__
        told["moved"], told["method"] = moved, method
        told["seconds"], told["fallbacks"] = monotonic() - begun, ()
        told["by_method"] = {method: moved}
        if progress is not None:
            progress(moved)
    except BaseException as error:
        _salvage(c, error, begun, result, transfer)
        if reader is not None and not reader.closed:
            with contextlib.suppress(OSError):
                reader.seek(at + error.result.moved)  # type: ignore[attr-defined]
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
    cached_only: bool = False,
) -> TransferResult | Transfer | None:
    """Send a header, a piece of a file and a trailer in one go; None where nothing was tried.

    What is not done at once goes on as in `copied`.
    """
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
    known = _CACHED_ONLY if cached_only else 0
    if type(file) is int and 0 <= file < _MOST_FD:
        from_ = file
    elif isinstance(file, Window):
        if (part := _part_of(file, offset, most)) is None:
            return None
        from_, offset, most = part
    else:
        from_ = plain(file)
    if type(sock) is socket:
        to = sock.fileno()
        if type_of(sock) == STREAM:
            known |= _KNOWN_DST
    else:
        to = _destination(sock)
    if from_ < 0 or to < 0:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = _new()
    names = "file", "sock"
    c.moved, result, transfer = 0, None, None
    try:
        done = _send(c, known, to, from_, offset, most, header, len(header), trailer, len(trailer))
        if done < 0:
            limit, ends = limit_of(timeout, file, sock), ((file, from_), (sock, to))
            around = ffi.from_buffer(header), ffi.from_buffer(trailer)
            parts = around[0], len(header), around[1], len(trailer)
            err = _send_rest(c, to, from_, offset, most, *parts)
            if not is_made(err, c, "send_file", names, ends):
                _spare.append(c)
                return None
            done = _LEFT if cached_only else _run(c, SLICE_NS, limit)
        if done < 0:
            expected = None if c.whole < 0 else c.whole - len(header) - len(trailer)
            transfer = rest_of(c, "send_file", names, ends, limit, begun, expected, memory=around)
            return transfer if cached_only else run_and_close(transfer, progress)
        method = NAMES[done & _MASK]
        moved = done >> _SHIFT
        memory = c.from_memory
        result = _blank(TransferResult)
        told = result.__dict__
        told["moved"], told["method"] = moved, method
        told["seconds"], told["fallbacks"] = monotonic() - begun, ()
        told["by_method"] = {method: moved - memory, "send": memory} if memory else {method: moved}
        if progress is not None:
            progress(moved)
    except BaseException as error:
        _salvage(c, error, begun, result, transfer)
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
    c = ffi.gc(ffi.new("struct sio_act *"), lib.sio_act_close)
    c.method = lib.SIO_READ_WRITE  # of the nothing that it has moved
    c.spares = spares
    return c


def _made(moved: int, method: str, seconds: float, by_method: dict[str, int]) -> TransferResult:
    """Make a frozen dataclass without its __init__, which takes as long as the system call."""
    result = _blank(TransferResult)
    told = result.__dict__
    told["moved"], told["method"] = moved, method
    told["seconds"], told["fallbacks"] = seconds, ()
    told["by_method"] = by_method
    return result


def _held(c: struct_sio_act_ptr) -> bytes:
    return bytes(ffi.buffer(c.buf + c.held_at, c.held)) if c.held else b""


def note_nothing(error: BaseException) -> None:
    """Give an exception from before the try the result of nothing."""
    error.result, error.held = _made(0, "read_write", 0.0, {}), b""  # type: ignore[attr-defined]


def _salvage(
    c: struct_sio_act_ptr,
    error: BaseException,
    begun: float,
    result: TransferResult | None,
    transfer: Transfer | None,
) -> None:
    """Give an exception what was done, and the bytes that are nowhere else."""
    if transfer is not None and transfer.closed:
        return  # it has done so
    if c.rest != ffi.NULL:
        if transfer is None:
            ends = (None, -1), (None, -1)
            transfer = rest_of(c, "", ("src", "dst"), ends, -1, begun, None)
        with transfer:
            transfer.salvage(error)
        return
    if result is None:
        moved, method = c.moved, NAMES[c.method]
        memory = c.from_memory if moved else 0
        by_method = {method: moved - memory, "send": memory} if memory else {method: moved}
        result = _made(moved, method, monotonic() - begun, by_method)
    error.result, error.held = result, _held(c)  # type: ignore[attr-defined]
