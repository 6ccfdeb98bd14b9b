"""Cancelling spliceio.aio.fanout: in every way, at every moment, in the middle of a sink's `write`.

Rule 1: of a sink that was stopped, moved and held together are the first `result.moved` bytes of
        the source, and the source still has the rest.
Rule 2: when the exception comes out, nothing runs any more; until then the loop goes on.
"""

from __future__ import annotations

import functools
import io
import os
import random
import socket

import anyio
import pytest

from spliceio import aio
from tests.aio.test_cancel import FINE, SOME, by_hand, cancelled, everyhow, narrow
from tests.aio.test_fanout import Busy
from tests.support import loops
from tests.support.bodies import content
from tests.support.loops import ASYNCIO, backends, cut, in_thread, queued, run, turns, until, waited
from tests.support.scripts import scripted
from tests.support.sides import digest
from tests.support.states import Worker
from tests.support.streams import DATA, streams
from tests.support.wires import read_all

backend, ending = loops.backend, loops.ending

PATIENCE = 5
on_asyncio = pytest.mark.parametrize("backend", backends(*ASYNCIO))


def accounted(result, sent, got, rest):
    """Require of a fan-out that nothing is lost, repeated or counted wrongly."""
    assert len(result.sinks) == len(got)
    for one, has in zip(result.sinks, got, strict=True):
        assert one.moved == len(has) == sum(one.by_method.values())
        assert one.fate == ("stopped" if result.reason == "stopped" else "done")
        assert digest(has + one.held) == digest(sent[: result.moved])
    assert digest(rest) == digest(sent[result.moved :])


@by_hand()
@pytest.mark.parametrize("src", ["pipe", "unix"])
def test_while_a_silent_source_is_waited_for(wires, backend, way, src):
    """What came has arrived everywhere, and the rest can be had later."""
    reader, feeder = wires.pipe() if src == "pipe" else wires.sockets("unix")
    feeder = feeder if src == "pipe" else feeder.fileno()
    file, memory, sink = wires.file(), io.BytesIO(), wires.pipe()
    os.write(feeder, SOME[:1000])
    call = functools.partial(aio.fanout, reader, [file, memory, sink[1]])

    def ready():
        return os.fstat(file).st_size == len(memory.getvalue()) == queued(sink[0]) == 1000

    result = cancelled(backend, way, call, ready).result
    assert result.reason == "stopped"
    accounted(result, SOME[:1000], [content(file), memory.getvalue(), os.read(sink[0], 5000)], b"")
    os.write(feeder, b"later")
    assert waited(backend, "fanout", reader, [memory], 5).moved == 5


@by_hand()
@pytest.mark.parametrize(
    ("src", "method"), [("pipe", "auto"), ("unix", "auto"), ("unix", "read_write")]
)
def test_while_full_sinks_are_waited_for(wires, backend, way, src, method):
    """Each has a part of it, all the rest held or in the source; it can be taken up again."""
    source, memory = wires.source(src, SOME), io.BytesIO()
    full, sock = wires.pipe(4096), narrow(wires, "unix")
    to = [full[1], memory, sock.end]
    call = functools.partial(aio.fanout, source.end, to, method=method)

    def ready():
        return queued(full[0]) and queued(sock._collect_fd)

    result = cancelled(backend, way, call, ready).result
    assert 0 < result.sinks[0].moved <= 4096
    got = [os.read(full[0], 1 << 20), memory.getvalue(), sock.received()]
    accounted(result, SOME, got, source.left())


