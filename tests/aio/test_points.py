"""spliceio.aio, cancelled wherever it waits, and interrupted wherever a signal handler can raise.

Rule 1: whatever passes through a call that has begun carries `result` and `held`, and these with
        what is in the reader and what has arrived are all that was sent.
Rule 2: no descriptor is left, no mode changed, and the reader reads on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import socket
from pathlib import Path

import anyio
import pytest

import spliceio
from spliceio import aio
from tests.support import loops
from tests.support.bodies import content
from tests.support.cases import FULL
from tests.support.loops import ASYNCIO, BACKENDS, backends, run, until
from tests.support.points import Handler, Raised, Suspended
from tests.support.sides import Collector, digest
from tests.support.states import descriptors
from tests.support.streams import DATA, hold, streams

backend, ending = loops.backend, loops.ending

UNSENT, SENT = DATA[:400_000], DATA[:90_000]
FILES = {
    str(Path(spliceio.__file__).parent / name)
    for name in ("aio/__init__.py", "aio/_driver.py", "aio/_streams.py", "_relay/job.py")
}
ways = pytest.mark.parametrize(
    ("backend", "way"),
    [
        pytest.param(*one.values, way, marks=one.marks, id=f"{one.id}-{way}")
        for one in backends(*BACKENDS)
        for way in ("scope", "task")
        if way == "scope" or one.id in ASYNCIO
    ],
)


def kept():
    """Descriptors, but for the pipes that the engines keep."""
    return {fd: to for fd, to in descriptors().items() if not to.startswith("pipe:")}


def left(before):
    """Return what there is beside `before`, now or once the collector has run."""
    if kept() != before:
        gc.collect()
    return kept().keys() - before.keys()


class Sockets:
    """Two connections, the peer of the one having sent SENT and its end."""

    unsent = b""

    def __init__(self, wires):
        (self.src, far), (self.dst, self.far2) = wires.sockets("unix"), wires.sockets("unix")
        self.a, self.b = self.src, self.dst
        self.sends(far, SENT)

    def sends(self, far, data):
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        self.far2.shutdown(socket.SHUT_WR)
        self.got = Collector(self.far2.fileno())

    async def rest(self):
        """Return what is in the source still, and let the destination end."""
        assert os.get_blocking(self.src.fileno())
        self.src.setblocking(False)
        self.dst.close()
        return b"".join(iter(lambda: self.src.recv(1 << 20), b""))


class Pairs(Sockets):
    """The same as streams of asyncio, with bytes read ahead and unsent ones."""

    unsent = UNSENT

    def __init__(self, one, two, far):
        (self.src, _), (_, self.dst), self.far2 = one, two[:2], two[2]
        self.a, self.b = one, two[:2]
        self.dst.write(UNSENT)
        self.sends(far, SENT[5000:])

    async def rest(self):
        self.dst.close()
        await self.dst.wait_closed()
        return await self.src.read()


@contextlib.asynccontextmanager
async def ends(wires, backend):
    if backend == "trio":
        sockets = Sockets(wires)
        yield sockets
        await until(lambda: sockets.got.ended)
        return
    async with streams(wires) as (reader, writer, far), streams(wires) as two:
        await hold(reader, far, SENT[:5000])
        pairs = Pairs((reader, writer), two, far)
        yield pairs
        await until(lambda: pairs.got.ended)


def sums(came, name):
    """Return how much a call says has arrived, and what it holds."""
    result = getattr(came, "result", None) or came
    if name == "relay":
        return result.a_to_b, result.held_a_to_b
    if name == "fanout":
        return result.sinks[0].moved, result.sinks[0].held
    return result.moved, came.held if came is not result else b""


@ways
@pytest.mark.parametrize("name", ["copy", "fanout", "relay", "send_file", "receive_file"])
def test_cancelled_at_every_suspension(wires, backend, way, name):
    """From the first to the last; of asyncio's streams, with bytes ahead and bytes unsent."""

    async def one(at):
        async with ends(wires, backend) as on:
            os.ftruncate(into, 0)
            os.lseek(into, 0, os.SEEK_SET)
            memory = io.BytesIO()
            calls = {
                "copy": lambda: aio.copy(on.src, on.dst),
                "fanout": lambda: aio.fanout(on.src, [on.dst, memory]),
                "relay": lambda: aio.relay(on.a, on.b),
                "send_file": lambda: aio.send_file(on.dst, file),
                "receive_file": lambda: aio.receive_file(on.src, into),
            }
            before, cut = kept(), Suspended(calls[name], at, way)
            came = await cut.run()
            assert not left(before)
            if isinstance(came, BaseException):
                assert isinstance(came, anyio.get_cancelled_exc_class()), came
                ended.append(at)
            moved, held = sums(came, name)
            rest = await on.rest()
            await until(lambda: on.got.ended)
            through = b"" if name == "receive_file" else sent[:moved]
            assert digest(on.got.all()) == digest(on.unsent + through)
            if name == "receive_file":
                assert content(into) == sent[:moved]
            if name == "send_file":
                assert (held, rest) == (b"", SENT)
            else:
                assert digest(sent[:moved] + held + rest) == digest(sent)
            if name == "fanout":
                second = getattr(came, "result", came).sinks[1]
                assert digest(memory.getvalue() + second.held) == digest(sent[: moved + len(held)])
        return cut.reached

    async def main():
        await aio.copy(wires.source("unix", b"first").end, wires.file())  # it makes the engines
        at = 1
        while await one(at):
            at += 1
        return at

    # More than goes at once: that is sent, or is not begun.
    sent = b"a file" * 20_000 if name == "send_file" else SENT
    file, into, ended = wires.file(sent), wires.file(), []
    assert run(backend, main) > len(ended) > 0


