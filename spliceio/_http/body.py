"""Response body: a file, one range of it, or several as multipart/byteranges.

Rule 1: the head goes with the first bytes of the body, in one call to the kernel or one write.
Rule 2: the kernel sends only where `wfile` is nothing but the socket: with another object in
its place, for TLS or a filter, every byte goes through that object.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any

from .._kernel import objects
from .._kernel.errors import UnexpectedEOF
from .._transfer.blocks import BlockCopy, written_whole
from .._transfer.result import Fallback, TransferResult
from .._transfer.send import send_file, send_ranges

__all__ = ["Body", "Remaining", "rest_of"]

_BLOCK = 65536
"""sendall() must be done within the timeout of the socket, however slow the client."""


class Body:
    """The ranges of a file to send, the length of the body, and its sending."""

    def __init__(
        self, fd: int, size: int, kind: str, ranges: list[tuple[int, int]] | None = None
    ) -> None:
        self.fd = fd
        self.partial = ranges is not None
        self.ranges = [(0, size)] if ranges is None else ranges
        self.parts: list[bytes] = [b""]
        self.end = b""
        self.size = sum(count for _, count in self.ranges)
        self.length = self.size
        self.fields = [("Content-type", kind), ("Content-Length", str(self.size))]
        if ranges is not None and len(ranges) == 1:
            self.fields.append(("Content-Range", _content_range(*ranges[0], size)))
        elif ranges is not None:
            self._several(size, kind)

    def _several(self, size: int, kind: str) -> None:
        boundary = os.urandom(12).hex()
        self.parts = [
            f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n"
            f"Content-Range: {_content_range(offset, count, size)}\r\n\r\n".encode("latin-1")
            for offset, count in self.ranges
        ]
        self.end = f"\r\n--{boundary}--\r\n".encode()
        self.length += sum(map(len, self.parts)) + len(self.end)
        self.fields = [
            ("Content-type", f"multipart/byteranges; boundary={boundary}"),
            ("Content-Length", str(self.length)),
        ]

    def send(self, sock: Any, wfile: Any, head: bytes) -> TransferResult:
        """Send head and body; `wfile` is where a handler writes, `sock` what should be under it.

        Raises what `send_file` raises.
        """
        wfile.flush()
        if (why := _why_not(sock, wfile)) is not None:
            return self._send_read(wfile, head, Fallback("sendfile", errno.EINVAL, why))
        try:
            if self.end:
                return send_ranges(
                    sock, self.fd, self.ranges, headers=self.parts, header=head, trailer=self.end
                )
            return send_file(sock, self.fd, *self.ranges[0], header=head)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or hasattr(error, "result"):
                raise
            # No descriptor left for the duplicates, and nothing sent: that is no reason to fail.
            refused = Fallback("sendfile", error.errno, os.strerror(error.errno))
            return self._send_read(wfile, head, refused)

    def blocks(self) -> Iterator[bytes]:
        """Read the body block by block."""
        for part, (offset, left) in zip(self.parts, self.ranges, strict=True):
            yield part
            while left:
                data = os.pread(self.fd, min(left, _BLOCK), offset)
                if not data:
                    raise UnexpectedEOF(errno.ENODATA, "the file has become shorter")
                yield data
                offset, left = offset + len(data), left - len(data)
        yield self.end

    def opened(self) -> io.RawIOBase | io.BufferedReader:
        """Return the body as a file to read, which the caller closes.

        A whole file is that file, opened anew, with a position of its own.
        """
        if not self.partial:
            with contextlib.suppress(OSError):
                return open(f"/proc/self/fd/{self.fd}", "rb")
        return Remaining(self)

    def _send_read(self, wfile: Any, head: bytes, refused: Fallback) -> TransferResult:
        around = len(head) + sum(map(len, self.parts)) + len(self.end)
        put = written_whole(wfile.write)
        copying = BlockCopy(put, refused, method="read_write", around=around)
        copying.run(self._together(head))
        wfile.flush()
        return copying.result()

    def _together(self, head: bytes) -> Iterator[bytes]:
        """Read head and body; small pieces are one block."""
        pending = head
        for data in self.blocks():
            pending += data
            if len(pending) > _BLOCK // 2:
                yield pending
                pending = b""
        yield pending


class Remaining(io.RawIOBase):
    """A body that is not a whole file, as a raw file to be read once.

    From now on the body has a descriptor that is this object's.
    """

    _fd = -1  # close() is also called for an object that could not be made

    def __init__(self, body: Body) -> None:
        self._fd = body.fd = os.dup(body.fd)
        self.body: Body | None = body
        """The body, until something has been read of it."""
        self._blocks, self._ahead = body.blocks(), b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes into a buffer."""
        self.body = None
        while not self._ahead:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._ahead = block
        n = min(len(buffer), len(self._ahead))
        buffer[:n], self._ahead = self._ahead[:n], self._ahead[n:]
        return n

    def close(self) -> None:
        """Close the descriptor; safe to repeat."""
        if not self.closed:
            super().close()
            if self._fd >= 0:
                os.close(self._fd)


def rest_of(source: Any, most: int | None) -> Body | None:
    """Return the bytes after the position of an open regular file, at most so many; or None.

    None for every object whose bytes may be others than its descriptor's.
    """
    try:
        file = objects.resolve(source, False, known=True)
        if not isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom):
            return None
        fd = file.fileno()
        if not file.readable():
            return None
    except (objects.Unreal, ValueError):  # it is closed
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    file.flush()
    begin = file.tell()
    count = max(0, status.st_size - begin)
    return Body(fd, 0, "", [(begin, count if most is None else min(count, most))])


def _why_not(sock: Any, wfile: Any) -> str | None:
    """Return why the kernel may not write to the socket past `wfile`; None if it may."""
    try:
        file = objects.resolve(wfile, True)
    except objects.UnrealTls as why:
        return f"wfile {why}"
    except objects.Unreal:
        return "wfile is not the socket of the connection"
    under = getattr(getattr(file, "raw", file), "_sock", file)
    if under is not sock or not isinstance(sock, socket.socket):
        return "wfile is not the socket of the connection"
    return None


def _content_range(offset: int, count: int, size: int) -> str:
    return f"bytes {offset}-{offset + count - 1}/{size}"
