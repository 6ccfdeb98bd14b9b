"""`copyfileobj` in the place of `shutil.copyfileobj`: the same bytes, positions and errors.

Rule 1: every pair of objects is copied twice, by shutil and by us, and what is left of both is
compared: the content, the positions, what the source gives next.
Rule 2: whether an object's own methods were used is checked by the method that ran.
"""

# ruff: noqa: SIM115 - what the tables open is closed by the fixture, after the test

from __future__ import annotations

import bz2
import codecs
import contextlib
import errno
import functools
import gzip
import http.client
import http.server
import importlib.util
import io
import itertools
import lzma
import mmap
import multiprocessing
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import unittest.mock
import urllib.request
import zipfile
import zlib

import pytest

from spliceio import TransferResult, copyfileobj
from tests.support.cases import FULL
from tests.support.seam import Seam, cap, fail
from tests.support.states import Worker
from tests.support.wires import MIB, payload

DATA = payload(90_001)
TEXT = "".join(map(chr, itertools.islice(itertools.cycle(range(32, 0x2FF)), 70_001))) + "\n"
REAL = {"copy_file_range", "sendfile", "splice", "read_write"}


# ---- every kind of source, with ten bytes of it read before -------------------------------------


def stored(wires, data=DATA, name="data"):
    path = wires.tmp_path / f"{name}-{len(list(wires.tmp_path.iterdir()))}"
    path.write_bytes(data)
    return path


def opened(wires, *args, **kwargs):
    """Open a file for the time of the test."""
    return kept(wires, open(*args, **kwargs))


def quietly(file):
    """Close what may have lost its other side."""
    with contextlib.suppress(OSError, ValueError):
        file.close()


def kept(wires, file):
    """Close an object after the test."""
    wires.ends.callback(quietly, file)
    return file


def piped(wires, data=DATA):
    """Return the read end of a pipe that holds the data and then ends."""
    reader, writer = wires.pipe(MIB)
    os.write(writer, data)
    os.close(writer)
    return reader


def sent(wires, data=DATA, kind="unix"):
    """Return a socket that has received the data and its end."""
    near, far = wires.sockets(kind)
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)
    return near


def temporary(wires, make, data=DATA, **kwargs):
    file = kept(wires, make(dir=wires.tmp_path, **kwargs))
    file.write(data)
    file.seek(0)
    return file


def zipped(wires):
    path = wires.tmp_path / f"zip-{len(list(wires.tmp_path.iterdir()))}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", DATA)
    return kept(wires, kept(wires, zipfile.ZipFile(path)).open("member"))


def tarred(wires):
    path = wires.tmp_path / f"tar-{len(list(wires.tmp_path.iterdir()))}"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("member")
        member.size = len(DATA)
        archive.addfile(member, io.BytesIO(DATA))
    return kept(wires, kept(wires, tarfile.open(path)).extractfile("member"))


def answered(wires, head, body):
    response = kept(wires, http.client.HTTPResponse(sent(wires, head + body)))
    response.begin()
    return response


def with_length(wires):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
    return answered(wires, head, DATA + b"HTTP/1.1 200 OK\r\n")


