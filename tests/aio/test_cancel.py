"""Cancelling what spliceio.aio does: in every way, at every moment, many at once.

Rule 1: what arrived, what the exception holds and what is in the source still is what was sent.
Rule 2: when the exception comes out, the engine has let go: nothing moves any more, sockets have
        their mode, and no descriptor, pipe or thread is left.
Rule 3: bytes never wait for the loop, and no loop, fork, signal or closed socket gets in their way.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import random
import signal
import socket
import subprocess
import sys
import threading

import anyio
import pytest

from spliceio import aio
from spliceio._relay.job import Job
from spliceio._transfer import transfer as _transfer
from spliceio.aio import _driver as _await
from tests.support import loops, scripts
from tests.support.bodies import content, file_limit
from tests.support.cases import FULL
from tests.support.loops import (
    available,
    carried,
    counts,
    cut,
    each_way,
    queued,
    run,
    turns,
    until,
    ways,
)
from tests.support.scripts import scripted
from tests.support.seam import Seam, cap
from tests.support.sides import digest, sides
from tests.support.states import Worker, process_state, thread_state
from tests.support.states import until as at_once
from tests.support.streams import feed, hold, streams
from tests.support.wires import SOCKETS, payload

backend, ending, many_descriptors = loops.backend, loops.ending, loops.many_descriptors

DATA = payload(5 << 20)
SOME = DATA[:150_000]
"""More than a socket takes whose peer does not read, and less than one holds that is read from."""
FINE = (0, "fine\n", "")
everyhow = pytest.mark.parametrize(("backend", "way"), ways())
# wait_for cancels once, and only what needs no loop to become ready.
by_hand = functools.partial(each_way, without=("wait_for",))
streaming = [one for one in ways("scope", "group", "task.cancel") if one.values[0] != "trio"]


def cancelled(backend, way, call, ready, again=None):
    """Cancel a call in a loop of its own once it is ready; return what passed through it."""

    async def main():
        error = await cut(way, call, ready, again)
        assert isinstance(error, anyio.get_cancelled_exc_class()), error
        return error

    return run(backend, main)


def narrow(wires, kind, **options):
    """Make a sink that takes little, and that nobody reads from before the end."""
    sink = wires.sink(kind, collecting=False, **options)
    if kind in SOCKETS:
        sink.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        # The receiver's too: what a TCP peer takes unread may otherwise be all there is.
        with socket.socket(fileno=os.dup(sink._collect_fd)) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sink


def accounted(error, source, sink):
    """Require of a cancelled transfer that nothing is lost, repeated or counted wrongly."""
    got = sink.received()
    assert error.result.moved == len(got) == sum(error.result.by_method.values())
    assert digest(got + error.held + source.left()) == digest(source.data)


# -- one way ---------------------------------------------------------------------------------------


@each_way(dst=["unix", "tcp4"], nonblocking=[False, True])
def test_held_because_the_reader_does_not_read(wires, backend, way, dst, nonblocking):
    """What was taken and not delivered comes with the exception; the mode is what it was."""
    source = wires.source("unix", SOME, nonblocking=nonblocking)
    sink = narrow(wires, dst, nonblocking=nonblocking)
    call = functools.partial(aio.copy, source.end, sink.end)
    error = cancelled(backend, way, call, lambda: queued(source.end) == 0)
    assert 0 < len(error.held) < len(SOME)
    assert [os.get_blocking(end.fd) for end in (source, sink)] == [not nonblocking] * 2
    assert error.result.method == "splice"
    accounted(error, source, sink)


@each_way(src=["unix", "tcp4", "pipe"], name=["copy", "receive_file"])
def test_while_a_silent_source_is_waited_for(wires, backend, way, src, name):
    """Everything that came has arrived, nothing is held, and the rest can be had later."""
    (reader, feed) = wires.pipe() if src == "pipe" else wires.sockets(src)
    file, feed = wires.file(), feed if src == "pipe" else feed.fileno()
    os.write(feed, SOME[:1000])
    call = functools.partial(getattr(aio, name), reader, file, len(SOME))
    error = cancelled(backend, way, call, lambda: carried() == 1000)
    assert (error.result.moved, error.held) == (1000, b"")
    assert getattr(error, "unread", None) == (None if name == "copy" else len(SOME) - 1000)
    os.write(feed, SOME[1000:2000])
    assert run(backend, aio.copy, reader, file, 1000).moved == 1000
    assert content(file) == SOME[:2000]


@each_way(src=["unix", "pipe", "file"])
def test_a_full_pipe(wires, backend, way, src):
    """Direct splices hold nothing: what did not fit is in the source."""
    source, (reader, writer) = wires.source(src, SOME), wires.pipe(4096)
    call = functools.partial(aio.copy, source.end, writer)
    error = cancelled(backend, way, call, lambda: queued(reader) > 0)
    assert error.held == b""
    assert os.get_blocking(writer)
    got = os.read(reader, 1 << 20)
    assert 0 < len(got) == error.result.moved <= 4096
    assert got + source.left() == SOME


@everyhow
def test_a_pipe_full_of_slots(wires, backend, way, clogged):
    """Nothing could be moved, and nothing was taken."""
    _reader, writer = clogged
    source = wires.source("unix", SOME)
    call = functools.partial(aio.copy, source.end, writer)
    error = cancelled(backend, way, call, lambda: counts()["active"] == 1)
    assert (error.result.moved, error.held) == (0, b"")
    assert source.left() == SOME


@each_way(dst=["unix", "tcp4", "pipe"], name=["copy", "send_file"])
def test_a_file_that_is_sent(wires, backend, way, dst, name):
    """The position is behind what arrived, or untouched; a file never has anything held."""
    file, sink = wires.file(DATA), narrow(wires, dst)
    args = (file, sink.end) if name == "copy" else (sink.end, file)
    call = functools.partial(getattr(aio, name), *args)
    error = cancelled(backend, way, call, lambda: queued(sink._collect_fd) > 10_000)
    got = sink.received()
    assert 0 < error.result.moved == len(got) < len(DATA)
    assert (got, error.held) == (DATA[: len(got)], b"")
    assert os.lseek(file, 0, os.SEEK_CUR) == (len(got) if name == "copy" else 0)


@each_way(
    ends=[("unix", "tcp4"), ("tcp4", "unix"), ("tcp4", "file"), ("unix", "pipe"), ("pipe", "tcp4")]
)
def test_in_the_middle_of_bulk(wires, backend, way, ends):
    """While both peers are busy, wherever it happens to be."""
    src, dst = ends
    source, sink = wires.source(src, DATA), wires.sink(dst)
    at = random.Random(f"{backend}{way}{src}{dst}").randrange(len(DATA) // 2)
    call = functools.partial(aio.copy, source.end, sink.end)

    async def main():
        return await cut(way, call, lambda: carried() > at)

    came = run(backend, main)
    if isinstance(came, BaseException):
        accounted(came, source, sink)
    else:  # it was faster
        assert came.moved == len(DATA)
        assert digest(sink.received()) == digest(DATA)


@each_way(kind=["file", "tmpfs"])
def test_between_files(wires, backend, way, kind, monkeypatch):
    """The thread that copies has stopped when the exception comes out, and the counts are true."""
    slice_ns = {"file": 80_000_000, "tmpfs": 1}[kind]
    monkeypatch.setattr(_transfer, "SLICE_NS", slice_ns)
    src, dst = wires.file(DATA, kind=kind), wires.file(kind=kind)
    before = set(threading.enumerate())
    with Seam(cap("sendfile", 1), cap("copy_file_range", 1)).everywhere(monkeypatch):
        call = functools.partial(aio.copy, src, dst)
        error = cancelled(backend, way, call, lambda: os.fstat(dst).st_size > 1000)
        for thread in set(threading.enumerate()) - before:
            if not thread.name.startswith("spliceio"):
                thread.join()
    moved = error.result.moved
    assert 1000 < moved == os.fstat(dst).st_size == os.lseek(src, 0, os.SEEK_CUR) < len(DATA)
    assert (content(dst), error.held) == (DATA[:moved], b"")


@everyhow
def test_what_was_cancelled_can_be_taken_up_again(wires, backend, way):
    """Write what is held, copy the rest: the whole is whole."""
    source, sink = wires.source("unix", SOME), narrow(wires, "unix")
    call = functools.partial(aio.copy, source.end, sink.end)
    error = cancelled(backend, way, call, lambda: queued(source.end) == 0)
    sink.begin()
    sink.end.sendall(error.held)
    assert run(backend, aio.copy, source.end, sink.end).moved == source.data.find(b"") == 0
    assert digest(sink.received()) == digest(SOME)


@by_hand(count=[6000, None])
def test_while_a_failed_body_is_drained(wires, backend, way, count):
    """It tells what is in the file, not what was dropped; and what is unread."""
    near, far = wires.sockets("unix")
    file = wires.file()
    far.sendall(DATA[:5000])
    call = functools.partial(aio.receive_file, near, file, count, drain=True)
    with file_limit(2000):
        error = cancelled(backend, way, call, lambda: queued(near) == 0 and counts()["total"] == 2)
    assert (content(file), error.result.moved, error.held) == (DATA[:2000], 2000, b"")
    assert error.unread == (None if count is None else 1000)
    assert isinstance(error.__context__, OSError)
    assert error.__context__.errno == errno.EFBIG
    assert os.get_blocking(near.fileno())


def test_a_progress_callback_that_cancels(wires, backend):
    """It is a moment like any other."""
    source, sink = wires.source("unix", SOME), narrow(wires, "unix")

    async def main():
        with anyio.CancelScope() as scope:
            try:
                await aio.copy(source.end, sink.end, progress=lambda moved: scope.cancel())
            except BaseException as error:
                caught.append(error)
                raise

    caught = []
    run(backend, main)
    accounted(caught[0], source, sink)


# -- two ways --------------------------------------------------------------------------------------


def shrink(side):
    if isinstance(side.far, socket.socket):
        side.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@each_way(ends=[("unix", "tcp4"), ("pair", "unix"), ("tcp4", "duplex")], nonblocking=[False, True])
def test_a_relay_that_is_stuck_both_ways(backend, way, ends, nonblocking):
    """Moved, held and still in the source, of each direction: together all that was sent."""
    with sides(*ends, nonblocking=nonblocking) as (one, two):
        sent = []
        for side, data in ((one, SOME), (two, SOME[::-1])):
            shrink(side)
            os.set_blocking(side.writer, False)
            sent.append(data[: os.write(side.writer, data)])
        call = functools.partial(aio.relay, one.near, two.near)
        error = cancelled(backend, way, call, lambda: carried() > 5000)
        result = error.result
        assert result.reason in ("cancelled", "stopped")
        assert {os.get_blocking(fd) for fd in one.fds + two.fds} == {not nonblocking}
        for source, sink, moved, held, data in (
            (one, two, result.a_to_b, result.held_a_to_b, sent[0]),
            (two, one, result.b_to_a, result.held_b_to_a, sent[1]),
        ):
            assert sink.receive(moved) + held + source.rest() == data
            assert sink.arrived() == b""
        assert sum(result.methods.values()) == result.a_to_b + result.b_to_a


@everyhow
def test_an_idle_relay(backend, way):
    """Nothing is passed on: no end of file, no reset; both sides are still usable."""
    with sides("unix", "tcp4") as (one, two):
        one.send(b"abc")
        call = functools.partial(aio.relay, one.near, two.near)
        error = cancelled(backend, way, call, lambda: carried() == 3)
        assert (error.result.a_to_b, error.result.b_to_a) == (3, 0)
        assert (two.arrived(), one.arrived()) == (b"abc", b"")
        one.near.sendall(b"still open")
        assert one.receive(10) == b"still open"


# -- the streams of asyncio ------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "way"), streaming)
def test_a_cancelled_copy_and_the_reader_afterwards(wires, backend, way):
    """Delivered, held and still to be read: together everything; the reader reads on."""

    async def main():
        async with streams(wires) as (reader, _writer, far):
            await hold(reader, far, DATA[:70_000])
            far.sendall(DATA[70_000:150_000])
            call = functools.partial(aio.copy, reader, sink.end)
            error = await cut(way, call, lambda: carried() > 1000)
            assert isinstance(error, asyncio.CancelledError)
            feeder = feed(far, DATA[150_000:400_000])
            rest = await reader.read()
            feeder.result()
            return error, rest

    sink = wires.sink("unix", collecting=False)
    sink.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    error, rest = run(backend, main)
    got = sink.received()
    assert len(got) == error.result.moved
    assert digest(got + error.held + rest) == digest(DATA[:400_000])


@pytest.mark.parametrize(("backend", "way"), streaming)
def test_a_cancelled_relay_and_the_streams_afterwards(wires, backend, way):
    """Both ways; and both streams can be used on."""

    async def main():
        async with streams(wires) as (reader, writer, far), streams(wires) as (r2, w2, far2):
            await hold(reader, far, DATA[:1000])
            call = functools.partial(aio.relay, (reader, writer), (r2, w2))
            error = await cut(way, call, lambda: carried() == 1000 and queued(far2) == 1000)
            assert isinstance(error, asyncio.CancelledError)
            assert (error.result.a_to_b, error.result.b_to_a) == (1000, 0)
            far.sendall(b"more")
            w2.write(b"and more")
            assert await reader.readexactly(4) == b"more"
            await w2.drain()
            assert far2.recv(1000, socket.MSG_WAITALL) == DATA[:1000]
            assert far2.recv(100) == b"and more"

    run(backend, main)


@pytest.mark.parametrize(("backend", "way"), streaming)
@pytest.mark.parametrize("name", ["copy", "relay"])
def test_cancelled_while_the_writer_is_still_sending(wires, backend, way, name):
    """What the other reader had is held or still in it; and the counts are there."""

    async def main():
        async with streams(wires) as (reader, writer, far), streams(wires) as (r2, w2, far2):
            await hold(reader, far, b"hello")
            w2.write(DATA)
            ends = (reader, w2) if name == "copy" else ((reader, writer), (r2, w2))
            call = functools.partial(getattr(aio, name), *ends)
            ready = iter([False] * 20 + [True] * 99)
            error = await cut(way, call, lambda: next(ready))
            far.sendall(b" world")
            far.shutdown(socket.SHUT_WR)
            result = getattr(error, "result", None)
            held = getattr(error, "held", b"") if name == "copy" else b""
            if name == "relay" and result is not None:
                held = result.held_a_to_b
            assert held + await reader.read() == b"hello world"
            assert result is None or not result.moved if name == "copy" else True
            taker = Worker(lambda: far2.recv(len(DATA), socket.MSG_WAITALL))
            await w2.drain()
            await until(lambda: not taker.is_alive())
            assert digest(taker.result()) == digest(DATA)

    run(backend, main)


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["copy", "between files", "send_file", "receive_file", "relay"])
def test_a_scope_that_is_cancelled_already(wires, backend, what):
    """The call raises, as all that may wait does under anyio; what moved all the same is told."""

    async def one():
        source, file = wires.source("unix", SOME[:1000]), wires.file(SOME[:1000])
        sink = wires.sink("file" if what in ("between files", "receive_file") else "unix")
        ends = {"between files": (file, sink.end), "send_file": (sink.end, file)}
        name = "copy" if what == "between files" else what
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await getattr(aio, name)(*ends.get(what, (source.end, sink.end)))
            except BaseException as error:
                result = error.result
                raise
        assert scope.cancelled_caught
        moved = result.a_to_b if what == "relay" else result.moved
        assert sink.received() == SOME[:moved]
        assert what in ends or source.left() == SOME[moved:1000]

    async def main():
        for _ in range(20):
            await one()

    run(backend, main)


def test_every_call_lets_the_others_run(wires, backend):
    """A loop of calls that never have to wait starves nobody, and can be cancelled."""

    async def main():
        reader, writer = wires.pipe()
        null = wires.ends.fd(os.open("/dev/null", os.O_WRONLY))
        went, ran = 0, 0

        async def others():
            nonlocal ran
            while True:
                ran += 1
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(others)
            for _ in range(200):
                os.write(writer, b"abc")
                went += (await aio.copy(reader, null, 3)).moved
            group.cancel_scope.cancel()
        return went, ran

    went, ran = run(backend, main)
    assert went == 600
    assert ran >= 200


def test_around_the_end(wires, backend):
    """Cancelled a few turns before or after it is over: done or cancelled, and always true."""
    chance, seen = random.Random(7), set()

    async def one():
        source, sink = wires.source("unix", SOME[:5000]), wires.sink("unix", collecting=False)
        scope, came = anyio.CancelScope(), []

        async def call():
            with scope:
                try:
                    came.append(await aio.copy(source.end, sink.end))
                except BaseException as error:
                    came.append(error)
                    raise

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await turns(chance.randrange(6))
            scope.cancel()
        if isinstance(came[0], BaseException):
            seen.add("cancelled")
            accounted(came[0], source, sink)
        else:
            seen.add("done")
            assert came[0].moved == 5000
            assert sink.received() == SOME[:5000]
        source.end.close()

    async def main():
        for _ in range(300):
            await one()

    run(backend, main)
    assert "done" in seen


@by_hand(name=["copy", "relay"])
def test_a_second_cancel_waits_as_well(wires, backend, way, name, monkeypatch):
    """Cancelled again and again while the engine lets go: it waits until that has happened."""
    asked, kept, again, out, early = [], [], [], [], []
    cancel, close = Job.cancel, _await._Completions.close
    monkeypatch.setattr(Job, "cancel", lambda job: asked.append(job))
    # A call that did not wait would free what the engine still uses, and take the tests with it.
    monkeypatch.setattr(_await._Completions, "close", lambda completions: kept.append(completions))
    source, sink = wires.source("unix", SOME), narrow(wires, "unix")
    main = threading.get_native_id()

    def blocked():
        return again and all(thread_state(main) == "S" for _ in range(300))

    def let_go():
        # By then it has left, or waits in the loop, or holds up the loop.
        at_once(lambda: asked and (out or "done" in again or blocked()))
        early.extend(out)
        cancel(asked[0])

    async def call():
        try:
            return await getattr(aio, name)(source.end, sink.end)
        finally:
            out.append("out before the engine had let go")

    async def more(cancel_it):
        await until(lambda: asked)
        for number in range(3):
            cancel_it()
            again.append(number)
            await turns()
        again.append("done")

    letting_go = Worker(let_go)
    error = cancelled(backend, way, call, lambda: carried() > 0, more)
    letting_go.result()
    for news in kept:
        close(news)
    assert early == []
    if name == "copy":
        accounted(error, source, sink)
    else:
        got, result = sink.received(), error.result
        assert len(got) == result.a_to_b
        assert got + result.held_a_to_b + source.left() == SOME


# -- many at once ----------------------------------------------------------------------------------


async def one_of_many(name, chance, scopes, outcomes):
    """Copy or relay between socket pairs, some of which end; check every byte."""
    a, near_a = socket.socketpair()
    near_b, b = socket.socketpair()
    with a, near_a, near_b, b:
        there, back = (DATA[chance.randrange(1000) :][: chance.randrange(50_000)] for _ in range(2))
        a.sendall(there)
        b.sendall(back)
        for end in (a, b):
            if chance.random() < 0.5:
                end.shutdown(socket.SHUT_WR)
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                result = await getattr(aio, name)(near_a, near_b)
                held = b""
            except BaseException as error:
                result, held = error.result, getattr(error, "held", b"")
                raise
        outcomes.append((name, scope.cancelled_caught))
        if name == "copy":
            moved = [result.moved, 0]
            helds = [held, b""]
        else:
            moved = [result.a_to_b, result.b_to_a]
            helds = [result.held_a_to_b, result.held_b_to_a]
        for out, source, data, count, kept in (
            (b, near_a, there, moved[0], helds[0]),
            (a, near_b, back, moved[1], helds[1]),
        ):
            arrived = available(out)
            assert len(arrived) == count
            assert arrived + kept + available(source) == data


def test_hundreds_of_relays_and_as_many_copies(backend, many_descriptors):
    """In one task group, cancelled one by one at random moments: each one's bytes are all there."""
    chance, count = random.Random(backend), 500 if FULL else 200

    async def main():
        scopes, outcomes = [], []
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one_of_many, "copy", chance, scopes, outcomes)
                group.start_soon(one_of_many, "relay", chance, scopes, outcomes)
            while len(outcomes) < 2 * count:
                await anyio.sleep(0)
                if scopes and chance.random() < 0.5:
                    scopes.pop(chance.randrange(len(scopes))).cancel()
        return outcomes

    outcomes = run(backend, main)
    assert len(outcomes) == 2 * count
    assert {("copy", True), ("relay", True), ("relay", False)} <= set(outcomes)


