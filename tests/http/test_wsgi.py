"""`FileWrapper`: to an application an iterable, to a server a file that the kernel sends.

Rule 1: whichever way it goes, the client reads the same bytes, and the position ends in one place.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import io
import os
import socket
import tempfile
import threading
import wsgiref.simple_server
import wsgiref.validate
from typing import NamedTuple

import pytest

from spliceio import FileWrapper, UnexpectedEOF
from spliceio._http import wsgi
from spliceio._transfer import send as _send
from tests.support.seam import Seam
from tests.support.states import Worker
from tests.support.wires import MIB, method_of, payload, read_all

DATA = payload(3 * MIB + 5)


# -- by itself -------------------------------------------------------------------------------------


def test_it_is_an_iterable_of_blocks():
    """As the one of PEP 3333."""
    wrapper = FileWrapper(io.BytesIO(b"x" * 20_000))
    assert iter(wrapper) is wrapper
    assert [len(block) for block in wrapper] == [8192, 8192, 3616]
    assert list(wrapper) == []
    assert list(FileWrapper(io.BytesIO(b"abcde"), 2)) == [b"ab", b"cd", b"e"]


def test_it_has_close_when_the_file_has():
    """A server calls close() if there is one."""
    file = io.BytesIO(b"x")
    FileWrapper(file).close()
    assert file.closed

    class Bare:
        def read(self, size):
            return b""

    assert not hasattr(FileWrapper(Bare()), "close")


class Sent(NamedTuple):
    """What went out, and what was said of it."""

    data: bytes
    result: object


def sent(wires, wrapper, kind="unix", **options) -> Sent:
    """Send to a socket that somebody reads."""
    sink = wires.sink(kind)
    result = wrapper.send(sink.end, **options)
    return Sent(sink.received(), result)


@pytest.mark.parametrize("kind", ["unix", "tcp4", "pipe", "tty"])
@pytest.mark.parametrize(("begin", "count"), [(0, None), (10, None), (10, 5), (10, 0), (10, 10**9)])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_file_is_sent_from_its_position(wires, tmp_path, kind, begin, count, buffering):
    """To its end or for a count; the position ends where reading as much would leave it."""
    data = DATA[:2000] if kind == "tty" else DATA
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb", buffering=buffering) as file:
        assert file.read(begin) == data[:begin]
        got = sent(wires, FileWrapper(file), kind, header=b"HEAD", count=count)
        wanted = data[begin:] if count is None else data[begin : begin + count]
        assert got.data == b"HEAD" + wanted
        assert got.result.moved == len(got.data)
        assert got.result.by_method["send"] == 4
        if kind != "tty" and count != 0:
            assert got.result.method == ("splice" if kind == "pipe" else method_of(len(wanted)))
            assert got.result.by_method[got.result.method] == len(wanted)
        assert file.tell() == begin + len(wanted)
        assert file.read() == data[begin + len(wanted) :]


def test_what_was_written_but_not_flushed(wires, tmp_path):
    """Is in the file as reading has it."""
    with open(tmp_path / "file", "w+b") as file:
        file.write(DATA[:10])
        file.seek(2)
        assert sent(wires, FileWrapper(file)).data == DATA[2:10]


def test_an_object_with_nothing_but_a_number(wires, tmp_path):
    """Without a read() of its own it has no bytes but the descriptor's."""

    class Bare:
        def __init__(self, fd):
            self.fd = fd

        def fileno(self):
            return self.fd

    (tmp_path / "file").write_bytes(DATA)
    with open(tmp_path / "file", "rb") as file:
        os.lseek(file.fileno(), 7, os.SEEK_SET)
        assert sent(wires, FileWrapper(Bare(file.fileno())), count=9).data == DATA[7:16]
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 16


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(tempfile.SpooledTemporaryFile, 10),
        tempfile.NamedTemporaryFile,
        tempfile.TemporaryFile,
        lambda: os.fdopen(os.memfd_create("x"), "w+b"),
    ],
)
def test_temporary_files_are_real(wires, make):
    """By sendfile."""
    with make() as file:
        file.write(DATA)
        file.seek(0)
        got = sent(wires, FileWrapper(file))
        assert (got.data, got.result.method) == (DATA, "sendfile")


def compressed(tmp_path):
    with gzip.open(tmp_path / "z", "wb") as file:
        file.write(DATA)
    return gzip.open(tmp_path / "z")


