"""spliceio.aio and connections that break or stand still: resets, aborts, unsent bytes, idling.

Rule 1: what a peer does to a stream is what it would do to its socket: first the bytes that came,
        then ConnectionResetError, "reset by a" or a sink that has failed, each with `result`.
Rule 2: what the owner does is told apart: a stream that was closed here is refused.
Rule 3: unsent bytes are waited for without asking again and again, and nobody else who waits for
        the same stream is disturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import socket
import sys

import anyio
import pytest

from spliceio import aio
from tests.support import loops
from tests.support.bodies import content, file_limit
from tests.support.loops import ASYNCIO, backends, run, turns, until
from tests.support.programs import need
from tests.support.refusals import LINGER
from tests.support.scripts import scripted
from tests.support.sides import digest
from tests.support.states import Worker
from tests.support.streams import DATA, hold, streams, tls_context, trio_stream

backend, ending = loops.backend, loops.ending

FINE = (0, "fine\n", "")
PATIENCE = 10


@pytest.fixture(params=backends(*ASYNCIO))
def loop(request):
    """Each kind of asyncio loop in turn."""
    return request.param


kinds = pytest.mark.parametrize("kind", ["unix", "tcp4"])
# asyncio closes a broken transport in one turn of the loop, and tells its protocol in the next.
whens = pytest.mark.parametrize("told", [True, False], ids=["told", "not yet told"])


async def reset(reader, writer, far, told=True):
    """Let the peer reset a connection; return when asyncio has closed it, and told of it or not."""
    if far.family == socket.AF_UNIX:
        writer.write(b"unread")
        await writer.drain()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    await until(reader.exception if told else writer.transport.is_closing)
    assert told or reader.exception() is None


async def came_of(call):
    """Return what a call returns or raises."""
    try:
        with anyio.fail_after(PATIENCE):
            return await call
    except Exception as error:
        return error


# -- reset while a handler prepares ----------------------------------------------------------------


@kinds
@whens
@pytest.mark.parametrize("held", [0, 5000])
@pytest.mark.parametrize("name", ["copy", "receive_file", "fanout"])
def test_a_reset_of_what_is_read(wires, loop, kind, told, held, name):
    """The bytes that came before it arrive, as they do from a socket; then ConnectionResetError."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:held])
            await reset(reader, writer, far, told)
            error = await came_of(getattr(aio, name)(reader, [file] if name == "fanout" else file))
            assert isinstance(error, ConnectionResetError), error
            assert told is isinstance(error.__cause__, ConnectionResetError)
            assert not reader._buffer
            return error

    file = wires.file()
    error = run(loop, main)
    assert error.result.moved == held
    assert name == "fanout" or error.held == b""
    assert content(file) == DATA[:held]


@whens
@pytest.mark.parametrize("name", ["copy", "receive_file"])
@pytest.mark.parametrize("count", [0, 10, 5000])
def test_what_came_before_a_reset_is_enough(wires, loop, told, name, count):
    """A count that the reader holds is no error, and the rest stays in the reader."""

    async def main():
        async with streams(wires, "tcp4") as (reader, writer, far):
            await hold(reader, far, DATA[:5000])
            await reset(reader, writer, far, told)
            assert (await getattr(aio, name)(reader, file, count)).moved == count
            assert bytes(reader._buffer) == DATA[count:5000]

    file = wires.file()
    run(loop, main)
    assert content(file) == DATA[:count]


@kinds
@whens
@pytest.mark.parametrize("name", ["copy", "send_file"])
def test_a_reset_of_what_is_written(wires, loop, kind, told, name):
    """ConnectionResetError, with counts; nothing has been taken from the file."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await reset(reader, writer, far, told)
            args = (file, writer) if name == "copy" else (writer, file)
            return await came_of(getattr(aio, name)(*args))

    file = wires.file(b"never sent")
    error = run(loop, main)
    assert isinstance(error, ConnectionResetError), error
    assert (error.result.moved, error.held) == (0, b"")
    assert error.result.method == "sendfile"
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


@kinds
@whens
def test_both_ends_of_a_copy_are_streams(wires, loop, kind, told):
    """What the one reader had is held when the other's peer has gone."""

    async def main():
        async with streams(wires, kind) as (r1, _w1, far1), streams(wires, kind) as (r2, w2, far2):
            await hold(r1, far1, b"hello")
            await reset(r2, w2, far2, told)
            error = await came_of(aio.copy(r1, w2))
            far1.sendall(b" world")
            return error, error.held + await r1.readexactly(6)

    error, whole = run(loop, main)
    assert isinstance(error, ConnectionResetError), error
    assert (error.result.moved, whole) == (0, b"hello world")


