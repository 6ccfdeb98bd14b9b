"""A TCP relay in Python, one connection at a time, until killed.

usage: relay_tcp.py spliceio|spliceio-nonblocking|asyncio LISTEN_PORT UPSTREAM_PORT

After each connection spliceio's prints one line: the bytes each way, why it ended, and the methods.
"""

import asyncio
import json
import socket
import sys
from dataclasses import asdict
from functools import partial


def with_spliceio(listen: int, upstream: int, *, blocking: bool = True) -> None:
    from spliceio import relay

    with socket.create_server(("127.0.0.1", listen)) as server:
        while True:
            a, _ = server.accept()
            with a, socket.create_connection(("127.0.0.1", upstream)) as b:
                a.setblocking(blocking)
                b.setblocking(blocking)
                result = relay(a, b)
            print(json.dumps(asdict(result), default=repr), flush=True)


def with_asyncio(listen: int, upstream: int, size: int = 256 * 1024) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(size):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", upstream, limit=size)
        await asyncio.gather(pump(reader, back), pump(there, writer))
        for end in (writer, back):
            end.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", listen, limit=size)
        async with server:
            await server.serve_forever()

    asyncio.run(main())


METHODS = {
    "spliceio": with_spliceio,
    "spliceio-nonblocking": partial(with_spliceio, blocking=False),
    "asyncio": with_asyncio,
}
METHODS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