def piped(tmp_path):
    reader, writer = os.pipe()

    def feed():
        with os.fdopen(writer, "wb") as file:
            file.write(DATA)

    Worker(feed)
    return os.fdopen(reader, "rb")


class OnlyRead(io.RawIOBase):
    """A file that is only what it reads, a little at a time."""

    def __init__(self):
        self.left = DATA

    def readable(self):
        return True

    def read(self, size=-1):
        part, self.left = self.left[: min(size, 70_000)], self.left[min(size, 70_000) :]
        return part


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda tmp_path: io.BytesIO(DATA), "BytesIO"),
        (compressed, "gzip"),
        (piped, "the read end of a pipe"),
        (lambda tmp_path: OnlyRead(), "fileno"),
    ],
)
@pytest.mark.parametrize("count", [None, 1_000_000])
def test_anything_else_is_read(wires, tmp_path, make, why, count):
    """And the result says why."""
    with make(tmp_path) as file:
        got = sent(wires, FileWrapper(file), header=b"HEAD", count=count)
        assert got.data == b"HEAD" + DATA[:count]
        assert got.result.method == "python"
        assert got.result.by_method == {"send": 4, "python": len(got.data) - 4}
        (fallback,) = got.result.fallbacks
        assert why in fallback.why
        assert file.read(10) == (b"" if count is None else DATA[count : count + 10])


def test_a_file_that_the_kernel_makes_up(wires):
    """/proc says that its files are empty, and they are not."""
    with open("/proc/version", "rb") as file:
        got = sent(wires, FileWrapper(file), header=b"HEAD")
        with open("/proc/version", "rb") as again:
            assert got.data == b"HEAD" + again.read()


@pytest.mark.parametrize("kind", ["unix", "tcp4", "pipe"])
@pytest.mark.parametrize("nonblocking", [False, True])
def test_reading_waits_for_room(wires, kind, nonblocking):
    """Whatever the mode of the socket, which is the same afterwards."""
    sink = wires.sink(kind, nonblocking=nonblocking)
    FileWrapper(io.BytesIO(DATA)).send(sink.end, header=b"HEAD")
    assert os.get_blocking(sink.fd) is not nonblocking
    assert sink.received() == b"HEAD" + DATA


@pytest.mark.parametrize("make", [lambda path: path.open("rb"), lambda path: io.BytesIO(DATA)])
@pytest.mark.parametrize("kind", ["unix", "pipe"])
def test_a_timeout(wires, tmp_path, make, kind):
    """Nothing moves for so long: TimeoutError, for a real file as for any other."""
    (tmp_path / "file").write_bytes(DATA)
    if kind == "pipe":
        _, end = wires.pipe()
    else:
        end, _ = wires.sockets("unix")
    with make(tmp_path / "file") as file, pytest.raises(TimeoutError):
        FileWrapper(file).send(end, timeout=0.05)


def test_a_file_that_shrinks(wires, tmp_path, monkeypatch):
    """UnexpectedEOF, and the position is where the bytes ended."""
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as file:
        real = os.fstat

        def shrunk(fd):
            status = real(fd)
            if fd == file.fileno():
                os.truncate(tmp_path / "file", 100)
                monkeypatch.setattr(os, "fstat", real)
            return status

        near, far = wires.sockets("unix")
        wrapper = FileWrapper(file)
        place = wsgi.place_of

        def placed(*args):
            found = place(*args)
            monkeypatch.setattr(os, "fstat", shrunk)  # what send_file asks, after its own look
            return found

        monkeypatch.setattr(wsgi, "place_of", placed)
        monkeypatch.setattr(_send.act, "sent", lambda *a, **b: None)  # whose look is the C's
        with pytest.raises(UnexpectedEOF) as raised:
            wrapper.send(near, header=b"HEAD")
        assert raised.value.result.moved == 104
        assert file.tell() == 100
        near.close()
        assert read_all(far.fileno()) == b"HEAD" + DATA[:100]