def chunked(wires):
    parts = [DATA[i : i + 7000] for i in range(0, len(DATA), 7000)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return answered(wires, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body)


class OnlyReads:
    """An object with read() and nothing else, which gives what it is told to give."""

    def __init__(self, data=DATA, wrap=bytes):
        self._memory, self._wrap = io.BytesIO(data), wrap

    def read(self, length):
        return self._wrap(self._memory.read(length))


class Shouting(io.FileIO):
    """A real file whose read() gives other bytes than its descriptor."""

    def read(self, length=-1):
        return super().read(length).swapcase()


class ShoutingInto(io.FileIO):
    """The same by readinto(), which a BufferedReader calls."""

    def readinto(self, buffer):
        n = io.FileIO.readinto(self, buffer)
        memoryview(buffer)[:n] = bytes(buffer[:n]).swapcase()
        return n


class ShoutingReader(io.BufferedReader):
    def read(self, length=-1):
        return super().read(length).swapcase()


def patched(file):
    """Give an instance a read of its own, as progress bars do."""
    real = file.read
    file.read = lambda length=-1: real(length).swapcase()
    return file


def raw_patched(wires):
    file = opened(wires, stored(wires), "rb")
    file.raw.readinto = functools.partial(ShoutingInto.readinto, file.raw)
    return file


def mocked(wires):
    file = unittest.mock.MagicMock()
    memory = io.BytesIO(DATA)
    file.read.side_effect = memory.read
    return file


def mapped(wires):
    with open(stored(wires), "rb") as file:
        return kept(wires, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


SOURCES = {
    "FileIO": lambda w: opened(w, stored(w), "rb", buffering=0),
    "BufferedReader": lambda w: opened(w, stored(w), "rb"),
    "BufferedRandom": lambda w: opened(w, stored(w), "r+b"),
    "descriptor": lambda w: opened(w, w.file(DATA, kind="tmpfs"), "rb", closefd=False),
    "TemporaryFile": lambda w: temporary(w, tempfile.TemporaryFile),
    "NamedTemporaryFile": lambda w: temporary(w, tempfile.NamedTemporaryFile),
    "spooled, rolled": lambda w: temporary(w, tempfile.SpooledTemporaryFile, max_size=9),
    "raw pipe": lambda w: opened(w, piped(w), "rb", buffering=0, closefd=False),
    "pipe": lambda w: opened(w, piped(w), "rb", closefd=False),
    "makefile": lambda w: kept(w, sent(w).makefile("rb")),
    "makefile of tcp": lambda w: kept(w, sent(w, kind="tcp4").makefile("rb")),
    "raw makefile": lambda w: kept(w, sent(w).makefile("rb", buffering=0)),
    "spooled": lambda w: temporary(w, tempfile.SpooledTemporaryFile, max_size=MIB),
    "BytesIO": lambda w: io.BytesIO(DATA),
    "GzipFile": lambda w: opened_by(w, gzip.open, gzip.compress(DATA)),
    "BZ2File": lambda w: opened_by(w, bz2.open, bz2.compress(DATA)),
    "LZMAFile": lambda w: opened_by(w, lzma.open, lzma.compress(DATA)),
    "ZipExtFile": zipped,
    "ExFileObject": tarred,
    "HTTPResponse": with_length,
    "HTTPResponse, chunked": chunked,
    "file URL": lambda w: kept(w, urllib.request.urlopen(stored(w).as_uri())),
    "data URL": lambda w: kept(w, urllib.request.urlopen("data:," + "ab%20" * 9000)),
    "mmap": mapped,
    "RWPair": lambda w: kept(w, sent(w).makefile("rwb")),
    "only read()": lambda w: OnlyReads(),
    "bytearrays": lambda w: OnlyReads(wrap=bytearray),
    "memoryviews": lambda w: OnlyReads(wrap=memoryview),
    "MagicMock": mocked,
    "FileIO subclass": lambda w: kept(w, Shouting(stored(w))),
    "reader on a subclass": lambda w: kept(w, io.BufferedReader(ShoutingInto(stored(w)))),
    "BufferedReader subclass": lambda w: kept(w, ShoutingReader(io.FileIO(stored(w)))),
    "own read": lambda w: patched(opened(w, stored(w), "rb")),
    "own raw read": lambda w: patched(opened(w, stored(w), "rb", buffering=0)),
    "own readinto": raw_patched,
    "own read of a wrapper": lambda w: patched(temporary(w, tempfile.NamedTemporaryFile)),
    "own read of the file in a wrapper": lambda w: patched_inside(w),
}
REAL_SOURCES = list(SOURCES)[: list(SOURCES).index("spooled")]


def opened_by(wires, open_, data):
    return kept(wires, open_(stored(wires, data)))


def patched_inside(wires):
    wrapper = temporary(wires, tempfile.NamedTemporaryFile)
    patched(wrapper.file)
    return wrapper


# ---- every kind of destination, with some bytes written before ----------------------------------


class Sink:
    """Where to copy to, and how to read all of it back."""

    def __init__(self, file, content):
        self.file, self.content = file, content


def to_path(wires, opener):
    path = wires.tmp_path / f"sink-{len(list(wires.tmp_path.iterdir()))}"
    path.write_bytes(b"old content" * 3)
    file = kept(wires, opener(path))

    def content():
        file.close()
        return path.read_bytes()

    return Sink(file, content)


def to_temporary(wires, make, **kwargs):
    file = kept(wires, make(dir=wires.tmp_path, **kwargs))

    def content():
        file.seek(0)
        return file.read()

    return Sink(file, content)


def to_stream(wires, kind, **kwargs):
    sink = wires.sink(kind)
    if kind == "pipe":
        os.set_blocking(sink.fd, True)
        file = opened(wires, sink.fd, "wb", closefd=False, **kwargs)
    else:
        file = kept(wires, sink.end.makefile("wb", **kwargs))

    def content():
        file.flush()
        if kind != "pipe":
            sink.end.shutdown(socket.SHUT_WR)
        return sink.received()

    return Sink(file, content)


def to_wfile(wires):
    """What http.server writes its answers to."""
    near, far = wires.sockets("tcp4")
    received = Worker(lambda: b"".join(iter(lambda: far.recv(MIB), b"")))

    def content():
        near.shutdown(socket.SHUT_WR)
        return received.result()

    wires.ends.callback(near.close)
    return Sink(socketserver._SocketWriter(near), content)


class OnlyWrites:
    """An object with write() and nothing else."""

    def __init__(self):
        self.parts = []

    def write(self, block):
        self.parts.append(bytes(block))


def to_only_write(wires):
    sink = OnlyWrites()
    return Sink(sink, lambda: b"".join(sink.parts))


def to_memory(wires):
    memory = io.BytesIO()
    return Sink(memory, memory.getvalue)


class ShoutingOut(io.FileIO):
    def write(self, block):
        return super().write(bytes(block).swapcase())


def own_write(file):
    real = file.write
    file.write = lambda block: real(bytes(block).swapcase())
    return file


def to_zip(wires):
    path = wires.tmp_path / f"zip-{len(list(wires.tmp_path.iterdir()))}"
    archive = kept(wires, zipfile.ZipFile(path, "w"))
    member = kept(wires, archive.open("member", "w"))

    def content():
        member.close()
        archive.close()
        with zipfile.ZipFile(path) as again:
            return again.read("member")

    return Sink(member, content)


def to_gzip(wires):
    sink = to_path(wires, lambda path: gzip.open(path, "wb"))
    return Sink(sink.file, lambda: gzip.decompress(sink.content()))


def to_map(wires):
    memory = kept(wires, mmap.mmap(-1, len(DATA) + 100))
    return Sink(memory, lambda: memory[:])


SINKS = {
    "FileIO": lambda w: to_path(w, lambda p: open(p, "wb", buffering=0)),
    "BufferedWriter": lambda w: to_path(w, lambda p: open(p, "wb")),
    "BufferedRandom": lambda w: to_path(w, lambda p: open(p, "r+b")),
    "appending": lambda w: to_path(w, lambda p: open(p, "ab")),
    "raw appending": lambda w: to_path(w, lambda p: open(p, "ab", buffering=0)),
    "TemporaryFile": lambda w: to_temporary(w, tempfile.TemporaryFile),
    "NamedTemporaryFile": lambda w: to_temporary(w, tempfile.NamedTemporaryFile),
    "spooled, rolled": lambda w: to_temporary(w, tempfile.SpooledTemporaryFile, max_size=1),
    "pipe": lambda w: to_stream(w, "pipe"),
    "raw pipe": lambda w: to_stream(w, "pipe", buffering=0),
    "makefile": lambda w: to_stream(w, "unix"),
    "raw makefile": lambda w: to_stream(w, "unix", buffering=0),
    "wfile": to_wfile,
    "spooled": lambda w: to_temporary(w, tempfile.SpooledTemporaryFile, max_size=MIB),
    "spooled, rolls": lambda w: to_temporary(w, tempfile.SpooledTemporaryFile, max_size=99),
    "BytesIO": to_memory,
    "GzipFile": to_gzip,
    "zip member": to_zip,
    "mmap": to_map,
    "only write()": to_only_write,
    "FileIO subclass": lambda w: to_path(w, lambda p: ShoutingOut(p, "w")),
    "writer on a subclass": lambda w: to_path(w, lambda p: io.BufferedWriter(ShoutingOut(p, "w"))),
    "own write": lambda w: to_path(w, lambda p: own_write(open(p, "wb"))),
    "own raw write": lambda w: to_path(w, lambda p: own_write(open(p, "wb", buffering=0))),
    "own write of a wrapper": lambda w: Sink(
        own_write((sink := to_temporary(w, tempfile.NamedTemporaryFile)).file), sink.content
    ),
}
REAL_SINKS = list(SINKS)[: list(SINKS).index("spooled")]


MET_BY_ALL = ("BufferedReader", "makefile", "BufferedWriter", "raw pipe", "BytesIO")


def pairs(sources, sinks, met_by_all):
    """Pairs of what is judged one by one: each meets these few; all meet all in the full run."""
    return [
        (src, dst)
        for src, dst in itertools.product(sources, sinks)
        if FULL or src in met_by_all or dst in met_by_all
    ]


def told(file):
    """Say where an object is, if it is anywhere."""
    try:
        return file.tell()
    except (AttributeError, OSError, TypeError, ValueError, io.UnsupportedOperation):
        return None


def outcome(wires, copy, src, dst):
    """Copy one pair; return everything that can be seen of it after."""
    source, sink = SOURCES[src](wires), SINKS[dst](wires)
    first = bytes(source.read(10))
    sink.file.write(b"before ")
    returned = copy(source, sink.file)
    at = () if src == "MagicMock" else (told(source), told(sink.file))
    after = source.read(10)
    sink.file.write(b" after")
    rolled = [getattr(file, "_rolled", None) for file in (source, sink.file)]
    seen = (first, at, bytes(after), rolled if src != "MagicMock" else None, sink.content())
    return seen, returned


@pytest.mark.parametrize(("src", "dst"), pairs(SOURCES, SINKS, MET_BY_ALL))
def test_any_pair_is_copied_as_shutil_copies_it(wires, src, dst):
    """Content, positions, what comes next; and the kernel moved it where both are real."""
    expected, _ = outcome(wires, shutil.copyfileobj, src, dst)
    seen, result = outcome(wires, copyfileobj, src, dst)
    assert seen == expected
    length = 27_000 if src == "data URL" else len(DATA)
    assert result.moved == length - 10
    assert sum(result.by_method.values()) == result.moved
    if src in REAL_SOURCES and dst in REAL_SINKS:
        assert result.method in REAL
    else:
        assert result.method == "python"
        assert result.by_method == {"python": result.moved}
        [reason] = result.fallbacks
        assert (reason.method, reason.errno) == ("copy", 0)
        assert reason.why.startswith("src" if src not in REAL_SOURCES else "dst")


def test_a_plain_socket_is_an_object_too(wires):
    """What shutil does not take: a socket, with a real object or with memory at the other end."""
    near, far = wires.sockets("unix")
    result = copyfileobj(sent(wires), near)
    assert result.method in REAL
    assert copyfileobj(io.BytesIO(b"memory"), near).method == "python"
    near.shutdown(socket.SHUT_WR)
    memory = io.BytesIO()
    assert copyfileobj(far, memory).moved == len(DATA) + 6
    assert memory.getvalue() == DATA + b"memory"


# ---- text ---------------------------------------------------------------------------------------

TEXTS = {
    "StringIO": lambda w: io.StringIO(TEXT),
    "TextIOWrapper": lambda w: opened(w, stored(w, TEXT.encode()), encoding="utf-8"),
    "StreamReaderWriter": lambda w: kept(w, codecs.open(stored(w, TEXT.encode()), "r", "utf-8")),
    "NamedTemporaryFile": lambda w: temporary(
        w, tempfile.NamedTemporaryFile, TEXT, mode="w+", encoding="utf-8"
    ),
    "makefile": lambda w: kept(w, sent(w, TEXT.encode()).makefile(encoding="utf-8")),
}
TEXT_SINKS = {
    "StringIO": lambda w: io.StringIO(),
    "TextIOWrapper": lambda w: opened(w, w.tmp_path / "t", "w", encoding="utf-16"),
    "spooled": lambda w: kept(
        w, tempfile.SpooledTemporaryFile(mode="w+", encoding="utf-8", max_size=9)
    ),
    "StreamReaderWriter": lambda w: kept(w, codecs.open(w.tmp_path / "c", "w", "utf-8")),
}


@pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")
@pytest.mark.parametrize("src", TEXTS)
@pytest.mark.parametrize("dst", TEXT_SINKS)
def test_text_is_copied_by_characters(wires, src, dst):
    """Decoded and encoded as the objects do it, and counted in characters."""
    seen = []
    for copy in (shutil.copyfileobj, copyfileobj):
        source, sink = TEXTS[src](wires), TEXT_SINKS[dst](wires)
        assert source.readline(7) == TEXT[:7]
        result = copy(source, sink, 4096)
        sink.flush()
        if isinstance(sink, io.StringIO):
            content = sink.getvalue()
        elif dst == "spooled":
            sink.seek(0)
            content = sink.read()
        else:
            content = (wires.tmp_path / ("t" if dst == "TextIOWrapper" else "c")).read_bytes()
        seen.append((told(source), content))
        sink.close()
    assert seen[0] == seen[1]
    assert result.method == "python"
    # A codecs reader has read the line ahead of its seven characters, and gives it first.
    assert result.moved == len(TEXT) - 7


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        (lambda w: io.StringIO("text"), lambda w: io.BytesIO()),
        (lambda w: io.BytesIO(b"bytes"), lambda w: io.StringIO()),
        (lambda w: io.StringIO("text"), lambda w: opened(w, w.tmp_path / "f", "wb")),
        (lambda w: io.StringIO("text"), lambda w: opened(w, w.tmp_path / "f", "wb", buffering=0)),
        (lambda w: opened(w, stored(w), "rb"), lambda w: opened(w, w.tmp_path / "f", "w")),
        (lambda w: opened(w, stored(w, b"text")), lambda w: opened(w, w.tmp_path / "f", "wb")),
    ],
)
def test_text_and_bytes_do_not_mix(wires, src, dst):
    """TypeError, as the object says it, and no byte through the descriptors."""
    for copy in (shutil.copyfileobj, copyfileobj):
        sink = dst(wires)
        with pytest.raises(TypeError):
            copy(src(wires), sink)
        assert sink.tell() == 0


