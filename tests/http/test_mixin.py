"""`SendfileMixin` in handlers of http.server, over real connections.

Rule 1: what a client reads is compared byte by byte, and that sendfile ran is taken from the result
or from strace, never from the code.
Rule 2: a subclass keeps what it has changed: headers, types, listings, logging.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import http.server
import io
import json
import os
import re
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
from email.parser import BytesParser
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spliceio import SendfileMixin, TransferResult
from spliceio._http import body as bodies
from tests.support.programs import need
from tests.support.seam import Seam
from tests.support.states import until
from tests.support.wires import MIB, method_of, payload

LINGER = struct.pack("ii", 1, 0)
BIG = payload(5 * MIB + 17)
SIZES = [0, 1, 16384, 16385, 100_000, 1 << 20, (1 << 20) + 1, len(BIG)]


class Handler(SendfileMixin, http.server.SimpleHTTPRequestHandler):
    """The mixin as its users have it, and a log to read."""

    protocol_version = "HTTP/1.1"
    results: list[TransferResult | None]
    logged: list[str]

    def serve_file(self, *args, **kwargs):
        result = super().serve_file(*args, **kwargs)
        self.results.append(result)
        return result

    def log_message(self, format, *args):
        self.logged.append(format % args)


class Server(http.server.ThreadingHTTPServer):
    """Threads that are waited for, and no error unseen."""

    daemon_threads = False

    def handle_error(self, request, client_address):
        self.errors.append(sys.exc_info()[1])


class Site(NamedTuple):
    """A server in this process."""

    root: Path
    address: tuple
    results: list
    logged: list[str]
    errors: list

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address)

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=60)

    def served(self, count: int) -> list:
        """Wait until so many files have been served, and return what came of each."""
        until(lambda: len(self.results) >= count)
        assert len(self.results) == count
        return self.results

    def get(self, path: str, method: str = "GET", **fields: str) -> Reply:
        """Make one request on a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return ask(client, path, method, **fields)


