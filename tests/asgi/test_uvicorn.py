"""`UvicornProtocol`: what arrives is what uvicorn would send, and files leave by sendfile.

Each test runs on uvicorn's own two protocols, httptools and h11.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import io
import os
import random
import resource
import socket
import subprocess
import sys
import types

import pytest

from spliceio import TransferResult
from tests.support.loops import ending  # noqa: F401
from tests.support.programs import need
from tests.support.states import until
from tests.support.wires import MIB

pytest.importorskip("uvicorn")
from spliceio.asgi import _disk, _outlet, _uvicorn
from tests.support.asgis import (
    base_of,
    dechunked,
    loops,
    parsed,
    parsers,
    read_all,
    read_one,
    segments,
    serving,
    slow_reader,
    status_lines,
    trusting,
)

SIZES = [0, 1, 1024, 65536, 65537, 262144, 262145, 5 * MIB + 3]
BIG = 12 * MIB


@pytest.fixture(params=parsers())
def parser(request):
    return request.param


@pytest.fixture(params=loops())
def loop(request):
    return request.param


@pytest.fixture
def methods(monkeypatch):
    """Note by which method each file went."""
    noted = []
    sent, run = _outlet.act.sent, _outlet.run_and_close

    def at_once(*args, **options):
        tried = sent(*args, **options)
        if isinstance(tried, TransferResult):
            noted.append(f"{tried.method} at once")
        return tried

    async def later(*args):
        result = await run(*args)
        noted.append(result.method)
        return result

    monkeypatch.setattr(_outlet, "act", types.SimpleNamespace(sent=at_once))
    monkeypatch.setattr(_outlet, "run_and_close", later)
    return noted


def file_of(tmp_path, size, name="file"):
    path = tmp_path / name
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def start(*fields, status=200):
    return {"type": "http.response.start", "status": status, "headers": list(fields)}


def length(count):
    return (b"content-length", b"%d" % count)


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def pathsend(path):
    return {"type": "http.response.pathsend", "path": str(path)}


def zerocopysend(file, **rest):
    return {"type": "http.response.zerocopysend", "file": file, **rest}


def sends(*messages):
    """Return an app that sends these messages to everybody."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


# -- what arrives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_path(tmp_path, parser, loop, methods, size):
    """The whole file; the head is uvicorn's.

    Up to 64 KiB it is one write, above it goes by sendfile.
    """
    path = file_of(tmp_path, size)
    fields = length(size), (b"X-Kept", b"as it is")
    with serving(sends(start(*fields), body(path.read_bytes())), parser, plain=True) as server:
        plain = server.get("/")
    with serving(sends(start(*fields), pathsend(path)), parser, loop) as server:
        answer = server.get("/")
    assert answer.body == path.read_bytes()
    plain.fields["date"] = answer.fields["date"]
    assert answer == plain
    assert methods == (["read_write at once" if size <= 65536 else "sendfile"] if size else [])


@pytest.mark.parametrize("size", [1, 1024, 300_000])
def test_a_path_without_a_length(tmp_path, parser, loop, methods, size):
    """It is one chunk."""
    path = file_of(tmp_path, size)
    with serving(sends(start(), pathsend(path)), parser, loop) as server:
        answer = server.get("/")
    assert dechunked(answer.body) == path.read_bytes()
    assert len(methods) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_parts_of_files_among_other_messages(tmp_path, parser, loop, methods, chunked):
    """Any number of them, in order: with offset and count, from the position on, to the end."""
    path = file_of(tmp_path, 600_000)
    data = path.read_bytes()
    wanted = b"one" + data[7:1007] + b"two" + data[50_000:450_000] + data[5:25] + data[25:] + b"end"

    async def app(scope, receive, send):
        await send(start(*([] if chunked else [length(len(wanted))])))
        await send(body(b"one", True))
        with path.open("rb") as file:
            await send(zerocopysend(file, offset=7, count=1000, more_body=True))
            await send(body(b"two", True))
            await send(zerocopysend(file.fileno(), offset=50_000, count=400_000, more_body=True))
            assert file.tell() == 0
            assert file.read(5) == data[:5]
            await send(zerocopysend(file, count=20, more_body=True))
            assert file.tell() == 25
            await send(zerocopysend(file, more_body=True))
            assert file.tell() == len(data)
            await send(zerocopysend(file, count=20, more_body=True))
        await send(body(b"end"))

    with serving(app, parser, loop) as server:
        answer = server.get("/")
        assert server.messages("uvicorn.error")[-1:] != ["Exception in ASGI application\n"]
    assert (dechunked(answer.body) if chunked else answer.body) == wanted
    assert methods == ["read_write at once", "sendfile", "read_write at once", "sendfile"]


