"""send_file: what leaves, by which method, in which packets, and from where in the file.

Rule 1: header, file and trailer arrive whole and in this order, on every transport, in every mode.
Rule 2: the method is the one the pair is known for; header and trailer are counted apart from it.
Rule 3: the options of the socket and the position of the file are afterwards what they were.
Rule 4: a refused call has sent nothing, and has touched no option.
"""

from __future__ import annotations

import array
import bz2
import functools
import gzip
import io
import lzma
import os
import select
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

import pytest

import spliceio
from spliceio import send_file
from spliceio._cffi import lib
from tests.support.cases import cases
from tests.support.programs import need
from tests.support.tcp import connection, segments, unsent
from tests.support.wires import FILES, MIB, SOCKETS, payload, transports

DATA = payload(5 << 20)
LONG = payload(8 << 20, seed=2)
"""More than any socket's or pipe's buffer holds."""
HEADER, TRAILER = payload(200, seed=3), b"\n"
SIZES = [0, 1, 4095, 4096, 4097, 65536, 5 << 20]
DESTINATIONS = ("tcp4", "tcp6", "unix", "mptcp", "pipe", "fifo", "file", "tmpfs")
MODES = ("blocking", "nonblocking", "timeout")
TEXTS = {
    "header": (HEADER, b""),
    "trailer": (b"", HEADER),
    "one byte each": (b"<", b">"),
    "200 bytes each": (HEADER, HEADER[::-1]),
    "long header": (LONG, TRAILER),
    "long trailer": (HEADER, LONG),
    "both long": (LONG, LONG[::-1]),
}


def sink_of(wires, kind, mode):
    """Make a sink in a mode, and the options of the call that belong to it."""
    sink = wires.sink(kind, nonblocking=mode == "nonblocking")
    if mode == "timeout" and kind not in SOCKETS:
        return sink, {"timeout": 30}
    if kind in SOCKETS:
        sink.end.settimeout({"blocking": None, "nonblocking": 0, "timeout": 30}[mode])
    return sink, {}


def method_for(kind, file, end, longest=0):
    """Name the method that must run: known for sockets and pipes, as planned between files.

    `longest` is the length of the longer one of header and trailer.
    """
    size = os.fstat(file).st_size
    if kind in SOCKETS and 0 < size <= lib.SIO_ACT_SMALL and longest <= lib.SIO_ACT_SMALL:
        return "read_write"
    if kind not in FILES:
        return "sendfile" if kind in SOCKETS else "splice"
    return spliceio.explain(file, end).method


# ---- contents and methods -----------------------------------------------------------------------


@cases(dst=DESTINATIONS, mode=MODES, size=SIZES)
def test_a_file_between_header_and_trailer(wires, dst, mode, size):
    """Every byte arrives once; the method is the pair's, the rest was sent from memory."""
    file = wires.file(DATA[:size])
    sink, options = sink_of(wires, dst, mode)
    method = method_for(dst, file, sink.end)
    result = send_file(sink.end, file, header=HEADER, trailer=TRAILER, **options)
    assert sink.received() == HEADER + DATA[:size] + TRAILER
    assert result.moved == len(HEADER) + size + len(TRAILER)
    assert result.method == method or (size == 0 and dst in FILES)  # of nothing, any will do
    around = {"send": len(HEADER) + len(TRAILER)}
    assert result.by_method == (around | {method: size} if size else around)
    assert result.seconds >= 0


@cases(dst=DESTINATIONS, mode=MODES, size=SIZES)
def test_a_file_alone(wires, dst, mode, size):
    """Without header and trailer nothing is added, and nothing but the method is counted."""
    file = wires.file(DATA[:size])
    sink, options = sink_of(wires, dst, mode)
    method = method_for(dst, file, sink.end)
    result = send_file(sink.end, file, **options)
    assert sink.received() == DATA[:size]
    assert result.moved == size
    assert result.method == method or (size == 0 and dst in FILES)
    assert result.by_method == ({method: size} if size else {})


