"""spliceio.aio: the same as the blocking functions, awaitable, under asyncio, uvloop and trio.

Rule 1: what the blocking call makes of its arguments, the awaitable one makes of equal ones: bytes,
        result, exception, its text and what it carries.
Rule 2: a descriptor has its blocking mode afterwards, and a file its position.
Cancelling is in test_cancel.py, asyncio's streams are in test_streams.py.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import inspect
import os
import socket
import subprocess
import sys
import threading

import anyio
import pytest

import spliceio
from spliceio import aio
from spliceio._cffi import lib
from spliceio.aio import _driver as _await
from tests.support import loops
from tests.support.bodies import BODY, LIMIT, NEXT, content, file_limit, reader_of
from tests.support.loops import (
    available,
    backends,
    came_of,
    each_backend,
    facts,
    in_thread,
    queued,
    run,
    until,
    waited,
)
from tests.support.proxies import ANY, At, Server, echo, refuses
from tests.support.refusals import FAILURES, LINGER, REFUSED, full
from tests.support.seam import Seam, cap
from tests.support.servers import ask, read_all
from tests.support.sides import Collector, check, digest, sides
from tests.support.states import Worker, no_more_descriptors
from tests.support.tcp import connection, segments, unsent
from tests.support.wires import SOCKETS, payload, transports

backend, ending = loops.backend, loops.ending

KINDS = ("unix", "tcp4", "pipe", "file", "memfd")
FILES = ("file", "memfd")
SIZES = [0, 1, 32767, 32768, 32769, 5 << 20]
DATA = payload(5 << 20)
HEADER, TRAILER = payload(200, seed=3), b"\n"
PATIENCE = 30


def alike(backend, make, wires):
    """Make arguments twice, call both forms, require the same of both; return what came of it."""
    name, args, options = make(wires)
    expected = came_of(lambda: getattr(spliceio, name)(*args, **options))
    name, args, options = make(wires)
    got = came_of(lambda: waited(backend, name, *args, **options))
    if name == "receive_file" and hasattr(got, "result"):
        # No file is written by the loop's own thread: what is small goes by another method.
        same = {"method": expected.result.method, "by_method": expected.result.by_method}
        got.result = dataclasses.replace(got.result, **same)
    assert facts(got) == facts(expected)
    return got


# -- copy ------------------------------------------------------------------------------------------


def reads_more(is_file, dst, size):
    """Whether what a blocking call would send by sendfile is read, to be sent without a thread."""
    return is_file and dst in SOCKETS and lib.SIO_ACT_SMALL < size <= lib.SIO_ACT_BUF


@each_backend(
    src=KINDS,
    dst=KINDS,
    nonblocking=[False, True],
    # A mode is touched only of sockets.
    keep=lambda src, dst, mode: not mode or src in SOCKETS or dst in SOCKETS,
)
def test_copy_is_what_the_blocking_copy_is(wires, backend, src, dst, nonblocking):
    """Every byte, by the same method; and the modes and positions that are left behind."""

    def one(call, size):
        source = wires.source(src, DATA[:size], nonblocking=nonblocking)
        sink = wires.sink(dst, nonblocking=nonblocking)
        planned = spliceio.explain(source.end, sink.end).method
        result = call(source.end, sink.end)
        assert [os.get_blocking(end.fd) for end in (source, sink)] == [not nonblocking] * 2
        files = [end for end in (source, sink) if end.kind in FILES]
        positions = [os.lseek(end.fd, 0, os.SEEK_CUR) for end in files]
        assert digest(sink.received()) == digest(DATA[:size])
        return facts(result), positions, planned

    for size in SIZES:
        expected = one(spliceio.copy, size)
        got = one(functools.partial(waited, backend, "copy"), size)
        (result, positions, planned) = got
        if src in SOCKETS:  # what comes in small pieces is copied, and pieces are as chance has it
            assert (result.moved, result.fallbacks, positions) == (size, (), expected[1])
            assert set(result.by_method) <= {"splice", "read_write"}
            assert sum(result.by_method.values()) == size
        else:
            if reads_more(src in FILES, dst, size):
                assert (result.by_method, planned) == ({"read_write": size}, "sendfile")
                got, expected = (result.moved, positions), (expected[0].moved, expected[1])
            assert got == expected
            assert result.method == planned or not size or got != (result, positions, planned)


@pytest.mark.parametrize("dst", transports("unix", "tcp4", "pipe", "file", "memfd"))
@pytest.mark.parametrize(
    ("offset", "count"), [(None, 0), (None, 5), (7, None), (0, 40_000), (69_999, 10), (70_000, 1)]
)
def test_an_offset_and_a_count_of_a_file(wires, backend, dst, offset, count):
    """As a slice; with an offset the position stays where it is, without it moves."""
    file, sink = wires.file(DATA[:70_000]), wires.sink(dst)
    os.lseek(file, 3, os.SEEK_SET)
    result = waited(backend, "copy", file, sink.end, count, offset_src=offset)
    begin = 3 if offset is None else offset
    expected = DATA[begin:70_000] if count is None else DATA[begin:70_000][:count]
    assert os.lseek(file, 0, os.SEEK_CUR) == (3 if offset is not None else 3 + len(expected))
    assert result.moved == len(expected)
    assert sink.received() == expected


@pytest.mark.parametrize("src", transports(*KINDS))
@pytest.mark.parametrize("count", [0, 1, 32769])
def test_what_is_behind_the_count_stays_in_the_source(wires, backend, src, count, nonblocking):
    """And is written at an offset in front of what the file had there, the position kept."""
    source = wires.source(src, DATA[:count] + NEXT, nonblocking=nonblocking)
    file = wires.file(b"." * 40_000)
    os.lseek(file, 11, os.SEEK_SET)
    assert waited(backend, "copy", source.end, file, count, offset_dst=5000).moved == count
    assert source.left() == NEXT
    assert content(file) == b"." * 5000 + DATA[:count] + b"." * (35_000 - count)
    assert os.lseek(file, 0, os.SEEK_CUR) == 11


@pytest.mark.parametrize("method", ["read_write", "splice", "sendfile", "copy_file_range"])
@pytest.mark.parametrize("src", ["unix", "pipe", "file"])
@pytest.mark.parametrize("dst", ["tcp4", "pipe", "file"])
def test_a_named_method_runs_or_is_refused_alike(wires, backend, src, dst, method):
    """By name there is no other way, under a loop as without."""

    def make(wires):
        source, sink = wires.source(src, DATA[:30_000]), wires.sink(dst)
        made.append(sink)
        return "copy", (source.end, sink.end), {"method": method}

    made = []
    result = alike(backend, make, wires)
    if isinstance(result, OSError):
        assert [sink.received() for sink in made] == [b"", b""]
    else:
        assert result.by_method == {method: 30_000}
        assert [sink.received() for sink in made] == [DATA[:30_000]] * 2


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe"])
def test_what_a_buffered_reader_has_read_goes_first(wires, backend, src):
    """And the rest from the descriptor."""
    _source, reader = reader_of(wires, src, b"line\n" + DATA[:50_000])
    sink = wires.sink("tcp4")
    assert reader.readline() == b"line\n"
    assert waited(backend, "copy", reader, sink.end).moved == 50_000
    assert sink.received() == DATA[:50_000]


def test_buffered_files_and_their_positions(wires, backend, tmp_path):
    """A reader is at its tell(), a writer is flushed before; both are where a copy leaves them."""
    (tmp_path / "from").write_bytes(DATA[:10_000])
    with open(tmp_path / "from", "rb") as src, open(tmp_path / "to", "wb") as dst:
        assert src.read(10) == DATA[:10]
        dst.write(b"before ")
        waited(backend, "copy", src, dst, 5000)
        assert (src.tell(), dst.tell()) == (5010, 5007)
        dst.write(b" after")
    assert (tmp_path / "to").read_bytes() == b"before " + DATA[10:5010] + b" after"


def test_a_terminal_is_a_sink_too(wires, backend):
    """Which keeps the mode it had."""
    sink = wires.sink("tty", collecting=False)
    assert waited(backend, "copy", wires.source("pipe", b"typed").end, sink.end).moved == 5
    assert os.get_blocking(sink.fd)
    assert sink.received() == b"typed"


def test_dev_null_and_dev_zero(backend):
    """Devices that no epoll takes are always ready."""
    with open("/dev/zero", "rb", buffering=0) as zero, open("/dev/null", "wb") as null:
        assert waited(backend, "copy", zero, null, 100_000).moved == 100_000


# -- refusals and failures, as without a loop --------------------------------------------------


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_alike(wires, backend, what):
    """The same exception with the same text."""
    assert isinstance(alike(backend, REFUSED[what], wires), Exception)


@pytest.mark.parametrize("what", FAILURES)
def test_what_fails_fails_alike(wires, backend, what):
    """The same exception, text, errno, result, held bytes and unread count."""
    error = alike(backend, FAILURES[what], wires)
    assert isinstance(error, Exception)
    if not what.startswith("a relay"):
        assert error.result.moved in (0, 2, 3, 370) or what.startswith("a /proc")


@pytest.mark.parametrize("sends", [False, True], ids=["receives", "sends"])
def test_a_socket_that_stops_times_out(wires, backend, sends):
    """TimeoutError with the counts in its text, the mode restored; then it can go on."""
    near, far = wires.sockets("unix")
    near.settimeout(0.05)
    file = wires.file(DATA if sends else b"")
    if not sends:
        far.sendall(DATA[:1000])
    args = (file, near) if sends else (near, file)
    with pytest.raises(TimeoutError, match=r"nothing moved for 0\.05 s") as caught:
        waited(backend, "copy", *args)
    moved = caught.value.result.moved
    assert f"{moved} bytes moved, 0 held" in str(caught.value)
    assert near.gettimeout() == 0.05
    if sends:
        assert os.lseek(file, 0, os.SEEK_CUR) == moved < len(DATA)
        near.settimeout(None)
        got = Worker(lambda: read_all(far))
        waited(backend, "copy", file, near)
        near.shutdown(socket.SHUT_WR)
        assert digest(got.result()) == digest(DATA)
    else:
        assert (moved, content(file)) == (1000, DATA[:1000])


# -- send_file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dst", transports(*KINDS))
def test_a_file_between_header_and_trailer(wires, backend, dst, nonblocking):
    """Everything in order, the position untouched, counted as the blocking call counts."""

    def one(call, size):
        file, sink = wires.file(DATA[:size]), wires.sink(dst, nonblocking=nonblocking)
        os.lseek(file, 1, os.SEEK_SET)
        result = call(sink.end, file, header=HEADER, trailer=TRAILER)
        assert os.lseek(file, 0, os.SEEK_CUR) == 1
        assert os.get_blocking(sink.fd) is not nonblocking
        assert digest(sink.received()) == digest(HEADER + DATA[:size] + TRAILER)
        assert result.by_method["send"] == len(HEADER) + len(TRAILER)
        return facts(result)

    for size in SIZES:
        expected = one(spliceio.send_file, size)
        result = one(functools.partial(waited, backend, "send_file"), size)
        if reads_more(True, dst, size):
            assert result.by_method["read_write"] == size
            result, expected = result.moved, expected.moved
        assert result == expected


@pytest.mark.parametrize("offset", [0, 1, 69_999, 70_000])
@pytest.mark.parametrize("count", [None, 0, 1])
def test_a_part_of_a_file_is_sent_or_refused_alike(wires, backend, offset, count):
    """Offset and count are those of a slice, and nothing beyond the end."""

    def make(wires):
        sinks.append(wires.sink("tcp4"))
        return "send_file", (sinks[-1].end, wires.file(DATA[:70_000]), offset, count), {}

    sinks = []
    alike(backend, make, wires)
    expected, got = (sink.received() for sink in sinks)
    assert got == expected == DATA[offset:70_000][: count if count is not None else 70_000]


@pytest.mark.parametrize("nodelay", [0, 1])
def test_a_small_file_is_one_packet(wires, backend, nodelay):
    """Header, file and trailer in one segment, which has left when it returns."""
    near, _far = connection(wires, nodelay=nodelay)
    waited(backend, "send_file", near, wires.file(DATA[:1000]), header=HEADER, trailer=TRAILER)
    assert (segments(near), unsent(near)) == (1, 0)


@pytest.mark.parametrize("kind", [bytearray, memoryview], ids=["bytearray", "memoryview"])
def test_what_is_bytes_like_is_a_header(wires, backend, kind):
    """And is given back when the call is over."""
    sink, header = wires.sink("unix"), kind(bytearray(HEADER))
    result = waited(backend, "send_file", sink.end, wires.file(b"file"), header=header)
    assert sink.received() == HEADER + b"file"
    assert result.by_method == {"sendfile": 4, "send": 200}
    if kind is bytearray:
        header += b"may grow again"


# -- receive_file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("src", transports(*KINDS))
@pytest.mark.parametrize("counted", [True, False], ids=["count", "to the end"])
def test_a_body_goes_into_a_file(wires, backend, src, counted, nonblocking):
    """At its position, which moves: all of it, and not a byte of what follows."""
    for size in SIZES:
        data = DATA[:size] + (NEXT if counted else b"")
        source, file = wires.source(src, data, nonblocking=nonblocking), wires.file(b"...")
        os.lseek(file, 3, os.SEEK_SET)
        result = waited(backend, "receive_file", source.end, file, size if counted else None)
        assert os.get_blocking(source.fd) is not nonblocking
        assert (result.moved, os.lseek(file, 0, os.SEEK_CUR)) == (size, 3 + size)
        assert digest(content(file)) == digest(b"..." + DATA[:size])
        assert source.left() == data[size:]
        if src in SOCKETS:
            assert set(result.by_method) <= {"splice", "read_write"}
        elif size:
            assert result.by_method == {spliceio.explain(source.end, file).method: size}


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("counted", [True, False], ids=["count", "to the end"])
def test_a_file_that_takes_no_more(wires, backend, src, drain, counted):
    """EFBIG: in the file, held, unread and what follows it are what was sent."""
    source, file = wires.source(src, BODY + NEXT), wires.file()
    count = len(BODY) if counted else None
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        waited(backend, "receive_file", source.end, file, count, drain=drain)
    error, left = caught.value, source.left()
    assert (error.errno, error.result.moved) == (errno.EFBIG, LIMIT)
    assert content(file) == BODY[:LIMIT]
    if drain:
        assert (error.held, error.unread) == (b"", 0)
        assert left == (NEXT if counted else b"")
        return
    assert BODY[:LIMIT] + error.held + left == BODY + NEXT
    assert error.unread == (len(left) - len(NEXT) if counted else None)


@pytest.mark.parametrize("what", ["timeout", "end", "reset"])
def test_draining_that_fails_too(wires, backend, what):
    """The file's error is raised; that of the draining stands beside it, unread tells the rest."""
    near, far = wires.sockets("tcp4")
    far.sendall(BODY[:5000])
    if what == "end":
        far.shutdown(socket.SHUT_WR)
    elif what == "reset":
        reader = wires.ends._stack.enter_context(near.makefile("rb"))
        assert len(reader.peek()) == 5000
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        far.close()
        near = reader
    options = {"timeout": 0.05} if what == "timeout" else {}
    with pytest.raises(OSError, match="full") as caught:
        waited(backend, "receive_file", near, full(wires), 6000, drain=True, **options)
    error = caught.value
    assert (error.errno, error.result.moved, error.held) == (errno.ENOSPC, 0, b"")
    assert error.unread == 1000
    second = {"timeout": TimeoutError, "reset": ConnectionResetError, "end": type(None)}[what]
    assert isinstance(error.__context__, second)