# -- a loop that is busy, a socket that is closed --------------------------------------------------


TAKES = """
import hashlib, os, sys
os.read(int(sys.argv[1]), 1)
print(hashlib.sha256(sys.stdin.buffer.read(int(sys.argv[2]))).hexdigest())
"""


@pytest.mark.parametrize("name", ["copy", "send_file", "relay"])
def test_a_computing_loop_holds_up_no_byte(wires, backend, name, tmp_path):
    """Between two processes everything arrives while a callback computes; only the news waits."""
    (tmp_path / "data").write_bytes(DATA)
    (near, far), (wait, go) = wires.sockets("unix"), wires.pipe()
    command = [sys.executable, "-c", TAKES, str(wait), str(len(DATA))]
    taker = subprocess.Popen(command, stdin=far, stdout=subprocess.PIPE, pass_fds=[wait])
    giver = subprocess.Popen(["cat", tmp_path / "data"], stdout=subprocess.PIPE)
    far.close()
    ended = []

    async def call():
        with open(tmp_path / "data", "rb") as file, open("/dev/null", "wb") as null:
            if name == "copy":
                result = (await aio.copy(giver.stdout, near)).moved
            elif name == "send_file":
                result = (await aio.send_file(near, file)).moved
            else:
                result = (await aio.relay((giver.stdout, null), near)).a_to_b
        ended.append(result)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: counts()["active"])
            os.write(go, b"!")
            at_once(lambda: process_state(taker.pid) in ("Z", "gone"))
            assert not ended
        return ended

    with taker, giver:
        if name == "send_file":
            giver.stdout.close()
        assert run(backend, main) == [len(DATA)]
        assert taker.stdout.read().split() == [digest(DATA)[1].encode()]


