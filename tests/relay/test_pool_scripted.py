"""Every answer of the kernel, at every call of a relay in a pool, scripted through the seam.

Rule 1: what arrived, what is held and what is still in the source make up all that was sent, in
        order, whatever the kernel answered.
Rule 2: an engine is told of each change once. So a made-up EAGAIN is a lie that must come to light:
        of a destination, because a full one is asked again after a while (here after a millisecond,
        not a second); of a source, because something arrives later. Where nothing follows, the
        real kernel never answers so, and neither does a script.
"""

from __future__ import annotations

import contextlib
import errno
import random

import pytest

from spliceio._cffi import lib
from tests.relay import test_relay_scripted
from tests.relay.test_pool import finish, relayed
from tests.relay.test_pool_faults import fill
from tests.relay.test_relay_scripted import (  # noqa: F401  What relay() promises, a pool keeps.
    BULK,
    DRAINS,
    FLOWS,
    LOOPS,
    OTHER,
    SMALL,
    Played,
    flows,
    loops,
    scripted,
    test_a_broken_destination_keeps_what_it_refused,
    test_a_broken_source_ends_the_relay_and_no_end_of_file_is_passed_on,
    test_a_failing_shutdown_is_no_failure,
    test_a_refusal_falls_back_to_copying,
    test_a_reset_that_a_send_has_met_is_no_end_of_file_for_the_other_way,
    test_no_call_waits_or_asks_for_more_than_is_held,
    test_short_counts,
    test_unscripted_it_is_the_call_that_is_meant,
    test_zero_from_splice_is_no_end_of_file,
)
from tests.support.cases import cases
from tests.support.pools import at_rest, pooling, skip_time
from tests.support.seam import MOVES, Seam, fail, laws
from tests.support.sides import Collector, check, digest, sides
from tests.support.states import Worker, until
from tests.support.wires import MIB, payload

STALL = 1_000_000


@pytest.fixture(autouse=True)
def relay_in_a_pool(monkeypatch, leak_guard):
    """Let `Played` and the tests of relay() that are imported here run theirs in a pool."""
    with pooling(stall=STALL) as pool:
        monkeypatch.setattr(
            test_relay_scripted, "relay", lambda *a, **b: pool.submit(*a, **b).result()
        )
        yield


# -- what passes ----------------------------------------------------------------------------------


@cases(loop=LOOPS, flow=FLOWS, times=[1, 5], skip=[0, 1, 2])
def test_eintr_is_tried_again(monkeypatch, loop, flow, times, skip):
    """At the first call of each kind and at later ones."""
    call, site = LOOPS[loop][2:]
    rule = fail(call, errno.EINTR, site=site, times=times, skip=skip)
    Played(monkeypatch, loop, flow, rule).whole()