# -- relay -----------------------------------------------------------------------------------------


def exchange(backend, one, two, ab, ba, **options):
    """Send both ways at once, to the end; check the content and return the result."""
    got = [Collector(side.reader) for side in (two, one)]
    feeders = [Worker(lambda s=s, d=d: (s.send(d), s.finish())) for s, d in ((one, ab), (two, ba))]
    result = waited(backend, "relay", one.near, two.near, **options)
    for feeder in feeders:
        feeder.result()
    assert digest(got[0].all()) == digest(bytes(options.get("to_b", b"")) + ab)
    assert digest(got[1].all()) == digest(bytes(options.get("to_a", b"")) + ba)
    return result


SIDES = ("unix", "tcp4", "pair", "duplex", "objects")


@each_backend(a=SIDES, b=SIDES, nonblocking=[False, True])
def test_both_ways_at_once(backend, a, b, nonblocking):
    """A relay of 1 MiB and of 300 KB; bulk goes by splice, sockets get their mode back."""
    ab, ba = DATA[: 1 << 20], DATA[-300_000:]
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        result = exchange(backend, one, two, ab, ba)
        check(result, len(ab), len(ba))
        assert result.methods["splice"] > result.methods.get("read_write", 0)
        for side in (one, two):
            if side.kind in SOCKETS:
                assert os.get_blocking(side.near.fileno()) is not nonblocking


