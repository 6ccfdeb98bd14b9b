"""PageWriter: nothing that happens to the data after the call reaches the reader.

Rule 1: a test that is about gifted pages forces them (method="vmsplice"), because whether the
        kernel has a huge page for "auto" at the moment is not for the test to say.
Rule 2: scripts come in through the seam; what a sandbox does is done by a real one.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import gc
import io
import mmap
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import spliceio
from spliceio import PageWriter, Pipe
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.states import Worker, until
from tests.support.wires import payload, read_all

PAGE = os.sysconf("SC_PAGESIZE")
CAPACITY = 16 * PAGE
MIB = 1 << 20
FROM = 128 << 10
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 5 * MIB]
METHODS = ["auto", "vmsplice", "write"]
HANG = 20


@pytest.fixture(params=METHODS)
def method(request):
    """Each method in turn."""
    return request.param


def run(code: str, *before: str) -> str:
    """Run code in a new interpreter; return what it prints."""
    done = subprocess.run(
        [*before, sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def scripted(writer: PageWriter, *rules) -> Seam:
    """Put a seam under a writer, which keeps it."""
    seam = writer.seam = Seam(*rules)
    writer._seam = seam.c
    return seam


def check_method(writer: PageWriter, method: str, count: int) -> None:
    """Everything went by the method that was asked for, or there is a reason."""
    counts = writer.by_method
    assert sum(counts.values()) == writer.moved
    if method == "auto" and count >= FROM and not writer.fallbacks:
        method = "vmsplice"
    if method != "auto":
        assert counts[method] == writer.moved
    elif count < FROM:
        assert counts["vmsplice"] == 0


# -- what comes out is what went in ----------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_written_to_a_blocking_pipe(wires, method, size):
    """Of any size, whole and in order, and more than once."""
    reader, writer_fd = wires.pipe()
    data = payload(size)
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        reading = Worker(lambda: read_all(reader))
        assert writer.write(data) == size
        assert writer.write(data) == size
        assert writer.moved == 2 * size
        check_method(writer, method, size)
    assert reading.result() == data * 2


@pytest.mark.parametrize("size", SIZES)
def test_a_nonblocking_pipe_takes_what_fits(wires, method, size):
    """A short count, then None; what was counted is what arrives, and the rest can go on."""
    reader, writer_fd = wires.pipe()
    os.set_blocking(writer_fd, False)
    data, got, at = payload(size), b"", 0
    with PageWriter(writer_fd, method=method) as writer:
        assert writer.write(b"") == 0
        while at < size:
            n = writer.write(data[at:])
            if n is None:
                assert not at or got != data[:at]
                got += os.read(reader, MIB)
            else:
                assert 0 < n <= size - at
                at += n
        assert writer.moved == size
    os.close(writer_fd)
    assert got + read_all(reader) == data


@pytest.mark.parametrize("size", [CAPACITY - 1, CAPACITY, CAPACITY + 1])
def test_an_empty_nonblocking_pipe_takes_its_capacity(wires, size):
    """Whole pages fill whole slots."""
    reader, writer_fd = wires.pipe()
    os.set_blocking(writer_fd, False)
    data = payload(size)
    with PageWriter(writer_fd, method="vmsplice") as writer:
        assert writer.write(data) == min(size, CAPACITY)
        assert writer.write(data) is None
        assert writer.moved == min(size, CAPACITY)
    assert os.read(reader, 2 * size) == data[:CAPACITY]


@pytest.mark.parametrize(
    ("method", "size"),
    [("auto", FROM), ("write", FROM), ("vmsplice", FROM), ("vmsplice", 1)],
)
def test_a_pipe_that_is_full_by_slots_takes_nothing(clogged, method, size):
    """None, however few bytes are in it; afterwards the same data goes whole.

    A single byte by write() would still find a place behind the last one.
    """
    reader, writer_fd = clogged
    os.set_blocking(writer_fd, False)
    with PageWriter(writer_fd, method=method) as writer:
        assert writer.write(b"x" * size) is None
        assert writer.moved == 0
        assert os.read(reader, CAPACITY) == b"." * 16
        fits = min(size, CAPACITY)
        assert writer.write(b"x" * size) == fits
    assert os.read(reader, size) == b"x" * fits


@pytest.mark.parametrize("capacity", [PAGE, 2 * PAGE, MIB])
def test_small_and_large_pipes_are_all_the_same(wires, method, capacity):
    """A pipe of one page, as one gets when the quota is used up, and one of 1 MiB."""
    reader, writer_fd = wires.pipe(capacity)
    data = payload(MIB + 7)
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        reading = Worker(lambda: read_all(reader))
        assert writer.write(data) == len(data)
        check_method(writer, method, len(data))
    assert reading.result() == data


def test_a_used_up_pipe_quota_changes_nothing():
    """The trial pipe and the caller's are smaller then; the bytes are whole."""
    code = """
        import os, threading
        from spliceio import PageWriter, Pipe
        if os.geteuid() == 0:
            os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        taken = [Pipe(1 << 20) for _ in range(80)]
        data, got = os.urandom(1 << 20), []
        with Pipe() as pipe:
            def read():
                while part := pipe.read(1 << 20):
                    got.append(part)
            reading = threading.Thread(target=read)
            reading.start()
            with PageWriter(pipe) as writer:
                pipe.close_writer()
                print(writer.write(data))
            reading.join()
        assert b"".join(got) == data
        for one in taken:
            one.close()
    """
    preload = "import spliceio; spliceio.PageWriter, spliceio.Pipe\n"
    assert run(preload + textwrap.dedent(code)) == f"{MIB}\n"


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"abcdef"),
        memoryview(b"xabcdefx")[1:7],
        memoryview(b"a.b.c.d.e.f.")[::2],
        array.array("H", b"abcdef"),
        (ctypes.c_char * 6)(*b"abcdef"),
        (ctypes.c_uint16 * 3).from_buffer_copy(b"abcdef"),
        memoryview(b"abcdef").cast("B", (2, 3)),
    ],
    ids=["bytearray", "view", "with gaps", "array", "ctypes", "ctypes of numbers", "2 dimensions"],
)
def test_anything_with_a_buffer_can_be_written(wires, method, data):
    """Its bytes go, whatever its items are."""
    reader, writer_fd = wires.pipe()
    with PageWriter(writer_fd, method=method) as writer:
        assert writer.write(data) == 6
        assert os.read(reader, 10) == b"abcdef"


