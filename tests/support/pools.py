"""What the tests of relay pools stand on: pools that are cut, children, scripts, threads of C.

A script runs in an interpreter of its own, so that what hangs there hangs nothing here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

from spliceio import Proxy, RelayPool
from spliceio._cffi import ffi, lib
from tests.support.states import syscall_of, until

HANG = 20
"""Seconds after which another process is taken to hang."""


NEVER = 10**18


@contextlib.contextmanager
def pooling(threads: int = 1, *, stall: int = NEVER, **options):
    """Make a pool, and cut what is open in it at the end.

    `stall` nanoseconds after which a full destination is asked again: by default never, so that
    what waits for a forgotten edge waits for ever.
    """
    pool = RelayPool(threads, **options)
    try:
        for engine in pool._engines.each:
            lib.sio_test_engine(engine, ffi.NULL, stall)
        yield pool
    finally:
        pool.shutdown(wait=False)


def c_threads() -> set[int]:
    """Return the threads of this process that Python does not know."""
    known = {thread.native_id for thread in threading.enumerate()}
    return {int(tid) for tid in os.listdir("/proc/self/task")} - known


def at_rest() -> None:
    """Wait until every engine of this process waits in the kernel, with nothing left to do."""
    until(lambda: all(syscall_of(tid) is not None for tid in c_threads()))


def skip_time(pool: RelayPool | Proxy, seconds: float) -> None:
    """Let time pass for the engines of a pool or proxy, in no time."""
    for engine in pool._engines.each:
        lib.sio_test_skip(engine, int(seconds * 1e9))


def active(pool: RelayPool) -> list[int]:
    """Return how many relays each engine of a pool has."""
    counts, found = ffi.new("struct sio_counts *"), []
    for engine in pool._engines.each:
        lib.sio_engine_counts(engine, counts)
        found.append(int(counts.active))
    return found


# -- other processes -------------------------------------------------------------------------------

SCRIPT = """
import atexit, faulthandler, os, signal, socket, sys, threading
from spliceio import RelayPool
faulthandler.dump_traceback_later(10, exit=True)
pairs = [socket.socketpair() for _ in range(8)]
(a, x), (b, y), (c, z), (d, w) = pairs[:4]
def close(*sockets):
    for one in sockets:
        one.close()
"""


def script(text: str) -> str:
    """Run it in a new interpreter: it ends well, says nothing on stderr; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + text], capture_output=True, timeout=HANG, text=True
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def spawn(text: str, *arguments: object, fds: tuple[int, ...], **options) -> subprocess.Popen:
    """Start a script that is given the numbers of descriptors, and talked to through pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, (*arguments, *fds))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        pass_fds=fds,
        **options,
    )


def in_child(*functions) -> list[str]:
    """Call each in a forked child; what it returned, or the name of what it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        try:
            signal.alarm(HANG)  # a hang is a status that is not 0
            for function in functions:
                try:
                    said.append(repr(function()))
                except Exception as error:
                    said.append(type(error).__name__)
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0 if len(said) == len(functions) else 1)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)


PEERS = r"""
import hashlib, os, socket, sys, threading
a, b = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
data = [os.urandom(8 << 20), os.urandom(6 << 20)]
def receive(sock, count):
    parts = []
    while count:
        parts.append(sock.recv(count))
        assert parts[-1], "an early end of file"
        count -= len(parts[-1])
    return hashlib.sha256(b"".join(parts)).digest()
os.write(1, b"ready\n")
os.read(0, 1)
for number in range(200):
    a.sendall(b"%64d" % number)
    assert receive(b, 64) == hashlib.sha256(b"%64d" % number).digest()
    b.sendall(b"%64d" % number)
    assert receive(a, 64) == hashlib.sha256(b"%64d" % number).digest()
for sock, bulk in zip((a, b), data):
    threading.Thread(target=lambda s=sock, d=bulk: (s.sendall(d), s.shutdown(1))).start()
came = []
reader = threading.Thread(target=lambda: came.append(receive(b, 8 << 20)))
reader.start()
came.append(receive(a, 6 << 20))
reader.join()
assert sorted(came) == sorted(hashlib.sha256(part).digest() for part in data)
assert a.recv(1) == b.recv(1) == b""
os.write(1, b"done\n")
"""
THERE, BACK = 200 * 64 + (8 << 20), 200 * 64 + (6 << 20)


@contextlib.contextmanager
def peers(one, two):
    """Let a child be both peers of a relay: it begins when written to, checks all, says "done"."""
    with spawn(PEERS, fds=(one.far.fileno(), two.far.fileno())) as child:
        assert child.stdout.readline() == b"ready\n"
        one.far.close()
        two.far.close()
        yield child
    assert child.returncode == 0
