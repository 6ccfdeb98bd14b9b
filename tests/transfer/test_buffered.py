"""Python's own file objects: what they have read ahead comes first, and positions stay right."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import sys
import tempfile
import threading

import pytest

import spliceio
from spliceio import Transfer
from spliceio._kernel import ahead as _ahead
from tests.support.seam import Seam, cap, fail
from tests.support.states import Worker, until
from tests.support.wires import payload

DATA = payload(100_000)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(DATA)
    return file


@pytest.mark.parametrize("method", ["auto", "read_write", "splice"])
@pytest.mark.parametrize("dst", ["file", "pipe", "unix"])
def test_a_reader_is_copied_from_where_it_is(wires, path, dst, method):
    """tell() counts and not the descriptor's offset; after it, both are where a read would end."""
    sink = wires.sink(dst)
    with open(path, "rb") as file:
        assert file.read(10) == DATA[:10]
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) > 10
        assert spliceio.copy(file, sink.end, 5000, method=method).moved == 5000
        assert file.tell() == 5010
        assert file.read(10) == DATA[5010:5020]
        spliceio.copy(file, sink.end, method=method)
        assert file.tell() == len(DATA)
        assert file.read() == b""
    assert sink.received() == DATA[10:5010] + DATA[5020:]


def test_offset_src_leaves_a_reader_where_it_is(wires, path):
    """With an offset, neither tell() nor what was read ahead is touched."""
    sink = wires.sink("file")
    with open(path, "rb") as file:
        file.read(10)
        spliceio.copy(file, sink.end, 100, offset_src=50_000)
        assert file.tell() == 10
        assert file.read(5) == DATA[10:15]
    assert sink.received() == DATA[50_000:50_100]


def readers(wires, kind):
    """A BufferedReader on a stream, with DATA in it, and what ends the writing side."""
    if kind == "pipe":
        source = wires.source("pipe", DATA)
        return open(source.fd, "rb", closefd=False)
    source = wires.source(kind, DATA)
    return source.end.makefile("rb")


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp4"])
@pytest.mark.parametrize("count", [None, 0, 1, 100, 8000, 50_000])
def test_read_ahead_of_a_stream_comes_first_and_nothing_of_it_is_lost(wires, kind, count):
    """What a reader holds in memory goes before the rest, and what is not asked for stays."""
    sink = wires.sink("file")
    with readers(wires, kind) as file:
        first = file.read(10)
        moved = spliceio.copy(file, sink.end, count).moved
        rest = file.read()
    assert moved == (len(DATA) - 10 if count is None else count)
    assert first + sink.received() + rest == DATA


@pytest.mark.parametrize("kind", ["pipe", "unix"])
@pytest.mark.parametrize("count", [None, 0, 100, 50_000])
def test_chunks_give_read_ahead_first_and_lose_nothing_of_it(wires, kind, count):
    """The same for chunks."""
    with readers(wires, kind) as file:
        first = file.read(10)
        got = b"".join(spliceio.chunks(file, 3000, count=count))
        rest = file.read()
    assert len(got) == (len(DATA) - 10 if count is None else count)
    assert first + got + rest == DATA


@pytest.mark.parametrize("kind", ["pipe", "unix"])
@pytest.mark.parametrize(
    "bad",
    [
        lambda file: spliceio.copy(file, "no file"),
        lambda file: spliceio.copy(file, -1),
        lambda file: spliceio.copy(file, file.fileno(), offset_src=5),
        lambda file: spliceio.copy(file, 1, -5),
        lambda file: spliceio.copy(file, 1, method="no method"),
        lambda file: spliceio.copy(file, 1, timeout=-1),
        lambda file: spliceio.explain(file, 1),
    ],
    ids=["dst", "fd", "offset", "count", "method", "timeout", "explain"],
)
def test_a_refused_call_takes_no_read_ahead(wires, kind, bad):
    """When nothing is begun, nothing is taken from the reader's memory either."""
    with readers(wires, kind) as file:
        first = file.read(10)
        with contextlib.suppress(OSError, ValueError, TypeError):
            bad(file)
        assert first + file.read() == DATA


def test_read_ahead_is_not_waited_for(wires):
    """A reader with nothing buffered on a silent pipe is not read from."""
    reader, writer = wires.pipe()
    with open(reader, "rb", closefd=False) as file:
        os.write(writer, b"x")
        assert file.read(1) == b"x"
        with Transfer(file, wires.sink("file").end) as transfer:
            assert transfer.step() == 0
            assert transfer.held == 0
        os.write(writer, b"after")
        os.close(writer)
        assert file.read() == b"after"