class Reply(NamedTuple):
    """A response as a client sees it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(client, path, method="GET", **fields) -> Reply:
    """Make one request on an open connection."""
    client.request(method, path, headers={k.replace("_", "-"): v for k, v in fields.items()})
    response = client.getresponse()
    return Reply(response.status, response.headers, response.read())


@contextlib.contextmanager
def serving(root: Path, handler: type = Handler, wrap=None):
    """Serve a directory from this process; all connections have ended when this has."""
    results: list = []
    logged: list[str] = []
    made = type("Handler", (handler,), {"results": results, "logged": logged})
    if issubclass(handler, http.server.SimpleHTTPRequestHandler):
        made = functools.partial(made, directory=str(root))
    with Server(("127.0.0.1", 0), made) as server:
        server.errors = []
        if wrap is not None:
            server.socket = wrap(server.socket)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Site(root, server.server_address, results, logged, server.errors)
        finally:
            server.shutdown()
            thread.join()
    assert server.errors == []


@pytest.fixture
def root(tmp_path):
    """A directory with files of all sizes."""
    root = tmp_path / "root"
    root.mkdir()
    for size in SIZES:
        (root / f"{size}.bin").write_bytes(BIG[:size])
    (root / "page.html").write_bytes(b"<p>hello")
    (root / "sub dir").mkdir()
    (root / "sub dir" / "index.html").write_bytes(b"<p>index")
    (root / "list").mkdir()
    (root / "list" / "<b>&").touch()
    return root


@pytest.fixture
def site(root):
    """The directory, served."""
    with serving(root) as site:
        yield site


# -- whole files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file(site, size, method):
    """All of it, or for HEAD only what is said of it; on a connection that is used again."""
    with contextlib.closing(site.client()) as client:
        for _ in range(3):
            reply = ask(client, f"/{size}.bin", method)
            assert (reply.status, reply.body) == (200, BIG[:size] if method == "GET" else b"")
            assert reply.headers["Content-Length"] == str(size)
            assert reply.headers["Content-Type"] == "application/octet-stream"
            assert reply.headers["Accept-Ranges"] == "bytes"
            assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', reply.headers["ETag"])
            sock = client.sock
    assert sock is not None
    for result in site.served(3):
        if method == "HEAD":
            assert result is None
        else:
            assert result.method == method_of(size)
            assert result.fallbacks == ()
            around = result.by_method["send"]
            assert result.moved == size + around
            assert result.by_method.get(result.method, 0) == size


def test_the_file_is_sent_by_the_kernel(site, monkeypatch):
    """Seen from under the library: one sendfile after another, and nothing of the file written."""
    with Seam().everywhere(monkeypatch) as seam:
        assert site.get(f"/{len(BIG)}.bin").body == BIG
        (result,) = site.served(1)
    assert sum(max(0, row.result) for row in seam.calls("sendfile")) == len(BIG)
    written = sum(max(0, row.result) for row in seam.calls("write"))
    assert written == result.by_method["send"] < 1000
    assert not seam.calls("read")


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("connection", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
def test_versions_and_connections(site, version, connection):
    """A connection is kept or closed as http.server says, and what comes next is in step."""
    keeps = connection != "Connection: close\r\n" and (version == "HTTP/1.1" or connection != "")
    request = f"GET /16385.bin {version}\r\nHost: x\r\n{connection}\r\n".encode()
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(request * 2)
        for turn in range(2 if keeps else 1):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n", turn
            headers = http.client.parse_headers(stream)
            assert stream.read(int(headers["Content-Length"])) == BIG[:16385]
        if keeps:
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # by the second request, which is unread
            assert stream.read() == b""


def test_pipelined_requests(site):
    """Many requests in one packet: as many responses, in order, whatever they are."""
    wanted = ["/1.bin", "/100000.bin", "/none", "/page.html"] * 10
    with site.connect() as sock, sock.makefile("rb") as stream:
        asked = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in wanted if path != "/none"]
        sock.sendall("".join(asked).encode())
        sock.shutdown(socket.SHUT_WR)
        for path in (path for path in wanted if path != "/none"):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(stream)
            body = stream.read(int(headers["Content-Length"]))
            assert body == (site.root / path[1:]).read_bytes()
        assert stream.read() == b""


def test_http_0_9_has_no_head(site):
    """Only the file, and the end."""
    for size in (1, 100_000, len(BIG)):
        with site.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(f"GET /{size}.bin\r\n\r\n".encode())
            assert stream.read() == BIG[:size]


@pytest.mark.parametrize(
    "line", ["Range: bytes=1-2", "If-None-Match: *", 'If-Match: "x"', "Range: bytes=9999999-", "X"]
)
def test_http_0_9_has_no_header(site, line):
    """What follows the request line asks for nothing: a part, a 304 or a 412 could not be told."""
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(f"GET /100000.bin\r\n{line}\r\n\r\n".encode())
        assert stream.read() == BIG[:100_000]
    assert [result.moved for result in site.served(1)] == [100_000]


@pytest.mark.parametrize("path", ["/sub%20dir/", "/list/", "/none"])
def test_http_0_9_gets_directories_and_errors_too(site, path):
    """The body alone: an index, a listing, the text of an error."""
    expected = site.get(path).body
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(f"GET {path}\r\n\r\n".encode())
        assert stream.read() == expected


def test_two_words_may_be_a_request_of_a_later_version(root):
    """`default_request_version` decides: there is a head, and `headers` may be a dict."""

    class Later(Handler):
        default_request_version = "HTTP/1.0"

    with serving(root, Later) as site, site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET /100000.bin\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        assert http.client.parse_headers(stream)["Content-Length"] == "100000"
        assert stream.read() == BIG[:100_000]


def test_nothing_waits_for_an_acknowledgement(root):
    """Nagle's algorithm is off: a 304 behind a file is not held back until that has arrived."""
    seen = []

    class Looking(Handler):
        def send_head(self):
            seen.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            return super().send_head()

    with serving(root, Looking) as site:
        site.get("/1.bin")
    assert seen == [1]