@pytest.mark.parametrize("size", SIZES)
def test_relays_of_all_sizes(backend, size):
    """Nothing, a byte, 32 KiB, one less and one more, bulk; both ways."""
    with sides("tcp4", "unix") as (one, two):
        check(exchange(backend, one, two, DATA[:size], DATA[-size:][:size]), size, size)


@pytest.mark.parametrize("b", ["unix", "pair", "objects"])
@pytest.mark.parametrize("a", ["tcp4", "duplex"])
def test_half_close(backend, a, b):
    """One ends and the other reads that; the answer comes back all the same."""
    with sides(a, b) as (one, two):
        asked, answered = Collector(two.reader), Collector(one.reader)

        def answer():
            assert asked.all() == b"question"
            assert not answered.data
            two.send(b"answer")
            two.finish()

        one.send(b"question")
        one.finish()
        answering = Worker(answer)
        result = waited(backend, "relay", one.near, two.near)
        answering.result()
        check(result, 8, 6)
        assert answered.all() == b"answer"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_to_a_and_to_b_go_out_first(backend, kind):
    """Whatever kind of bytes they are, as in `spliceio.relay`."""
    with sides("tcp4", "pair") as (one, two):
        before = {"to_a": kind(b"x" * 100_000), "to_b": kind(b"yy")}
        check(exchange(backend, one, two, b"ab", b"ba", **before), 4, 100_002)