@cases(dst=DESTINATIONS, mode=MODES, texts=TEXTS)
def test_headers_and_trailers_of_all_lengths(wires, dst, mode, texts):
    """From none to more than the buffer of a nonblocking socket."""
    header, trailer = TEXTS[texts]
    file = wires.file(DATA[:4097])
    sink, options = sink_of(wires, dst, mode)
    method = method_for(dst, file, sink.end, max(len(header), len(trailer)))
    result = send_file(sink.end, file, header=header, trailer=trailer, **options)
    assert sink.received() == header + DATA[:4097] + trailer
    assert result.method == method
    assert result.by_method == {method: 4097, "send": len(header) + len(trailer)}


def test_a_terminal_takes_a_file_too(wires):
    """Whatever copy() takes as its destination."""
    sink = wires.sink("tty", collecting=False)
    result = send_file(sink.end, wires.file(b"file"), header=b"header ", trailer=b" trailer")
    assert sink.received() == b"header file trailer"
    assert result.by_method[result.method] == 4


@pytest.mark.parametrize("dst", ["tcp4", "unix", "pipe", "file"])
@pytest.mark.parametrize(
    ("offset", "count"),
    [
        *[(0, None), (0, 0), (0, 1), (1, None), (4095, 2), (5, 60_000), (0, 70_001)],
        *[(70_000, None), (70_000, 0), (70_000, 1), (70_001, None), (70_001, 0)],
    ],
)
def test_a_part_of_a_file(wires, dst, offset, count):
    """Offset and count are those of a slice; the end of the file is a good place to begin."""
    data = DATA[:70_001]
    file, (sink, _) = wires.file(data), sink_of(wires, dst, "blocking")
    expected = data[offset:] if count is None else data[offset : offset + count]
    result = send_file(sink.end, file, offset, count, header=b"[", trailer=b"]")
    assert sink.received() == b"[" + expected + b"]"
    assert result.moved == len(expected) + 2


def test_a_file_opened_for_appending_is_appended_to(wires):
    """Header and trailer too; what the zero-copy calls say to it is recorded."""
    log = wires.file(b"before ", flags=os.O_RDWR | os.O_APPEND)
    result = send_file(log, wires.file(DATA), header=HEADER, trailer=TRAILER)
    expected = b"before " + HEADER + DATA + TRAILER
    assert os.pread(log, len(expected) + 1, 0) == expected
    assert result.by_method == {"read_write": len(DATA), "send": len(HEADER) + 1}
    assert result.fallbacks


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_file_onto_itself(wires, at):
    """ValueError: it would send what it has just written."""
    file = wires.file(b"0123456789")
    os.lseek(file, at, os.SEEK_SET)
    with pytest.raises(ValueError, match="same file"):
        send_file(file, file, 0, 8, header=b"header")
    assert os.pread(file, 20, 0) == b"0123456789"


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_an_int_is_as_good_as_a_socket(wires, kind):
    """A descriptor's number for both ends, whatever its mode."""
    sink = wires.sink(kind, nonblocking=True)
    result = send_file(sink.fd, wires.file(DATA), header=LONG)
    assert sink.received() == LONG + DATA
    assert result.by_method == {"sendfile": len(DATA), "send": len(LONG)}


def test_a_buffered_writer_is_flushed_before(wires):
    """What makefile("wb") has not sent yet comes first."""
    sink = wires.sink("tcp4")
    with sink.end.makefile("wb") as file:
        file.write(b"earlier ")
        send_file(file, wires.file(b"file"), header=b"header ")
        file.write(b" later")
    assert sink.received() == b"earlier header file later"


@pytest.mark.parametrize(
    "kind", [bytearray, memoryview, lambda data: array.array("I", data)], ids=["array", "view", "I"]
)
def test_what_is_bytes_like_is_a_header(wires, kind):
    """Counted in bytes, whatever the size of its items; and given back when the call is over."""
    sink = wires.sink("tcp4")
    header, trailer = kind(HEADER), kind(HEADER[::-1])
    result = send_file(sink.end, wires.file(b"file"), header=header, trailer=trailer)
    assert sink.received() == HEADER + b"file" + HEADER[::-1]
    assert result.by_method == {"sendfile": 4, "send": 400}
    if isinstance(header, bytearray):
        header += b"may grow again"


