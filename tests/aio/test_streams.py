"""spliceio.aio beside other people's objects: asyncio's streams, trio's sockets, routes in a loop.

Rule 1: what a StreamReader has read goes first, what a StreamWriter has not sent goes before.
Rule 2: the streams go on afterwards, with the next byte, and with the flow control that they had.
Rule 3: a call that is refused or cancelled loses no byte: it is in the reader, held or delivered.
Rule 4: a proxy listens when `start` returns, and is gone when serve_proxy is.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import sys
import threading

import anyio
import pytest

import spliceio
from spliceio import aio, explain
from tests.support import loops
from tests.support.bodies import content
from tests.support.loops import ASYNCIO, backends, in_thread, run, turns, until
from tests.support.proxies import ANY, At, Server, echo, heard, of_listener, patient, refuses, talks
from tests.support.refusals import LINGER
from tests.support.servers import ask
from tests.support.sides import Collector, check, digest, sides
from tests.support.states import Worker
from tests.support.streams import (
    DATA,
    REFUSED,
    feed,
    hold,
    overfill,
    streams,
    tls_streams,
    trio_stream,
)
from tests.support.wires import read_all

backend, ending = loops.backend, loops.ending

PATIENCE = 3
kinds = pytest.mark.parametrize("kind", ["unix", "tcp4"])


@pytest.fixture(params=backends(*ASYNCIO))
def loop(request):
    """Each kind of asyncio loop in turn."""
    return request.param


# -- what the reader holds -------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("dst", ["file", "unix", "pipe"])
@pytest.mark.parametrize("held", [0, 5000, 100_000])
@pytest.mark.parametrize("rest", [0, 1, 300_000])
def test_what_the_reader_has_goes_first(wires, loop, kind, dst, held, rest):
    """Then what its socket has, to the end: much by splice, what is in memory by copying."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:held])
            feeder = feed(far, DATA[held : held + rest])
            result = await aio.copy(reader, sink.end)
            feeder.result()
            assert await reader.read() == b""
            writer.write(b"still open")
            await writer.drain()
            assert far.recv(100) == b"still open"
            return result

    sink = wires.sink(dst)
    result = run(loop, main)
    assert result.moved == held + rest == sum(result.by_method.values())
    assert result.by_method.get("read_write", 0) >= held
    assert rest < 100_000 or result.by_method["splice"] > 100_000
    assert digest(sink.received()) == digest(DATA[: held + rest])


@kinds
def test_more_than_the_limit_of_the_buffer(wires, loop, kind):
    """Of a transport that has been paused for it."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            sent = await overfill(reader, writer, far)
            feeder = feed(far, DATA[sent:])
            assert (await aio.receive_file(reader, file)).moved == len(DATA)
            feeder.result()
            assert await reader.read() == b""

    file = wires.file()
    run(loop, main)
    assert content(file) == DATA


@kinds
@pytest.mark.parametrize("count", [0, 1, 4999, 5000, 5001, 8000])
@pytest.mark.parametrize("name", ["copy", "receive_file"])
def test_a_count_leaves_the_rest_where_it_is(wires, loop, kind, count, name):
    """In the reader's buffer or in the socket behind it; read() has the very next byte."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:5000])
            writer.transport.pause_reading()
            far.sendall(DATA[5000:10_000])
            writer.transport.resume_reading()
            result = await getattr(aio, name)(reader, file, count)
            assert result.moved == count
            assert await reader.readexactly(10_000 - count) == DATA[count:10_000]

    file = wires.file()
    run(loop, main)
    assert content(file) == DATA[:count]


