"""`FileWrapper`: `wsgi.file_wrapper` (PEP 3333), sent by sendfile.

Rule 1: to an application and to middleware it is an iterable of blocks, and no more.
Rule 2: however it is sent, the same bytes go out and the position ends where reading leaves it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._kernel import objects
from .._kernel.arguments import FileDescriptorLike, contiguous
from .._kernel.number import is_a, number
from .._kernel.ready import ready
from .._public import public
from .._transfer.blocks import BlockCopy, written_whole
from .._transfer.build import checked_count
from .._transfer.flow import idle_ns
from .._transfer.result import Fallback, TransferResult
from .._transfer.send import send_file
from .place import place_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FileWrapper"]

_BLOCK = 262144
_MOST_SECONDS = 2_000_000
"""The most that settimeout() is given, about 23 days."""


@public
class FileWrapper:
    """Iterate over a file in blocks of `blksize` bytes, or send it whole with `send`.

    `filelike` is anything with `read()`; `close` is there when `filelike` has one, as PEP 3333
    asks. For a WSGI server: put this class into `wsgi.file_wrapper` of the environment, and where
    an application returns an instance of it, call `send` in place of iterating.

    Iterating raises what `filelike.read` raises.
    """

    close: Callable[[], object]

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def send(
        self,
        sock: FileDescriptorLike,
        *,
        header: Buffer = b"",
        count: int | None = None,
        timeout: float | None = None,
    ) -> TransferResult:
        """Send `header`, then the file from its position on: `count` bytes, or all to its end.

        A real file goes by `send_file`; anything else, and a `sock` whose TLS is not the kernel's,
        by reading and sending: the result then says method "python", and why in `fallbacks`. What
        goes out is what iterating gives, and no more than `count`. A file with less than
        `count` bytes is sent to its end, as reading would. `timeout` is the longest time in seconds
        without any byte moving.

        Raises TimeoutError, OSError when a side fails (before the header has left, when the file
        cannot be read), and what `filelike.read` raises; text is a
        TypeError. What had gone out until then is known only of a real file (`result.moved` of the
        exception), so the connection is to be closed.
        """
        count = checked_count(count)
        idle_ns(timeout)  # refuses what is no time
        head = contiguous(header, "FileWrapper.send: header")
        try:
            place = place_of(self.filelike, "FileWrapper.send", None, count)
            if not place.most and count != 0:
                raise ValueError("nothing is left in the file")
        except (TypeError, ValueError) as error:  # it has to be read
            return self._send_read(sock, head, count, timeout, str(error))
        try:
            result = send_file(
                sock, place.file, place.begin, place.most, header=head, timeout=timeout
            )
        except (TypeError, ValueError) as error:  # refused: nothing has been sent
            return self._send_read(sock, head, count, timeout, str(error))
        except OSError as error:
            with contextlib.suppress(AttributeError):
                place.move(max(0, error.result.moved - len(head)))  # type: ignore[attr-defined]
            raise
        place.move(place.most)
        return result

    def _send_read(
        self, sock: Any, head: bytes, count: int | None, timeout: float | None, why: str
    ) -> TransferResult:
        reason = Fallback("sendfile", errno.EINVAL, why)
        with _writer(sock, timeout) as write:
            copying = BlockCopy(written_whole(write), reason, method="python", around=len(head))
            return copying.run(self._blocks(head, count))

    def _blocks(self, head: bytes, left: int | None) -> Iterator[bytes]:
        """Read `left` bytes, or all to the end, block by block; `head` is part of the first."""
        while left is None or left:
            data = self.filelike.read(_BLOCK if left is None else min(_BLOCK, left))
            if not data:
                break
            if isinstance(data, str):
                raise TypeError("FileWrapper: the file gives text; open it in binary mode")
            if left is not None:
                data = data[:left]  # whatever it gives: no more has been promised
                left -= len(data)
            yield head + data
            head = b""
        yield head


@contextlib.contextmanager
def _writer(sock: Any, timeout: float | None) -> Iterator[Callable[[bytes], None]]:
    """Give a function that writes all it is given, to a descriptor or by an object's method."""
    if is_a(sock, "ssl", "SSLSocket"):
        kept = sock.gettimeout()
        if timeout is not None or kept == 0:
            sock.settimeout(None if timeout is None else min(timeout, _MOST_SECONDS))
        try:
            yield functools.partial(_encrypt, sock)
        finally:
            sock.settimeout(kept)
        return
    try:
        real = objects.real(sock, "FileWrapper.send", "sock", sends=True)
    except TypeError:
        put = getattr(sock, "write", None) or getattr(sock, "sendall", None)
        if put is None:
            raise
        yield functools.partial(_put, sock, put)
        getattr(sock, "flush", lambda: None)()
    else:
        if isinstance(real, io.BufferedWriter | io.BufferedRandom):
            real.flush()
        yield functools.partial(_write, real, timeout)


def _put(sock: Any, put: Callable[[Any], Any], data: bytes) -> None:
    """Write all of it by an object's method; a raw file may take a part."""
    view = memoryview(data)
    while view:
        taken = put(view)
        if taken is None and isinstance(sock, io.RawIOBase):
            raise BlockingIOError(errno.EAGAIN, "FileWrapper.send: sock.write would block", 0)
        # Many return nothing, and have taken everything.
        n = len(view) if taken is None else int(taken)
        if not 0 < n <= len(view):
            raise OSError(errno.EIO, f"FileWrapper.send: sock.write returned {taken}")
        view = view[n:]


def _encrypt(sock: Any, data: bytes) -> None:
    # Not sendall(): the timeout of a socket limits that as a whole, however much moves.
    view = memoryview(data)
    while view:
        view = view[sock.send(view) :]


def _write(sock: Any, timeout: float | None, data: bytes) -> None:
    fd, view = number(sock, "FileWrapper.send: sock"), memoryview(data)
    if timeout is None and isinstance(sock, socket.socket):
        timeout = sock.gettimeout() or None
    while view:
        if not ready(fd, select.POLLOUT, timeout):
            raise TimeoutError(errno.ETIMEDOUT, f"FileWrapper: nothing moved for {timeout:g} s")
        with contextlib.suppress(BlockingIOError):
            if isinstance(sock, socket.socket):
                view = view[sock.send(view, socket.MSG_DONTWAIT) :]
            else:
                # So much fits wherever poll() has seen room: no blocking descriptor hangs.
                view = view[os.write(fd, view[: select.PIPE_BUF]) :]
