"""A fan-out that has nothing to do: it ends where it must, and else costs nothing.

Rule 1: a sink that is full does not hide that the source has ended.
Rule 2: who waits makes no system call until something happens, but for two a second; how many
        they are, tests/transfer/test_idle.py counts.
"""

from __future__ import annotations

import errno
import io
import os
import socket
from functools import partial

import pytest

from spliceio import fanout
from spliceio._fanout import fanout as _fanout
from tests.support.cases import cases
from tests.support.fans import PATIENCE, ends, python, same, scripted
from tests.support.seam import fail, zero
from tests.support.states import Worker, until
from tests.support.wires import payload, read_all

PIPE = 65536


# ---- the end ------------------------------------------------------------------------------------


@cases(
    counted=[False, True],
    size=[PIPE - 1, PIPE, PIPE // 2],
    src=["file", "pipe", "unix", "tcp4"],
    method=["auto", "read_write"],
)
def test_full_sinks_do_not_hide_the_end(wires, method, src, size, counted):
    """Everything fits exactly into pipes that nobody reads, and a socket: it ends."""
    data = payload(size)
    source = wires.source(src, data)
    pipes = [wires.pipe() for _ in range(2)]
    near, far = wires.sockets("unix")
    kept = io.BytesIO()
    sinks = [pipes[0][1], pipes[1][1], near, kept]
    result = fanout(source.end, sinks, size if counted else None, method=method, timeout=PATIENCE)
    assert (result.reason, result.moved) == ("count" if counted else "eof", size)
    assert [one.fate for one in result.sinks] == ["done"] * 4
    near.shutdown(socket.SHUT_WR)
    for reader, writer in pipes:
        os.close(writer)
        same(read_all(reader), data)
    same(read_all(far.fileno()), data)
    same(kept.getvalue(), data)


@pytest.mark.parametrize("src", ["file", "pipe"])
def test_a_pipe_full_by_slots_does_not_hide_the_end(wires, src):
    """Sixteen pieces of one byte fill a pipe; the source has ended with the last."""
    reader, writer = wires.pipe()
    if src == "pipe":
        source, feeder = wires.clogged()
        os.close(feeder)
    else:
        source = wires.file(b"." * 16)
    result = fanout(source, [writer], timeout=PATIENCE)
    assert (result.reason, result.moved) == ("eof", 16)
    os.close(writer)
    assert read_all(reader) == b"." * 16


# ---- the wait -----------------------------------------------------------------------------------


def test_a_thread_that_waits_is_woken(wires):
    """What is given as `wake` ends the wait in the kernel, and progress is called at once."""
    fan = _fanout.Fanout(wires.pipe()[0], [wires.sink("pipe").end])
    fan._slice_ns = 3_600 * 10**9
    wake = wires.ends.fd(os.eventfd(0))

    class Stop(Exception):
        pass

    def told(moved):
        raise Stop

    running = Worker(lambda: fan.drive(told, wake=wake))
    until(running.asleep)
    os.eventfd_write(wake, 1)
    with pytest.raises(Stop):
        running.result()
    fan.close()


def test_bytes_end_the_wait_at_once_and_make_slices_short_again(wires):
    """A slice that moved something is followed by one of 80 ms."""
    source, feed = wires.pipe()
    sink = wires.sink("pipe")
    fan = _fanout.Fanout(source, [sink.end, io.BytesIO()], timeout=PATIENCE)
    while fan._slice_ns < 1_000_000_000:
        assert not fan._slice(None)
    assert fan.report.waiting
    os.write(feed, b"something")
    assert not fan._slice(None)
    assert fan._slice_ns == _fanout.SLICE_NS
    os.close(feed)
    result = fan.run()
    assert (result.reason, result.moved) == ("eof", 9)
    assert sink.received() == b"something"


@cases(
    call=[("tee", "stage"), ("tee", "direct"), ("splice", "drain"), ("splice", "drop")],
    answer=["EAGAIN", "0"],
    skip=[0, 1, 3],
    src=["pipe", "unix"],
)
def test_a_call_that_does_nothing_is_made_again(wires, monkeypatch, call, answer, skip, src):
    """Though there was something to do, thirty times: no poll would ever tell of it."""
    call, site = call
    rule = {"EAGAIN": partial(fail, call, errno.EAGAIN), "0": partial(zero, call)}[answer]
    data = payload(100_000)
    sinks = [wires.sink("unix"), io.BytesIO(), wires.sink("unix"), wires.sink("pipe")]
    source = wires.source(src, data)
    fan, _ = scripted(
        monkeypatch,
        source.end,
        ends(sinks),
        rule(site=site, skip=skip, times=30),
        timeout=PATIENCE,
    )
    try:
        result = fan.run()
    except TimeoutError:
        raise
    except OSError as error:  # a splice that says 0 where there are bytes is taken at its word
        result = error.result
    taken = data[: result.moved]
    for sink, one in zip(sinks, result.sinks, strict=True):
        got = sink.getvalue() if isinstance(sink, io.BytesIO) else sink.received()
        assert one.error is not None or got + one.held == taken
        assert data.startswith(got)
    if answer == "EAGAIN" or call == "tee":
        assert (result.reason, result.moved, result.failed) == ("eof", len(data), ())


# ---- the limit ----------------------------------------------------------------------------------

LIMIT = """
    import os, resource, sys, spliceio
    data = os.urandom(300_000)
    src = os.memfd_create("src")
    os.write(src, data)
    os.lseek(src, 0, 0)
    outs = [os.pipe() for _ in range(12)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    class Lowers:
        got = b""

        def write(self, data):
            self.got += data
            resource.setrlimit(resource.RLIMIT_NOFILE, (10, hard))

    lowers = Lowers()
    try:
        spliceio.fanout(src, [lowers, *(w for r, w in outs)], method=sys.argv[1])
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "RLIMIT_NOFILE" in str(error), error
        assert "which is 10" in str(error), error
        assert "13 sinks" in str(error), error
        taken = data[: error.result.moved]
        assert lowers.got + error.result.sinks[0].held == taken
        for (r, w), one in zip(outs, error.result.sinks[1:]):
            os.close(w)
            got = open(r, "rb").read()
            assert len(got) == one.moved
            assert got + one.held == taken
        print("told", end="")
"""


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_more_sinks_than_poll_takes(method):
    """The limit was lowered: it is named, with what to do, and nothing is lost."""
    assert python(LIMIT, method) == "told"


MANY = """
    import os, resource, spliceio
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    r, w = os.pipe()
    os.write(w, b"x" * 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
    fds = sorted(os.listdir("/proc/self/fd"))
    try:
        spliceio.fanout(r, [w2 := os.memfd_create("x")] * 60)
    except OSError as error:
        print(error.errno, "ulimit -n" in str(error))
    os.close(w2)
    print(sorted(os.listdir("/proc/self/fd")) == fds)
    os.close(w)
    print(len(os.read(r, 200)))
"""


def test_more_sinks_than_descriptors():
    """EMFILE of duplicating them, which names the limit; nothing is taken or left open."""
    assert python(MANY).split() == [str(errno.EMFILE), "True", "True", "100"]