def test_the_last_message_is_a_part_of_a_file(tmp_path, parser):
    """Without more_body the response is complete, and the connection goes on."""
    path = file_of(tmp_path, 5000)
    with path.open("rb") as file:
        app = sends(start(length(4000)), zerocopysend(file, offset=1000))
        with serving(app, parser) as server, server.connect() as sock:
            for _ in range(3):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_one(sock).body == path.read_bytes()[1000:]


def test_a_socket_without_room_for_a_file_of_middle_size(tmp_path, parser, methods):
    """What does not go at once goes in turns, or by an engine, from there on."""
    path = file_of(tmp_path, 262144)
    app = sends(start(length(262144)), pathsend(path))
    with serving(app, parser) as server:
        for listener in server.server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with slow_reader(server.port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            until(lambda: server.server.server_state.tasks)
            assert parsed(read_all(sock)).body == path.read_bytes()
    assert methods[-1] == "sendfile"
    assert len(methods) < 4


def test_what_has_been_written_before_goes_first(tmp_path, parser, loop):
    """Also what the transport still holds, for a client that is slow."""
    path, before = file_of(tmp_path, 3 * MIB), bytes(4 * MIB)
    app = sends(start(length(7 * MIB)), body(before, True), pathsend(path))
    with serving(app, parser, loop) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = parsed(read_all(sock))
    assert answer.body == before + path.read_bytes()


def test_what_is_written_after_goes_last(tmp_path, parser, loop):
    """And more than the transport takes at once is waited for, as ever."""
    path, after = file_of(tmp_path, 3 * MIB), bytes(4 * MIB)
    with path.open("rb") as file:
        part = zerocopysend(file, offset=0, more_body=True)
        app = sends(start(length(7 * MIB)), part, body(after[:MIB], True), body(after[MIB:]))
        with serving(app, parser, loop) as server, slow_reader(server.port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = parsed(read_all(sock))
    assert answer.body == path.read_bytes() + after


@pytest.mark.parametrize("make", ["path", "part"])
def test_head(tmp_path, parser, make):
    """No file is opened for HEAD, and the next request is answered."""
    path = tmp_path / "missing"
    message = pathsend(path) if make == "path" else zerocopysend(io.BytesIO())
    with serving(sends(start(length(99)), message), parser) as server, server.connect() as sock:
        for _ in range(2):
            sock.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = read_one(sock, "HEAD")
            assert (answer.status, answer.fields["content-length"]) == (200, "99")


@pytest.mark.parametrize("size", [1024, 5 * MIB])
def test_http_1_0(tmp_path, parser, loop, size):
    """The connection closes at the end of the file."""
    path = file_of(tmp_path, size)
    with serving(sends(start(length(size)), pathsend(path)), parser, loop) as server:
        answer = parsed(server.raw(b"GET / HTTP/1.0\r\n\r\n"))
        assert answer.body == path.read_bytes()


@pytest.mark.parametrize("size", [1000, 300_000])
def test_pipelined_requests(tmp_path, parser, loop, size):
    """They are answered one after the other, in their order."""
    paths = {f"/{n}": file_of(tmp_path, size + n, str(n)) for n in range(5)}

    async def app(scope, receive, send):
        path = paths[scope["path"]]
        await send(start(length(path.stat().st_size)))
        await send(pathsend(path))

    with serving(app, parser, loop) as server, server.connect() as sock:
        sock.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(5)))
        for path in paths.values():
            assert read_one(sock).body == path.read_bytes()


