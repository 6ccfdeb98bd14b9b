"""`SendfileMixin` among other classes: each decides what it decides without the mixin.

Every decision is a class that is put behind the mixin and before it, and asked what the same
handler without the mixin is asked. Status line, fields, body and log are the same; what the mixin
adds on purpose is listed.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import gzip
import http.client
import http.server
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import pytest

from spliceio import SendfileMixin
from tests.http.test_mixin import serving
from tests.support.seam import Seam
from tests.support.states import until
from tests.support.wires import MIB, payload

BIG = payload(100_003)
SECRET = b"the secret\n"
OLD = 1_000_000_000
DATE = email.utils.formatdate(OLD, usegmt=True)
ADDED = {b"etag", b"accept-ranges", b"connection"}
"""What the mixin adds; the base class says `Connection: close` of an error, and then it does."""


class Logged(SimpleHTTPRequestHandler):
    """The plain handler, with its log where `serving` reads it."""

    protocol_version = "HTTP/1.1"
    results: list
    logged: list

    def log_message(self, format, *args):
        self.logged.append(format % args)


# -- decisions -------------------------------------------------------------------------------------


class Nothing:
    """No decision."""


class Version10:
    """The version that http.server has where nothing else is said."""

    protocol_version = "HTTP/1.0"


class RefusesInSendHead:
    """Who may see what, in `send_head`."""

    def send_head(self):
        if self.path.startswith("/private"):
            self.send_error(403, "not for you")
            return None
        return super().send_head()


class RefusesInDo:
    """Who may see what, in the methods."""

    def do_GET(self):
        if self.path.startswith("/private"):
            self.send_error(403, "not for you")
        else:
            super().do_GET()

    def do_HEAD(self):
        if self.path.startswith("/private"):
            self.send_error(403, "not for you")
        else:
            super().do_HEAD()


class NamesTheBase:
    """Who may see what, and a call of the base class by its name."""

    def do_GET(self):
        if self.path.startswith("/private"):
            self.send_error(403, "not for you")
        else:
            SimpleHTTPRequestHandler.do_GET(self)


class RefusesInTranslatePath:
    """Who may see what, by the path."""

    def translate_path(self, path):
        return "/nowhere" if path.startswith("/private") else super().translate_path(path)


class SlashesInTranslatePath:
    """Files under names that end in a slash."""

    def translate_path(self, path):
        return super().translate_path(path).rstrip("/") if "file" in path else "/nowhere/"


class RefusesInParseRequest:
    """Who may see what, before anything else."""

    def parse_request(self):
        understood = super().parse_request()
        if understood and self.path.startswith("/private"):
            self.send_error(403)
            return False
        return understood


class AddsInEndHeaders:
    """More fields."""

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        super().end_headers()


class ChangesInSendHeader:
    """Other fields, by their names as the base class writes them."""

    def send_header(self, keyword, value):
        if keyword == "Content-type" and value.startswith("text/"):
            value += "; charset=x"
        super().send_header(keyword, value)


class ChangesInSendResponse:
    """Another reason, and a field."""

    def send_response(self, code, message=None):
        super().send_response(code, message or "mine")
        self.send_header("X-Code", str(int(code)))


class ErrorsOfItsOwn:
    """Another page for what is missing."""

    def send_error(self, code, message=None, explain=None):
        body = f"{int(code)} {message} {explain}".encode()
        self.send_response(code, message)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Types:
    """Other types."""

    def guess_type(self, path):
        return "x/y" if path.endswith("big") else super().guess_type(path)


class Extensions:
    """Other types, by the table."""

    extensions_map = {".txt": "x/txt", "": "x/none"}  # noqa: RUF012


class Names:
    """Other words about itself and the client."""

    def version_string(self):
        return "mine"

    def address_string(self):
        return "somebody"

    def log_request(self, code="-", size="-"):
        self.log_message("%s asked: %s", self.address_string(), int(code))

    def log_error(self, format, *args):
        self.log_message("error: " + format, *args)


class Dates:
    """Other dates."""

    def date_time_string(self, timestamp=None):
        return f"at {timestamp and int(timestamp)}"


class Copies:
    """Another way of copying: what is sent is not what is in the file."""

    def copyfile(self, source, outputfile):
        outputfile.write(source.read().swapcase())


class CopiesThrough:
    """What is sent goes through an object on its way."""

    def copyfile(self, source, outputfile):
        class Swapping(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                return outputfile.write(bytes(data).swapcase())

            def fileno(self):
                return outputfile.fileno()

        super().copyfile(source, Swapping())


class CopiesByHand:
    """What `send_head` returns, sent by `do_GET` itself."""

    def do_GET(self):
        file = self.send_head()
        if file is not None:
            with file:
                file.seek(0, os.SEEK_END)
                length = file.tell()
                file.seek(0)
                self.logged.append(f"{length} bytes")
                shutil.copyfileobj(Swapped(file), self.wfile)


class Swapped(io.RawIOBase):
    """A file in the other case."""

    def __init__(self, file):
        self._file = file

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._file.read(len(buffer)).swapcase()
        buffer[: len(data)] = data
        return len(data)

    def fileno(self):
        return self._file.fileno()

    def close(self):
        super().close()
        self._file.close()


class Wraps:
    """What `send_head` returns, as another file, which has the descriptor of the first."""

    def send_head(self):
        file = super().send_head()
        return file and Swapped(file)


class ReturnsATemporaryFile:
    """A page that is made anew."""

    def send_head(self):
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115
        file.write(b"not yet ")
        file.seek(0)
        file.write(b"made for ")
        self.send_response(203)
        self.send_header("Content-Length", "4")
        self.end_headers()
        file.seek(5)
        return file


class ReturnsGzip:
    """A file that is kept compressed: its descriptor has other bytes than it has."""

    def send_head(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BIG)))
        self.end_headers()
        return gzip.open(os.path.join(self.directory, "big.gz"))


class ReturnsMemory:
    """No file at all."""

    def send_head(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        return io.BytesIO(b"memory")


class Ranges:
    """Parts, as they are added to the plain handler: a status of its own, and a position."""

    def send_head(self):
        path = self.translate_path(self.path)
        if os.path.isdir(path) or not os.path.exists(path):
            return super().send_head()
        file = open(path, "rb")  # noqa: SIM115
        size = os.fstat(file.fileno()).st_size
        begin = file.seek(min(5, size))
        self.send_response(206, "Some")
        self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - begin))
        self.end_headers()
        return file


class Lists:
    """Another listing."""

    def list_directory(self, path):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        return io.BytesIO(b"list")


class ListsAtOnce:
    """A listing that has been sent when `list_directory` returns, through the socket."""

    def list_directory(self, path):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.command == "GET":
            self.connection.sendall(b"list")


class Writes:
    """A `wfile` that is not the socket."""

    def setup(self):
        super().setup()
        under = self.wfile

        class Through(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                return under.write(data)

        self.wfile = Through()


class OnTheObject:
    """A method that only this handler has, not its class."""

    def setup(self):
        super().setup()
        self.copyfile = lambda source, out: out.write(source.read().swapcase())


class Directory:
    """Another directory."""

    def setup(self):
        super().setup()
        self.directory = os.path.join(self.directory, "dir")


DECISIONS = [
    Nothing, Version10, RefusesInSendHead, RefusesInDo, NamesTheBase, RefusesInTranslatePath,
    SlashesInTranslatePath, RefusesInParseRequest, AddsInEndHeaders, ChangesInSendHeader,
    ChangesInSendResponse, ErrorsOfItsOwn, Types, Extensions, Names, Dates, Copies, CopiesThrough,
    CopiesByHand, Wraps, ReturnsATemporaryFile, ReturnsGzip, ReturnsMemory, Ranges, Lists,
    ListsAtOnce, Writes, OnTheObject, Directory,
]  # fmt: skip

PATHS = [
    "/file.txt", "/big", "/empty", "/private/secret", "/none", "/file.txt/", "/none/", "/dir",
    "/dir/", "/dir?a=b", "/list", "/list/", "/list/?a", "/./file.txt", "//file.txt",
    "/dir/../file.txt", "/%66ile.txt", "/file.txt?x", "/file.txt#x", "/dir/./", "/../file.txt",
    "/cgi-bin/script.py", "/cgi-bin/", "/index.html",
]  # fmt: skip


class Response(NamedTuple):
    """What came back, without what differs by the second."""

    first: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    log: list[str]


def ask(site, path: str, method: str, *fields: str) -> Response:
    """Make one request on a connection of its own, and read to its end."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
    site.logged.clear()
    with socket.create_connection(site.address, timeout=60) as sock:
        sock.sendall("\r\n".join(lines).encode("latin-1"))
        answer = b"".join(iter(lambda: sock.recv(MIB), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    pairs = [line.split(b": ", 1) for line in rest]
    return Response(
        first,
        sorted((name, value) for name, value in pairs if not is_new(first, name, value)),
        body,
        [*site.logged],
    )


def is_new(first: bytes, name: bytes, value: bytes) -> bool:
    """Whether a field is one that the mixin adds, or the time of day."""
    if name == b"Date":
        return value.endswith(b" GMT")
    # The base class has nothing about the file in a 304; RFC 9110, 15.4.5 wants its validators.
    return name.lower() in ADDED or (b" 304 " in first and name == b"Last-Modified")


@pytest.fixture
def root(tmp_path):
    """A directory with one of everything."""
    root = tmp_path / "root"
    for name in ("private", "dir", "list", "cgi-bin"):
        (root / name).mkdir(parents=True)
    (root / "file.txt").write_bytes(b"The file\n")
    (root / "big").write_bytes(BIG)
    (root / "big.gz").write_bytes(gzip.compress(BIG))
    (root / "empty").touch()
    (root / "private" / "secret").write_bytes(SECRET)
    (root / "dir" / "index.html").write_bytes(b"<p>index")
    (root / "dir" / "file.txt").write_bytes(b"another")
    (root / "list" / "<b>").touch()
    script = root / "cgi-bin" / "script.py"
    script.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import os
        print("Content-type: text/plain", end="\\r\\n\\r\\n")
        print("run for", os.environ["REQUEST_METHOD"])
        """)
    )
    script.chmod(0o755)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (OLD, OLD))
    return root


@contextlib.contextmanager
def three(root: Path, decision: type, base: type = Logged):
    """Serve by a handler without the mixin, by one with it before, and by one with it after."""
    makes = [(decision, base), (SendfileMixin, decision, base)]
    if decision is not Nothing:
        makes.append((decision, SendfileMixin, base))
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serving(root, type("Made", bases, {}))) for bases in makes]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.__name__)
def test_every_decision_is_kept(root, decision):
    """With the mixin before it or after it, as without."""
    with three(root, decision) as (plain, *mixed):
        for method in ("GET", "HEAD"):
            for path in PATHS:
                known = path in ("/file.txt", "/dir/")
                for fields in ((), (f"If-Modified-Since: {DATE}",))[: known + 1]:
                    expected = ask(plain, path, method, *fields)
                    for site in mixed:
                        assert ask(site, path, method, *fields) == expected, (path, method)


def test_what_is_secret_is_never_sent(root):
    """Whoever forbids it, and wherever that class stands."""
    for decision in (
        RefusesInSendHead, RefusesInDo, NamesTheBase, RefusesInTranslatePath, RefusesInParseRequest,
    ):  # fmt: skip
        with three(root, decision) as sites:
            for site in sites:
                answer = ask(site, "/private/secret", "GET")
                assert SECRET not in answer.body
                assert answer.first.split()[1] in (b"403", b"404")


@pytest.fixture
def same_environment():
    """Take back what CGIHTTPRequestHandler gives all later children.

    It sets variables of a deep copy of os.environ, and the copy sets those of the process.
    """
    yield
    for one in subprocess.run(["env", "-0"], capture_output=True, check=True).stdout.split(b"\0"):
        name = one.partition(b"=")[0]
        if name and name not in os.environb:
            os.unsetenv(name)
    there = subprocess.run(["env", "-0"], capture_output=True, check=True).stdout.split(b"\0")
    assert {one.partition(b"=")[0] for one in there if one} <= os.environb.keys() | {b"_"}


@pytest.mark.skipif(
    not hasattr(http.server, "CGIHTTPRequestHandler"), reason="Python 3.15 has no CGI any more"
)
@pytest.mark.filterwarnings("ignore:.*CGIHTTPRequestHandler.*:DeprecationWarning")
def test_scripts_are_run_and_not_served(root, monkeypatch, same_environment):
    """CGIHTTPRequestHandler decides in `send_head` and `do_POST`; its files are files."""
    monkeypatch.setattr(http.server, "nobody_uid", os.getuid)  # who may read the directory

    class Cgi(http.server.CGIHTTPRequestHandler):
        results: list
        logged: list

        def log_message(self, format, *args):
            self.logged.append(format % args)

    paths = ["/cgi-bin/script.py", "/cgi-bin/script.py/more?a=b", "/cgi-bin/none", "/file.txt"]
    with (
        serving(root, type("Plain", (Cgi,), {})) as plain,
        serving(root, type("Mixed", (SendfileMixin, Cgi), {})) as mixed,
    ):
        for method in ("GET", "HEAD", "POST"):
            for path in paths:
                expected = ask(plain, path, method)
                assert ask(mixed, path, method) == expected
                if path == paths[0]:
                    assert f"run for {method}".encode() in expected.body


# -- what of it goes by sendfile -------------------------------------------------------------------


@pytest.mark.parametrize(
    "decision", [Nothing, RefusesInDo, NamesTheBase, RefusesInSendHead, Ranges, AddsInEndHeaders]
)
def test_a_file_of_the_base_class_goes_by_sendfile(root, decision, monkeypatch):
    """From its position on, and nothing of it is read."""
    with three(root, decision) as (plain, *mixed):
        expected = ask(plain, "/big", "GET").body
        for site in mixed:
            with Seam().everywhere(monkeypatch) as seam:
                assert ask(site, "/big", "GET").body == expected
            assert sum(row.result for row in seam.calls("sendfile")) == len(expected)
            assert not seam.calls("read")


@pytest.mark.parametrize("decision", [Nothing, RefusesInDo, RefusesInSendHead, NamesTheBase, Wraps])
def test_ranges_where_the_mixin_has_the_file(root, decision):
    """Parts are sent as parts through whatever calls `super()`; what wraps them gets the same."""
    base, _ = make = (decision, SendfileMixin)
    with serving(root, type("Made", (*make, Logged), {})) as site:
        for text, parts in (("5-9", [(5, 10)]), ("5-9,90000-", [(5, 10), (90_000, len(BIG))])):
            answer = ask(site, "/big", "GET", f"Range: bytes={text}")
            assert answer.first.split()[1] == b"206"
            wanted = [BIG[begin:end] for begin, end in parts]
            if base is Wraps:
                wanted = [part.swapcase() for part in wanted]
            if len(parts) == 1:
                assert answer.body == wanted[0]
            else:
                assert all(part in answer.body for part in wanted)
            assert len(answer.body) == int(dict(answer.fields)[b"Content-Length"])


def test_no_descriptor_for_the_rest(root, monkeypatch):
    """Where none is left to hand the body out by, nothing is promised: 503."""

    def none_left(fd):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with serving(root, type("Made", (Wraps, SendfileMixin, Logged), {})) as site:
        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", none_left)
            answer = ask(site, "/big", "GET", "Range: bytes=5-9")
        assert answer.first.split()[1] == b"503"
        assert ask(site, "/big", "GET", "Range: bytes=5-9").body == BIG[5:10].swapcase()


class Grows:
    """A file that becomes longer, or shorter, when its head has been sent."""

    to = 0

    def send_head(self):
        file = super().send_head()
        if self.path == "/big":
            os.truncate(self.translate_path(self.path), self.to)
        return file


@pytest.mark.parametrize("to", [len(BIG) + 1000, 70_000, 0])
def test_a_file_that_changes_after_its_head(root, to):
    """No more is sent than was said, and after less the connection ends and the log says why."""
    decision = type("Grows", (Grows,), {"to": to})
    for bases in ((SendfileMixin, decision, Logged), (decision, SendfileMixin, Logged)):
        (root / "big").write_bytes(BIG)
        made = type("Made", bases, {})
        with serving(root, made) as site, site.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(stream)
            assert headers["Content-Length"] == str(len(BIG))
            if to > len(BIG):
                assert stream.read(len(BIG)) == BIG
                sock.sendall(b"GET /file.txt HTTP/1.1\r\nHost: x\r\n\r\n")
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                sock.shutdown(socket.SHUT_RDWR)
            else:
                assert stream.read() == BIG[:to]
                assert "response broken off: " in site.logged[-1]


@pytest.mark.parametrize("decision", [RefusesInSendHead, NamesTheBase])
def test_a_client_that_goes_away_is_one_line(root, decision):
    """Also where the file is the base class's to open."""
    with (root / "huge").open("wb") as file:
        file.truncate(64 * MIB)  # more than the buffers of both sockets take
    with serving(root, type("Made", (SendfileMixin, decision, Logged), {})) as site:
        with site.connect() as sock:
            sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000)
        until(lambda: any(line.startswith("response broken off: ") for line in site.logged))


def test_a_handler_without_a_get_has_none(root):
    """The mixin brings no method that the handler has not."""

    class Posts(http.server.BaseHTTPRequestHandler):
        results: list
        logged: list
        log_message = Logged.log_message

    with (
        serving(root, Posts) as plain,
        serving(root, type("Made", (SendfileMixin, Posts), {})) as mixed,
    ):
        for method in ("GET", "HEAD", "POST"):
            assert ask(mixed, "/", method) == ask(plain, "/", method)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/dir", "/dir?", "/dir?a=b&c", "/dir?a=b#c", "/dir#c", "/dir#/", "/dir;x", "/dir?/",
        "//dir", "///dir", "/./dir", "/dir/.", "/list/../dir", "/dir/..", "/%64ir",
        "/dir?%0d%0a",
        '/dir?"<>|^`{}[]', "/dir?\xe4\xff", "/dir?//evil.example", "/dir?http://evil.example",
        "/a%20b", "/a%3ab", "/a:b", "/\xc3\xa4", "/%C3%A4", "/a\\b", "/a%5cb", "/x;y", "/x%3by",
        "/.//dir", "/dir/../dir",
    ],
)  # fmt: skip
def test_a_redirect_is_the_base_class_s(root, path):
    """The same Location, to the byte."""
    for name in ("a b", "a:b", "\u00e4", "a\\b", "x;y", "dir;x"):
        (root / name).mkdir()
    with three(root, Nothing) as (plain, mixed):
        for method in ("GET", "HEAD"):
            assert ask(mixed, path, method) == ask(plain, path, method)


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("http://evil.example/../..", b"/http://evil.example/../../"),
        ("\\\\evil.example/..", b"/%5C%5Cevil.example/../"),
        ("/\\evil.example/..", b"/%5Cevil.example/../"),
    ],
)
def test_a_redirect_that_is_not(root, path, to):
    """Where the base class sends a browser to another host, the mixin keeps it here."""
    with three(root, Nothing) as (plain, mixed):
        theirs, ours = (dict(ask(site, path, "GET").fields) for site in (plain, mixed))
        assert ours[b"Location"] == to
        assert theirs[b"Location"] != to


@pytest.mark.parametrize(
    "path",
    [
        "/file.txt%2f",
        "/file.txt%2F",
        "/file.txt%2f%2f",
        "/none%2f",
        "/file.txt/.",
        "/file.txt%2f.",
        "/file.txt/x/..",
        "/file.txt%2f?a",
    ],
)
@pytest.mark.parametrize("decision", [Nothing, RefusesInTranslatePath, RefusesInSendHead])
def test_a_file_is_no_directory(root, path, decision):
    """A slash at the end is one however it is written, also before a dot: 404, as in nginx."""
    with serving(root, type("Made", (decision, SendfileMixin, Logged), {})) as site:
        for method in ("GET", "HEAD"):
            assert ask(site, path, method).first.split()[1] == b"404"


def test_a_directory_with_an_encoded_slash(root):
    """Is redirected to its slash, without which the links of a listing lead elsewhere."""
    with serving(root, type("Made", (SendfileMixin, Logged), {})) as site:
        answer = ask(site, "/dir%2f", "GET")
        assert answer.first.split()[1] == b"301"
        assert dict(answer.fields)[b"Location"] == b"/dir%2f/"
        assert ask(site, "/dir%2f/", "GET").body == b"<p>index"
