"""The raw calls: drop-ins for os.splice and os.sendfile, and tee and vmsplice beside them.

Every row of the tables that the documentation has about these calls is seen here on this kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import importlib.util
import inspect
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from decimal import Decimal

import pytest

from spliceio import (
    SPLICE_F_GIFT,
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
    SpliceFlag,
    sendfile,
    splice,
    tee,
    try_sendfile,
    try_splice,
    try_tee,
    try_vmsplice,
    vmsplice,
)
from tests.support.states import Worker, until
from tests.support.wires import missing, payload

# ---- drop-ins -----------------------------------------------------------------------------------


def signature_of(function):
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


def test_the_signature_is_that_of_os_splice():
    """Same names, same order, same defaults."""
    assert signature_of(splice) == signature_of(os.splice)


def test_the_names_are_those_of_os_sendfile():
    """os.sendfile's parameters of Linux: out_fd, in_fd, offset, count."""
    names = [p.name for p in inspect.signature(sendfile).parameters.values()]
    theirs = [p.name for p in inspect.signature(os.sendfile).parameters.values()]
    assert names == theirs[:4]


def test_try_forms_have_the_signature_of_the_call():
    """try_x takes what x takes."""
    for plain, trying in (
        (splice, try_splice),
        (tee, try_tee),
        (vmsplice, try_vmsplice),
        (sendfile, try_sendfile),
    ):
        assert signature_of(plain) == signature_of(trying)


def test_the_flags_are_those_of_os():
    """The same numbers, as one IntFlag."""
    assert (SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT) == (1, 2, 4, 8)
    assert os.SPLICE_F_MOVE == SpliceFlag.MOVE
    assert os.SPLICE_F_NONBLOCK == SpliceFlag.NONBLOCK
    assert os.SPLICE_F_MORE == SpliceFlag.MORE
    assert repr(SPLICE_F_MOVE | SPLICE_F_MORE)


class OnlyInt:
    """A number for int() that is no index."""

    def __int__(self):
        return 5


class Index:
    """A number for index()."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Fd:
    """An object with a descriptor."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


class Lair:
    """fileno() that gives no number."""

    def fileno(self):
        return "3"


def outcome(function, *args, **kwargs):
    """What it returned, or the type and errno of what it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error), error.errno if isinstance(error, OSError) else None


def same(ours, theirs):
    """Equal; a subclass of the exception, with the same errno, is as good."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return issubclass(ours[0], theirs[0]) and (theirs[1] is None or ours[1] == theirs[1])
    return ours == theirs