def test_progress_is_told_the_total_with_the_header(wires):
    """It grows, and ends with the result."""
    sink, told = wires.sink("tcp4"), []
    result = send_file(sink.end, wires.file(DATA), header=HEADER, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == result.moved == len(HEADER) + len(DATA)
    assert min(told) >= len(HEADER)


@pytest.mark.parametrize("kind", ["file", "tmpfs", "memfd"])
def test_a_sparse_file_beyond_4_gib(wires, kind):
    """Offsets are 64 bits wide; a hole is zeros."""
    file, sink = wires.file(kind=kind), wires.sink("tcp4")
    at = 5 << 30
    os.pwrite(file, b"far out", at)
    send_file(sink.end, file, at - 3, header=b"[", trailer=b"]")
    assert sink.received() == b"[\0\0\0far out]"


@pytest.fixture
def block_device(wires):
    """Give a block device of 1 MiB with the first MiB of DATA; gone when it is closed."""
    path = wires.tmp_path / "disk"
    path.write_bytes(DATA[:MIB])
    attach = [need("losetup"), "--read-only", "--show", "--find", path]
    attached = subprocess.run(attach, capture_output=True, text=True, check=False)
    if attached.returncode:
        pytest.skip(f"no loop device here: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    try:
        return wires.ends.fd(os.open(device, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        subprocess.run([need("losetup"), "--detach", device], check=True)


@pytest.mark.parametrize("dst", ["tcp4", "pipe", "file"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (MIB - 5000, None), (100, 9000)])
def test_a_block_device(wires, block_device, dst, offset, count):
    """It has a size, though fstat() does not tell it."""
    expected, sink = DATA[:MIB][offset:][:count], wires.sink(dst)
    result = send_file(sink.end, block_device, offset, count, header=HEADER, trailer=TRAILER)
    assert sink.received() == HEADER + expected + TRAILER
    assert result.by_method[result.method] == len(expected)


@pytest.mark.parametrize("args", [(MIB + 1,), (0, MIB + 1), (MIB, 1)])
def test_what_is_beyond_a_block_device(block_device, silent, args):
    """ValueError, as for a file."""
    refused(silent, block_device, ValueError, str(MIB), *args)


# ---- files whose size the kernel makes up -------------------------------------------------------

MADE_UP = [
    "/proc/version",
    "/proc/filesystems",
    "/proc/self/cmdline",
    "/proc/self/environ",
    "/proc/sys/kernel/pid_max",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/devices/system/cpu/online",
    "/sys/kernel/tracing/README",
    "/sys/fs/cgroup/cgroup.controllers",
    "/sys/fs/cgroup/pids/notify_on_release",
]


def made_up(wires, path):
    if not os.access(path, os.R_OK):
        pytest.skip(f"{path} cannot be read here")
    return wires.ends.fd(os.open(path, os.O_RDONLY)), Path(path).read_bytes()


@pytest.mark.parametrize("path", MADE_UP)
@pytest.mark.parametrize("dst", ["tcp4", "unix", "pipe", "file"])
def test_a_file_of_the_kernel_is_sent_in_full(wires, path, dst):
    """Its st_size is 0 or 4096, and never the truth; its content arrives all the same."""
    file, content = made_up(wires, path)
    sink = wires.sink(dst)
    result = send_file(sink.end, file, header=HEADER, trailer=TRAILER)
    assert sink.received() == HEADER + content + TRAILER
    assert result.moved == len(HEADER) + len(content) + 1
    assert result.by_method[result.method] == len(content)


def test_a_file_of_the_kernel_that_changes(wires):
    """/proc/self/status, to its end."""
    file, _ = made_up(wires, "/proc/self/status")
    sink = wires.sink("tcp4")
    result = send_file(sink.end, file)
    got = sink.received()
    assert got.startswith(b"Name:")
    assert b"nonvoluntary_ctxt_switches:" in got
    assert (len(got), got[-1:]) == (result.moved, b"\n")


@pytest.mark.parametrize("path", MADE_UP[:1] + MADE_UP[5:7])
def test_a_count_of_a_file_of_the_kernel(wires, path):
    """With a count, that many; and an error where there are not so many."""
    file, content = made_up(wires, path)
    sink = wires.sink("tcp4")
    assert send_file(sink.end, file, 1, 2, header=b"[", trailer=b"]").moved == 4
    with pytest.raises(spliceio.UnexpectedEOF) as caught:
        send_file(sink.end, file, 0, len(content) + 1, header=b"<", trailer=b">")
    assert caught.value.result.moved == 1 + len(content)
    assert sink.received() == b"[" + content[1:3] + b"]<" + content


# ---- packets ------------------------------------------------------------------------------------

CONNECTIONS = pytest.mark.parametrize("kind", transports("tcp4", "tcp6"))
nodelays = pytest.mark.parametrize("nodelay", [0, 1], ids=["nagle", "nodelay"])


def options(sock):
    return [
        sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_CORK, socket.TCP_NODELAY)
    ]


def take(far, count):
    """Receive exactly so many bytes."""
    got = far.recv(count, socket.MSG_WAITALL)
    assert len(got) == count
    return got


@CONNECTIONS
@nodelays
def test_what_the_packets_are_measured_against(wires, kind, nodelay):
    """Header, file and trailer by plain calls: several segments, or a wait for an ACK."""
    near, _far = connection(wires, kind, nodelay)
    near.send(HEADER)
    os.sendfile(near.fileno(), wires.file(DATA[:1000]), 0, 1000)
    near.send(TRAILER)
    assert (segments(near), unsent(near)) == ((3, 0) if nodelay else (1, 1001))


@CONNECTIONS
@nodelays
@pytest.mark.parametrize("size", [0, 1, 1000, 16_000])
@pytest.mark.parametrize("texts", ["header", "trailer", "one byte each", "200 bytes each"])
def test_a_small_file_is_one_packet(wires, kind, nodelay, size, texts):
    """Header, file and trailer in one segment, which has left when the call returns."""
    header, trailer = TEXTS[texts]
    near, far = connection(wires, kind, nodelay)
    send_file(near, wires.file(DATA[:size]), header=header, trailer=trailer)
    assert (segments(near), unsent(near)) == (1, 0)
    assert options(near) == [0, nodelay]
    whole = header + DATA[:size] + trailer
    assert take(far, len(whole)) == whole


@CONNECTIONS
@nodelays
@pytest.mark.parametrize("mode", ["blocking", "nonblocking"])
def test_small_files_in_a_row_are_one_packet_each(wires, kind, nodelay, mode):
    """Neither the cork nor Nagle holds back the end of one, though nothing is acknowledged yet."""
    near, far = connection(wires, kind, nodelay)
    near.setblocking(mode == "blocking")
    file = wires.file(DATA[:1000])
    for done in range(1, 9):  # the initial congestion window is 10 segments
        send_file(near, file, header=HEADER, trailer=TRAILER)
        assert (segments(near), unsent(near)) == (done, 0)
        assert options(near) == [0, nodelay]
    assert take(far, 8 * 1201) == (HEADER + DATA[:1000] + TRAILER) * 8


@nodelays
def test_a_large_file_leaves_nothing_behind(wires, nodelay):
    """The last, partial segment is not held back by cork or Nagle."""
    near, far = connection(wires, nodelay=nodelay)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    size = 300_001
    send_file(near, wires.file(DATA[:size]), header=HEADER, trailer=TRAILER)
    whole = HEADER + DATA[:size] + TRAILER
    assert take(far, len(whole)) == whole  # before the queue is looked at: windows are the peer's
    assert unsent(near) == 0
    assert options(near) == [0, nodelay]


@nodelays
def test_a_socket_that_the_caller_has_corked_stays_corked(wires, nodelay):
    """Two responses and a word of the caller's go out when the caller says so, or 200 ms later."""
    near, far = connection(wires, nodelay=nodelay, cork=1)
    near.send(b"caller's ")
    for _ in range(2):
        send_file(near, wires.file(b"file "), header=b"header ", trailer=b"trailer ")
        assert options(near) == [1, nodelay]
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    expected = b"caller's " + b"header file trailer " * 2
    assert take(far, len(expected)) == expected
    assert segments(near) == 1


# ---- the position of the file -------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA[:100_000])
    return path


OPENED = {
    "raw": functools.partial(open, mode="rb", buffering=0),
    "reader": functools.partial(open, mode="rb"),
    "random": functools.partial(open, mode="r+b"),
    "temporary": lambda path: filled(tempfile.TemporaryFile(), path),  # noqa: SIM115
    "named": lambda path: filled(tempfile.NamedTemporaryFile(), path),  # noqa: SIM115
    "spooled": lambda path: filled(tempfile.SpooledTemporaryFile(), path),  # noqa: SIM115
}


def filled(file, path):
    file.write(path.read_bytes())
    file.seek(0)
    return file


@pytest.mark.parametrize("opened", OPENED)
@pytest.mark.parametrize("dst", ["tcp4", "pipe", "file"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (500, 100), (100_000, None), (3, 0)])
def test_a_file_object_stays_where_it_is(wires, path, opened, dst, offset, count):
    """Its offset is from the beginning; tell() and what read() gives next are not touched."""
    sink, expected = wires.sink(dst), DATA[offset:100_000]
    with OPENED[opened](path) as file:
        assert file.read(10) == DATA[:10]
        send_file(sink.end, file, offset, count, header=b"[")
        assert file.tell() == 10
        assert file.read(20) == DATA[10:30]
        assert file.tell() == 30
    assert sink.received() == b"[" + (expected if count is None else expected[:count])


@pytest.mark.parametrize("kind", ["file", "tmpfs", "memfd"])
def test_a_descriptor_stays_where_it_is(wires, kind):
    """Its position is neither used nor moved, and may be past the end."""
    file = wires.file(DATA[:1000], kind=kind)
    for at in (0, 10, 1000, 5000):
        os.lseek(file, at, os.SEEK_SET)
        sink = wires.sink("tcp4")
        send_file(sink.end, file, 100, trailer=b"]")
        assert os.lseek(file, 0, os.SEEK_CUR) == at
        assert sink.received() == DATA[100:1000] + b"]"


@pytest.mark.parametrize("grows", [False, True], ids=["within", "beyond the end"])
def test_what_was_written_and_not_flushed_is_sent(wires, path, grows):
    """A BufferedRandom's own bytes count, for the size too; and it writes on where it was."""
    sink, at = wires.sink("tcp4"), 99_995 if grows else 50
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"0123456789")
        send_file(sink.end, file, at, 10, header=b"[", trailer=b"]")
        assert file.tell() == at + 10
        file.write(b"on")
    assert sink.received() == b"[0123456789]"
    assert path.read_bytes()[at : at + 12] == b"0123456789on"


# ---- bad input ----------------------------------------------------------------------------------


@pytest.fixture(params=[(0, 0), (1, 0), (0, 1), (1, 1)], ids=["", "corked", "nodelay", "both"])
def silent(request, wires):
    """Give a socket on which nothing may be sent or changed."""
    cork, nodelay = request.param
    near, far = connection(wires, nodelay=nodelay, cork=cork)
    yield near
    assert options(near) == [cork, nodelay]
    assert (segments(near), unsent(near)) == (0, 0)
    near.shutdown(socket.SHUT_WR)
    assert far.recv(100) == b""


def refused(sock, file, kind, words, *args, **options):
    """Assert that the call is refused, by such words where some are given."""
    with pytest.raises(kind, match=words) as caught:
        send_file(sock, file, *args, **({"header": HEADER, "trailer": TRAILER} | options))
    assert not hasattr(caught.value, "held") or caught.value.held == b""
    return caught.value


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((-1,), "offset.*negative.*-1"),
        ((-(2**70),), "offset.*negative"),
        ((0, -1), "count.*negative.*-1"),
        ((0, -(2**70)), "count.*negative"),
        ((5,), "offset.*5.*4"),
        ((5, 0), "offset.*5.*4"),
        ((2**40, None), f"{2**40}.*4"),
        ((0, 5), "5.*4"),
        ((4, 1), "4"),
        ((3, 2), "4"),
        ((0, 2**40), f"{2**40}.*4"),
        ((2, 2**63 - 1), "4"),
    ],
)
def test_numbers_outside_the_file(wires, silent, args, words):
    """ValueError with the numbers, before anything is sent."""
    file = wires.file(b"file")
    refused(silent, file, ValueError, words, *args)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("args", [(2**63,), (2**64,), (2**70, 1), (0, 2**63), (1, 2**70)])
