"""Files that are on their disk, sent from asyncio: how long the event loop is held up.

usage: time_cold.py ROUNDS FILES

In each round the pages of all files are dropped for each contestant, who then sends all of them at
once, each to a connection of its own; another process reads. A task that only yields notes the
longest time between two of its turns.
Prints JSON: for each contestant lists of milliseconds, one a round: the longest stall, and the
whole. The bytes that arrive are counted.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

import spliceio.aio

SIZE = 4 << 20
Send = Callable[[int, socket.socket], Awaitable[object]]


async def by_spliceio(file: int, sock: socket.socket) -> object:
    return await spliceio.aio.send_file(sock, file)


async def by_asyncio(file: int, sock: socket.socket) -> object:
    with open(file, "rb", buffering=0, closefd=False) as opened:
        opened.seek(0)
        return await asyncio.get_running_loop().sock_sendfile(sock, opened)


CONTESTANTS: dict[str, Send] = {
    "spliceio.aio.send_file": by_spliceio,
    "loop.sock_sendfile": by_asyncio,
}


def read_in_child(socks: list[socket.socket]) -> int:
    """Read all of them to their ends in a process of its own, which exits with 0 if all came."""
    if child := os.fork():
        return child
    with contextlib.suppress(BaseException):
        asyncio.run(read_all(socks))
        os._exit(0)
    os._exit(1)


async def read_all(socks: list[socket.socket]) -> None:
    async def read(sock: socket.socket) -> None:
        sock.setblocking(False)
        got, memory = 0, bytearray(1 << 20)
        while n := await asyncio.get_running_loop().sock_recv_into(sock, memory):
            got += n
        assert got == SIZE

    await asyncio.gather(*map(read, socks))


def drop(files: list[int]) -> None:
    """Leave no page of the files in memory; exits where the filesystem keeps them."""
    for file in files:
        for _ in range(100):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file, [bytearray(1)], SIZE // 2, os.RWF_NOWAIT)
            except BlockingIOError:
                break
            time.sleep(0.01)  # somebody has them still
        else:
            raise SystemExit("the pages of a file here cannot be dropped")


async def longest_stall(over: asyncio.Event) -> float:
    longest, last = 0.0, time.perf_counter()
    while not over.is_set():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


async def measured(send: Send, files: list[int], socks: list[socket.socket]) -> tuple[float, float]:
    over = asyncio.Event()
    stalls = asyncio.create_task(longest_stall(over))
    await asyncio.sleep(0)
    begun = time.perf_counter()

    async def one(file: int, sock: socket.socket) -> None:
        await send(file, sock)
        sock.close()

    await asyncio.gather(*map(one, files, socks))
    whole = time.perf_counter() - begun
    over.set()
    return await stalls * 1e3, whole * 1e3


def turn(send: Send, files: list[int]) -> tuple[float, float]:
    drop(files)  # before there is a child, which would wait for ever
    pairs = [socket.socketpair() for _ in files]
    child = read_in_child([far for _, far in pairs])
    for near, far in pairs:
        far.close()
        near.setblocking(False)
    # The child has copies of the near ends: shutdown says the end to it, close does not.
    socks = [Ended(near) for near, _ in pairs]
    spent = asyncio.run(measured(send, files, socks))
    if os.waitpid(child, 0)[1]:
        raise SystemExit("wrong bytes came out")
    return spent


class Ended(socket.socket):
    """A socket whose close is the end of what it sends, whoever else has it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.setblocking(False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_WR)
        super().close()


def main() -> None:
    rounds, count = map(int, sys.argv[1:])
    data = os.urandom(SIZE)
    with tempfile.TemporaryDirectory(dir=".") as folder, contextlib.ExitStack() as stack:
        files = []
        for number in range(count):
            file = os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, file)
            os.write(file, data)
            os.fsync(file)
            files.append(file)
        spent = {name: {"stall": [], "whole": []} for name in CONTESTANTS}
        for _ in range(rounds):
            for name, send in CONTESTANTS.items():
                stall, whole = turn(send, files)
                spent[name]["stall"].append(stall)
                spent[name]["whole"].append(whole)
    print(json.dumps(spent))


main()
