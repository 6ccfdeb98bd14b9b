"""Blob: what is in it, that nobody can change it, and what every call sends of it.

Rule 1: the bytes are those that were given, and no way of the kernel's changes them afterwards.
Rule 2: whatever sends a blob or a slice sends that and nothing else, from its own beginning, as
often as wanted, and moves no position.
Rule 3: a failure leaves no descriptor; what is in use outlives `close`.
The awaitable calls are in tests/aio/test_blob.py.
"""

from __future__ import annotations

import array
import contextlib
import copy as copying
import ctypes
import errno
import fcntl
import gc
import hashlib
import http.server
import io
import mmap
import os
import pickle
import random
import resource
import socket
import sys
import weakref

import pytest

import spliceio
from spliceio import Blob
from spliceio._kernel import memfd as _memfd
from tests.support.cases import cases
from tests.support.states import Worker, descriptors
from tests.support.wires import KINDS, method_of, payload, transports

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
DATA = payload(5 << 20)
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, HUGE - 1, HUGE, HUGE + 1, 5 << 20]
WINDOWS = [
    (0, 0),
    (0, 1),
    (0, PAGE),
    (1, PAGE),
    (PAGE - 1, PAGE + 1),
    (PAGE, 2 * PAGE),
    (PAGE + 1, 3 * PAGE - 1),
    (7, 7),
    (3 * PAGE - 1, 3 * PAGE),
    (3 * PAGE, 3 * PAGE),
    (0, 3 * PAGE),
]
THREE = DATA[: 3 * PAGE]
windows = pytest.mark.parametrize(("a", "b"), WINDOWS)
NATIVE = sys.version_info >= (3, 12)
"""Whether a class of Python can be a bytes-like object (PEP 688)."""


def position(blob):
    """Where the memfd's own position is."""
    return os.lseek(blob.fileno(), 0, os.SEEK_CUR)


def blobs_open():
    """Name the descriptors of blobs that this process has."""
    return [target for target in descriptors().values() if "spliceio.Blob" in target]


@contextlib.contextmanager
def no_descriptor_left():
    """Take all the descriptors that the process may have."""
    with limited(resource.RLIMIT_NOFILE, max(descriptors()) + 8), contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(0))
        yield


def limited(which, most):
    """Give a context in which a limit of the process is lower."""

    @contextlib.contextmanager
    def context():
        soft, hard = resource.getrlimit(which)
        resource.setrlimit(which, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(which, (soft, hard))

    return context()


# ---- what is in it ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_bytes_that_were_given(size, kind):
    """Of each length, from each kind of bytes."""
    with Blob(kind(DATA[:size])) as blob:
        assert bytes(blob) == DATA[:size]
        assert len(blob) == blob.nbytes == size
        assert os.fstat(blob.fileno()).st_size == size
        assert blob.offset == 0
        assert position(blob) == 0


@pytest.mark.parametrize(
    "data",
    [
        array.array("I", [1, 2, 3]),
        array.array("d", []),
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(b"abcdef").cast("H"),
        memoryview(bytes(24)).cast("B", (2, 3, 4)),
        (ctypes.c_int * 3)(1, 2, 3),
        (ctypes.c_int * 0)(),
        ctypes.c_int(5),
        mmap.mmap(-1, PAGE),
    ],
    ids=lambda data: type(data).__name__,
)
def test_whatever_has_a_buffer(data):
    """As bytes() of its memoryview: strided, of any dimension, of any items."""
    with Blob(data) as blob:
        assert bytes(blob) == bytes(memoryview(data))


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"a", b"", b"bc"],
        [bytes(65536), b"x" * 65537, b"y"],
        [b"x", DATA[: HUGE + 5], b"y", DATA[: 3 * HUGE], b"z"],
        [bytes([n % 251]) * 1000 for n in range(3000)],
        [bytearray(b"ab"), memoryview(b"cdef")[::2], array.array("H", [1])],
    ],
    ids=range(7),
)
@pytest.mark.parametrize("kind", [list, iter])
def test_pieces_are_joined(pieces, kind):
    """Short and long, of an iterable or a generator."""
    with Blob(kind(pieces)) as blob:
        assert bytes(blob) == b"".join(bytes(memoryview(piece)) for piece in pieces)


