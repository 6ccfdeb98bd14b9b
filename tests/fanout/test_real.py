"""One source to many sinks, on real descriptors: every transport, size and blocking mode.

Rule 1: every sink gets exactly the source's bytes, however fast or slow it and the others are.
Rule 2: the result says by what method, and a plain pipe is never copied into.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import tempfile
import zlib

import pytest

import spliceio
from spliceio import fanout
from tests.support.cases import cases
from tests.support.fans import PATIENCE, ZERO_COPY, Raw, complete, ends, same, slow_sink
from tests.support.states import Worker, until
from tests.support.wires import KINDS, MIB, payload, read_all, transports, write_all

PAGE = 4096
PIPE = 65536
BIG = 5 * MIB
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, PIPE - 1, PIPE, PIPE + 1, BIG]
SINKS = ("pipe", "fifo", "unix", "tcp4", "tcp6", "mptcp", "file", "tmpfs", "tty")
METHODS = {"pipe": ZERO_COPY, "fifo": ZERO_COPY}


# ---- transport x size x mode --------------------------------------------------------------------


@cases(kind=KINDS, size=SIZES, nonblocking=[False, True])
def test_every_source_reaches_three_kinds_of_sink(wires, kind, size, nonblocking):
    """A pipe, a socket and a file all get the whole source, without copying if it is not small."""
    data = payload(size)
    source = wires.source(kind, data, nonblocking=nonblocking)
    sinks = [wires.sink(sink) for sink in ("pipe", "unix", "file")]
    result = fanout(source.end, ends(sinks), source.count)
    complete(result, size, "count" if source.counted else "eof")
    for sink in sinks:
        same(sink.received(), data)
    assert result.fallbacks == ()
    if kind in ("file", "tmpfs") and 0 < size < PIPE:
        assert all(one.by_method == {"read_write": size} for one in result.sinks)
        return
    assert set(result.sinks[0].by_method) <= ZERO_COPY
    for one in result.sinks[1:]:
        assert set(one.by_method) <= {"splice"}


@cases(src=["pipe", "unix"], kind=SINKS, size=SIZES, nonblocking=[False, True])
def test_every_sink_gets_what_the_one_beside_it_gets(wires, src, kind, size, nonblocking):
    """Alone in its kind beside a pipe, and reading at its own pace."""
    data = payload(size)
    source = wires.source(src, data)
    beside = wires.sink("pipe", nonblocking=nonblocking)
    sink = wires.sink(kind, nonblocking=nonblocking)
    result = fanout(source.end, [beside.end, sink.end])
    complete(result, size)
    same(beside.received(), data)
    same(sink.received(), data)
    assert result.fallbacks == ()
    assert set(result.sinks[0].by_method) <= ZERO_COPY
    assert set(result.sinks[1].by_method) <= METHODS.get(kind, {"splice"})


@cases(kind=SINKS, src=KINDS, nonblocking=[False, True])
def test_copying_is_exact_too(wires, src, kind, nonblocking):
    """`method="read_write"` makes no pipe and no splice, and the content is the same."""
    data = payload(300_001)
    source = wires.source(src, data, nonblocking=nonblocking)
    sinks = [wires.sink(kind, nonblocking=nonblocking), wires.sink("pipe"), wires.sink("file")]
    result = fanout(source.end, ends(sinks), source.count, method="read_write")
    complete(result, len(data), "count" if source.counted else "eof")
    for sink, one in zip(sinks, result.sinks, strict=True):
        same(sink.received(), data)
        assert one.by_method == {"read_write": len(data)}
    assert result.fallbacks == ()


def test_a_single_sink_is_a_copy(wires, transport):
    """With nobody to share with nothing is teed twice or staged."""
    data = payload(BIG)
    source, sink = wires.source("pipe", data), wires.sink(transport)
    result = fanout(source.end, [sink.end])
    complete(result, BIG)
    same(sink.received(), data)


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", transports())
def test_all_kinds_at_once_at_different_speeds(wires, src, method):
    """Fast and slow, blocking and not, kernel and Python: everybody gets the same."""
    data = payload(700_003)
    source = wires.source(src, data)
    path = wires.tmp_path / "log"
    path.write_bytes(b"before ")
    append = wires.ends.fd(os.open(path, os.O_WRONLY | os.O_APPEND))
    null = wires.ends.fd(os.open(os.devnull, os.O_WRONLY))
    digest, memory = hashlib.sha256(), io.BytesIO()
    slow = [
        slow_sink(wires, "pipe", 20_000),
        slow_sink(wires, "unix", 9_000, nonblocking=True),
        slow_sink(wires, "tcp4", 50_000),
    ]
    fast = [wires.sink(kind) for kind in ("pipe", "fifo", "unix", "tcp4", "file", "tmpfs", "tty")]
    sinks = [slow[0], digest, *fast, append, slow[1], memory, null, slow[2]]
    result = fanout(source.end, ends(sinks), source.count, method=method)
    complete(result, len(data), "count" if source.counted else "eof")
    for sink in slow + fast:
        same(sink.received(), data)
    same(memory.getvalue(), data)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert path.read_bytes() == b"before " + data
    by_sink = dict(zip(map(id, ends(sinks)), result.sinks, strict=True))
    if method == "auto":
        assert set(by_sink[id(slow[0].end)].by_method) <= ZERO_COPY
        assert by_sink[id(null)].by_method == {"splice": len(data)}
        assert by_sink[id(append)].by_method == {"read_write": len(data)}
        assert result.fallbacks == ()


@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
@pytest.mark.parametrize(
    "capacities", [(PAGE, MIB), (MIB, PAGE), (PAGE, PAGE, 2 * PAGE), (PIPE, PAGE, MIB, 2 * PAGE)]
)
def test_pipes_of_different_capacity(wires, src, capacities):
    """A sink that takes more at once than the others neither repeats nor misses a byte."""
    data = payload(900_001)
    source = wires.source(src, data)
    pipes = [wires.pipe(capacity) for capacity in capacities]
    readers = [Worker(lambda fd=reader: read_all(fd)) for reader, _ in pipes]
    result = fanout(source.end, [writer for _, writer in pipes])
    for _, writer in pipes:
        os.close(writer)
    complete(result, len(data))
    for reader in readers:
        same(reader.result(), data)
    for one in result.sinks:
        assert set(one.by_method) <= ZERO_COPY


@pytest.mark.parametrize("kind", ["pipe", "unix"])
def test_many_tiny_fragments(wires, kind):
    """A source whose every slot holds one byte fills slots long before bytes."""
    data = payload(3_000)
    source, feed = wires.sockets("unix") if kind == "unix" else wires.pipe()
    sinks = [wires.sink(sink) for sink in ("pipe", "tcp4", "pipe", "file")]
    running = Worker(lambda: fanout(source, ends(sinks), timeout=PATIENCE))
    fd = feed if isinstance(feed, int) else feed.fileno()
    for byte in data:
        os.write(fd, bytes([byte]))
    os.close(feed) if kind == "pipe" else feed.close()
    complete(running.result(), len(data))
    for sink in sinks:
        same(sink.received(), data)


def test_a_sink_given_twice_gets_everything_twice(wires):
    """Each place in the list is a sink for itself."""
    data = payload(2_000)
    source, memory = wires.source("pipe", data), io.BytesIO()
    sink = wires.sink("file")
    result = fanout(source.end, [memory, sink.end, memory, sink.end])
    complete(result, len(data))
    assert memory.getvalue() == data + data
    assert len(sink.received()) == 2 * len(data)


# ---- sources ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/proc/version", "/proc/self/environ", "/proc/mounts"])
def test_a_proc_file(wires, path):
    """Content that is made up arrives however the kernel hands it out."""
    fd = wires.ends.fd(os.open(path, os.O_RDONLY))
    sinks = [wires.sink("pipe"), wires.sink("unix"), io.BytesIO()]
    result = fanout(fd, ends(sinks))
    with open(path, "rb") as file:
        content = file.read()
    complete(result, len(content))
    assert sinks[0].received() == sinks[1].received() == sinks[2].getvalue() == content


def test_a_memfd(wires):
    """Sealed or not, memory is a file."""
    data = payload(BIG)
    fd = wires.file(data, kind="memfd")
    sinks = [wires.sink("pipe"), wires.sink("pipe")]
    complete(fanout(fd, ends(sinks)), BIG)
    for sink in sinks:
        same(sink.received(), data)


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("count", [None, 0, 1, 5_000, 5_001, 150_000])
def test_a_buffered_file_begins_at_its_position_and_ends_there(wires, tmp_path, method, count):
    """tell() says where; afterwards it says where an ordinary read would have left it."""
    data = payload(200_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    sinks = [wires.sink("pipe"), wires.sink("file")]
    with open(path, "rb") as file:
        assert file.read(10) == data[:10]
        result = fanout(file, ends(sinks), count, method=method)
        expected = data[10:] if count is None else data[10 : 10 + count]
        assert file.tell() == 10 + len(expected)
        assert file.read() == data[10 + len(expected) :]
    complete(result, len(expected), "eof" if count is None else "count")
    for sink in sinks:
        same(sink.received(), expected)


@cases(
    method=["auto", "read_write"],
    count=[None, 0, 1, 4000, 8000, 8192, 90_000],
    kind=["pipe", "unix"],
)
def test_what_a_reader_has_read_ahead_goes_first(wires, kind, count, method):
    """The bytes in a BufferedReader's memory are neither lost nor overtaken."""
    data = payload(100_000)
    source = wires.source(kind, data)
    fd = os.dup(source.fd)
    with open(fd, "rb") as file:
        assert file.read(3) == data[:3]
        ahead = len(file.peek())
        assert ahead > 3
        sinks = [wires.sink("pipe"), wires.sink("unix"), io.BytesIO()]
        result = fanout(file, ends(sinks), count, method=method)
        expected = data[3:] if count is None else data[3 : 3 + count]
        complete(result, len(expected), "eof" if count is None else "count")
        assert file.read() == data[3 + len(expected) :]
    same(sinks[0].received(), expected)
    same(sinks[1].received(), expected)
    same(sinks[2].getvalue(), expected)