# ---- garbage ------------------------------------------------------------------------------------


def connection(wires):
    near, far = multiprocessing.Pipe()
    return kept(wires, near) and kept(wires, far)


def closed(file):
    file.close()
    return file


def detached(wires):
    file = opened(wires, stored(wires), "rb")
    kept(wires, file.detach())
    return file


def timed_out(wires):
    near, _ = wires.sockets("unix")
    near.settimeout(0)
    near.settimeout(1e-6)
    file = kept(wires, near.makefile("rb"))
    with pytest.raises(TimeoutError):
        file.read(1)
    return file


def listening(wires):
    return kept(wires, wires.ends.sock(socket.create_server(("127.0.0.1", 0))).makefile("rb"))


GARBAGE = {
    "None": lambda w: None,
    "int": lambda w: w.file(DATA),
    "str": lambda w: "name",
    "path": stored,
    "list": lambda w: [],
    "Connection": connection,
    "class": lambda w: io.FileIO,
    "closed": lambda w: closed(opened(w, stored(w), "rb")),
    "closed writer": lambda w: closed(opened(w, stored(w), "wb")),
    "closed raw": lambda w: closed(opened(w, stored(w), "rb", buffering=0)),
    "closed raw writer": lambda w: closed(opened(w, stored(w), "wb", buffering=0)),
    "closed BytesIO": lambda w: closed(io.BytesIO()),
    "closed makefile": lambda w: closed(sent(w).makefile("rb")),
    "closed wrapper": lambda w: closed(temporary(w, tempfile.NamedTemporaryFile)),
    "detached": detached,
    "write only": lambda w: opened(w, stored(w), "wb"),
    "raw write only": lambda w: opened(w, stored(w), "wb", buffering=0),
    "read only": lambda w: opened(w, stored(w), "rb"),
    "raw read only": lambda w: opened(w, stored(w), "rb", buffering=0),
    "timed out": timed_out,
    "listening": listening,
}