@kinds
@whens
def test_a_sink_that_was_reset(wires, loop, kind, told):
    """It has failed, and the other one gets everything."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await reset(reader, writer, far, told)
            return await aio.fanout(file, [writer, memory])

    file, memory = wires.file(DATA), io.BytesIO()
    result = run(loop, main)
    assert [one.fate for one in result.sinks] == ["failed", "done"]
    assert isinstance(result.sinks[0].error, ConnectionError)
    assert memory.getvalue() == DATA


@kinds
@whens
@pytest.mark.parametrize("held", [0, 5000])
@pytest.mark.parametrize("side", "ab")
def test_a_relay_with_a_side_that_was_reset(wires, loop, kind, told, held, side):
    """No exception: "reset by" that side, and what it had sent has arrived or is held."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:held])
            await reset(reader, writer, far, told)
            sides = ((reader, writer), other) if side == "a" else (other, (reader, writer))
            result = await came_of(aio.relay(*sides))
            assert not reader._buffer
            return result

    other, out = wires.sockets("unix")
    result = run(loop, main)
    assert result.reason == f"reset by {side}"
    moved, kept = result.a_to_b, result.held_a_to_b
    if side == "b":
        moved, kept = result.b_to_a, result.held_b_to_a
    assert moved + len(kept) == held
    assert out.recv(held + 1, socket.MSG_DONTWAIT) + kept == DATA[:held] if moved else True
    assert os.get_blocking(other.fileno())


def test_a_reader_that_was_given_an_exception(wires, loop):
    """As read() does, though its connection is open; but after the bytes that it holds."""

    async def main():
        async with streams(wires) as (reader, _writer, far):
            await hold(reader, far, b"hello")
            reader.set_exception(TimeoutError("too slow"))
            error = await came_of(aio.copy(reader, file))
            assert isinstance(error, ConnectionError), error
            return error

    file = wires.file()
    error = run(loop, main)
    assert (error.result.moved, str(error.__cause__)) == (5, "too slow")
    assert content(file) == b"hello"


