"""spliceio.aio.fanout: every kind of sink under every loop, and beside other people's streams.

Rule 1: every sink gets every byte, and bytes never wait for the loop.
Rule 2: what a StreamReader has read goes first, what a StreamWriter has not sent goes before; a
        call that is refused has taken nothing.
What fanout does without a loop is in tests/fanout, cancelling is in test_fanout_cancel.py.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import socket
import threading

import anyio
import pytest

import spliceio
from spliceio import aio
from tests.aio.test_cancel import SOME
from tests.support import loops
from tests.support.bodies import content
from tests.support.loops import (
    ASYNCIO,
    backends,
    came_of,
    each_backend,
    facts,
    run,
    until,
    waited,
)
from tests.support.sides import digest
from tests.support.states import Worker
from tests.support.states import until as at_once
from tests.support.streams import DATA, feed, hold, streams, trio_stream
from tests.support.wires import read_all, write_all

backend, ending = loops.backend, loops.ending

PATIENCE = 5
SIZES = [0, 1, 65537, 5 << 20]
kinds = pytest.mark.parametrize("kind", ["unix", "tcp4"])


REFUSED = {
    "no sinks": ([], {}),
    "a sink": ([1.5], {}),
    "a closed sink": ([2**20], {}),
    "a sink that reads": (["reader"], {}),
    "a negative count": ([1], {"count": -2}),
    "a count": ([1], {"count": "5"}),
    "on_slow": ([1], {"on_slow": "nonsense"}),
    "stall_timeout": ([1], {"on_slow": "drop", "stall_timeout": -1}),
    "method": ([1], {"method": "splice"}),
    "timeout": ([1], {"timeout": -1}),
}
"""Sinks and options of calls that are refused."""


@pytest.fixture(params=backends(*ASYNCIO))
def loop(request):
    """Each kind of asyncio loop in turn."""
    return request.param


class Busy:
    """A sink that takes bytes when it may go on, and then raises if it shall."""

    def __init__(self, *, raises=None, goes=True):
        self.raises, self.go = raises, threading.Event()
        self.got, self.waited, self.thread, self.tid = b"", [], None, 0
        if goes:
            self.go.set()

    def write(self, data):
        self.thread, self.tid = threading.get_ident(), threading.get_native_id()
        self.waited.append(self.go.wait(PATIENCE))
        if self.raises is not None:
            raise self.raises
        self.got += data


class Frames:
    """A sink that frames what it is given, and has its socket where trio's streams have theirs."""

    def __init__(self, sock):
        self.socket = sock

    def write(self, data):
        self.socket.sendall(b"[%b]" % data)


# -- every byte ------------------------------------------------------------------------------------


@each_backend(src=["pipe", "unix", "tcp4", "file"], nonblocking=[False, True])
def test_every_kind_of_sink_gets_every_byte(wires, backend, src, nonblocking):
    """Pipes by tee or splice, sockets and files by splice, objects by their method."""
    for size in SIZES:
        source = wires.source(src, DATA[:size], nonblocking=nonblocking)
        sinks = [wires.sink(k, nonblocking=nonblocking) for k in ("pipe", "unix", "tcp4", "file")]
        memory, sha = io.BytesIO(), hashlib.sha256()
        to = [sha, *(sink.end for sink in sinks), memory]
        result = waited(backend, "fanout", source.end, to)
        assert (result.moved, result.reason, result.fallbacks) == (size, "eof", ())
        assert [os.get_blocking(end.fd) for end in (source, *sinks)] == [not nonblocking] * 5
        assert [one.moved for one in result.sinks] == [size] * 6
        assert {one.fate for one in result.sinks} == {"done"}
        methods = [set(one.by_method) for one in result.sinks]
        assert methods[1] <= {"tee", "splice"}
        if size:
            assert methods[0] == {"update"}
            assert methods[2:] == [{"splice"}, {"splice"}, {"splice"}, {"write"}]
        assert sha.digest() == hashlib.sha256(DATA[:size]).digest()
        for got in (*(sink.received() for sink in sinks), memory.getvalue()):
            assert digest(got) == digest(DATA[:size])


@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_what_is_behind_the_count_stays_in_the_source(wires, backend, src, count):
    """Whatever the sinks are."""
    source, sink, memory = wires.source(src, SOME), wires.sink("unix"), io.BytesIO()
    result = waited(backend, "fanout", source.end, [memory, sink.end], count)
    assert (result.moved, result.reason) == (count, "count")
    assert [sink.received(), memory.getvalue()] == [SOME[:count]] * 2
    assert digest(source.left()) == digest(SOME[count:])