@pytest.mark.parametrize(
    ("src", "dst"),
    pairs([*GARBAGE, "BytesIO"], [*GARBAGE, "BytesIO"], ["BytesIO", "closed makefile"]),
)
def test_garbage_raises_what_shutil_raises(wires, src, dst):
    """The same type of exception, or none, with everything that cannot be copied."""
    seen = []
    for copy in (shutil.copyfileobj, copyfileobj):
        source = GARBAGE.get(src, lambda w: io.BytesIO(DATA))(wires)
        sink = GARBAGE.get(dst, lambda w: io.BytesIO())(wires)
        try:
            copy(source, sink)
        except Exception as error:
            seen.append((type(error), getattr(error, "errno", None)))
        else:
            seen.append(None)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("length", [None, False, 0, 1, 7, 65536, -1, 2**63 - 1])
@pytest.mark.parametrize("src", ["FileIO", "BufferedReader", "BytesIO", "only read()"])
def test_any_length_that_shutil_takes(wires, src, length):
    """None and 0 are the default, a negative one is all at once; the content is the same."""
    if length == 2**63 - 1 and src == "FileIO":
        length = 1 << 20  # shutil would ask for that much memory
    if length == 2**63 - 1 and src == "BufferedReader":
        length = 1 << 30
    for dst in ("FileIO", "BytesIO"):
        sink = SINKS[dst](wires)
        assert copyfileobj(SOURCES[src](wires), sink.file, length).moved == len(DATA)
        assert sink.content() == DATA