@everyhow
@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_in_the_middle_of_bulk(wires, backend, way, method):
    """While everybody is busy, wherever it happens to be."""
    source, sinks = wires.source("tcp4", DATA), [wires.sink(k) for k in ("pipe", "unix", "file")]
    memory, at = io.BytesIO(), random.Random(backend + way).randrange(len(DATA) // 2)
    to = [memory, *(one.end for one in sinks)]
    call = functools.partial(aio.fanout, source.end, to, method=method)

    async def main():
        return await cut(way, call, lambda: len(memory.getvalue()) > at)

    came = run(backend, main)
    result = getattr(came, "result", came)
    accounted(result, DATA, [memory.getvalue(), *(one.received() for one in sinks)], source.left())


@on_asyncio
@pytest.mark.parametrize("ahead", [0, 70_000, 2 << 20])
def test_before_it_began(wires, backend, ahead):
    """Nobody got anything; what the reader had is held, and the rest is in it or behind."""

    async def main():
        async with streams(wires) as (reader, _writer, far):
            reader._limit = 8 << 20
            feeder = Worker(lambda: far.sendall(DATA[:ahead]))
            await until(lambda: len(reader._buffer) == ahead)
            feeder.result()
            with anyio.CancelScope() as scope:
                scope.cancel()
                try:
                    await aio.fanout(reader, [memory, pipe[1]])
                except BaseException as error:
                    result = error.result
                    raise
            far.sendall(b"rest")
            far.shutdown(socket.SHUT_WR)
            return result, await reader.read()

    memory, pipe = io.BytesIO(), wires.pipe()
    result, rest = run(backend, main)
    assert [one.moved for one in result.sinks] == [0, 0]
    accounted(result, DATA[:ahead] + b"rest", [b"", b""], rest)


@by_hand()
@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_while_a_python_sink_is_busy(wires, backend, way, times):
    """The loop goes on, and the call ends when `write` has returned; its bytes count."""
    source, sink, full, outs = (
        wires.source("pipe", SOME[:30_000]),
        Busy(goes=False),
        wires.pipe(),
        [],
    )

    async def call():
        try:
            return await aio.fanout(source.end, [sink, full[1]])
        finally:
            outs.append(list(sink.waited))

    async def more(cancel_it):
        for _ in range(times - 1):
            await turns()
            cancel_it()
        await turns()
        assert outs == []
        sink.go.set()

    result = cancelled(backend, way, call, lambda: sink.tid, more).result
    assert outs == [sink.waited] == [[True]]
    got = os.read(full[0], 1 << 20) if result.sinks[1].moved else b""
    accounted(result, SOME[:30_000], [sink.got, got], source.left())


def test_around_the_end(wires, backend):
    """Cancelled a few turns before or after it is over: done or stopped, and always true."""
    chance, seen = random.Random(7), set()

    async def one():
        source, memory, came = wires.source("unix", SOME[:5000]), io.BytesIO(), []
        pipe, scope = wires.pipe(), anyio.CancelScope()

        async def call():
            with scope:
                try:
                    came.append(await aio.fanout(source.end, [pipe[1], memory]))
                except BaseException as error:
                    came.append(error.result)
                    raise

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await turns(chance.randrange(100))
            scope.cancel()
        os.close(pipe[1])
        accounted(came[0], source.data, [read_all(pipe[0]), memory.getvalue()], source.left())
        seen.add(came[0].reason)

    async def main():
        for _ in range(60):
            await one()

    run(backend, main)
    assert "stopped" in seen


# -- many at once ---------------------------------------------------------------------------------


def test_thirty_at_once(wires, backend):
    """In one task group, a few of them cancelled: none gets another one's bytes."""
    chance = random.Random(backend)

    async def one(scope, begin, size):
        source, sink = wires.source("unix", DATA[begin:][:size]), wires.sink("pipe")
        memory, came = io.BytesIO(), None
        with scope:
            try:
                came = await aio.fanout(source.end, [memory, sink.end])
            except BaseException as error:
                came = error.result
                raise
        got = [memory.getvalue(), await in_thread(sink.received)]
        accounted(came, source.data, got, b"" if came.reason == "eof" else source.left())
        ended.append(came.reason)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(30):
                scope = anyio.CancelScope()
                begin, size = chance.randrange(1000), chance.randrange(400_000)
                group.start_soon(one, scope, begin, size)
                if number % 3 == 0:
                    await turns(chance.randrange(10))
                    scope.cancel()

    ended = []
    run(backend, main)
    assert len(ended) == 30
    assert ended.count("eof") >= 20


def test_more_at_once_than_anyio_has_threads(wires, backend):
    """A row of fifty, each with the sink of the one before as its source; the first begins last."""
    pipes, memories = [wires.pipe() for _ in range(51)], [io.BytesIO() for _ in range(50)]

    async def one(number):
        try:
            await aio.fanout(pipes[number][0], [pipes[number + 1][1], memories[number]])
        finally:
            os.close(pipes[number + 1][1])

    async def main():
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in reversed(range(50)):
                    group.start_soon(one, number)
                    await turns(1)
                os.write(pipes[0][1], b"through all of them")
                os.close(pipes[0][1])

    run(backend, main)
    assert {memory.getvalue() for memory in memories} == {b"through all of them"}
    assert os.read(pipes[50][0], 100) == b"through all of them"


# -- signals, in a process of its own --------------------------------------------------------------

SCRIPT = """
from tests.support.states import thread_state

over = threading.Timer(15, os._exit, [3])
over.daemon = True
over.start()

def asleep(tid):
    return [thread_state(tid) for _ in range(500)].count("S") > 300

class Sink:
    def __init__(self):
        self.tid, self.got, self.go = 0, b"", threading.Event()
    def write(self, data):
        self.tid = threading.get_native_id()
        self.go.wait()
        self.got += data

src, feed = os.pipe()
out, dst = os.pipe()
sent, sink, seen = data[:50_000], Sink(), []
os.write(feed, sent)

async def fanned(**options):
    try:
        seen.append(await aio.fanout(src, [sink, dst], **options))
    except BaseException as error:
        seen.append(error.result)
        raise

def check():
    one, two = seen[0].sinks
    assert one.moved == len(sink.got), (one.moved, len(sink.got))
    assert sink.got + one.held == sent[: seen[0].moved]
    assert (os.read(out, two.moved) if two.moved else b"") + two.held == sent[: seen[0].moved]
    print("fine")
"""
CTRL_C = """
def interrupt():
    until(lambda: sink.tid)
    for _ in range(int(mode)):
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: seen or asleep(os.getpid()))
    early.extend(seen)
    sink.go.set()

early, thread = [], threading.Thread(target=interrupt)
thread.start()
try:
    run(backend, fanned)
except Interrupted:
    thread.join()
    assert not early
    check()
"""
PROGRESS = """
async def main():
    task = asyncio.ensure_future(fanned(progress=lambda moved: None))
    while not sink.tid:
        await asyncio.sleep(0)
    os.close(feed)
    task.cancel()
    sink.go.set()
    until(lambda: thread_state(sink.tid) == "gone")  # it does not wait for the loop
    await asyncio.wait([task])
    check()

run(backend, main)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(backend, times):
    """Once or more while a sink's `write` runs: that is waited for, and its bytes count."""
    assert scripted(backend, SCRIPT + CTRL_C, str(times)) == FINE


@on_asyncio
def test_cancelled_while_progress_is_to_be_called(backend):
    """The thread ends without the loop, which is held up meanwhile."""
    assert scripted(backend, SCRIPT + PROGRESS) == FINE
