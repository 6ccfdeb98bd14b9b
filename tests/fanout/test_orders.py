"""Every fate of a sink, in every order, in every mode of a fan-out: the bytes of each, by content.

The sinks of one fan-out fail one after another, each in its own way, while the rest go on:
`raises` is an object whose write() raises, `gone` a reader that closes, `stalled` one that stops to
read and is dropped. Each happens when a slow reader has come to a mark, in this thread: no other
runs, and the time that a stalled sink has is moved, not waited for.

Rule 1: a sink that was detached has a prefix of the source, and nothing is given to it afterwards.
Rule 2: the others have all, or what they got and what is held for them is all that was taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import itertools
import os
import socket

import pytest

from spliceio._cffi import lib
from spliceio._fanout import fanout as _fanout
from tests.support.cases import FULL
from tests.support.fans import same
from tests.support.seam import ALWAYS, Seam, fail
from tests.support.wires import MIB, payload

MARK, AHEAD = 100_000, 200_000
SIZES = {"pipe": MIB, "unix": MIB, "file": 3 * MIB}
"""A file is read until all buffers are full; the others are fed so much beyond each mark."""
HOUR_NS = 3_600 * 10**9
FATES = ("raises", "gone", "stalled")
ORDERS = [order for n in (1, 2, 3) for order in itertools.permutations(FATES, n)]
MODES = {
    "tee": ("auto", ()),
    "read_write": ("read_write", ()),
    "tee refused": ("auto", (fail("tee", 22, times=ALWAYS),)),
    "tee refused later": ("auto", (fail("tee", 1, skip=9, times=ALWAYS),)),
    "no descriptor": ("auto", (fail("pipe", 24, times=ALWAYS),)),
    "no descriptor later": ("auto", (fail("pipe", 24, skip=1, times=ALWAYS),)),
}


class Stop(BaseException):
    """Ends a fan-out from outside."""


class Raises(io.RawIOBase):
    """An object that takes a part of what it is given, until it is told to raise."""

    def __init__(self):
        super().__init__()
        self.got, self.late, self.broken = b"", 0, False

    def write(self, data):
        if self.broken:
            self.late += 1
            raise OSError(28, "full")
        self.got += data[:30_000]
        return min(len(data), 30_000)


class Reader:
    """The other end of a sink that is a pipe, read from in this thread."""

    def __init__(self, wires):
        self.fd, self.sink = wires.pipe()
        fcntl.fcntl(self.fd, 1031, 16384)  # F_SETPIPE_SZ; a slot may hold 32 KiB
        os.set_blocking(self.fd, False)
        self.got, self.reads = b"", True

    def read(self, most=MIB):
        with contextlib.suppress(BlockingIOError):
            while self.reads and most > 0 and (part := os.read(self.fd, most)):
                self.got += part
                most -= len(part)

    def rest(self):
        """Read all that is left in it; its writers are closed."""
        os.close(self.sink)
        self.reads = True
        self.read(4 * MIB)
        return self.got


class Orders:
    """One fan-out and what its sinks have in store."""

    def __init__(self, wires, monkeypatch, kind, mode, order, others):
        monkeypatch.setattr(_fanout, "SLICE_NS", 1_000_000)
        method, rules = MODES[mode]
        self.data = payload(SIZES[kind])
        self.kind, self.fed, self.end = kind, 0, 0
        if kind == "file":
            self.source = wires.file(self.data)
        else:
            ends = wires.pipe() if kind == "pipe" else [s.detach() for s in socket.socketpair()]
            self.source, self.feed_end = (wires.ends.fd(end) for end in ends)
            os.set_blocking(self.feed_end, False)
        self.order, self.raises = order, Raises()
        self.readers = {name: Reader(wires) for name in ("gone", "stalled", "slow")}
        self.file, self.hash = wires.file(), hashlib.sha256()
        self.names = [name for name in FATES if name in order]
        given = {"raises": self.raises, "hash": self.hash, "file": self.file}
        given |= {name: reader.sink for name, reader in self.readers.items()}
        self.names += others
        self.seam = Seam(*rules)
        with self.seam.everywhere(monkeypatch):
            sinks = [given[name] for name in self.names]
            self.fan = _fanout.Fanout(
                self.source, sinks, method=method, on_slow="drop", stall_timeout=3_600
            )

    def feed(self, end):
        """Put into the source what it takes, to `end`, and at last the end of file."""
        if self.kind == "file" or self.fed == len(self.data):
            return
        with contextlib.suppress(BlockingIOError):
            while self.fed < min(end, len(self.data)):
                self.fed += os.write(self.feed_end, self.data[self.fed : end])
        if self.fed == len(self.data):
            os.close(self.feed_end)

    def left(self):
        """Read what is still in the source."""
        rest = b""
        self.feed(len(self.data))
        while part := os.read(self.source, MIB):
            rest += part
            self.feed(len(self.data))
        return rest

    def until(self, condition, pace=50_000):
        """Go on until something is so, with readers that read; whether it came before the end."""
        while not condition():
            self.feed(self.end)
            for name, reader in self.readers.items():
                reader.read(pace if name == "slow" else MIB)
            if self.fan._slice(None):
                return False
        return True

    def bring(self, name):
        """Let a sink meet its fate, with more to come for it."""
        self.end += 2 * MARK
        sink = self.fan.sinks[self.names.index(name)]
        if name == "raises":
            self.raises.broken = True
            assert self.until(lambda: sink.error is not None)
            return
        self.readers[name].reads = False
        if name == "gone":
            os.close(self.readers[name].fd)
            assert self.until(lambda: sink.fate == "failed")
            return

        def has_stalled():
            if not sink.fate:
                lib.sio_test_full_for(self.fan.c, sink._number, 2 * HOUR_NS)
            return sink.fate == "dropped"

        assert self.until(has_stalled)

    def pace(self):
        """How far the slow reader has come; without one, the sink that is the last to go."""
        name = "slow" if "slow" in self.names else self.order[-1]
        return len(self.raises.got if name == "raises" else self.readers[name].got)

    def bring_all(self):
        """Let each meet its fate, one after another, when the slow reader has come to its mark."""
        for number, name in enumerate(self.order, 1):
            self.end = 2 * number * MARK + AHEAD
            assert self.until(lambda number=number: self.pace() >= number * MARK)
            self.bring(name)

    def check_detached(self, result):
        """Each that was brought down has a prefix, its error, and no more than that."""
        by_name = dict(zip(self.names, result.sinks, strict=True))
        for name in self.order:
            one = by_name[name]
            assert one.fate == ("dropped" if name == "stalled" else "failed")
            expected = {"raises": OSError, "gone": BrokenPipeError, "stalled": TimeoutError}[name]
            assert type(one.error) is expected
            assert one.held == b""
            assert sum(one.by_method.values()) == one.moved
            if name == "raises":
                assert (self.raises.late, len(self.raises.got)) == (1, one.moved)
                assert self.data.startswith(self.raises.got)
            elif name == "stalled":
                got = self.readers[name].rest()
                assert len(got) == one.moved
                assert self.data.startswith(got)
            else:
                assert self.data.startswith(self.readers[name].got)
                assert one.moved >= len(self.readers[name].got)
        return by_name

    def check_copied(self, mode, result):
        """Bytes were shared or copied as the mode says."""
        errors = [fallback.errno for fallback in result.fallbacks]
        if mode in ("tee", "read_write"):
            assert errors == []
        elif mode.startswith("tee refused"):
            assert set(errors) <= {22, 1}
        assert (self.seam.calls("tee") == []) == (
            mode == "read_write" or (mode == "no descriptor" and self.kind != "pipe")
        )


LONGEST = [order for order in ORDERS if len(order) == len(FATES)]


def rows(kinds, orders=ORDERS):
    """Every order in every mode; the source changes from one to the next: each meets all.

    By default the orders of all fates alone, in which those of fewer are contained.
    """
    found = []
    for row, mode in enumerate(MODES):
        for column, order in enumerate(orders if FULL else LONGEST):
            kind = kinds[(row + column + column // len(kinds)) % len(kinds)]
            found.append(pytest.param(kind, mode, order, id=f"{mode}-{kind}-{'-'.join(order)}"))
    return found


@pytest.mark.parametrize(("kind", "mode", "order"), rows(["pipe", "unix", "file"]))
def test_the_others_get_all(wires, monkeypatch, kind, mode, order):
    """Whatever became of a sink before, those that are left get every byte, once."""
    others = ("slow", "hash", "file") if order[-1] == "gone" else ("slow",)
    run = Orders(wires, monkeypatch, kind, mode, order, others)
    slow = run.readers["slow"]
    with contextlib.closing(run.fan):
        run.bring_all()
        run.end = SIZES[kind]
        assert not run.until(lambda: False, pace=MIB)
        result = run.fan.drive()
    assert (result.reason, result.moved, result.unread) == ("eof", SIZES[kind], b"")
    by_name = run.check_detached(result)
    for name in others:
        assert (by_name[name].fate, by_name[name].moved) == ("done", SIZES[kind])
    same(slow.rest(), run.data)
    if "file" in others:
        same(os.pread(run.file, 4 * MIB, 0), run.data)
        assert run.hash.digest() == hashlib.sha256(run.data).digest()
    run.check_copied(mode, result)


@pytest.mark.parametrize(("kind", "mode", "order"), rows(["unix", "pipe"]))
def test_stopped_after_that(wires, monkeypatch, kind, mode, order):
    """What the others got and what is held for them is all that was taken; the rest is there."""
    others = ("slow", "hash", "file")
    run = Orders(wires, monkeypatch, kind, mode, order, others)
    slow = run.readers["slow"]
    with contextlib.closing(run.fan):
        run.bring_all()
        stop = Stop()
        run.fan.salvage(stop)
    result = stop.result
    by_name = run.check_detached(result)
    taken = run.data[: result.moved]
    got = {"slow": slow.rest(), "file": os.pread(run.file, 4 * MIB, 0)}
    for name in ("slow", "file"):
        assert by_name[name].fate == "stopped"
        assert by_name[name].moved == len(got[name])
        same(got[name] + by_name[name].held, taken)
    same(taken[: by_name["hash"].moved] + by_name["hash"].held, taken)
    run.hash.update(by_name["hash"].held)
    assert run.hash.digest() == hashlib.sha256(taken).digest()
    same(taken + run.left(), run.data)


@pytest.mark.parametrize(
    ("kind", "mode", "order"),
    rows(["unix", "pipe"], [order for order in ORDERS if len(order) > 1]),
)
def test_until_nobody_is_left(wires, monkeypatch, kind, mode, order):
    """The last one's going ends it: "no sinks", and what nobody got is unread or in the source."""
    run = Orders(wires, monkeypatch, kind, mode, order, ())
    with contextlib.closing(run.fan):
        run.bring_all()
        result = run.fan.drive()
    assert result.reason == "no sinks"
    assert run.fan.report.attached == 0
    most = max(one.moved for one in result.sinks)
    begin = result.moved - len(result.unread)
    assert begin <= most
    same(result.unread, run.data[begin : result.moved])
    run.check_detached(result)
    same(run.left(), run.data[result.moved :])


def test_detaching_twice_is_detaching_once(wires):
    """The C counts a sink once, and gives nothing to one that is detached."""
    data = payload(200_000)
    kept = wires.sink("file")
    fan = _fanout.Fanout(
        wires.source("file", data).end, [io.BytesIO(), kept.end], method="read_write"
    )
    with contextlib.closing(fan):
        for _ in range(3):
            lib.sio_fanout_detach(fan.c, fan._place)
        assert fan.report.attached == 1
        assert fan._take(fan._place) == 0
        while not fan._slice(None):
            assert fan._take(fan._place) == 0
    same(kept.received(), data)


def test_what_is_in_memory_is_not_for_a_sink_that_is_detached(wires):
    """The head goes on without it: what it has not got may be no more."""
    _, writer = wires.pipe()
    source = wires.source("file", payload(200_000)).end
    fan = _fanout.Fanout(source, [io.BytesIO(), writer], method="read_write")
    with contextlib.closing(fan):
        lib.sio_fanout_detach(fan.c, fan._place)
        assert not fan._slice(None)
        assert lib.sio_test_in_memory(fan.c)
        assert fan._take(fan._place) == 0