@pytest.mark.parametrize(
    ("data", "words"), [("text", "encode"), (5, "bytes-like"), (None, "bytes-like")]
)
def test_what_has_no_bytes_is_refused(wires, data, words):
    """A TypeError, with the way out for a str."""
    _, writer_fd = wires.pipe()
    with PageWriter(writer_fd) as writer, pytest.raises(TypeError, match=words):
        writer.write(data)


# -- the point of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, PAGE, CAPACITY])
def test_a_later_change_of_the_data_does_not_reach_the_reader(wires, method, size):
    """Changed in place, resized, deleted, collected: the reader gets what was written."""
    reader, writer_fd = wires.pipe()
    data = payload(size)
    mine = bytearray(data)
    with PageWriter(writer_fd, method=method) as writer:
        assert writer.write(mine) == size
        mine[:] = b"!" * size
        mine.extend(b"resized" * size)
        mine.clear()
        del mine
        gc.collect()
        refill = [bytearray(b"?" * size) for _ in range(50)]
        assert os.read(reader, 2 * size) == data
        assert refill


def test_unmapped_data_does_not_reach_the_reader(wires, method):
    """A mapping that is closed at once, and its addresses used for something else."""
    reader, writer_fd = wires.pipe()
    with PageWriter(writer_fd, method=method) as writer:
        mapped = mmap.mmap(-1, CAPACITY)
        mapped[:] = b"1" * CAPACITY
        assert writer.write(mapped) == CAPACITY
        mapped.close()
        again = mmap.mmap(-1, CAPACITY)
        again[:] = b"2" * CAPACITY
        assert os.read(reader, CAPACITY) == b"1" * CAPACITY
        again.close()