def test_a_piece_may_be_a_blob():
    """By itself, and among others."""
    with Blob(b"hello world") as blob, Blob(blob[:5]) as head, Blob([head, b"!", blob[5:]]) as both:
        assert bytes(head) == b"hello"
        assert bytes(both) == b"hello! world"
        assert not os.path.sameopenfile(head.fileno(), blob.fileno())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("text", "encode"),
        (7, r"bytes\(7\).*Blob\.from_file\(7\)"),
        (True, "from_file"),
        (None, "not NoneType"),
        (1.5, "not float"),
        ([b"a", "b"], "item 1 is of type str"),
        (iter([b"a", b"b", 3]), "item 2 is of type int"),
        ([None], "item 0 is of type NoneType"),
        ({"key": b"value"}, "item 0 is of type str"),
    ],
)
def test_what_is_no_bytes_is_refused(data, says):
    """With a TypeError that says what to pass, or which item it was; nothing leaks."""
    before = descriptors()
    with pytest.raises(TypeError, match=says):
        Blob(data)
    assert descriptors() == before


def test_an_iterable_that_raises_leaves_nothing():
    """Its own exception comes out, and the memory is gone while that is still held."""

    def pieces():
        yield DATA
        raise LookupError("no more")

    before = descriptors()
    with pytest.raises(LookupError, match="no more") as raised:
        Blob(pieces())
    assert descriptors() == before
    del raised


def test_a_blob_is_itself_only():
    """Equality and hash are of the object, and it says how long it is."""
    with Blob(b"ab") as one, Blob(b"ab") as other:
        assert one == one
        assert one != other
        assert one != b"ab"
        assert len({one, other}) == 2
        assert repr(one) == "<Blob of 2 bytes>"
        assert repr(one[1:]) == "<Blob of 1 bytes at 1>"
    assert repr(one) == "<Blob of 2 bytes, closed>"


@pytest.mark.parametrize("how", [pickle.dumps, copying.copy, copying.deepcopy])
def test_a_blob_is_not_pickled(how):
    """A number of this process would mean another file in the next."""
    with Blob(b"ab") as blob, pytest.raises(TypeError, match="bytes"):
        how(blob)


# ---- nobody can change it -----------------------------------------------------------------------


def spliced_into(fd):
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x")
        os.splice(reader, fd, 1, offset_dst=0)
    finally:
        os.close(reader)
        os.close(writer)


def sent_into(fd):
    with open("/proc/self/exe", "rb") as file:
        os.sendfile(fd, file.fileno(), 0, 1)


def ranged_into(fd):
    with Blob(b"x") as other:
        os.copy_file_range(other.fileno(), fd, 1, 0, 0)


def punched(fd):
    libc = ctypes.CDLL(None, use_errno=True)
    keep_and_punch = 1 | 2
    if libc.fallocate(fd, keep_and_punch, ctypes.c_long(0), ctypes.c_long(PAGE)):
        raise OSError(ctypes.get_errno(), "fallocate")


CHANGES = {
    "write": lambda fd: os.write(fd, b"x"),
    "pwrite": lambda fd: os.pwrite(fd, b"x", 0),
    "pwrite at the end": lambda fd: os.pwrite(fd, b"x", 5 * PAGE),
    "truncate": lambda fd: os.ftruncate(fd, 1),
    "grow": lambda fd: os.ftruncate(fd, 9 * PAGE),
    "fallocate": lambda fd: os.posix_fallocate(fd, 0, 9 * PAGE),
    "punch": punched,
    "mmap": lambda fd: mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
    "splice": spliced_into,
    "sendfile": sent_into,
    "copy_file_range": ranged_into,
    "one more seal": lambda fd: fcntl.fcntl(fd, 1033, 0x0010),
}


@pytest.mark.parametrize("way", CHANGES)
@pytest.mark.parametrize("again", [False, True], ids=["its own", "opened again"])
def test_no_call_changes_a_blob(way, again):
    """EPERM from the kernel, also through /proc/self/fd, and the bytes stay what they were."""
    with Blob(THREE) as blob:
        path = f"/proc/self/fd/{blob.fileno()}"
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC) if again else os.dup(blob.fileno())
        try:
            with pytest.raises(PermissionError) as raised:
                CHANGES[way](fd)
        finally:
            os.close(fd)
        assert raised.value.errno == errno.EPERM
        assert bytes(blob) == THREE


def test_opening_for_truncation_is_refused():
    """O_TRUNC is a change like any other."""
    with Blob(THREE) as blob:
        with pytest.raises(PermissionError):
            os.open(f"/proc/self/fd/{blob.fileno()}", os.O_RDWR | os.O_TRUNC)
        assert bytes(blob) == THREE


def test_a_private_mapping_writes_to_itself():
    """What is written to it reaches nobody else."""
    with Blob(THREE) as blob:
        mapped = mmap.mmap(
            blob.fileno(), len(blob), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        )
        mapped[0:5] = b"other"
        assert bytes(blob) == THREE
        mapped.close()