def stripped(error):
    """Let go of the frames of an exception, which hold what they have opened."""
    while error is not None:
        error.__traceback__, error = None, error.__context__


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("backend", backends(*ASYNCIO))
@pytest.mark.parametrize("name", ["copy", "relay", "receive_file"])
def test_a_handler_that_raises_at_every_point(wires, backend, name):
    """No descriptor is left, nothing hangs; every byte has arrived, is held or in the reader."""

    async def one(at):
        async with ends(wires, backend) as on:
            os.ftruncate(into, 0)
            os.lseek(into, 0, os.SEEK_SET)
            handler = Handler(FILES, at)
            calls = {
                "copy": lambda: aio.copy(on.src, into),
                "relay": lambda: aio.relay(on.a, other),
                "receive_file": lambda: aio.receive_file(on.src, into, len(SENT)),
            }
            near, out = socket.socketpair()
            other = (near, near)
            before = kept()
            out.shutdown(socket.SHUT_WR)

            async def call():
                with handler:
                    return await calls[name]()

            task = asyncio.ensure_future(call())
            await asyncio.wait([task])
            came = task.exception() or task.result()
            del task
            if isinstance(came, BaseException):
                assert isinstance(came, Raised), came
                stripped(came)
            assert not left(before), handler.where
            assert os.get_blocking(near.fileno()), handler.where
            assert on.src._eof or on.src._transport.is_reading(), handler.where
            near.close()
            taken = b"".join(iter(lambda: out.recv(1 << 20), b""))
            out.close()
            arrived = taken if name == "relay" else content(into)
            held = sums(came, name)[1] if hasattr(came, "result") else b""
            assert digest(arrived + held + await on.rest()) == digest(SENT), handler.where
        return handler.reached

    async def main():
        await aio.copy(wires.source("unix", b"first").end, wires.file())  # it makes the engines
        # Each loop has every other point of what they share; in full, both have all.
        at, step = (1, 1) if FULL else (1 + ASYNCIO.index(backend), len(ASYNCIO))
        while await one(at):
            at += step
        return at

    into = wires.file()
    assert run(backend, main) > 50