def test_more_read_ahead_than_the_memory_of_the_head(wires):
    """A reader with a megabyte in its buffer."""
    data = payload(MIB)
    near, far = wires.pipe(MIB)
    write_all(far, data)
    os.close(far)
    with open(os.dup(near), "rb", buffering=2 * MIB) as file:
        assert len(file.peek()) == MIB
        sinks = [wires.sink("pipe"), wires.sink("pipe"), hashlib.sha256()]
        complete(fanout(file, ends(sinks)), MIB)
    same(sinks[0].received(), data)
    assert sinks[2].digest() == hashlib.sha256(data).digest()


@cases(method=["auto", "read_write"], count=[0, 1, PAGE, PIPE + 1, 99_999], kind=KINDS)
def test_nothing_beyond_the_count_is_consumed(wires, kind, count, method):
    """The rest stays in the source: pipe, socket, terminal and file position."""
    data = payload(100_000)
    source = wires.source(kind, data)
    sinks = [wires.sink("pipe"), wires.sink("tcp4"), io.BytesIO()]
    result = fanout(source.end, ends(sinks), count, method=method)
    complete(result, count, "count")
    assert source.left(count) == data[count:]
    same(sinks[0].received(), data[:count])
    same(sinks[1].received(), data[:count])
    same(sinks[2].getvalue(), data[:count])


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_fifo_waits_for_its_writer(wires, tmp_path, method):
    """Opened without waiting, it is waited for here: no writer yet is not the end."""
    path = tmp_path / "late"
    os.mkfifo(path)
    reader = wires.ends.fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    sinks = [wires.sink("pipe"), io.BytesIO()]
    running = Worker(lambda: fanout(reader, ends(sinks), method=method, timeout=PATIENCE))
    until(lambda: running.asleep() or not running.is_alive())
    with open(path, "wb") as writer:
        writer.write(b"late")
    complete(running.result(), 4)
    assert sinks[0].received() == b"late"