@kinds
@pytest.mark.parametrize("held", [0, 5000])
def test_an_end_of_file_that_was_seen_already(wires, loop, kind, held):
    """What is in the buffer is all there is; the other direction is open still."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            far.sendall(DATA[:held])
            far.shutdown(socket.SHUT_WR)
            await until(lambda: reader._eof)
            assert (await aio.copy(reader, file)).moved == held
            assert (await reader.read(), reader.at_eof()) == (b"", True)
            writer.write(b"answer")
            await writer.drain()
            assert far.recv(100) == b"answer"

    file = wires.file()
    run(loop, main)
    assert content(file) == DATA[:held]


@kinds
@pytest.mark.parametrize("count", [10, 250_000])
def test_flow_control_goes_on_afterwards(wires, loop, kind, count):
    """A peer that sends without end is stopped at the reader's limit again, and lossless."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            sent = await overfill(reader, writer, far)
            far.sendall(DATA[sent:count])
            sent = max(sent, count)
            await aio.copy(reader, file, count)
            far.setblocking(False)
            blocked = False
            while sent < len(DATA) and not (blocked and not writer.transport.is_reading()):
                try:
                    sent += far.send(DATA[sent : sent + 65536])
                except BlockingIOError:
                    blocked = True
                await turns(3)
            most = len(reader._buffer)
            far.setblocking(True)
            feeder = feed(far, DATA[sent:])
            rest = await reader.read()
            feeder.result()
            return most, rest

    file = wires.file()
    most, rest = run(loop, main)
    assert content(file) + rest == DATA
    assert most < 1 << 20