def test_a_unix_socket(root, tmp_path):
    """Has no such option, and is served as any other."""
    results, logged = [], []
    made = type("Handler", (Handler,), {"results": results, "logged": logged})
    made.address_string = lambda self: "unix"
    with (
        socketserver.UnixStreamServer(
            str(tmp_path / "sock"), functools.partial(made, directory=str(root))
        ) as server,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.connect(str(tmp_path / "sock"))
        request = f"GET /{len(BIG)}.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        sock.sendall(request.encode())
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with sock.makefile("rb") as stream:
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            http.client.parse_headers(stream)
            assert stream.read() == BIG
        thread.join()
    assert results[0].method == "sendfile"


def test_expect_continue(site):
    """A client that waits for leave to send a body gets it, and the connection ends after."""
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(
            b"GET /1.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\nExpect: 100-continue\r\n\r\n"
        )
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        sock.sendall(b"GET /page.html HTTP/1.1\r\n\r\n")
        headers = http.client.parse_headers(stream)
        assert stream.read(int(headers["Content-Length"])) == BIG[:1]
        with contextlib.suppress(ConnectionResetError):
            assert stream.read() == b""


def test_what_is_no_file(site):
    """Missing, with a slash too many, with a NUL, a name that is too long."""
    for path in ("/none", "/page.html/", "/page.html%00", "/" + "x" * 300, "/none/"):
        assert site.get(path).status == 404


def test_a_fifo_is_not_waited_for(site):
    """Nor a socket, nor a device."""
    os.mkfifo(site.root / "fifo")
    (site.root / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(site.root / "socket"))
        assert [site.get(f"/{name}").status for name in ("fifo", "null", "socket")] == [404] * 3


# -- preconditions and ranges ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_304_has_the_validators_and_no_body(site, method):
    """And the connection goes on after it."""
    with contextlib.closing(site.client()) as client:
        first = ask(client, "/100000.bin")
        for name, value in (("If_None_Match", "ETag"), ("If_Modified_Since", "Last-Modified")):
            reply = ask(client, "/100000.bin", method, **{name: first.headers[value]})
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["ETag"] == first.headers["ETag"]
            assert reply.headers["Last-Modified"] == first.headers["Last-Modified"]
            assert "Content-Length" not in reply.headers
            assert "Content-Type" not in reply.headers
        assert ask(client, "/100000.bin").body == BIG[:100_000]
    assert site.served(4)[1:3] == [None, None]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_412_has_no_file(site, method):
    """What the client knew is no longer so."""
    with contextlib.closing(site.client()) as client:
        reply = ask(client, "/100000.bin", method, If_Match='"other"')
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (412, b"", "0")
        assert ask(client, "/1.bin").body == BIG[:1]


def test_416_says_how_long_the_file_is(site):
    """And the connection goes on after it."""
    with contextlib.closing(site.client()) as client:
        reply = ask(client, "/100000.bin", Range="bytes=100000-")
        assert (reply.status, reply.body) == (416, b"")
        assert reply.headers["Content-Range"] == "bytes */100000"
        assert ask(client, "/1.bin").body == BIG[:1]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 9), (99_999, 99_999), (10, 90_000)])
def test_one_range(site, first, last):
    """206 with the part and where it lies."""
    reply = site.get("/100000.bin", Range=f"bytes={first}-{last}")
    assert (reply.status, reply.body) == (206, BIG[first : last + 1])
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/100000"
    assert reply.headers["Content-Length"] == str(last - first + 1)
    assert reply.headers["Content-Type"] == "application/octet-stream"


def test_head_knows_no_range(site):
    """Range is defined for GET alone."""
    reply = site.get("/100000.bin", "HEAD", Range="bytes=0-9")
    assert (reply.status, reply.headers["Content-Length"]) == (200, "100000")


def test_a_range_if_nothing_changed(site):
    """If-Range: the part of the same file, or all of the new one."""
    first = site.get("/100000.bin")
    for value in (first.headers["ETag"], first.headers["Last-Modified"]):
        assert site.get("/100000.bin", Range="bytes=5-6", If_Range=value).body == BIG[5:7]
    (site.root / "100000.bin").write_bytes(BIG[1:100_000])
    for value in (first.headers["ETag"], "W/" + first.headers["ETag"]):
        reply = site.get("/100000.bin", Range="bytes=5-6", If_Range=value)
        assert (reply.status, reply.body) == (200, BIG[1:100_000])


