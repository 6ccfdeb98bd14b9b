"""HTTP CONNECT proxy on asyncio streams: Python reads the head, then no byte passes through it.

    python connect_proxy.py 127.0.0.1:8080
    curl -x http://127.0.0.1:8080 https://www.python.org/

The tunnel is `spliceio.aio.relay` of two (reader, writer) pairs. What the client has sent behind
its head, and what is not sent yet of the answer, goes first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from spliceio import aio

PATIENCE = 10  # seconds, for the head and for the upstream


async def target(reader: asyncio.StreamReader) -> tuple[str, int]:
    """Read a request's head; return where it wants to go."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, where, _ = head.split(b"\r\n")[0].decode("ascii").split(" ")
    host, _, port = where.rpartition(":")
    if method != "CONNECT" or not host:
        raise ValueError(f"{method} {where}: only CONNECT HOST:PORT is served here")
    return host.strip("[]"), int(port)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Look after one client."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(writer.close)
        try:
            host, port = await asyncio.wait_for(target(reader), PATIENCE)
            server = await asyncio.wait_for(asyncio.open_connection(host, port), PATIENCE)
        except (ValueError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        except (OSError, asyncio.TimeoutError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n")
        else:
            stack.callback(server[1].close)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.suppress(OSError):  # it went while its answer was being sent
                result = await aio.relay((reader, writer), server)
                print(f"{host}:{port}: {result.a_to_b} there, {result.b_to_a} back", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="A proxy for those who ask with CONNECT.")
    parser.add_argument("listen", metavar="HOST:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    server = await asyncio.start_server(serve, host.strip("[]"), int(port))
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