@pytest.mark.parametrize("limit", [0, 1, 7, 11, 12])
def test_the_byte_limit_is_exact(backend, limit):
    """The rest stays in its source."""
    with sides("unix", "tcp4") as (one, two):
        one.send(b"hello")
        two.send(b"worlds")
        one.finish()
        two.finish()
        result = waited(backend, "relay", one.near, two.near, byte_limit=limit)
        assert result.a_to_b + result.b_to_a == min(limit, 11)
        assert result.reason == "limit" or limit >= 11
        assert two.receive(result.a_to_b) + one.rest() == b"hello"
        assert one.receive(result.b_to_a) + two.rest() == b"worlds"


@pytest.mark.parametrize(
    "options",
    [
        {"byte_limit": -1},
        {"byte_limit": 2, "to_a": b"abc"},
        {"byte_limit": "1"},
        {"byte_limit": 1.5},
        {"idle_timeout": -1},
        {"idle_timeout": float("nan")},
        {"idle_timeout": "1"},
        {"to_a": "text"},
        {"to_b": 5},
    ],
    ids=str,
)
def test_wrong_options_of_a_relay(backend, options):
    """Refused by the exception of `spliceio.relay`, before anything moves."""
    with sides("unix", "unix") as (one, two):
        one.send(b"kept")
        expected = came_of(lambda: spliceio.relay(one.near, two.near, **options))
        one.finish()
        two.finish()
        got = came_of(lambda: waited(backend, "relay", one.near, two.near, **options))
        assert isinstance(got, (ValueError, TypeError))
        assert type(got) is type(expected)
        assert one.rest() == b"kept"


