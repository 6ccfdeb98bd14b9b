"""TCP proxy with a login: asyncio reads a token, then `spliceio.aio.relay` relays the connection.

    TOKEN=secret python async_proxy.py 127.0.0.1:8080 127.0.0.1:5432
    (echo secret; cat) | nc 127.0.0.1 8080

Up to the answer, "welcome" or "no", a connection is a StreamReader and a StreamWriter like any
other. `aio.relay` then takes over both, with the bytes that were read ahead, and no byte after that
passes through Python. With uvloop it is the same program: `uvloop.run(main())`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import logging
import os
import signal

import spliceio
from spliceio import aio

log = logging.getLogger("async_proxy")
PATIENCE = 10  # seconds, for the line and for the upstream


class Gate:
    """Lets those through who know the token."""

    def __init__(self, token: bytes, upstream: tuple[str, str]) -> None:
        self.token, self.upstream = token, upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Look after one connection, whatever becomes of it."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(closed, writer)
            try:
                if not await self.knows_the_token(reader):
                    writer.write(b"no\n")
                    return
                server = await asyncio.wait_for(asyncio.open_connection(*self.upstream), PATIENCE)
                stack.push_async_callback(closed, server[1])
                writer.write(b"welcome\n")
                self.log(writer, await aio.relay((reader, writer), server))
            except asyncio.CancelledError as error:  # the end; Python 3.11 would log it as an error
                self.log(writer, getattr(error, "result", None))
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                log.warning("%s: %r", writer.get_extra_info("peername"), error)

    def log(self, writer: asyncio.StreamWriter, result: spliceio.RelayResult | None) -> None:
        """Say what was relayed."""
        if result is not None:
            counts = (result.a_to_b, result.b_to_a, result.reason)
            log.info("%s: %d there, %d back, %s", writer.get_extra_info("peername"), *counts)

    async def knows_the_token(self, reader: asyncio.StreamReader) -> bool:
        """Read a line; ValueError when it is too long for one."""
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
        return hmac.compare_digest(line.rstrip(b"\r\n"), self.token)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # it may have been reset
        await writer.wait_closed()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Relay for those who send the token first.")
    parser.add_argument("listen", metavar="HOST:PORT")
    parser.add_argument("upstream", metavar="HOST:PORT")
    parser.add_argument("-v", "--verbose", action="store_true", help="log every connection")
    args = parser.parse_args()
    if not (token := os.environ.get("TOKEN", "").encode()):
        parser.error("put the token into the environment: TOKEN=secret")
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING)
    host, _, port = args.listen.rpartition(":")
    to_host, _, to_port = args.upstream.rpartition(":")
    gate = Gate(token, (to_host.strip("[]"), to_port))
    server = await asyncio.start_server(gate.serve, host.strip("[]"), port, limit=1024)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await stop.wait()
    server.close()  # and asyncio.run() cancels the connections


if __name__ == "__main__":
    asyncio.run(main())