def test_a_computing_loop_holds_up_no_byte(wires, backend):
    """Everything has arrived, at objects of Python too, before the loop goes on."""
    (reader, writer), file = wires.pipe(), wires.file()
    (near, far), memory, ended = wires.sockets("unix"), io.BytesIO(), []

    async def call():
        ended.append(await aio.fanout(reader, [memory, file, near]))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            os.write(writer, DATA[:1])
            await until(memory.getvalue)
            taker = Worker(lambda: far.recv(len(DATA), socket.MSG_WAITALL))
            feeder = Worker(lambda: write_all(writer, DATA[1:]))
            at_once(lambda: not taker.is_alive() and os.fstat(file).st_size == len(DATA))
            at_once(lambda: len(memory.getvalue()) == len(DATA))
            assert not ended
            os.close(writer)
            feeder.result()
            return taker.result()

    assert digest(run(backend, main)) == digest(DATA)
    assert ended[0].moved == len(DATA)
    assert digest(memory.getvalue()) == digest(content(file)) == digest(DATA)


# -- what may be passed ----------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("count", [0, 1, 4999, 5000, 5001, 8000])
def test_what_the_reader_has_goes_first(wires, loop, kind, count):
    """Count or not, and read() goes on with the very next byte."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:5000])
            writer.transport.pause_reading()
            far.sendall(DATA[5000:10_000])
            writer.transport.resume_reading()
            result = await aio.fanout(reader, [file, memory, pipe[1]], count)
            assert (result.moved, result.reason) == (count, "count")
            assert await reader.readexactly(10_000 - count) == DATA[count:10_000]

    file, memory, pipe = wires.file(), io.BytesIO(), wires.pipe()
    run(loop, main)
    os.write(pipe[1], b"!")
    assert content(file) == memory.getvalue() == DATA[:count]
    assert os.read(pipe[0], 1 << 20) == DATA[:count] + b"!"


@kinds
def test_a_reader_to_its_end(wires, loop, kind):
    """With bytes read ahead and the end of file behind them."""

    async def main():
        async with streams(wires, kind) as (reader, _writer, far):
            await hold(reader, far, DATA[:50_000])
            feeder = feed(far, DATA[50_000:])
            result = await aio.fanout(reader, [file, memory])
            feeder.result()
            assert (result.moved, result.reason) == (len(DATA), "eof")
            assert await reader.read() == b""

    file, memory = wires.file(), io.BytesIO()
    run(loop, main)
    assert digest(content(file)) == digest(memory.getvalue()) == digest(DATA)


@kinds
@pytest.mark.parametrize("unsent", [1, 5 << 20])
def test_what_the_writers_have_not_sent_goes_before(wires, loop, kind, unsent):
    """Without a drain() in between; and what is written afterwards comes behind."""

    async def main():
        async with streams(wires, kind) as (_r, w1, far1), streams(wires) as (_r2, w2, far2):
            got = [Worker(functools.partial(read_all, far.fileno())) for far in (far1, far2)]
            w1.write(DATA[:unsent])
            w2.write(b"other ")
            result = await aio.fanout(file, [w1, w2])
            assert [set(one.by_method) for one in result.sinks] == [{"splice"}] * 2
            for writer in (w1, w2):
                writer.write(b" after")
                await writer.drain()
                writer.write_eof()
            await until(lambda: not any(one.is_alive() for one in got))
            return [one.result() for one in got]

    file = wires.file(SOME[::-1])
    first, second = run(loop, main)
    assert digest(first) == digest(DATA[:unsent] + SOME[::-1] + b" after")
    assert digest(second) == digest(b"other " + SOME[::-1] + b" after")


@kinds
def test_the_sockets_of_trio(wires, kind):
    """A SocketStream as source and as sink, and it goes on afterwards."""
    trio = pytest.importorskip("trio")

    async def main():
        src, feeder = await trio_stream(trio, wires, kind)
        dst, out = await trio_stream(trio, wires, kind)
        async with src, dst:
            feeder.sendall(SOME[:5000] + b"rest")
            result = await aio.fanout(src, [memory, dst], 5000)
            await dst.send_all(b" after")
            assert await src.receive_some(100) == b"rest"
            assert out.recv(5006, socket.MSG_WAITALL) == SOME[:5000] + b" after"
        return result

    memory = io.BytesIO()
    assert run("trio", main).moved == 5000
    assert memory.getvalue() == SOME[:5000]


def test_an_object_that_has_a_socket_is_still_called(wires, backend):
    """It writes what it makes of the bytes, and nothing goes past it into its socket."""
    near, far = wires.sockets("unix")
    result = waited(backend, "fanout", wires.source("pipe", b"hello").end, [Frames(near)])
    assert far.recv(100) == b"[hello]"
    assert result.sinks[0].method == "write"


@pytest.mark.parametrize("backend", backends("asyncio", "uvloop", "trio"))
def test_the_result_names_what_was_passed(wires, backend):
    """The StreamWriter or SocketStream itself, not a number that is closed by then."""
    memory = io.BytesIO()

    async def main():
        if backend == "trio":
            stream, _far = await trio_stream(pytest.importorskip("trio"), wires, "unix")
            async with stream:
                return stream, await aio.fanout(source.end, [stream, memory])
        async with streams(wires) as (_reader, writer, _far):
            return writer, await aio.fanout(source.end, [writer, memory])

    source = wires.source("pipe", b"hello")
    passed, result = run(backend, main)
    assert [one.sink for one in result.sinks] == [passed, memory]


# -- refusals and failures -------------------------------------------------------------------------


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_alike(wires, backend, what):
    """The same exception with the same text as without a loop, and no byte taken."""
    (reader, writer), (sinks, options) = wires.pipe(), REFUSED[what]
    os.write(writer, b"hello")
    sinks = [reader if one == "reader" else one for one in sinks]
    expected = came_of(lambda: spliceio.fanout(reader, sinks, **options))
    assert isinstance(expected, Exception)
    assert facts(came_of(lambda: waited(backend, "fanout", reader, sinks, **options))) == facts(
        expected
    )
    assert os.read(reader, 100) == b"hello"


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_call_gives_the_reader_its_bytes_back(wires, loop, what):
    """And it reads on, as if nothing had been."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            await hold(reader, far, b"hello ")
            sinks, options = REFUSED[what]
            sinks = [pipe[0] if one == "reader" else one for one in sinks]
            with pytest.raises((TypeError, ValueError, OSError)) as caught:
                await aio.fanout(reader, sinks and [writer, *sinks], **options)
            assert not hasattr(caught.value, "result")
            far.sendall(b"world")
            assert await reader.readexactly(11) == b"hello world"
            writer.write(b"still open")
            await writer.drain()
            assert far.recv(100) == b"still open"

    pipe = wires.pipe()
    run(loop, main)


