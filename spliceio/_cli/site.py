"""One connection of `spliceio serve`: uvicorn's protocol, strict, with limits and a log.

uvicorn and httptools parse and frame, `StaticFiles` answers. What stands here is what a server that
faces strangers needs besides.

Rule 1: a head reaches the parser whole, and only if it can be read in one way (`_http.request`).
What cannot is answered, after the requests before it, and ends the connection.
Rule 2: after a body that nobody reads, the connection ends: it must not pass for a next request.
What the client still sends is dropped for a moment, so that it gets its response.
Rule 3: a connection has a time to begin a head, one from its first byte to its end, and one in
which something of a response must go; nothing is asked in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .._http.conditional import http_date
from .._http.docroot import BadTarget, target
from .._http.request import LONGEST, BadHead, facts, version_of
from .._version import __version__
from ..asgi._framing import httptools_parts
from ..asgi._outlet import Outlet
from ..asgi._uvicorn import Message, Sending

if TYPE_CHECKING:

    class _Base(asyncio.Protocol):
        client: Any
        cycle: Any
        pipeline: Any

        def data_received(self, data: bytes) -> None: ...
        def on_response_complete(self) -> None: ...
else:
    _Base = HttpToolsProtocol

__all__ = ["Connection", "Limits", "Site"]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_END = re.compile(rb"\r?\n\r?\n")
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_METHODS = frozenset([b"CONNECT", b"DELETE", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"])
_UNUSED = frozenset([b"content-length", b"expect", b"transfer-encoding", b"upgrade"])
_MOST_FIELDS = 100
_MOST_LOGGED = 4000
_LINGER = 2.0
_ESCAPES = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))} | {ord("\\"): "\\\\"}


@dataclass(frozen=True)
class Limits:
    """What one connection may take: seconds without movement, and bytes of a head."""

    seconds: float
    head: int = LONGEST


class _State(ServerState):
    """What uvicorn's protocols share; the fields of every response are made once a second."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._fields = 0, [(b"", b"")]

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The fields that every response has."""
        now = int(time.time())
        if now != self._second:
            date = (http_date(now) or "").encode()
            self._fields = [(b"server", b"spliceio/" + __version__.encode()), (b"date", date)]
            self._second = now
        return self._fields

    @default_headers.setter
    def default_headers(self, value: object) -> None:
        """Let uvicorn set what it begins with."""


@dataclass
class Site:
    """What all connections share."""

    config: Config
    limits: Limits
    quiet: bool
    ended: Callable[[], None]
    """Is called when a connection has ended."""
    state: _State = field(default_factory=_State)
    open: set[Connection] = field(default_factory=set)

    def log(self, line: str) -> None:
        """Write one line to standard error, by one call; errors of that are ignored."""
        if sys.stderr is None:  # closed from the start: descriptor 2 may be another file
            return
        text = line.translate(_ESCAPES)
        if len(text) > _MOST_LOGGED:
            text = f"{text[:_MOST_LOGGED]}..."
        with contextlib.suppress(OSError):
            os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


class _Lingering(Outlet):
    """An outlet whose end waits for that of the client, if something of it may be unread."""

    lingers = False

    def _end(self) -> None:
        if not self.lingers or self.under.is_closing():
            super()._end()
            return
        # Closing with something unread resets the connection, and the response may be lost.
        with contextlib.suppress(OSError, RuntimeError):
            self.under.write_eof()
        self._loop.call_later(_LINGER, self.under.abort)


class Connection(Sending, _Base):
    """The protocol of one connection."""

    _parts = staticmethod(httptools_parts)
    _outlet_of = _Lingering

    def __init__(self, site: Site) -> None:
        super().__init__(config=site.config, server_state=site.state, app_state={})
        self._site, self._ahead, self._scanned = site, bytearray(), 0
        self._is_deaf = self._has_ended = False
        self._begun: float | None = None
        self._active = self._moved = 0.0
        self._unsent = 0
        self._refusal: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        super().connection_made(transport)
        self._site.open.add(self)
        self._outlet.timeout = self._site.limits.seconds
        self._active = self.loop.time()
        self._timer = self.loop.call_later(self._site.limits.seconds, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._is_deaf = True
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        self._site.open.discard(self)
        self._site.ended()

    def eof_received(self) -> bool:
        """Go on with what was asked for before the client said that it asks for no more."""
        self._has_ended = True
        if self._outlet.lingers and not self._is_busy:
            self._outlet.under.abort()
        return self._is_busy

    def cut(self) -> None:
        """End it now."""
        self._outlet.abort()

    @property
    def _is_busy(self) -> bool:
        """Whether a request waits for its response, or for the end of it."""
        cycle = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    # -- heads -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Collect heads."""
        if self._is_deaf:
            return
        self._ahead += data
        self._read_heads()

    def _read_heads(self) -> None:
        ahead = self._ahead
        # A head that waits for the response to another is read when that has gone.
        while not self._is_deaf and not self.pipeline:
            while ahead.startswith((b"\r\n", b"\n")):  # RFC 9112, 2.2
                del ahead[: ahead.index(b"\n") + 1]
            if not ahead:
                self._begun = None
                break
            if self._begun is None:
                self._begun = self.loop.time()
            most = self._site.limits.head
            found = _END.search(ahead, max(0, self._scanned - 3))
            if found is None and len(ahead) <= most:
                self._scanned = len(ahead)
                break
            end = min(found.end() if found else len(ahead), most + 1)
            head = bytes(ahead[:end])
            del ahead[:end]
            self._scanned, self._begun = 0, None
            self._take_head(head)

    def _take_head(self, head: bytes) -> None:
        lines = _lines_of(head)
        line = lines[0] if lines[0].endswith(b"\n") else b""
        self._line = (line or head[:LONGEST]).decode("latin-1").rstrip("\r\n")
        if len(head) > self._site.limits.head:
            self._refuse(431 if line else 414)
            return
        try:
            version = version_of(line)
            if version is None:
                raise BadHead("The request line has no version")
            found = facts(lines[1:-1], version)
            if len(lines) - 2 > _MOST_FIELDS:
                raise BadHead("There are too many header fields", 431)
            method, where, _ = line.split()
            if not _TOKEN.fullmatch(method):
                raise BadHead("The method is none")
            if method not in (b"GET", b"HEAD"):
                self._refuse(405 if method in _METHODS else 501)
                return
            where = _canonical(where)
        except (BadHead, BadTarget) as error:
            self._refuse(getattr(error, "status", 400), str(error))
            return
        is_old, stays = version < b"HTTP/1.1", not found.has_body
        stays = stays and b"close" not in found.options
        stays = stays and (not is_old or b"keep-alive" in found.options)
        self._is_deaf = not stays
        self._outlet.lingers = found.has_body or (self._is_deaf and bool(self._ahead))
        # As every parser takes it, and without what nobody wants.
        kept = [one for one in lines[1:-1] if one.partition(b":")[0].lower() not in _UNUSED]
        first, before = b"%b %b HTTP/1.%d\n" % (method, where, not is_old), self.cycle
        super().data_received(b"\r\n".join(one.rstrip(b"\r\n") for one in (first, *kept, b"", b"")))
        if self.cycle is not before:  # the parser has taken it
            self.cycle.keep_alive, self.cycle.is_old = stays, is_old
            self.cycle.line = self._line

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does."""
        self._refuse(400, msg)

    # -- responses ---------------------------------------------------------------------------------

    async def _answer(self, scope: Message, receive: Any, send: Any) -> None:
        cycle = send.__self__
        self._active = self.loop.time()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                if cycle.is_old and cycle.keep_alive:
                    message["headers"].append((b"connection", b"keep-alive"))
                self._log_request(cycle.line, message["status"])
            await send(message)

        try:
            await super()._answer(scope, receive, _Bound(cycle, noting))
        except (OSError, RuntimeError) as error:
            self._log(f"response broken off: {error}")
            self._outlet.under.abort()
            if not cycle.response_started:
                cycle.disconnected = True
        except Exception as error:
            self._site.log(f"spliceio: serve: {type(error).__name__}: {error}")
            raise
        else:
            if cycle.disconnected and not cycle.response_complete:
                self._log("response broken off: the client has gone")

    def on_response_complete(self) -> None:
        """Go on with what waits for the end of a response."""
        super().on_response_complete()
        self._active = self.loop.time()
        if self._is_busy or self._outlet.is_closing():
            return
        if self._refusal is not None:
            self._refusal()
        elif self._has_ended and not self._ahead:
            self._outlet.close()
        else:
            self._read_heads()
            if self._has_ended and not self._is_busy:
                self._outlet.close()

    def timeout_keep_alive_handler(self) -> None:
        """Leave that to `_check`: a head may have begun."""

    def _refuse(self, status: int, why: str = "") -> None:
        """Answer with a status, after all that is answered before it; then end the connection."""
        self._is_deaf = self._outlet.lingers = True
        self._ahead.clear()
        line = self._line

        def refuse() -> None:
            self._log_request(line, status)
            text = f"{status}: {why or HTTPStatus(status).description}\n".encode()
            fields = [
                *self._site.state.default_headers,
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(text)),
                (b"connection", b"close"),
            ]
            if status == 405:
                fields.append((b"allow", b"GET, HEAD"))
            first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
            head = b"".join(b"%b: %b\r\n" % one for one in fields)
            self._outlet.write(first + head + b"\r\n" + text)
            self._outlet.close()

        if self._is_busy:
            self._refusal = refuse
        else:
            refuse()

    # -- time --------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Look whether the connection has had its time; the one timer that it has."""
        seconds, now = self._site.limits.seconds, self.loop.time()
        unsent = self._outlet.under.get_write_buffer_size()
        if self._is_busy or unsent:
            if unsent and unsent == self._unsent and not self._outlet.is_sending:
                self._log(f"response broken off: nothing moved for {seconds:g} s")
                self._outlet.abort()
                return
            self._unsent, due = unsent, now + seconds
        else:
            self._unsent = 0
            due = (self._active if self._begun is None else self._begun) + seconds
            if due <= now:
                if self._begun is None:
                    self._outlet.close()
                else:
                    self._line = bytes(self._ahead[:LONGEST]).partition(b"\n")[0].decode("latin-1")
                    self._refuse(408)
                return
        self._timer = self.loop.call_at(due, self._check)

    # -- the log -----------------------------------------------------------------------------------

    def _log_request(self, line: str, status: int) -> None:
        if not self._site.quiet:
            self._log(f'"{line}" {status} -')

    def _log(self, text: str) -> None:
        client = self.client[0] if self.client else "unix:"
        when = time.strftime("%d/%b/%Y %H:%M:%S")
        self._site.log(f"{client} - - [{when}] {text}")


class _Bound:
    """A `send` of a cycle with something before it."""

    def __init__(self, cycle: Any, send: Any) -> None:
        self.__self__, self._send = cycle, send

    async def __call__(self, message: Message) -> None:
        await self._send(message)


def _lines_of(head: bytes) -> list[bytes]:
    """Split at LF alone: a bare CR ends no line."""
    return [line + b"\n" for line in head.split(b"\n")[:-1]] or [head]


def _canonical(where: bytes) -> bytes:
    """Return a target as a path that every parser takes; raises BadTarget."""
    path, mark, query = where.partition(b"?")
    if _PLAIN.fullmatch(path) and (not mark or query.isalnum()):
        return where
    found = target(where.decode("latin-1"))
    text = found.path
    if found.query:
        text += "?" + quote_from_bytes(found.query.encode("latin-1"), "/%:@!$&'()*+,;=~?")
    return text.encode("ascii")
