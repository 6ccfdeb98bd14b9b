"""asyncio's streams and trio's, connected to a plain socket, with bytes where a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import anyio

from spliceio import aio
from tests.support.loops import until
from tests.support.states import Worker
from tests.support.wires import payload

DATA = payload(5 << 20)


@contextlib.asynccontextmanager
async def streams(wires, kind="unix", far=None):
    """Make a (reader, writer) of asyncio and the socket at their other end."""
    near, far = wires.sockets(kind)
    near.setblocking(False)
    connect = asyncio.open_unix_connection if kind == "unix" else asyncio.open_connection
    reader, writer = await connect(sock=near)
    try:
        yield reader, writer, far
    finally:
        if not writer.transport.is_closing():
            writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def hold(reader, far, data):
    """Send what the reader shall have in its buffer, and wait until it has."""
    has = len(reader._buffer)
    far.sendall(data)
    await until(lambda: len(reader._buffer) == has + len(data))


async def overfill(reader, writer, far):
    """Send until the reader has paused its transport; return what was sent."""
    far.setblocking(False)
    sent = 0
    while writer.transport.is_reading():
        with contextlib.suppress(BlockingIOError):
            sent += far.send(DATA[sent : sent + 65536])
        await anyio.sleep(0)
    far.setblocking(True)
    return sent


def feed(far, data):
    """Send data and the end of file, in a thread."""
    return Worker(lambda: (far.sendall(data), far.shutdown(socket.SHUT_WR)))


async def trio_stream(trio, wires, kind):
    """Make a SocketStream of trio and the socket at its other end."""
    near, far = wires.sockets(kind)
    return trio.SocketStream(trio.socket.from_stdlib_socket(near)), far


def tls_context(*, server):
    """Make a context that needs no certificates."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("aNULL:@SECLEVEL=0")
    return made


@contextlib.asynccontextmanager
async def tls_streams():
    """Make a (reader, writer) over TLS to a server that says one line again."""

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(await reader.readline())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls_context(server=True))
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tls_context(server=False)
        )
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


REFUSED = {
    "destination": lambda r, w, closed: aio.copy(r, "nonsense"),
    "closed writer": lambda r, w, closed: aio.copy(r, closed[1]),
    "method": lambda r, w, closed: aio.copy(r, 1, method="nonsense"),
    "negative count": lambda r, w, closed: aio.copy(r, 1, -2),
    "count": lambda r, w, closed: aio.copy(r, 1, "5"),
    "timeout": lambda r, w, closed: aio.copy(r, 1, timeout=-1),
    "offset": lambda r, w, closed: aio.receive_file(r, 1, 5, offset=-1),
    "offset of the reader": lambda r, w, closed: aio.copy(r, 1, offset_src=1),
    "file": lambda r, w, closed: aio.receive_file(r, 2**20, 5),
    "idle": lambda r, w, closed: aio.relay((r, w), 1, idle_timeout=-1),
    "side": lambda r, w, closed: aio.relay((r, w), 1.5),
    "closed side": lambda r, w, closed: aio.relay((r, w), closed),
    "limit": lambda r, w, closed: aio.relay((r, w), (0, 1), byte_limit=-1),
}
"""Calls that are refused, of a reader and its writer, and of a pair that is closed."""
