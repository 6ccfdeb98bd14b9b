"""What becomes of each sink of a fan-out: gone, dropped, waited for, or the last one left.

Rule 1: a sink that is detached has a prefix, and its error in the result; the others have all.
Rule 2: what was taken from the source and nobody got is handed out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import time

import pytest

from spliceio import fanout
from spliceio._cffi import lib
from spliceio._fanout import fanout as _fanout
from tests.support.cases import cases
from tests.support.fans import PATIENCE, Raw, complete, ends, same
from tests.support.refusals import gone
from tests.support.states import Worker, descriptors, until
from tests.support.wires import MIB, payload, prefill, read_all

BIG = 5 * MIB


@cases(kind=["pipe", "unix", "tcp4"], src=["pipe", "unix", "file"], method=["auto", "read_write"])
def test_a_sink_whose_reader_is_gone_is_detached(wires, src, kind, method):
    """Its error is in the result; the others lose and repeat nothing."""
    data = payload(BIG)
    source, dead = wires.source(src, data), gone(wires, kind)
    sinks = [wires.sink("pipe"), dead, wires.sink("unix"), hashlib.sha256()]
    result = fanout(source.end, ends(sinks), method=method)
    assert (result.reason, result.moved) == ("eof", BIG)
    [failed] = result.failed
    assert failed.sink is dead
    assert failed.fate == "failed"
    assert isinstance(failed.error, BrokenPipeError | ConnectionResetError)
    assert "sinks[1]" in str(failed.error)
    same(sinks[0].received(), data)
    same(sinks[2].received(), data)
    assert sinks[3].digest() == hashlib.sha256(data).digest()


def test_an_idle_source_does_not_hide_that_a_reader_is_gone(wires):
    """The sink is detached, and its duplicate closed, while nothing comes from the source."""
    source, feed = wires.pipe()
    reader, writer = wires.pipe()
    kept = wires.sink("pipe")
    running = Worker(lambda: fanout(source, [writer, kept.end], timeout=PATIENCE))
    os.write(feed, b"first")
    assert os.read(reader, 9) == b"first"
    until(running.asleep)
    pipe = os.readlink(f"/proc/self/fd/{writer}")
    os.close(writer)
    os.close(reader)
    until(lambda: pipe not in descriptors().values())
    os.write(feed, b"second")
    os.close(feed)
    result = running.result()
    assert (result.reason, result.moved) == ("eof", 11)
    assert result.sinks[0].fate == "failed"
    assert result.sinks[0].moved == 5
    assert kept.received() == b"firstsecond"


def test_the_reader_of_a_failed_sink_sees_the_end_at_once(wires):
    """A sink that failed is closed here while the others go on."""
    source, feed = wires.sockets("unix")
    near, far = wires.sockets("unix")
    kept = wires.sink("pipe")
    running = Worker(
        lambda: fanout(source, [near, Raw([OSError(28, "full")]), kept.end], timeout=PATIENCE)
    )
    feed.sendall(b"one")
    assert far.recv(9) == b"one"
    # The socket's own reader refuses to go on; our duplicate is the last that is open.
    near.close()
    far.shutdown(socket.SHUT_RD)
    feed.sendall(b"two")
    assert far.recv(9) == b""
    feed.close()
    result = running.result()
    assert [one.fate for one in result.sinks] == ["failed", "failed", "done"]
    assert kept.received() == b"onetwo"


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
def test_when_all_are_gone_it_ends_and_hands_out_what_nobody_got(wires, src, method):
    """Reason "no sinks"; taken and given to nobody is `unread`; the rest is in the source."""
    data = payload(500_000)
    source = wires.source(src, data)
    full = wires.ends.fd(os.open("/dev/full", os.O_WRONLY))
    reader, writer = wires.pipe()
    os.close(reader)
    result = fanout(source.end, [writer, full, Raw([7_000, OSError(5, "broken")])], method=method)
    assert result.reason == "no sinks"
    assert [one.fate for one in result.sinks] == ["failed"] * 3
    most = max(one.moved for one in result.sinks)
    begin = result.moved - len(result.unread)
    assert begin <= most
    assert data[begin : result.moved] == result.unread
    assert source.left() == data[result.moved :]


@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
def test_the_only_sink_fails_and_nothing_is_lost(wires, src):
    """What it had taken off the source and could not write is in `unread`."""
    data = payload(50_000)
    source = wires.source(src, data)
    result = fanout(source.end, [wires.ends.fd(os.open("/dev/full", os.O_WRONLY))])
    assert (result.reason, result.sinks[0].moved) == ("no sinks", 0)
    assert result.sinks[0].error.errno == 28
    assert result.unread + source.left() == data


def test_no_sink_left_takes_no_more_from_the_source(wires):
    """Once everybody is gone nothing further is consumed to be thrown at the caller."""
    data = payload(900_000)
    near, far = wires.sockets("unix")
    put = prefill(far.fileno(), data)

    class Bad:
        def update(self, part):
            put_more.append(prefill(far.fileno(), data[put:]))
            raise ValueError

    put_more = []
    result = fanout(near, [Bad()])
    assert result.reason == "no sinks"
    assert result.moved <= put
    assert result.unread == data[: result.moved]


@cases(kind=["pipe", "unix", "tcp4"], src=["pipe", "unix"], method=["auto", "read_write"])
def test_one_that_takes_nothing_is_dropped(wires, src, kind, method):
    """on_slow="drop": TimeoutError in its result, its prefix was exact, the others get all."""
    data = payload(BIG)
    source, stuck = wires.source(src, data), wires.sink(kind, collecting=False)
    sinks = [wires.sink("pipe"), stuck, wires.sink("tcp4"), io.BytesIO()]
    result = fanout(source.end, ends(sinks), on_slow="drop", stall_timeout=0.05, method=method)
    assert (result.reason, result.moved) == ("eof", BIG)
    [dropped] = result.failed
    assert (dropped.fate, type(dropped.error)) == ("dropped", TimeoutError)
    assert "sinks[1]" in str(dropped.error)
    got = stuck.received()
    assert len(got) == dropped.moved < BIG
    assert data.startswith(got)
    same(sinks[0].received(), data)
    same(sinks[2].received(), data)
    same(sinks[3].getvalue(), data)


def test_one_that_takes_a_little_is_not_dropped_until_it_stops(wires):
    """Any byte that it takes begins its time anew; a time longer than the C's turn is kept too."""
    data = payload(900_000)
    source, (reader, writer) = wires.source("pipe", data), wires.pipe()
    sinks = [writer, hashlib.sha256()]
    fan = _fanout.Fanout(source.end, sinks, on_slow="drop", stall_timeout=0.5)
    got, begun = b"", time.monotonic()
    with contextlib.closing(fan):
        while time.monotonic() - begun < 0.7:
            fan._slice(None)
            got += os.read(reader, 4096)
        assert fan.sinks[0].fate == ""
        result = fan.drive()
    os.close(writer)
    assert result.sinks[0].fate == "dropped"
    assert (result.reason, result.sinks[1].moved) == ("eof", len(data))
    got += read_all(reader)
    assert got == data[: result.sinks[0].moved]


