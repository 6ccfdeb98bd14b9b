"""HTTP connection of a handler: strict request heads, and an announced end of the connection.

What stands here holds for every request of a handler with the mixin, whatever method answers it,
and for `spliceio serve`.

Rule 1: a request that two programs could read in two ways is 400 and the end (`request`).
Rule 2: after a body that is not read the connection ends: it must not pass for the next request.
Rule 3: a connection that will be closed is said to be, in the head of the last response; and the
client can read that response, though something of its own is still unread.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

from .request import LONGEST, BadHead, CutHead, Facts, HeadReader, facts, version_of

if TYPE_CHECKING:
    from http.server import SimpleHTTPRequestHandler as _Handler
else:
    _Handler = object

__all__ = ["Connection"]

_CHUNK = 1 << 13
_LINGER = 2.0
# The statuses after which something of the request may be unread.
_NOT_READ = (400, 408, 413, 414, 417, 431, 501, 505)


class Connection(_Handler):
    """Base class of the mixin: how requests are read and the connection ends."""

    raw_requestline: bytes
    _code = 0
    _promised: int | None = None
    _has_connection_field = False
    _unread = False

    def setup(self) -> None:
        """Prepare the connection, without Nagle's algorithm: every response is pushed whole."""
        super().setup()
        with contextlib.suppress(OSError, AttributeError):  # a unix socket has no such option
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self) -> None:
        """Close; first read and drop what the client still sends, so that it gets its response."""
        if self._unread:
            # Closing with something unread resets the connection, and the answer may be lost.
            with contextlib.suppress(OSError, ValueError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(_LINGER)
                until = time.monotonic() + _LINGER
                while self.connection.recv(_CHUNK) and time.monotonic() < until:
                    pass
        super().finish()

    # -- reading ---------------------------------------------------------------------------------

    def parse_request(self) -> bool:
        """Parse a head that can be read in one way only; answer any other with an error."""
        while self.raw_requestline in (b"\r\n", b"\n"):  # RFC 9112, 2.2
            self.raw_requestline = self.rfile.readline(LONGEST + 1)
        # These are blanks to the parser, as no other program takes them: it would cut a name there.
        line = self.raw_requestline.replace(b"\x85", b"%85").replace(b"\xa0", b"%A0")
        self.raw_requestline, self.command = line, ""
        self.requestline = str(line, "latin-1").rstrip("\r\n")
        self.request_version = self.default_request_version
        self.close_connection = True
        try:
            version = version_of(line)
        except BadHead as error:
            return self._refuse(error)
        except CutHead:
            return False
        if version is None and self.default_request_version == "HTTP/0.9":
            understood = super().parse_request()
            self.close_connection = True  # no header asks for anything else
            return understood
        return self._parsed(version or self.default_request_version.encode("latin-1"))

    def _parsed(self, version: bytes) -> bool:
        kept, found = self.rfile, []

        def check(lines: list[bytes]) -> None:
            self.rfile = kept
            found.append(facts(lines, version))

        reader: Any = HeadReader(kept, check)
        self.rfile = reader
        try:
            if not super().parse_request():
                return False
        except BadHead as error:
            return self._refuse(error)
        except CutHead:
            self.close_connection = True
            return False
        finally:
            if self.rfile is reader:
                self.rfile = kept
        self._settle(found[0] if found else None)
        return True

    def _settle(self, found: Facts | None) -> None:
        """Set whether the connection can go on after this request."""
        if found is None or b"close" in found.options:
            self.close_connection = True
        if found is not None and found.has_body and self.command in ("GET", "HEAD"):
            self.close_connection = self._unread = True

    def _refuse(self, error: BadHead) -> bool:
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"  # an error has a status line
        self.close_connection = True
        self.send_error(error.status, str(error))
        return False

    # -- writing ---------------------------------------------------------------------------------

    def send_response_only(self, code: int, message: str | None = None) -> None:
        """Begin a head."""
        self._code, self._promised, self._has_connection_field = code, None, False
        super().send_response_only(code, message)

    def send_header(self, keyword: str, value: str) -> None:
        """Add a field to the head, and note what it means for the end of the response."""
        name = keyword.lower()
        if name == "connection":
            self._has_connection_field = True
        elif name == "content-length" and str(value).isdecimal():
            self._promised = int(value)
        super().send_header(keyword, value)

    def end_headers(self) -> None:
        """End the head; adds Connection, where the client could not know whether it stays open."""
        if self._code >= 200 and not self._has_connection_field:
            if self.close_connection:
                self.send_header("Connection", "close")
            elif self.request_version == "HTTP/1.0":
                self.send_header("Connection", "keep-alive")
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error; after some, what the client still sends is read and dropped."""
        if code in _NOT_READ:
            self._unread = True
        super().send_error(code, message, explain)