SPLICE_MISUSE = {
    "plain": lambda r, w, f: ((r, f, 10), {}),
    "keywords": lambda r, w, f: ((), {"src": r, "dst": f, "count": 3, "flags": 0}),
    "offset": lambda r, w, f: ((f, w, 3), {"offset_src": 2}),
    "offset both": lambda r, w, f: ((f, w, 3), {"offset_src": 2, "offset_dst": 1}),
    "offset on pipe": lambda r, w, f: ((r, f, 3), {"offset_src": 0}),
    "offset negative": lambda r, w, f: ((f, w, 3), {"offset_src": -1}),
    "offset past the end": lambda r, w, f: ((f, w, 3), {"offset_src": 10**6}),
    "offset huge": lambda r, w, f: ((f, w, 3), {"offset_src": 2**63}),
    "offset tiny": lambda r, w, f: ((f, w, 3), {"offset_src": -(2**63) - 1}),
    "offset text": lambda r, w, f: ((f, w, 3), {"offset_src": "2"}),
    "offset float": lambda r, w, f: ((f, w, 3), {"offset_src": 2.0}),
    "offset index": lambda r, w, f: ((f, w, 3), {"offset_src": Index(2)}),
    "count 0": lambda r, w, f: ((r, f, 0), {}),
    "count -1": lambda r, w, f: ((r, f, -1), {}),
    "count -2**63": lambda r, w, f: ((r, f, -(2**63)), {}),
    "count -2**70": lambda r, w, f: ((r, f, -(2**70)), {}),
    "count 2**63": lambda r, w, f: ((r, f, 2**63), {}),
    "count 2**64": lambda r, w, f: ((r, f, 2**64), {}),
    "count 2**63-1": lambda r, w, f: ((r, w, 2**63 - 1), {}),
    "count float": lambda r, w, f: ((r, f, 3.0), {}),
    "count text": lambda r, w, f: ((r, f, "3"), {}),
    "count None": lambda r, w, f: ((r, f, None), {}),
    "count Decimal": lambda r, w, f: ((r, f, Decimal(3)), {}),
    "count only int": lambda r, w, f: ((r, f, OnlyInt()), {}),
    "count index": lambda r, w, f: ((r, f, Index(3)), {}),
    "count bool": lambda r, w, f: ((r, f, True), {}),
    "flags -1": lambda r, w, f: ((r, f, 3), {"flags": -1}),
    "flags 2**32": lambda r, w, f: ((r, f, 3), {"flags": 2**32}),
    "flags unknown": lambda r, w, f: ((r, f, 3), {"flags": 1 << 20}),
    "flags float": lambda r, w, f: ((r, f, 3), {"flags": 1.0}),
    "flags None": lambda r, w, f: ((r, f, 3), {"flags": None}),
    "flags only int": lambda r, w, f: ((r, f, 3), {"flags": OnlyInt()}),
    "src closed": lambda r, w, f: ((999, f, 3), {}),
    "dst closed": lambda r, w, f: ((r, 999, 3), {}),
    "src -1": lambda r, w, f: ((-1, f, 3), {}),
    "dst -1": lambda r, w, f: ((r, -1, 3), {}),
    "src 2**31": lambda r, w, f: ((2**31, f, 3), {}),
    "src -2**31-1": lambda r, w, f: ((-(2**31) - 1, f, 3), {}),
    "src 2**64": lambda r, w, f: ((2**64, f, 3), {}),
    "src text": lambda r, w, f: (("0", f, 3), {}),
    "src float": lambda r, w, f: ((0.0, f, 3), {}),
    "src None": lambda r, w, f: ((None, f, 3), {}),
    "src Decimal": lambda r, w, f: ((Decimal(r), f, 3), {}),
    "wrong ends": lambda r, w, f: ((w, r, 3), {}),
    "the same pipe": lambda r, w, f: ((r, w, 3), {}),
    "neither a pipe": lambda r, w, f: ((f, f, 3), {}),
    "too few": lambda r, w, f: ((r, f), {}),
    "too many": lambda r, w, f: ((r, f, 3, None, None, 0, 0), {}),
    "unknown keyword": lambda r, w, f: ((r, f, 3), {"what": 1}),
}


@pytest.mark.parametrize("case", SPLICE_MISUSE)
def test_use_and_misuse_of_splice_are_answered_as_by_os(wires, case):
    """The same value, or the same kind of exception with the same errno."""
    answers = []
    for function in (splice, os.splice):
        reader, writer = wires.pipe()
        os.write(writer, b"0123456789")
        file = wires.file(b"abcdefghij")
        args, kwargs = SPLICE_MISUSE[case](reader, writer, file)
        answers.append((outcome(function, *args, **kwargs), os.lseek(file, 0, os.SEEK_CUR)))
    ours, theirs = answers
    assert same(ours[0], theirs[0]), answers
    assert ours[1] == theirs[1]


SENDFILE_MISUSE = {
    "plain": lambda o, i: ((o, i, 0, 5), {}),
    "keywords": lambda o, i: ((), {"out_fd": o, "in_fd": i, "offset": 1, "count": 4}),
    "offset None": lambda o, i: ((o, i, None, 5), {}),
    "offset -1": lambda o, i: ((o, i, -1, 5), {}),
    "offset 2**63": lambda o, i: ((o, i, 2**63, 5), {}),
    "offset text": lambda o, i: ((o, i, "0", 5), {}),
    "offset float": lambda o, i: ((o, i, 0.0, 5), {}),
    "offset past the end": lambda o, i: ((o, i, 10**6, 5), {}),
    "count 0": lambda o, i: ((o, i, 0, 0), {}),
    "count -1": lambda o, i: ((o, i, 0, -1), {}),
    "count 2**63": lambda o, i: ((o, i, 0, 2**63), {}),
    "count 2**63-1": lambda o, i: ((o, i, 0, 2**63 - 1), {}),
    "count float": lambda o, i: ((o, i, 0, 5.0), {}),
    "count Decimal": lambda o, i: ((o, i, 0, Decimal(5)), {}),
    "out closed": lambda o, i: ((999, i, 0, 5), {}),
    "in closed": lambda o, i: ((o, 999, 0, 5), {}),
    "closed and 0": lambda o, i: ((999, 999, 0, 0), {}),
    "out -1": lambda o, i: ((-1, i, 0, 5), {}),
    "out text": lambda o, i: (("1", i, 0, 5), {}),
    "out 2**40": lambda o, i: ((2**40, i, 0, 5), {}),
    "in is a socket": lambda o, i: ((o, o, 0, 5), {}),
    "too few": lambda o, i: ((o, i, 0), {}),
}