def test_an_urgent_byte_is_neither_the_end_nor_a_loop(wires):
    """What comes before and after a TCP urgent byte arrives at every sink."""
    near, far = wires.sockets("tcp4")
    far.sendall(b"before")
    far.send(b"!", socket.MSG_OOB)
    far.sendall(b"after")
    far.shutdown(socket.SHUT_WR)
    sinks = [wires.sink("pipe"), wires.sink("unix")]
    result = fanout(near, ends(sinks))
    assert sinks[0].received() == sinks[1].received() == b"beforeafter"
    complete(result, 11)


# ---- sinks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
def test_python_objects_get_bytes_which_they_may_keep(wires, src):
    """Hashes by update, file-like objects by write; gzip compresses; all in this thread."""
    data = payload(BIG)
    kept = []

    class Keeper:
        def write(self, part):
            assert type(part) is bytes
            kept.append(part)

    source, sha, md5 = wires.source(src, data), hashlib.sha256(), hashlib.md5()
    packed, crc, sink = io.BytesIO(), zlib.crc32(data), wires.sink("pipe")
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0) as zipped:
        result = fanout(source.end, [sha, zipped, md5, sink.end, Keeper()])
    complete(result, BIG)
    assert [one.method for one in result.sinks[:3]] == ["update", "write", "update"]
    assert result.sinks[0].by_method == {"update": BIG}
    assert result.sinks[4].by_method == {"write": BIG}
    assert sha.digest() == hashlib.sha256(data).digest()
    assert md5.digest() == hashlib.md5(data).digest()
    same(gzip.decompress(packed.getvalue()), data)
    assert zlib.crc32(b"".join(kept)) == crc
    same(sink.received(), data)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([1_000], None),
        ([1_000, None], BlockingIOError),
        ([1_000, 0], OSError),
        ([1_000, -1], OSError),
        ([1_000, ValueError("no")], ValueError),
        ([1_000, OSError(28, "full")], OSError),
    ],
)
@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_raw_file_of_python_may_take_less(wires, answers, error, method):
    """Short counts go on; None, nothing, nonsense and exceptions end that sink alone."""
    data = payload(100_000)
    source, raw = wires.source("pipe", data), Raw(answers)
    digest, sink = hashlib.sha256(), wires.sink("unix")
    result = fanout(source.end, [raw, sink.end, digest], method=method)
    first = result.sinks[0]
    assert result.moved == len(data)
    assert digest.digest() == hashlib.sha256(data).digest()
    same(sink.received(), data)
    assert [one.fate for one in result.sinks[1:]] == ["done", "done"]
    if error is None:
        complete(result, len(data))
        assert raw.got == data
    else:
        assert result.failed == (first,)
        assert (first.fate, type(first.error), first.moved) == ("failed", error, 1_000)
        assert raw.got == data[:1_000]