@pytest.mark.parametrize("a", ["unix", "tcp4", "pair"])
def test_an_idle_relay_ends(backend, a):
    """After its timeout; what moved is counted, and no end of file is passed on."""
    with sides(a, "unix") as (one, two):
        one.send(b"abc")
        check(waited(backend, "relay", one.near, two.near, idle_timeout=0.05), 3, 0, "idle")
        assert (two.arrived(), one.arrived()) == (b"abc", b"")


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_reset_is_a_reason_and_no_exception(backend, who):
    """It says whose."""
    with sides("tcp4", "tcp4") as (one, two):
        side = one if who == "a" else two
        side.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        side.far.close()
        assert waited(backend, "relay", one.near, two.near).reason == f"reset by {who}"


def test_a_full_disk_at_the_end_of_a_relay(wires, backend):
    """OSError with the counts in `result`, held bytes included."""
    with sides("unix", "unix") as (one, _):
        one.send(b"abc")
        side = (wires.pipe()[0], full(wires))
        with pytest.raises(OSError, match="full") as caught:
            waited(backend, "relay", one.near, side)
        error = caught.value
        assert error.errno == errno.ENOSPC
        assert (error.result.a_to_b, error.result.held_a_to_b) == (0, b"abc")
        assert error.result.reason == "stopped"