@pytest.mark.parametrize("method", ["vmsplice", "auto"])
def test_later_writes_do_not_reach_into_earlier_ones(wires, method):
    """Bytes wait in a pipe while the same writer goes through its memory three times over."""
    first_r, first_w = wires.pipe(MIB)
    kept_r, kept_w = wires.pipe(MIB)
    with PageWriter(first_w, method=method) as writer:
        expected = b""
        for turn in range(120):
            piece = bytes([turn]) * (FROM + turn)
            assert writer.write(piece) == len(piece)
            moved = spliceio.splice(first_r, kept_w, 100)  # of each piece some stays for long
            expected += piece[:moved]
            assert os.read(first_r, 2 * FROM) == piece[moved:]
        assert writer.moved > 3 * (MIB + turn)
        check_method(writer, method, FROM)
    assert os.read(kept_r, MIB) == expected


def test_closing_the_writer_leaves_the_bytes(wires, method):
    """Its memory is unmapped then; the pipe has the pages."""
    reader, writer_fd = wires.pipe()
    data = payload(CAPACITY)
    with PageWriter(writer_fd, method=method) as writer:
        writer.write(data)
    writer = None
    gc.collect()
    other = [mmap.mmap(-1, 2 * MIB) for _ in range(3)]
    for one in other:
        one[:] = b"x" * len(one)
        one.close()
    assert os.read(reader, CAPACITY) == data


def test_a_teed_copy_does_not_change_either(wires, method):
    """Both pipes refer to the same pages, and nobody writes those."""
    reader, writer_fd = wires.pipe()
    copy_r, copy_w = wires.pipe()
    data = bytearray(payload(CAPACITY))
    wanted = bytes(data)
    with PageWriter(writer_fd, method=method) as writer:
        writer.write(data)
        assert spliceio.tee(reader, copy_w, CAPACITY) == CAPACITY
        data[:] = bytes(CAPACITY)
        assert os.read(reader, CAPACITY) == wanted
        for _ in range(40):
            writer.write(data)
            os.read(reader, CAPACITY)
    assert os.read(copy_r, CAPACITY) == wanted


@pytest.mark.parametrize("size", [100, FROM])
def test_fork_separates_two_writers(wires, method, size):
    """Child and parent change their data and go on writing; what is in the pipes stays."""
    reader, writer_fd = wires.pipe(MIB)
    said_r, said_w = wires.pipe()
    before, child, parent = b"b" * size, b"c" * size, b"p" * size
    data = bytearray(before)
    with PageWriter(writer_fd, method=method) as writer:
        assert writer.write(data) == size
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                data[:] = child
                writer.write(data)
                data[:] = b"!" * size
                os.write(said_w, b"x")
                os.read(said_r, 0)
                status = 0
            os._exit(status)
        assert os.read(said_r, 1) == b"x"
        data[:] = parent
        for _ in range(4):
            writer.write(data)
        assert os.waitpid(pid, 0)[1] == 0
        data[:] = b"?" * size
    assert os.read(reader, MIB) == before + child + parent * 4


def test_the_memory_for_gifts_is_wiped_at_fork(wires):
    """The kernel lists the region with the flag "wf": parent and child share no page of it."""
    _, writer_fd = wires.pipe()

    def wiped():
        parts = Path("/proc/self/smaps").read_text().split("VmFlags:")
        sizes = [part.rpartition("\nSize:")[2].split()[0] for part in parts[:-1]]
        flags = [part.partition("\n")[0].split() for part in parts[1:]]
        return sum(int(kb) for kb, of in zip(sizes, flags, strict=True) if "wf" in of)

    with PageWriter(writer_fd, method="vmsplice") as writer:
        before = wiped()
        writer.write(b"x")
        assert wiped() == before + 2048


