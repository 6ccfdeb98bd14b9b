"""Files for http.server's handlers, by sendfile: validators, preconditions and ranges included.

A mixin, so that everything a handler or a subclass of it decides (paths, types, listings, extra
header lines, logging) stays its own; only how a file becomes a response is decided here.

Rule 1: nothing is sent before all of it is known to be possible, and a response that breaks off
takes the connection with it: no client ever reads a next response as the rest of this one.
Rule 2: the head leaves in the segment of the first bytes of the body, whoever wrote it.
Rule 3: a client that goes away is no error of the server: one line in the log, no traceback.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Iterable
from typing import Any, BinaryIO

from . import _fds, _objects
from ._arguments import FileDescriptorLike, Window
from ._conditional import (
    NO_FIELDS,
    Fields,
    Validators,
    http_date,
    precondition,
    range_holds,
    ranges,
    validators,
)
from ._http_body import Body
from ._http_connection import Connection
from ._number import number
from ._transfer import TransferResult

__all__ = ["SendfileMixin", "status_of"]

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_INDEX = ("index.html", "index.htm")
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Pairs = Iterable[tuple[str, str]]


class SendfileMixin(Connection):
    """Serve files with sendfile from a handler of `http.server`; put it before the base class.

    With SimpleHTTPRequestHandler, GET and HEAD of files need nothing more. With any other handler,
    call `serve_file` where a file is the answer. Set `protocol_version = "HTTP/1.1"` in the class
    to keep connections open, and `timeout` to end those on which nothing moves for so many seconds.

    Sent with each file: Content-Length, Last-Modified, a strong ETag and Accept-Ranges. Honoured:
    If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, If-Range, and Range in GET: one
    range as 206, up to 16 as multipart/byteranges, none in the file as 416; ranges whose sum
    exceeds the file are answered with the whole file.

    Requests are read strictly, whatever method answers them: a head that two programs could read in
    two ways, which is how a request is hidden in the body of another, is 400 and the end of the
    connection (RFC 9112: lines that are no fields, two Content-Lengths, no Host in HTTP/1.1 ...).
    After a GET or HEAD with a body, which nobody reads, it ends too. A response that is the last of
    its connection says so.

    Not promised: sendfile on a connection with TLS, which is fed by reading; and that a path stays
    beneath a directory: SimpleHTTPRequestHandler follows symlinks anywhere.
    """

    def send_head(self) -> Any:
        """Answer a GET or HEAD as SimpleHTTPRequestHandler does; files are sent here and now.

        Returns None when the response is complete, or what is left to send: a listing.
        """
        path = self.translate_path(self.path)
        try:
            is_directory = stat.S_ISDIR(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            self.send_error(status_of(error))
            return None
        if not is_directory:
            if path.endswith("/"):
                self.send_error(404)
            else:
                self.serve_file(path)
            return None
        url, mark, query = self.path.partition("?")
        if not url.endswith("/"):
            self._redirect(url, mark + query)
            return None
        for name in getattr(self, "index_pages", _INDEX):
            index = os.path.join(path, name)
            if os.path.isfile(index):
                self.serve_file(index)
                return None
        return self._listing(path)

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
            _refuse_line_breaks(kind, fields)
            try:
                fd, status = _opened(file)
            except (OSError, ValueError) as error:
                self.send_error(status_of(error))
                return None
            try:
                return self._respond(fd, status, kind, fields)
            finally:
                os.close(fd)
        real, status = _looked_at(file)
        name = getattr(file, "name", None)
        kind = content_type or self._type_of(name if isinstance(name, str) else "")
        _refuse_line_breaks(kind, fields)
        return self._respond(number(real, "serve_file: file"), status, kind, fields)

    # -- one response ----------------------------------------------------------------------------

    def _respond(
        self, fd: int, status: os.stat_result, kind: str, more: list[tuple[str, str]]
    ) -> TransferResult | None:
        now, size = validators(status), status.st_size
        fields = [*_validator_fields(now), *more]
        wanted: list[tuple[int, int]] | None = None
        if self.command in ("GET", "HEAD"):
            asked = self._asked()
            refused = precondition(self.command, asked, now)
            if refused is not None:
                length = [] if refused == 304 else [("Content-Length", "0")]
                self._bare(refused, fields + length)
                return None
            if self.command == "GET" and range_holds(asked, now):
                wanted = ranges(asked, size)
        if wanted is None:
            return self._send(200, fields, Body(fd, size, kind))
        if not wanted:
            self._bare(416, [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")])
            return None
        return self._send(206, fields, Body(fd, size, kind, wanted))

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
        head = self._head(code, fields)
        if self.command == "HEAD":
            self._write(head)
            return None
        try:
            return body.send(self.connection, self.wfile, head)
        except (OSError, ValueError) as error:
            self._break_off(error)
            return None

    def _break_off(self, error: OSError | ValueError) -> None:
        """End the connection: what was promised can no longer be kept."""
        self.close_connection = True
        self.log_error("response broken off: %s", error)

    # -- directories -----------------------------------------------------------------------------

    def _redirect(self, url: str, query: str) -> None:
        """Send a directory's URL with its slash; always a path, never another host."""
        from urllib.parse import quote

        path = quote(
            "/" + url.partition("#")[0].lstrip("/"), safe="/%:@!$&'()*+,;=~", encoding="latin-1"
        )
        tail = quote(query, safe="/%:@!$&'()*+,;=~?", encoding="latin-1")
        self._bare(301, [("Location", f"{path}/{tail}"), ("Content-Length", "0")])

    def _listing(self, path: str) -> BinaryIO | None:
        """Let the handler list a directory, and send its head and body as one."""
        kept, self.wfile = self.wfile, (made := io.BytesIO())
        try:
            body = self.list_directory(path)
        finally:
            self.wfile = kept
        if body is None:
            self._write(made.getvalue())
            return None
        with body:
            self._write(made.getvalue() + (b"" if self.command == "HEAD" else body.read()))
        return None

    def _type_of(self, name: str) -> str:
        guess = getattr(self, "guess_type", None)
        if guess is not None:
            return str(guess(name))
        import mimetypes

        kind, encoding = mimetypes.guess_type(name)
        return kind if kind and not encoding else "application/octet-stream"


