"""asyncio streams as sources and destinations: their descriptor, and the bytes in their buffers.

Rule 1: what the reader has read ahead goes first, and what the writer has not sent yet is sent
        before anything else is. A call that is refused has taken nothing.
Rule 2: a reader is paused while its descriptor is used, and goes on after; streams stay their
        owner's to close.
Rule 3: nothing here waits before the arguments have been checked: what is raised while unsent bytes
        are waited for can have counts.
Rule 4: a connection that its peer has broken fails as its socket would, though asyncio has closed
        that: first the bytes that came, then the reset. One that its owner has closed is refused.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel

from .._kernel.number import is_a
from .._kernel.objects import ASYNCIO_TLS
from .._kernel.ready import ready

__all__ = ["Streams"]

_CHECK_SECONDS = 1.0
_PLAINTEXT = (
    f"which encrypts in user space ({ASYNCIO_TLS}): moving bytes through its socket would put "
    "plaintext on the wire. Take an ssl.SSLSocket with kernel TLS, or end TLS in a proxy in front"
)
# What asyncio and uvloop call them.
_READ_PIPES = ("_UnixReadPipeTransport", "ReadUnixTransport")
_WRITE_PIPES = ("_UnixWritePipeTransport", "WriteUnixTransport")


class _Stream:
    """An asyncio StreamReader, a StreamWriter, or the two of one connection."""

    def __init__(self, reader: Any, writer: Any, name: str) -> None:
        self.reader, self.writer, self.name = reader, writer, name
        self.transport = reader._transport if writer is None else writer.transport
        self.broken: OSError | None = None
        self._buffer: Any = None
        self._resumes = False
        if self.transport is None:
            raise TypeError(f"{name} is a StreamReader without a transport, and has no descriptor")
        if self._is_tls:
            raise TypeError(f"{name} is a TLS stream, {_PLAINTEXT}")
        if reader is not None and reader._transport is not self.transport:
            raise TypeError(
                f"{name}: this StreamReader and StreamWriter are not of one connection; give a "
                "pair of descriptors"
            )

    @property
    def _is_tls(self) -> bool:
        if self.transport.get_extra_info("ssl_object") is not None:
            return True
        # start_tls() of Python 3.11 leaves the reader the transport that is under TLS now.
        return type(self.transport.get_protocol()).__name__ == "SSLProtocol"

    # -- what is under it ----------------------------------------------------------------------

    def descriptor(self) -> Any:
        """Return the descriptor; of a broken stream, one that fails or ends in the same way."""
        error = None if self.reader is None else self.reader.exception()
        if error is None and not self.transport.is_closing():
            fd = self._fd
            if fd < 0:
                raise ValueError(f"{self.name}: its transport has no descriptor")
            return fd
        if self.writer is None and error is None and self._is(_READ_PIPES) and self.reader._eof:
            return open(os.devnull, "rb", buffering=0)  # what it holds is the rest
        self.broken = self._why_broken()
        if self.broken is None:
            raise ValueError(f"{self.name}: its transport is closed")
        return _broken_socket()

    def _is(self, kinds: tuple[str, ...]) -> bool:
        return type(self.transport).__name__ in kinds

    @property
    def _fd(self) -> int:
        for kind in ("socket", "pipe"):
            with contextlib.suppress(AttributeError, ValueError):  # of uvloop's, closed
                fd = int(self.transport.get_extra_info(kind).fileno())
                if fd >= 0:
                    return fd
        return -1

    @property
    def _lost(self) -> Any:
        """A future, done once the protocol has lost its connection; None where it has none."""
        try:
            return self.writer._protocol._get_close_waiter(self.writer)
        except (AttributeError, NotImplementedError):
            return None

    def _why_broken(self) -> OSError | None:
        """Return the error of a connection that its peer broke; None if this side closed it."""
        why: BaseException | None = None
        for reader in (self.reader, getattr(self.writer, "_reader", None)):
            why = why or (None if reader is None else reader.exception())
        lost = None if self.writer is None else self._lost
        if why is None and lost is not None and lost.done() and not lost.cancelled():
            why = lost.exception()
        if why is None and self._is(_WRITE_PIPES):
            # It is closed without a word when its reader goes.
            why = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        # asyncio may know it, and call connection_lost() only in the next turn of the loop.
        if why is None and (self._fd < 0 or not _has_hung_up(self._fd)):
            return None
        err = getattr(why, "errno", None) or errno.ECONNRESET
        broken = OSError(err, f"{self.name}: its connection broke: {os.strerror(err)}")
        broken.__cause__ = why
        return broken

    # -- what the reader holds -----------------------------------------------------------------

    def read_ahead(self, most: int | None) -> bytes:
        """Take the bytes in the reader's buffer; there is no public way to, without a wait."""
        if self.reader is None:
            return b""
        self._buffer = self.reader._buffer
        ahead = bytes(self._buffer[: None if most is None else max(0, most)])
        # Another object in its place: to undo that twice, or not done, is no harm.
        self.reader._buffer = self._buffer[len(ahead) :]
        return ahead

    @property
    def has_writer(self) -> bool:
        return self.writer is not None

    def put_back(self) -> None:
        """Undo `read_ahead`, as long as the loop has not run since."""
        if self._buffer is not None:
            self.reader._buffer = self._buffer

    def pause(self) -> None:
        if self.reader is not None and not self.transport.is_closing():
            self._resumes = self.reader._paused or self._is_reading
            self.transport.pause_reading()

    @property
    def _is_reading(self) -> bool:
        try:
            return bool(self.transport.is_reading())
        except NotImplementedError:  # asyncio's of a pipe, until Python 3.11
            return not self.transport._paused

    def resume(self) -> None:
        """Let the reader read again, unless its own buffer is too full for more."""
        if not self._resumes or self.transport.is_closing():
            return
        if self.reader._paused:
            self.reader._maybe_resume_transport()
        else:
            self.transport.resume_reading()

    # -- what the writer has not sent ----------------------------------------------------------

    async def sent(self) -> OSError | None:
        """Wait until the writer's buffer is written; return the error of a broken connection."""
        if self.broken is None and self.transport.get_write_buffer_size():
            with self._write_events() as woken:
                while self.transport.get_write_buffer_size() and not self.transport.is_closing():
                    woken[0] = anyio.Event()
                    # A protocol without a word for its end is looked at now and then.
                    with anyio.move_on_after(_CHECK_SECONDS if self._lost is None else math.inf):
                        await woken[0].wait()
            if self.transport.is_closing():
                await anyio.lowlevel.checkpoint()  # connection_lost() is called meanwhile
                self.broken = self._why_broken()
                if self.broken is None:
                    raise ConnectionAbortedError(
                        errno.ECONNABORTED,
                        f"{self.name}: its transport was closed while unsent bytes were in it",
                    )
        return self.broken

    @contextlib.contextmanager
    def _write_events(self) -> Iterator[list[anyio.Event]]:
        """Set the event in the list whenever the kernel takes bytes, or the connection is lost.

        Then the transport has written too. The limits of its buffer, the other way to be notified,
        are those that others wait with in drain(), and uvloop cannot take back that it has paused
        them.
        """
        loop, lost = sys.modules["asyncio"].get_running_loop(), self._lost
        woken = [anyio.Event()]

        def wake(_lost: object = None) -> None:
            woken[0].set()

        with _duplicate(self._fd) as own:
            try:
                loop.add_writer(own.fileno(), wake)
                if lost is not None:
                    lost.add_done_callback(wake)
                yield woken
            finally:
                loop.remove_writer(own.fileno())
                if lost is not None:
                    lost.remove_done_callback(wake)