@pytest.mark.parametrize("length", ["many", 1.5, [1], 2**70, -(2**70), object()])
@pytest.mark.parametrize("src", ["FileIO", "BufferedReader", "BytesIO"])
def test_a_length_that_no_read_takes(wires, src, length):
    """The error of read(), and nothing copied."""
    seen = []
    for copy in (shutil.copyfileobj, copyfileobj):
        sink = to_path(wires, lambda path: open(path, "wb"))
        with pytest.raises((TypeError, OverflowError, ValueError)) as caught:
            copy(SOURCES[src](wires), sink.file, length)
        seen.append(caught.type)
        assert sink.content() == b""
    assert seen[0] is seen[1]


def test_the_length_is_what_read_is_asked_for():
    """Given to read() as it is; without one, 256 KiB."""
    for given, asked in ((5000, 5000), (0, 256 << 10), (-1, -1)):
        source = unittest.mock.Mock(spec=["read"])
        source.read.side_effect = [b"ab", b"c", b""]
        sink = unittest.mock.Mock(spec=["write"])
        result = copyfileobj(source, sink, given)
        assert source.mock_calls == [unittest.mock.call.read(asked)] * 3
        assert sink.mock_calls == [unittest.mock.call.write(b"ab"), unittest.mock.call.write(b"c")]
        assert result.moved == 3