def test_numbers_beyond_64_bits(wires, silent, args):
    """An error of the number, and no wrap to one that is in the file."""
    refused(silent, wires.file(b"file"), (ValueError, OverflowError), None, *args)


@pytest.mark.parametrize(
    "args",
    [("0",), (0.0,), (b"0",), (None,), ([],), (0, "1"), (0, 1.0), (0, b"1"), (0, [1])],
    ids=repr,
)
def test_numbers_that_are_none(wires, silent, args):
    """TypeError; a float is none either, as everywhere in the standard library."""
    refused(silent, wires.file(b"file"), TypeError, None, *args)


def test_true_is_one(wires):
    """Bools are ints, as everywhere in the standard library."""
    sink = wires.sink("tcp4")
    assert send_file(sink.end, wires.file(b"file"), True, True).moved == 1
    assert sink.received() == b"i"


def test_a_directory(wires, silent):
    """IsADirectoryError."""
    fd = wires.ends.fd(os.open("/", os.O_RDONLY))
    refused(silent, fd, IsADirectoryError, "directory")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *[("pipe", "pipe"), ("fifo", "pipe|FIFO"), ("tty", "terminal")],
        *[("unix", "unix.*socket"), ("tcp4", "TCP socket")],
    ],
)
@pytest.mark.parametrize("count", [None, 3])
def test_files_that_are_streams(wires, silent, kind, words, count):
    """ValueError that names it and says what to use; its bytes stay in it."""
    source = wires.source(kind, b"abc")
    error = refused(silent, source.end, ValueError, words, 0, count)
    assert "copy()" in str(error)
    assert source.left() == b"abc"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/urandom", "/dev/full"])