def test_an_app_without_files_is_answered_as_by_uvicorn(parser, loop):
    """Bodies of all kinds, with their heads, byte for byte."""

    async def app(scope, receive, send):
        request = await receive()
        if scope["path"] == "/echo":
            await send(start(length(len(request["body"]))))
            await send(body(request["body"]))
        elif scope["path"] == "/stream":
            await send(start())
            for n in range(5):
                await send(body(b"x" * 10**n, True))
            await send(body())
        elif scope["path"] == "/view":
            await send(start(length(15)))
            for kind in (memoryview, bytearray, bytes):
                await send(body(kind(b"hello"), kind is not bytes))
        elif scope["path"] == "/empty":
            await send(start(status=304))
            await send(body())
        else:
            raise ValueError("no such path")

    requests = [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /view HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /error HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ]
    came = []
    for plain in (True, False):
        options = {"date_header": False}
        with serving(app, parser, loop, plain=plain, **options) as server:
            came.append([server.raw(b"".join(requests[n:])) for n in range(len(requests))])
    assert came[0] == came[1]
    assert status_lines(came[1][0]) == [200, 200, 200, 200, 304, 500]


# -- segments --------------------------------------------------------------------------------------


def test_head_and_file_in_one_segment(tmp_path, parser, loop):
    """A small file is one packet, and so is a small body of any other app."""
    path = file_of(tmp_path, 1024)

    async def app(scope, receive, send):
        await send(start(length(1024)))
        await send(pathsend(path) if scope["path"] == "/file" else body(path.read_bytes()))

    with serving(app, parser, loop) as server, server.connect() as sock:
        for number, target in enumerate([b"/file", b"/body", b"/file"]):
            sock.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
            assert read_one(sock).body == path.read_bytes()
            assert segments(sock) == number + 1


def test_head_and_file_in_one_segment_through_middleware(tmp_path, parser):
    """Starlette's BaseHTTPMiddleware lets the loop go round between the two messages."""
    applications = pytest.importorskip("starlette.applications")
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import FileResponse
    from starlette.routing import Route

    path = file_of(tmp_path, 1024)

    async def dispatch(request, call_next):
        return await call_next(request)

    app = applications.Starlette(
        routes=[Route("/", lambda request: FileResponse(path))],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
    )
    with serving(app, parser) as server, server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_one(sock).body == path.read_bytes()
        assert segments(sock) == 1


def test_head_and_file_in_one_segment_from_a_disk(tmp_path, parser, monkeypatch):
    """The head waits while another thread looks for the file."""
    path = file_of(tmp_path, 1024)

    def refuse(*args):
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    monkeypatch.setattr(_disk.owned, "open_within", refuse)
    app = sends(start(length(1024)), pathsend(path))
    with serving(app, parser) as server, server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_one(sock).body == path.read_bytes()
        assert segments(sock) == 1


def test_a_response_without_a_body_does_not_wait(tmp_path, parser, monkeypatch):
    """It leaves as soon as the app has said that there is none."""
    turns, wait = [], _outlet.Outlet._wait

    def counted(self, left):
        turns.append(left)
        wait(self, left)

    monkeypatch.setattr(_outlet.Outlet, "_wait", counted)
    path = file_of(tmp_path, 0)

    async def app(scope, receive, send):
        await send(start(length(0), status=304 if scope["path"] == "/known" else 200))
        await send(pathsend(path) if scope["path"] == "/file" else body())

    with serving(app, parser) as server, server.connect() as sock:
        for method, target in (("GET", "/known"), ("HEAD", "/"), ("GET", "/file"), ("GET", "/")):
            sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            read_one(sock, method)
    assert turns == [8] * 4