@kinds
def test_an_end_of_file_that_a_reader_has_seen_is_passed_on(wires, loop, kind):
    """By a relay, behind the bytes that are in its buffer."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            far.sendall(b"question")
            far.shutdown(socket.SHUT_WR)
            await until(lambda: reader._eof)
            asked = Worker(lambda: (out.recv(100, socket.MSG_WAITALL), out.sendall(b"answer")))
            out.settimeout(PATIENCE)
            done = Worker(lambda: (asked.result(), out.shutdown(socket.SHUT_WR)))
            result = await aio.relay((reader, writer), other)
            done.result()
            assert asked.result()[0] == b"question"
            assert far.recv(100, socket.MSG_WAITALL) == b"answer"
            return result

    other, out = wires.sockets("unix")
    result = run(loop, main)
    assert (result.a_to_b, result.b_to_a, result.reason) == (8, 6, "eof")


# -- while unsent bytes are waited for -------------------------------------------------------------


@kinds
@pytest.mark.parametrize("name", ["copy", "send_file", "fanout", "relay"])
def test_a_reset_while_unsent_bytes_are_waited_for(wires, loop, kind, name):
    """It ends that wait, and counts are there; what was read ahead is held or with a sink."""

    async def main():
        async with streams(wires, kind) as (r1, w1, far1), streams(wires, kind) as (_, w2, far2):
            await hold(r1, far1, b"hello")
            w2.write(DATA)
            calls = {
                "copy": lambda: aio.copy(r1, w2, 5),
                "send_file": lambda: aio.send_file(w2, file),
                "fanout": lambda: aio.fanout(r1, [w2, memory], 5),
                "relay": lambda: aio.relay((r1, w1), (_, w2)),
            }
            task = asyncio.ensure_future(came_of(calls[name]()))
            await turns(20)
            assert not task.done()
            far2.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            far2.close()
            return await task

    file, memory = wires.file(b"never sent"), io.BytesIO()
    came = run(loop, main)
    if name == "relay":
        assert came.reason == "reset by b"
        assert (came.a_to_b, came.b_to_a, came.held_a_to_b) == (0, 0, b"hello")
    elif name == "fanout":
        assert [one.fate for one in came.sinks] == ["failed", "done"]
        assert memory.getvalue() == b"hello"
    else:
        assert isinstance(came, ConnectionError), came
        assert came.result.moved == 0
        assert came.held == (b"hello" if name == "copy" else b"")


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("name", ["copy", "fanout", "relay"])
def test_closed_by_its_owner_while_unsent_bytes_are_waited_for(wires, loop, how, name):
    """An exception with counts, and no byte behind those that will not be sent any more."""

    async def main():
        async with streams(wires) as (r1, w1, far1), streams(wires) as (r2, w2, far2):
            await hold(r1, far1, b"hello")
            w2.write(DATA)
            to = [w2] if name == "fanout" else w2
            ends = ((r1, w1), (r2, w2)) if name == "relay" else (r1, to)
            task = asyncio.ensure_future(came_of(getattr(aio, name)(*ends)))
            await turns(20)
            assert not task.done()
            getattr(w2.transport, how)()
            sent = Worker(lambda: b"".join(iter(lambda: far2.recv(1 << 20), b"")))
            came = await task
            await until(lambda: not sent.is_alive())
            return came, sent.result()

    came, sent = run(loop, main)
    assert isinstance(came, ConnectionAbortedError), came
    if name == "fanout":
        assert came.result.sinks[0].held == b"hello"
    else:
        assert (came.result.held_a_to_b if name == "relay" else came.held) == b"hello"
    assert DATA.startswith(sent)
    assert how == "abort" or sent == DATA


def test_a_protocol_without_a_word_for_its_end(wires, loop):
    """The pipe of a bare FlowControlMixin, of the usual recipe: aborted, or its reader gone."""

    async def stuck():
        reader, fd = os.pipe()
        far = wires.ends.fd(reader)
        made = asyncio.get_running_loop().connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(fd, "wb", buffering=0)
        )
        transport, protocol = await made
        writer = asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())
        writer.write(DATA)
        task = asyncio.ensure_future(came_of(aio.copy(file, writer)))
        await turns(20)
        assert not task.done()
        return writer, far, task

    async def main():
        _writer, far, task = await stuck()
        os.close(far)
        gone = await task
        writer, _far, task = await stuck()
        writer.transport.abort()
        came = gone, await task, await came_of(aio.copy(file, writer))
        await turns()
        return came

    file = wires.file(b"never sent")
    for error in run(loop, main):
        assert isinstance(error, BrokenPipeError), error
        assert (error.result.moved, error.held) == (0, b"")


@kinds
def test_nobody_else_who_waits_is_disturbed(wires, loop, kind):
    """The limits of the buffer are what they were, during the call and when it is cancelled."""

    async def main():
        async with streams(wires, kind) as (_reader, writer, far):
            transport = writer.transport
            transport.set_write_buffer_limits(high=16 << 20, low=1)
            limits = transport.get_write_buffer_limits()
            writer.write(DATA)
            unsent = transport.get_write_buffer_size()
            for _ in range(3):
                task = asyncio.ensure_future(aio.copy(file, writer))
                await turns(20)
                assert transport.get_write_buffer_limits() == limits
                with anyio.fail_after(PATIENCE):
                    await writer.drain()  # less is unsent than it waits for
                task.cancel()
                await asyncio.wait([task])
                assert transport.get_write_buffer_limits() == limits
                with anyio.fail_after(PATIENCE):
                    await writer.drain()
            assert transport.get_write_buffer_size() == unsent > 1 << 20
            taker = Worker(lambda: far.recv(len(DATA), socket.MSG_WAITALL))
            assert (await aio.copy(file, writer)).moved == 5
            await until(lambda: not taker.is_alive())
            assert digest(taker.result()) == digest(DATA)
            assert far.recv(10) == b"after"

    file = wires.file(b"after")
    run(loop, main)


@kinds
def test_two_calls_wait_for_the_same_writer(wires, loop, kind):
    """And somebody in drain(); all of them go on."""

    async def main():
        async with streams(wires, kind) as (_reader, writer, far):
            writer.write(DATA)
            files = [wires.file(b"123"), wires.file(b"123")]
            async with anyio.create_task_group() as group:
                for file in files:
                    group.start_soon(aio.copy, file, writer)
                group.start_soon(writer.drain)
                await turns(20)
                taker = Worker(lambda: far.recv(len(DATA) + 6, socket.MSG_WAITALL))
            await until(lambda: not taker.is_alive())
            return taker.result()

    assert run(loop, main) == DATA + b"123123"


IDLE = """
async def main():
    near, far = socket.socketpair()
    near.setblocking(False)
    _, writer = await asyncio.open_unix_connection(sock=near)
    writer.write(bytes(1 << 20))
    with open("/proc/self/exe", "rb") as file:
        task = asyncio.ensure_future(aio.copy(file, writer))
        await asyncio.sleep(0.2)
        os.access("begin", os.F_OK)
        await asyncio.sleep(2)
        os.access("end", os.F_OK)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
    writer.transport.abort()
    far.close()
    print("fine")