@pytest.mark.parametrize("case", SENDFILE_MISUSE)
def test_use_and_misuse_of_sendfile_are_answered_as_by_os(wires, case):
    """The same value, or the same kind of exception with the same errno."""
    answers = []
    for function in (sendfile, os.sendfile):
        near, _ = wires.sockets("unix")
        file = wires.file(b"abcdefghij")
        args, kwargs = SENDFILE_MISUSE[case](near.fileno(), file)
        answers.append((outcome(function, *args, **kwargs), os.lseek(file, 0, os.SEEK_CUR)))
    ours, theirs = answers
    assert same(ours[0], theirs[0]), answers
    assert ours[1] == theirs[1]


STANDARD = """
import os, sys, unittest, warnings
import spliceio
calls = {"splice": 0, "sendfile": 0}
def counted(name):
    function = getattr(spliceio, name)
    def call(*args, **kwargs):
        calls[name] += 1
        if name == "sendfile" and len(args) + len(kwargs) > 4:
            raise TypeError("headers, trailers and flags are not for Linux")
        return function(*args, **kwargs)
    return call
os.splice, os.sendfile = counted("splice"), counted("sendfile")
from test import test_os, test_posix
suite = unittest.TestSuite()
def walk(tests):
    for one in tests:
        if isinstance(one, unittest.TestSuite):
            walk(one)
        elif "splice" in one.id().lower() or "sendfile" in one.id().lower():
            suite.addTest(one)
for tested in (test_os, test_posix):
    walk(unittest.defaultTestLoader.loadTestsFromModule(tested))
result = unittest.TextTestRunner(verbosity=2).run(suite)
print(result.testsRun, calls["splice"], calls["sendfile"])
sys.exit(not result.wasSuccessful())
"""


def test_the_standard_librarys_own_tests_pass_with_ours_in_place():
    """CPython's tests of os.splice and os.sendfile, run on spliceio's."""
    try:
        found = importlib.util.find_spec("test.test_os")
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip("this Python has no test package (Debian splits it off)")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STANDARD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ran, splices, sendfiles = map(int, done.stdout.split())
    assert ran > 0
    assert splices > 0
    assert sendfiles > 0


# ---- what is added ------------------------------------------------------------------------------


def test_objects_with_fileno_are_taken(wires):
    """Sockets, files and anything else with fileno()."""
    near, far = wires.sockets("unix")
    reader, writer = wires.pipe()
    far.send(b"abc")
    assert splice(near, Fd(writer), 10) == 3
    assert tee(Fd(reader), wires.pipe()[1], 10) == 3
    with open(wires.tmp_path / "out", "w+b") as file:
        assert splice(Fd(reader), file, 10) == 3
        assert sendfile(near, file, 0, 10) == 3
    assert far.recv(10) == b"abc"


@pytest.mark.parametrize("call", [splice, tee])
@pytest.mark.parametrize("bad", [Lair(), object(), "3", None, 3.0, b"3"])
def test_what_has_no_descriptor_is_a_type_error(wires, call, bad):
    """Not an errno, and nothing is asked of the kernel."""
    reader, writer = wires.pipe()
    with pytest.raises(TypeError):
        call(bad, writer, 1)
    with pytest.raises(TypeError):
        call(reader, bad, 1)