def test_a_sink_that_raises_ends_for_itself(wires, backend):
    """Its error is in the result, and the others get everything."""
    source, sink, memory = wires.source("unix", SOME), wires.sink("tcp4"), io.BytesIO()
    bad, ours = Busy(raises=ZeroDivisionError("mine")), threading.get_ident()
    result = waited(backend, "fanout", source.end, [memory, bad, sink.end])
    assert [one.fate for one in result.sinks] == ["done", "failed", "done"]
    assert result.failed[0].error is bad.raises
    assert bad.thread != ours
    assert digest(memory.getvalue()) == digest(sink.received()) == digest(SOME)


def test_nobody_is_left(wires, backend):
    """It returns, and what was taken for nobody is there; or the reader has it."""
    source = wires.source("unix", SOME)
    result = waited(
        backend, "fanout", source.end, [Busy(raises=OSError("a")), Busy(raises=EOFError())]
    )
    assert result.reason == "no sinks"
    assert digest(result.unread + source.left()) == digest(SOME)


def test_on_slow_drop(wires, backend, stuffed):
    """A peer that does not read is left behind; the rest have everything."""
    source, memory, file = wires.source("pipe", SOME), io.BytesIO(), wires.file()
    to = [memory, stuffed[0], file]
    result = waited(backend, "fanout", source.end, to, on_slow="drop", stall_timeout=0.05)
    assert [one.fate for one in result.sinks] == ["done", "dropped", "done"]
    assert isinstance(result.sinks[1].error, TimeoutError)
    assert digest(memory.getvalue()) == digest(content(file)) == digest(SOME)


def test_a_timeout(wires, backend, clogged):
    """It carries what each got: a full sink has it held, and a pipe keeps the rest."""
    source, memory = wires.source("unix", SOME[:1000]), io.BytesIO()
    with pytest.raises(TimeoutError) as caught:
        waited(backend, "fanout", source.end, [clogged[1], memory], timeout=0.05)
    full, done = caught.value.result.sinks
    assert (full.moved, full.held, done.moved) == (0, SOME[:1000], 1000)
    assert memory.getvalue() == SOME[:1000]


def test_progress_is_called_in_the_loop(wires, backend):
    """With ever more, and at the end with everything; what it raises ends the fan-out."""
    told, memory = [], io.BytesIO()

    def progress(moved):
        told.append((moved, threading.get_ident()))

    source = wires.source("unix", DATA)
    waited(backend, "fanout", source.end, [memory], progress=progress)
    counts = [moved for moved, _ in told]
    assert counts == sorted(counts)
    assert counts[-1] == len(DATA)
    assert {ident for _, ident in told} == {threading.get_ident()}
    with pytest.raises(ZeroDivisionError) as caught:
        waited(
            backend, "fanout", wires.source("pipe", b"abc").end, [memory], progress=lambda n: n / 0
        )
    assert caught.value.result.sinks[0].moved == 3