class Peeked(io.BufferedReader):
    """A reader on a pipe that calls `meanwhile` whenever somebody peeks at what it holds."""

    def __init__(self, fd: int) -> None:
        super().__init__(io.FileIO(fd, closefd=False))
        self.meanwhile = lambda: None

    def peek(self, size: int = 0) -> bytes:
        self.meanwhile()
        return super().peek(size)


def elsewhere(function):
    """Run a function in another thread; return its result."""
    return Worker(function).result()


CALLS = [
    lambda file: b"".join(spliceio.chunks(file, 100)),
    lambda file: spliceio.peek(file, 100),
]


@pytest.mark.parametrize("call", CALLS, ids=["chunks", "peek"])
def test_a_reader_in_another_thread_goes_on(wires, call):
    """While a call looks at what is held, other threads read as ever: from memory and beyond."""
    reader, writer = wires.pipe()
    with Peeked(reader) as file:
        os.write(writer, b"one two three")
        os.close(writer)
        got = []
        file.meanwhile = lambda: got.append(elsewhere(lambda: file.read(4)))
        rest = call(file)
        assert b"".join(got) + rest == b"one two three"
        assert got[0] == b"one "


def test_calls_in_two_threads_do_not_disturb_each_other(wires):
    """Whichever ends first, neither waits for an empty pipe, and nothing of them stays."""
    reader, writer = wires.pipe()
    os.set_blocking(reader, True)
    with Peeked(reader) as file:

        def inside():
            file.meanwhile = lambda: None
            Transfer(file, wires.sink("file").end).close()

        file.meanwhile = lambda: elsewhere(inside)
        Transfer(file, wires.sink("file").end).close()
        assert "readinto" not in file.raw.__dict__

        first = threading.Barrier(2)  # the second begins while the first is inside, and ends later
        over = threading.Event()

        def begins_first():
            file.meanwhile = first.wait
            Transfer(file, wires.sink("file").end).close()
            over.set()

        begun = Worker(begins_first)
        until(lambda: first.n_waiting)
        file.meanwhile = lambda: (first.wait(), over.wait())
        Transfer(file, wires.sink("file").end).close()
        begun.result()
        assert "readinto" not in file.raw.__dict__
        os.write(writer, b"after")
        os.close(writer)
        assert file.read() == b"after"


def test_a_callers_own_readinto_stays(wires):
    """Nothing but the caller takes it away."""
    reader, writer = wires.pipe()
    with Peeked(reader) as file:
        mine = file.raw.readinto = lambda buffer: io.FileIO.readinto(file.raw, buffer)
        os.write(writer, b"text")
        os.close(writer)
        file.meanwhile = lambda: elsewhere(lambda: file.read(1))
        assert _ahead.take_buffer(file, None) == b"ext"
        assert file.raw.readinto is mine


def test_a_look_at_what_is_held_is_no_method_of_the_callers(wires):
    """While one call is inside, another takes the reader for what it is."""
    sink = wires.sink("file")
    with readers(wires, "pipe") as file:
        first = file.read(10)
        with _ahead._nothing_more(file.raw):
            spliceio.explain(file, sink.end)
        spliceio.copy(file, sink.end)
    assert first + sink.received() == DATA


class Slotted:
    """What a BufferedReader is content with: no file, and without a __dict__."""

    __slots__ = ("fd",)
    closed = False

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass

    flush = close

    def fileno(self) -> int:
        return self.fd

    def readinto(self, buffer) -> int:
        return os.readv(self.fd, [buffer])

    def readall(self) -> bytes:
        return os.read(self.fd, 100)


@pytest.mark.parametrize(
    "outer", [Slotted, lambda fd: io.BufferedReader(io.FileIO(fd, "rb", False))]
)
def test_a_reader_on_what_may_hold_bytes_itself(wires, outer):
    """Is refused with what to do instead, and has lost nothing."""
    reader, writer = wires.pipe()
    os.write(writer, b"one two")
    os.close(writer)
    with io.BufferedReader(outer(reader)) as file:
        assert file.read(1) == b"o"
        with pytest.raises(TypeError, match=r"src is a BufferedReader on a .*pass \.fileno\(\)"):
            spliceio.copy(file, wires.sink("file").end)
        assert file.read() == b"ne two"


def test_a_failure_keeps_the_read_ahead(wires, monkeypatch):
    """Bytes from a reader's memory that did not arrive are in the exception."""
    sink = wires.sink("file")
    rules = [cap("write", 10, times=1), fail("write", 28)]
    with readers(wires, "pipe") as file:
        first = file.read(10)
        with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match="full") as caught:
            spliceio.copy(file, sink.end)
        assert caught.value.result.moved == 10
        assert first + sink.received() + caught.value.held + file.read() == DATA


