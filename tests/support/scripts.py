"""Scripts: what spliceio.aio does in a process that is interrupted, forked or ended.

Each says "fine" at its end. `stuck()` makes sockets for a copy that nobody takes the end of, and
`whole` requires that nothing of it is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
SCRIPT = """
import asyncio, os, signal, socket, sys, threading
import anyio
from tests.support.loops import queued, run
from tests.support.states import descriptors, until
from spliceio import aio
from spliceio.aio import _driver as _await

backend, mode = sys.argv[1:]
data = bytes(range(250)) * 600

def stuck():
    feed, src = socket.socketpair()
    dst, out = socket.socketpair()
    dst.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    feed.sendall(data)
    feed.shutdown(socket.SHUT_WR)
    return feed, src, dst, out

def whole(error, src, dst, out):
    dst.close()
    parts = iter(lambda: out.recv(1 << 20), b"")
    arrived = b"".join(parts)
    rest = b"".join(iter(lambda: src.recv(1 << 20), b""))
    assert len(arrived) == error.result.moved, (len(arrived), error.result)
    assert arrived + error.held + rest == data

async def small():
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    with a, b, c, d:
        a.sendall(b"abc")
        a.shutdown(socket.SHUT_WR)
        assert (await aio.copy(b, c)).moved == 3
        assert d.recv(10) == b"abc"

def kept():
    # The engines keep a few empty pipes for the next one.
    return {fd: to for fd, to in descriptors().items() if not to.startswith("pipe:")}

# The latter is what anyio makes of it before Python 3.11.
Interrupted = (KeyboardInterrupt, asyncio.CancelledError)

run(backend, small)
before = kept()
"""


def scripted(backend: str, script: str, mode: str = "") -> tuple[int, str, str]:
    """Run SCRIPT and what follows it in a process of its own; return code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script, backend, mode],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


INTERRUPT = """
feed, src, dst, out = stuck()
seen = []

async def main():
    try:
        await aio.copy(src, dst)
    except BaseException as error:
        seen.append(error)
        raise

def interrupt():
    until(lambda: queued(src) == 0)
    os.kill(os.getpid(), signal.SIGINT)

thread = threading.Thread(target=interrupt)
thread.start()
try:
    run(backend, main)
except Interrupted:
    thread.join()
    whole(seen[0], src, dst, out)
    run(backend, small)
    for sock in (feed, src, dst, out):
        sock.close()
    assert kept() == before
    print("fine")
"""

AGAIN_AND_AGAIN = """
import random
chance = random.Random(1)

def interrupt(src):
    until(lambda: queued(src) == 0)
    for _ in range(5):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(chance.randrange(300)):
            os.sched_yield()

def interrupted():
    ends = stuck()
    thread = threading.Thread(target=interrupt, args=(ends[1],))
    thread.start()
    try:
        try:
            run(backend, lambda: aio.copy(*ends[1:3]))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except BaseException:  # what a loop makes of it is the loop's
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    thread.join()
    for sock in ends:
        sock.close()
    asyncio._set_running_loop(None)  # which an interrupted loop of asyncio may have left behind
    signal.signal(signal.SIGINT, signal.default_int_handler)

for _ in range(30):
    interrupted()
run(backend, small)
print("fine")
"""

BETWEEN_FILES = """
from tests.support.seam import Seam, cap
from spliceio._transfer import flow as _flow
seam, begin = Seam(cap("sendfile", 1), cap("copy_file_range", 1), log_size=1), _flow.Flow.__init__

def made(flow, *args, **options):
    begin(flow, *args, **options)
    seam.under(flow)

_flow.Flow.__init__ = made
src, dst = os.memfd_create("src"), os.memfd_create("dst")
os.write(src, data * 50)
os.lseek(src, 0, 0)

async def main():
    try:
        await aio.copy(src, dst)
    except BaseException as error:
        global moved
        moved = error.result.moved
        raise

def interrupt():
    until(lambda: os.fstat(dst).st_size > 1000)
    os.kill(os.getpid(), signal.SIGINT)

thread = threading.Thread(target=interrupt)
thread.start()
try:
    run(backend, main)
except Interrupted:
    thread.join()
    assert 1000 < moved == os.fstat(dst).st_size < len(data) * 50
    print("fine")
"""

AGAIN = """
async def one():
    feed, src, dst, out = stuck()
    with feed, src, dst, out:
        async def call():
            try:
                await aio.copy(src, dst)
            except BaseException as error:
                seen.append(error)
                raise
        seen = []
        task = asyncio.ensure_future(call())
        while queued(src):
            await asyncio.sleep(0)
        for _ in range(4):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        whole(seen[0], src, dst, out)

async def main():
    for _ in range(200):
        await one()

run(backend, main)
assert kept() == before
print("fine")
"""

FORK = """
def child():
    code = 1
    try:
        run(backend, small)
        run(backend, small)
        code = 0
    finally:
        os._exit(code)

def forked():
    pid = os.fork()
    if not pid:
        child()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main():
    feed, src, dst, out = stuck()
    with feed, src, dst, out:
        async with anyio.create_task_group() as group:
            group.start_soon(aio.copy, src, dst)
            while queued(src):
                await anyio.sleep(0)
            assert await anyio.to_thread.run_sync(forked) == 0
            got = b""
            while len(got) < len(data):
                await anyio.wait_readable(out)
                got += out.recv(1 << 20)
            assert got == data

if mode == "between":
    assert forked() == 0
    run(backend, small)
else:
    run(backend, main)
assert kept() == before
print("fine")
"""

EXIT = """
feed, src, dst, out = stuck()

def work():
    run(backend, lambda: aio.copy(src, dst))

threading.Thread(target=work, daemon=True).start()
until(lambda: queued(src) == 0)
if mode == "closed":
    _await._shared[0].close()
print("fine", flush=True)
"""

TIMER = """
feed, src, dst, out = stuck()
print("fine", flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.2)
run(backend, lambda: aio.copy(src, dst))
"""
