"""Every answer of the kernel, at every call of both flows of a relay, scripted through the seam.

Rule 1: what arrived, what is held and what is still in the source make up all that was sent, in
        order, whatever the kernel answered.
Rule 2: what happens to one flow is not the other's business, unless the connection is gone.
"""

from __future__ import annotations

import contextlib
import errno
import select

import pytest

from spliceio import relay
from spliceio._cffi import lib
from spliceio._relay import act as _act
from spliceio._transfer import flow as _flow
from tests.support.cases import cases
from tests.support.seam import MOVES, Seam, cap, fail, laws, zero
from tests.support.sides import Collector, digest, sides
from tests.support.states import until
from tests.support.wires import payload

SMALL = 3000
BULK = 150_000

# name: kind of both sides, bytes of the scripted flow, call and site that are scripted
LOOPS = {
    "recv small": ("unix", SMALL, "read", "fill"),
    "send small": ("unix", SMALL, "write", "drain"),
    "recv small tcp": ("tcp4", SMALL, "read", "fill"),
    "send small tcp": ("tcp4", SMALL, "write", "drain"),
    "fill": ("tcp4", BULK, "splice", "fill"),
    "drain": ("tcp4", BULK, "splice", "drain"),
    "fill unix": ("unix", BULK, "splice", "fill"),
    "drain unix": ("unix", BULK, "splice", "drain"),
    "pipe to pipe": ("pair", 60_000, "splice", "direct"),
}
loops = pytest.mark.parametrize("loop", LOOPS)
flows = pytest.mark.parametrize("flow", ["ab", "ba"])
FLOWS = ["ab", "ba"]
SPLICES = [loop for loop, row in LOOPS.items() if row[2] == "splice"]
DRAINS = [loop for loop, row in LOOPS.items() if row[3] == "drain"]
FROM_SOCKETS = [loop for loop, row in LOOPS.items() if row[3] == "fill"]
OTHER = payload(40_000, 9)