def test_to_look_at_an_unknown_object_touches_nothing():
    """Only read and write are ever asked of an object, whatever else it has."""
    asked = []

    class Watched:
        def __getattribute__(self, name):
            if name != "__class__":
                asked.append(name)
            return object.__getattribute__(self, name)

        def read(self, length):
            return b""

        def write(self, block):
            raise AssertionError("there was nothing to write")

        def fileno(self):
            raise AssertionError("nobody asked for it")

    copyfileobj(Watched(), Watched())
    assert asked == ["read", "write"]


@pytest.mark.parametrize("empty", [b"", "", None, bytearray(), memoryview(b""), 0, []])
def test_whatever_is_false_ends_the_copy(empty):
    """As in shutil."""
    source = unittest.mock.Mock(spec=["read"])
    source.read.side_effect = [b"one", empty, b"never asked for"]
    sink = io.BytesIO()
    result = copyfileobj(source, sink)
    assert (sink.getvalue(), result.moved) == (b"one", 3)


def test_blocks_of_any_kind_are_counted_as_they_can_be():
    """Bytes of a buffer, whatever its items; the length of anything else; nothing for no length."""
    blocks = [memoryview(bytes(80)).cast("d"), ["a", "b"], object(), "äö", b""]
    source = unittest.mock.Mock(spec=["read"])
    source.read.side_effect = blocks
    sink = unittest.mock.Mock(spec=["write"])
    assert copyfileobj(source, sink).moved == 80 + 2 + 0 + 2
    assert [call.args[0] for call in sink.write.mock_calls] == blocks[:-1]


# ---- where shutil would lose bytes --------------------------------------------------------------


def test_a_raw_file_that_takes_a_part_gets_the_rest(wires):
    """A short write of a raw pipe or socket is gone on with; shutil would lose the rest."""
    data = payload(3 * MIB)
    for kind, closing in (("pipe", {"closefd": False}), ("unix", None)):
        sink = wires.sink(kind, nonblocking=True)
        if closing is None:
            file = kept(wires, sink.end.makefile("wb", buffering=0))
        else:
            file = opened(wires, sink.fd, "wb", buffering=0, **closing)
        result = copyfileobj(io.BytesIO(data), file, MIB)
        assert (result.method, result.moved) == ("python", len(data))
        if kind == "unix":
            sink.end.shutdown(socket.SHUT_WR)
        assert sink.received() == data


def test_a_nonblocking_destination_is_waited_for(wires):
    """Both real: copy() polls, where a BufferedWriter would raise BlockingIOError."""
    data = payload(3 * MIB)
    sink = wires.sink("pipe", nonblocking=True)
    file = opened(wires, sink.fd, "wb", closefd=False)
    with open(stored(wires, data), "rb") as source:
        result = copyfileobj(source, file)
    assert result.method == "splice"
    assert sink.received() == data


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_nonblocking_source_is_read_until_it_has_nothing(wires, buffering):
    """As shutil does: what is there is copied, and what comes later is for the next call."""
    reader, writer = wires.pipe()
    os.set_blocking(reader, False)
    source = opened(wires, reader, "rb", buffering=buffering, closefd=False)
    sink = io.FileIO(wires.file(), "r+", closefd=False)
    for part in (b"one", b"two", b""):
        if part:
            os.write(writer, part)
        result = copyfileobj(source, sink)
        assert (result.method, result.moved) == ("python", len(part))
        assert "nonblocking" in result.fallbacks[0].why
    os.close(writer)
    copyfileobj(source, sink)
    sink.seek(0)
    assert sink.read() == b"onetwo"


def test_a_socket_with_a_timeout_is_no_nonblocking_one(wires):
    """settimeout() makes the descriptor nonblocking; reads wait all the same, and so does copy."""
    near, far = wires.sockets("unix")
    near.settimeout(30)
    stream = kept(wires, near.makefile("rb"))
    with open(wires.tmp_path / "out", "wb") as sink:
        copying = Worker(lambda: copyfileobj(stream, sink))
        far.sendall(DATA)
        far.shutdown(socket.SHUT_WR)
        assert copying.result().method == "splice"
    assert (wires.tmp_path / "out").read_bytes() == DATA


def test_a_timeout_is_a_timeout(wires):
    """The socket's own, raised as reading would raise it."""
    near, _far = wires.sockets("unix")
    near.settimeout(0.01)
    stream = kept(wires, near.makefile("rb"))
    sink = opened(wires, wires.tmp_path / "out", "wb")
    with pytest.raises(TimeoutError) as caught:
        copyfileobj(stream, sink)
    assert caught.value.result.moved == 0


