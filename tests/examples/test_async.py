"""The examples on asyncio: a CONNECT proxy, a router of WebSockets, a child's output; real clients.

Rule 1: what a client has sent behind its head reaches the other side.
Rule 2: a client that goes away, or asks for nonsense, costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.support.commands import HANG, unused_port
from tests.support.examples import EXAMPLES, example
from tests.support.programs import need
from tests.support.servers import Server, echo, read_all
from tests.support.states import children, until
from tests.support.wires import MIB, payload

ROUTE = "/at=127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "args"),
    [("connect_proxy.py", []), ("websocket_router.py", [ROUTE]), ("child_output.py", ["true"])],
)
def test_an_example_says_how_it_is_run(name, args):
    """Its docstring has the command, --help the arguments, wrong ones are 2, Ctrl-C ends it."""
    text = (EXAMPLES / name).read_text()
    assert f"python {name} 127.0.0.1:" in text.split('"""')[1]
    for given, code in ((["--help"], 0), ([], 2)):
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *given],
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        assert done.returncode == code
        assert "HOST:PORT" in done.stdout + done.stderr
    with example(name, "127.0.0.1:0", *args) as (_, process):
        pass
    assert (process.returncode, process.errors) == (0, b"")


# -- CONNECT ---------------------------------------------------------------------------------------


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def web(folder: Path):
    """Serve a folder by http.server."""
    handler = lambda *args: Files(*args, directory=str(folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_curl_through_the_connect_proxy(tmp_path):
    """A file comes through the tunnel whole, and both counts are said."""
    data = payload(5 * MIB)
    (tmp_path / "file").write_bytes(data)
    with web(tmp_path) as port, example("connect_proxy.py", "127.0.0.1:0") as (proxy, process):
        done = subprocess.run(
            [
                *(need("curl"), "-sS", "--proxytunnel", "-x", f"http://127.0.0.1:{proxy}"),
                f"http://127.0.0.1:{port}/file",
            ],
            capture_output=True,
            timeout=HANG,
            check=True,
        )
        assert done.stdout == data
        line = process.stdout.readline().decode()
        assert line.startswith(f"127.0.0.1:{port}: ")
        assert int(line.split()[-2]) > len(data)


@pytest.mark.parametrize(
    ("asks", "answer"),
    [
        (b"GET http://a/ HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT nowhere HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT a:b HTTP/1.1\r\n\r\n", b"400"),
        (b"\xff\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\n" + bytes(70_000), b"400"),
        (b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n", b"502"),
    ],
    ids=["GET", "no port", "no number", "no text", "too long", "refused"],
)
def test_what_the_connect_proxy_refuses(asks, answer):
    asks = asks.replace(b"%d", b"%d" % unused_port())
    with (
        example("connect_proxy.py", "127.0.0.1:0") as (port, process),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        with contextlib.suppress(OSError):
            sock.sendall(asks)
        # What it has not read of a long head makes its end a reset.
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100).startswith(b"HTTP/1.1 %b " % answer)
    assert process.errors == b""


def test_bytes_behind_the_connect_head():
    """They are the first that the server gets."""
    with (
        Server(echo) as server,
        example("connect_proxy.py", "127.0.0.1:0") as (port, _),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        sock.sendall(f"CONNECT {server.address} HTTP/1.1\r\n\r\nahead".encode())
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"HTTP/1.1 200 Connection established\r\n\r\nahead"


# -- WebSockets ------------------------------------------------------------------------------------


def test_websockets_are_routed_by_their_path():
    """Two servers, text, large binary messages, pings, and an orderly close from each side."""

    async def main(router: str) -> None:
        data = payload(900_000)
        for path in ("/a", "/b"):
            async with connect(f"ws://{router}{path}?query", max_size=None) as client:
                await client.send("hello")
                assert await client.recv() == f"{path}: hello"
                await client.send(data)
                assert await client.recv() == data
                await (await client.ping())
                if path == "/b":
                    await client.send("close")
                    with pytest.raises(websockets.ConnectionClosedOK):
                        await client.recv()
        with pytest.raises(websockets.InvalidStatus, match="404"):
            await connect(f"ws://{router}/c")

    async def answer(client):
        async for message in client:
            if message == "close":
                await client.close()
            path = client.request.path.partition("?")[0]
            await client.send(f"{path}: {message}" if isinstance(message, str) else message)

    async def with_servers():
        async with serve(answer, "127.0.0.1", 0) as a, serve(answer, "127.0.0.1", 0) as b:
            routes = [
                f"{path}=127.0.0.1:{one.sockets[0].getsockname()[1]}"
                for path, one in (("/a", a), ("/b", b))
            ]
            with example("websocket_router.py", "127.0.0.1:0", *routes) as (port, process):
                await main(f"127.0.0.1:{port}")
            assert process.errors == b""

    asyncio.run(with_servers())


@pytest.mark.parametrize(
    ("asks", "answer"),
    [
        (b"GET /at HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"POST /at HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"404"),
        (b"nonsense\r\n\r\n", b"404"),
        (b"GET /at HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * 20_000, b"404"),
        (b"GET /at HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"502"),
    ],
    ids=["no Upgrade", "POST", "no request", "too long", "refused"],
)
def test_what_the_router_refuses(asks, answer):
    with (
        example("websocket_router.py", "127.0.0.1:0", f"/at=127.0.0.1:{unused_port()}") as (
            port,
            process,
        ),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        sock.sendall(asks)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1000).startswith(b"HTTP/1.1 %b " % answer)
    assert process.errors == b""


# -- a child ---------------------------------------------------------------------------------------

PRINTS = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 20000)"


def test_curl_gets_what_a_child_prints():
    """By splice, twice; a HEAD runs nothing."""
    command = ["127.0.0.1:0", "--", sys.executable, "-c", PRINTS]
    with example("child_output.py", *command) as (port, process):
        url = f"http://127.0.0.1:{port}/"
        for _ in range(2):
            done = subprocess.run(
                [need("curl"), "-sS", url], capture_output=True, timeout=HANG, check=True
            )
            assert done.stdout == bytes(range(256)) * 20_000
            assert process.stdout.readline() == b"5120000 bytes, splice\n"
        head = subprocess.run([need("curl"), "-sSI", url], capture_output=True, check=True)
        assert head.stdout.startswith(b"HTTP/1.0 200 OK\r\n")


def test_a_child_that_fails_resets():
    """The client is not to take what came for the whole."""
    command = ["127.0.0.1:0", "--", "sh", "-c", "echo part; exit 3"]
    with (
        example("child_output.py", *command) as (port, _),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_all(sock)


def test_a_client_that_goes_away_ends_the_child():
    command = ["127.0.0.1:0", "--", "cat", "/dev/zero"]
    with example("child_output.py", *command) as (port, process):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert sock.recv(1000)
            until(lambda: children(process.pid))
        assert b"went away" in process.stdout.readline()
        until(lambda: not children(process.pid))