def parts_of(reply: Reply) -> list[tuple[str, bytes]]:
    """Take a multipart/byteranges body apart by the standard library: where, and what."""
    kind = reply.headers["Content-Type"].encode()
    message = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + reply.body)
    assert message.is_multipart()
    assert not message.defects
    return [
        (part["Content-Range"], part.get_payload(decode=True)) for part in message.get_payload()
    ]


def test_several_ranges(site):
    """multipart/byteranges, each part with its place, by sendfile where it is worth it."""
    wanted = [(0, 9), (50_000, 99_999), (20, 20)]
    reply = site.get("/page.html", Range="bytes=0-1,3-4")
    assert [part for _, part in parts_of(reply)] == [b"<p", b"he"]
    text = ",".join(f"{first}-{last}" for first, last in wanted)
    reply = site.get("/1048576.bin", Range=f"bytes={text}")
    assert reply.status == 206
    assert "Content-Range" not in reply.headers
    boundary = re.search(r"boundary=(\w+)", reply.headers["Content-Type"])[1].encode()
    pieces = reply.body.split(b"\r\n--" + boundary)
    assert [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]] == [
        BIG[first : last + 1] for first, last in wanted
    ]
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    for (first, last), piece in zip(wanted, pieces[1:-1], strict=True):
        assert f"Content-Range: bytes {first}-{last}/1048576\r\n".encode() in piece
        assert b"Content-Type: application/octet-stream\r\n" in piece
    result = site.served(2)[1]
    assert result.method == "sendfile"
    assert result.by_method["sendfile"] == sum(last - first + 1 for first, last in wanted)


def test_too_many_ranges_are_the_whole_file(site):
    """More than 16, or more bytes than there are."""
    many = ",".join(f"{n}-{n}" for n in range(17))
    for text in (many, "0-,0-"):
        reply = site.get("/16385.bin", Range=f"bytes={text}")
        assert (reply.status, reply.body) == (200, BIG[:16385])


ends = st.tuples(st.integers(0, 120_000), st.integers(0, 120_000)).map(sorted)