def test_the_descriptor_is_closed_on_exec():
    """A child program gets it only from who passes it on."""
    with Blob(b"x") as blob:
        assert not os.get_inheritable(blob.fileno())


def test_a_forked_child_reads_the_same():
    """And what the child closes stays open here."""
    with Blob(THREE) as blob:
        pid = os.fork()
        if pid == 0:
            same = bytes(blob[PAGE:]) == THREE[PAGE:]
            blob.close()
            os._exit(0 if same else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert bytes(blob) == THREE


# ---- slices -------------------------------------------------------------------------------------


@windows
def test_a_slice_shares_the_memory(a, b):
    """It has a place and a length of its own in the same file."""
    with Blob(THREE) as blob:
        part = blob[a:b]
        assert bytes(part) == THREE[a:b]
        assert (part.offset, len(part), part.nbytes) == (a, b - a, b - a)
        assert part.fileno() == blob.fileno()


def test_a_slice_of_a_slice():
    """Counts from the slice, backwards too, and is cut as bytes are."""
    with Blob(THREE) as blob:
        part = blob[10:1000]
        assert bytes(part[5:-5]) == THREE[15:995]
        assert part[5:-5].offset == 15
        assert bytes(part[-7:]) == THREE[993:1000]
        assert bytes(part[:5000]) == THREE[10:1000]
        assert bytes(part[5000:]) == bytes(part[9:3]) == b""
        assert bytes(part[::1]) == THREE[10:1000]


@pytest.mark.parametrize("step", [2, -1])
def test_a_slice_has_no_step(step):
    """It would be no stretch of memory."""
    with Blob(THREE) as blob, pytest.raises(ValueError, match=f"its step is 1, not {step}"):
        blob[::step]


def test_single_bytes_are_ints():
    """Forwards, backwards and in a loop, as of bytes."""
    with Blob(THREE) as blob:
        part = blob[10:20]
        assert (part[0], part[9], part[-1]) == (THREE[10], THREE[19], THREE[19])
        assert list(part) == list(THREE[10:20])
        assert THREE[10] in part
        for outside in (10, -11):
            with pytest.raises(IndexError):
                part[outside]
        with pytest.raises(TypeError):
            part["0"]


# ---- views --------------------------------------------------------------------------------------


@windows
def test_a_view_is_the_bytes(a, b):
    """Read-only, of the slice and nothing around it."""
    with Blob(THREE) as blob:
        view = blob[a:b].view
        assert view == THREE[a:b]
        assert view.readonly
        assert (view.format, view.nbytes) == ("B", b - a)


def test_a_view_cannot_be_written():
    """Nor can what it is a view of."""
    with Blob(THREE) as blob:
        view = blob.view
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises(TypeError):
            view.obj[0] = 1
        with pytest.raises((BufferError, TypeError)):
            ctypes.c_char.from_buffer(view)
        assert bytes(blob) == THREE


@pytest.mark.parametrize("end", ["close", "collect", "both"])
def test_a_view_outlives_its_blob(end):
    """Of the whole and of a slice: it holds the mapping, and closing raises nothing."""
    blob = Blob(THREE)
    whole, part = blob.view, blob[5:][PAGE : 2 * PAGE].view
    if end != "collect":
        blob.close()
    if end != "close":
        del blob
        gc.collect()
    assert whole == THREE
    assert part == THREE[5 + PAGE : 5 + 2 * PAGE]


def test_before_python_3_12_a_blob_is_no_buffer():
    """There `view` and bytes() are the way, and memoryview() says that it is none."""
    with Blob(b"abc") as blob:
        if NATIVE:
            assert memoryview(blob) == b"abc"
        else:
            with pytest.raises(TypeError):
                memoryview(blob)


@pytest.mark.skipif(not NATIVE, reason="before Python 3.12 only C can export a buffer (PEP 688)")
class TestTheBufferProtocol:
    """From Python 3.12 on."""

    def test_a_blob_is_bytes_like(self):
        """To memoryview, hashes, joins and sockets."""
        near, far = socket.socketpair()
        with Blob(THREE) as blob, near, far:
            part = blob[1 : PAGE + 1]
            assert memoryview(part) == THREE[1 : PAGE + 1]
            assert memoryview(part).readonly
            assert hashlib.sha256(part).digest() == hashlib.sha256(THREE[1 : PAGE + 1]).digest()
            assert b"".join([part, blob]) == THREE[1 : PAGE + 1] + THREE
            near.sendall(part)
            assert far.recv(2 * PAGE) == THREE[1 : PAGE + 1]

    def test_a_blob_is_no_buffer_to_write_to(self):
        """A reader that wants one is refused."""
        near, far = socket.socketpair()
        with Blob(THREE) as blob, near, far:
            far.send(b"x")
            with pytest.raises((TypeError, BufferError)):
                near.recv_into(blob)
            assert bytes(blob) == THREE

    def test_a_closed_blob_exports_nothing(self):
        """Its memory may be gone."""
        blob = Blob(b"x")
        blob.close()
        with pytest.raises(ValueError, match="closed"):
            memoryview(blob)


def test_no_descriptor_for_a_view_is_said():
    """Before Python 3.13 a mapping takes one; the blob is as good as before."""
    with Blob(b"abc") as blob:
        with no_descriptor_left():
            if sys.version_info >= (3, 13):
                assert blob.view == b"abc"
            else:
                with pytest.raises(OSError, match="descriptor left") as raised:
                    blob.view  # noqa: B018 - the access is the test
                assert raised.value.errno == errno.EMFILE
        assert bytes(blob) == b"abc"


# ---- closing ------------------------------------------------------------------------------------


def test_closing_any_closes_all():
    """The memfd is one, so a slice closes the whole, and all of them say so."""
    blob = Blob(THREE)
    part, other = blob[1:5], blob[2:]
    fd = blob.fileno()
    part.close()
    assert blob.closed
    assert part.closed
    assert other.closed
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    for use in (blob.fileno, lambda: other.view, lambda: bytes(part), lambda: blob[1:]):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert (len(part), part.offset) == (4, 1)
    blob.close()


def test_the_last_slice_closes_what_is_left():
    """Silently: it is memory, not a file that somebody forgot."""
    before = descriptors()
    blob = Blob(THREE)
    part = blob[1:5]
    gone = weakref.ref(blob)
    del blob
    gc.collect()
    assert gone() is None
    assert bytes(part) == THREE[1:5]
    del part
    gc.collect()
    assert descriptors() == before


def test_a_closed_blob_is_refused_by_name():
    """By every call, before anything is touched."""
    near, far = socket.socketpair()
    blob = Blob(b"abc")
    blob.close()
    with near, far:
        for call, name in [
            (lambda: spliceio.copy(blob, near), "src"),
            (lambda: spliceio.send_file(near, blob), "file"),
            (lambda: next(spliceio.chunks(blob)), "src"),
            (lambda: spliceio.explain(blob, near), "src"),
        ]:
            with pytest.raises(ValueError, match=f"{name} is closed"):
                call()


# ---- what is sent of it -------------------------------------------------------------------------


@cases(dst=KINDS, window=WINDOWS, nonblocking=[False, True])
def test_copy_sends_the_window(wires, nonblocking, dst, window):
    """The whole slice, twice, by the method of the pair and size, and the position stays."""
    a, b = window
    expected = {"pipe": "splice", "fifo": "splice", "file": None, "tmpfs": None}.get(
        dst, method_of(b - a)
    )
    with Blob(THREE) as blob:
        part = blob[a:b]
        sink = wires.sink(dst, nonblocking=nonblocking)
        for _ in range(2):
            result = spliceio.copy(part, sink.end)
            assert result.moved == b - a
            if b > a and dst != "tty":
                assert result.method == (expected or spliceio.explain(part, sink.end).method)
                assert result.by_method == {result.method: b - a}
        assert sink.received() == THREE[a:b] * 2
        assert position(blob) == 0


@pytest.mark.parametrize("method", ["sendfile", "splice", "read_write"])
def test_every_method_keeps_to_the_window(wires, method):
    """The one that is asked for runs, over more than a socket or pipe takes."""
    with Blob(DATA) as blob:
        sink = wires.sink("unix")
        result = spliceio.copy(blob[1:-1], sink.end, method=method)
        assert sink.received() == DATA[1:-1]
        assert result.by_method == {method: len(DATA) - 2}


@windows
def test_offset_and_count_are_of_the_window(wires, a, b):
    """They count from its beginning, up to its end."""
    with Blob(THREE) as blob:
        part = blob[a:b]
        size = b - a
        sink = wires.sink("unix")
        offset, count = size // 3, size - size // 3
        assert spliceio.copy(part, sink.end, count, offset_src=offset).moved == count
        assert spliceio.copy(part, sink.end, offset_src=size).moved == 0
        assert spliceio.copy(part, sink.end, 0, offset_src=size).moved == 0
        assert sink.received() == THREE[a + offset : b]


CALLS = {
    "copy": lambda sock, blob, offset, count: spliceio.copy(blob, sock, count, offset_src=offset),
    "send_file": spliceio.send_file,
    "send_ranges": lambda sock, blob, offset, count: spliceio.send_ranges(
        sock, blob, [(offset, 5 - min(offset, 5) if count is None else count)]
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("offset", "count"), [(0, 6), (6, None), (6, 0), (3, 3), (5, 1)])
def test_what_the_window_does_not_have_is_refused(call, offset, count):
    """Though the memfd goes on behind it; nothing has been sent."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far:
        with pytest.raises(ValueError, match=r"past the end|are asked for, but .* ends at 5"):
            CALLS[call](near, blob[2:7], offset, count)
        near.send(b"|")
        assert far.recv(100) == b"|"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("offset", "count"), [(0, 5), (0, None), (5, None), (5, 0), (2, 2)])
def test_every_call_sends_what_is_asked_for(call, offset, count):
    """And not a byte from before or behind."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far:
        CALLS[call](near, blob[2:7], offset, count)
        near.send(b"|")
        end = None if count is None else offset + count
        assert far.recv(100) == THREE[2:7][offset:end] + b"|"
        assert position(blob) == 0


@windows
def test_send_file_sends_the_window_between_its_texts(wires, a, b):
    """In one run, by one read and one send."""
    with Blob(THREE) as blob:
        sink = wires.sink("tcp4")
        result = spliceio.send_file(sink.end, blob[a:b], header=b"<", trailer=b">")
        assert sink.received() == b"<" + THREE[a:b] + b">"
        assert result.by_method.get("read_write", 0) == b - a


def test_ranges_are_of_the_window(wires):
    """In any order, overlapping, empty."""
    with Blob(THREE) as blob:
        part = blob[PAGE - 1 :]
        sink = wires.sink("unix")
        ranges = [(PAGE, 10), (0, 1), (5, 0), (0, len(part))]
        spliceio.send_ranges(sink.end, part, ranges, headers=[b"a", b"b", b"c", b"d"])
        whole = bytes(part)
        assert sink.received() == b"a" + whole[PAGE:][:10] + b"b" + whole[:1] + b"cd" + whole


@windows
@pytest.mark.parametrize("size", [1 << 16, PAGE, 1000])
def test_chunks_are_of_the_window(a, b, size):
    """To its end, or for a count; a count that it does not have is refused."""
    with Blob(THREE) as blob:
        part = blob[a:b]
        assert b"".join(spliceio.chunks(part, size)) == THREE[a:b]
        assert (
            b"".join(spliceio.chunks(part, size, count=(b - a) // 2)) == THREE[a:][: (b - a) // 2]
        )
        with pytest.raises(ValueError, match="ends at"):
            next(spliceio.chunks(part, size, count=b - a + 1))
        assert position(blob) == 0


def test_discard_counts_the_window():
    """Again and again."""
    with Blob(THREE) as blob:
        assert [spliceio.discard(blob[3:PAGE]) for _ in range(3)] == [PAGE - 3] * 3
        assert spliceio.discard(blob[3:PAGE], 5) == 5
        with pytest.raises(ValueError, match="ends at 5"):
            spliceio.discard(blob[:5], 6)


def test_copyfileobj_takes_a_blob(wires, tmp_path):
    """Though it has no read(): to a file and to a socket, inside the kernel."""
    with Blob(THREE) as blob:
        sink = wires.sink("unix")
        result = spliceio.copyfileobj(blob[5 : PAGE + 5], sink.end)
        assert sink.received() == THREE[5 : PAGE + 5]
        assert result.method == "read_write"
        with open(tmp_path / "file", "wb") as file:
            file.write(b"before ")
            spliceio.copyfileobj(blob[5:9], file)
            file.write(b" after")
        assert (tmp_path / "file").read_bytes() == b"before " + THREE[5:9] + b" after"


@windows
def test_a_pipe_is_filled_from_the_window(a, b):
    """Up to its end, from an offset in it, and no position moves."""
    with Blob(THREE) as blob, spliceio.Pipe() as pipe:
        part = blob[a:b]
        for offset in (None, 0, (b - a) // 2, b - a, b - a + 1):
            expected = THREE[a + (offset or 0) : b]
            assert pipe.fill(part, 1 << 16, offset) == len(expected)
            assert (pipe.read(1 << 16) if expected else b"") == expected
        assert pipe.fill(part, 0) == 0
        assert position(blob) == 0


def test_bytes_read_ahead_do_not_shorten_a_blob(wires):
    """A transfer's `ahead` goes before the window, and counts in `count` only."""
    with Blob(THREE) as blob:
        part = blob[5:15]
        for count, expected in [
            (None, b"ab" + THREE[5:15]),
            (12, b"ab" + THREE[5:15]),
            (4, b"ab" + THREE[5:7]),
            (2, b"ab"),
        ]:
            sink = wires.sink("unix")
            with spliceio.Transfer(part, sink.end, count, ahead=b"ab") as transfer:
                transfer.run()
            assert sink.received() == expected


def test_a_transfer_that_failed_goes_on_in_the_window():
    """Held bytes of a slice are counted back into it, not into the position."""
    with Blob(DATA) as blob:
        near, far = socket.socketpair()
        with near, far, spliceio.Transfer(blob[1:], near, method="splice", timeout=0) as transfer:
            with pytest.raises(TimeoutError):
                transfer.run()
            moved = transfer.moved
            assert 0 < moved < len(DATA) - 1
        assert position(blob) == 0


def test_explain_knows_that_it_does_not_change():
    """A file may be edited while it is sent, sealed memory may not."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far, open("/proc/self/exe", "rb") as file:
        plan = spliceio.explain(blob, near)
        assert (plan.order[0], plan.src) == (plan.method, "sealed memory")
        assert not any("edits" in note for note in plan.notes)
        assert any("edits" in note for note in spliceio.explain(file, near).notes)


def test_one_blob_to_many_sockets_at_once():
    """64 receivers, each with a slice of its own, all correct, all by sendfile."""
    chance = random.Random(64)
    pairs = [socket.socketpair() for _ in range(64)]
    cuts = [sorted(chance.sample(range(HUGE), 2)) for _ in pairs]
    with Blob(DATA[:HUGE]) as blob, contextlib.ExitStack() as stack:
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
        readers = [Worker(lambda far=far: b"".join(spliceio.chunks(far))) for _, far in pairs]

        def send(near, a, b):
            result = spliceio.copy(blob[a:b], near)
            near.shutdown(socket.SHUT_WR)
            return result

        senders = [
            Worker(lambda near=near, a=a, b=b: send(near, a, b))
            for (near, _), (a, b) in zip(pairs, cuts, strict=True)
        ]
        for (a, b), sender, reader in zip(cuts, senders, readers, strict=True):
            assert sender.result().by_method == {method_of(b - a): b - a}
            assert reader.result() == DATA[a:b]
        assert position(blob) == 0


def test_closing_does_not_stop_a_transfer():
    """It has a descriptor of its own."""
    near, far = socket.socketpair()
    blob = Blob(DATA)
    with near, far:
        sender = Worker(lambda: spliceio.send_file(near, blob, header=b"<"))
        head = far.recv(1, socket.MSG_WAITALL)  # so it has begun, and cannot have ended
        blob.close()
        rest = b"".join(spliceio.chunks(far, count=len(DATA)))
        assert head + rest == b"<" + DATA
        assert sender.result().by_method["sendfile"] == len(DATA)


# ---- what it is not -----------------------------------------------------------------------------


INTO = {
    "copy": lambda src, blob: spliceio.copy(src, blob),
    "Transfer": lambda src, blob: spliceio.Transfer(src, blob),
    "explain": lambda src, blob: spliceio.explain(src, blob),
    "receive_file": lambda src, blob: spliceio.receive_file(src, blob, 3),
    "send_file": lambda src, blob: spliceio.send_file(blob, blob),
    "copyfileobj": lambda src, blob: spliceio.copyfileobj(src, blob),
    "copy_file": lambda src, blob: spliceio.copy_file("/proc/self/exe", blob),
    "relay": lambda src, blob: spliceio.relay(src, (src, blob)),
}


@pytest.mark.parametrize("call", INTO)
def test_a_blob_is_no_destination(call):
    """It is refused by its name, and the source still has its bytes."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far:
        near.send(b"abc")
        with pytest.raises(PermissionError, match="is a Blob, whose bytes never change") as raised:
            INTO[call](far, blob)
        assert raised.value.errno == errno.EPERM
        assert far.recv(10) == b"abc"
        assert bytes(blob) == THREE


def test_a_blob_is_no_side_of_a_relay():
    """It would be read beyond its end, and hears nothing."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far, pytest.raises(TypeError, match="copy"):
        spliceio.relay((blob, near), far)


def test_a_file_wrapper_wants_read():
    """A Blob has none, and is not taken for a file with a position."""
    near, far = socket.socketpair()
    with Blob(THREE) as blob, near, far:
        with pytest.raises(AttributeError, match="read"):
            spliceio.FileWrapper(blob).send(near, header=b"head")
        near.send(b"|")
        assert far.recv(100) == b"|"
        assert position(blob) == 0


def test_serve_file_wants_a_date():
    """Of a Blob there is none that would tell one slice from another."""

    class Handler(spliceio.SendfileMixin, http.server.SimpleHTTPRequestHandler):
        pass

    with Blob(THREE) as blob, pytest.raises(TypeError, match=r"serve_file: a Blob .*send_file"):
        Handler.__new__(Handler).serve_file(blob)


def test_the_file_of_a_blob_is_known_again():
    """Another descriptor of the same memfd as destination: refused, and not by a missing tell()."""
    with Blob(THREE) as blob, open(os.dup(blob.fileno()), "wb", 0) as same:
        with pytest.raises(ValueError, match="the same file"):
            spliceio.copyfileobj(blob[1:], same)
        same.seek(0, os.SEEK_END)
        with pytest.raises(PermissionError, match="sealed"):
            spliceio.copyfileobj(blob, same)
        assert bytes(blob) == THREE


# ---- from a file --------------------------------------------------------------------------------


@pytest.mark.parametrize("src", transports("pipe", "unix", "tcp4", "file", "tmpfs"))
@pytest.mark.parametrize("size", SIZES)
def test_from_a_file_pipe_or_socket(wires, src, size):
    """To its end; sealed, and at position 0."""
    source = wires.source(src, DATA[:size])
    with Blob.from_file(source.end) as blob:
        assert bytes(blob) == DATA[:size]
        assert len(blob) == size == os.fstat(blob.fileno()).st_size
        assert position(blob) == 0
        with pytest.raises(PermissionError):
            os.write(blob.fileno(), b"x")


@pytest.mark.parametrize("count", [0, 1, PAGE, HUGE + 1])
def test_from_a_file_so_many(wires, count):
    """From its position, which moves by as many, or from an offset, and then it stays."""
    file = wires.file(DATA)
    os.lseek(file, 3, os.SEEK_SET)
    with Blob.from_file(file, count) as blob:
        assert bytes(blob) == DATA[3 : 3 + count]
    assert os.lseek(file, 0, os.SEEK_CUR) == 3 + count
    with Blob.from_file(file, count, offset=7) as blob:
        assert bytes(blob) == DATA[7 : 7 + count]
    assert os.lseek(file, 0, os.SEEK_CUR) == 3 + count


def test_from_a_connection_so_many():
    """The next message stays in it; what a reader has read ahead comes first."""
    near, far = socket.socketpair()
    with near, far, far.makefile("rb") as reader:
        near.send(b"head\nthe bodynext")
        assert reader.readline() == b"head\n"
        with Blob.from_file(reader, 8) as blob:
            assert bytes(blob) == b"the body"
        assert reader.read(4) == b"next"


def test_from_a_buffered_file(tmp_path):
    """From where its reader is, and it goes on behind."""
    (tmp_path / "file").write_bytes(DATA)
    with open(tmp_path / "file", "rb") as file:
        file.read(5)
        with Blob.from_file(file, 10) as blob:
            assert bytes(blob) == DATA[5:15]
        assert file.read(5) == DATA[15:20]


def test_from_another_blob():
    """Its window, nothing else."""
    with Blob(DATA) as blob, Blob.from_file(blob[1:-1]) as other:
        assert bytes(other) == DATA[1:-1]
        with Blob.from_file(blob[5:10], 2, offset=1) as third:
            assert bytes(third) == DATA[6:8]


@pytest.mark.parametrize("src", transports("pipe", "unix", "file"))
@pytest.mark.parametrize("size", [0, 3, HUGE + 5])
def test_a_source_that_ends_too_early(wires, src, size):
    """UnexpectedEOF says how much there was; there is no blob and no descriptor of one."""
    source = wires.source(src, DATA[:size])
    with pytest.raises(spliceio.UnexpectedEOF, match=f"file ended after {size} of the") as raised:
        Blob.from_file(source.end, 2 * len(DATA))
    assert not blobs_open()
    assert raised.value.result.moved == size
    assert raised.value.held == b""
    assert "truncated" not in str(raised.value)


def test_a_source_that_pauses_too_long():
    """TimeoutError, with what came before."""
    near, far = socket.socketpair()
    with near, far:
        near.send(b"abc")
        with pytest.raises(TimeoutError, match="file is a unix stream socket") as raised:
            Blob.from_file(far, 5, timeout=0)
        assert raised.value.result.moved == 3


@pytest.mark.parametrize("file", [io.BytesIO(b"x"), io.StringIO("x"), object(), None])
def test_what_has_no_descriptor_is_refused(file):
    """By the name of the call."""
    before = descriptors()
    with pytest.raises(TypeError, match=r"Blob\.from_file: file"):
        Blob.from_file(file)
    assert descriptors() == before


# ---- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PAGE + 1, HUGE, len(DATA)])
def test_the_file_size_limit_is_said(size):
    """EFBIG names what would exceed it; nothing is left."""
    before = descriptors()
    with limited(resource.RLIMIT_FSIZE, PAGE):
        with pytest.raises(OSError, match=r"the blob would exceed .*ulimit -f") as raised:
            Blob(DATA[:size])
        assert raised.value.errno == errno.EFBIG
        with Blob(DATA[:PAGE]) as blob:
            assert bytes(blob) == DATA[:PAGE]
    assert descriptors() == before


@pytest.mark.parametrize("src", ["file", "pipe"])
def test_the_file_size_limit_of_a_copy(wires, src):
    """As of any copy: the exception has the counts, and of a stream the bytes."""
    source = wires.source(src, DATA[: PAGE + 5])
    with (
        limited(resource.RLIMIT_FSIZE, PAGE),
        pytest.raises(OSError, match=r"the blob would exceed") as raised,
    ):
        Blob.from_file(source.end)
    assert not blobs_open()
    assert raised.value.errno == errno.EFBIG
    assert raised.value.result.moved == PAGE
    if src == "file":
        assert os.lseek(source.end, 0, os.SEEK_CUR) == PAGE
    else:
        left = os.read(source.end, 100) if len(raised.value.held) < 5 else b""
        assert raised.value.held + left == DATA[PAGE : PAGE + 5]


def test_no_descriptor_left_is_said():
    """EMFILE of memfd_create, which is called first."""
    with no_descriptor_left():
        for make in (lambda: Blob(b"x"), lambda: Blob.from_file(0)):
            with pytest.raises(OSError, match=r"Blob: memfd_create: .*ulimit -n") as raised:
                make()
            assert raised.value.errno == errno.EMFILE


@pytest.mark.parametrize(
    ("err", "says"),
    [
        (errno.ENOSYS, "memfd_create: this kernel or sandbox does not have the call"),
        (errno.ENOMEM, "memfd_create: there is no memory left"),
        (errno.ENFILE, "memfd_create: .*fs.file-max"),
        (errno.EINVAL, "memfd_create"),
    ],
)
def test_a_memfd_that_cannot_be_made(monkeypatch, err, says):
    """What the kernel answers is named."""
    monkeypatch.setattr(_memfd, "_create", lambda owned, name, flags: -err)
    with pytest.raises(OSError, match=says) as raised:
        Blob(b"x")
    assert raised.value.errno == err


def test_a_kernel_without_noexec_memfds(monkeypatch):
    """Before Linux 6.3 the flag is unknown, and the blob is made without it."""
    real, asked = _memfd._create, []

    def old(owned, name, flags):
        asked.append(flags)
        return -errno.EINVAL if flags & 8 else real(owned, name, flags)

    monkeypatch.setattr(_memfd, "_create", old)
    with Blob(b"abc") as blob:
        assert len(asked) == 2
        with pytest.raises(PermissionError):
            os.write(blob.fileno(), b"x")


def test_a_write_that_finds_no_memory(monkeypatch):
    """ENOSPC of a memfd is about memory, and says so."""

    def full(fd, data, offset):
        raise OSError(errno.ENOSPC, "full")

    before = descriptors()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="write: there is no memory left") as raised:
        Blob(b"abc")
    assert raised.value.errno == errno.ENOSPC
    assert descriptors() == before


def test_a_memory_that_cannot_be_sealed():
    """Somebody has mapped it to write to it: there is no blob, because it could change."""
    held = []

    def pieces():
        yield DATA[:HUGE]
        (fd,) = descriptors().keys() - known.keys()
        held.append(mmap.mmap(fd, PAGE))
        yield b"x"

    known = descriptors()
    with pytest.raises(OSError, match="another process has mapped") as raised:
        Blob(pieces())
    assert raised.value.errno == errno.EBUSY
    held.pop().close()
    assert descriptors() == known


def test_short_writes_are_finished(monkeypatch):
    """The kernel may take less than is offered, at any place."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:100_003], at))
    with Blob([b"ab", DATA]) as blob:
        assert bytes(blob) == b"ab" + DATA


def test_a_file_that_gives_less_than_it_has():
    """Pages that were made ready and not filled are no part of the blob."""
    with _memfd.new_sealed() as memory:
        memory.preallocate(2 * HUGE + 5)
        memory.write(memoryview(b"abc"))
    assert os.fstat(memory.fileno()).st_size == 3
    assert memory.view() == b"abc"
    memory.close()


def test_huge_pages_are_only_an_advice(monkeypatch):
    """Without them, or without the advice for them, the bytes are the same."""
    for name in ("_MADV_HUGEPAGE", "_MADV_POPULATE_WRITE"):
        with monkeypatch.context() as patch:
            patch.setattr(_memfd, name, 9999)
            with Blob([b"ab", DATA]) as blob, Blob.from_file(blob[1:]) as other:
                assert bytes(blob) == b"ab" + DATA
                assert bytes(other) == b"b" + DATA