@kinds
def test_a_reader_does_not_wait_for_its_own_writer(wires, loop, kind):
    """A peer that sends first and reads later is received from, whatever is still to be sent."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            writer.write(DATA)
            await hold(reader, far, b"upload ")
            far.sendall(b"body")
            with anyio.fail_after(PATIENCE):
                await aio.receive_file(reader, file, 11)
            got = Worker(lambda: far.recv(len(DATA), socket.MSG_WAITALL))
            await writer.drain()
            await until(lambda: not got.is_alive())
            assert got.result() == DATA

    file = wires.file()
    run(loop, main)
    assert content(file) == b"upload body"


# -- what the writer holds -------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("unsent", [1, 1000, 5 << 20])
@pytest.mark.parametrize("name", ["copy", "send_file"])
def test_what_the_writer_has_not_sent_goes_before(wires, loop, kind, unsent, name):
    """Without a drain() in between; and what is written afterwards comes behind."""

    async def main():
        async with streams(wires, kind) as (_reader, writer, far):
            got = Collector(far.fileno())
            writer.write(DATA[:unsent])
            if name == "copy":
                result = await aio.copy(file, writer)
            else:
                result = await aio.send_file(writer, file, header=b"[", trailer=b"]")
            writer.write(b" after")
            await writer.drain()
            writer.write_eof()
            await until(lambda: got.ended)
            return result, got.all()

    file = wires.file(DATA[::-1])
    result, got = run(loop, main)
    assert result.by_method["sendfile"] == len(DATA)
    body = DATA[::-1] if name == "copy" else b"[" + DATA[::-1] + b"]"
    assert digest(got) == digest(DATA[:unsent] + body + b" after")


def test_a_writer_whose_peer_resets(wires, loop):
    """What cannot be sent any more is a ConnectionError, and no wait without end."""

    async def main():
        async with streams(wires, "tcp4") as (_reader, writer, far):
            writer.write(DATA)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            far.close()
            with pytest.raises(ConnectionError):
                await aio.copy(file, writer)

    file = wires.file(b"never sent")
    run(loop, main)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


@kinds
def test_both_directions_at_once(wires, loop, kind):
    """A copy from the reader and one to the writer of the same connection; then both go on."""

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            await hold(reader, far, DATA[:1000])
            feeder = Worker(lambda: far.sendall(DATA[1000:]))
            taker = Worker(lambda: far.recv(len(DATA), socket.MSG_WAITALL))
            async with anyio.create_task_group() as group:
                group.start_soon(aio.copy, reader, came, len(DATA))
                group.start_soon(aio.copy, file, writer)
            await until(lambda: not feeder.is_alive() and not taker.is_alive())
            far.sendall(b"more")
            writer.write(b"and more")
            assert await reader.readexactly(4) == b"more"
            assert far.recv(100) == b"and more"
            return taker.result()

    file, came = wires.file(DATA[::-1]), wires.file()
    assert (run(loop, main), content(came)) == (DATA[::-1], DATA)


@kinds
def test_a_protocol_that_changes_over_and_back(wires, loop, kind):
    """Lines by the streams, bodies by receive_file and send_file, thirty times over."""
    bodies = [DATA[n : n + size] for n, size in enumerate([0, 1, 5000, 100_000, 300_000] * 6)]

    def client(far):
        answers = []
        with far.makefile("rwb") as file:
            for number, body in enumerate(bodies):
                # Half of them in one write: the reader will have read ahead.
                file.write(b"PUT %d\n" % len(body))
                if number % 2:
                    file.flush()
                file.write(body)
                file.flush()
                answers.append(file.read(int(file.readline())))
        far.shutdown(socket.SHUT_WR)
        return answers

    async def main():
        async with streams(wires, kind) as (reader, writer, far):
            talking = Worker(lambda: client(far))
            while line := await reader.readline():
                length = int(line.split()[1])
                os.ftruncate(file, 0)
                await aio.receive_file(reader, file, length, offset=0)
                writer.write(b"%d\n" % length)
                await aio.send_file(writer, file)
            return talking.result()

    file = wires.file()
    assert list(map(digest, run(loop, main))) == list(map(digest, bodies))


# -- relays ----------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("held", [0, 5000, 100_000])
def test_a_relay_of_two_pairs(wires, loop, kind, held):
    """What both readers have, and both writers, goes first; both see the end of file."""

    async def main():
        async with streams(wires, kind) as (r1, w1, far1), streams(wires, "unix") as (r2, w2, far2):
            await hold(r1, far1, DATA[:held])
            await hold(r2, far2, DATA[-held:][:held])
            w1.write(b"earlier 1 ")
            w2.write(b"earlier 2 ")
            feeders = [feed(far1, DATA[held:400_000]), feed(far2, b" end")]
            got = [Collector(far.fileno()) for far in (far1, far2)]
            result = await aio.relay((r1, w1), (r2, w2), to_a=b"to a ", to_b=b"to b ")
            for feeder in feeders:
                feeder.result()
            return result, [one.all() for one in got]

    result, (got1, got2) = run(loop, main)
    check(result, 400_000 + 5, held + 4 + 5)
    assert digest(got2) == digest(b"earlier 2 to b " + DATA[:400_000])
    assert digest(got1) == digest(b"earlier 1 to a " + DATA[-held:][:held] + b" end")


@pytest.mark.parametrize("other", ["unix", "tcp4", "pair", "duplex"])
def test_a_relay_between_streams_and_another_side(wires, loop, other):
    """Half-closed one after the other."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            with sides(other, "unix") as (two, _):
                await hold(reader, far, b"GET ")
                asked, answered = Collector(two.reader), Collector(far.fileno())
                feeder = feed(far, b"question")
                answer = Worker(lambda: (asked.all(), two.send(b"answer"), two.finish()))
                result = await aio.relay((reader, writer), two.near)
                feeder.result()
                answer.result()
                check(result, 12, 6)
                assert (asked.all(), answered.all()) == (b"GET question", b"answer")

    run(loop, main)


