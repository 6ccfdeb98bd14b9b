"""`SendfileMixin`: http.server handlers send files by sendfile, with ranges and validators.

A mixin, so that everything a handler or a subclass of it decides (who may see what, paths, types,
listings, extra header lines, logging) stays its own; only how a file becomes a response is decided
here, and that only where no other class has a `send_head` or a `copyfile` to decide it.

Rule 1: nothing is sent before all of it is known to be possible, and a response that breaks off
takes the connection with it: no client ever reads a next response as the rest of this one.
Rule 2: the head leaves in the segment of the first bytes of the body, whichever method wrote it.
Rule 3: a client that goes away is no error of the server: one line in the log, no traceback.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from .._kernel.arguments import FileDescriptorLike
from .._kernel.errors import UnexpectedEOF
from .._kernel.number import number
from .._public import public
from .._transfer.result import TransferResult
from .base import is_overridden, location
from .body import Body, Remaining, rest_of
from .conditional import NO_FIELDS, Fields, decide, validators
from .connection import Connection
from .file import (
    Path,
    open_regular,
    refuse_line_breaks,
    status_of,
    status_of_open,
    validator_fields,
)

__all__ = ["SendfileMixin"]

_MISSING = "File not found"
_INDEX = ("index.html", "index.htm")
Pairs = Iterable[tuple[str, str]]


@public
class SendfileMixin(Connection):
    """Serve files with sendfile from a handler of `http.server`; put it before the base class.

    With SimpleHTTPRequestHandler, GET and HEAD of files need nothing more. A class between it and
    the mixin decides first: its `send_head` is called, and the file that this returns is sent. With
    any other handler, call `serve_file` where a file is the answer. Set `protocol_version =
    "HTTP/1.1"` in the class to keep connections open, and `timeout` to end those on which nothing
    moves for so many seconds.

    Sent with each file: Content-Length, Last-Modified, a strong ETag and Accept-Ranges. Honoured:
    If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, If-Range, and Range in GET: one
    range as 206, up to 16 as multipart/byteranges, none in the file as 416; ranges whose sum
    exceeds the file are answered with the whole file.

    Requests are read strictly, whatever method answers them: a head that two programs could read in
    two ways, which is how a request is hidden in the body of another, is 400 and the end of the
    connection (RFC 9112: lines that are no fields, two Content-Lengths, no Host in HTTP/1.1 ...).
    After a GET or HEAD with a body, which is not read, it ends too. A response that is the last of
    its connection says so.

    Not promised: sendfile on a connection whose TLS is not the kernel's (ssl.OP_ENABLE_KTLS), which
    is fed by reading; and that a path stays beneath a directory: SimpleHTTPRequestHandler follows
    symlinks anywhere.
    """

    _direct = False
    _handing_over = False
    _left: Any = None

    def do_GET(self) -> None:
        """Answer a GET as the base class does, the head and a file by one call to the kernel.

        `send_head` does that, if no other class overrides what is sent.
        """
        answer = getattr(super(), "do_GET", None)
        if answer is None:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({self.command!r})")
            return
        others = self._is_overridden("send_head") or self._is_overridden("copyfile")
        self._direct = not (others or self._is_overridden("do_GET", above=True))
        try:
            answer()
        finally:
            self._direct = False

    def send_head(self) -> Any:
        """Send the head of a GET or HEAD as the base class does, and return the body, a file.

        None when the response is complete: an error, a redirect, and whatever `do_GET` could send
        at once. A base class that has a `send_head` of its own decides instead of this one.
        """
        if self._is_overridden("send_head", above=True):
            return super().send_head()
        if self._direct:
            return self._answered()
        self._handing_over = True
        try:
            listing = self._answered()
            return listing if self._left is None else self._left
        finally:
            self._handing_over, self._left = False, None

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send the rest of a file to the client, by sendfile; what is no real file, by reading.

        No more is sent than the head has promised. A base class that has a `copyfile` of its own
        decides instead of this one.
        """
        body = None
        if outputfile is self.wfile and not self._is_overridden("copyfile", above=True):
            body = source.body if isinstance(source, Remaining) else rest_of(source, self._promised)
        if body is None:
            super().copyfile(source, outputfile)
            return
        try:
            body.send(self.connection, self.wfile, b"")
        except (OSError, ValueError) as error:
            self._break_off(error)
        else:
            if self._promised is not None and body.length < self._promised:
                self._break_off(UnexpectedEOF(errno.ENODATA, "the file is shorter than was said"))

    def translate_path(self, path: str) -> str:
        """Map a target to a file as the base class does; one that ends in %2f names a directory."""
        found = super().translate_path(path)
        if not found.endswith("/") and not self._is_overridden("translate_path", above=True):
            name = unquote(path.partition("?")[0].partition("#")[0], errors="replace")
            if posixpath.basename(name) in ("", ".", ".."):
                return found + "/"
        return found

    def _is_overridden(self, name: str, *, above: bool = False) -> bool:
        return is_overridden(self, SendfileMixin, name, above=above)

    def _answered(self) -> Any:
        """Answer a GET or HEAD as SimpleHTTPRequestHandler does; return what is left: a listing."""
        path = self.translate_path(self.path)
        try:
            is_directory = stat.S_ISDIR(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            self._fail(error)
            return None
        if not is_directory:
            if path.endswith("/"):
                self.send_error(HTTPStatus.NOT_FOUND, _MISSING)
            else:
                self.serve_file(path)
            return None
        try:
            parts = urlsplit(self.path)
        except ValueError:  # an address in brackets that is none
            self.send_error(HTTPStatus.NOT_FOUND, _MISSING)
            return None
        if not parts.path.endswith("/"):
            to = location(self.path, urlunsplit(parts._replace(path=parts.path + "/")))
            self._bare(301, [("Location", to), ("Content-Length", "0")])
            return None
        for name in getattr(self, "index_pages", _INDEX):
            index = os.path.join(path, name)
            if os.path.isfile(index):
                self.serve_file(index)
                return None
        if self._direct and not self._is_overridden("list_directory"):
            return self._listing(path)
        return self.list_directory(path)

    def serve_file(
        self,
        file: Path | FileDescriptorLike,
        content_type: str | None = None,
        *,
        headers: Pairs = (),
    ) -> TransferResult | None:
        """Answer the request with a file, from its beginning, whatever its position is.

        `file` is a path, or an int or object with `fileno()`, which stays open and stays where it
        is. Without `content_type` the name decides. `headers` are more (name, value) pairs; they
        also go into a 304.

        Returns what was sent, head included, or None when no part of the file was: HEAD, 304, 412,
        416, a path that cannot be opened (403, 404 ...), a client that went away. Then, and when
        the file shrinks, the reason is logged and the connection closed.

        Raises ValueError for what is no regular file and for line breaks in a header, TypeError for
        a Blob and for objects whose bytes are not their descriptor's (text, gzip).
        """
        fields = [*headers]
        if isinstance(file, str | bytes | os.PathLike):
            kind = content_type or self._type_of(os.fsdecode(file))
            refuse_line_breaks(kind, fields)
            try:
                fd, status = open_regular(file)
            except (OSError, ValueError) as error:
                self._fail(error)
                return None
            try:
                return self._respond(fd, status, kind, fields)
            finally:
                os.close(fd)
        real, status = status_of_open(file)
        name = getattr(file, "name", None)
        kind = content_type or self._type_of(name if isinstance(name, str) else "")
        refuse_line_breaks(kind, fields)
        return self._respond(number(real, "serve_file: file"), status, kind, fields)

    # -- one response ----------------------------------------------------------------------------

    def _respond(
        self, fd: int, status: os.stat_result, kind: str, more: list[tuple[str, str]]
    ) -> TransferResult | None:
        now, size = validators(status), status.st_size
        date = self.date_time_string if self._is_overridden("date_time_string") else None
        fields = [*validator_fields(now, date), *more]
        code, wanted = decide(self.command, self._asked(), now, size)
        if code in (304, 412):
            self._bare(code, fields + ([] if code == 304 else [("Content-Length", "0")]))
            return None
        if code == 416:
            self._bare(416, [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")])
            return None
        return self._send(code, fields, Body(fd, size, kind, wanted))

    def _asked(self) -> Fields:
        """Return the header of the request; HTTP/0.9 has none, and its answer no head to explain.

        http.server reads one there all the same, or (Python 3.14, and 3.13 since late in 2025) sets
        `headers` to a dict for every request line of two words.
        """
        headers = self.headers
        if self.request_version == "HTTP/0.9" or not hasattr(headers, "get_all"):
            return NO_FIELDS
        return headers

    def _head(self, code: int, fields: Pairs) -> bytes:
        """Make the head by the handler's own methods, and return what they would have sent."""
        kept, self.wfile = self.wfile, io.BytesIO()
        try:
            self.send_response(code)
            for name, value in fields:
                self.send_header(name, value)
            self.end_headers()
            return self.wfile.getvalue()
        finally:
            self.wfile = kept

    def _bare(self, code: int, fields: Pairs) -> None:
        self._write(self._head(code, fields))

    def _write(self, data: bytes) -> bool:
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError as error:
            self._break_off(error)
            return False
        return True

    def _send(self, code: int, fields: list[tuple[str, str]], body: Body) -> TransferResult | None:
        fields += body.fields
        if self._handing_over:
            self._hand_over(code, fields, body)
            return None
        head = self._head(code, fields)
        if self.command == "HEAD":
            self._write(head)
            return None
        try:
            return body.send(self.connection, self.wfile, head)
        except (OSError, ValueError) as error:
            self._break_off(error)
            return None

    def _hand_over(self, code: int, fields: Pairs, body: Body) -> None:
        try:
            left = body.opened()
        except OSError as error:
            self._fail(error)
            return
        if self._write(self._head(code, fields)):
            self._left = left
        else:
            left.close()

    def _fail(self, error: OSError | ValueError) -> None:
        code = HTTPStatus(status_of(error))  # an int is another page in Python 3.10
        self.send_error(code, _MISSING if code == HTTPStatus.NOT_FOUND else None)

    def _break_off(self, error: OSError | ValueError) -> None:
        """End the connection: what was promised can no longer be kept."""
        self.close_connection = True
        self.log_error("response broken off: %s", error)

    # -- directories -----------------------------------------------------------------------------

    def _listing(self, path: str) -> None:
        """Send the handler's listing of a directory, its head and body in one write."""
        kept, self.wfile = self.wfile, (made := io.BytesIO())
        try:
            body = self.list_directory(path)
        finally:
            self.wfile = kept
        if body is None:
            self._write(made.getvalue())
            return
        with body:
            self._write(made.getvalue() + (b"" if self.command == "HEAD" else body.read()))

    def _type_of(self, name: str) -> str:
        guess = getattr(self, "guess_type", None)
        if guess is not None:
            return str(guess(name))
        import mimetypes

        kind, encoding = mimetypes.guess_type(name)
        return kind if kind and not encoding else "application/octet-stream"
