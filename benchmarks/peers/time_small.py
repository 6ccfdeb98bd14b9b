"""Small work done by spliceio and as one would do it without, in turns inside one process.

usage: time_small.py ROUNDS REPEATS

A round does each work REPEATS times by each contestant; what sets up a turn and reads the result is
outside the clock. Every byte that arrives is compared.
Prints JSON: for each work and contestant lists of microseconds and cpu microseconds, one a round.
The cpu is that of the whole process, all of its threads.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import spliceio
import spliceio.aio

KIB = 1024
SIZES = {"1 KiB": KIB, "64 KiB": 64 * KIB, "1 MiB": KIB * KIB}
HEAD = b"H" * 100
DATA = os.urandom(KIB * KIB)
Turn = Callable[[], None]
Times = dict[str, dict[str, dict[str, list[float]]]]


def tcp() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection that sends small messages at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def file_of(size: int) -> Any:
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    file.write(DATA[:size])
    return file


def receive(sock: socket.socket, wanted: bytes) -> None:
    """Read so many bytes, and compare."""
    got = bytearray()
    while len(got) < len(wanted):
        part = sock.recv(len(wanted) - len(got))
        if not part:
            break
        got += part
    if got != wanted:
        raise SystemExit("wrong bytes came out")


Clock = dict[str, float]


def nothing() -> None:
    """Be the turn whose cost is that of the clock."""


def per_turn(
    clock: Callable[[], int], turn: Turn, repeats: int, before: Turn, after: Turn
) -> float:
    """Return the microseconds of one turn; what stands around it is outside the clock."""
    spent = 0
    for _ in range(repeats):
        before()
        begun = clock()
        turn()
        spent += clock() - begun
        after()
    return spent / repeats / 1000


def timed(turn: Turn, repeats: int, before: Turn = nothing, after: Turn = nothing) -> Clock:
    """Take turns by the wall and, in turns of their own, by the processor."""
    found = {}
    for name, clock in (("us", time.perf_counter_ns), ("cpu_us", time.process_time_ns)):
        empty = per_turn(clock, nothing, repeats, nothing, nothing)
        found[name] = per_turn(clock, turn, repeats, before, after) - empty
    return found


def file_to_tcp(repeats: int) -> dict[str, Callable[[], Clock]]:
    file, (near, far) = file_of(KIB), tcp()
    wanted, fd, out = DATA[:KIB], file.fileno(), near.fileno()

    def run(turn: Turn) -> Callable[[], Clock]:
        return lambda: timed(turn, repeats, after=lambda: receive(far, wanted))

    return {
        "spliceio.copy": run(lambda: spliceio.copy(file, near, KIB, offset_src=0) and None),
        "os.sendfile": run(lambda: os.sendfile(out, fd, 0, KIB) and None),
    }


def head_and_file(repeats: int) -> dict[str, Callable[[], Clock]]:
    file, (near, far) = file_of(KIB), tcp()
    wanted, fd = HEAD + DATA[:KIB], file.fileno()

    def run(turn: Turn) -> Callable[[], Clock]:
        return lambda: timed(turn, repeats, after=lambda: receive(far, wanted))

    return {
        "spliceio.send_file": run(lambda: spliceio.send_file(near, file, header=HEAD) and None),
        "sendall(head + pread)": run(lambda: near.sendall(HEAD + os.pread(fd, KIB, 0))),
    }


def pipe_to_pipe(repeats: int) -> dict[str, Callable[[], Clock]]:
    """The write before and the read after are in the clock for both."""
    (from_r, from_w), (to_r, to_w) = os.pipe(), os.pipe()
    wanted = DATA[:1000]

    def ours() -> None:
        os.write(from_w, wanted)
        spliceio.copy(from_r, to_w, 1000)
        if os.read(to_r, 2000) != wanted:
            raise SystemExit("wrong bytes came out")

    def theirs() -> None:
        os.write(from_w, wanted)
        os.splice(from_r, to_w, 1000)
        if os.read(to_r, 2000) != wanted:
            raise SystemExit("wrong bytes came out")

    return {
        "spliceio.copy": lambda: timed(ours, repeats),
        "os.splice": lambda: timed(theirs, repeats),
    }


def socket_to_socket(repeats: int) -> dict[str, Callable[[], Clock]]:
    """Of known bytes that are there: only what moves them is in the clock."""
    (near, source), (target, far) = tcp(), tcp()
    wanted = DATA[:1000]

    def run(turn: Turn) -> Callable[[], Clock]:
        return lambda: timed(
            turn, repeats, lambda: near.sendall(wanted), lambda: receive(far, wanted)
        )

    return {
        "spliceio.copy": run(lambda: spliceio.copy(source, target, 1000) and None),
        "recv + send": run(lambda: target.send(source.recv(1000)) and None),
    }


def one_to_two(repeats: int) -> dict[str, Callable[[], Clock]]:
    (from_r, from_w), (to_r, to_w), (near, far) = os.pipe(), os.pipe(), socket.socketpair()
    wanted = DATA[:1000]

    def arrived() -> None:
        if os.read(to_r, 2000) != wanted:
            raise SystemExit("wrong bytes came out")
        receive(far, wanted)

    def theirs() -> None:
        data = os.read(from_r, 1000)
        os.write(to_w, data)
        near.send(data)

    def run(turn: Turn) -> Callable[[], Clock]:
        return lambda: timed(turn, repeats, lambda: os.write(from_w, wanted) and None, arrived)

    return {
        "spliceio.fanout": run(lambda: spliceio.fanout(from_r, [to_w, near], 1000) and None),
        "read + 2 writes": run(theirs),
    }


def empty_relay(repeats: int) -> dict[str, Callable[[], Clock]]:
    """Two connections whose clients have said the end already."""
    pool = spliceio.RelayPool(1)
    made: list[socket.socket] = []

    def before() -> None:
        for sock in made:
            sock.close()
        made[:] = [*socket.socketpair(), *socket.socketpair()]
        made[1].shutdown(socket.SHUT_WR)
        made[3].shutdown(socket.SHUT_WR)

    def two_threads() -> None:
        def carry(src: socket.socket, dst: socket.socket) -> None:
            while data := src.recv(65536):
                dst.sendall(data)
            dst.shutdown(socket.SHUT_WR)

        ways = [(made[0], made[2]), (made[2], made[0])]
        threads = [threading.Thread(target=carry, args=way) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return {
        "RelayPool.submit .. result": lambda: timed(
            lambda: pool.submit(made[0], made[2]).result() and None, repeats, before
        ),
        "two threads made and joined": lambda: timed(two_threads, repeats, before),
    }


async def awaited(size: int, repeats: int, *, ours: bool) -> Clock:
    """Send a file from within a loop, to a peer that another process reads."""
    loop = asyncio.get_running_loop()
    with file_of(size) as file, draining() as near:
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(repeats):
            if ours:
                await spliceio.aio.send_file(near, file)
            else:
                await loop.sock_sendfile(near, file, 0, size, fallback=False)
        return {
            "us": (time.perf_counter_ns() - wall) / repeats / 1000,
            "cpu_us": (time.process_time_ns() - cpu) / repeats / 1000,
        }


@contextlib.contextmanager
def draining() -> Iterator[socket.socket]:
    """Give a nonblocking connection whose other end is read by a child."""
    near, far = tcp()
    child = os.fork()
    if child == 0:
        near.close()
        memory = bytearray(KIB * KIB)
        while far.recv_into(memory):
            pass
        os._exit(0)
    far.close()
    near.setblocking(False)
    try:
        yield near
    finally:
        near.close()
        os.waitpid(child, 0)


def in_a_loop(size: int) -> Callable[[int], dict[str, Callable[[], Clock]]]:
    def made(repeats: int) -> dict[str, Callable[[], Clock]]:
        several = max(20, repeats // 5)
        return {
            "spliceio.aio.send_file": lambda: asyncio.run(awaited(size, several, ours=True)),
            "loop.sock_sendfile": lambda: asyncio.run(awaited(size, several, ours=False)),
        }

    return made


WORKS = {
    "file -> TCP, 1 KiB": file_to_tcp,
    "100 B + file of 1 KiB -> TCP": head_and_file,
    "pipe -> pipe, 1000 B": pipe_to_pipe,
    "socket -> socket, 1000 B": socket_to_socket,
    "1000 B -> pipe and socket": one_to_two,
    "an empty relay": empty_relay,
    **{f"in asyncio, {name}": in_a_loop(size) for name, size in SIZES.items()},
}


def main() -> None:
    rounds, repeats = int(sys.argv[1]), int(sys.argv[2])
    brought: Times = {}
    for work, make in WORKS.items():
        runs = make(repeats)
        by_name = brought[work] = {name: {"us": [], "cpu_us": []} for name in runs}
        for turn in range(-1, rounds):
            for name, run in runs.items():
                found = run()
                if turn >= 0:
                    for what, took in found.items():
                        by_name[name][what].append(took)
    print(json.dumps(brought))
    sys.stdout.flush()
    os._exit(0)  # connections of the pool are open, and wait for nobody


main()