def test_a_pipe_that_takes_a_little_by_tee_is_not_dropped(wires, monkeypatch):
    """Of two pipes side by side the first is given its bytes by tee() alone; they count too."""
    monkeypatch.setattr(_fanout, "SLICE_NS", 10**6)
    source, feed = wires.pipe(MIB)
    prefill(feed, payload(MIB))
    readers, writers = zip(*(wires.pipe() for _ in range(2)), strict=True)
    fan = _fanout.Fanout(source, writers, on_slow="drop", stall_timeout=3_600)
    with contextlib.closing(fan):
        got = [0, 0]
        for _ in range(3):
            while got == [lib.sio_fanout_got(fan.c, i) for i in range(2)]:
                fan._slice(None)
            fan._slice(None)  # both are full, and have been so since now
            got = [lib.sio_fanout_got(fan.c, i) for i in range(2)]
            for i, reader in enumerate(readers):
                lib.sio_test_full_for(fan.c, i, 2_400 * 10**9)
                os.read(reader, 4096)
        assert lib.sio_fanout_teed(fan.c, 0) == got[0]
        assert [one.fate for one in fan.sinks] == ["", ""]


def test_all_dropped_is_no_sinks(wires):
    """Two clogged pipes: both dropped, and every byte is in the source or unread."""
    data = payload(200_000)
    source = wires.source("pipe", data)
    writers = [wires.clogged()[1] for _ in range(2)]
    result = fanout(source.end, writers, on_slow="drop", stall_timeout=0.05)
    assert result.reason == "no sinks"
    assert [one.fate for one in result.sinks] == ["dropped"] * 2
    assert result.unread + source.left() == data


def test_a_slow_one_is_waited_for_by_default(wires):
    """Nothing is lost on a sink that begins to read when all the others wait for it."""
    data = payload(BIG)
    source, late = wires.source("unix", data), wires.sink("pipe", collecting=False)
    sinks = [wires.sink("pipe"), late, hashlib.sha256()]
    running = Worker(lambda: fanout(source.end, ends(sinks), timeout=PATIENCE))
    until(running.asleep)
    late.begin()
    complete(running.result(), BIG)
    same(late.received(), data)


def test_an_idle_sink_is_not_slow(wires):
    """A sink that was given everything there is, is not dropped however long nothing comes."""
    source, feed = wires.pipe()
    sinks = [wires.sink("pipe", collecting=False), io.BytesIO()]
    running = Worker(
        lambda: fanout(source, ends(sinks), on_slow="drop", stall_timeout=0.02, timeout=0.3)
    )
    os.write(feed, b"something")
    with pytest.raises(TimeoutError) as caught:
        running.result()
    result = caught.value.result
    assert [one.fate for one in result.sinks] == ["stopped", "stopped"]
    assert [one.moved for one in result.sinks] == [9, 9]
