"""`copyfileobj`: a faster `shutil.copyfileobj`, inside the kernel where both objects are real.

An object is real when its bytes are known to be those of its descriptor: an io.FileIO, a buffered
file over one, what `socket.makefile()` gives, a socket, and what `tempfile` and `socketserver` wrap
around these. `objects` decides; for unknown types their own methods are called.

Rule 1: whatever is not known to be real is read and written by its own methods, as shutil does it;
so is whatever `copy` would refuse, so that errors are the objects' own.
Rule 2: to find out touches nothing: no attribute of an unknown object is looked at, no byte read,
no buffer flushed, nothing rolled over to disk.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import Any, Protocol, TypeVar

from .._cffi import lib
from .._kernel import endpoint, objects
from .._kernel.arguments import Window
from .._kernel.ready import ready
from .._public import public
from .blocks import BlockCopy, Put
from .copy import copy
from .result import Fallback, TransferResult

__all__ = ["SupportsRead", "SupportsWrite", "copyfileobj"]

LENGTH = 256 << 10
_MOST = 2**63 - 1

_Given = TypeVar("_Given", covariant=True)
_Taken = TypeVar("_Taken", contravariant=True)
_Block = TypeVar("_Block")


class SupportsRead(Protocol[_Given]):
    """Anything with `read(length)`."""

    def read(self, length: int, /) -> _Given:
        """Return up to `length` bytes or characters; nothing at the end."""


class SupportsWrite(Protocol[_Taken]):
    """Anything with `write(block)`."""

    def write(self, block: _Taken, /) -> object:
        """Take all of the block."""


class _NeedsMethods(Exception):
    """The bytes have to go through the object's own methods; the text says why."""


@public
def copyfileobj(
    fsrc: SupportsRead[_Block] | socket.socket,
    fdst: SupportsWrite[_Block] | socket.socket,
    length: int = 0,
) -> TransferResult:
    """Copy what `fsrc` holds from its position on to `fdst`: `shutil.copyfileobj`, and faster.

    Two real files, pipes or sockets go through `copy`, whose methods the result names. All else is
    copied by `fsrc.read(length)` and `fdst.write()`: then `method` is "python", `moved` counts
    bytes (of a text file: characters), and `fallbacks` says why. The positions afterwards are those
    that `shutil.copyfileobj` leaves. `length` is the size of a read; 0 is 256 KiB, a negative one
    reads all at once, and `copy` has no use for it.

    Raises what the objects raise, and what `copy` raises; ValueError for a file that is appended to
    itself, which would never end. The exception has `result` and `held` as after `copy`; `held` may
    be a block of which an object that is not real has taken a part.

    Not promised: that `read` and `write` are called at all. A source that is nonblocking and not a
    regular file is read until it has nothing more at the moment, as shutil does; a nonblocking
    destination is waited for if it is real.
    """
    try:
        _check_length(length)
        src, dst = _real_pair(fsrc, fdst)
    except _NeedsMethods as reason:
        return _by_blocks(fsrc, fdst, length or LENGTH, str(reason))
    return copy(src, dst)


def _check_length(length: object) -> None:
    """Raise _NeedsMethods for a length that no read takes: the read refuses it."""
    if length and not (isinstance(length, int) and -_MOST <= length <= _MOST):
        raise _NeedsMethods(f"length is {length!r}, which is for read() to judge")


# ---- what is real -------------------------------------------------------------------------------


def _real_pair(fsrc: object, fdst: object) -> tuple[Any, Any]:
    src, dst = _real(fsrc, "src"), _real(fdst, "dst")
    info_src, info_dst = _info(src, "src"), _info(dst, "dst")
    if info_src.kind != lib.SIO_KIND_FILE:
        if info_src.nonblocking and not _timeout(src):
            raise _NeedsMethods("src is nonblocking: a read that has nothing now ends the copy")
    elif info_src.same_file(info_dst) and not isinstance(src, Window):
        # Downwards, block by block, it is a move within the file; upwards copy() refuses it.
        to = info_dst.size if info_dst.appends else dst.tell()
        if to <= src.tell():
            raise _NeedsMethods("src and dst are the same file: it is moved block by block")
    return src, dst


def _timeout(file: Any) -> float | None:
    """Return the timeout of a socket: it makes a descriptor nonblocking, but reads wait."""
    sock = file if type(file) is socket.socket else getattr(getattr(file, "raw", file), "_sock", 0)
    return sock.gettimeout() if isinstance(sock, socket.socket) else None


def _info(file: Any, side: str) -> Any:
    try:
        return endpoint.info_of(file, "copyfileobj", side)
    except (TypeError, ValueError, OSError) as error:
        raise _NeedsMethods(str(error)) from None


def _real(given: Any, side: str) -> Any:
    """Return the object whose descriptor has the very bytes of `given`."""
    if isinstance(given, Window):
        endpoint.info_of(given, "copyfileobj", side)  # has no methods that could refuse it
        return given
    try:
        if not isinstance(given, int):  # it has neither read() nor write()
            return objects.resolve(given, side == "dst", known=True)
    except (objects.Unreal, ValueError) as reason:
        raise _NeedsMethods(f"{side} {reason}") from None
    raise _NeedsMethods(f"{side} is a number, without methods")


# ---- what is not --------------------------------------------------------------------------------


def _by_blocks(fsrc: Any, fdst: Any, length: int, why: str) -> TransferResult:
    """Copy as shutil does, and count."""
    read: Callable[[int], Any] = fsrc.recv if type(fsrc) is socket.socket else fsrc.read
    copying = BlockCopy(_put_function(fdst), Fallback("copy", 0, why), method="python")
    try:
        return copying.run(_blocks(read, length))
    except BaseException as error:
        with contextlib.suppress(AttributeError):  # an exception that takes no attributes
            error.result = copying.result()  # type: ignore[attr-defined]
            held = b"" if copying.rest is None else copying.rest
            error.held = bytes(held) if isinstance(held, memoryview) else held  # type: ignore[attr-defined]
        raise


def _blocks(read: Callable[[int], Any], length: int) -> Iterator[Any]:
    while block := read(length):
        yield block


def _put_function(fdst: Any) -> Put:
    """Return a function that writes a block, and returns how much went and what is left."""
    if type(fdst) is socket.socket:
        return lambda block: _rest(block, fdst.send(block))
    write = fdst.write
    if not objects.is_raw(fdst):
        return lambda block: (write(block), (_size(block), None))[1]

    def put(block: Any) -> tuple[int, Any]:
        # A raw file may take a part, or None when it would block; shutil would lose the rest.
        n = write(block)
        if n is None:
            ready(fdst.fileno(), select.POLLOUT, None)
        return _rest(block, n or 0)

    return put


def _rest(block: Any, n: int) -> tuple[int, Any]:
    if n == _size(block):
        return n, None
    return n, memoryview(block).cast("B")[n:]


def _size(block: Any) -> int:
    """Return the number of bytes, or characters of a str, or items of anything else."""
    if isinstance(block, str | bytes | bytearray):
        return len(block)
    try:
        return memoryview(block).nbytes
    except TypeError:
        return length_hint(block)