def test_a_peer_that_is_gone(wires, tmp_path):
    """The natural exception."""
    (tmp_path / "file").write_bytes(DATA)
    for make in (lambda: (tmp_path / "file").open("rb"), lambda: io.BytesIO(DATA)):
        near, far = wires.sockets("unix")
        far.close()
        with make() as file, pytest.raises(BrokenPipeError):
            FileWrapper(file).send(near)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"count": -1}, ValueError), ({"timeout": -1}, ValueError), ({"header": "text"}, TypeError)],
)
def test_what_is_no_argument(wires, options, error):
    """Refused before anything is sent or read."""
    near, far = wires.sockets("unix")
    file = io.BytesIO(b"data")
    with pytest.raises(error):
        FileWrapper(file).send(near, **options)
    assert file.tell() == 0
    near.close()
    assert read_all(far.fileno()) == b""


def test_text_is_refused(wires, tmp_path):
    """Before the header has left."""
    (tmp_path / "file").write_bytes(b"text")
    for make in ((tmp_path / "file").open, lambda: io.StringIO("text")):
        near, far = wires.sockets("unix")
        with make() as file, pytest.raises(TypeError):
            FileWrapper(file).send(near, header=b"HEAD")
        near.close()
        assert read_all(far.fileno()) == b""


def test_a_closed_file_is_refused(wires, tmp_path):
    """With the words that reading it has."""
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:
        wrapper = FileWrapper(file)
    near, _ = wires.sockets("unix")
    with pytest.raises(ValueError, match="closed file"):
        wrapper.send(near)


# -- under wsgiref ---------------------------------------------------------------------------------


class ServerHandler(wsgiref.simple_server.ServerHandler):
    """What docs/howto/wsgi.md shows."""

    wsgi_file_wrapper = FileWrapper

    def sendfile(self):
        out, self.stdout = self.stdout, io.BytesIO()
        if not self.headers_sent:
            self.send_headers()
        head, self.stdout = self.stdout.getvalue(), out
        if self.environ["REQUEST_METHOD"] == "HEAD":
            self.stdout.write(head)
            return True
        length = self.headers["Content-Length"]
        result = self.result.send(
            self.request_handler.connection,
            header=head,
            count=None if length is None else int(length),
        )
        self.bytes_sent = result.moved - len(head)
        self.request_handler.server.results.append(result)
        return True


class RequestHandler(wsgiref.simple_server.WSGIRequestHandler):
    """One request, answered through that ServerHandler."""

    def handle(self):
        self.raw_requestline = self.rfile.readline(65537)
        if self.parse_request():
            handler = ServerHandler(self.rfile, self.wfile, io.StringIO(), self.get_environ())
            handler.request_handler = self
            handler.run(self.server.get_app())

    def log_message(self, format, *args):
        self.server.logged.append(format % args)


class Reply(NamedTuple):
    """A response as a client sees it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@contextlib.contextmanager
def serving(app):
    """Serve an application; yields a function that asks it, and what was sent by `send`."""
    with wsgiref.simple_server.make_server(
        "127.0.0.1", 0, app, handler_class=RequestHandler
    ) as server:
        server.results, server.logged, server.errors = [], [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def ask(method: str = "GET", **fields: str) -> Reply:
            client = http.client.HTTPConnection(*server.server_address)
            with contextlib.closing(client):
                client.request(method, "/", headers=fields)
                response = client.getresponse()
                return Reply(response.status, response.headers, response.read())

        ask.server = server
        try:
            yield ask, server.results
        finally:
            server.shutdown()
            thread.join()


class Closing:
    """A file that tells when it was closed."""

    def __init__(self, file):
        self.file, self.closed = file, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        self.closed += 1
        self.file.close()


def application(make, headers=(), status="200 OK", wrap=None):
    """An application that returns a file in the server's wrapper."""

    def app(environ, start_response):
        start_response(status, [("Content-Type", "x/y"), *headers])
        result = environ["wsgi.file_wrapper"](make(), 8192)
        return wrap(result) if wrap else result

    return app


@pytest.fixture
def path(tmp_path):
    """A file."""
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("length", [None, len(DATA), 1000, 0])
def test_a_real_file_under_wsgiref(path, length):
    """By sendfile, head and all; no more than the length that was announced; closed at the end."""
    file = Closing(path.open("rb"))
    headers = () if length is None else [("Content-Length", str(length))]
    with serving(application(lambda: file, headers)) as (ask, results):
        reply = ask()
        assert reply.body == DATA[:length]
        assert reply.headers["Content-Type"] == "x/y"
        assert reply.headers["Content-Length"] == (None if length is None else str(length))
    assert file.closed == 1
    (result,) = results
    assert result.moved - result.by_method["send"] == len(reply.body)
    assert result.method == method_of(len(reply.body))
    assert ask.server.logged == [f'"GET / HTTP/1.1" 200 {len(reply.body)}']