@given(st.lists(ends, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_served_are_the_slices(site, wanted):
    """For any ranges, the bytes that arrive are those that slicing gives; else it is all."""
    data = BIG[:100_000]
    slices = [data[first : last + 1] for first, last in wanted if data[first : last + 1]]
    text = ", ".join(f"{first}-{last}" for first, last in wanted)
    reply = site.get("/100000.bin", Range=f"bytes={text}")
    if sum(map(len, slices)) > len(data):
        assert (reply.status, reply.body) == (200, data)
    elif not slices:
        assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */100000")
    elif len(slices) == 1:
        assert (reply.status, reply.body) == (206, slices[0])
    else:
        boundary = re.search(r"boundary=(\w+)", reply.headers["Content-Type"])[1].encode()
        pieces = reply.body.split(b"\r\n--" + boundary)[1:-1]
        assert [piece.partition(b"\r\n\r\n")[2] for piece in pieces] == slices
        assert int(reply.headers["Content-Length"]) == len(reply.body)


# -- times -----------------------------------------------------------------------------------------


def test_times_that_headers_cannot_hold(site):
    """Before 1970 and after 9999 there is no Last-Modified, only a tag."""
    with contextlib.ExitStack() as stack:
        path = Path("/dev/shm") / f"spliceio-{os.getpid()}"
        path.write_bytes(b"odd")
        stack.callback(path.unlink)
        (site.root / "odd").symlink_to(path)
        for second in (-1, 10**13):
            os.utime(path, (second, second))
            reply = site.get("/odd", If_Modified_Since="Sun, 06 Nov 1994 08:49:37 GMT")
            assert reply.status == (304 if second < 0 else 200)
            assert ("Last-Modified" in reply.headers) == (second > 0)
            assert "ETag" in reply.headers


def test_a_time_in_the_future_is_not_claimed(site):
    """Last-Modified is never later than Date, and the file counts as changed."""
    os.utime(site.root / "page.html", (2**33, 2**33))
    first = site.get("/page.html")
    assert first.headers["Last-Modified"] == first.headers["Date"]
    again = site.get("/page.html", If_Modified_Since=first.headers["Last-Modified"])
    assert (again.status, again.body) == (200, b"<p>hello")


# -- directories -----------------------------------------------------------------------------------


def test_directories_as_in_the_base_class(site):
    """A redirect to the slash, the index, or a listing; escaped, and in one piece."""
    reply = site.get("/sub%20dir?x=1")
    assert (reply.status, reply.headers["Location"]) == (301, "/sub%20dir/?x=1")
    assert site.get("/sub%20dir/").body == b"<p>index"
    assert site.get("/sub%20dir/").headers["Content-Type"] == "text/html"
    listing = site.get("/list/")
    assert b'href="%3Cb%3E%26"' in listing.body
    assert b"&lt;b&gt;&amp;" in listing.body
    assert int(listing.headers["Content-Length"]) == len(listing.body)
    head = site.get("/list/", "HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(listing.body)))


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/..",
        "//evil.example/%2e%2e",
        "///evil.example/..",
        "/\\evil.example/..",
        "\\\\evil.example/..",
        "/%5Cevil.example/..",
        "http://evil.example/../..",
        "//evil.example/..?//x",
    ],
)
def test_a_redirect_leads_to_this_server(site, path):
    """No Location is taken for another host, by a browser that reads a backslash as / either."""
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = stream.read().decode("latin-1")
    location = re.search(r"^Location: (.*)\r$", head, re.M)
    assert location is not None or " 404 " in head
    if location is not None:
        assert re.match(r"/(?![/\\])", location[1])
        assert "\\" not in location[1]


def test_an_index_that_is_a_directory_is_passed_over(site):
    """The listing shows it."""
    (site.root / "list" / "index.html").mkdir()
    assert b'href="index.html/"' in site.get("/list/").body


# -- subclasses ------------------------------------------------------------------------------------


class Own(Handler):
    """Everything that a subclass of the base class may change."""

    extensions_map = {**Handler.extensions_map, ".bin": "x-own/bin"}  # noqa: RUF012

    def end_headers(self):
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def translate_path(self, path):
        return super().translate_path(path.replace("/alias", "/100000.bin"))

    def guess_type(self, path):
        return "x-own/page" if path.endswith("page.html") else super().guess_type(path)

    def list_directory(self, path):
        body = io.BytesIO(b"my listing")
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        return body

    def date_time_string(self, timestamp=None):
        return "my date"

    def send_error(self, code, message=None, explain=None):
        super().send_error(code, "mine")


def test_a_subclass_keeps_its_own(root):
    """end_headers, translate_path, guess_type, list_directory, dates, errors, logging."""
    with serving(root, Own) as site:
        reply = site.get("/alias", Range="bytes=1-2,4-5")
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert reply.headers["Date"] == "my date"
        assert b"Content-Type: x-own/bin" in reply.body
        assert site.get("/page.html").headers["Content-Type"] == "x-own/page"
        assert site.get("/list/").body == b"my listing"
        assert site.get("/list/", "HEAD").body == b""
        with contextlib.closing(site.client()) as client:
            client.request("GET", "/none")
            assert client.getresponse().reason == "mine"
        assert '"GET /alias HTTP/1.1" 206 -' in site.logged


class Buffered(Handler):
    """A handler that writes through a buffer."""

    wbufsize = -1

    def do_GET(self):
        if self.path == "/twice":
            self.send_response(200)
            self.send_header("Content-Length", "100004")
            self.end_headers()
            self.wfile.write(b"more")
            self.path = "/100000.bin"
            with open(self.translate_path(self.path), "rb") as file:
                bodies.Body(file.fileno(), 100_000, "").send(self.connection, self.wfile, b"")
            return
        super().do_GET()


def test_a_buffer_is_flushed_first(root):
    """What was written before comes before."""
    with serving(root, Buffered) as site, contextlib.closing(site.client()) as client:
        for size in SIZES:
            assert ask(client, f"/{size}.bin").body == BIG[:size]
        assert ask(client, "/twice").body == b"more" + BIG[:100_000]
    assert {result.method for result in site.results} == {"sendfile", "read_write"}


class Counted(Handler):
    """A handler whose wfile is not the socket: it counts."""

    seen = 0

    def setup(self):
        super().setup()
        real = self.wfile.write

        class Counter(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                Counted.seen += len(data)
                return real(data)

        self.wfile = Counter()


def test_a_wfile_of_ones_own_gets_every_byte(root):
    """No byte goes round behind it; the result says why."""
    Counted.seen = 0
    with serving(root, Counted) as site:
        assert site.get("/100000.bin").body == BIG[:100_000]
    (result,) = site.results
    assert Counted.seen == result.moved
    assert result.method == "read_write"
    assert [fallback.why for fallback in result.fallbacks] == [
        "wfile is not the socket of the connection"
    ]


class PassingOn(Handler):
    """A handler whose wfile has a write of its own, and everything else of the real one."""

    seen = 0

    def setup(self):
        super().setup()

        class Counter:
            def __init__(self, file):
                self.file = file

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, data):
                PassingOn.seen += len(data)
                return self.file.write(data)

        self.wfile = Counter(self.wfile)


def test_a_wfile_around_the_real_one_gets_every_byte(root):
    """That the socket can be seen through it is no reason to go round it."""
    PassingOn.seen = 0
    with serving(root, PassingOn) as site:
        assert site.get("/100000.bin").body == BIG[:100_000]
    (result,) = site.results
    assert PassingOn.seen == result.moved


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for the loopback that lasts a day."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", folder / "key", "-out", folder / "cert",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_tls_is_fed_by_reading(root, certificate):
    """Encrypted as ever; never a byte of plaintext on the wire."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert", certificate / "key")
    wrap = functools.partial(server.wrap_socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificate / "cert"))
    with serving(root, Handler, wrap) as site:
        client = http.client.HTTPSConnection(*site.address, context=trusting)
        with contextlib.closing(client):
            for size in SIZES:
                assert ask(client, f"/{size}.bin").body == BIG[:size]
            reply = ask(client, "/1048576.bin", Range="bytes=5-500000")
            assert reply.body == BIG[5:500_001]
    assert {result.method for result in site.results} == {"read_write"}
    assert "TLS" in site.results[-1].fallbacks[0].why


def test_tls_hides_no_request(root, certificate):
    """Inside TLS a request is one thing as well, and one that is none is the last."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert", certificate / "key")
    wrap = functools.partial(server.wrap_socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificate / "cert"))
    first, last = b"GET /1.bin HTTP/1.1\r\nHost: x\r\n", b"Connection: close\r\n\r\n"
    with serving(root, Handler, wrap) as site:
        for more, statuses in (
            (b"", [b"200", b"200"]),
            (b"nothing\r\n", [b"400"]),
            (b"Content-Length: 40\r\n", [b"200"]),
        ):
            with (
                site.connect() as plain,
                trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
                sock.makefile("rb") as stream,
            ):
                sock.sendall(first + more + b"\r\n" + first + last)
                with contextlib.suppress(ssl.SSLEOFError):  # http.server says no goodbye
                    assert re.findall(rb"HTTP/1.1 (\d+) ", stream.read()) == statuses