def test_devices_without_an_end(wires, silent, path):
    """ValueError that names it."""
    fd = wires.ends.fd(os.open(path, os.O_RDONLY))
    for args in ((), (0, 3)):
        error = refused(silent, fd, ValueError, f"character device.*{path}", *args)
        assert "copy()" in str(error)


def test_an_event_descriptor(wires, silent):
    """A kernel object is no file, whether it has bytes or not."""
    with select.epoll() as poll:
        refused(silent, poll, OSError, "no bytes can be read from it")
    event = os.eventfd(0)
    try:
        refused(silent, event, ValueError, "kernel object")
    finally:
        os.close(event)


def test_files_that_are_not_what_their_descriptor_holds(silent, path, tmp_path):
    """Text, compressed files, memory: TypeError that says what to pass."""
    with open(path, encoding="latin-1") as file:
        refused(silent, file, TypeError, r"text file.*\.buffer")
    refused(silent, io.BytesIO(b"abc"), TypeError, "BytesIO")
    refused(silent, io.StringIO("abc"), TypeError, "text")
    for module in (gzip, bz2, lzma):
        packed = tmp_path / "packed"
        with module.open(packed, "wb") as file:
            file.write(b"x" * 100)
        with module.open(packed, "rb") as file:
            refused(silent, file, TypeError, "compressed")