def status_of(error: OSError | ValueError) -> int:
    """Return the status for a file that could not be opened."""
    if isinstance(error, PermissionError):
        return 403
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return 503
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV):
        return 500
    return 404


def _opened(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file; without O_NONBLOCK a FIFO in its place would hang the thread."""
    fd = os.open(path, _OPEN)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def _looked_at(file: FileDescriptorLike) -> tuple[Any, os.stat_result]:
    """Return the object whose descriptor has the bytes, and the status of the file."""
    if isinstance(file, Window):
        raise TypeError(
            f"serve_file: a {type(file).__name__} has no date to make validators of; send a head "
            "of your own with it: send_file(connection, blob, header=head)"
        )
    real = _objects.real(file, "serve_file", "src", sends=False)
    about = _fds.look(real, "serve_file", "src")
    if not stat.S_ISREG(about.mode):
        raise ValueError(f"serve_file: only a regular file can be served, not {about.text}")
    flush = getattr(real, "flush", None)
    if flush is not None:
        flush()
    return real, os.fstat(about.fd)


def _refuse_line_breaks(kind: str, fields: list[tuple[str, str]]) -> None:
    for text in (kind, *(text for pair in fields for text in pair)):
        if "\r" in text or "\n" in text:
            raise ValueError(f"serve_file: a line break in a header: {text!r}")


def _validator_fields(now: Validators) -> list[tuple[str, str]]:
    # A change in the future must not be claimed (RFC 9110, 8.8.2.1).
    modified = http_date(min(now.modified, int(time.time())))
    fields = [("ETag", now.etag), ("Accept-Ranges", "bytes")]
    return fields if modified is None else [("Last-Modified", modified), *fields]
