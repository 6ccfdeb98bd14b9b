"""Every answer of the kernel, at every call of a fan-out, scripted through the C seam.

Rule 1: what passes (EINTR, EAGAIN, 0, a short count) changes nothing but the number of calls.
Rule 2: a refusal of tee or of a pipe means copying, at the first call or later; it is told.
Rule 3: what is wrong with one sink ends that sink; what is wrong with the source ends all, late.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import socket

import pytest

from spliceio import fanout
from spliceio._cffi import lib
from spliceio._transfer.flow import SLICE_NS
from tests.support.cases import FULL, cases
from tests.support.fans import account, complete, ends, scripted, stuck_sink
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.wires import payload, read_all

SIZE = 100_003
DATA = payload(SIZE)
PLACES = {
    "tee into a pipe": ("tee", "direct"),
    "tee into its own pipe": ("tee", "stage"),
    "splice": ("splice", "direct"),
    "splice to drop": ("splice", "drop"),
    "read the source": ("read", "fill"),
    "read for an object": ("read", "drain"),
    "write": ("write", "drain"),
}
PASSING = ("EINTR", "EAGAIN")
# Here one errno stands for its class, which tests/transfer/test_errno_classes.py holds.
REFUSALS = ("EPERM", "EINVAL", "ENOSYS", "EOPNOTSUPP")[: None if FULL else 2]
FAILURES = ("ENOSPC", "EIO", "ENOMEM", "EFBIG", "EDQUOT")[: None if FULL else 1]
GONE = ("EPIPE", "ECONNRESET")[: None if FULL else 1]
SOURCES = ("pipe", "unix", "file", "tcp4")
CALLS = ("tee", "splice", "read", "write")
sources = pytest.mark.parametrize("src", SOURCES)
METHODS = ("auto", "read_write")
methods = pytest.mark.parametrize("method", METHODS)
SKIPS = (0, 1, 2, 5)
REACHED = list(itertools.product(SOURCES, METHODS, PLACES))
"""Which calls are made depends on these three together."""


def laws(log):
    """Assert what must be true of every log: NONBLOCK always, MORE never, no call for nothing."""
    for row in log:
        if row.call in ("splice", "tee"):
            assert row.flags & 2, f"NONBLOCK is missing in {row}"
            assert not row.flags & 4, f"MORE is set in {row}"
        if row.call in CALLS:
            assert row.len > 0, f"a call for nothing: {row}"
            assert row.result <= row.len, f"more than asked for: {row}"


class Run:
    """One scripted fan-out into a socket, a pipe, an object, a file and another pipe."""

    def __init__(self, wires, monkeypatch, src, *rules, kinds=None, **options):
        self.source = wires.source(src, DATA)
        kinds = kinds or ("unix", "pipe", "object", "file", "pipe")
        self.sinks = [io.BytesIO() if kind == "object" else wires.sink(kind) for kind in kinds]
        self.fan, self.seam = scripted(
            monkeypatch, self.source.end, ends(self.sinks), *rules, **options
        )
        self.result = None

    def run(self):
        self.result = self.fan.run()
        laws(self.seam.log)
        return self.result

    def received(self):
        return [
            sink.getvalue() if isinstance(sink, io.BytesIO) else sink.received()
            for sink in self.sinks
        ]

    def complete(self):
        complete(self.run(), SIZE)
        for got in self.received():
            assert hashlib.sha256(got).digest() == hashlib.sha256(DATA).digest()
        return self.result


# ---- what passes --------------------------------------------------------------------------------


@cases(call=REACHED, err=PASSING)
def test_an_interrupted_or_unready_call_is_made_again(wires, monkeypatch, call, err):
    """At each call, the first, the third and three in a row: nothing is lost."""
    src, method, place = call
    call, site = PLACES[place]
    if place == "read for an object":
        err = "EINTR"  # its pipe is ours, blocks, and has the bytes
    code = getattr(errno, err)
    rules = [
        fail(call, code, site=site),
        cap(call, 7_001, site=site, times=2),
        fail(call, code, site=site, times=3),
        cap(call, 9_001, site=site),
    ]
    result = Run(wires, monkeypatch, src, *rules, method=method).complete()
    assert result.fallbacks == ()


@sources
@methods
@pytest.mark.parametrize("call", ["poll", "unread"])
def test_an_interrupted_wait_goes_on(wires, monkeypatch, src, method, call):
    """EINTR from poll, and a pipe that does not say how much it has."""
    rules = [fail(call, errno.EINTR, times=2), fail(call, errno.EINTR, skip=2)]
    assert Run(wires, monkeypatch, src, *rules, method=method).complete().fallbacks == ()


@cases(src=SOURCES, place=list(PLACES)[:4], skip=SKIPS)
def test_nothing_is_no_end(wires, monkeypatch, src, place, skip):
    """0 from tee or splice is neither the end of the source nor of a sink."""
    call, site = PLACES[place]
    rules = [cap(call, 8_000, site=site, times=skip)] if skip else []
    rules += [zero(call, site=site, times=2), cap(call, 8_000, site=site)]
    result = Run(wires, monkeypatch, src, *rules).run()
    # A file that says 0 although it has data is not read by splice: that is told.
    assert {fallback.errno for fallback in result.fallbacks} <= ({0} if src == "file" else set())
    complete(result, SIZE)


@cases(src=SOURCES, method=METHODS, place=PLACES, most=[1, 997, 4096, 4097, 16_384])
def test_short_counts_lose_nothing(wires, monkeypatch, src, method, place, most):
    """However few bytes a call moves; single bytes for a while."""
    call, site = PLACES[place]
    times = 150 if most == 1 else ALWAYS
    rules = [cap(call, most, site=site, times=times)]
    assert Run(wires, monkeypatch, src, *rules, method=method).complete().fallbacks == ()


@sources
def test_every_call_short_by_another_amount(wires, monkeypatch, src):
    """tee, splice, read and write all cut, differently."""
    rules = [
        cap("tee", 5_003, site="direct"),
        cap("tee", 3_001, site="stage"),
        cap("splice", 1_009, site="drop"),
        cap("splice", 2_003),
        cap("read", 701, site="drain"),
        cap("write", 499),
    ]
    Run(wires, monkeypatch, src, *rules).complete()


# ---- refusals -----------------------------------------------------------------------------------


@cases(src=SOURCES, site=["any", "direct", "stage"], err=REFUSALS, skip=SKIPS)
def test_tee_refused_means_copying(wires, monkeypatch, src, site, err, skip):
    """From the first call or in the middle: all arrives, and the result says why."""
    rules = [cap("tee", 6_007, site=site, times=skip)] if skip else []
    rules.append(fail("tee", getattr(errno, err), site=site, times=ALWAYS))
    run = Run(wires, monkeypatch, src, *rules)
    result = run.complete()
    tees = [row for row in run.seam.calls("tee") if row.result < 0 and row.result != -errno.EAGAIN]
    if tees:
        [fallback] = result.fallbacks
        assert (fallback.method, fallback.errno) == ("tee", getattr(errno, err))
        assert fallback.why
    assert tees or site != "any"


@pytest.mark.parametrize("src", ["unix", "file", "tcp4"])
@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM"])
def test_no_pipe_for_the_head_means_copying(wires, monkeypatch, src, err):
    """Nothing is teed, everything is read and written."""
    run = Run(wires, monkeypatch, src, fail("pipe", getattr(errno, err), times=ALWAYS))
    result = run.complete()
    assert [fallback.errno for fallback in result.fallbacks] == [getattr(errno, err)]
    assert run.seam.calls("tee") == run.seam.calls("splice") == []
    for one in result.sinks:
        assert set(one.by_method) <= {"read_write", "write"}


@cases(src=SOURCES, skip=[0, 1, 2], err=["EMFILE", "ENFILE", "ENOMEM"])
def test_no_pipe_for_a_sink_means_copying(wires, monkeypatch, src, skip, err):
    """In the middle: what was teed stays, the rest is copied."""
    skip += src != "pipe"
    run = Run(
        wires,
        monkeypatch,
        src,
        fail("pipe", getattr(errno, err), skip=skip, times=ALWAYS),
        kinds=("unix", "unix", "object", "pipe", "unix"),
    )
    result = run.complete()
    if 0 in run.seam.unused():  # a script with turns left was never asked
        assert result.fallbacks
    assert all(fallback.errno == getattr(errno, err) for fallback in result.fallbacks)


@cases(src=SOURCES, err=REFUSALS, site=["direct", "fill", "drop", "any"])
def test_splice_refused_means_copying_there(wires, monkeypatch, src, err, site):
    """A source, a sink or /dev/null that will not be spliced."""
    Run(
        wires, monkeypatch, src, fail("splice", getattr(errno, err), site=site, times=ALWAYS)
    ).complete()


# ---- failures -----------------------------------------------------------------------------------


@cases(call=REACHED, err=[*FAILURES, *GONE], skip=[0, 2])
def test_one_failure_is_one_sinks_or_the_sources(wires, monkeypatch, call, err, skip):
    """One sink ends, with a prefix, or the source does, late: the others have the same."""
    src, method, place = call
    call, site = PLACES[place]
    rules = [cap(call, 7_001, site=site, times=skip)] if skip else []
    rules += [fail(call, getattr(errno, err), site=site), cap(call, 7_001, site=site)]
    run = Run(wires, monkeypatch, src, *rules, method=method)
    try:
        result = run.run()
    except OSError as error:
        assert error.errno == getattr(errno, err)  # noqa: PT017
        result = error.result
    got = run.received()
    failed = [one for one in result.sinks if one.error is not None]
    assert len(failed) <= 1
    for one, bytes_ in zip(result.sinks, got, strict=True):
        assert len(bytes_) == one.moved
        assert DATA.startswith(bytes_)
        if one.error is None:
            assert bytes_ + one.held == DATA[: result.moved]
        else:
            assert one.fate == "failed"
    if result.reason == "eof":
        assert result.moved == SIZE


@sources
@methods
def test_each_sink_failing_at_its_first_write(wires, monkeypatch, src, method):
    """All in turn, until nobody is left: no byte is lost."""
    # splice also fills the head of what is no pipe: there it works twice.
    rules = [
        fail("tee", errno.EPIPE, site="direct", times=ALWAYS),
        fail("splice", errno.EPIPE, site="direct", skip=2 * (src != "pipe"), times=ALWAYS),
        fail("write", errno.EPIPE, site="drain", times=ALWAYS),
    ]
    run = Run(wires, monkeypatch, src, *rules, method=method, kinds=("pipe", "pipe", "pipe"))
    result = run.run()
    assert result.reason == "no sinks"
    assert [one.moved for one in result.sinks] == [0, 0, 0]
    assert result.unread == DATA[: result.moved]
    if src == "pipe":
        assert result.unread + run.source.left() == DATA


def test_the_last_sink_fails_in_the_middle_of_a_step(wires, monkeypatch):
    """What it had taken from its own pipe and what is still there are told apart."""
    data = payload(900_000)
    source = wires.source("file", data)
    dead_r, dead_w = wires.pipe()
    near, far = wires.sockets("unix")
    rules = [cap("splice", 1_000, site="direct", times=0), fail("splice", errno.EPIPE, times=0)]
    fan, seam = scripted(monkeypatch, source.end, [near, dead_w], *rules)
    with contextlib.closing(fan):
        while not lib.sio_test_source_ended(fan.c):
            fan._slice(None)
        os.close(dead_r)
        while fan.report.attached > 1:
            fan._slice(None)
        assert lib.sio_test_staged(fan.c, fan.sinks[0]._number)
        got = far.recv(fan.sinks[0].moved, socket.MSG_WAITALL)
        seam._rules[0].times = 1
        seam._rules[1].times = 100
        result = fan.drive()
    assert result.reason == "no sinks"
    first = result.sinks[0]
    near.close()
    got += read_all(far.fileno())
    assert got == data[: first.moved]
    begin = result.moved - len(result.unread)
    assert begin <= max(one.moved for one in result.sinks)
    assert result.unread == data[begin : result.moved]


def test_poll_that_fails_is_told(wires, monkeypatch):
    """ENOMEM from poll ends the call, with what each sink got."""
    reader, _ = wires.pipe()
    memory = io.BytesIO()
    fan, _ = scripted(monkeypatch, reader, [memory], fail("poll", errno.ENOMEM, times=ALWAYS))
    with pytest.raises(OSError, match="poll") as caught:
        fan.run()
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.result.sinks[0].fate == "stopped"


# ---- methods ------------------------------------------------------------------------------------


def test_a_fast_pipe_beside_an_object_is_teed_only(wires, monkeypatch):
    """Nothing is read or written for a plain pipe."""
    run = Run(wires, monkeypatch, "pipe", kinds=("pipe", "pipe"))
    result = run.complete()
    assert run.seam.calls("read") == run.seam.calls("write") == []
    # The last one takes the bytes away, which saves dropping them.
    assert {one.method for one in result.sinks} <= {"tee", "splice"}


def test_a_read_write_fan_out_makes_no_other_call(wires):
    """`method="read_write"` is meant: not even a pipe is made."""
    with pytest.MonkeyPatch.context() as patch:
        seam = Seam()
        sinks = [wires.sink("pipe"), wires.sink("unix"), io.BytesIO()]
        with seam.everywhere(patch):
            complete(fanout(wires.source("file", DATA).end, ends(sinks), method="read_write"), SIZE)
    assert {row.call for row in seam.log} <= {"read", "write", "poll"}


@pytest.mark.parametrize("stuck", ["unix", "tcp4"])
def test_what_was_copied_for_a_stopped_sink_is_held(wires, monkeypatch, stuck):
    """A sink that refuses splice has bytes in a buffer of its own when the time is over."""
    source = wires.source("pipe", DATA * 10)
    sinks = [stuck_sink(wires, stuck), wires.sink("pipe")]
    refusal = fail("splice", errno.EINVAL, site="direct")
    fan, seam = scripted(monkeypatch, source.end, ends(sinks), refusal, timeout=0.05)
    with pytest.raises(TimeoutError) as caught:
        fan.run()
    result = caught.value.result
    assert seam.unused() == [0]
    assert [one.method for one in result.sinks[0].fallbacks] == ["splice"]
    account(result, DATA * 10, [sink.received() for sink in sinks])


@pytest.mark.parametrize("kind", ["pipe", "unix", "file"])
def test_an_interrupted_move_comes_back_at_once(wires, monkeypatch, kind):
    """Before the slice is over: a signal handler wants to run. What was moved before it counts."""
    (reader, writer), sink, data = wires.pipe(), wires.sink(kind), DATA[:60_000]
    os.write(writer, data)
    rules = [
        cap("splice", 5000, site="direct", times=1),
        fail("splice", errno.EINTR, site="direct"),
    ]
    fan, seam = scripted(monkeypatch, reader, [sink.end], *rules, count=len(data))
    with contextlib.closing(fan):
        assert lib.sio_fanout_run(fan.c, SLICE_NS, -1, -1) == lib.SIO_INTERRUPTED
        assert [row.result for row in seam.calls("splice")] == [5000, -errno.EINTR]
        complete(fan.drive(), len(data), "count")
    assert sink.received() == data
