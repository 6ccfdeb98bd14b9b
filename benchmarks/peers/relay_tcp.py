"""A TCP relay in Python, until killed.

usage: relay_tcp.py METHOD LISTEN_PORT UPSTREAM_PORT [COMPUTE_CPU]

METHOD is spliceio or spliceio-nonblocking: one connection at a time, each followed by one line that
says the bytes each way, why it ended, and the methods; or spliceio.Proxy or asyncio: any number.

With COMPUTE_CPU a second thread computes in Python all the while, on that processor, or
wherever the scheduler puts it if the number is negative.
"""

import asyncio
import json
import os
import socket
import sys
import threading
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


def with_proxy(listen: int, upstream: int) -> None:
    from spliceio import Proxy

    with Proxy(("127.0.0.1", listen), ("127.0.0.1", upstream)) as proxy:
        proxy.serve_forever()


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


def compute(processor: int, started: threading.Event) -> None:
    if processor >= 0:
        # Number 0 is the calling thread here, not the process.
        os.sched_setaffinity(0, {processor})
    started.set()
    x = 0
    while True:
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF


METHODS = {
    "spliceio": with_spliceio,
    "spliceio-nonblocking": partial(with_spliceio, blocking=False),
    "spliceio.Proxy": with_proxy,
    "asyncio": with_asyncio,
}


def main(method: str, listen: str, upstream: str, *computing: str) -> None:
    for processor in computing:
        started = threading.Event()
        threading.Thread(target=compute, args=(int(processor), started), daemon=True).start()
        started.wait()
    METHODS[method](int(listen), int(upstream))


main(*sys.argv[1:])