@cases(loop=DRAINS, flow=FLOWS, times=[1, 5], where=["first", "middle", "last"])
def test_a_destination_that_was_full_is_asked_again(monkeypatch, loop, flow, times, where):
    """EAGAIN of its first call, of one in the middle, and of the last."""
    call, site = LOOPS[loop][2:]
    calls = len(Played(monkeypatch, loop, flow).seam.calls(call, site))
    skip = {"first": 0, "middle": calls // 2, "last": calls - 1}[where]
    played = Played(
        monkeypatch, loop, flow, fail(call, errno.EAGAIN, site=site, times=times, skip=skip)
    )
    played.whole()
    assert where != "first" or played.seam.unused() == [0]


@cases(
    flow=FLOWS,
    skip=[0, 1, 5],
    source=[
        *((kind, "read", 50, times) for kind in ("tcp4", "unix") for times in (1, 3)),
        # What is left unread has to leave room for more, or nothing ever follows.
        ("tcp4", "splice", 40_000, 1),
        ("unix", "splice", 40_000, 3),
        ("pair", "splice", 50, 3),
        ("pair", "splice", 40_000, 1),
    ],
)
def test_a_source_that_was_empty_is_asked_again_when_more_arrives(monkeypatch, source, skip, flow):
    """EAGAIN though there was something: what comes next, bytes or the end, brings it along."""
    kind, call, size, times = source
    rule = fail(call, errno.EAGAIN, site="direct" if kind == "pair" else "fill", times=times)
    with sides(kind, kind) as pair, pooling() as pool:
        src, dst = pair if flow == "ab" else pair[::-1]
        with scripted(monkeypatch, flow, rule._replace(skip=skip)) as (seam, _):
            future = pool.submit(pair[0].near, pair[1].near)
        got, sent = Collector(dst.reader), b""
        for number in range(12):
            src.send(message := payload(size, number))
            sent += message
            at_rest()
        assert seam.unused() != [times]
        src.finish()
        assert digest(got.all()) == digest(sent)
        check(finish(future, dst), *((len(sent), 0) if flow == "ab" else (0, len(sent))))
        laws(seam.log)


@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM"])
@flows
def test_no_pipe_means_copying(monkeypatch, flow, err):
    """When a pipe cannot be made, bytes are copied; that is not asked for each time anew."""
    seam = Seam(fail("pipe", getattr(errno, err), times=10**6))
    data = payload(5 * MIB)
    with sides("tcp4", "unix") as pair, pooling() as pool:
        src, dst = pair if flow == "ab" else pair[::-1]
        with seam.everywhere(monkeypatch):
            future = pool.submit(pair[0].near, pair[1].near)
        got = Collector(dst.reader)
        Worker(lambda: (src.send(data), src.finish())).result()
        assert digest(got.all()) == digest(data)
        assert finish(future, dst).methods == {"read_write": len(data)}
        assert 0 < len(seam.calls("pipe")) < len(seam.calls("read"))
        assert not seam.calls("splice")


# -- what fails ------------------------------------------------------------------------------------


@cases(loop=LOOPS, flow=FLOWS, err=["ENOMEM", "ENOBUFS"], skip=[0, 1])
def test_a_shortage_of_memory_is_waited_out(monkeypatch, loop, flow, err, skip):
    """It is no error of the relay's: everything arrives once there is memory again."""
    call, site = LOOPS[loop][2:]
    rule = fail(call, getattr(errno, err), site=site, skip=skip)
    Played(monkeypatch, loop, flow, rule).whole()


@loops
@pytest.mark.parametrize("how", ["idle", "cancelled", "shut down"])
def test_a_shortage_that_lasts_can_be_ended(monkeypatch, loop, how):
    """By the timeout or the user; every byte is accounted for, and the other way goes on."""
    kind, size, call, site = LOOPS[loop]
    rule = fail(call, errno.ENOMEM, site=site, times=10**6)
    data = payload(size)
    options = {"idle_timeout": 0.5} if how == "idle" else {}
    with sides(kind, kind) as (one, two), pooling() as pool:
        one.send(data)
        with scripted(monkeypatch, "ab", rule) as (seam, _):
            future = pool.submit(one.near, two.near, **options)
        until(lambda: seam.unused()[0] < 10**6)
        two.send(b"back")
        assert one.receive(4) == b"back"
        if how == "cancelled":
            assert future.cancel()
        elif how == "shut down":
            pool.shutdown(wait=False)
        result = future.outcome()
        assert result.reason == ("idle" if how == "idle" else "cancelled")
        assert result.b_to_a == 4
        arrived = two.receive(result.a_to_b)
        assert digest(arrived + result.held_a_to_b + one.rest()) == digest(data)


@cases(loop=LOOPS, flow=FLOWS, skip=[0, 1], err=["EIO", "ENOSPC", "EFBIG"])
def test_another_failure_is_raised_with_the_counts(monkeypatch, loop, flow, skip, err):
    """Neither a reset nor the end: the future's exception, and every byte is accounted for."""
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


def test_what_fails_in_one_relay_is_not_the_next_ones(monkeypatch):
    """On the same thread, in the same round: resets, failures and shortages among good relays."""
    answers = {"reset by a": errno.ECONNRESET, "stopped": errno.EIO, "eof": errno.ENOMEM}
    data = payload(BULK)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling())
        relays = []
        for number in range(30):
            one, two = stack.enter_context(sides("tcp4", "unix"))
            expected = ("eof", *answers)[number % 4] if number % 4 else "good"
            one.send(data)
            one.finish()
            two.finish()
            rules = [fail("splice", answers[expected], site="fill")] if number % 4 else []
            with scripted(monkeypatch, "ab", *rules) as (seam, _):
                future = pool.submit(one.near, two.near)
            relays.append((expected, future, seam, Collector(two.reader), one))
        for expected, future, _seam, got, one in relays:
            error = future.exception()
            result = error.result if error else future.result()
            assert result.reason == {"good": "eof"}.get(expected, expected)
            assert (error is not None) == (expected == "stopped")
            got.wait_for(result.a_to_b)
            arrived = bytes(got.data)
            assert digest(arrived + result.held_a_to_b + one.rest()) == digest(data)
        assert pool.stats().pipes_held == 0


