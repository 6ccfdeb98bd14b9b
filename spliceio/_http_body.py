"""The body of a response: a file, one range of it, or several as multipart/byteranges.

Rule 1: the head goes with the first bytes of the body, in one call to the kernel or one write.
Rule 2: the kernel sends only where `wfile` is nothing but the socket: whoever put something else
in its place, TLS included, gets every byte through it.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any

from . import _objects
from ._errors import UnexpectedEOF
from ._flow import Fallback
from ._send import send_file, send_ranges
from ._transfer import TransferResult

__all__ = ["Body"]

_BLOCK = 65536
"""sendall() must be done within the timeout of the socket, however slow the client."""


class Body:
    """What of a file is to be sent, how long that makes the body, and the sending of it."""

    def __init__(
        self, fd: int, size: int, kind: str, ranges: list[tuple[int, int]] | None = None
    ) -> None:
        self.fd = fd
        self.ranges = [(0, size)] if ranges is None else ranges
        self.parts: list[bytes] = [b""]
        self.end = b""
        self.size = sum(count for _, count in self.ranges)
        self.fields = [("Content-Type", kind), ("Content-Length", str(self.size))]
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
        length = self.size + sum(map(len, self.parts)) + len(self.end)
        self.fields = [
            ("Content-Type", f"multipart/byteranges; boundary={boundary}"),
            ("Content-Length", str(length)),
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

    def _send_read(self, wfile: Any, head: bytes, refused: Fallback) -> TransferResult:
        begun, pending = time.monotonic(), head
        for part, (offset, left) in zip(self.parts, self.ranges, strict=True):
            pending += part
            while left:
                data = os.pread(self.fd, min(left, _BLOCK), offset)
                if not data:
                    raise UnexpectedEOF(errno.ENODATA, "the file has become shorter")
                pending += data
                if len(pending) > _BLOCK // 2:
                    wfile.write(pending)
                    pending = b""
                offset, left = offset + len(data), left - len(data)
        wfile.write(pending + self.end)
        wfile.flush()
        around = len(head) + sum(map(len, self.parts)) + len(self.end)
        return TransferResult(
            around + self.size,
            "read_write",
            time.monotonic() - begun,
            (refused,),
            {"read_write": self.size, "send": around},
        )


def _why_not(sock: Any, wfile: Any) -> str | None:
    """Say why the kernel may not write to the socket behind the back of `wfile`, if so."""
    try:
        file = _objects.judged(wfile, True)
    except _objects.UnrealTls as why:
        return f"wfile {why}"
    except _objects.Unreal:
        return "wfile is not the socket of the connection"
    under = getattr(getattr(file, "raw", file), "_sock", file)
    if under is not sock or not isinstance(sock, socket.socket):
        return "wfile is not the socket of the connection"
    return None


def _content_range(offset: int, count: int, size: int) -> str:
    return f"bytes {offset}-{offset + count - 1}/{size}"