def test_a_head_without_a_body_does_not_wait(parser, loop):
    """An app that has nothing to send yet: its head is with the client already."""
    release = None

    async def app(scope, receive, send):
        nonlocal release
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        release = lambda: loop.call_soon_threadsafe(event.set)  # noqa: E731
        await send(start(length(5)))
        await event.wait()
        await send(body(b"hello"))

    with serving(app, parser, loop) as server, server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"\r\n\r\n" in sock.recv(4096)
        release()
        assert read_all(sock) == b"hello"


# -- what is promised is kept, or the connection closes --------------------------------------------


@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("promised", [-1, 1])
def test_another_length_than_the_file(tmp_path, parser, size, promised):
    """The connection closes: nothing after it is read as its rest, and no next request answered."""
    path = file_of(tmp_path, size)
    with serving(sends(start(length(size + promised)), pathsend(path)), parser) as server:
        data = server.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert status_lines(data) == [200]
        # Too much: nothing of it is sent. Too little: what there is.
        assert parsed(data).body == (b"" if promised < 0 else path.read_bytes())
        assert server.messages() == ["Exception in ASGI application\n"]
        until(lambda: not server.connections)


def test_a_file_that_becomes_shorter(tmp_path, parser):
    """The connection closes, at the place where the file has ended."""
    path = file_of(tmp_path, BIG)
    wanted = path.read_bytes()
    app = sends(start(length(BIG)), pathsend(path))
    with serving(app, parser) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        first = sock.recv(1000)
        os.truncate(path, 10 * MIB)
        data = first + read_all(sock)
        assert parsed(data).body == wanted[: 10 * MIB]
        assert server.messages() == ["Exception in ASGI application\n"]
        until(lambda: not server.connections)


def test_an_app_that_goes_on_after_a_file_that_became_shorter(tmp_path, parser):
    """What it sends then goes nowhere."""
    path = file_of(tmp_path, BIG)
    failed = []

    async def app(scope, receive, send):
        await send(start(length(BIG)))
        try:
            await send(pathsend(path))
        except OSError as error:
            failed.append(error)
        await send(body(b"HTTP/1.1 200 OK\r\n\r\n"))

    with serving(app, parser) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        first = sock.recv(1000)
        os.truncate(path, MIB)
        data = first + read_all(sock)
        assert status_lines(data) == [200]
        assert len(failed) == 1
        until(lambda: not server.connections)


@pytest.mark.parametrize(
    "way", ["reset", "close", "half-close"], ids=["reset", "closed", "half-closed"]
)
def test_a_client_that_goes(tmp_path, parser, loop, way):
    """The app's send returns, nothing is logged but the request, and nothing is left.

    One that only says that it sends no more gets the file.
    """
    path, returned = file_of(tmp_path, BIG), []

    async def app(scope, receive, send):
        await send(start(length(BIG)))
        await send(pathsend(path))
        returned.append(True)

    with serving(app, parser, loop) as server:
        sock = slow_reader(server.port)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = sock.recv(1000)
        if way == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif way == "half-close":
            sock.shutdown(socket.SHUT_WR)
            data += read_all(sock)
            assert parsed(data).body == path.read_bytes()
        sock.close()
        until(lambda: returned and not server.connections)
        until(lambda: not server.server.server_state.tasks)
        assert server.messages() == []


def test_a_slow_client_holds_up_nobody(tmp_path, parser, loop):
    """While its file waits, others get theirs, and their answers."""
    path = file_of(tmp_path, BIG)
    app = sends(start(length(BIG)), pathsend(path))
    with serving(app, parser, loop) as server, contextlib.ExitStack() as stack:
        request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        slow = [stack.enter_context(slow_reader(server.port)) for _ in range(8)]
        for sock in slow:
            sock.sendall(request)
        begun = [sock.recv(100) for sock in slow]
        assert server.get("/").body == path.read_bytes()
        for first, sock in zip(begun, slow, strict=True):
            assert parsed(first + read_all(sock)).body == path.read_bytes()