# ---- a file onto itself -------------------------------------------------------------------------


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("down", [0, 1, 100_000])
def test_a_file_may_be_moved_down_within_itself(wires, buffering, down):
    """From a later place of the file to an earlier one, as with shutil."""
    data = payload(700_000)
    path = stored(wires, data)
    with (
        open(path, "rb", buffering=buffering) as source,
        open(path, "r+b", buffering=buffering) as sink,
    ):
        source.seek(down)
        result = copyfileobj(source, sink)
        assert result.moved == len(data) - down
        sink.truncate(sink.tell())
    assert path.read_bytes() == data[down:]
    assert "same file" in result.fallbacks[0].why


def test_a_file_is_not_appended_to_itself(wires):
    """ValueError, where shutil goes on until the disk is full."""
    path = stored(wires)
    with (
        open(path, "rb") as source,
        open(path, "ab") as sink,
        pytest.raises(ValueError, match="sa"),
    ):
        copyfileobj(source, sink)
    assert path.read_bytes() == DATA
    with open(path, "rb") as source, open(path, "r+b") as sink:
        sink.seek(10)
        with pytest.raises(ValueError, match="same file"):
            copyfileobj(source, sink)
    assert path.read_bytes() == DATA


def test_a_file_that_is_both_is_copied_as_shutil_does(wires):
    """One object for reading and writing: whatever that gives, it gives the same."""
    seen = []
    for copy in (shutil.copyfileobj, copyfileobj):
        path = stored(wires)
        with open(path, "r+b") as file:
            file.seek(50_000)
            copy(file, file, 1 << 16)
            at = file.tell()
        seen.append((at, path.read_bytes()))
    assert seen[0] == seen[1]


# ---- errors on the way --------------------------------------------------------------------------


class Full(OnlyWrites):
    """Takes so many blocks, then fails."""

    def __init__(self, blocks, error):
        super().__init__()
        self.left, self.error = blocks, error

    def write(self, block):
        if not self.left:
            raise self.error
        self.left -= 1
        super().write(block)


def test_an_error_says_how_far_it_came():
    """`result` has what was written, `held` the block that was not."""
    sink = Full(3, OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match="full") as caught:
        copyfileobj(io.BytesIO(DATA), sink, 10_000)
    assert b"".join(sink.parts) == DATA[:30_000]
    assert caught.value.result.moved == 30_000
    assert caught.value.result.method == "python"
    assert caught.value.held == DATA[30_000:40_000]


def test_an_error_that_takes_no_attributes_is_raised_as_it_is():
    """What cannot be attached is left out."""

    class Sealed(Exception):
        result = property(lambda self: "its own")

    with pytest.raises(Sealed) as caught:
        copyfileobj(io.BytesIO(DATA), Full(0, Sealed()))
    assert caught.value.result == "its own"


def test_a_raw_file_that_fails_in_a_block(wires):
    """What it took of the block is moved; the rest is held."""
    reader, writer = wires.pipe(65536)
    file = opened(wires, writer, "wb", buffering=0, closefd=False)
    os.set_blocking(writer, False)

    class Source:
        calls = 0

        def read(self, length):
            return DATA

    # The pipe takes 64 KiB; while the rest is waited for, its reader goes.
    copying = Worker(lambda: copyfileobj(Source(), file))
    held = Worker(lambda: os.read(reader, 1))
    held.result()
    os.close(reader)
    with pytest.raises(BrokenPipeError) as caught:
        copying.result()
    moved = caught.value.result.moved
    assert 0 < moved < len(DATA)
    assert DATA[moved:] == caught.value.held


def test_a_real_pair_that_fails(wires, monkeypatch):
    """As copy(): the counts, and what was taken and not written."""
    source = opened(wires, piped(wires), "rb", closefd=False)
    first = source.read(10)
    sink = wires.file()
    script = Seam(cap("splice", 1000, times=1), fail("splice", errno.ENOSPC))
    with (
        script.everywhere(monkeypatch),
        pytest.raises(OSError, match="full") as caught,
        open(sink, "r+b", closefd=False) as file,
    ):
        copyfileobj(source, file)
    moved = caught.value.result.moved
    written = os.pread(sink, MIB, 0)
    assert len(written) == moved
    assert first + written + caught.value.held + source.read() == DATA


SMALL = 8192  # of a buffer, which by default holds all of DATA from Python 3.14 on


@pytest.mark.parametrize("dst", ["raw pipe", "pipe", "makefile", "wfile"])
@pytest.mark.parametrize("src", ["BufferedReader", "BytesIO"])
def test_nobody_reads_any_more(wires, src, dst):
    """BrokenPipeError, as of shutil, when the reader has gone."""
    if dst.endswith("pipe"):
        reader, writer = wires.pipe()
        file = opened(wires, writer, "wb", buffering=0 if "raw" in dst else SMALL, closefd=False)
        os.close(reader)
    else:
        near, far = wires.sockets("unix")
        wfile = socketserver._SocketWriter(near)
        file = wfile if dst == "wfile" else kept(wires, near.makefile("wb", SMALL))
        far.close()
    with pytest.raises(BrokenPipeError):
        copyfileobj(SOURCES[src](wires), file)