class _Transport(_Stream):
    """A transport of asyncio or uvloop without its streams: a protocol has it."""

    def __init__(self, transport: Any, name: str, reads: bool) -> None:
        self.reader = self.writer = None
        self.transport, self.name = transport, name
        self.broken = self._buffer = None
        self._resumes = False
        if self._is_tls:
            raise TypeError(f"{name} is a TLS transport, {_PLAINTEXT}")
        if reads and hasattr(transport, "pause_reading") and self._is_reading:
            raise ValueError(
                f"{name} is a transport that reads, and gives what comes to its protocol; call its "
                "pause_reading() before, and pass on what the protocol was given"
            )

    @property
    def has_writer(self) -> bool:
        try:
            self.transport.get_write_buffer_size()
        except (AttributeError, NotImplementedError):  # of a pipe that is read
            return False
        return True


def _duplicate(fd: int) -> Any:
    """Duplicate a descriptor into a file object that exists before: no exception can leak it."""
    own = open(os.devnull, "rb", buffering=0)  # noqa: SIM115 - it is the caller's
    os.dup2(fd, own.fileno(), inheritable=False)
    return own


def _broken_socket() -> socket.socket:
    """Return a connection that its peer has reset."""
    near, far = socket.socketpair()
    near.send(b"\0")
    far.close()  # with a byte in it that it has not read
    return near