def test_a_cancelled_response(tmp_path, parser, loop):
    """The transfer stops, and the connection closes, whatever the app does then."""
    path = file_of(tmp_path, BIG)
    tasks, raised = [], []

    async def app(scope, receive, send):
        await send(start(length(BIG)))
        task = asyncio.ensure_future(send(pathsend(path)))
        tasks.append((asyncio.get_running_loop(), task))
        try:
            await task
        except asyncio.CancelledError as error:
            raised.append(error)
        with contextlib.suppress(RuntimeError):
            await send(body(b"more"))

    with serving(app, parser, loop) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        data = sock.recv(1000)
        ((of, task),) = tasks
        of.call_soon_threadsafe(task.cancel)
        until(lambda: raised)
        data += read_all(sock)
        sent = parsed(data).body
        assert status_lines(data) == [200]
        assert len(sent) < BIG
        assert sent == path.read_bytes()[: len(sent)]
        until(lambda: not server.connections)


def test_a_graceful_shutdown_waits_for_a_download(tmp_path, parser, loop):
    """It is sent to its end, then the connection closes."""
    path = file_of(tmp_path, BIG)
    app = sends(start(length(BIG)), pathsend(path))
    with serving(app, parser, loop) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = sock.recv(1000)
        server.server.should_exit = True
        until(lambda: any("Waiting for" in record.getMessage() for record in server.log))
        data += read_all(sock)
    assert parsed(data).body == path.read_bytes()


def test_a_shutdown_with_a_limit_ends_a_download(tmp_path, parser, loop):
    """The transfer is cancelled with the task, and leaves nothing behind."""
    path = file_of(tmp_path, BIG)
    app = sends(start(length(BIG)), pathsend(path))
    options = {"timeout_graceful_shutdown": 1}
    with serving(app, parser, loop, **options) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = sock.recv(1000)
        server.server.should_exit = True
        until(lambda: not server.connections)
        data += read_all(sock)
    assert len(parsed(data).body) < BIG


@pytest.mark.parametrize("garbage", [b"\0\1\2 garbage\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_garbage_behind_a_request_that_gets_a_file(tmp_path, parser, loop, garbage):
    """The file stays whole or is cut; no other answer stands in the middle of it.

    h11 takes the second of them for a request.
    """
    path = file_of(tmp_path, BIG)
    app = sends(start(length(BIG)), pathsend(path))
    options = {"timeout_keep_alive": 1}
    with serving(app, parser, loop, **options) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = sock.recv(1000)
        sock.sendall(garbage)
        data += read_all(sock)
    sent = parsed(data).body
    assert sent[:BIG] == path.read_bytes()[: len(sent)]
    assert status_lines(sent[BIG:]) in ([], [400], [200])


# -- what cannot be sent ---------------------------------------------------------------------------


def other_body(message, error):
    """Return an app that sends another body when a file is refused."""

    async def app(scope, receive, send):
        await send(start(length(5)))
        with pytest.raises(error):
            await send(message)
        await send(body(b"hello"))

    return app


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "null byte"])
def test_a_path_that_is_no_file(tmp_path, parser, kind):
    """The app is told, and can send something else."""
    path, error = tmp_path / "path", ValueError
    if kind == "missing":
        error = FileNotFoundError
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = "a\0b"
    with serving(other_body(pathsend(path), error), parser) as server:
        assert server.get("/").body == b"hello"
        assert server.messages() == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"file": io.BytesIO(b"hello")}, TypeError),
        ({"file": io.StringIO("hello")}, TypeError),
        ({"file": None}, TypeError),
        ({"file": "name"}, TypeError),
        ({"file": 10**6}, OSError),
        ({"file": 0, "offset": -1}, ValueError),
        ({"file": 0, "offset": 0, "count": -1}, ValueError),
        ({"file": 0, "offset": "0"}, TypeError),
    ],
)
def test_a_message_that_makes_no_sense(parser, message, error):
    """The app is told, and can send something else."""
    with serving(other_body(zerocopysend(**message), error), parser) as server:
        assert server.get("/").body == b"hello"