def test_the_kernel_sends_it(path, monkeypatch):
    """Seen from under the library."""
    with (
        Seam().everywhere(monkeypatch) as seam,
        serving(application(lambda: path.open("rb"))) as (ask, results),
    ):
        assert ask().body == DATA
    assert sum(max(0, row.result) for row in seam.calls("sendfile")) == len(DATA)
    assert sum(row.result for row in seam.calls("write")) == results[0].by_method["send"] < 500


def test_a_flask_app_needs_no_change(path):
    """Its send_file returns what the server's wrapper has made, and a 304 as before."""
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__)

    @app.route("/")
    def file():
        return flask.send_file(path)

    with serving(app) as (ask, results):
        reply = ask()
        assert (reply.status, reply.body) == (200, DATA)
        assert [result.method for result in results] == [method_of(len(DATA))]
        assert ask(**{"If-None-Match": reply.headers["ETag"]}).status == 304
        part = ask(Range="bytes=5-9")
        assert (part.status, part.body) == (206, DATA[5:10])
        assert len(results) == 1


def test_head_has_no_body(path):
    """What a server does with it, and the file is closed all the same."""
    file = Closing(path.open("rb"))
    app = application(lambda: file, [("Content-Length", str(len(DATA)))])
    with serving(app) as (ask, results):
        reply = ask("HEAD")
    assert (reply.body, reply.headers["Content-Length"]) == (b"", str(len(DATA)))
    assert (results, file.closed) == ([], 1)


def test_ranges_are_the_application_s(path):
    """It seeks, and says how long the part is; nothing is added to what it says."""

    def make():
        file = path.open("rb")
        file.seek(100)
        return file

    headers = [("Content-Length", "50"), ("Content-Range", f"bytes 100-149/{len(DATA)}")]
    with serving(application(make, headers, "206 Partial Content")) as (ask, results):
        reply = ask(Range="bytes=100-149")
        assert (reply.status, reply.body) == (206, DATA[100:150])
    with serving(application(lambda: path.open("rb"))) as (ask, _):
        reply = ask(Range="bytes=0-1")
        assert (reply.status, len(reply.body)) == (200, len(DATA))
        assert "Accept-Ranges" not in reply.headers
    assert [result.method for result in results] == ["read_write"]  # 50 bytes


def test_a_file_in_memory_under_wsgiref():
    """Is read, and sent in the same way."""
    with serving(application(lambda: io.BytesIO(DATA))) as (ask, results):
        assert ask().body == DATA
    assert results[0].method == "python"


def test_middleware_makes_it_an_iterable(path):
    """Whoever wraps the result gets the blocks; close() is theirs to pass on."""
    file = Closing(path.open("rb"))

    def middleware(result):
        try:
            for block in result:
                yield bytes(255 - byte for byte in block[:10])
        finally:
            result.close()

    with serving(application(lambda: file, wrap=middleware)) as (ask, results):
        wanted = b"".join(
            bytes(255 - byte for byte in DATA[at : at + 10]) for at in range(0, len(DATA), 8192)
        )
        assert ask().body == wanted
    assert (results, file.closed) == ([], 1)


def test_the_standard_library_s_validator_has_no_complaint(path):
    """wsgiref.validate between server and application, which sees the blocks."""
    file = Closing(path.open("rb"))
    app = application(lambda: file, [("Content-Length", str(len(DATA)))])
    with serving(wsgiref.validate.validator(app)) as (ask, results):
        reply = ask()
        assert (reply.status, reply.body) == (200, DATA)
    assert (results, file.closed) == ([], 1)
    assert ask.server.errors == []


def test_a_client_that_goes_away_under_wsgiref(path):
    """The file is closed, and the next one is served."""
    files = []
    with path.open("r+b") as file:
        file.truncate(64 * MIB)  # more than the buffers of both sockets take

    def make():
        files.append(Closing(path.open("rb")))
        return files[-1]

    with serving(application(make, [("Content-Length", str(64 * MIB))])) as (ask, results):
        sock = socket.create_connection(ask.server.server_address)
        with sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert sock.recv(10)
        assert ask().body[: len(DATA)] == DATA
    assert [file.closed for file in files] == [1, 1]
    assert len(results) == 1