# -- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("src", ["file", "pipe", "unix"])
@pytest.mark.parametrize("dst", ["file", "pipe", "unix"])
@pytest.mark.parametrize("size", [0, 1, 5 << 20])
def test_progress_ends_with_the_result(wires, backend, src, dst, size):
    """It is told at least once, never less than before, and the total at last."""
    source, sink, told = wires.source(src, DATA[:size]), wires.sink(dst), []
    result = waited(backend, "copy", source.end, sink.end, progress=told.append)
    assert told
    assert told == sorted(told)
    assert told[-1] == result.moved == size
    assert sink.received() == DATA[:size]


@pytest.mark.parametrize("dst", ["file", "unix"])
def test_progress_is_told_meanwhile_in_the_loop(wires, backend, dst, monkeypatch):
    """While it goes on, in the thread of the loop: by an engine and between files alike."""
    told, threads = [], set()
    slowly = Seam(cap("sendfile", 1), cap("copy_file_range", 1))

    def progress(moved):
        told.append(moved)
        if len(told) == 2:  # however late the loop comes to tell it
            slowly.lift()
        threads.add(threading.get_ident())
        assert anyio.current_time()  # a loop runs where it is called

    async def slow(src, sink):
        with slowly.everywhere(monkeypatch):
            await aio.copy(src, sink.end, progress=progress)

    async def waiting(feed, src, sink):
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(aio.copy, src, sink.end, progress=progress))
            await until(lambda: told)
            os.write(feed, b"more")
            os.close(feed)

    sink = wires.sink(dst)
    if dst == "file":
        run(backend, slow, wires.file(DATA), sink)
        assert len(told) > 1
        assert told[0] < told[-1] == len(DATA)
    else:
        reader, feed = wires.pipe()
        run(backend, waiting, feed, reader, sink)
        assert (told[0], told[-1]) == (0, 4)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("src", ["file", "pipe"])
@pytest.mark.parametrize("name", ["copy", "receive_file"])
def test_progress_that_raises_ends_it(wires, backend, src, name):
    """Its exception comes out and carries the counts; what is left stays in the source."""
    source, file = wires.source(src, DATA[:100_000]), wires.file()

    def progress(moved):
        raise RuntimeError(f"enough at {moved}")

    with pytest.raises(RuntimeError, match="enough at") as caught:
        waited(backend, name, source.end, file, progress=progress)
    error = caught.value
    assert len(content(file)) == error.result.moved
    assert content(file) + error.held + source.left() == DATA[:100_000]


# -- several at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_both_directions_of_one_socket_at_once(wires, backend, kind):
    """The first that ends does not make the socket blocking under the other one."""
    near, far = wires.sockets(kind)
    file, came, ended = wires.file(DATA * 2), wires.file(), []

    async def sends(scope):
        with scope:
            await aio.send_file(near, file)
        ended.append("sending")

    async def receives():
        await aio.receive_file(near, came, 5)
        ended.append("receiving")

    async def main():
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(receives)
            await until(lambda: loops.counts()["active"] == 1)
            group.start_soon(sends, scope)
            await until(lambda: queued(far) > 50_000)
            far.send(b"abcde")
            await until(lambda: ended)
            mode = os.get_blocking(near.fileno())
            far.recv(1 << 20)
            scope.cancel()
            if mode:  # the engine may be stuck in the kernel: let this test come to an end
                Worker(lambda: read_all(far))
        return mode

    assert run(backend, main) is False
    assert os.get_blocking(near.fileno())
    assert (ended, content(came)) == (["receiving", "sending"], b"abcde")