@pytest.mark.parametrize("call", [splice, tee, try_splice, try_tee])
@pytest.mark.parametrize("bad", ["src", "dst"])
def test_a_count_of_zero_still_wants_open_descriptors(wires, call, bad):
    """The kernel returns 0 before it looks; a closed descriptor would pass for an empty one."""
    reader, writer = wires.pipe()
    ends = {"src": (999_999, writer), "dst": (reader, 999_999)}[bad]
    with pytest.raises(OSError, match="not open") as caught:
        call(*ends, 0)
    assert caught.value.errno == errno.EBADF
    assert call(reader, wires.pipe()[1], 0) == 0


@pytest.mark.parametrize("call", [splice, tee, try_splice, try_tee])
def test_a_negative_count_is_a_value_error(wires, call):
    """And the same exception is EINVAL, as os.sendfile has it."""
    reader, _ = wires.pipe()
    _, writer = wires.pipe()
    with pytest.raises(ValueError, match="negative"):
        call(reader, writer, -1)


@pytest.mark.parametrize("count", [2**31, 2**32, 2**62, 2**63 - 1])
def test_a_large_count_is_clamped(wires, count):
    """One call takes what one call takes; the kernel alone would refuse some of these."""
    reader, writer = wires.pipe()
    os.write(writer, b"abc")
    near, far = wires.sockets("unix")
    assert splice(reader, near, count) == 3
    assert far.recv(10) == b"abc"
    assert sendfile(near, wires.file(b"defg"), 0, count) == 4
    os.write(writer, b"hi")
    assert tee(reader, wires.pipe()[1], count) == 2


def test_offsets_are_64_bits(wires):
    """Beyond 4 GiB, both ways, of a sparse file."""
    far = (6 << 30) + 5
    file = wires.file()
    reader, writer = wires.pipe()
    os.write(writer, b"distant")
    assert splice(reader, file, 7, offset_dst=far) == 7
    assert os.pread(file, 10, far) == b"distant"
    assert splice(file, writer, 7, offset_src=far) == 7
    assert os.read(reader, 10) == b"distant"
    near, peer = wires.sockets("unix")
    assert sendfile(near, file, far + 3, 100) == 4
    assert peer.recv(10) == b"tant"
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_the_try_forms_return_none_when_they_would_block(wires):
    """None for "would block", the count otherwise; 0 is the end of file."""
    reader, writer = wires.pipe()
    out_r, out_w = wires.pipe()
    assert try_splice(reader, out_w, 10) is None
    assert try_tee(reader, out_w, 10) is None
    with pytest.raises(BlockingIOError):
        splice(reader, out_w, 10, flags=SPLICE_F_NONBLOCK)
    with pytest.raises(BlockingIOError):
        tee(reader, out_w, 10, SPLICE_F_NONBLOCK)
    os.write(writer, b"abc")
    assert try_tee(reader, out_w, 10) == 3
    assert try_splice(reader, out_w, 10) == 3
    assert os.read(out_r, 10) == b"abcabc"
    os.close(writer)
    assert try_splice(reader, out_w, 10) == 0
    assert try_tee(reader, out_w, 10) == 0
    full_r, full_w = wires.clogged()
    assert try_splice(wires.file(b"x"), full_w, 1) is None
    assert try_vmsplice(full_w, b"x") is None
    assert os.read(full_r, 1) == b"."


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_try_sendfile_returns_none_when_the_socket_is_full(wires, kind):
    """The descriptor must be nonblocking itself."""
    near, _ = wires.stuffed(kind)
    near.setblocking(False)
    file = wires.file(b"x" * 100_000)
    assert try_sendfile(near, file, 0, 100_000) is None
    with pytest.raises(BlockingIOError):
        sendfile(near, file, 0, 100_000)


@pytest.mark.parametrize("name", ["splice", "tee", "vmsplice", "sendfile"])
def test_eintr_is_retried_while_handlers_run(wires, name):
    """A blocked call is interrupted again and again; the handler runs, the call goes on."""
    rings = []
    reader, writer = wires.pipe()
    _out_r, out_w = wires.pipe()
    clog_r, clog_w = wires.clogged()
    near, far = wires.stuffed("unix")
    main = threading.main_thread()
    calls = {
        "splice": lambda: splice(reader, out_w, 10),
        "tee": lambda: tee(reader, out_w, 10),
        "vmsplice": lambda: vmsplice(clog_w, b"after"),
        "sendfile": lambda: sendfile(near, wires.file(b"after"), 0, 5),
    }
    before = signal.signal(signal.SIGALRM, lambda *a: rings.append(1))

    def release():
        until(lambda: len(rings) >= 20)
        if name in ("splice", "tee"):
            os.write(writer, b"after")
        elif name == "vmsplice":
            os.read(clog_r, 10)
        else:
            while select.select([far], [], [], 0)[0] and far.recv(1 << 16)[-5:] != b"after":
                pass

    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    worker = Worker(release)
    try:
        assert calls[name]() == 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        worker.join()
    assert main.is_alive()
    assert len(rings) >= 20