# -- serve_file of one's own -----------------------------------------------------------------------


class Plain(SendfileMixin, http.server.BaseHTTPRequestHandler):
    """A handler that is no file server, and answers with files."""

    protocol_version = "HTTP/1.1"
    results: list
    logged: list
    root: Path

    def do_GET(self):
        path = self.root / "100000.bin"
        try:
            if self.path == "/path":
                result = self.serve_file(path)
            elif self.path == "/bytes":
                result = self.serve_file(os.fsencode(path), "x/y")
            elif self.path == "/object":
                with path.open("rb") as file:
                    file.read(10)
                    result = self.serve_file(file, headers=[("Cache-Control", "no-store")])
                    assert file.tell() == 10
            elif self.path == "/int":
                fd = os.memfd_create("m")
                os.write(fd, b"memory")
                result = self.serve_file(fd)
                assert os.lseek(fd, 0, os.SEEK_CUR) == 6
                os.close(fd)
            elif self.path == "/unflushed":
                with (self.root / "new").open("w+b") as file:
                    file.write(b"in the buffer")
                    result = self.serve_file(file)
            elif self.path == "/gzip":
                with gzip.open(self.root / "z.gz", "wb") as file:
                    result = self.serve_file(file)
            elif self.path == "/text":
                with open(path) as file:
                    result = self.serve_file(file)
            elif self.path == "/pipe":
                reader, writer = os.pipe()
                with open(reader, "rb") as file, open(writer, "wb"):
                    result = self.serve_file(file)
            elif self.path == "/split":
                result = self.serve_file(path, headers=[("X", "a\r\nSet-Cookie: b")])
            else:
                result = self.serve_file(self.root / "none")
        except (TypeError, ValueError) as error:
            self.results.append(error)
            self.send_error(500)
        else:
            self.results.append(result)

    do_HEAD = do_GET
    do_POST = do_GET

    def log_message(self, format, *args):
        self.logged.append(format % args)