run(backend, main)
"""


def test_a_peer_that_does_not_read_costs_nothing(loop, tmp_path, monkeypatch):
    """At most two system calls a second, as strace counts them in all threads."""
    trace, strace = tmp_path / "trace", need("strace")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {strace} -f -qq -o {trace} {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert scripted(loop, IDLE) == FINE
    lines = trace.read_text().splitlines()
    begin, end = (
        next(i for i, line in enumerate(lines) if f'"{name}"' in line) for name in ("begin", "end")
    )
    between = [line for line in lines[begin + 1 : end] if "resumed" not in line]
    assert len(between) <= 4, between


# -- other transports, and their owners ------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls came with 3.11")
def test_a_reader_that_was_switched_to_tls(wires, loop):
    """TypeError for it too: asyncio has left it the transport under TLS."""

    async def main():
        async with switched_to_tls() as (reader, writer):
            for call in (aio.copy(reader, file), aio.relay(other, (reader, writer))):
                assert isinstance(await came_of(call), TypeError)

    file, (other, _) = wires.file(b"kept"), wires.sockets("unix")
    run(loop, main)
    assert content(file) == b"kept"


@contextlib.asynccontextmanager
async def switched_to_tls():
    """Make a (reader, writer) that began in plain text."""

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            await writer.start_tls(tls_context(server=True))
            writer.write(await reader.readline())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await writer.start_tls(tls_context(server=False))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await turns()


async def by_the_loop(writer, protocol=None):
    """Switch to TLS as was done before there was StreamWriter.start_tls."""
    loop = asyncio.get_running_loop()
    under = writer.transport
    return await loop.start_tls(under, protocol or under.get_protocol(), tls_context(server=False))


async def nothing_replaced(reader, writer):
    await by_the_loop(writer)
    return reader, writer


async def writer_replaced(reader, writer):
    writer._transport = await by_the_loop(writer)
    return reader, writer


async def both_replaced(reader, writer):
    writer._transport = reader._transport = await by_the_loop(writer)
    return reader, writer


async def new_streams(reader, writer):
    new = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(new)
    transport = await by_the_loop(writer, protocol)
    new.set_transport(transport)
    return new, asyncio.StreamWriter(transport, protocol, new, asyncio.get_running_loop())


async def old_streams_of_a_new_protocol(reader, writer):
    await by_the_loop(writer, asyncio.StreamReaderProtocol(asyncio.StreamReader()))
    return reader, writer


SWITCHES = [nothing_replaced, writer_replaced, both_replaced]
SWITCHES += [new_streams, old_streams_of_a_new_protocol]


# What is switched by hand has transports that nobody can close.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.__name__)
def test_streams_that_the_loop_has_switched_to_tls(wires, loop, switch):
    """TypeError from every function, whatever of the transports was put in their place."""
    transports, writers = [], []

    async def answer(reader, writer):
        transports.append(writer.transport)
        writers.append(writer)
        loop, protocol = asyncio.get_running_loop(), writer.transport.get_protocol()
        context = tls_context(server=True)
        over = await loop.start_tls(writer.transport, protocol, context, server_side=True)
        transports.append(over)

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            first = await asyncio.open_connection(*server.sockets[0].getsockname())
            transports.append(first[1].transport)
            reader, writer = await switch(*first)
            transports.append(writer.transport)
            await until(lambda: len(transports) == 4)  # both have shaken hands
            for call in (
                aio.receive_file(reader, file, 4),
                aio.fanout(reader, [file]),
                aio.copy(file, writer),
                aio.send_file(writer, file),
                aio.fanout(file, [writer]),
                aio.relay((reader, writer), other),
            ):
                assert isinstance(await came_of(call), TypeError)
            for transport in reversed(transports):
                transport.abort()
            await turns()

    file, (other, _) = wires.file(b"kept"), wires.sockets("unix")
    run(loop, main)
    assert content(file) == b"kept"


def test_the_socket_in_an_object_is_not_taken_for_it(wires, loop):
    """Only trio's SocketStream stands for its socket: others may speak TLS through theirs."""

    class Stream:
        def __init__(self, sock):
            self.socket = sock

    async def main():
        for ends in ((Stream(near), file), (file, Stream(near))):
            assert isinstance(await came_of(aio.copy(*ends)), TypeError)

    file, (near, _) = wires.file(b"kept"), wires.sockets("unix")
    run(loop, main)