def test_a_handler_that_raises_ends_the_call(wires):
    """As PEP 475 has it."""
    reader, _writer = wires.pipe()

    def ring(signum, frame):
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        with pytest.raises(ZeroDivisionError):
            splice(reader, wires.pipe()[1], 10)
    finally:
        signal.signal(signal.SIGALRM, before)


# ---- tee ----------------------------------------------------------------------------------------


def test_tee_consumes_nothing_and_begins_at_the_head(wires):
    """After a short tee, the next repeats the same bytes."""
    reader, writer = wires.pipe()
    out_r, out_w = wires.pipe()
    os.write(writer, b"0123456789")
    assert tee(reader, out_w, 4) == 4
    assert tee(reader, out_w, 6) == 6
    assert os.read(out_r, 100) == b"0123012345"
    assert os.read(reader, 100) == b"0123456789"


@pytest.mark.parametrize("kinds", [("file", "pipe"), ("pipe", "file"), ("unix", "pipe")])
def test_tee_wants_two_pipes(wires, kinds):
    """EINVAL, with words."""
    src, dst = wires.source(kinds[0], b"abc"), wires.sink(kinds[1])
    with pytest.raises(OSError, match="both ends must be pipes") as caught:
        tee(src.end, dst.end, 3)
    assert caught.value.errno == errno.EINVAL


def test_tee_to_the_same_pipe(wires):
    """EINVAL: both ends belong to it."""
    reader, writer = wires.pipe()
    os.write(writer, b"abc")
    with pytest.raises(OSError, match="same pipe"):
        tee(reader, writer, 3)


# ---- vmsplice -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "buffers",
    [
        b"abcdef",
        bytearray(b"abcdef"),
        memoryview(b"xabcdefx")[1:7],
        [b"abc", b"def"],
        (b"a", bytearray(b"bc"), memoryview(b"def")),
        [b"", b"abcdef", b""],
    ],
    ids=["bytes", "bytearray", "view", "list", "tuple", "empty parts"],
)
def test_vmsplice_maps_memory_into_a_pipe(wires, buffers):
    """A bytes-like object, or a sequence of them."""
    reader, writer = wires.pipe()
    assert vmsplice(writer, buffers) == 6
    assert os.read(reader, 10) == b"abcdef"


def test_vmsplice_reads_into_memory_at_a_read_end(wires):
    """The other direction copies, and fills the buffers in order."""
    reader, writer = wires.pipe()
    os.write(writer, b"abcdef")
    first, second = bytearray(2), bytearray(10)
    assert vmsplice(reader, [first, second]) == 6
    assert (bytes(first), bytes(second)) == (b"ab", b"cdef" + bytes(6))


def test_vmsplice_does_not_write_into_what_is_read_only(wires):
    """A bytes object at a read end is refused, and stays as it is."""
    reader, writer = wires.pipe()
    os.write(writer, b"abcdef")
    constant = b"......"
    with pytest.raises(TypeError, match="read-only"):
        vmsplice(reader, constant)
    assert constant == b"......"
    assert os.read(reader, 10) == b"abcdef"


@pytest.mark.parametrize("flags", [0, SPLICE_F_GIFT])
def test_a_later_change_of_the_memory_is_seen_by_the_reader(wires, flags):
    """The documented trap: the pipe holds the pages, and GIFT protects nothing."""
    reader, writer = wires.pipe()
    memory = bytearray(b"before" + bytes(4090))
    vmsplice(writer, memory, flags)
    memory[:6] = b"after!"
    assert os.read(reader, 6) in (b"after!", b"before")
    if _aliases():
        reader, writer = wires.pipe()
        vmsplice(writer, memory, flags)
        memory[:6] = b"again!"
        assert os.read(reader, 6) == b"again!"


