"""Front of several WebSocket servers: the path of the Upgrade request chooses, then bytes pass.

    python websocket_router.py 127.0.0.1:8080 /chat=127.0.0.1:9001 /news=127.0.0.1:9002

A protocol of its own reads the head: no streams, as in a server that parses by itself. Then the
transport is paused, and `spliceio.aio.relay` takes it with all that the protocol has been given.
What the two sides say, frames, pings, closing, is none of its business.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from spliceio import aio

MOST = 16384  # bytes of a head
PATIENCE = 10  # seconds
Routes = dict[str, tuple[str, int]]


class Router(asyncio.Protocol):
    """One client: a head, then a relay."""

    def __init__(self, routes: Routes) -> None:
        self.routes, self.got = routes, bytearray()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.timer = asyncio.get_running_loop().call_later(PATIENCE, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Collect the head; then read no more."""
        self.got += data
        if b"\r\n\r\n" in self.got or len(self.got) > MOST:
            self.transport.pause_reading()  # what comes from now on is the relay's
            self.timer.cancel()
            self.task = asyncio.ensure_future(self.pass_on())

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no longer."""
        self.timer.cancel()

    async def pass_on(self) -> None:
        """Relay until both sides have ended."""
        try:
            address = self.routes[self.path()]
        except (LookupError, ValueError):
            self.refuse(b"404 Not Found")
            return
        try:
            server = await asyncio.wait_for(asyncio.open_connection(*address), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            self.refuse(b"502 Bad Gateway")
            return
        try:
            with contextlib.suppress(OSError):
                await aio.relay(self.transport, server, to_b=bytes(self.got))
        finally:
            server[1].close()
            self.transport.close()

    def path(self) -> str:
        """Return the path of an Upgrade request."""
        head, end, _ = self.got.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        names = {field.partition(":")[0].strip().lower() for field in fields}
        method, target, _ = first.split(" ")
        if not end or method != "GET" or "upgrade" not in names:
            raise ValueError("no Upgrade request")
        return target.partition("?")[0]

    def refuse(self, status: bytes) -> None:
        """Answer with a status, and close."""
        self.transport.write(b"HTTP/1.1 %b\r\nConnection: close\r\n\r\n" % status)
        self.transport.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Pass WebSockets on, by their path.")
    parser.add_argument("listen", metavar="HOST:PORT")
    parser.add_argument("routes", metavar="/PATH=HOST:PORT", nargs="+")
    args = parser.parse_args()
    routes: Routes = {}
    for route in args.routes:
        path, _, where = route.partition("=")
        host, _, port = where.rpartition(":")
        routes[path] = host.strip("[]"), int(port)
    host, _, port = args.listen.rpartition(":")
    server = await asyncio.get_running_loop().create_server(
        lambda: Router(routes), host.strip("[]"), int(port)
    )
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