def test_a_child_forked_during_a_write_can_write(wires):
    """The thread that had the lock is not there, and the lock is made anew."""
    reader, writer_fd = wires.pipe()
    other_r, other_w = wires.pipe()
    data = payload(MIB)
    with PageWriter(writer_fd, method="vmsplice") as writer:
        os.close(writer_fd)
        writing = Worker(lambda: writer.write(data))
        until(lambda: writer._writing and writing.asleep())
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.dup2(other_w, writer.fileno())  # the child's own pipe, by the same writer
                status = writer.write(b"child") != 5
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        got = b""
        while len(got) < MIB:
            got += os.read(reader, MIB)
        assert writing.result() == MIB
    assert got == data
    assert os.read(other_r, 10) == b"child"


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, PAGE + 1, 100_000])
def test_what_one_call_writes_stays_together(wires, method, size):
    """Four threads at one writer: their pieces come whole, in some order."""
    reader, writer_fd = wires.pipe()
    names = [b"a", b"b", b"c", b"d"]
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)

        def write(name):
            return sum(writer.write(name * size) for _ in range(10))

        reading = Worker(lambda: read_all(reader))
        writing = [Worker(lambda name=name: write(name)) for name in names]
        assert [one.result() for one in writing] == [10 * size] * 4
    got = reading.result()
    pieces = [got[at : at + size] for at in range(0, len(got), size)]
    assert sorted(pieces) == sorted(name * size for name in names for _ in range(10))


def test_closing_takes_effect_when_the_write_under_way_returns(wires, method):
    """The descriptor stays open as long as it is used; a new call is refused at once."""
    reader, writer_fd = wires.pipe()
    data = payload(2 * CAPACITY)
    writer = PageWriter(writer_fd, method=method)
    os.close(writer_fd)
    number = writer.fileno()
    writing = Worker(lambda: writer.write(data))
    until(lambda: writer._writing and writing.asleep())
    writer.close()
    assert writer.closed
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")
    os.fstat(number)
    got = read_all(reader)
    assert writing.result() == len(data)
    assert got == data
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


def test_closing_the_callers_descriptor_does_not_divert_a_byte(wires, method):
    """The number goes to another pipe; the bytes go on to the first."""
    reader, writer_fd = wires.pipe(MIB)
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        _, stranger = wires.pipe()
        os.dup2(stranger, writer_fd)
        assert writer.write(b"x" * FROM) == FROM
    assert read_all(reader) == b"x" * FROM


# -- scripts ---------------------------------------------------------------------------------------

CALL = {"vmsplice": "vmsplice", "write": "write"}


@pytest.mark.parametrize("method", ["vmsplice", "write"])
@pytest.mark.parametrize("most", [1, 7, 1000, PAGE, PAGE + 1])
def test_short_counts_lose_and_repeat_nothing(wires, method, most):
    """Whatever the kernel takes at a time, the rest goes again."""
    reader, writer_fd = wires.pipe()
    size = 300 if most < 100 else 200_000
    data = payload(size)
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        seam = scripted(writer, cap(CALL[method], most))
        reading = Worker(lambda: read_all(reader))
        assert writer.write(data) == size
        taken = [row.result for row in seam.calls(CALL[method])]
        assert max(taken) <= most
        assert sum(taken) == size
    assert reading.result() == data


@pytest.mark.parametrize("method", ["vmsplice", "write"])
@pytest.mark.parametrize("skip", [0, 1, 5])
def test_eintr_is_tried_again(wires, method, skip):
    """At the first call and at a later one, nothing lost, nothing repeated."""
    reader, writer_fd = wires.pipe()
    data = payload(100_000)
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        seam = scripted(
            writer,
            cap(CALL[method], 10_000, times=skip),
            fail(CALL[method], errno.EINTR, times=3),
            cap(CALL[method], 9_999),
        )
        reading = Worker(lambda: read_all(reader))
        assert writer.write(data) == len(data)
        assert seam.unused() == [0]
    assert reading.result() == data


@pytest.mark.parametrize("method", ["vmsplice", "write"])
@pytest.mark.parametrize("skip", [0, 1, 4])
def test_eagain_ends_a_write_with_what_was_moved(wires, method, skip):
    """None when that is nothing."""
    reader, writer_fd = wires.pipe()
    data = payload(50_000)
    with PageWriter(writer_fd, method=method) as writer:
        # A short write ends the loop in C by itself; after a short vmsplice it asks once more.
        asked = 2 if method == "vmsplice" and skip else 1
        seam = scripted(
            writer,
            cap(CALL[method], PAGE, times=skip),
            fail(CALL[method], errno.EAGAIN, times=asked),
        )
        n = writer.write(data)
        assert n == (skip * PAGE or None)
        assert writer.moved == skip * PAGE
        assert seam.unused() == [0]
        writer.write(data[skip * PAGE :])
    assert os.read(reader, CAPACITY) == data


