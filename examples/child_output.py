"""What a program prints, as the body of an HTTP response: no byte of it passes through Python.

    python child_output.py 127.0.0.1:8080 -- tar -cz .
    curl -o all.tar.gz http://127.0.0.1:8080/

The child's stdout is a pipe, and `spliceio.aio.copy` takes it as asyncio has it, a StreamReader,
and gives it to the client's StreamWriter. A client that goes away ends the child, and a child that
fails resets the connection: such a body has no length, and its end would look like that of a whole.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import struct
from functools import partial
from socket import SO_LINGER, SOL_SOCKET

from spliceio import aio

PATIENCE = 10  # seconds, for a head


async def serve(
    command: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request: the body ends where the connection does."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        if not head.startswith((b"GET ", b"HEAD ")):
            writer.write(b"HTTP/1.0 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n\r\n")
            return
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
        if head.startswith(b"HEAD "):
            return
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        try:
            result = await aio.copy(child.stdout, writer)
            print(f"{result.moved} bytes, {result.method}", flush=True)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                child.terminate()
            raise
        finally:
            if await child.wait():
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
                writer.transport.abort()
    except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError) as error:
        print(f"a client went away: {error!r}", flush=True)
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Serve what a program prints.")
    parser.add_argument("listen", metavar="HOST:PORT")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    args = parser.parse_args()
    host, _, port = args.listen.rpartition(":")
    server = await asyncio.start_server(partial(serve, args.command), host.strip("[]"), int(port))
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