@pytest.mark.parametrize("spare", range(8))
@pytest.mark.parametrize("name", ["copy", "relay"])
def test_without_descriptors_it_says_so_and_takes_nothing(wires, backend, name, spare):
    """Whichever it is that cannot be opened: OSError, or it could do without; and then it works."""

    async def main():
        with no_more_descriptors(spare):
            try:
                return await getattr(aio, name)(src, dst)
            except OSError as error:
                refused.add(error.errno)
        return await getattr(aio, name)(src, dst)

    (a, src), (dst, b), refused = wires.sockets("unix"), wires.sockets("unix"), set()
    a.sendall(DATA[:50_000])
    for end in (a, b):
        end.shutdown(socket.SHUT_WR)
    run(backend, main)
    assert available(b) == DATA[:50_000]
    assert refused <= {errno.EMFILE, errno.ENFILE}


@pytest.mark.parametrize("other", backends())
def test_two_loops_in_two_threads(wires, backend, other):
    """They share the engines, and neither hears the other's news."""

    def work(kind, seed):
        async def main():
            for size in (0, 1, 1000, 100_000):
                source, sink = wires.source("unix", DATA[seed:][:size]), wires.sink("unix")
                assert (await aio.copy(source.end, sink.end)).moved == size
                assert sink.received() == DATA[seed:][:size]
            return seed

        return run(kind, main)

    thread = Worker(lambda: work(other, 1))
    assert work(backend, 2) == 2
    assert thread.result() == 1


# -- serve_proxy -----------------------------------------------------------------------------------


def test_serve_proxy_is_a_proxy_until_it_is_cancelled(backend):
    """`start` gives the Proxy when it listens; bulk goes through by splice; then nobody listens."""

    async def main(upstream):
        async with anyio.create_task_group() as group:
            proxy = await group.start(aio.serve_proxy, ANY, upstream)
            assert isinstance(proxy, spliceio.Proxy)
            address = proxy.address
            got = await in_thread(ask, At(proxy), DATA)
            stats = proxy.stats()
            group.cancel_scope.cancel()
        return address, got, stats, proxy

    with Server(echo) as server:
        address, got, stats, proxy = run(backend, main, server.address)
    assert digest(got) == digest(DATA)
    assert (stats.total, stats.a_to_b, stats.b_to_a) == (1, len(DATA), len(DATA))
    assert stats.methods["splice"] > len(DATA)
    assert proxy.addresses == []
    assert refuses(address)


# -- the module ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["copy", "send_file", "receive_file", "fanout", "relay"])
def test_the_parameters_are_those_of_the_blocking_function(name):
    """Names, order and defaults."""

    def shape(function):
        return [
            (p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()
        ]

    assert shape(getattr(aio, name)) == shape(getattr(spliceio, name))
    assert inspect.iscoroutinefunction(getattr(aio, name))
    names = ["copy", "fanout", "receive_file", "relay", "send_file", "serve_proxy"]
    assert sorted(aio.__all__) == names


def test_without_anyio_it_says_what_to_install():
    """ImportError that names the extra; the rest of the package works on."""
    script = """
import sys
sys.modules["anyio"] = None
import spliceio
try:
    import spliceio.aio
except ImportError as error:
    print(error, error.name, error.__suppress_context__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "spliceio.aio needs anyio: pip install 'spliceio[aio]' anyio True\n"


def test_an_engine_that_takes_nothing_more(monkeypatch, wires, backend):
    """OSError at once, and the descriptors are closed."""

    class Refusing:
        def __getattr__(self, name):
            return getattr(lib, name)

        def sio_engine_submit(self, engine, link):
            return -errno.ESHUTDOWN

    monkeypatch.setattr(_await, "lib", Refusing())
    (one, two), (_, four) = wires.pipe(), wires.pipe()
    os.write(two, b"abc")
    with pytest.raises(OSError, match="submit") as caught:
        run(backend, lambda: aio.copy(one, four))
    assert caught.value.errno == errno.ESHUTDOWN
    assert os.read(one, 10) == b"abc"