@pytest.mark.parametrize("method", ["vmsplice", "write"])
@pytest.mark.parametrize("skip", [0, 1, 4])
@pytest.mark.parametrize("err", [errno.EPIPE, errno.EIO, errno.ENOBUFS])
def test_an_error_says_what_is_in_the_pipe(wires, method, skip, err):
    """Its characters_written, and moved; the message names the call."""
    reader, writer_fd = wires.pipe()
    data = payload(50_000)
    with PageWriter(writer_fd, method=method) as writer:
        scripted(writer, cap(CALL[method], PAGE, times=skip), fail(CALL[method], err, times=ALWAYS))
        with pytest.raises(OSError, match=f"^\\[Errno {err}\\] {method}: ") as caught:
            writer.write(data)
        assert caught.value.errno == err
        assert caught.value.characters_written == writer.moved == skip * PAGE
    os.close(writer_fd)
    assert read_all(reader) == data[: skip * PAGE]


@pytest.mark.parametrize("method", ["vmsplice", "write"])
def test_a_kernel_that_takes_nothing_is_an_error_and_no_endless_loop(wires, method):
    """No kernel returns 0 here."""
    _, writer_fd = wires.pipe()
    with PageWriter(writer_fd, method=method) as writer:
        scripted(writer, zero(CALL[method], times=ALWAYS))
        with pytest.raises(OSError, match=method) as caught:
            writer.write(b"x")
        assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("err", [errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_auto_writes_where_vmsplice_is_refused(wires, err, skip):
    """In the trial, at the first gift, at a later one: the same bytes, and the reason."""
    reader, writer_fd = wires.pipe(MIB)
    data = payload(3 * FROM)
    with PageWriter(writer_fd) as writer:
        seam = scripted(
            writer, cap("vmsplice", FROM, times=skip), fail("vmsplice", err, times=ALWAYS)
        )
        assert writer.write(data) == len(data)
        assert writer.write(data) == len(data)
        if errno.ENOMEM not in [f.errno for f in writer.fallbacks]:
            assert [(f.method, f.errno) for f in writer.fallbacks] == [("vmsplice", err)]
            assert writer.fallbacks[0].why
            # Behind bytes that were moved, the refusal is met a second time.
            assert len(seam.calls("vmsplice")) == skip + 1 + (skip == 2)
            gifted = max(0, skip - 1) * FROM
            assert writer.by_method == {"vmsplice": gifted, "write": 2 * len(data) - gifted}
            assert writer.method == "write"
    os.close(writer_fd)
    assert read_all(reader) == data * 2


@pytest.mark.parametrize("err", [errno.ENOSYS, errno.EPERM])
def test_forced_vmsplice_raises_where_it_is_refused(wires, err):
    """OSError that names it; nothing is written."""
    _, writer_fd = wires.pipe()
    with PageWriter(writer_fd, method="vmsplice") as writer:
        scripted(writer, fail("vmsplice", err))
        with pytest.raises(OSError, match="vmsplice: ") as caught:
            writer.write(b"x" * FROM)
        assert caught.value.errno == err
        assert writer.moved == 0
        assert writer.fallbacks == ()


def test_auto_tries_once(wires):
    """One trial byte in a pipe of its own, at the first large write and never again."""
    reader, writer_fd = wires.pipe(MIB)
    with PageWriter(writer_fd) as writer:
        seam = scripted(writer)
        writer.write(b"x" * (FROM - 1))
        assert seam.calls("vmsplice") == []
        for _ in range(3):
            writer.write(b"x" * FROM)
        trials = [row for row in seam.calls("vmsplice") if row.len == 1]
        assert [row.dst == writer.fileno() for row in trials] == [False]
    assert os.read(reader, MIB) == b"x" * (4 * FROM - 1)


def test_a_small_write_is_one_call(wires):
    """Up to PIPE_BUF it is atomic beside other writers."""
    _, writer_fd = wires.pipe()
    with PageWriter(writer_fd) as writer:
        seam = scripted(writer)
        writer.write(b"x" * PAGE)
        assert [(row.call, row.len) for row in seam.log] == [("write", PAGE)]


@pytest.mark.parametrize("capacity", [CAPACITY, MIB])
def test_a_full_pipe_is_asked_before_a_copy_is_made(wires, capacity):
    """A nonblocking write that cannot be taken calls poll and nothing else."""
    _, writer_fd = wires.pipe(capacity)
    os.set_blocking(writer_fd, False)
    with PageWriter(writer_fd, method="vmsplice") as writer:
        writer.write(b"x" * capacity)
        seam = scripted(writer)
        assert writer.write(b"x" * capacity) is None
        assert [row.call for row in seam.log] == ["poll"]


# -- signals ---------------------------------------------------------------------------------------


class Bell(Exception):
    """Raised by a signal handler."""


@contextlib.contextmanager
def alarms(handler):
    """Send SIGALRM every millisecond."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_cost_no_byte(wires, method):
    """Handlers run meanwhile, and the data is whole."""
    reader, writer_fd = wires.pipe()
    data, rung = payload(5 * MIB), []
    with PageWriter(writer_fd, method=method) as writer:
        os.close(writer_fd)
        reading = Worker(lambda: read_all(reader))
        with alarms(lambda *_: rung.append(1)):
            assert writer.write(data) == len(data)
            until(lambda: rung)
    assert reading.result() == data


def test_a_handler_that_raises_leaves_true_counts(wires, method):
    """The exception comes out with characters_written, and exactly those bytes are in the pipe."""
    reader, writer_fd = wires.pipe()
    data, rung = payload(2 * CAPACITY), []

    def ring(*_):
        if writer.moved == CAPACITY and not rung:  # it is full, and the write waits
            rung.append(1)  # the next alarm may come where nothing catches what is raised
            raise Bell

    with PageWriter(writer_fd, method=method) as writer:
        with alarms(ring), pytest.raises(Bell) as caught:
            writer.write(data)
        assert caught.value.characters_written == writer.moved == CAPACITY
        got = os.read(reader, CAPACITY)
        writer.write(data[writer.moved :])
    os.close(writer_fd)
    assert got + read_all(reader) == data


def test_a_handler_that_writes_within_a_write_is_refused(wires):
    """Its bytes would land in the middle."""
    reader, writer_fd = wires.pipe()
    caught, turns = [], [1]

    def ring(*_):
        if writer.moved != CAPACITY:
            return
        with contextlib.suppress(IndexError):  # also of an alarm within this one
            turns.pop()
            with pytest.raises(RuntimeError) as refused:
                writer.write(b"inside")
            caught.append(refused.value)
            os.read(reader, CAPACITY)

    with PageWriter(writer_fd, method="vmsplice") as writer:
        with alarms(ring):
            assert writer.write(b"x" * 2 * CAPACITY) == 2 * CAPACITY
        assert "within itself" in str(caught[0])
    assert os.read(reader, 2 * CAPACITY) == b"x" * CAPACITY


def test_a_handler_may_close_it(wires):
    """The write under way ends as it would have; its descriptor is not closed under it."""
    reader, writer_fd = wires.pipe()
    closed = []

    def ring(*_):
        if writer.moved == CAPACITY and not closed:
            writer.close()
            closed.append(os.fstat(writer._fd).st_ino)
            os.read(reader, CAPACITY)

    with PageWriter(writer_fd, method="vmsplice") as writer:
        with alarms(ring):
            assert writer.write(b"x" * 2 * CAPACITY) == 2 * CAPACITY
        assert closed
        assert writer._fd == -1
    assert os.read(reader, 2 * CAPACITY) == b"x" * CAPACITY


# -- as a file -------------------------------------------------------------------------------------


def test_a_buffered_writer_goes_on_top(wires, method):
    """Small writes are collected; closing it closes the PageWriter and not the caller's."""
    reader, writer_fd = wires.pipe(MIB)
    raw = PageWriter(writer_fd, method=method)
    parts = [payload(1 + 37 * n, seed=n) for n in range(200)]
    with io.BufferedWriter(raw, 256 << 10) as file:
        for part in parts:
            file.write(part)
    assert raw.closed
    os.fstat(writer_fd)
    data = b"".join(parts)
    assert raw.moved == len(data)
    check_method(raw, method, FROM if len(data) >= FROM else 0)
    os.close(writer_fd)
    assert read_all(reader) == data


def test_a_buffered_writer_on_a_full_nonblocking_pipe_says_so(wires, method):
    """BlockingIOError with characters_written, from io itself: None was understood."""
    reader, writer_fd = wires.pipe()
    os.set_blocking(writer_fd, False)
    file = io.BufferedWriter(PageWriter(writer_fd, method=method), PAGE)
    with pytest.raises(BlockingIOError) as caught:
        file.write(b"x" * 2 * CAPACITY)
    written = caught.value.characters_written
    got = len(os.read(reader, 2 * CAPACITY))
    file.flush()
    file.close()
    os.close(writer_fd)
    assert got + len(read_all(reader)) == written


def test_it_is_a_raw_file(wires):
    """Writable, neither readable nor seekable, with a number of its own."""
    _, writer_fd = wires.pipe()
    with PageWriter(writer_fd) as writer:
        assert isinstance(writer, io.RawIOBase)
        assert (writer.writable(), writer.readable(), writer.seekable()) == (True, False, False)
        assert writer.fileno() not in (-1, writer_fd)
        assert os.path.sameopenfile(writer.fileno(), writer_fd)
        assert not os.get_inheritable(writer.fileno())
        assert repr(writer) == f"<PageWriter fd={writer.fileno()} moved=0>"
        writer.flush()
    writer.close()
    assert repr(writer) == "<PageWriter closed>"
    for use in (writer.fileno, writer.writable, lambda: writer.write(b"x"), writer.flush):
        with pytest.raises(ValueError, match="closed"):
            use()
    os.fstat(writer_fd)


def test_one_that_is_not_closed_warns(wires):
    """A ResourceWarning when it is collected, and it is closed then."""
    _, writer_fd = wires.pipe()
    kept = [PageWriter(writer_fd)]
    with pytest.warns(ResourceWarning, match="unclosed <PageWriter"):
        kept.clear()


def test_the_write_end_may_be_a_pipe_a_number_or_a_file(wires, tmp_path):
    """And a FIFO; what a BufferedWriter holds goes first."""
    with Pipe() as pipe, PageWriter(pipe) as writer:
        assert writer.write(b"abc") == 3
        assert pipe.read(10) == b"abc"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = wires.ends.fd(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    with open(fifo, "wb") as file:
        file.write(b"first ")
        with PageWriter(file, method="vmsplice") as writer:
            assert writer.write(b"second") == 6
    assert os.read(reader, 100) == b"first second"


def test_what_is_no_write_end_is_refused(wires):
    """By kind, with the way out; nothing stays open."""
    reader, _ = wires.pipe()
    near, _ = wires.sockets("unix")
    with pytest.raises(OSError, match="read end of a pipe; pass the write end") as caught:
        PageWriter(reader)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError, match=r"only a pipe takes pages"):
        PageWriter(near)
    with pytest.raises(ValueError, match=r"only a pipe takes pages"):
        PageWriter(wires.file())
    with pytest.raises(TypeError, match="BytesIO"):
        PageWriter(io.BytesIO())
    with pytest.raises(OSError, match="not open"):
        PageWriter(1_000_000)
    with pytest.raises(ValueError, match="method must be"):
        PageWriter(reader, method="gift")
    pipe = Pipe()
    pipe.close()
    with pytest.raises(ValueError, match="closed"):
        PageWriter(pipe)


def test_without_a_reader_it_is_a_broken_pipe(wires, method):
    """BrokenPipeError that says so, large or small."""
    reader, writer_fd = wires.pipe()
    os.close(reader)
    with PageWriter(writer_fd, method=method) as writer:
        for size in (1, FROM):
            with pytest.raises(BrokenPipeError, match="nobody reads the pipe") as caught:
                writer.write(b"x" * size)
            assert caught.value.characters_written == 0
    assert writer.moved == 0


def test_nothing_stays_pinned(wires, method):
    """A bytearray can be resized after the call, and after one that failed."""
    reader, writer_fd = wires.pipe(MIB)
    data = bytearray(FROM)
    with PageWriter(writer_fd, method=method) as writer:
        writer.write(data)
        data.append(0)
        os.close(reader)
        with pytest.raises(BrokenPipeError) as caught:
            writer.write(data)
        data.append(0)
        assert caught.value


# -- what a kernel or sandbox does -----------------------------------------------------------------

SHOW = """
with Pipe(1 << 20) as pipe, PageWriter(pipe) as writer:
    data = os.urandom(200_000)
    for _ in range(3):
        assert writer.write(data) == len(data)
        assert pipe.read(len(data)) == data
    print(writer.by_method, [f.errno for f in writer.fallbacks])
"""


def test_without_huge_pages_auto_writes():
    """Small pages cost more than the copy of write(2); the reason names the setting."""
    code = """
import ctypes, os
from spliceio import PageWriter, Pipe
assert ctypes.CDLL(None).prctl(41, 1, 0, 0, 0) == 0  # PR_SET_THP_DISABLE
"""
    said = "    assert 'transparent_hugepage' in writer.fallbacks[0].why\n"
    out = run(code + SHOW + said)
    assert out == f"{{'vmsplice': 0, 'write': 600000}} [{errno.ENOMEM}]\n"


def test_after_a_lack_of_huge_pages_auto_asks_again(wires):
    """Not at once, but when as much has been written as one would have held."""
    reader, writer_fd = wires.pipe(MIB)
    with PageWriter(writer_fd) as writer:
        writer._apart = 2 * FROM + 1
        for _ in range(3):
            writer.write(b"x" * FROM)
        assert os.read(reader, MIB) == b"x" * 3 * FROM
        written = 3 * FROM if writer.fallbacks else 2 * FROM + 1
        assert writer.by_method == {"vmsplice": 3 * FROM - written, "write": written}


@pytest.mark.parametrize(("err", "name"), [(errno.ENOSYS, "ENOSYS"), (errno.EPERM, "EPERM")])
def test_the_same_under_strace(err, name):
    """A kernel without vmsplice, as strace plays it."""
    inject = ["-e", "trace=vmsplice", "-e", f"inject=vmsplice:error={name}"]
    strace = [need("strace"), "-f", "-qq", "-o", os.devnull, *inject]
    out = run("import os\nfrom spliceio import PageWriter, Pipe\n" + SHOW, *strace)
    assert out == f"{{'vmsplice': 0, 'write': 600000}} [{err}]\n"


def test_where_vmsplice_copies_auto_writes(wires, monkeypatch):
    """Recorded with errno 0: nothing was refused."""
    reader, writer_fd = wires.pipe(MIB)
    real = spliceio._memory.page_writer.lib
    copying = type("Lib", (), {"__getattr__": lambda _, name: getattr(real, name)})()
    copying.sio_page_gift_maps = lambda _seam: 0
    monkeypatch.setattr(spliceio._memory.page_writer, "lib", copying)
    with PageWriter(writer_fd) as writer:
        assert writer.write(b"x" * FROM) == FROM
        assert [(f.method, f.errno) for f in writer.fallbacks] == [("vmsplice", 0)]
        assert "copies" in writer.fallbacks[0].why
        assert writer.by_method == {"vmsplice": 0, "write": FROM}
    assert os.read(reader, MIB) == b"x" * FROM


def test_the_trial_agrees_with_features():
    """Both found out by doing it."""
    real = spliceio._memory.page_writer.lib.sio_page_gift_maps(
        spliceio._memory.page_writer.ffi.NULL
    )
    status = spliceio.features().vmsplice.status
    assert (real == 1) == (status == "works")
