"""From 1 byte to 16 MiB, by `spliceio.copy` and by what one would write without it, in turns.

usage: time_sizes.py PAIR TURNS MOST_BYTES

PAIR is "file-tcp", "file-unix", "socket-file" or "pipe-pipe". First each contestant moves each size
once, and every byte is compared; then processes of their own feed and read, and the clock runs.
Prints JSON: for each size and contestant the cpu microseconds of the moving thread for one call,
one a turn.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import spliceio

MIB = 1024 * 1024
SIZES = [4**n for n in range(13)]
PATTERN = os.urandom(MIB)
Move = Callable[[int], object]


@dataclass
class Pair:
    """Who moves, where the bytes are fed in, and where they come out; -1: from or into a file."""

    moves: dict[str, Move]
    feed: int = -1
    drain: int = -1
    file: int = -1
    keeps: list[object] = field(default_factory=list)


def sockets(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def file_of(size: int) -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(0, size, MIB):
            file.write(PATTERN)
        return os.dup(file.fileno())


def file_to_socket(kind: str) -> Pair:
    near, far = sockets(kind)
    fd, out = file_of(SIZES[-1]), near.fileno()

    def sendfile(size: int) -> None:
        done = 0
        while done < size:
            done += os.sendfile(out, fd, done, size - done)

    def read(size: int) -> None:
        done = 0
        while done < size:
            part = os.pread(fd, min(size - done, 256 << 10), done)
            near.sendall(part)
            done += len(part)

    moves = {
        "spliceio.copy": lambda size: spliceio.copy(fd, near, size, offset_src=0),
        "os.sendfile loop": sendfile,
        "pread + sendall": read,
    }
    return Pair(moves, drain=far.detach(), keeps=[near])


def socket_to_file() -> Pair:
    near, far = sockets("tcp")
    fd, (r, w) = file_of(1), os.pipe()
    memory = memoryview(bytearray(256 << 10))

    def splice(size: int) -> None:
        done = 0
        while done < size:
            held = os.splice(near.fileno(), w, min(size - done, 65536))
            while held:
                put = os.splice(r, fd, held, offset_dst=done)
                held -= put
                done += put

    def read(size: int) -> None:
        done = 0
        while done < size:
            part = memory[: near.recv_into(memory, min(size - done, len(memory)))]
            while part:
                put = os.pwrite(fd, part, done)
                part, done = part[put:], done + put

    moves = {
        "spliceio.copy": lambda size: spliceio.copy(near, fd, size, offset_dst=0),
        "os.splice through a pipe": splice,
        "recv_into + pwrite": read,
    }
    return Pair(moves, feed=far.detach(), file=fd, keeps=[near])


def pipe_to_pipe() -> Pair:
    (from_r, from_w), (to_r, to_w) = os.pipe(), os.pipe()

    def splice(size: int) -> None:
        while size:
            size -= os.splice(from_r, to_w, size)

    def read(size: int) -> None:
        while size:
            part = os.read(from_r, min(size, 65536))
            size -= len(part)
            while part:
                part = part[os.write(to_w, part) :]

    moves = {
        "spliceio.copy": lambda size: spliceio.copy(from_r, to_w, size),
        "os.splice loop": splice,
        "read + write": read,
    }
    return Pair(moves, feed=from_w, drain=to_r)


PAIRS = {
    "file-tcp": lambda: file_to_socket("tcp"),
    "file-unix": lambda: file_to_socket("unix"),
    "socket-file": socket_to_file,
    "pipe-pipe": pipe_to_pipe,
}


def wanted(size: int) -> bytes:
    return (PATTERN * (size // MIB + 1))[:size]


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def check(pair: Pair, move: Move, size: int) -> None:
    """Move so much once, and compare what has come."""
    data, came = wanted(size), bytearray()

    def collect() -> None:
        while len(came) < size and (part := os.read(pair.drain, size - len(came))):
            came.extend(part)

    threads = []
    if pair.feed >= 0:
        threads.append(threading.Thread(target=write_all, args=(pair.feed, data)))
    if pair.drain >= 0:
        threads.append(threading.Thread(target=collect))
    for thread in threads:
        thread.start()
    move(size)
    for thread in threads:
        thread.join()
    if (came if pair.drain >= 0 else os.pread(pair.file, size, 0)) != data:
        raise SystemExit(f"wrong bytes came out, of {size}")


def drain(fd: int) -> None:
    memory = bytearray(MIB)
    while os.readv(fd, [memory]):
        pass


def feed(fd: int) -> None:
    with contextlib.suppress(OSError):  # it ends when nobody reads any more
        while True:
            os.write(fd, PATTERN)


def child(work: Callable[[int], None], fd: int) -> None:
    """Let a process of its own do it, which ends with this one."""
    if fd < 0 or os.fork():
        return
    keep = {0, 1, 2, fd}
    for each in map(int, os.listdir("/proc/self/fd")):
        if each not in keep:
            with contextlib.suppress(OSError):
                os.close(each)
    try:
        work(fd)
    finally:
        os._exit(0)


def main() -> None:
    pair, turns, most = PAIRS[sys.argv[1]](), int(sys.argv[2]), int(sys.argv[3])
    for size in SIZES:
        for move in pair.moves.values():
            check(pair, move, size)
    child(feed, pair.feed)
    child(drain, pair.drain)
    for fd in (pair.feed, pair.drain):
        if fd >= 0:
            os.close(fd)
    brought: dict[int, dict[str, list[float]]] = {}
    for size in SIZES:
        calls = max(3, min(2000, most // size))
        found = brought[size] = {name: [] for name in pair.moves}
        for turn in range(-1, turns):
            for name, move in pair.moves.items():
                begun = time.thread_time_ns()
                for _ in range(calls):
                    move(size)
                if turn >= 0:
                    found[name].append((time.thread_time_ns() - begun) / calls / 1000)
    print(json.dumps(brought))
    sys.stdout.flush()
    os._exit(0)


main()
