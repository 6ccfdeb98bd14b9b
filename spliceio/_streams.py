"""Taking over from asyncio: what is under a StreamReader or StreamWriter, and what they hold.

Rule 1: what the reader has read ahead goes first, and what the writer has not sent yet is sent
        before anything else is. A call that is refused has taken nothing.
Rule 2: a reader is paused while its descriptor is lent, and goes on after; streams stay their
        owner's to close.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio

__all__ = ["lent"]

_SOON = 0.001


class _Stream:
    """An asyncio StreamReader, a StreamWriter, or the two of one connection."""

    def __init__(self, reader: Any, writer: Any, name: str) -> None:
        self.reader, self.writer, self.name = reader, writer, name
        self.transport = reader._transport if writer is None else writer.transport
        self.ahead = b""
        if self.transport is None:
            raise TypeError(f"{name} is a StreamReader without a transport, and has no descriptor")
        if self.transport.get_extra_info("ssl_object") is not None:
            raise TypeError(
                f"{name} is a TLS stream, which encrypts in user space: moving bytes through its "
                "socket would put plaintext on the wire. End TLS in a proxy in front"
            )
        if self.transport.is_closing() and not self._has_ended:
            raise ValueError(f"{name}: its transport is closed")

    @property
    def _has_ended(self) -> bool:
        """Whether it reads a pipe that has ended, and is closed then: what it holds is the rest."""
        # Closed, it gives no descriptor to look at; asyncio's and uvloop's have these names.
        is_pipe = type(self.transport).__name__ in ("_UnixReadPipeTransport", "ReadUnixTransport")
        return self.writer is None and is_pipe and bool(self.reader._eof)

    def descriptor(self) -> int:
        """Duplicate what is under it."""
        if self._has_ended and self.transport.is_closing():
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for kind in ("socket", "pipe"):
            under = self.transport.get_extra_info(kind)
            if under is not None and under.fileno() >= 0:
                return os.dup(under.fileno())
        raise ValueError(f"{self.name}: its transport is closed, or has no descriptor")

    def read_ahead(self, most: int | None) -> bytes:
        """Take out what the reader holds; it has no public way to, short of waiting for more."""
        wanted = None if most is None else max(0, most)
        self.ahead = bytes(self.reader._buffer[:wanted])
        del self.reader._buffer[: len(self.ahead)]
        return self.ahead

    def put_back(self) -> None:
        """Undo `read_ahead`."""
        self.reader._buffer[:0] = self.ahead

    async def sent(self) -> None:
        """Wait until the writer has given everything to the kernel."""
        while self.transport.get_write_buffer_size():
            await anyio.sleep(_SOON)  # no event of a transport tells that it is empty
            if self.transport.is_closing():
                raise ConnectionResetError(
                    errno.ECONNRESET, f"{self.name}: the connection broke with unsent bytes in it"
                )

    def pause(self) -> None:
        if self.reader is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Let the reader have bytes again, unless its own buffer is too full for more."""
        if self.reader is None or self.transport.is_closing():
            return
        if self.reader._paused:
            self.reader._maybe_resume_transport()
        else:
            self.transport.resume_reading()


def _stream(given: Any, name: str) -> _Stream | None:
    streams = sys.modules.get("asyncio.streams")
    if streams is None:
        return None
    if isinstance(given, streams.StreamWriter):
        return _Stream(None, given, name)
    if isinstance(given, streams.StreamReader):
        return _Stream(given, None, name)
    if (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[0], streams.StreamReader)
        and isinstance(given[1], streams.StreamWriter)
    ):
        return _Stream(*given, name)
    return None


@contextlib.asynccontextmanager
async def lent(given: Any, name: str, most: int | None = None) -> AsyncIterator[tuple[Any, bytes]]:
    """Give what stands for `given` in a transfer, and up to `most` bytes read ahead of it.

    An asyncio StreamReader, StreamWriter or pair of them stands for its descriptor. A trio
    SocketStream has its socket in `.socket`. Anything else stands for itself. Raises TypeError for
    TLS, and ValueError for a transport that is closing.

    An exception without `result` comes from before the transfer: the reader gets its bytes back.
    """
    stream = _stream(given, name)
    if stream is None:
        # An object that is written to may have a socket of its own, for bytes of another form.
        inner = None if hasattr(given, "write") else getattr(given, "socket", None)
        yield (inner if hasattr(inner, "fileno") else given), b""
        return
    stream.pause()
    try:
        if stream.writer is not None:
            await stream.sent()
        fd = stream.descriptor()
        try:
            yield fd, b"" if stream.reader is None else stream.read_ahead(most)
        except BaseException as error:
            if stream.reader is not None and not hasattr(error, "result"):
                stream.put_back()
            raise
        finally:
            os.close(fd)
    finally:
        stream.go_on()
