"""Send a file to 127.0.0.1, several times over one connection; says what the sending cost.

usage: send_file.py METHOD PORT FILE TIMES
"""

import asyncio
import json
import resource
import socket
import sys

HEADER = bytes(200)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def report(before: float, moved: int, method: str) -> None:
    print(json.dumps({"cpu": cpu() - before, "moved": moved, "method": method}))


def with_spliceio(port: int, path: str, times: int) -> None:
    from spliceio import copy

    with socket.create_connection(("127.0.0.1", port)) as sock, open(path, "rb") as file:
        moved, before = 0, cpu()
        for _ in range(times):
            file.seek(0)
            result = copy(file, sock)
            moved += result.moved
        report(before, moved, result.method)


def with_send_file(port: int, path: str, times: int) -> None:
    """Send the file with a head before it each time, as a server does."""
    from spliceio import send_file

    with socket.create_connection(("127.0.0.1", port)) as sock, open(path, "rb") as file:
        moved, before = 0, cpu()
        for _ in range(times):
            result = send_file(sock, file, header=HEADER)
            moved += result.moved
        report(before, moved, result.method)


def with_socket_sendfile(port: int, path: str, times: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock, open(path, "rb") as file:
        moved, before = 0, cpu()
        for _ in range(times):
            moved += sock.sendfile(file, 0)
        report(before, moved, "sendfile")


def with_read_sendall(port: int, path: str, times: int, size: int = 256 * 1024) -> None:
    """As a careful author would: one buffer for ever, no bytes object for each read."""
    buffer = memoryview(bytearray(size))
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        open(path, "rb", buffering=0) as file,
    ):
        moved, before = 0, cpu()
        for _ in range(times):
            file.seek(0)
            while got := file.readinto(buffer):
                sock.sendall(buffer[:got])
                moved += got
        report(before, moved, "read_write")


def with_asyncio(port: int, path: str, times: int) -> None:
    async def send() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        with open(path, "rb") as file:
            moved, before = 0, cpu()
            for _ in range(times):
                moved += await loop.sendfile(writer.transport, file, 0, fallback=False)
            report(before, moved, "sendfile")
        writer.close()
        await writer.wait_closed()

    asyncio.run(send())


METHODS = {
    "spliceio": with_spliceio,
    "spliceio.send_file": with_send_file,
    "socket.sendfile": with_socket_sendfile,
    "read+sendall": with_read_sendall,
    "asyncio": with_asyncio,
}
METHODS[sys.argv[1]](int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
