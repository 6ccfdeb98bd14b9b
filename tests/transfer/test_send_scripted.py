"""Every answer of the kernel, at every call of send_file, send_ranges and receive_file, scripted.

Rule 1: what a receiver has is the beginning of the whole, as long as `result.moved` says.
Rule 2: who goes on from there completes it: no header, file or trailer byte is lost or repeated.
Rule 3: a method is left for a refusal alone, and only before it has moved a byte.
Rule 4: however it ends, the socket is not left corked, and nothing waits in it for a push.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import signal
import socket
import struct
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spliceio
from spliceio import receive_file, send_file, send_ranges
from tests.support.cases import FULL, cases
from tests.support.seam import ALWAYS, Seam, cap, fail, laws, zero
from tests.support.states import Worker, syscall_of, until
from tests.support.wires import Wires, payload

CHUNK = 16 << 10
SIZE = 5 * CHUNK + 100
DATA = payload(SIZE)
HEADER, TRAILER = payload(3000, seed=2), payload(2000, seed=3)
WHOLE = HEADER + DATA + TRAILER

# What class each errno is of, test_errno_classes.py holds; here one or two stand for their class.
REFUSALS = ("EINVAL", "EPERM", "ENOSYS", "EOPNOTSUPP", "EXDEV", "EBADF")[: None if FULL else 2]
FAILURES = ("ENOMEM", "ENOSPC", "EIO", "EFBIG", "ENOBUFS", "EDQUOT")[: None if FULL else 3]
GONE = ("EPIPE", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "EHOSTUNREACH")[: None if FULL else 2]
PASSING = ("EINTR", "EAGAIN")

NO_SENDFILE = fail("sendfile", errno.EINVAL, times=ALWAYS)
NO_SPLICE = fail("splice", errno.EINVAL, times=ALWAYS)
NO_RANGE = fail("copy_file_range", errno.EXDEV, times=ALWAYS)
READ_CHUNK = cap("read", CHUNK, site="fill")
FILL_CHUNK = cap("splice", CHUNK, site="fill")

# dst, method; call, site: which of its calls is scripted; the rules that lead there
LOOPS = {
    "sendfile to tcp": ("tcp4", "sendfile", "sendfile", "direct", []),
    "sendfile to unix": ("unix", "sendfile", "sendfile", "direct", []),
    "splice to pipe": ("pipe", "splice", "splice", "direct", []),
    "copy_file_range": ("file", "copy_file_range", "copy_file_range", "direct", []),
    "sendfile to file": ("file", "sendfile", "sendfile", "direct", [NO_RANGE]),
    "fill": ("file", "splice", "splice", "fill", [NO_RANGE, NO_SENDFILE]),
    "drain": ("file", "splice", "splice", "drain", [NO_RANGE, NO_SENDFILE, FILL_CHUNK]),
    "read, to tcp": ("tcp4", "read_write", "read", "fill", [NO_SENDFILE]),
    "send, to tcp": ("tcp4", "read_write", "write", "drain", [NO_SENDFILE, READ_CHUNK]),
    "read, to pipe": ("pipe", "read_write", "read", "fill", [NO_SPLICE]),
    "write, to pipe": ("pipe", "read_write", "write", "drain", [NO_SPLICE, READ_CHUNK]),
}
MEMORY = {
    f"memory to {dst}": (dst, method, "write", "memory", [])
    for dst, method in {
        "tcp4": "sendfile",
        "unix": "sendfile",
        "pipe": "splice",
        "file": "copy_file_range",
    }.items()
}
EVERY = LOOPS | MEMORY
ZERO_COPY = [name for name, loop in LOOPS.items() if loop[1] != "read_write"]
POSITIONS = {"first": 0, "middle": 2, "last": 5}


def piece(loop):
    """How much one call of a script takes: of a pipe that may block no more than PIPE_BUF."""
    return 1000 if loop in MEMORY else 4096 if loop == "write, to pipe" else CHUNK


def passed(loop, position):
    """How many calls pass before the scripted answer; the third of memory ends the header."""
    last = (len(HEADER) + len(TRAILER)) // 1000 - 1 if loop in MEMORY else SIZE // piece(loop)
    return last if position == "last" else POSITIONS[position]


def script(loop, position, *answers):
    """Lead to the loop, let calls pass in chunks, give the answers, and go on in chunks."""
    _, _, call, site, before = EVERY[loop]
    chunk, times = piece(loop), passed(loop, position)
    first = [cap(call, chunk, site=site, times=times)] if times else []
    return [*before, *first, *answers, cap(call, chunk, site=site)]


def options(sock):
    names = (socket.TCP_CORK, socket.TCP_NODELAY)
    return [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]


def unsent(sock):
    """Return how many bytes wait in the socket without having been sent at all: SIOCOUTQNSD."""
    return struct.unpack("i", fcntl.ioctl(sock, 0x894B, bytes(4)))[0]


class Run:
    """send_file under a script: what it returned or raised, and what arrived."""

    def __init__(self, wires, monkeypatch, dst, rules, *, nonblocking=False):
        self.file = wires.file(DATA)
        self.sink = wires.sink(dst, nonblocking=nonblocking)
        self.seam, self.dst = Seam(*rules), dst
        self.result = self.error = None
        with self.seam.everywhere(monkeypatch):
            try:
                self.result = self.send()
            except OSError as error:
                self.error = error
        self.check()

    def send(self, moved=0):
        """Send what is left when so many bytes are there."""
        header, at = HEADER[moved:], max(0, moved - len(HEADER))
        offset, trailer = min(at, SIZE), TRAILER[max(0, at - SIZE) :]
        return send_file(self.sink.end, self.file, offset, header=header, trailer=trailer)

    def check(self):
        """Whatever happened: the log keeps the rules, and socket and file are as before."""
        laws(self.seam.log)
        assert os.lseek(self.file, 0, os.SEEK_CUR) == 0
        if self.dst == "tcp4":
            assert options(self.sink.end) == [0, 0]
            # The collector acknowledges at once: nothing may be left to a timer.
            self.sink.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def complete(self):
        """Return the result of a run that sent everything once."""
        assert self.error is None
        assert self.sink.received() == WHOLE
        assert self.result.moved == len(WHOLE)
        assert self.result.by_method["send"] == len(HEADER) + len(TRAILER)
        assert sum(self.result.by_method.values()) == len(WHOLE)
        in_order(self.seam.log)
        return self.result

    def resumed(self):
        """Go on after an error from where it says; return the error."""
        assert self.error is not None
        moved, held = self.error.result.moved, self.error.held
        assert held == b""
        assert sum(self.error.result.by_method.values()) == moved
        if moved < len(WHOLE):
            assert self.send(moved).moved == len(WHOLE) - moved
        assert self.sink.received() == WHOLE
        return self.error

    def broken_off(self):
        """Return the error of a run after which the receiver has exactly what was counted."""
        assert self.error is not None
        moved = self.error.result.moved
        assert self.sink.received() == WHOLE[:moved]
        return self.error


def in_order(log):
    """Memory goes before and after the file, never between; each byte of it once."""
    sent = [(row.site == "memory", row.result) for row in log if moves_on(row)]
    before = after = 0
    while sent and sent[0][0]:
        before += sent.pop(0)[1]
    while sent and sent[-1][0]:
        after += sent.pop()[1]
    assert (before, after) == (len(HEADER), len(TRAILER))
    assert not any(memory for memory, _ in sent)


def moves_on(row):
    """Whether this call brought bytes to the destination."""
    return row.result > 0 and (
        row.call in ("sendfile", "copy_file_range", "write")
        or (row.call == "splice" and row.site != "fill")
    )


# ---- what ends nothing --------------------------------------------------------------------------


@cases(loop=EVERY, size=[1, 997, 4096, 4097], nonblocking=[False, True])
def test_short_counts_lose_nothing(wires, monkeypatch, loop, size, nonblocking):
    """However few bytes a call moves, each arrives once, and the method stays the same."""
    dst, method, call, site, before = EVERY[loop]
    first = [cap(call, 1, site=site, times=200)] if size == 1 else []
    most = 997 if size == 1 else size  # single bytes: for a while, then larger pieces
    rules = [*before, *first, cap(call, most, site=site)]
    run = Run(wires, monkeypatch, dst, rules, nonblocking=nonblocking)
    assert run.complete().by_method[method] == SIZE
    largest = max(row.result for row in run.seam.calls(call, site))
    limit = len(HEADER) if loop in MEMORY else CHUNK if nonblocking else piece(loop)
    assert largest == min(most, limit)


@cases(
    loop=EVERY,
    answer=list(itertools.product(PASSING, [False, True])),
    position=POSITIONS,
)
def test_an_interrupted_or_unready_call_is_made_again(wires, monkeypatch, loop, answer, position):
    """EINTR and EAGAIN end nothing and record nothing."""
    err, nonblocking = answer
    dst, method, call, site, before = EVERY[loop]
    rules = script(loop, position, fail(call, getattr(errno, err), site=site))
    run = Run(wires, monkeypatch, dst, rules, nonblocking=nonblocking)
    assert run.seam.unused()[-1] == 0
    result = run.complete()
    assert result.by_method[method] == SIZE
    assert len(result.fallbacks) == len([rule for rule in before if rule.action == 0])


@cases(loop=ZERO_COPY, position=POSITIONS, times=[1, 3])
def test_a_zero_that_is_no_end_of_file_loses_nothing(wires, monkeypatch, loop, position, times):
    """A zero-copy call that says 0 is doubted: the file goes on by copying."""
    dst, _, call, site, _ = LOOPS[loop]
    run = Run(wires, monkeypatch, dst, script(loop, position, zero(call, site=site, times=times)))
    run.complete()


# ---- what ends it -------------------------------------------------------------------------------


def is_no_verdict(loop, position, err):
    """Whether read() is asked instead: a zero-copy call failed that has moved nothing."""
    return err == "EIO" and position == "first" and loop in ZERO_COPY and EVERY[loop][3] != "drain"


@cases(loop=EVERY, position=POSITIONS, err=FAILURES)
def test_after_a_failure_it_can_be_completed(wires, monkeypatch, loop, position, err):
    """The error has its errno and the truth about header, file and trailer."""
    dst, _, call, site, _ = EVERY[loop]
    number = getattr(errno, err)
    run = Run(wires, monkeypatch, dst, script(loop, position, fail(call, number, site=site)))
    if is_no_verdict(loop, position, err):
        result = run.complete()
        assert result.fallbacks[-1].errno == number
        return
    error = run.resumed()
    assert error.errno == number
    assert call in str(error)
    done = piece(loop) * passed(loop, position)
    if loop in MEMORY:
        done += SIZE if done > len(HEADER) else 0
    else:
        done = len(HEADER) + min(done, SIZE)
    assert error.result.moved == done


@cases(loop=EVERY, position=POSITIONS, err=FAILURES[:2] + GONE)
def test_the_receiver_has_what_was_counted(wires, monkeypatch, loop, position, err):
    """Given up after an error, what was counted has left by itself: nobody needs to push it."""
    dst, _, call, site, _ = EVERY[loop]
    number = getattr(errno, err)
    run = Run(wires, monkeypatch, dst, script(loop, position, fail(call, number, site=site)))
    error = run.broken_off()
    assert error.errno == number
    assert type(error) is type(OSError(number, ""))


@cases(
    loop=[name for name, loop in EVERY.items() if loop[0] == "tcp4"],
    position=POSITIONS,
    nodelay=[0, 1],
)
def test_an_error_pushes_what_is_corked(wires, monkeypatch, loop, position, nodelay):
    """When the exception is raised, no byte that was counted waits in the socket."""
    _, _, call, site, _ = EVERY[loop]
    near, far = wires.sockets("tcp4")
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    file, header, trailer = wires.file(DATA[: 6 * 100]), HEADER[:300], TRAILER[:200]
    chunk, times = 100, passed(loop, position)
    rules = [cap(call, chunk, site=site, times=times)] if times else []
    # More than once: the first try of the call leaves it to the second to tell.
    failure = fail(call, errno.ENOMEM, site=site, times=3)
    rules = [*EVERY[loop][4][:1], *rules, failure, cap("read", 100)]
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match=call) as caught:
        send_file(near, file, header=header, trailer=trailer)
    assert (unsent(near), options(near)) == (0, [0, nodelay])
    moved = caught.value.result.moved
    if moved:
        whole = header + DATA[:600] + trailer
        assert far.recv(moved, socket.MSG_WAITALL) == whole[:moved]
    with pytest.raises(BlockingIOError):
        far.recv(1, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("loop", ZERO_COPY)
@pytest.mark.parametrize("err", REFUSALS)
def test_a_refusal_at_the_first_call_falls_to_the_next_method(wires, monkeypatch, loop, err):
    """It is recorded; the header, which is out by then, is not repeated."""
    dst, method, call, site, before = LOOPS[loop]
    number = getattr(errno, err)
    rules = [*before, fail(call, number, site=site, times=ALWAYS)]
    run = Run(wires, monkeypatch, dst, rules)
    result = run.complete()
    assert (result.fallbacks[-1].method, result.fallbacks[-1].errno) == (method, number)
    assert result.fallbacks[-1].why
    assert method not in result.by_method
    assert result.method not in (method, "send")


@cases(loop=ZERO_COPY, err=REFUSALS, position=["middle", "last"])
def test_a_refusal_after_bytes_were_moved_is_raised(wires, monkeypatch, loop, err, position):
    """No fallback in the middle, and it can be completed."""
    dst, _, call, site, before = LOOPS[loop]
    number = getattr(errno, err)
    run = Run(wires, monkeypatch, dst, script(loop, position, fail(call, number, site=site)))
    error = run.resumed()
    assert error.errno == number
    refused = [rule for rule in before if rule.action == 0]
    assert len(error.result.fallbacks) == len(refused)


@cases(loop=MEMORY, err=REFUSALS, position=POSITIONS)
def test_a_refused_header_or_trailer_is_raised(wires, monkeypatch, loop, err, position):
    """There is no other way for it: an error, no fallback, no byte twice."""
    dst, _, call, site, _ = MEMORY[loop]
    number = getattr(errno, err)
    run = Run(wires, monkeypatch, dst, script(loop, position, fail(call, number, site=site)))
    error = run.resumed()
    assert (error.errno, error.result.fallbacks) == (number, ())


@cases(loop=MEMORY, position=POSITIONS)
def test_a_write_that_takes_nothing_is_an_error(wires, monkeypatch, loop, position):
    """0 from send() or write() is reported, never spun on."""
    dst, _, call, site, _ = MEMORY[loop]
    run = Run(wires, monkeypatch, dst, script(loop, position, zero(call, site=site)))
    assert run.resumed().errno == errno.EIO


@cases(loop=[name for name, loop in LOOPS.items() if loop[3] != "drain"], position=POSITIONS)
def test_an_early_end_of_the_file(wires, monkeypatch, loop, position):
    """UnexpectedEOF with the numbers; the trailer is not sent behind a file that lacks bytes."""
    dst, _, call, site, _ = LOOPS[loop]
    ends = [zero(call, site=site, times=ALWAYS), zero("read", times=ALWAYS)]
    run = Run(wires, monkeypatch, dst, script(loop, position, *ends))
    error = run.broken_off()
    assert isinstance(error, spliceio.UnexpectedEOF)
    sent = min(POSITIONS[position] * CHUNK, SIZE)
    assert error.result.moved == len(HEADER) + sent
    assert (error.errno, error.held) == (errno.ENODATA, b"")
    for number in (sent, SIZE):
        assert str(number) in str(error)


@cases(
    dst=["tcp4", "unix"], err=["EINTR", "ENOMEM"], skip=[0, 1, 2, 3, 5], nonblocking=[False, True]
)
def test_a_failing_poll_loses_nothing(wires, monkeypatch, dst, err, skip, nonblocking):
    """EINTR is nothing; ENOMEM is raised, or unseen where only a look was taken."""
    rules = [
        *[fail("write", errno.EAGAIN, site="memory", times=2), cap("write", 700, site="memory")],
        *[fail("sendfile", errno.EAGAIN, skip=1, times=2), cap("sendfile", CHUNK)],
        fail("poll", getattr(errno, err), skip=skip),
    ]
    run = Run(wires, monkeypatch, dst, rules, nonblocking=nonblocking)
    if run.error is None:
        run.complete()
        return
    assert err == "ENOMEM"
    assert run.resumed().errno == errno.ENOMEM
    assert "poll:" in str(run.error)


# ---- ranges -------------------------------------------------------------------------------------

RANGES = [(0, CHUNK), (CHUNK, 0), (CHUNK // 2, CHUNK), (SIZE - 100, 100), (5, 5)]
HEADERS = [b"<first>", b"<empty>", b"", HEADER, b"<last>"]
TEXT = b"".join(
    text + DATA[offset : offset + count]
    for text, (offset, count) in zip(HEADERS, RANGES, strict=True)
)


def send_all(sink, file):
    return send_ranges(sink.end, file, RANGES, headers=HEADERS, header=b"[", trailer=TRAILER)


@cases(
    target=[
        *[("tcp4", "write"), ("unix", "write"), ("pipe", "write"), ("file", "write")],
        *[("tcp4", "sendfile"), ("unix", "sendfile"), ("pipe", "splice")],
        ("file", "copy_file_range"),
    ],
    err=["EINTR", "EAGAIN", "EIO", "ENOSPC", "EPIPE"],
    skip=range(9),
)
def test_ranges_under_errors_at_each_call(wires, monkeypatch, target, err, skip):
    """The receiver has the beginning of the whole, as long as was counted."""
    dst, call = target
    seam = Seam(fail(call, getattr(errno, err), skip=skip), cap("write", 1500), cap(call, 9000))
    file, sink, whole = wires.file(DATA), wires.sink(dst), b"[" + TEXT + TRAILER
    failure = None
    with seam.everywhere(monkeypatch):
        try:
            result = send_all(sink, file)
        except OSError as error:
            failure, result = error, error.result
    if failure is None:
        assert err in PASSING or seam.unused() == [1] or result.fallbacks[0].errno == errno.EIO
        assert result.moved == len(whole)
    else:
        assert (failure.errno, failure.held) == (getattr(errno, err), b"")
        assert err not in PASSING
    laws(seam.log)
    if dst == "tcp4":
        assert options(sink.end) == [0, 0]
    assert sink.received() == whole[: result.moved]


def test_a_thousand_ranges_take_no_more_calls_than_they_need(wires, monkeypatch):
    """One call for each range and each header, unless the socket is full."""
    file, sink = wires.file(DATA), wires.sink("unix", nonblocking=True)
    ranges = [(number, 10) for number in range(1000)]
    with Seam().everywhere(monkeypatch) as seam:
        send_ranges(sink.end, file, ranges, headers=[b"head "] * 1000)
    for call in ("sendfile", "write"):
        assert [row.result > 0 for row in seam.calls(call) if row.result != -errno.EAGAIN] == (
            [True] * 1000
        )
    assert len(sink.received()) == 15_000


# ---- any script ---------------------------------------------------------------------------------

numbers = st.sampled_from
calls = numbers(["write", "sendfile", "splice", "copy_file_range", "read", "poll"])
sites = numbers(["any", "direct", "fill", "drain", "memory"])
rules = st.one_of(
    st.builds(cap, calls, st.integers(1, 30_000), site=sites, skip=st.integers(0, 4)),
    st.builds(
        fail,
        calls,
        numbers([getattr(errno, name) for name in (*PASSING, *FAILURES, *REFUSALS)]),
        site=sites,
        skip=st.integers(0, 4),
        times=st.integers(1, 3),
    ),
    st.builds(
        zero,
        numbers(["sendfile", "splice", "copy_file_range"]),
        site=sites,
        skip=st.integers(0, 4),
        times=st.integers(1, 3),
    ),
)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    numbers(["tcp4", "unix", "pipe", "fifo", "file", "tmpfs"]),
    st.lists(rules, max_size=6),
    st.integers(0, SIZE),
    st.integers(0, 4000).map(lambda size: HEADER[:size]),
    st.integers(0, 2000).map(lambda size: TRAILER[:size]),
    st.booleans(),
)
def test_whatever_the_kernel_answers_it_can_be_completed(
    dst, script, size, header, trailer, nonblocking
):
    """Gone on with after each error from `result.moved`, the whole arrives, once."""
    whole, sent, failures = header + DATA[:size] + trailer, 0, 0
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        wires, seam = Wires(Path(directory)), Seam(*script)
        try:
            file, sink = wires.file(DATA[:size]), wires.sink(dst, nonblocking=nonblocking)
            with seam.everywhere(patch):
                while sent < len(whole) or not failures:
                    at = max(0, sent - len(header))
                    options = {"header": header[sent:], "trailer": trailer[max(0, at - size) :]}
                    try:
                        sent += send_file(sink.end, file, min(at, size), **options).moved
                        break
                    except OSError as error:
                        failure = error
                    assert failure.held == b""
                    sent += failure.result.moved
                    failures += 1
                    assert failures < 50
            assert sink.received() == whole
        finally:
            wires.close()
    assert sent == len(whole)


# ---- receive_file -------------------------------------------------------------------------------

NEXT = b"the next request"
RECEIVING = {
    "fill from tcp": ("tcp4", "splice", "fill", []),
    "fill from unix": ("unix", "splice", "fill", []),
    "drain from tcp": ("tcp4", "splice", "drain", [FILL_CHUNK]),
    "drain from unix": ("unix", "splice", "drain", [FILL_CHUNK]),
    "direct from pipe": ("pipe", "splice", "direct", []),
    "read from unix": ("unix", "read", "fill", [NO_SPLICE]),
    "write from unix": ("unix", "write", "drain", [NO_SPLICE, READ_CHUNK]),
    "write from pipe": ("pipe", "write", "drain", [NO_SPLICE, READ_CHUNK]),
}
WRITING = [name for name, loop in RECEIVING.items() if loop[2] == "drain"]


class Upload:
    """receive_file under a script; its error, and what is where afterwards."""

    def __init__(self, wires, monkeypatch, loop, position, *answers, count=SIZE, **options):
        src, call, site, before = RECEIVING[loop]
        self.source, self.file = wires.source(src, DATA + NEXT), wires.file()
        times = POSITIONS[position]
        first = [cap(call, CHUNK, site=site, times=times)] if times else []
        self.seam = Seam(*before, *first, *answers, cap(call, CHUNK, site=site))
        self.result = self.error = None
        with self.seam.everywhere(monkeypatch):
            try:
                self.result = receive_file(self.source.end, self.file, count, **options)
            except OSError as error:
                self.error = error

    @property
    def content(self):
        return os.pread(self.file, SIZE + 100, 0)


@cases(loop=RECEIVING, position=POSITIONS, err=PASSING)
def test_receiving_goes_on_after_passing_errors(wires, monkeypatch, loop, position, err):
    """EINTR and EAGAIN end nothing; what follows the body is not touched."""
    _, call, site, _ = RECEIVING[loop]
    number = getattr(errno, err)
    upload = Upload(wires, monkeypatch, loop, position, fail(call, number, site=site))
    assert upload.error is None
    assert upload.content == DATA
    assert upload.source.left() == NEXT
    assert upload.seam.unused()[-1] == 0


@cases(loop=RECEIVING, position=POSITIONS, err=FAILURES)
def test_every_byte_of_a_body_is_accounted_for(wires, monkeypatch, loop, position, err):
    """In the file, held, unread: together the body, in this order."""
    _, call, site, _ = RECEIVING[loop]
    number = getattr(errno, err)
    upload = Upload(wires, monkeypatch, loop, position, fail(call, number, site=site))
    error = upload.error
    assert error.errno == number
    assert upload.content == DATA[: error.result.moved]
    left = upload.source.left()
    assert upload.content + error.held + left == DATA + NEXT
    assert len(left) == error.unread + len(NEXT)


@cases(
    answer=[
        *[(name, err) for name in WRITING for err in ("ENOSPC", "EFBIG", "EDQUOT", "EIO")],
        # One call has two sides: of these it is known that they are the file's.
        *[("direct from pipe", err) for err in ("ENOSPC", "EFBIG", "EDQUOT")],
    ],
    position=POSITIONS,
    counted=[True, False],
)
def test_a_failure_of_the_file_is_drained(wires, monkeypatch, answer, position, counted):
    """The connection is in step, the first error is told."""
    loop, err = answer
    _, call, site, _ = RECEIVING[loop]
    number = getattr(errno, err)
    answers = [fail(call, number, site=site)]
    count = SIZE if counted else None
    upload = Upload(wires, monkeypatch, loop, position, *answers, count=count, drain=True)
    error = upload.error
    assert error.errno == number
    assert (error.unread, error.held) == (0, b"")
    assert upload.content == DATA[: error.result.moved]
    assert upload.source.left() == (NEXT if counted else b"")


@cases(
    loop=["fill from tcp", "fill from unix", "read from unix"],
    position=POSITIONS,
    err=["ECONNRESET", "EIO"],
)
def test_a_failure_of_the_connection_is_not_drained(wires, monkeypatch, loop, position, err):
    """There is nothing to be in step with; what was not taken is still told."""
    _, call, site, _ = RECEIVING[loop]
    number = getattr(errno, err)
    answers = [fail(call, number, site=site)]
    upload = Upload(wires, monkeypatch, loop, position, *answers, drain=True)
    error = upload.error
    assert error.errno == number
    assert upload.content == DATA[: error.result.moved]
    left = upload.source.left()
    assert upload.content + error.held + left == DATA + NEXT
    assert len(left) == error.unread + len(NEXT)


@cases(loop=WRITING, err=["ECONNRESET", "EIO", "ENOMEM"], more=[0, 1])
def test_draining_that_fails(wires, monkeypatch, loop, err, more):
    """The file's error is raised, the draining one is beside it; unread is what is still there."""
    src, call, site, before = RECEIVING[loop]
    feed, second = before[-1].call, OSError(getattr(errno, err), "")
    source, file = wires.source(src, DATA + NEXT), wires.file()
    rules = [
        *before[:-1],
        cap(feed, CHUNK, site="fill", times=3 + more),
        fail(feed, second.errno, site="fill", times=ALWAYS),
        cap(call, CHUNK, site=site, times=2),
        fail(call, errno.ENOSPC, site=site),
    ]
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match="full") as caught:
        receive_file(source.end, file, SIZE, drain=True)
    error, taken = caught.value, (3 + more) * CHUNK
    assert error.errno == errno.ENOSPC
    assert (error.result.moved, error.held) == (2 * CHUNK, b"")
    assert os.pread(file, SIZE, 0) == DATA[: 2 * CHUNK]
    assert error.unread == SIZE - taken
    assert source.left() == DATA[taken:] + NEXT
    beside = [error.__cause__, error.__context__]
    notes = getattr(error, "__notes__", [])
    assert type(second) in [type(item) for item in beside] or any(call in note for note in notes)


def test_ctrl_c_while_draining_is_heard(wires):
    """KeyboardInterrupt is not hidden behind the file's error, which is its context."""
    near, far = wires.sockets("unix")
    far.sendall(DATA[:1000])
    full = wires.ends.fd(os.open("/dev/full", os.O_WRONLY))
    main = threading.main_thread().native_id
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press():
        until(lambda: syscall_of(main) in (7, 271))  # poll, ppoll: for what is to be dropped
        os.kill(os.getpid(), signal.SIGINT)

    presser = Worker(press)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            receive_file(near, full, 2000, drain=True)
    finally:
        presser.join()
        signal.signal(signal.SIGINT, before)
    context = caught.value.__context__
    assert isinstance(context, OSError)
    assert context.errno == errno.ENOSPC