def _aliases():
    """Whether os.splice's sister aliases memory on this kernel, seen through libc alone."""
    reader, writer = os.pipe()
    memory = ctypes.create_string_buffer(b"old", 4096)
    iov = (ctypes.c_void_p * 2)(ctypes.addressof(memory), 3)
    ctypes.CDLL(None).vmsplice(writer, ctypes.byref(iov), 1, 0)
    memory[0:3] = b"new"
    seen = os.read(reader, 3)
    os.close(reader)
    os.close(writer)
    return seen == b"new"


@pytest.mark.parametrize("count", [1024, 1025])
def test_vmsplice_takes_1024_buffers(wires, count):
    """One more is EINVAL, with the number in words."""
    _reader, writer = wires.pipe(1 << 20)
    if count == 1024:
        os.set_blocking(writer, True)
        assert 0 < vmsplice(writer, [b"x"] * count, SPLICE_F_NONBLOCK) <= count
        return
    with pytest.raises(OSError, match="1025 buffers") as caught:
        vmsplice(writer, [b"x"] * count)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("bad", [5, "text", None, [5], ["text"], [b"x", None], object()])
def test_vmsplice_wants_buffers(wires, bad):
    """Anything else is a TypeError."""
    _reader, writer = wires.pipe()
    with pytest.raises(TypeError):
        vmsplice(writer, bad)


@pytest.mark.parametrize("kind", ["file", "unix", "tty"])
def test_vmsplice_wants_a_pipe(wires, kind):
    """EBADF, saying that it is no pipe."""
    with pytest.raises(OSError, match="no pipe") as caught:
        vmsplice(wires.sink(kind).end, b"abc")
    assert caught.value.errno == errno.EBADF


def test_vmsplice_of_nothing(wires):
    """No buffers and empty buffers move nothing."""
    _reader, writer = wires.pipe()
    assert vmsplice(writer, []) == 0
    assert vmsplice(writer, b"") == 0


def test_vmsplice_wants_contiguous_memory(wires):
    """A view with gaps is refused."""
    _reader, writer = wires.pipe()
    with pytest.raises((BufferError, ValueError, TypeError)):
        vmsplice(writer, memoryview(b"abcdef")[::2])


# ---- the kernel's table -------------------------------------------------------------------------

E = errno


