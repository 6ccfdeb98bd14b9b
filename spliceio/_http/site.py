"""Request handler of `spliceio serve`: files, directory listings and errors.

Rule 1: nothing outside the tree is served, and nothing that is neither file nor directory.
Rule 2: a connection that is idle or stalled is closed after a time, and a request that dribbles in
has no more time than an idle one: threads do not pile up.
Rule 3: what is left unread on a connection is never taken for a next request.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from .._version import __version__
from .conditional import http_date
from .docroot import BadTarget, Docroot, Opened, Target, target
from .file import status_of
from .mixin import SendfileMixin
from .pages import INDEX, listing, type_of

__all__ = ["Handler", "Site"]

_INDEX = tuple(map(os.fsencode, INDEX))
_CHUNK = 1 << 13
_MOST_HEAD = 65536
_NOT_UNDERSTOOD = (400, 408, 414, 431, 505)
_END = re.compile(rb"\r?\n\r?\n")
_MOST_LOGGED = 4000
_OTHER_METHODS = ("CONNECT", "DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
_ESCAPES = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))} | {ord("\\"): "\\\\"}


class Site(NamedTuple):
    """The document root, the idle timeout in seconds, and whether requests are logged."""

    docroot: Docroot
    idle_timeout: float
    quiet: bool = False

    def log(self, line: str) -> None:
        """Write one line to standard error; errors of that are ignored."""
        if sys.stderr is None:  # closed from the start: descriptor 2 may be another file
            return
        with contextlib.suppress(OSError):
            os.write(2, line.encode("utf-8", "backslashreplace"))


class Served(Protocol):
    """A server with a site."""

    site: Site


class Handler(SendfileMixin, BaseHTTPRequestHandler):
    """Handles the requests of one connection."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"
    server_version = f"spliceio/{__version__}"
    server: Served  # type: ignore[assignment]  # all that is used of a server

    def setup(self) -> None:
        """Set the idle timeout and an empty buffer."""
        super().setup()
        self.site = self.server.site
        self.connection.settimeout(self.site.idle_timeout)
        self._ahead = bytearray()

    # -- reading ---------------------------------------------------------------------------------

    def handle_one_request(self) -> None:
        """Answer one request, or close."""
        self.close_connection = True
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
        try:
            head = self._read_head()
            if head is None:
                return
            if not self._understood(head):
                self._unread = True
            elif self.command in ("GET", "HEAD"):
                self._answer()
            else:
                self._refuse_method()
        except ConnectionError:
            self.close_connection = True
        except TimeoutError:
            self.close_connection = True
            if self._ahead:
                self._unread = True
                self.send_error(408)

    def _read_head(self) -> bytes | None:
        """Read up to the end of a head, or as much as one may have; keep what comes after it.

        All of it has one deadline, which reading line by line would give to every line.
        """
        ahead, deadline = self._ahead, time.monotonic() + self.site.idle_timeout
        while True:
            while ahead.startswith((b"\r\n", b"\n")):  # RFC 9112, 2.2
                del ahead[: ahead.index(b"\n") + 1]
            found = _END.search(ahead)
            if found or len(ahead) > _MOST_HEAD:
                break
            if ahead and time.monotonic() > deadline:
                raise TimeoutError
            more = self.connection.recv(_CHUNK)
            if not more:
                return None
            ahead += more
        end = min(found.end() if found else len(ahead), _MOST_HEAD + 1)
        head = bytes(ahead[:end])
        del ahead[:end]
        return head

    def _understood(self, head: bytes) -> bool:
        """Let http.server parse the head; answer one that it cannot parse."""
        if len(head) > _MOST_HEAD:
            self.send_error(431 if b"\n" in head else 414)
            return False
        lines = io.BytesIO(head)
        self.raw_requestline = lines.readline()
        kept, self.rfile = self.rfile, lines
        try:
            if not self.parse_request():
                return False
        finally:
            self.rfile = kept
        if len(self.requestline.split()) != 3:  # HTTP/0.9 had two words, and answers without a head
            self.send_error(400)
            return False
        return True

    def handle_expect_100(self) -> bool:
        """Return True: the response itself says that the body is not wanted."""
        return True

    # -- answering -------------------------------------------------------------------------------

    def _answer(self) -> None:
        try:
            wanted = target(self.path)
            found = self.site.docroot.open(wanted.names, slash=wanted.slash)
        except BadTarget as error:
            self.send_error(400, explain=str(error))
            return
        except OSError as error:
            self.send_error(status_of(error))
            return
        try:
            if found.is_directory:
                self._directory(wanted, found)
            else:
                self._file(wanted.names[-1], found)
        finally:
            os.close(found.fd)

    def _file(self, name: bytes, found: Opened) -> None:
        self._respond(found.fd, found.status, type_of(os.fsdecode(name)), [])

    def _directory(self, wanted: Target, found: Opened) -> None:
        if not wanted.slash:
            query = "?" + quote(wanted.query, "/%:@!$&'()*+,;=~?") if wanted.query else ""
            self._bare(301, [("Location", f"{wanted.path}/{query}"), ("Content-Length", "0")])
            return
        for name in _INDEX:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                index = self.site.docroot.open((*wanted.names, name))
                try:
                    if not index.is_directory:
                        self._file(name, index)
                        return
                finally:
                    os.close(index.fd)
        try:
            page = listing(wanted.path, found.fd)
        except OSError as error:
            self.send_error(status_of(error))
            return
        self._page(200, "text/html", page)

    def _page(self, code: int, kind: str, body: bytes) -> None:
        fields = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        head = self._head(code, fields)
        self._write(head if self.command == "HEAD" else head + body)

    def _refuse_method(self) -> None:
        self.close_connection = self._unread = True
        if self.command in _OTHER_METHODS:
            self._bare(405, [("Allow", "GET, HEAD"), ("Content-Length", "0")])
        else:
            self.send_error(501)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with a status and a line of text; what was understood may be followed by more."""
        if code in _NOT_UNDERSTOOD:
            self.close_connection = True
        # Of a request that is none, http.server and the mixin say what is wrong with it.
        said = explain or (message if code == 400 else None)
        text = said or self.responses.get(code, ("", ""))[1]
        self._page(code, "text/plain", f"{code}: {text}\n".encode())

    def version_string(self) -> str:
        """Name the program, and not the Python under it."""
        return self.server_version

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Format a second once."""
        return http_date(int(time.time() if timestamp is None else timestamp)) or ""

    # -- logging ---------------------------------------------------------------------------------

    def address_string(self) -> str:
        """Name the client; one on a unix socket has no name."""
        address: Any = self.client_address
        return str(address[0]) if isinstance(address, tuple) else "unix:"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log every request, unless that is not wanted."""
        if not self.site.quiet:
            super().log_request(code, size)

    def log_message(self, format: str, *args: Any) -> None:
        """Write a line at once, by one call: lines of different threads stay whole."""
        text = (format % args).translate(_ESCAPES)
        if len(text) > _MOST_LOGGED:
            text = f"{text[:_MOST_LOGGED]}..."
        self.site.log(f"{self.address_string()} - - [{self.log_date_time_string()}] {text}\n")