def test_an_object_that_says_too_much_is_not_believed(wires):
    """A write() that returns more than it was given ends that sink."""

    class Liar:
        def write(self, part):
            return len(part) + 1

    sink = wires.sink("pipe")
    result = fanout(wires.source("pipe", b"abc").end, [Liar(), sink.end])
    assert result.sinks[0].fate == "failed"
    assert isinstance(result.sinks[0].error, OSError)
    assert sink.received() == b"abc"


def test_files_of_python_are_flushed_and_left_at_the_end(wires, tmp_path):
    """A BufferedWriter's own bytes come first, what is written after comes last."""
    data = payload(100_000)
    with open(tmp_path / "out", "w+b") as both, open(tmp_path / "two", "wb") as out:
        out.write(b"head ")
        both.write(b"HEAD ")
        complete(fanout(wires.source("unix", data).end, [out, both]), len(data))
        assert out.tell() == both.tell() == 5 + len(data)
        out.write(b" tail")
        both.write(b" TAIL")
    assert (tmp_path / "two").read_bytes() == b"head " + data + b" tail"
    assert (tmp_path / "out").read_bytes() == b"HEAD " + data + b" TAIL"


def test_temporary_files(wires):
    """Tempfile's wrappers are what they wrap."""
    data = payload(50_000)
    with tempfile.NamedTemporaryFile() as named, tempfile.TemporaryFile() as plain:
        complete(fanout(wires.source("pipe", data).end, [named, plain]), len(data))
        for file in (named, plain):
            file.seek(0)
            assert file.read() == data