def special(wires, name):
    """Open one row of the table for reading and writing, as far as it can be."""
    fd = wires.ends.fd
    if name in ("file", "tmpfs"):
        return wires.file(b"x" * 5000, kind=name)
    if name == "memfd":
        return wires.file(b"x" * 5000, kind="memfd")
    if name == "append":
        return wires.file(b"x" * 10, flags=os.O_RDWR | os.O_APPEND)
    if name == "sealed":
        memfd = fd(os.memfd_create("sealed", os.MFD_ALLOW_SEALING))
        os.write(memfd, b"x" * 5000)
        os.lseek(memfd, 0, os.SEEK_SET)
        fcntl.fcntl(memfd, 1033, 8)
        return memfd
    if name.startswith("/proc"):
        return fd(os.open(name, os.O_RDONLY))
    if name.startswith("/"):
        return fd(os.open(name, os.O_RDWR))
    if name == "tty":
        master, slave = wires.terminal()
        os.write(master, b"x" * 100)
        return slave
    if name in ("tcp4", "unix", "mptcp"):
        near, far = wires.sockets(name)
        far.send(b"x" * 100)
        return near.fileno()
    if name == "udp":
        one = wires.ends.sock(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one.bind(("127.0.0.1", 0))
        one.connect(one.getsockname())
        one.send(b"x" * 100)
        return one.fileno()
    if name == "listening":
        one = wires.ends.sock(socket.socket())
        one.bind(("127.0.0.1", 0))
        one.listen()
        return one.fileno()
    if name == "unconnected":
        return wires.ends.sock(socket.socket()).fileno()
    if name == "epoll":
        poll = select.epoll()
        wires.ends.callback(poll.close)
        return poll.fileno()
    if name == "directory":
        return fd(os.open("/", os.O_RDONLY))
    if name == "path":
        return fd(os.open("/", os.O_PATH))
    raise AssertionError(name)


# descriptor: into a pipe, out of a pipe, as the source of sendfile; 0 is "it works"
TABLE = {
    "file": (0, 0, 0),
    "tmpfs": (0, 0, 0),
    "memfd": (0, 0, 0),
    "append": (0, E.EINVAL, 0),
    "sealed": (0, E.EPERM, 0),
    "/dev/zero": (0, 0, 0),
    "/dev/urandom": (0, 0, 0),
    "/dev/full": (0, E.EINVAL, 0),
    "/dev/null": (E.EINVAL, 0, E.EINVAL),
    "/proc/version": (0, E.EBADF, 0),
    "/proc/meminfo": (0, E.EBADF, 0),
    "/proc/self/status": (E.EINVAL, E.EBADF, E.EINVAL),
    "tty": (0, 0, E.EINVAL),
    "tcp4": (0, 0, E.EINVAL),
    "mptcp": (0, 0, E.EINVAL),
    "unix": (0, 0, E.EINVAL),
    "udp": (0, 0, E.EINVAL),
    "listening": (E.ENOTCONN, E.EPIPE, E.EINVAL),
    "unconnected": (E.ENOTCONN, E.EPIPE, E.EINVAL),
    "epoll": (E.EINVAL, E.EINVAL, E.EINVAL),
    "directory": (E.EINVAL, E.EBADF, E.EINVAL),
    "path": (E.EBADF, E.EBADF, E.EBADF),
}


def _answer(function, *args):
    """0 when bytes were moved, or the errno."""
    try:
        moved = function(*args)
    except OSError as error:
        return error.errno
    assert moved > 0
    return 0


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("column", ["into a pipe", "out of a pipe", "sendfile source"])
def test_what_the_kernel_takes(wires, name, column):
    """A row of the documented table, seen on this kernel."""
    if reason := missing(name):
        pytest.skip(reason)
    fd = special(wires, name)
    reader, writer = wires.pipe()
    if column == "into a pipe":
        got = _answer(splice, fd, writer, 100)
    elif column == "out of a pipe":
        os.write(writer, b"y" * 100)
        got = _answer(splice, reader, fd, 100)
    else:
        # Into a pipe sendfile is a splice, and takes what splice takes.
        got = _answer(sendfile, wires.sink("unix").end, fd, None, 100)
    expected = TABLE[name][("into a pipe", "out of a pipe", "sendfile source").index(column)]
    assert errno.errorcode.get(got, got) == errno.errorcode.get(expected, expected)


def test_the_same_fifo_twice(wires):
    """EINVAL, as for the two ends of one pipe."""
    reader, writer = wires._pair("fifo", reads=True)
    os.write(writer, b"abc")
    with pytest.raises(OSError, match="same pipe") as caught:
        splice(reader, writer, 3)
    assert caught.value.errno == errno.EINVAL


# ---- does it block? -----------------------------------------------------------------------------


def blocks(function, release):
    """Say whether the call sleeps in the kernel; then let it go by `release`."""
    done = threading.Event()

    def call():
        try:
            return function()
        except BlockingIOError:
            return "EAGAIN"
        finally:
            done.set()

    worker = Worker(call)
    until(lambda: done.is_set() or worker.asleep())
    asleep = not done.is_set()
    # A thread may sleep for the GIL or in its last breath: what counts is that it never returns
    # before it is released, and a call that does not block returns without that.
    if asleep:
        asleep = not done.wait(0.05)
    release()
    return "blocks" if asleep else worker.result()


CASES = {
    "file to full pipe, NONBLOCK": "EAGAIN",
    "file to full pipe, O_NONBLOCK writer": "EAGAIN",
    "file to full pipe, O_NONBLOCK reader": "blocks",
    "empty pipe to file, O_NONBLOCK reader": "EAGAIN",
    "empty pipe to file, O_NONBLOCK writer": "blocks",
    "pipe to pipe, O_NONBLOCK src": "EAGAIN",
    "pipe to pipe, O_NONBLOCK dst": "EAGAIN",
    "tee, O_NONBLOCK src": "EAGAIN",
    "tee, O_NONBLOCK dst": "EAGAIN",
    "blocking tcp to pipe, NONBLOCK": "blocks",
    "blocking unix to pipe, NONBLOCK": "EAGAIN",
    "pipe to full blocking tcp, NONBLOCK": "blocks",
    "vmsplice, O_NONBLOCK writer": "blocks",
}


@pytest.mark.parametrize("case", CASES)
def test_what_blocks_and_what_does_not(wires, case):
    """A row of the documented table, seen on this kernel."""
    reader, writer = wires.pipe()
    other_r, other_w = wires.pipe()
    file = wires.file(b"x" * 100)
    if "full pipe" in case or case.startswith("vmsplice"):
        full_r, full_w = wires.clogged()

        def release():
            os.set_blocking(full_r, False)
            os.read(full_r, 16)

        flags = SPLICE_F_NONBLOCK if case.endswith(", NONBLOCK") else 0
        os.set_blocking(full_w, "O_NONBLOCK writer" not in case)
        os.set_blocking(full_r, "O_NONBLOCK reader" not in case)
        if case.startswith("vmsplice"):
            got = blocks(lambda: vmsplice(full_w, b"x"), release)
        else:
            got = blocks(lambda: splice(file, full_w, 10, flags=flags), release)
    elif "tcp" in case or "unix" in case:
        if case.startswith("pipe"):
            near, far = wires.stuffed("tcp4")
            os.write(writer, b"x" * 10)
            got = blocks(lambda: splice(reader, near, 10, flags=2), far.close)
        else:
            near, far = wires.sockets("tcp4" if "tcp" in case else "unix")
            got = blocks(lambda: splice(near, writer, 10, flags=2), far.close)
    else:
        os.set_blocking(reader, "O_NONBLOCK src" not in case and "O_NONBLOCK reader" not in case)
        os.set_blocking(writer, "O_NONBLOCK writer" not in case)
        os.set_blocking(other_w, "O_NONBLOCK dst" not in case)
        dst = file if "to file" in case else other_w
        call = tee if case.startswith("tee") else splice
        got = blocks(lambda: call(reader, dst, 10), lambda: os.write(writer, b"x"))
    assert got == CASES[case]
    assert other_r >= 0


# ---- words --------------------------------------------------------------------------------------

WORDS = [
    ("neither", lambda w: splice(w.file(b"x"), w.sockets("tcp4")[0], 1), "neither end is a pipe"),
    ("socket offset", lambda w: splice(w.sockets("unix")[0], w.pipe()[1], 1, 0), "no positions"),
    ("pipe offset", lambda w: splice(w.pipe()[0], w.file(), 1, 0), "no positions"),
    ("closed reader", lambda w: _to_closed_reader(w), "read end was closed"),
    ("append", lambda w: splice(_full(w), special(w, "append"), 1), "O_APPEND"),
    ("sendfile pipe", lambda w: sendfile(w.pipe()[1], _full(w), None, 1), "seekable"),
    ("wrong end", lambda w: splice(w.pipe()[1], w.file(), 1), "write end of a pipe"),
    ("directory", lambda w: splice(special(w, "directory"), w.pipe()[1], 1), "directory"),
    ("o_path", lambda w: splice(special(w, "path"), w.pipe()[1], 1), "O_PATH"),
    ("listening", lambda w: splice(special(w, "listening"), w.pipe()[1], 1), r"accept\(\)"),
]


def _full(wires):
    reader, writer = wires.pipe()
    os.write(writer, payload(100))
    return reader


def _to_closed_reader(wires):
    reader, writer = wires.pipe()
    os.close(reader)
    return splice(wires.file(b"x"), writer, 1)


@pytest.mark.parametrize(
    ("call", "words"), [(c, w) for _, c, w in WORDS], ids=[n for n, *_ in WORDS]
)
def test_a_failure_says_why(wires, call, words):
    """The message names the call, the descriptors and the reason."""
    with pytest.raises(OSError, match=words) as caught:
        call(wires)
    assert caught.value.errno
    assert caught.value.strerror.startswith(("splice: ", "sendfile: "))


def test_a_memoryview_in_a_cycle_with_its_exception_is_collected(wires):
    """Nothing stays pinned: the collector would clear the view first, and crash on it then."""
    with open("/dev/null", "wb") as null:
        view = memoryview(b"bytes" * 10)
        try:
            vmsplice(null, view)
        except OSError as error:
            kept = [view, error]
        kept.append(kept)
        view.release()  # BufferError if it were still exported
    del kept, view
    gc.collect()