def test_a_file_with_bytes_of_its_own(tmp_path, parser):
    """What gzip reads is not what is in the file."""
    with gzip.open(tmp_path / "file.gz", "wb") as file:
        file.write(b"hello")
    with gzip.open(tmp_path / "file.gz", "rb") as file:
        app = other_body(zerocopysend(file), TypeError)
        with serving(app, parser) as server:
            assert server.get("/").body == b"hello"


def test_messages_out_of_order(tmp_path, parser):
    """They are refused with uvicorn's words."""
    path, raised = file_of(tmp_path, 10), []

    async def app(scope, receive, send):
        with pytest.raises(RuntimeError) as early:
            await send(pathsend(path))
        await send(start(length(10)))
        await send(pathsend(path))
        with pytest.raises(RuntimeError) as late:
            await send(pathsend(path))
        raised.extend([str(early.value), str(late.value)])

    with serving(app, parser) as server:
        assert server.get("/").body == path.read_bytes()
        until(lambda: raised)
    assert raised == [
        "Expected ASGI message 'http.response.start', but got 'http.response.pathsend'.",
        "Unexpected ASGI message 'http.response.pathsend' sent, after response already completed.",
    ]


def test_two_files_at_once(tmp_path, parser):
    """The second is refused, as nobody knows which should go first."""
    path = file_of(tmp_path, BIG)
    refused = []

    async def app(scope, receive, send):
        await send(start(length(BIG)))
        tasks = [asyncio.ensure_future(send(pathsend(path))) for _ in range(2)]
        for task in tasks:
            try:
                await task
            except RuntimeError as error:
                refused.append(str(error))

    with serving(app, parser) as server, slow_reader(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = parsed(read_all(sock))
    assert answer.body == path.read_bytes()[: len(answer.body)]
    assert len(refused) == 1


@pytest.mark.parametrize("size", [1000, 300_000])
def test_no_descriptor_left(tmp_path, parser, size):
    """What needs a duplicate is copied; what needs none goes as ever."""
    path = file_of(tmp_path, size)

    async def app(scope, receive, send):
        with path.open("rb") as file:
            await send(start(length(size)))
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = os.dup(file.fileno())
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
            try:
                await send(zerocopysend(file, offset=0))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

    with serving(app, parser) as server:
        assert server.get("/").body == path.read_bytes()
        assert server.messages() == []


# -- disks -----------------------------------------------------------------------------------------


def cold(path):
    """Let the kernel forget a file's bytes; skip where it does not."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            pytest.skip(f"this filesystem does not say what is in memory: {error}")
    pytest.skip("the kernel does not forget this file")


def test_a_file_that_is_on_its_disk_is_read_elsewhere(tmp_path, parser, methods):
    """A small part too goes by an engine, and not by a read in the thread of the loop.

    To ask whether it is in memory lets the kernel begin to read around that place; so the part is
    far from there.
    """
    path = file_of(tmp_path, BIG)
    wanted = path.read_bytes()[-4096:]
    with path.open("rb") as file:
        app = sends(start(length(4096)), zerocopysend(file, offset=BIG - 4096))
        with serving(app, parser) as server:
            cold(path)
            assert server.get("/").body == wanted
            assert server.get("/").body == wanted
    assert methods == ["sendfile", "read_write at once"]


def test_nothing_is_imported_by_the_first_file(tmp_path):
    """The modules of a large one are there before: to load them takes the loop some time."""
    path = file_of(tmp_path, 300_000)
    script = (
        "import asyncio, os, socket, sys, types, spliceio.asgi\n"
        "from spliceio.asgi import UvicornProtocol, _outlet\n"
        "async def main():\n"
        "    near, far = socket.socketpair()\n"
        "    loop = asyncio.get_running_loop()\n"
        "    for sock in (near, far): sock.setblocking(False)\n"
        "    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)\n"
        "    reader, writer = await asyncio.open_connection(sock=far)\n"
        "    outlet = _outlet.Outlet(transport, loop)\n"
        "    before = set(sys.modules)\n"
        f"    file = os.open({os.fspath(path)!r}, os.O_RDONLY)\n"
        "    task = asyncio.ensure_future(outlet.send_file(None, file, 0, 300_000, b'', b''))\n"
        "    await reader.readexactly(300_000)\n"
        "    assert await task\n"
        "    print(sorted(set(sys.modules) - before))\n"
        "    writer.close()\n"
        "    transport.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_a_path_that_is_not_in_memory_is_opened_elsewhere(tmp_path, parser, monkeypatch, refusal):
    """And always, once the kernel has said that it cannot tell."""
    path, asked = file_of(tmp_path, 10), []

    def refuse(*args):
        asked.append(args)
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(_disk, "_has_cached_opens", True)
    monkeypatch.setattr(_disk.owned, "open_within", refuse)
    with serving(sends(start(length(10)), pathsend(path)), parser) as server:
        for _ in range(2):
            assert server.get("/").body == path.read_bytes()
    assert len(asked) == (2 if refusal == errno.EAGAIN else 1)


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    subprocess.run(
        [
            need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-keyout", tmp_path / "key", "-out", tmp_path / "cert",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return {"ssl_certfile": str(tmp_path / "cert"), "ssl_keyfile": str(tmp_path / "key")}


@pytest.mark.parametrize("chunked", [False, True])
def test_tls(tmp_path, parser, loop, certificate, monkeypatch, methods, chunked):
    """The bytes are copied through TLS, to a slow client too, and the log says so once."""
    monkeypatch.setattr(_outlet, "_said", set())
    path = file_of(tmp_path, 5 * MIB + 3)
    fields = [] if chunked else [length(5 * MIB + 3)]
    app = sends(start(*fields), pathsend(path))
    with serving(app, parser, loop, **certificate) as server:
        for _ in range(2):
            with trusting().wrap_socket(slow_reader(server.port)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = parsed(read_all(sock))
            assert (dechunked(answer.body) if chunked else answer.body) == path.read_bytes()
        assert server.messages() == [
            "spliceio: files are copied, not sent by sendfile: TLS is ended by uvicorn"
        ]
    assert methods == []


def test_tls_and_a_client_that_goes(tmp_path, parser, loop, certificate):
    """The copying ends, and leaves nothing."""
    path, returned = file_of(tmp_path, BIG), []

    async def app(scope, receive, send):
        await send(start(length(BIG)))
        await send(pathsend(path))
        returned.append(True)

    with serving(app, parser, loop, **certificate) as server:
        with trusting().wrap_socket(slow_reader(server.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.recv(1000)
        until(lambda: returned and not server.connections)


# -- what is uvicorn's -----------------------------------------------------------------------------


def test_the_extensions_are_in_every_scope(parser):
    """Each scope has its own, beside those that are there."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["extensions"])
        scope["extensions"]["http.response.pathsend"]["mark"] = True
        await send(start(length(0)))
        await send(body())

    with serving(app, parser) as server:
        server.get("/")
        server.get("/")
    marked = {"http.response.pathsend": {"mark": True}, "http.response.zerocopysend": {}}
    assert seen == [marked, marked]


def test_the_access_log_is_uvicorns(tmp_path, parser):
    """A line a request, of the same words."""
    path, lines = file_of(tmp_path, 10), []
    for plain in (True, False):
        app = sends(start(length(10)), body(path.read_bytes()) if plain else pathsend(path))
        with serving(app, parser, plain=plain) as server:
            server.get("/a%20b?c")
            (line,) = server.messages("uvicorn.access")
            lines.append(line.partition(" - ")[2])
    assert lines == ['"GET /a%20b?c HTTP/1.1" 200', '"GET /a%20b?c HTTP/1.1" 200']


def test_a_websocket(parser):
    """It is uvicorn's own, on the transport of the event loop."""
    wsproto = pytest.importorskip("wsproto")
    from wsproto import events

    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"] * 2})
        await send({"type": "websocket.close"})

    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    came = []
    with serving(app, parser, ws="wsproto") as server, server.connect() as sock:
        sock.sendall(client.send(events.Request(host="x", target="/")))
        while not any(isinstance(event, events.CloseConnection) for event in came):
            client.receive_data(sock.recv(4096) or None)
            for event in client.events():
                came.append(event)
                if isinstance(event, events.AcceptConnection):
                    sock.sendall(client.send(events.TextMessage(data="hello")))
                elif isinstance(event, events.CloseConnection):
                    sock.sendall(client.send(event.response()))
    (text,) = (event.data for event in came if isinstance(event, events.TextMessage))
    assert text == "hellohello"
    assert "http.response.pathsend" not in (seen[0].get("extensions") or {})


def test_an_unix_socket(tmp_path, parser, loop):
    """Files go the same way."""
    path = file_of(tmp_path, 300_000)
    app = sends(start(length(300_000)), pathsend(path))
    name = tmp_path / "socket"
    with serving(app, parser, loop, path=name), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(name))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert parsed(read_all(sock)).body == path.read_bytes()