@pytest.mark.parametrize("bad", [None, "path", b"path", 3.5, object, [], 1j], ids=repr)
def test_ends_that_have_no_descriptor(wires, silent, bad):
    """TypeError on either side."""
    refused(silent, bad, TypeError, "fileno")
    refused(bad, wires.file(b"file"), TypeError, "fileno")


def test_files_that_cannot_be_read(wires, silent, path):
    """Closed, write-only, O_PATH, a number that is not open."""
    with open(path, "rb") as file:
        pass
    refused(silent, file, ValueError, "closed")
    for flags, words in ((os.O_WRONLY, "not open for reading"), (os.O_PATH, "O_PATH")):
        fd = wires.ends.fd(os.open(path, flags))
        assert refused(silent, fd, OSError, words).errno == 9
    for number in (-1, 999_999):
        assert refused(silent, number, OSError, "not open").errno == 9
    refused(silent, 2**31, OverflowError, None)


def test_destinations_that_are_none(wires, path):
    """Wrong ends, read-only files, directories, closed sockets."""
    file = wires.file(b"file")
    reader, _writer = wires.pipe()
    assert refused(reader, file, OSError, "write end").errno == 9
    read_only = wires.ends.fd(os.open(path, os.O_RDONLY))
    assert refused(read_only, file, OSError, "not open for writing").errno == 9
    refused(wires.ends.fd(os.open("/", os.O_RDONLY)), file, IsADirectoryError, "directory")
    near, _ = wires.sockets("tcp4")
    near.close()
    refused(near, file, (OSError, ValueError), None)
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
def test_sockets_with_messages(wires, family, kind):
    """ValueError: a byte stream would cut or join them."""
    with socket.socket(family, kind) as sock:
        refused(sock, wires.file(b"file"), ValueError, "datagram|seqpacket")