@pytest.fixture
def plain(root):
    """A server with a handler that is no file server."""
    with serving(root, type("Handler", (Plain,), {"root": root})) as site:
        yield site


def test_serve_file_takes_paths_objects_and_numbers(plain):
    """The whole file whatever its position, which stays; the type by name, or as given."""
    assert plain.get("/path").body == BIG[:100_000]
    assert plain.get("/path").headers["Content-Type"] == "application/octet-stream"
    assert plain.get("/bytes").headers["Content-Type"] == "x/y"
    reply = plain.get("/object")
    assert (reply.body, reply.headers["Cache-Control"]) == (BIG[:100_000], "no-store")
    assert plain.get("/int").body == b"memory"
    assert plain.get("/unflushed").body == b"in the buffer"
    again = plain.get("/object", If_None_Match=reply.headers["ETag"])
    assert (again.status, again.headers["Cache-Control"]) == (304, "no-store")
    assert plain.get("/none").status == 404
    assert plain.get("/none", "HEAD").status == 404


def test_serve_file_answers_a_post(plain):
    """Preconditions and ranges are those of GET; another method gets the whole file."""
    reply = plain.get("/path", "POST", Range="bytes=0-1", If_None_Match="*")
    assert (reply.status, reply.body) == (200, BIG[:100_000])


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/gzip", TypeError, "gzip"),
        ("/text", TypeError, "text file"),
        ("/pipe", ValueError, "only a regular file can be served, not the read end of a pipe"),
        ("/split", ValueError, "a line break in a header"),
    ],
)
def test_serve_file_refuses(plain, path, error, words):
    """Before anything is sent, with what to do instead."""
    assert plain.get(path).status == 500
    (raised,) = plain.results
    assert type(raised) is error
    assert words in str(raised)


def test_a_file_that_may_not_be_read_is_403(plain, monkeypatch):
    """And one for which no descriptor is left is 503."""
    real = os.open

    def refusing(error):
        def opened(path, flags, *args, **kwargs):
            if str(path).endswith("none"):
                raise error
            return real(path, flags, *args, **kwargs)

        return opened

    for number, status in ((13, 403), (1, 403), (24, 503), (5, 500), (40, 404)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refusing(OSError(number, os.strerror(number))))
            assert plain.get("/none").status == status


# -- trouble ---------------------------------------------------------------------------------------


def test_a_client_that_goes_away(site):
    """One line in the log, no traceback, and the next one is served."""
    with (site.root / "huge").open("wb") as file:
        file.truncate(64 * MIB)  # more than the buffers of both sockets take
    for turn in range(3):
        with site.connect() as sock:
            sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000)
            if turn:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    assert site.served(3) == [None] * 3
    until(lambda: sum(line.startswith("response broken off: ") for line in site.logged) == 3)
    assert site.get("/1.bin").body == BIG[:1]