def test_an_append_sink_is_written_to_and_says_why(wires, tmp_path):
    """The kernel refuses O_APPEND to splice; that sink is copied to, the others are not."""
    data = payload(200_000)
    log = wires.ends.fd(os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    sink, source = wires.sink("pipe"), wires.source("pipe", data)
    result = fanout(source.end, [log, sink.end])
    complete(result, len(data))
    assert (tmp_path / "log").read_bytes() == data
    assert result.fallbacks == ()
    assert set(result.sinks[1].by_method) <= ZERO_COPY
    [fallback] = result.sinks[0].fallbacks
    assert fallback.errno == 22
    assert "O_APPEND" in fallback.why
    assert result.sinks[0].method == "read_write"


# ---- what is refused ----------------------------------------------------------------------------

REFUSED = {
    "no sinks": (lambda w: [], {}, ValueError, "no sinks"),
    "on_slow": (lambda w: [w.file()], {"on_slow": "run"}, ValueError, "on_slow"),
    "method": (lambda w: [w.file()], {"method": "tee"}, ValueError, "method"),
    "stall": (
        lambda w: [w.file()],
        {"on_slow": "drop", "stall_timeout": -1},
        ValueError,
        "stall_timeout",
    ),
    "timeout": (lambda w: [w.file()], {"timeout": float("nan")}, ValueError, "timeout"),
    "count": (lambda w: [w.file()], {"count": -1}, ValueError, "count"),
    "count type": (lambda w: [w.file()], {"count": 1.5}, TypeError, "int"),
    "neither": (lambda w: [w.file(), object()], {}, TypeError, r"sinks\[1\]"),
    "text": (lambda w: [w.file(), io.StringIO()], {}, TypeError, "text"),
    "not open": (lambda w: [w.file(), 99_999], {}, OSError, r"sinks\[1\]"),
    "wrong end": (lambda w: [w.file(), w.pipe()[0]], {}, OSError, r"sinks\[1\]"),
    "terminal first": (lambda w: [w.terminal()[1], 99_999], {}, OSError, r"sinks\[1\]"),
    "closed": (lambda w: [w.file(), _closed()], {}, (ValueError, OSError), "closed"),
}


def _closed():
    with tempfile.TemporaryFile() as file:
        return file


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_before_a_byte_moves(wires, name):
    """The source is as it was, nothing is written, and no descriptor is left open."""
    make, options, error, words = REFUSED[name]
    options = dict(options)
    source = wires.source("pipe", b"untouched")
    with open(os.dup(source.fd), "rb") as file:
        assert file.read(2) == b"un"
        with pytest.raises(error, match=words):
            fanout(file, make(wires), options.pop("count", None), **options)
        assert file.read() == b"touched"


def test_a_pipe_into_itself_is_refused(wires):
    """It would read what it has just written, for ever."""
    reader, writer = wires.pipe()
    with pytest.raises(OSError, match=r"sinks\[1\]|itself|same"):
        fanout(reader, [io.BytesIO(), writer])


def test_the_result_is_a_value(wires):
    """Names in the order of the call, and what was given is what is returned."""
    memory, sink = io.BytesIO(), wires.sink("pipe")
    seen = []
    result = fanout(wires.source("pipe", b"abc").end, [memory, sink.end], progress=seen.append)
    assert isinstance(result, spliceio.FanoutResult)
    assert [one.sink for one in result.sinks] == [memory, sink.end]
    assert seen[-1] == 3
    assert result.seconds >= 0
    assert sink.received() == memory.getvalue() == b"abc"