@pytest.mark.parametrize("text", [b"", HEADER])
def test_sockets_that_are_not_connected(wires, text):
    """OSError that says so, with and without a header; no option of theirs is changed."""
    file = wires.file(b"file")
    with socket.socket() as sock:
        error = refused(sock, file, OSError, "not connected", header=text, trailer=text)
        assert error.errno in (32, 107)
        assert options(sock) == [0, 0]
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        error = refused(sock, file, OSError, r"accept\(\)", header=text, trailer=text)
        assert error.errno in (32, 107)
        assert options(sock) == [0, 0]


def test_tls_without_kernel_tls(wires, silent):
    """TypeError, before any plaintext could be on the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    duplicate = silent.dup()
    with context.wrap_socket(duplicate, do_handshake_on_connect=False) as wrapped:
        refused(wrapped, wires.file(b"file"), TypeError, "plaintext")


@pytest.mark.parametrize("name", ["header", "trailer"])
@pytest.mark.parametrize("bad", ["text", 5, None, [b"a"], object, 1.5], ids=repr)
def test_headers_that_are_no_bytes(wires, silent, name, bad):
    """TypeError."""
    refused(silent, wires.file(b"file"), TypeError, None, **{name: bad})


@pytest.mark.parametrize("name", ["header", "trailer"])
def test_a_header_with_gaps(wires, silent, name):
    """A view that is not contiguous is refused, as by send()."""
    gaps = memoryview(b"abcdef")[::2]
    kinds = (BufferError, TypeError, ValueError)
    refused(silent, wires.file(b"file"), kinds, None, **{name: gaps})


@pytest.mark.parametrize(
    ("timeout", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_timeouts_that_are_none(wires, silent, timeout, kind):
    """Negative, not a number."""
    refused(silent, wires.file(b"file"), kind, None, timeout=timeout)


def test_header_and_trailer_are_named(wires, silent):
    """By position, they are a TypeError."""
    with pytest.raises(TypeError):
        send_file(silent, wires.file(b"file"), 0, 4, b"header")