# -- how many calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [("tcp4", "unix"), ("unix", "tcp4"), ("pair", "pair")])
def test_a_reader_stalled_for_minutes_costs_a_call_a_second(monkeypatch, a, b):
    """Three hundred times the destination is asked again, once each time; then all is drained."""
    data = payload(12 * MIB)
    with sides(a, b) as (one, two), pooling(stall=STALL) as pool:
        with scripted(monkeypatch, "ab") as (seam, _):
            future = pool.submit(one.near, two.near)
        feeder = Worker(lambda: (one.send(data), one.finish()))
        until(feeder.asleep)
        begun = seam.count
        until(lambda: seam.count > begun + 3 * 300)
        assert future.running()
        got = Collector(two.reader)
        feeder.result()
        assert digest(got.all()) == digest(data)
        check(finish(future, two), len(data), 0)


@pytest.mark.parametrize("phase", ["idle", "moved", "stalled", "half-closed"])
def test_a_relay_that_waits_makes_no_call(monkeypatch, phase):
    """Whatever goes on beside it on the same thread."""
    with relayed("unix", "tcp4") as (pool, other, three, four), sides("tcp4", "unix") as (one, two):
        with scripted(monkeypatch, "ab") as seams:
            future = pool.submit(one.near, two.near)
        if phase == "moved":
            one.send(b"abc")
            assert two.receive(3) == b"abc"
        elif phase == "stalled":
            fill(one)
        elif phase == "half-closed":
            one.finish()
            assert two.far.recv(1) == b""
        at_rest()
        before = [seam.count for seam in seams]
        for number in range(200):
            three.send(b"%64d" % number)
            assert four.receive(64) == b"%64d" % number
        at_rest()
        assert [seam.count for seam in seams] == before
        future.cancel()
        finish(other, three, four)


@pytest.mark.parametrize(("a", "b"), [("tcp4", "unix"), ("unix", "tcp4"), ("tcp4", "tcp4")])
def test_sockets_are_asked_by_moving_alone(monkeypatch, a, b, nonblocking):
    """Given blocking or not, neither poll() nor FIONREAD is called: the answer is the call's."""
    data = payload(5 * MIB)
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        with scripted(monkeypatch, "ab") as (seam, _):
            future = pool.submit(one.near, two.near)
        got = Collector(two.reader)
        feeder = Worker(lambda: one.send(data))
        feeder.result()
        got.wait_for(len(data))
        assert {row.call for row in seam.log} == {"read", "write", "splice", "pipe"}
        assert all(row.len > 0 for row in seam.log if row.call in MOVES)
        finish(future, one, two)
        assert digest(got.all()) == digest(data)


# -- timers ----------------------------------------------------------------------------------------


def test_idle_relays_end_in_the_order_of_their_deadlines():
    """Two hundred, begun in any order; some are cancelled meanwhile, others had something to do.

    Less time is let pass at once than lies between two of them.
    """
    chance = random.Random(7)
    limits = [20 + 0.15 * number for number in range(200)]
    chance.shuffle(limits)
    ended: list[object] = []
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling())
        pairs = [stack.enter_context(sides("unix", "unix")) for _ in limits]
        links = {}
        for (one, two), limit in zip(pairs, limits, strict=True):
            future = pool.submit(one.near, two.near, idle_timeout=limit)
            links[future] = future._job.c
            future.add_done_callback(ended.append)
        skip_time(pool, 7.07)
        at_rest()
        for number, (future, (one, _)) in enumerate(zip(links, pairs, strict=True)):
            if number % 5 == 0:
                future.cancel()
            elif number % 5 == 1:
                one.send(b"busy")
        at_rest()
        while pool.stats().active:
            skip_time(pool, 0.1)
            at_rest()
        left = [future for future in links if not future.cancelled()]
        for future in left:
            assert future.result().reason == "idle"
        until(lambda: len(ended) == len(links))

    def deadline(future: object) -> int:
        return int(lib.sio_test_idle_at(links[future]))

    told = [future for future in ended if future in left]
    by_end = sorted(told, key=lambda future: lib.sio_test_ended(links[future]))
    assert by_end == sorted(told, key=deadline)
    assert told == sorted(told, key=deadline)


def test_a_deadline_moves_with_the_bytes():
    """The one that is kept busy outlives one with a longer limit."""
    with (
        relayed(idle_timeout=0.2) as (pool, busy, one, two),
        sides("unix", "tcp4") as (three, four),
    ):
        idle = pool.submit(three.near, four.near, idle_timeout=0.3)
        moved = 0
        while not idle.done():
            one.send(b"x")
            moved += len(two.receive(1))
        assert busy.running()
        check(idle.result(), 0, 0, "idle")
        check(busy.result(), moved, 0, "idle")
