"""Transport of a connection whose responses may hold files.

It stands between uvicorn's protocol and the transport of the event loop, and is that transport in
everything but two things: the head of a response waits for the first bytes of the body, so that
both leave in one segment; and while a file is being sent, nothing else is written.

Rule 1: a head waits for a few turns of the loop at the most, and for nothing else.
Rule 2: the kernel writes to the socket only while the transport has nothing to write, and is not
the transport of a TLS connection.
Rule 3: a file that could not be sent whole ends the connection, whatever the app does next.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable
from typing import Any

from .._transfer import act
from .._transfer.result import TransferResult
from .._transfer.send import make_send_file
from ..aio._driver import nothing_unsent, run_and_close
from ._disk import copy_blocks

__all__ = ["Outlet"]

_TURNS = 8
"""How long a head waits. Between the messages of an app there is no turn; with Starlette's
BaseHTTPMiddleware there are some."""
_SMALL = 16384
"""Up to this size a body is joined to its head, and not written after it."""
_FULL = (errno.EMFILE, errno.ENFILE)
_log = logging.getLogger("uvicorn.error")
_said: set[str] = set()


class _Gone(Exception):
    """The client takes no more."""


class Outlet:
    """The transport that uvicorn's protocol is given, on top of the event loop's."""

    def __init__(self, under: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.under = under
        self.closes_later = False
        """Whether the connection was to be closed while a file was being sent."""
        self.timeout: float | None = None
        """The longest time in seconds in which nothing of a file goes."""
        self._loop = loop
        self._next_is_head = False
        self._head = b""
        self._release: asyncio.Handle | None = None
        self.is_sending = False
        """Whether a file is being sent."""
        self._why_copied: str | None = None
        if under.get_extra_info("sslcontext") or under.get_extra_info("ssl_object"):
            self._why_copied = "TLS is ended by uvicorn"
        self._socket = under.get_extra_info("socket")
        if self._socket is None:
            self._why_copied = "the transport has no socket"

    # -- the head ----------------------------------------------------------------------------------

    def expect_head(self) -> None:
        """Let what is written next wait for what is written after it."""
        self._next_is_head = True

    def keep_head(self) -> None:
        """Let the head wait until what it waits for is there, or will not be: `release_head`."""
        if self._release is not None:
            self._release.cancel()
            self._release = None

    def release_head(self) -> None:
        """Let it wait some turns more, if it still does."""
        if self._head:
            self._wait(_TURNS)

    def _taken_head(self) -> bytes:
        head, self._head = self._head, b""
        self.keep_head()
        return head

    def _wait(self, turns: int) -> None:
        if turns:
            self._release = self._loop.call_soon(self._wait, turns - 1)
        else:
            self.flush()

    def flush(self) -> None:
        """Write the head that waits."""
        if self._head:
            self.under.write(self._taken_head())

    def write(self, data: Any) -> None:
        """Write, after the head that waits; while a file is being sent, write nothing."""
        if self.is_sending or not data:
            return  # of a request that is none, after the present one: it gets no answer
        if self._next_is_head:
            self._next_is_head = False
            self.flush()
            self._head = bytes(data)
            self._wait(_TURNS)
        elif not self._head:
            self.under.write(data)
        elif len(data) <= _SMALL:
            self.under.write(b"".join((self._taken_head(), data)))  # of any kind of bytes
        else:
            self.under.write(self._taken_head())
            self.under.write(data)

    def writelines(self, data: Iterable[Any]) -> None:
        """Write them as one."""
        self.write(b"".join(data))

    # -- files -------------------------------------------------------------------------------------

    async def send_file(
        self, flow: Any, fd: int, offset: int, count: int, before: bytes, after: bytes
    ) -> bool:
        """Send a part of a file, after the head that waits; False if the client has gone.

        Only one at a time; `before` and `after` go around it, in its segments.

        Raises OSError when the file cannot be read, UnexpectedEOF when it is shorter. Then the
        connection is closed.
        """
        self.is_sending = True
        try:
            header = self._taken_head() + before
            if not await self._emptied(flow):
                return False
            if self._why_copied is None:
                await self._send(flow, fd, offset, count, header, after)
            else:
                _say_once(self._why_copied)
                await self._copy(flow, fd, offset, count, header, after)
            return True
        except _Gone:
            self.under.abort()
            return False
        except BaseException:
            self.under.close()
            raise
        finally:
            self.is_sending = False

    async def _send(
        self, flow: Any, fd: int, offset: int, count: int, header: bytes, after: bytes
    ) -> None:
        given = self._socket.fileno(), fd, offset, count, header, after, self.timeout
        try:
            done = act.sent(*given, None, cached_only=True)
            if isinstance(done, TransferResult):
                return
            transfer = make_send_file(*given) if done is None else done
        except OSError as error:
            result = getattr(error, "result", None)
            if error.errno not in _FULL or (result is not None and result.moved):
                raise
            # No descriptor left for the duplicates: that is no reason to fail.
            await self._copy(flow, fd, offset, count, header, after)
            return
        try:
            await run_and_close(transfer, None, nothing_unsent)
        except OSError:
            if transfer.failed_at == "dst":
                raise _Gone from None
            raise

    async def _copy(
        self, flow: Any, fd: int, offset: int, count: int, header: bytes, after: bytes
    ) -> None:
        pending = header

        async def put(data: bytes, left: int) -> None:
            nonlocal pending
            self.under.write(pending + data if pending else data)
            pending = b""
            if flow.write_paused:
                await flow.drain()
            if self.under.is_closing():
                raise _Gone

        await copy_blocks(fd, offset, count, put)
        if after:
            self.under.write(after)

    async def _emptied(self, flow: Any) -> bool:
        """Wait until the transport has written what it holds; False if it was closed before."""
        under = self.under
        if under.get_write_buffer_size() and not under.is_closing():
            under.set_write_buffer_limits(high=0)
            try:
                while under.get_write_buffer_size() and not under.is_closing():
                    await (flow.drain() if flow.write_paused else asyncio.sleep(0))
            finally:
                if not under.is_closing():
                    under.set_write_buffer_limits()
        return not under.is_closing()

    # -- the transport -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close, after what is to be written; after the response, while a file is being sent."""
        if self.is_sending:
            self.closes_later = True
            return
        self.flush()
        self._end()

    def _end(self) -> None:
        self.under.close()

    def abort(self) -> None:
        """Close at once."""
        self._taken_head()
        self.under.abort()

    def __getattr__(self, name: str) -> Any:
        """Be the transport in everything else."""
        return getattr(self.under, name)


def _say_once(why: str) -> None:
    if why not in _said:
        _said.add(why)
        _log.warning("spliceio: files are copied, not sent by sendfile: %s", why)
