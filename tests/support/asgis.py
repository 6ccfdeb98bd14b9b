"""ASGI apps under uvicorn, in a thread of this process: real sockets, and everything in reach.

Rule 1: the server ends before the test does, by its own graceful shutdown.
Rule 2: what a client gets is read byte by byte as it came: `Answer` parses no more than a head.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.loops import backends
from tests.support.states import Worker, until
from tests.support.wires import MIB

uvicorn = pytest.importorskip("uvicorn")
h11_impl = pytest.importorskip("uvicorn.protocols.http.h11_impl")

from spliceio.asgi import _uvicorn  # noqa: E402 - skipped without uvicorn

PARSERS = ("httptools", "h11")
LOOPS = ("asyncio", "uvloop")


def parsers():
    """Parameters: each of uvicorn's protocols; httptools is skipped where it is not installed."""
    missing = [] if _has_httptools() else [pytest.mark.skip(reason="httptools is not installed")]
    return [
        pytest.param(name, id=name, marks=missing if name == "httptools" else [])
        for name in PARSERS
    ]


def loops():
    """Parameters: each event loop that uvicorn runs on."""
    return backends(*LOOPS)


def _has_httptools() -> bool:
    with contextlib.suppress(ImportError):
        import httptools  # noqa: F401

        return True
    return False


def base_of(parser: str) -> Any:
    """Return the protocol class of uvicorn with this parser."""
    if parser == "h11":
        return h11_impl.H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return HttpToolsProtocol


def protocol_of(parser: str, plain: bool = False) -> Any:
    """Return our protocol class on this parser, or with `plain` uvicorn's own."""
    base = base_of(parser)
    if plain:
        return base
    parts = staticmethod(_uvicorn.parts_of(base, uvicorn.__version__))
    return type("OurProtocol", (_uvicorn.Sending, base), {"_parts": parts})


class Answer(NamedTuple):
    """One response as it came: status, fields in lower case, and all that follows the head."""

    status: int
    fields: dict[str, str]
    body: bytes


def parsed(data: bytes) -> Answer:
    """Parse one response, whose body ends with the data."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Answer(
        int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body
    )


def dechunked(data: bytes) -> bytes:
    """Return what chunks hold; raises where they do not end as they should."""
    body = b""
    while True:
        size, mark, data = data.partition(b"\r\n")
        assert mark
        n = int(size, 16)
        body, after = body + data[:n], data[n : n + 2]
        assert after == b"\r\n"
        data = data[n + 2 :]
        if not n:
            assert not data
            return body


class Running:
    """A server that runs, its clients, and what it has logged."""

    def __init__(self, server: Any, port: int) -> None:
        self.server, self.port = server, port
        self.log: list[logging.LogRecord] = []

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))

    def raw(self, request: bytes) -> bytes:
        """Send a request that ends its connection; return all that comes back."""
        with self.connect() as sock:
            sock.sendall(request)
            return read_all(sock)

    def get(self, target: str, *fields: str, method: str = "GET", version: str = "1.1") -> Answer:
        """Ask for one thing on a connection of its own."""
        lines = [f"{method} {target} HTTP/{version}", "Host: x", "Connection: close", *fields]
        return parsed(self.raw("\r\n".join([*lines, "", ""]).encode("latin-1")))

    def messages(self, name: str = "uvicorn.error") -> list[str]:
        """Return what was logged, but for the server's own coming and going."""
        return [
            record.getMessage()
            for record in self.log
            if record.name == name and record.module != "server"
        ]

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


def read_all(sock: socket.socket) -> bytes:
    """Read to the end of the connection; one that is reset has ended too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(MIB):
            parts.append(part)
    return b"".join(parts)


def read_one(sock: socket.socket, method: str = "GET") -> Answer:
    """Read one response from a connection that stays open, by its Content-Length; no byte more."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1)
        assert part, data
        data += part
    answer = parsed(data)
    length = 0 if method == "HEAD" or answer.status == 304 else int(answer.fields["content-length"])
    body = b""
    while len(body) < length:
        part = sock.recv(min(MIB, length - len(body)))
        assert part, f"{len(body)} bytes of {length}"
        body += part
    return answer._replace(body=body)


class _Kept(logging.Handler):
    def __init__(self, log: list[logging.LogRecord]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        record.exc_info = None  # its frames would keep what they have opened
        self._log.append(record)


@contextlib.contextmanager
def serving(
    app: Any,
    parser: str = "h11",
    loop: str = "asyncio",
    *,
    plain: bool = False,
    path: Any = None,
    **options: Any,
) -> Iterator[Running]:
    """Serve an app until the block ends, and then shut down gracefully.

    `path` is that of a unix socket to listen at.
    """
    protocol = options.pop("http", None) or protocol_of(parser, plain)
    options.setdefault("ws", "none")
    config = uvicorn.Config(
        app, http=protocol, loop=loop, lifespan="off", log_config=None, **options
    )
    server = uvicorn.Server(config)
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        listener.listen(512)
    running = Running(server, 0 if path else listener.getsockname()[1])
    handler = _Kept(running.log)
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "uvicorn.access")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
    worker = Worker(lambda: server.run(sockets=[listener]))
    try:
        until(lambda: server.started or not worker.is_alive())
        if not server.started:
            worker.result()
        yield running
    finally:
        server.should_exit = True
        worker.join()
        listener.close()
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
    worker.result()


def slow_reader(port: int) -> socket.socket:
    """Connect with a small receive buffer: a server can give little ahead of what is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect(("127.0.0.1", port))
    return sock


def trusting() -> ssl.SSLContext:
    """Return a context of a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def status_lines(data: bytes) -> list[int]:
    """Return the statuses of all status lines in what came."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def segments(sock: socket.socket) -> int:
    """How many segments with data a connection has received."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int(struct.unpack_from("I", info, 152)[0])