@kinds
def test_a_reader_that_its_owner_has_paused(wires, loop, kind):
    """Is paused still afterwards."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, b"hello")
            writer.transport.pause_reading()
            assert (await aio.copy(reader, file, 3)).moved == 3
            assert not writer.transport.is_reading()
            far.sendall(b" world")
            await turns(20)
            assert bytes(reader._buffer) == b"lo"
            writer.transport.resume_reading()
            assert await reader.readexactly(8) == b"lo world"

    file = wires.file()
    run(loop, main)


def test_a_pair_of_two_pipes_is_refused(wires, loop):
    """TypeError that says what to give: they are no connection."""

    async def main():
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        with pytest.raises(TypeError, match="not of one connection"):
            await aio.relay(other, (child.stdout, child.stdin))
        child.stdin.write(b"as before")
        child.stdin.close()
        assert await child.stdout.read() == b"as before"
        assert await child.wait() == 0

    other, _ = wires.sockets("unix")
    run(loop, main)


def test_a_child_that_has_closed_its_input(wires, loop):
    """BrokenPipeError with counts, as from the pipe itself."""

    async def main():
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec("true", stdin=pipe)
        assert await child.wait() == 0
        await until(child.stdin.transport.is_closing)
        return await came_of(aio.copy(file, child.stdin))

    file = wires.file(b"never sent")
    error = run(loop, main)
    assert isinstance(error, BrokenPipeError), error
    assert (error.result.moved, error.held) == (0, b"")
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_aborted_in_the_middle(wires, loop):
    """The engine has a duplicate: what comes still arrives, up to the end that the peer makes."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            await hold(reader, far, b"be")
            task = asyncio.ensure_future(aio.copy(reader, file))
            await until(lambda: os.fstat(file).st_size == 2)
            writer.transport.abort()
            await turns()
            far.sendall(b"fore and after")
            far.close()
            return await task

    file = wires.file()
    assert run(loop, main).moved == 16
    assert content(file) == b"before and after"


def test_drained_after_its_owner_has_aborted(wires, loop):
    """The rest of a body whose file fails is read from a duplicate, never from a stranger."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            await hold(reader, far, DATA[:10])
            call = functools.partial(aio.receive_file, reader, file, 5000, drain=True)
            with file_limit(2000):
                task = asyncio.ensure_future(came_of(call()))
                await until(lambda: os.fstat(file).st_size == 10)
                writer.transport.abort()
                await turns()
                strangers.extend(wires.file(b"stranger") for _ in range(3))
                far.sendall(DATA[10:4000])
                await turns()
                far.sendall(DATA[4000:5000])
                return await task

    file, strangers = wires.file(), []
    error = run(loop, main)
    assert isinstance(error, OSError)
    assert (error.result.moved, error.unread) == (2000, 0)
    assert [content(one) for one in strangers] == [b"stranger"] * 3
    assert [os.lseek(one, 0, os.SEEK_CUR) for one in strangers] == [0] * 3


def test_a_closed_stream_of_trio(wires):
    """The exception is that of the closed socket, and takes nothing."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def main():
        stream, _far = await trio_stream(trio, wires, "unix")
        await stream.aclose()
        for ends in ((stream, file), (file, stream)):
            with pytest.raises((ValueError, OSError)):
                await aio.copy(*ends)

    file = wires.file(b"kept")
    run("trio", main)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0
    assert content(file) == b"kept"