def _has_hung_up(fd: int) -> bool:
    """Return whether poll(2) reports POLLHUP or POLLERR."""
    return bool(ready(fd, 0) & (select.POLLHUP | select.POLLERR))


def _stream(given: Any, name: str, reads: bool) -> _Stream | None:
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
    if all(hasattr(given, method) for method in ("get_extra_info", "get_protocol", "is_closing")):
        return _Transport(given, name, reads)
    return None


def _copy_result(error: BaseException) -> None:
    """Copy `result`, `held` and `unread` from the exception that this one has replaced."""
    first = error.__context__
    if first is not None and hasattr(first, "result") and not hasattr(error, "result"):
        for name in ("result", "held", "unread"):
            if hasattr(first, name):
                setattr(error, name, getattr(first, name))


class Streams:
    """The streams of one call: paused in the block, and resumed after it.

    An asyncio StreamReader, StreamWriter or pair of them stands for its descriptor, which `take`
    gives as a number: to be duplicated before the event loop goes on. So does a transport that has
    no streams, which its owner has paused and will let go on. A trio SocketStream has its
    socket in `.socket`. Anything else stands for itself.
    """

    def __init__(self) -> None:
        self._all: list[_Stream] = []
        self._own: list[Any] = []
        self._accepted = False

    def take(
        self,
        given: Any,
        name: str,
        most: int | None = None,
        *,
        keep: bool = False,
        reads: bool = True,
    ) -> tuple[Any, bytes]:
        """Return the descriptor of `given`, and up to `most` bytes that it had read ahead.

        With `keep` it is good until the end; without `reads` it is only written to. Raises
        TypeError for TLS, and ValueError for a transport that its owner has closed, or has not
        paused.
        """
        stream = _stream(given, name, reads)
        if stream is None:
            # Other objects with a socket may encode their bytes.
            return (given.socket if is_a(given, "trio", "SocketStream") else given), b""
        self._all.append(stream)
        under = stream.descriptor()
        if keep and isinstance(under, int):
            under = _duplicate(under)
        if not isinstance(under, int):
            self._own.append(under)
        stream.pause()
        return under, stream.read_ahead(most)

    async def sent(self) -> dict[str, OSError]:
        """Wait until the writers' buffers are written; return errors of broken ones, by name.

        What was read ahead is the transfer's from now on.
        """
        self._accepted = True
        broken = {}
        for stream in self._all:
            # The socket of a pair that was broken before fails by itself, after its bytes.
            if stream.has_writer and (stream.reader is None or stream.broken is None):
                error = await stream.sent()
                if error is not None:
                    broken[stream.name] = error
        return broken

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                _copy_result(error)
            self._restore(error)
        except BaseException as second:
            self._restore(error)  # a signal handler has raised
            _copy_result(second)
            raise

    def _restore(self, error: BaseException | None) -> None:
        for own in self._own:
            own.close()
        for stream in self._all:
            if error is not None and not self._accepted and not hasattr(error, "result"):
                stream.put_back()
            elif isinstance(error, ConnectionError) and error.__cause__ is None and stream.broken:
                error.__cause__ = stream.broken.__cause__
            stream.resume()