@pytest.mark.parametrize("size", [100_000, len(BIG)])
def test_a_file_that_shrinks(site, size, monkeypatch):
    """The client sees that something is missing, and never a next response in its place."""
    path = site.root / f"{size}.bin"
    real = bodies.Body.send

    def shrunk(body, *args):
        os.truncate(path, 70_000)
        return real(body, *args)

    monkeypatch.setattr(bodies.Body, "send", shrunk)
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(f"GET /{size}.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2)
        got = stream.readline()
        if got:
            headers = http.client.parse_headers(stream)
            assert headers["Content-Length"] == str(size)
            assert BIG[:70_000].startswith(body := stream.read())
            assert len(body) <= 70_000
    assert site.served(1) == [None]
    assert any(line.startswith("response broken off: ") for line in site.logged)


def test_a_small_file_that_shrinks_is_never_begun(site, monkeypatch):
    """Its length is looked at again before its head is sent."""
    real = bodies.Body.send

    def shrunk(body, *args):
        os.truncate(site.root / "16384.bin", 5)
        return real(body, *args)

    monkeypatch.setattr(bodies.Body, "send", shrunk)
    with site.connect() as sock:
        sock.sendall(b"GET /16384.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1) == b""
    assert site.served(1) == [None]
    assert any("but the file ends at 5" in line for line in site.logged)


def test_a_file_that_is_replaced_is_served_as_it_was_opened(site):
    """The name is used once."""
    path = site.root / "huge"
    with path.open("wb") as file:
        file.truncate(64 * MIB)  # more than the buffers of both sockets take
        file.seek(0, os.SEEK_END)
        file.write(BIG)
    with site.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(stream)
        (site.root / "other").write_bytes(b"other")
        (site.root / "other").rename(path)
        assert not site.results
        left = int(headers["Content-Length"]) - len(BIG)
        while left:
            left -= len(stream.read(min(left, MIB)))
        assert stream.read(len(BIG)) == BIG


class Impatient(Handler):
    """A handler with a timeout."""

    timeout = 0.2


def test_a_download_that_stalls_is_cut(root):
    """After the timeout of the handler."""
    big = root / "huge"
    with big.open("wb") as file:
        file.truncate(64 * MIB)
    with serving(root, Impatient) as site, site.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
        assert site.served(1) == [None]
        assert "nothing moved for 0.2 s" in "\n".join(site.logged)


SCRIPT = """
    import http.server, spliceio, sys
    class Handler(spliceio.SendfileMixin, http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    for _ in range(int(sys.argv[1])):
        server.handle_request()
"""


def test_head_and_file_share_segments(root, tmp_path):
    """As strace sees it: the head with MSG_MORE, then sendfile for every byte."""
    command = [
        need("strace"), "-f", "-e", "trace=sendto,sendfile,setsockopt,write", "-o",
        tmp_path / "trace", sys.executable, "-c", textwrap.dedent(SCRIPT), "2",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as run:
        try:
            port = int(run.stdout.readline())
            for size in (100_000, len(BIG)):
                client = http.client.HTTPConnection("127.0.0.1", port)
                with contextlib.closing(client):
                    assert ask(client, f"/{size}.bin", Connection="close").body == BIG[:size]
            run.wait(60)
        finally:
            run.kill()
    calls = (tmp_path / "trace").read_text()
    sent = sum(map(int, re.findall(r"sendfile\(.* = (\d+)$", calls, re.M)))
    assert sent == 100_000 + len(BIG)
    heads = re.findall(r'sendto\(\d+, "HTTP/1.1 200 .*', calls)
    assert len(heads) == 2
    assert all("MSG_MORE" in head for head in heads)


def test_no_result_is_lost_by_a_full_socket(root):
    """The two quick calls do what fits; the rest is counted as theirs is."""
    near, far = socket.socketpair(socket.AF_UNIX)
    near.settimeout(30)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    got = bytearray()

    def collect() -> None:
        while data := far.recv(65536):
            got.extend(data)

    thread = threading.Thread(target=collect)
    thread.start()
    with near, far, near.makefile("wb", 0) as wfile, (root / "1048576.bin").open("rb") as file:
        body = bodies.Body(file.fileno(), 1 << 20, "x/y")
        result = body.send(near, wfile, b"head" * 5000)
        near.shutdown(socket.SHUT_WR)
        thread.join()
    assert bytes(got) == b"head" * 5000 + BIG[: 1 << 20]
    assert result.by_method == {"sendfile": 1 << 20, "send": 20_000}
    assert result.moved == (1 << 20) + 20_000
    assert result.method == "sendfile"
    assert json.dumps(result.by_method)