# ---- TLS ----------------------------------------------------------------------------------------


def encrypted(wires):
    """Two ends of a TLS connection, without certificates."""
    near, far = wires.sockets("unix")
    sides = []
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")
        sides.append(context)
    server = Worker(lambda: sides[1].wrap_socket(far, server_side=True))
    client = wires.ends.sock(sides[0].wrap_socket(near))
    return client, wires.ends.sock(server.result())


@pytest.mark.parametrize("made", [False, True], ids=["SSLSocket", "makefile"])
def test_tls_is_never_gone_around(wires, made):
    """What arrives is what TLS decrypts: no plain byte is put on the wire or taken from it."""
    client, server = encrypted(wires)
    received = Worker(lambda: copyfileobj(server, io.BytesIO()))
    out = kept(wires, client.makefile("wb")) if made else client
    with open(stored(wires), "rb") as source:
        sent_result = copyfileobj(source, out)
    if made:
        out.flush()
    client.shutdown(socket.SHUT_WR)
    result = received.result()
    assert sent_result.method == result.method == "python"
    assert result.moved == sent_result.moved == len(DATA)


# ---- what stands on it --------------------------------------------------------------------------


def test_a_childs_output_goes_into_a_file_by_splice(wires, tmp_path):
    """Popen's pipes are real."""
    script = f"import sys; sys.stdout.buffer.write(bytes({len(DATA)}))"
    with (
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child,
        open(tmp_path / "out", "wb") as sink,
    ):
        assert copyfileobj(child.stdout, sink).by_method == {"splice": len(DATA)}
    assert (tmp_path / "out").read_bytes() == bytes(len(DATA))


def test_http_server_sends_files_by_sendfile(wires, tmp_path, monkeypatch):
    """The standard library's server, with ours in the place of shutil's."""
    results = []

    def counted(*args):
        results.append(copyfileobj(*args))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "page").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "copyfileobj", counted)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Worker(server.handle_request)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/page") as answer:
            assert answer.read() == DATA
        serving.result()
    assert [result.by_method for result in results] == [{"sendfile": len(DATA)}]


def test_a_digest_is_taken_of_the_real_bytes(tmp_path):
    """A checksum with update() as write(): every byte passes through it once."""
    (tmp_path / "in").write_bytes(DATA)
    sums = []
    sink = unittest.mock.Mock(spec=["write"])
    sink.write.side_effect = lambda block: sums.append(zlib.crc32(block, sums[-1] if sums else 0))
    with open(tmp_path / "in", "rb") as source:
        copyfileobj(source, sink, 1000)
    assert sums[-1] == zlib.crc32(DATA)


def test_what_it_returns_is_a_transfer_result(tmp_path):
    """Every field is there, on both ways."""
    (tmp_path / "in").write_bytes(DATA)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        results = [copyfileobj(source, sink), copyfileobj(source, sink)]
        results.append(copyfileobj(source, io.BytesIO()))
    assert [result.moved for result in results] == [len(DATA), 0, 0]
    assert all(isinstance(result, TransferResult) and result.seconds >= 0 for result in results)
    assert results[2].by_method == {}


def test_threads_may_copy_at_once(tmp_path):
    """Nothing is shared between calls."""
    (tmp_path / "in").write_bytes(DATA)

    def one(number):
        with open(tmp_path / "in", "rb") as source, open(tmp_path / f"{number}", "wb") as sink:
            copyfileobj(source, sink)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / f"{number}").read_bytes() == DATA for number in range(8))


STANDARD = """
    import shutil, sys, unittest
    import spliceio

    methods = set()

    def counted(*args, **kwargs):
        result = spliceio.copyfileobj(*args, **kwargs)
        methods.add(result.method)
        return result

    shutil.copyfileobj = counted
    program = unittest.main(module=None, argv=["unittest", "-q", *sys.argv[1:]], exit=False)
    assert program.result.testsRun > 0
    assert "python" in methods, methods
    print("passed" if program.result.wasSuccessful() else "failed")
"""


@pytest.mark.parametrize("suite", ["test_shutil", "test_httpservers"])
def test_the_tests_of_the_standard_library_pass(tmp_path, suite):
    """CPython's own tests of shutil, and of the server that uses it, with ours in its place."""
    try:
        found = importlib.util.find_spec(f"test.{suite}")
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip("this Python came without its tests")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STANDARD), f"test.{suite}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split()[-1:] == ["passed"], done.stderr