@pytest.mark.parametrize("name", ["copy", "relay"])
def test_sockets_that_are_closed_in_the_middle(wires, backend, name):
    """Their owner closes them and the numbers are used anew: no stranger gets a byte or a mode."""
    (src, feed), (dst, out) = wires.sockets("unix"), wires.sockets("tcp4")

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: queued(out) == 6)
            numbers = {src.fileno(), dst.fileno()}
            src.close()
            dst.close()
            while len(strangers) < 2:
                made = wires.file(b"stranger")
                if made in numbers:
                    strangers.append(made)
            feed.sendall(b"after")
            feed.shutdown(socket.SHUT_WR)
            out.shutdown(socket.SHUT_WR)

    async def call():
        results.append(await getattr(aio, name)(src, dst))

    strangers, results = [], []
    feed.sendall(b"before")
    run(backend, main)
    assert out.recv(100, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == b"beforeafter"
    assert (results[0].moved if name == "copy" else results[0].a_to_b) == 11
    assert [content(file) for file in strangers] == [b"stranger"] * 2
    assert all(map(os.get_blocking, strangers))


@pytest.mark.parametrize("backend", loops.backends(*loops.ASYNCIO))
def test_streams_that_are_closed_in_the_middle(wires, backend):
    """What was begun goes on: closing is the owner's, and the call has a descriptor of its own."""

    async def main():
        async with streams(wires) as (reader, writer, far), anyio.create_task_group() as group:
            await hold(reader, far, b"be")
            group.start_soon(aio.copy, reader, file)
            await until(lambda: os.fstat(file).st_size == 2)
            writer.close()
            await turns()
            far.sendall(b"fore and after")
            far.close()

    file = wires.file()
    run(backend, main)
    assert content(file) == b"before and after"


# -- signals, forks, the end of the process --------------------------------------------------------


def test_ctrl_c(backend):
    """KeyboardInterrupt comes out, after the engine has let go; and the next call works."""
    assert scripted(backend, scripts.INTERRUPT) == FINE


def test_ctrl_c_again_and_again(backend):
    """Five times in a row, wherever that is: the process lives, and the next call works."""
    assert scripted(backend, scripts.AGAIN_AND_AGAIN)[:2] == FINE[:2]  # loops may complain


def test_ctrl_c_between_files(backend):
    """The thread that copies is stopped too."""
    assert scripted(backend, scripts.BETWEEN_FILES) == FINE


@pytest.mark.parametrize("backend", loops.backends(*loops.ASYNCIO))
def test_cancelled_four_times_in_a_row(backend):
    """Two hundred times, and the process lives, counts right and has no descriptor too many."""
    assert scripted(backend, scripts.AGAIN) == FINE


@pytest.mark.parametrize("mode", ["between", "meanwhile"])
def test_a_forked_child_begins_anew(backend, mode):
    """It can use aio as if nothing had been; what its parent had under way goes on there."""
    assert scripted(backend, scripts.FORK, mode) == FINE


@pytest.mark.parametrize("mode", ["at exit", "closed"])
def test_the_process_ends_in_the_middle(backend, mode):
    """With a loop in another thread that still waits: it ends, and quietly enough."""
    assert scripted(backend, scripts.EXIT, mode) == FINE


def test_a_signal_without_a_handler_ends_the_process(backend):
    """The threads of the engines are in nobody's way."""
    assert scripted(backend, scripts.TIMER) == (-signal.SIGALRM, "fine\n", "")