# -- versions --------------------------------------------------------------------------------------


def test_an_older_uvicorn_is_refused(parser):
    """In one sentence, with the versions that will do."""
    with pytest.raises(ImportError) as error:
        _uvicorn.parts_of(base_of(parser), "0.35.0")
    assert str(error.value) == (
        "spliceio.asgi.UvicornProtocol works with uvicorn 0.36 to 0.54 and later versions like "
        "them; this is uvicorn 0.35.0, which is older"
    )


def test_a_uvicorn_without_what_is_needed_is_refused(parser, monkeypatch):
    """It names what is missing."""
    base = base_of(parser)
    home = __import__(base.__module__, fromlist=["x"])
    wanted = sorted(_uvicorn._NEEDED[f"{parser}_impl"])

    class RequestResponseCycle:
        def __init__(self):
            self.scope = None

    monkeypatch.setattr(home, "RequestResponseCycle", RequestResponseCycle)
    with pytest.raises(ImportError) as error:
        _uvicorn.parts_of(base, "9.9")
    wanted.remove("scope")
    assert f"this is uvicorn 9.9, which has a {parser}_impl without {', '.join(wanted)}" in str(
        error.value
    )


def test_a_uvicorn_with_another_protocol_is_refused():
    """What `auto` chooses there is not known here."""

    class OtherProtocol:
        pass

    with pytest.raises(ImportError, match=r"which chooses OtherProtocol$"):
        _uvicorn.parts_of(OtherProtocol, "9.9")


def test_the_oldest_uvicorn_is_the_one_that_is_tested(here):
    """What is installed with the extra, what `make test-oldest` takes, and what is said."""
    oldest = _uvicorn.OLDEST
    assert f'asgi = ["uvicorn>={oldest}", ' in (here / "pyproject.toml").read_text()
    assert f" uvicorn=={oldest}.0 " in (here / "Makefile").read_text()


def test_the_public_class_is_on_what_auto_chooses():
    """That is httptools where it is installed."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    assert issubclass(_uvicorn.UvicornProtocol, AutoHTTPProtocol)