@pytest.mark.parametrize("limit", [0, 3, 10, 12])
def test_the_byte_limit_counts_what_was_read_ahead(wires, loop, limit):
    """No byte more is carried; the rest is in the reader, in its socket or held."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            with sides("unix", "unix") as (two, _):
                await hold(reader, far, b"0123456789")
                far.sendall(b"abcdef")
                result = await aio.relay((reader, writer), two.near, byte_limit=limit)
                assert (result.a_to_b, result.b_to_a, result.reason) == (limit, 0, "limit")
                rest = result.held_a_to_b
                rest += await reader.readexactly(16 - limit - len(rest))
                assert two.receive(limit) + rest == b"0123456789abcdef"

    run(loop, main)


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_call_takes_nothing_from_the_reader(wires, loop, what):
    """The exception is that of the blocking call; what the reader has read is still in it."""

    async def main():
        async with streams(wires) as (reader, writer, far), streams(wires) as (*closed, _):
            closed[1].close()
            await hold(reader, far, b"hello")
            with pytest.raises((TypeError, ValueError, OSError)):
                await REFUSED[what](reader, writer, tuple(closed))
            far.sendall(b" world")
            assert await reader.readexactly(11) == b"hello world"

    run(loop, main)


def taking(which, reader, writer, file, other):
    """Use one of these, or both, in a call."""
    if which == "pair":
        return aio.relay(other, (reader, writer))
    return aio.copy(reader, file) if which == "reader" else aio.copy(file, writer)


@pytest.mark.parametrize("which", ["reader", "writer", "pair"])
@pytest.mark.parametrize("aborted", [False, True])
def test_a_transport_that_is_closed(wires, loop, which, aborted):
    """ValueError that says so."""

    async def main():
        async with streams(wires) as (reader, writer, far):
            far.shutdown(socket.SHUT_WR)
            if aborted:
                writer.transport.abort()
            else:
                writer.close()
                await writer.wait_closed()
            with pytest.raises(ValueError, match="closed"):
                await taking(which, reader, writer, file, other)

    file, (other, _) = wires.file(b"kept"), wires.sockets("unix")
    run(loop, main)
    assert content(file) == b"kept"


@pytest.mark.parametrize("which", ["reader", "writer", "pair"])
def test_tls_is_refused(wires, loop, which):
    """TypeError: not one plain byte goes on the wire, and the connection is as good as before."""

    async def main():
        async with tls_streams() as (reader, writer):
            with pytest.raises(TypeError, match="in memory, where the kernel has no part in it"):
                await taking(which, reader, writer, file, other)
            words = "in memory" if loop == "asyncio" else "fileno"  # uvloop's is a class of its own
            with pytest.raises(TypeError, match=words):
                explain(file, writer.transport)
            writer.write(b"over TLS\n")
            assert await reader.readline() == b"over TLS\n"

    file, (other, _) = wires.file(b"kept"), wires.sockets("unix")
    run(loop, main)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_a_reader_of_nothing(wires, loop):
    """A StreamReader without a transport has no descriptor: TypeError, and it keeps what it has."""

    async def main():
        reader = asyncio.StreamReader()
        reader.feed_data(b"hello")
        reader.feed_eof()
        with pytest.raises(TypeError):
            await aio.copy(reader, file)
        assert await reader.read() == b"hello"

    file = wires.file()
    run(loop, main)


COMMAND = [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper())"]


@pytest.mark.parametrize("ended", [False, True])
def test_the_streams_of_a_child(wires, loop, ended):
    """Pipes are carried as sockets are; what a child has left behind too."""

    async def main():
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*COMMAND, stdin=pipe, stdout=pipe)
        child.stdin.write(b"hello ")
        await aio.copy(file, child.stdin)
        child.stdin.close()
        if ended:
            assert await child.wait() == 0
            await until(lambda: child.stdout._eof)
        try:
            return await aio.copy(child.stdout, came)
        finally:
            await child.stdout.read()
            assert await child.wait() == 0

    file, came = wires.file(b"world"), wires.file()
    assert run(loop, main).moved == 11
    assert content(came) == b"HELLO WORLD"


# -- trio's and anyio's ----------------------------------------------------------------------------


@pytest.fixture
def trio():
    """The package, or a skip that names it."""
    return pytest.importorskip("trio", reason="trio is not installed")


@kinds
def test_a_stream_of_trio_stands_for_its_socket(wires, trio, kind):
    """Everything takes it; and it goes on afterwards."""

    async def main():
        stream, far = await trio_stream(trio, wires, kind)
        async with stream:
            far.sendall(DATA[:1000] + b"next")
            assert (await aio.receive_file(stream, came, 1000)).moved == 1000
            assert await stream.receive_some() == b"next"
            await stream.send_all(b"before ")
            result = await aio.send_file(stream, file, header=b"header ")
            assert result.by_method == {"sendfile": 4, "send": 7}
            assert (await aio.copy(wires.source("pipe", b" pipe").end, stream)).moved == 5
            await stream.send_all(b" after")
            await stream.send_eof()
            assert read_all(far.fileno()) == b"before header file pipe after"

    file, came = wires.file(b"file"), wires.file()
    run("trio", main)
    assert content(came) == DATA[:1000]


@kinds
def test_a_relay_of_two_streams_of_trio(wires, trio, kind):
    """Both ways, and bulk by splice."""

    async def main():
        one, far1 = await trio_stream(trio, wires, kind)
        two, far2 = await trio_stream(trio, wires, "unix")
        async with one, two:
            feeders = [feed(far1, DATA), feed(far2, DATA[:300_000])]
            got = [Collector(far1.fileno()), Collector(far2.fileno())]
            result = await aio.relay(one, two)
            return result, [digest(one.all()) for one in got], [one.result() for one in feeders]

    result, got, _ = run("trio", main)
    check(result, len(DATA), 300_000)
    assert got == [digest(DATA[:300_000]), digest(DATA)]
    assert result.methods["splice"] > len(DATA) // 2


def test_streams_of_trio_that_are_none_of_a_socket(wires, trio):
    """TLS and memory streams: TypeError."""

    async def main():
        stream, _far = await trio_stream(trio, wires, "unix")
        async with stream:
            tls = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="x")
            for one in (tls, memory.memory_stream_pair()[0]):
                with pytest.raises(TypeError):
                    await aio.copy(file, one)

    memory = pytest.importorskip("trio.testing", reason="trio is not installed")
    file = wires.file(b"kept")
    run("trio", main)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_a_stream_of_anyio_is_refused(wires, backend):
    """TypeError that names the class: it has a buffer that nobody else can empty."""

    async def main(host, _, port):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            for ends in ((file, stream), (stream, file)):
                with pytest.raises(TypeError, match="SocketStream"):
                    await aio.copy(*ends)
            await stream.send(b"as before")
            assert await stream.receive() == b"as before"

    file = wires.file(b"kept")
    with Server(patient) as server:
        run(backend, main, *server.address.rpartition(":"))


# -- proxies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "async", "object"])
def test_a_route_decides(backend, how, caplog):
    """An async one in the thread of the loop, any other elsewhere; what it raises is logged."""
    threads, asked = set(), []

    def decide(name, address, first):
        threads.add(threading.get_ident())
        asked.append(first)
        if first == b"bad":
            raise RuntimeError("no such tenant")
        return {b"m": spliceio.Proxy.MORE, b"no": None}.get(first, name)

    async def adecide(name, address, first):
        await anyio.sleep(0)
        return decide(name, address, first)

    class Route:
        async def __call__(self, address, first):
            return await adecide(server.address, address, first)

    async def main():
        route = {
            "sync": functools.partial(decide, server.address),
            "async": functools.partial(adecide, server.address),
            "object": Route(),
        }[how]
        async with anyio.create_task_group() as group:
            proxy = await group.start(functools.partial(aio.serve_proxy, ANY, route=route))
            for data in (b"yes", DATA):
                assert digest(await in_thread(ask, At(proxy), data)) == digest(data)
            for data in (b"no", b"bad"):
                with At(proxy).connect() as sock:
                    sock.sendall(data)
                    assert (await in_thread(heard, sock))[0] == b""
            with At(proxy).connect() as sock:
                sock.sendall(b"m")
                await until(lambda: b"m" in asked)
                sock.sendall(b"ore")
                assert await in_thread(sock.recv, 4, socket.MSG_WAITALL) == b"more"
            group.cancel_scope.cancel()

    with Server(patient) as server:
        run(backend, main)
    assert (threads == {threading.get_ident()}) is (how != "sync")
    assert "no such tenant" in caplog.text


@pytest.mark.parametrize(("drain", "again"), [(None, False), (60, False), (60, True)])
def test_a_cancelled_proxy_drains_or_cuts(backend, drain, again, tmp_path):
    """What is open ends by itself, or by a reset; nobody new is let in, and its path is gone."""
    path, ended, cancels = tmp_path / "listen", [], []

    async def serve(scope, task_status):
        if again and backend in ASYNCIO:  # whose tasks can be cancelled through every shield
            cancels.append(asyncio.current_task().cancel)
        listen, options = f"unix:{path}", {"drain": drain, "task_status": task_status}
        try:
            with scope:
                await aio.serve_proxy(listen, server.address, **options)
        finally:
            ended.append(True)

    async def main():
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            proxy = await group.start(serve, scope)
            with At(proxy).connect() as sock:
                assert await in_thread(talks, sock)
                scope.cancel()
                await until(lambda: not path.exists())
                assert refuses(f"unix:{path}")
                for cancel in cancels:
                    cancel()
                    await turns(500)
                    assert not ended or not proxy.stats().active
                if drain and not ended:
                    assert await in_thread(talks, sock, b"still there")
                elif not drain:
                    assert await in_thread(heard, sock) == (b"", False)
        assert (ended, proxy.stats().active) == ([True], 0)

    with Server(patient) as server:
        run(backend, main)


@pytest.mark.parametrize("route", ["none", "quick", "pending"])
def test_shutdown_ends_serve_proxy(backend, route):
    """Without any cancellation, from another thread; a route that has not answered is let go."""

    async def main():
        called, ended = anyio.Event(), anyio.Event()

        async def choose(address, first):
            called.set()
            if route == "pending":
                await anyio.sleep_forever()
            return server.address

        async def serve(task_status):
            ends = {"upstream": server.address} if route == "none" else {"route": choose}
            await aio.serve_proxy(ANY, task_status=task_status, **ends)
            ended.set()

        async with anyio.create_task_group() as group:
            proxy = await group.start(serve)
            with At(proxy).connect() as sock:
                if route == "pending":
                    sock.sendall(b"x")
                    await called.wait()
                else:
                    assert await in_thread(talks, sock)
                await in_thread(proxy.shutdown)
                with anyio.move_on_after(PATIENCE):
                    await ended.wait()
                by_itself = ended.is_set()
            group.cancel_scope.cancel()
        assert by_itself

    with Server(patient) as server:
        run(backend, main)


def test_a_proxy_takes_no_worker_thread_away(wires, backend):
    """With one thread for everything: copies between files go on, and it ends when cancelled."""

    async def main():
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        async with anyio.create_task_group() as group:
            proxy = await group.start(aio.serve_proxy, ANY, server.address)
            with anyio.move_on_after(PATIENCE) as waited:
                await aio.copy(file, came)
            late = threading.Timer(PATIENCE, proxy.shutdown)  # lest it hang for ever
            late.start()
            group.cancel_scope.cancel()
        hung = not late.is_alive()
        late.cancel()
        late.join()
        return waited.cancelled_caught, hung

    file, came = wires.file(b"abc"), wires.file()
    with Server(echo) as server:
        assert run(backend, main) == (False, False)
    assert content(came) == b"abc"


def test_what_cannot_be_served_is_an_exception(wires, backend):
    """The arguments are those of Proxy, and so are its refusals."""

    async def main(kind, match, *args):
        with pytest.raises(kind, match=match):
            await aio.serve_proxy(*args)

    taken = of_listener(wires.ends.sock(socket.create_server(("127.0.0.1", 0))))
    run(backend, main, TypeError, "upstream", ANY)
    run(backend, main, ValueError, "empty", ANY, [])
    run(backend, main, OSError, "in use", taken, taken)