@pytest.mark.parametrize("kind", ["pipe", "unix"])
def test_a_closed_transfer_gives_the_read_ahead_to_who_asks(wires, kind):
    """take_held() has it, and the rest is in the reader."""
    sink = wires.sink("file")
    with readers(wires, kind) as file:
        first = file.read(10)
        with Transfer(file, sink.end) as transfer:
            held = transfer.take_held()
        assert first + held + file.read() == DATA


def test_a_writer_is_flushed_first_and_goes_on_after(wires, tmp_path):
    """Buffered bytes go before, and what is written later after."""
    source = wires.source("unix", b"middle ")
    with open(tmp_path / "out", "wb") as file:
        file.write(b"before ")
        spliceio.copy(source.end, file)
        assert file.tell() == 14
        file.write(b"after")
    assert (tmp_path / "out").read_bytes() == b"before middle after"


def test_a_writer_on_a_pipe_is_flushed_first(wires):
    """The same where there is no position."""
    sink = wires.sink("pipe")
    with open(sink.fd, "wb", closefd=False) as file:
        file.write(b"before ")
        spliceio.copy(wires.file(b"middle "), file)
        file.write(b"after")
    assert sink.received() == b"before middle after"


def test_read_and_write_files(wires, tmp_path):
    """A BufferedRandom is a source or a destination; its position is right after either."""
    with open(tmp_path / "both", "w+b") as file:
        file.write(b"0123456789")
        file.seek(2)
        assert file.read(3) == b"234"
        spliceio.copy(wires.file(b"XY"), file)
        assert file.tell() == 7
        assert file.read() == b"789"
        file.seek(1)
        sink = wires.sink("file")
        spliceio.copy(file, sink.end, 6)
        assert file.tell() == 7
        file.write(b"!")
        assert sink.received() == b"1234XY"
    assert (tmp_path / "both").read_bytes() == b"01234XY!89"


def test_an_unflushed_read_and_write_file_is_flushed_as_a_source(wires, tmp_path):
    """What was written and not flushed is part of the file."""
    with open(tmp_path / "both", "w+b") as file:
        file.write(b"unflushed")
        file.seek(0)
        file.write(b"UN")
        sink = wires.sink("file")
        spliceio.copy(file, sink.end)
        assert sink.received() == b"flushed"


def test_raw_files(wires, path):
    """FileIO has no buffer: the descriptor's position counts."""
    sink = wires.sink("file")
    with open(path, "rb", buffering=0) as file:
        file.read(10)
        spliceio.copy(file, sink.end, 100)
        assert file.tell() == 110
    assert sink.received() == DATA[10:110]


@pytest.mark.parametrize(
    "make",
    [
        tempfile.TemporaryFile,
        tempfile.NamedTemporaryFile,
        functools.partial(tempfile.SpooledTemporaryFile, max_size=1 << 20),
        functools.partial(tempfile.SpooledTemporaryFile, max_size=10),
    ],
    ids=["TemporaryFile", "NamedTemporaryFile", "spooled in memory", "spooled on disk"],
)
def test_temporary_files(wires, make):
    """Tempfile's wrappers are taken for the files they are."""
    sink = wires.sink("file")
    with make() as file:
        file.write(b"0123456789")
        file.seek(3)
        assert spliceio.copy(file, sink.end, 4).moved == 4
        assert file.tell() == 7
        file.seek(0, os.SEEK_END)
        spliceio.copy(wires.file(b"more"), file)
        file.seek(0)
        assert file.read() == b"0123456789more"
    assert sink.received() == b"3456"


def test_a_childs_pipes(wires):
    """Popen's stdin and stdout are buffered objects on pipes."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        spliceio.copy(wires.file(b"quiet"), child.stdin)
        child.stdin.close()
        sink = wires.sink("file")
        spliceio.copy(child.stdout, sink.end)
    assert sink.received() == b"QUIET"


def test_a_detached_or_closed_object(wires, path):
    """ValueError, as the object itself says."""
    sink = wires.sink("file")
    with open(path, "rb") as file:
        pass
    with pytest.raises(ValueError, match="closed"):
        spliceio.copy(file, sink.end)
    with open(path, "rb", buffering=0) as raw:
        detached = io.BufferedReader(raw)
        detached.detach()
        with pytest.raises(ValueError, match="detached"):
            spliceio.copy(detached, sink.end)