@contextlib.contextmanager
def scripted(monkeypatch, flow, *rules):
    """Put a script under one flow of the next relay, and a log under the other.

    Without the first try, which has scripts of its own (test_act.py).
    """
    seams = [Seam(), Seam()]
    target = 0 if flow == "ab" else 1
    seams[target] = Seam(*rules)
    made = []
    begin = _flow.Flow.__init__

    def init(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        seams[len(made)].under(self)
        made.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(_flow.Flow, "__init__", init)
        patch.setattr(_act, "_act", lambda *_: lib.SIO_UNTRIED)
        yield seams[target], seams[1 - target]


class Played:
    """What a scripted relay did, and what is where afterwards."""

    def __init__(self, monkeypatch, loop, flow, *rules, **options):
        kind, size, self.call, self.site = LOOPS[loop]
        self.data = payload(size)
        self.result = self.error = None
        with sides(kind, kind) as pair:
            src, dst = pair if flow == "ab" else pair[::-1]
            src.send(self.data)
            src.finish()
            dst.send(OTHER)
            dst.finish()
            there, back = Collector(dst.reader), Collector(src.reader)
            with scripted(monkeypatch, flow, *rules) as (self.seam, self.other_seam):
                try:
                    self.result = relay(pair[0].near, pair[1].near, idle_timeout=20, **options)
                except OSError as error:
                    self.error = error
                    self.result = error.result
            counts = [self.result.a_to_b, self.result.b_to_a]
            held = [self.result.held_a_to_b, self.result.held_b_to_a]
            if flow == "ba":
                counts.reverse()
                held.reverse()
            self.moved, self.moved_back = counts
            self.held, self.held_back = held
            self.got, self.ended = arrived(there, self.moved)
            self.back, self.back_ended = arrived(back, self.moved_back)
            self.left, self.left_back = src.rest(), dst.rest()
            for side, collector in ((src, back), (dst, there)):
                side.owned[0].close()
                collector.worker.join()

    def exact(self) -> None:
        """Assert that not a byte of either flow is lost or repeated."""
        assert len(self.got) == self.moved
        assert digest(self.got + self.held + self.left) == digest(self.data)
        assert len(self.back) == self.moved_back
        assert digest(self.back + self.held_back + self.left_back) == digest(OTHER)

    def whole(self) -> None:
        """Assert that everything arrived, both ends of file too, and the relay says so."""
        self.exact()
        assert self.error is None
        assert (self.moved, self.moved_back) == (len(self.data), len(OTHER))
        assert self.ended
        assert self.back_ended
        assert self.result.reason == "eof"
        assert sum(self.result.methods.values()) == self.moved + self.moved_back
        laws(self.seam.log)
        laws(self.other_seam.log)


def arrived(collector, count):
    """Return all that came, and whether the end of file came too."""
    collector.wait_for(count)
    # An end of file stays readable until the collector has seen it.
    until(lambda: collector.ended or not select.select([collector.fd], [], [], 0)[0])
    return bytes(collector.data), collector.ended


@loops
@flows
def test_unscripted_it_is_the_call_that_is_meant(monkeypatch, loop, flow):
    """Each loop really makes the call that the tests below script."""
    played = Played(monkeypatch, loop, flow)
    played.whole()
    assert played.seam.calls(played.call, played.site)


@cases(loop=LOOPS, flow=FLOWS, err=["EINTR", "EAGAIN"], times=[1, 5], skip=[0, 1])
def test_what_passes_is_tried_again(monkeypatch, loop, flow, err, times, skip):
    """EINTR and EAGAIN cost nothing."""
    call, site = LOOPS[loop][2:]
    rule = fail(call, getattr(errno, err), site=site, times=times, skip=skip)
    Played(monkeypatch, loop, flow, rule).whole()


@cases(loop=LOOPS, flow=FLOWS, most=[1, 7, 4096])
def test_short_counts(monkeypatch, loop, flow, most):
    """A kernel that moves a little at a time moves everything."""
    call, site = LOOPS[loop][2:]
    times = 1500 if most < 4096 else 10_000
    Played(monkeypatch, loop, flow, cap(call, most, site=site, times=times)).whole()


@cases(loop=SPLICES, flow=FLOWS, skip=[0, 1])
def test_zero_from_splice_is_no_end_of_file(monkeypatch, loop, flow, skip):
    """A false 0 is looked into; everything arrives."""
    call, site = LOOPS[loop][2:]
    Played(monkeypatch, loop, flow, zero(call, site=site, skip=skip, times=3)).whole()


@cases(loop=SPLICES, flow=FLOWS, err=["EINVAL", "ENOSYS", "EPERM", "EOPNOTSUPP"])
def test_a_refusal_falls_back_to_copying(monkeypatch, loop, flow, err):
    """At the first call of the method, with whatever it holds by then."""
    call, site = LOOPS[loop][2:]
    played = Played(
        monkeypatch, loop, flow, fail(call, getattr(errno, err), site=site, times=10_000)
    )
    played.whole()
    assert played.result.methods["read_write"] >= len(played.data)


@cases(loop=LOOPS, flow=FLOWS, skip=[0, 1], err=["ENOMEM", "EIO", "ENOSPC", "ENOBUFS", "EFBIG"])
def test_another_failure_is_raised_with_the_counts(monkeypatch, loop, flow, skip, err):
    """Neither a reset nor the end: an OSError that says so, and every byte is accounted for."""
    call, site = LOOPS[loop][2:]
    number = getattr(errno, err)
    played = Played(monkeypatch, loop, flow, fail(call, number, site=site, skip=skip, times=10**6))
    if played.error is None:  # so many calls were not made
        assert skip
        played.whole()
        return
    played.exact()
    assert played.error.errno == number
    assert played.result.reason == "stopped"
    assert call in str(played.error) or {"read": "recv", "write": "send"}[call] in str(played.error)


@cases(
    loop=FROM_SOCKETS,
    flow=FLOWS,
    skip=[0, 1],
    err=["ECONNRESET", "ETIMEDOUT", "ECONNABORTED", "EHOSTUNREACH"],
)
def test_a_broken_source_ends_the_relay_and_no_end_of_file_is_passed_on(
    monkeypatch, loop, flow, skip, err
):
    """The error comes once, and 0 after it: the relay has not forgotten."""
    call, site = LOOPS[loop][2:]
    rule = fail(call, getattr(errno, err), site=site, skip=skip)
    played = Played(
        monkeypatch,
        loop,
        flow,
        rule,
    )
    if played.seam.unused() == [1]:
        assert skip
        return
    played.exact()
    assert played.error is None
    assert played.result.reason == f"reset by {flow[0]}"
    assert not played.ended


@cases(loop=DRAINS, flow=FLOWS, err=["ECONNRESET", "EPIPE", "ETIMEDOUT"])
def test_a_broken_destination_keeps_what_it_refused(monkeypatch, loop, flow, err):
    """Its own flow ends; what the other side had sent still arrives."""
    call, site = LOOPS[loop][2:]
    played = Played(
        monkeypatch, loop, flow, fail(call, getattr(errno, err), site=site, times=10**6)
    )
    played.exact()
    assert played.error is None
    assert played.moved < len(played.data)
    assert played.held
    assert played.moved_back == len(OTHER)
    assert played.result.reason == f"reset by {flow[1]}"
    assert not played.ended


@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM"])
@flows
def test_no_pipe_means_copying(monkeypatch, flow, err):
    """When the private pipe cannot be made, bytes are copied, in this flow alone."""
    rule = fail("pipe", getattr(errno, err), times=10**6)
    played = Played(monkeypatch, "fill", flow, rule)
    played.whole()
    assert not played.seam.calls("splice")
    assert played.result.methods["read_write"] >= BULK


@flows
@pytest.mark.parametrize("err", ["EINTR", "EAGAIN", "ENOMEM"])
def test_poll_fails(monkeypatch, flow, err):
    """EINTR goes on; what poll itself cannot do is raised, and nothing is lost."""
    number = getattr(errno, err)
    with sides("unix", "unix") as (one, two):
        one.send(b"abc")
        with scripted(monkeypatch, "ab", fail("poll", number, times=3)) as (seam, _):
            if err == "EINTR":
                result = relay(one.near, two.near, idle_timeout=0.05)
                assert result.reason == "idle"
                assert seam.unused() == [0]
            else:
                with pytest.raises(OSError, match="poll") as caught:
                    relay(one.near, two.near, idle_timeout=0.05)
                assert caught.value.errno == number
                result = caught.value.result
        assert result.a_to_b == 3
        assert two.arrived() == b"abc"


@flows
@pytest.mark.parametrize("err", ["ENOTCONN", "EINVAL"])
def test_a_failing_shutdown_is_no_failure(monkeypatch, flow, err):
    """Who cannot be told of the end has gone."""
    played = Played(monkeypatch, "recv small", flow, fail("shutdown", getattr(errno, err)))
    played.exact()
    assert played.seam.unused() == [0]
    assert (played.moved, played.moved_back) == (SMALL, len(OTHER))
    assert not played.ended


@loops
def test_no_call_waits_or_asks_for_more_than_is_held(monkeypatch, loop):
    """The laws of a one-way transfer hold in both flows, and each moves its own bytes."""
    played = Played(monkeypatch, loop, "ab")
    for seam in (played.seam, played.other_seam):
        laws(seam.log)
        assert all(row.len > 0 for row in seam.log if row.call in MOVES)


def test_a_reset_that_a_send_has_met_is_no_end_of_file_for_the_other_way(monkeypatch):
    """The send takes the error with it, the next read says 0: no end of file is passed on."""
    with sides("tcp4", "tcp4") as (a, b):
        a.send(b"a request")
        b.finish()
        with scripted(monkeypatch, "ab", fail("write", errno.ECONNRESET)) as (_, other):
            result = relay(a.near, b.near, idle_timeout=20)
        assert result.reason == "reset by b"
        assert result.held_a_to_b == b"a request"
        assert other.calls("shutdown") == []
        assert not select.select([a.reader], [], [], 0)[0]
