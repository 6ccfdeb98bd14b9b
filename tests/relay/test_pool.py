"""RelayPool and its futures: what goes through, how it ends, who is told, and what is left behind.

Rule 1: every test that moves bytes checks them by hash, and the method that ran.
Rule 2: whatever is said to end is waited for, and nothing is measured by the clock; a test of what
        might hang for ever runs in an interpreter of its own.
Rule 3: the pool is cut at the end of every test, so the leak guard sees what it leaves.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import gc
import itertools
import logging
import os
import select
import socket
import threading
import weakref
from typing import NamedTuple

import pytest

from spliceio import PoolStats, RelayFuture, RelayPool, RelayResult
from spliceio._cffi import lib
from tests.relay import test_relay
from tests.relay.test_relay import (  # noqa: F401  What relay() promises, a pool keeps: see `relay_in_a_pool`.
    Collector,
    Side,
    check,
    digest,
    sides,
    test_a_bare_number_stays_the_callers,
    test_a_child_process,
    test_a_child_that_ends_ends_the_relay,
    test_a_child_that_ignores_its_input_still_answers,
    test_a_number_reused_meanwhile_is_left_alone,
    test_a_pair_of_sockets_is_half_closed_and_not_closed,
    test_an_idle_relay_ends_by_its_timeout,
    test_any_schedule_arrives_as_sent,
    test_half_close_in_both_orders,
    test_small_messages_are_copied,
    test_sockets_stay_open_and_numbers_do_as_sides,
    test_the_byte_limit_is_exact,
    test_the_limit_is_reached_while_data_comes_piece_by_piece,
    test_the_method_switches_both_ways,
    test_to_a_and_to_b_go_out_first,
    test_wrong_options_are_refused,
    test_wrong_sides_are_refused,
)
from tests.relay.test_relay_faults import reset
from tests.support.cases import cases
from tests.support.pools import BACK, HANG, THERE, active, at_rest, peers, pooling, script
from tests.support.states import Worker, until
from tests.support.wires import MIB, payload

KINDS = ("tcp4", "unix", "pair")
SIZES = (0, 1, 16384, 32767, 32769, MIB - 1, MIB + 1, 5 * MIB)
every_kind = pytest.mark.parametrize(("a", "b"), [(a, b) for a in KINDS for b in KINDS])


@pytest.fixture(autouse=True)
def relay_in_a_pool(monkeypatch, leak_guard):
    """Let the tests of relay() that are imported here run theirs in a pool."""
    with pooling() as pool:
        monkeypatch.setattr(test_relay, "relay", lambda *a, **b: pool.submit(*a, **b).result())
        yield


class Relayed(NamedTuple):
    """A pool, one relay in it, and its two sides."""

    pool: RelayPool
    future: RelayFuture
    one: Side
    two: Side


@contextlib.contextmanager
def relayed(a: str = "tcp4", b: str = "unix", *, nonblocking: bool = False, **options):
    """Make a pool with one relay between two sides."""
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        yield Relayed(pool, pool.submit(one.near, two.near, **options), one, two)


def carry(pool: RelayPool, one: Side, two: Side, ab: bytes, ba: bytes, **options) -> RelayResult:
    """Send both ways at once, to the end; check the content and return the result."""
    got = {side: Collector(side.reader) for side in (one, two)}
    future = pool.submit(one.near, two.near, **options)
    feeders = [Worker(lambda s=s, d=d: (s.send(d), s.finish())) for s, d in ((one, ab), (two, ba))]
    for feeder in feeders:
        feeder.result()
    result = future.result()
    assert digest(got[two].all()) == digest(bytes(options.get("to_b", b"")) + ab)
    assert digest(got[one].all()) == digest(bytes(options.get("to_a", b"")) + ba)
    return result


def finish(future: RelayFuture, *both: Side) -> RelayResult:
    """Let both sides end; return the result."""
    for side in both:
        side.finish()
    return future.result()


# -- content ---------------------------------------------------------------------------------------


@cases(a=KINDS, b=KINDS, size=SIZES, nonblocking=[False, True])
def test_both_ways_at_once(a, b, size, nonblocking):
    """What is sent arrives, both ways; small reads are copied, bulk and pipes go by splice."""
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        result = carry(pool, one, two, payload(size), payload(size, 2))
        check(result, size, size)
        if "pair" in (a, b) and size:
            assert result.methods.get("splice", 0) >= size
        elif 0 < size < 32768:
            assert result.methods == {"read_write": 2 * size}
        elif size >= MIB - 1:
            assert result.methods["splice"] > result.methods.get("read_write", 0)
        stats = pool.stats()
        assert (stats.active, stats.total, stats.pipes_held) == (0, 1, 0)
        assert (stats.a_to_b, stats.b_to_a) == (size, size)


@every_kind
def test_more_than_fits_goes_out_first(a, b, nonblocking):
    """More than a socket takes at once, and both are counted."""
    ab, ba = payload(3 * MIB), payload(100_000, 2)
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        result = carry(pool, one, two, ab, ba, to_a=payload(2 * MIB, 3), to_b=bytearray(b"first"))
        check(result, len(ab) + 5, len(ba) + 2 * MIB)


def test_a_pool_carries_one_relay_after_another():
    """Whatever the last ones were, the next one is like the first, and its numbers are its own."""
    with pooling(2) as pool:
        for round_, (a, b) in enumerate([(a, b) for a in KINDS for b in KINDS] * 2):
            with sides(a, b) as (one, two):
                check(carry(pool, one, two, payload(70_000, round_), b"x"), 70_000, 1)
        assert pool.stats() == PoolStats(
            active=0, total=18, a_to_b=18 * 70_000, b_to_a=18, pipes_open=pool.stats().pipes_open,
            pipes_held=0,
        )  # fmt: skip


# -- regular files, children -----------------------------------------------------------------------


@cases(kind=KINDS, way=["ab", "ba"], size=[0, 1, 100_000, 5 * MIB], nonblocking=[False, True])
def test_regular_files_as_reader_and_writer(kind, way, size, tmp_path, nonblocking):
    """One is sent from its position on, the other gets the answer and is closed."""
    data, answer = payload(size), payload(100_000, 2)
    (tmp_path / "source").write_bytes(b"head" + data)
    with (
        sides(kind, kind, nonblocking=nonblocking) as (one, _),
        pooling() as pool,
        open(tmp_path / "source", "rb") as src,
        open(tmp_path / "target", "wb") as dst,
    ):
        assert src.read(4) == b"head"
        dst.write(b"before")
        got = Collector(one.reader)
        files = (src, dst)
        future = pool.submit(*((files, one.near) if way == "ab" else (one.near, files)))
        one.send(answer)
        one.finish()
        assert digest(got.all()) == digest(data)
        result = future.result()
        counts = (result.a_to_b, result.b_to_a)
        assert counts[:: 1 if way == "ab" else -1] == (size, len(answer))
        assert result.reason == "eof"
        assert result.methods.get("sendfile" if kind != "pair" else "splice", 0) >= size
        assert (dst.closed, src.closed, src.tell()) == (True, False, 4 + size)
    assert (tmp_path / "target").read_bytes() == b"before" + answer


def test_a_writer_that_cannot_be_closed_is_the_futures_exception():
    """What its close() raises, with the result; nothing is left open."""

    class Unclosable:
        def __init__(self, fd):
            self.fileno = lambda: fd

        def close(self):
            raise OSError("cannot be flushed")

    with sides("unix", "pair") as (one, two), pooling() as pool:
        reader, writer = two.near
        future = pool.submit(one.near, (reader, Unclosable(writer)))
        one.send(b"abc")
        one.finish()
        with pytest.raises(OSError, match="cannot be flushed") as caught:
            future.result()
        assert two.arrived() == b"abc"
        assert caught.value.result.a_to_b == 3
        with pytest.raises(OSError, match="cannot be flushed"):
            future.outcome()


# -- limits ----------------------------------------------------------------------------------------


@cases(
    ends=[("tcp4", "unix"), ("unix", "pair"), ("pair", "tcp4")],
    way=["ab", "ba"],
    limit=[1, 100_000, 3 * MIB + 1],
    silent=[True, False],
    nonblocking=[False, True],
)
def test_one_way_alone_reaches_the_byte_limit(ends, way, limit, silent, nonblocking):
    """While the other is silent, or has ended; the rest stays in the source."""
    a, b = ends
    data = payload(5 * MIB)
    with relayed(a, b, nonblocking=nonblocking, byte_limit=limit) as (_, future, *pair):
        src, dst = pair if way == "ab" else pair[::-1]
        if not silent:
            dst.finish()
        feeder = Worker(lambda: src.send(data))
        arrived = dst.receive(limit)
        result = future.result(HANG)
        check(result, *((limit, 0) if way == "ab" else (0, limit)), "limit")
        assert silent is False or dst.arrived() == b""
        rest = bytearray()
        while len(rest) < len(data) - limit:
            select.select([src.fds[0]], [], [])
            rest += os.read(src.fds[0], MIB)
        feeder.result()
        assert digest(arrived + rest) == digest(data)


def test_what_goes_out_first_counts_for_the_limit():
    """A limit of just that much ends the relay once it has arrived."""
    with relayed(to_a=b"abc", to_b=payload(3 * MIB), byte_limit=3 * MIB + 3) as (_, future, *pair):
        pair[0].send(b"not taken")
        assert digest(pair[1].receive(3 * MIB)) == digest(payload(3 * MIB))
        check(future.result(HANG), 3 * MIB, 3, "limit")
        assert pair[0].rest() == b"not taken"


@pytest.mark.parametrize("limit", [0, 1e-9])
def test_what_is_there_goes_before_the_shortest_timeout_counts(limit):
    """As in relay(): bytes that wait are no idleness."""
    with sides("tcp4", "unix") as (one, two), pooling() as pool:
        one.send(b"abc")
        two.send(b"de")
        result = pool.submit(one.near, two.near, idle_timeout=limit, to_b=b"f").result()
        check(result, 4, 2, "idle")
        assert (two.arrived(), one.arrived()) == (b"fabc", b"de")


def accounted(src: Side, dst: Side, data: bytes, moved: int, held: bytes) -> bytes:
    """Assert that what arrived, what is held and what is unread make up all that is sent."""
    taken = dst.receive(moved)
    assert dst.arrived() == b""
    taken += held
    assert taken == data[: len(taken)]
    rest = bytearray()
    while len(taken) + len(rest) < len(data):
        select.select([src.fds[0]], [], [])
        rest += os.read(src.fds[0], MIB)
    assert digest(taken + rest) == digest(data)
    return held


@cases(a=KINDS, b=KINDS, how=["idle", "cancel", "shutdown"], nonblocking=[False, True])
def test_cut_in_front_of_a_stalled_reader_every_byte_is_accounted_for(a, b, how, nonblocking):
    """Moved, held and still in the source: together all that was sent, in order."""
    data = payload(12 * MIB)
    options = {"idle_timeout": 0.1} if how == "idle" else {}
    with relayed(a, b, nonblocking=nonblocking, **options) as (pool, future, one, two):
        feeder = Worker(lambda: one.send(data))
        if how != "idle":
            # Buffers that have grown may take all of it.
            until(lambda: feeder.asleep() or not feeder.is_alive())
        if how == "cancel":
            assert future.cancel()
        elif how == "shutdown":
            pool.shutdown(wait=False)
        result = future.outcome()
        assert result.reason == ("idle" if how == "idle" else "cancelled")
        accounted(one, two, data, result.a_to_b, result.held_a_to_b)
        feeder.result()
        assert sum(result.methods.values()) == result.a_to_b


# -- cancelling ------------------------------------------------------------------------------------


@every_kind
def test_cancel_ends_the_relay_and_outcome_tells(a, b, nonblocking):
    """The future is cancelled at once; the sides are open, as they were, and get no end of file."""
    with relayed(a, b, nonblocking=nonblocking) as (pool, future, one, two):
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        assert future.running()
        assert not future.done()
        with pytest.raises(TimeoutError):
            future.outcome(timeout=0)
        assert future.cancel()
        assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
        for ask in (future.result, future.exception):
            with pytest.raises(concurrent.futures.CancelledError):
                ask()
        check(future.outcome(), 3, 0, "cancelled")
        assert future.outcome(0) is future.outcome()
        assert pool.stats().active == 0
        one.send(b"kept")
        assert os.read(one.fds[0], 10) == b"kept"
        os.write(one.fds[-1], b"direct")
        assert one.receive(6) == b"direct"
        assert two.arrived() == b""


def test_cancel_before_it_has_begun_moves_nothing_more():
    """Straight after submit, again and again: whatever was taken is accounted for."""
    with pooling() as pool, sides("tcp4", "unix") as (one, two):
        for _ in range(200):
            one.send(b"x")
            future = pool.submit(one.near, two.near)
            assert future.cancel()
            result = future.outcome()
            assert result.reason == "cancelled"
            assert result.a_to_b + len(result.held_a_to_b) + len(one.rest()) == 1
            assert two.receive(result.a_to_b) == b"x" * result.a_to_b
        assert pool.stats().total == 200


def test_cancel_after_the_end_says_no():
    """The result stays, and is the outcome too."""
    with relayed() as (_, future, one, two):
        result = finish(future, one, two)
        assert not future.cancel()
        assert not future.cancelled()
        assert future.result() is result is future.outcome()


def test_cancel_twice_says_yes_twice():
    """As every future does, before and after the relay has ended, and from many threads at once."""
    with relayed() as (_, future, *_sides):
        assert all(Worker(future.cancel).result() for _ in range(3))
        future.outcome()
        assert future.cancel()
        assert future.cancelled()
    with relayed() as (_, future, *_sides):
        workers = [Worker(future.cancel) for _ in range(8)]
        assert all(worker.result() for worker in workers)
        assert future.outcome().reason == "cancelled"


def test_cancel_at_the_very_moment_of_the_end():
    """Either is right, and cancel(), cancelled() and the outcome say the same."""
    with pooling() as pool:
        for number in range(2000):
            (a, x), (b, y) = socket.socketpair(), socket.socketpair()
            with a, b, x, y:
                future = pool.submit(a, b)
                x.close()
                y.close()
                for _ in range(number % 40):
                    os.sched_yield()
                cancelled = future.cancel()
                assert future.cancelled() == cancelled
                assert future.outcome().reason == ("cancelled" if cancelled else "eof")
                assert future.cancel() == cancelled
        assert pool.stats().active == 0


def test_cancel_after_an_end_that_nobody_has_heard_of_says_no():
    """The relay has ended by itself, though the future does not know it yet."""
    with relayed() as (pool, first, *ends), sides("unix", "unix") as (one, two):
        inside, leave = threading.Event(), threading.Event()
        first.add_done_callback(lambda _: (inside.set(), leave.wait()))
        second = pool.submit(one.near, two.near)
        finish(first, *ends)
        inside.wait()  # in the thread of the news
        one.finish()
        two.finish()
        until(lambda: pool.stats().active == 0)
        assert not second.done()
        cancelled = second.cancel()
        leave.set()
        assert (cancelled, second.cancelled(), second.outcome().reason) == (False, False, "eof")


def test_who_waits_for_a_cancelled_relay_is_told():
    """In result(), exception(), wait() and as_completed(), in other threads."""
    with relayed() as (_, future, *_sides):
        waits = [
            Worker(lambda: concurrent.futures.wait([future]).done),
            Worker(lambda: set(concurrent.futures.as_completed([future]))),
            Worker(future.outcome),
        ]
        raises = [Worker(future.result), Worker(future.exception)]
        until(lambda: all(worker.asleep() for worker in waits + raises))
        assert future.cancel()
        assert waits[0].result() == waits[1].result() == {future}
        assert waits[2].result().reason == "cancelled"
        for worker in raises:
            with pytest.raises(concurrent.futures.CancelledError):
                worker.result()


# -- futures ---------------------------------------------------------------------------------------


def test_wait_and_as_completed():
    """Relays come in the order in which they end."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling())
        pairs = [stack.enter_context(sides("unix", "tcp4")) for _ in range(4)]
        futures = [pool.submit(one.near, two.near) for one, two in pairs]
        ended = concurrent.futures.as_completed(futures)
        for number in (2, 0, 3, 1):
            pairs[number][0].send(bytes(number))
            finish(futures[number], *pairs[number])
            assert next(ended) is futures[number]
            assert futures[number].result().a_to_b == number
        done, left = concurrent.futures.wait(futures)
        assert (done, left) == (set(futures), set())
        assert not concurrent.futures.wait([pool.submit(*(s.near for s in pairs[0]))], 5).not_done


def test_who_waits_for_many_misses_none():
    """Each ends at some moment while wait() and as_completed() look at them."""
    with pooling(2) as pool:
        for _ in range(60):
            with contextlib.ExitStack() as stack:
                pairs = [socket.socketpair() for _ in range(12)]
                for sock in itertools.chain(*pairs):
                    stack.enter_context(sock)
                near, far = zip(*pairs, strict=True)
                futures = [pool.submit(*near[n : n + 2]) for n in range(0, 12, 2)]
                closing = Worker(lambda far=far: [sock.close() for sock in far])
                done, left = concurrent.futures.wait(futures)
                assert (done, left) == (set(futures), set())
                assert set(concurrent.futures.as_completed(futures)) == done
                closing.result()


def test_a_future_is_set_by_the_pool_alone():
    """As those of an executor should be."""
    with relayed() as (_, future, one, two):
        for spoil in (
            future.set_running_or_notify_cancel,
            lambda: future.set_result(None),
            lambda: future.set_exception(None),
        ):
            with pytest.raises(concurrent.futures.InvalidStateError):
                spoil()
        assert "pending" in repr(future)
        finish(future, one, two)
        assert "finished returned RelayResult" in repr(future)


def test_asyncio_awaits_it_and_cancels_it():
    """wrap_future() gives the result; cancelling the awaiting task ends the relay."""

    async def run(first: RelayFuture, second: RelayFuture, one: Side, two: Side) -> RelayResult:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: (one.send(b"abc"), one.finish(), two.finish()))
        result = await asyncio.wrap_future(first)
        task = asyncio.ensure_future(asyncio.wait_for(asyncio.wrap_future(second), None))
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        return result

    with relayed() as (pool, first, *ends), sides("unix", "unix") as (one, two):
        second = pool.submit(one.near, two.near)
        check(asyncio.run(run(first, second, *ends)), 3, 0)
        assert second.cancelled()
        assert second.outcome().reason == "cancelled"


def test_a_callback_is_called_once_with_the_future_done():
    """At the end or, added later, at once; the outcome is there already."""
    seen = []
    with relayed() as (_, future, one, two):
        future.add_done_callback(lambda f: seen.append((f, f.done(), f.outcome(), f.result())))
        result = finish(future, one, two)
        until(lambda: seen)
        future.add_done_callback(seen.append)
        assert seen == [(future, True, result, result), future]


def test_a_callback_of_a_cancelled_relay_can_ask_for_its_outcome():
    """It is called by cancel() itself, and the relay ends meanwhile."""
    out = script("""
pool = RelayPool()
future = pool.submit(a, b)
future.add_done_callback(lambda f: print(f.outcome().reason, f.cancel(), flush=True))
print(future.cancel())
close(a, x, b, y)
pool.shutdown()
""")
    assert out == "cancelled True\nTrue\n"


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_callback_that_raises_harms_nobody_else(error):
    """Neither the next callback nor the next relay."""
    out = script(f"""
import logging
logging.getLogger("concurrent.futures").disabled = logging.getLogger("spliceio").disabled = True
threading.excepthook = lambda _: None
def fails(future):
    raise {error}("of a test")
pool = RelayPool()
first, second = pool.submit(a, b), pool.submit(c, d)
first.add_done_callback(fails)
close(x, y)
print(first.result().reason)
z.sendall(b"abc"); assert w.recv(3) == b"abc"; close(z, w)
print(second.result(5).reason)
pool.shutdown()
""")
    assert out == "eof\neof\n"


def test_a_callback_that_raises_is_logged(caplog):
    """As of every future, with the error."""
    with relayed() as (_, future, one, two), caplog.at_level(logging.ERROR):
        told = threading.Event()
        future.add_done_callback(lambda _: 1 // 0)
        future.add_done_callback(lambda _: told.set())
        finish(future, one, two)
        told.wait()
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_can_submit_the_next_relay():
    """From the thread that tells of the last one."""
    with sides("unix", "unix") as (one, two), relayed() as (pool, future, *ends):
        submitted: list[RelayFuture] = []
        future.add_done_callback(lambda _: submitted.append(pool.submit(one.near, two.near)))
        finish(future, *ends)
        until(lambda: submitted)
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        check(finish(submitted[0], one, two), 3, 0)


@pytest.mark.parametrize("call", ["shutdown(wait=False)", "shutdown()", "shutdown(drain=0)"])
@pytest.mark.parametrize("others", [0, 2])
def test_a_callback_can_shut_the_pool_down(call, others):
    """Whatever else is open: it does not wait for what only it could tell of."""
    out = script(f"""
pool = RelayPool(2)
futures = [pool.submit(one, two) for (one, _), (two, _) in (pairs[2:4], pairs[4:6])][:{others}]
first = pool.submit(a, b)
shut = threading.Event()
def shut_down(_):
    try:
        pool.{call}
    except RuntimeError:
        assert {call!r} == "shutdown()"
    shut.set()
first.add_done_callback(shut_down)
close(x, y)
assert first.result().reason == "eof"
assert shut.wait(5), "it hangs"
try:
    pool.submit(a, b)
except RuntimeError:
    print("shut")
if {call!r} == "shutdown()":
    close(*(peer for _, peer in pairs))
for future in futures:
    assert future.result(5).reason in ("eof", "cancelled")
pool.shutdown()
""")
    assert out == "shut\n"


# -- stats, shutdown, the last reference -----------------------------------------------------------


def test_stats_count_open_relays_and_what_they_have_moved():
    """While they run, over all threads; what has ended stays counted, also after shutdown()."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling(2))
        pairs = [stack.enter_context(sides("tcp4", "unix")) for _ in range(3)]
        assert pool.stats() == PoolStats(0, 0, 0, 0, 0, 0)
        futures = [pool.submit(one.near, two.near) for one, two in pairs]
        for number, (one, two) in enumerate(pairs):
            one.send(bytes(number))
            two.receive(number)
            two.send(b"12345")
            one.receive(5)
        until(lambda: pool.stats() == PoolStats(3, 3, 3, 15, 0, 0))
        finish(futures[0], *pairs[0])
        assert pool.stats() == PoolStats(2, 3, 3, 15, 0, 0)
        for future, pair in zip(futures[1:], pairs[1:], strict=True):
            finish(future, *pair)
        pool.shutdown()
        assert pool.stats() == PoolStats(0, 3, 3, 15, 0, 0)


def test_relays_are_spread_over_threads():
    """The next one goes where the fewest are."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling(3))
        pairs = [stack.enter_context(sides("unix", "unix")) for _ in range(12)]
        futures = [pool.submit(one.near, two.near) for one, two in pairs[:9]]
        until(lambda: active(pool) == [3, 3, 3])
        for number in (0, 3, 6):
            finish(futures[number], *pairs[number])
        assert sorted(active(pool)) == [0, 3, 3]
        futures += [pool.submit(one.near, two.near) for one, two in pairs[9:]]
        until(lambda: active(pool) == [3, 3, 3])


def test_shutdown_waits_until_all_have_ended():
    """It takes no more meanwhile; the results are those of relays that ended by themselves."""
    with relayed() as (pool, future, one, two):
        waiting = Worker(pool.shutdown)
        until(waiting.asleep)
        with pytest.raises(RuntimeError, match="shut down"):
            pool.submit(one.near, two.near)
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        assert waiting.is_alive()
        check(finish(future, one, two), 3, 0)
        waiting.result()


@pytest.mark.parametrize("options", [{"wait": False}, {"drain": 0}, {"drain": 0.05}])
def test_shutdown_cuts_what_is_open(options):
    """At once, or when the time is over: that is a result, and every future has one."""
    with relayed() as (pool, future, one, two), sides("unix", "pair") as (three, four):
        other = pool.submit(three.near, four.near)
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        pool.shutdown(**options)
        check(future.result(0), 3, 0, "cancelled")
        check(other.result(0), 0, 0, "cancelled")
        assert not future.cancelled()
        assert not future.cancel()
        for side in (one, two, three, four):
            assert side.arrived() == b""
        with pytest.raises(RuntimeError, match="shut down"):
            pool.submit(one.near, two.near)


def test_shutdown_is_safe_to_repeat_and_from_many_threads():
    """The first that does not wait ends the waiting of all."""
    with relayed() as (pool, future, *_sides):
        waiting = [Worker(pool.shutdown) for _ in range(3)]
        until(lambda: all(worker.asleep() for worker in waiting))
        cutting = [Worker(lambda: pool.shutdown(wait=False)) for _ in range(3)]
        for worker in waiting + cutting:
            worker.result()
        pool.shutdown()
        pool.shutdown(drain=1)
        assert future.result().reason == "cancelled"


def test_shutdown_with_relays_open_never_hangs():
    """A few hundred times, whoever is first to see what."""
    out = script("""
for n in range(300):
    pool = RelayPool(1 + n % 2)
    futures = [pool.submit(one, two) for (one, _), (two, _) in (pairs[:2], pairs[2:4])]
    pool.shutdown(wait=False)
    assert {f.result(0).reason for f in futures} == {"cancelled"}
print("done")
""")
    assert out == "done\n"


def test_many_threads_submit_until_it_is_shut_down():
    """Each call either begins a relay that ends, or raises RuntimeError; nothing else."""
    out = script("""
sys.setswitchinterval(1e-6)
said = set()
def submit(pool, one, two):
    while True:
        try:
            future = pool.submit(one, two)
        except Exception as error:
            said.add((type(error).__name__, str(error)))
            return
        future.cancel()
        said.add(future.outcome().reason)
for n in range(60):
    pool = RelayPool(1 + n % 2)
    threads = [
        threading.Thread(target=submit, args=(pool, one, two))
        for (one, _), (two, _) in zip(pairs[::2], pairs[1::2])
    ]
    for thread in threads:
        thread.start()
    while pool.stats().total < n % 5:
        os.sched_yield()
    pool.shutdown(wait=n % 3 == 0)
    for thread in threads:
        thread.join()
print(*sorted(map(str, said)), sep="\\n")
""")
    assert out == "('RuntimeError', 'RelayPool.submit: it is shut down')\ncancelled\n"


def test_the_with_block_waits_and_an_exception_cuts():
    """The exception is the caller's."""
    with sides("unix", "tcp4") as (one, two):
        with RelayPool() as pool:
            future = pool.submit(one.near, two.near)
            ending = Worker(lambda: (until(lambda: pool._shut), one.finish(), two.finish()))
        ending.result()
        assert future.result(0).reason == "eof"
    with sides("unix", "tcp4") as (one, two):
        with contextlib.suppress(ZeroDivisionError), RelayPool() as pool:
            future = pool.submit(one.near, two.near)
            raise ZeroDivisionError
        assert future.result(0).reason == "cancelled"


def test_the_last_reference_ends_the_pool():
    """Unused, or when its relays have ended: its threads and descriptors go without a word."""
    pool = RelayPool(2)
    thread = pool._engines._thread
    del pool
    thread.join()
    with sides("unix", "unix") as (one, two):
        pool = RelayPool()
        thread, gone = pool._engines._thread, weakref.ref(pool)
        future = pool.submit(one.near, two.near)
        finish(future, one, two)
        del pool, future
        gc.collect()
        until(lambda: gone() is None)
        thread.join()


@pytest.mark.parametrize("kept", ["the future", "nothing"])
def test_a_relay_outlives_the_last_reference_to_its_pool(kept):
    """It goes on to its end, and only then the pool ends, by itself."""
    out = script(f"""
import gc
pool = RelayPool()
future = pool.submit(a, b)
threads = [t for t in threading.enumerate() if t is not threading.main_thread()]
del pool
if {kept!r} == "nothing":
    del future
gc.collect()
x.sendall(b"abc"); assert y.recv(3) == b"abc"
y.sendall(b"abc"); assert x.recv(3) == b"abc"
x.shutdown(socket.SHUT_WR); assert y.recv(3) == b""
y.shutdown(socket.SHUT_WR); assert x.recv(3) == b""
if {kept!r} != "nothing":
    assert future.result().reason == "eof"
    del future
for thread in threads:
    thread.join(5)
    print(thread.is_alive())
""")
    assert out == "False\n"


# -- the caller's descriptors ----------------------------------------------------------------------


ENDINGS = {
    "eof": ({}, lambda relay: (relay.one.finish(), relay.two.finish())),
    "idle": ({"idle_timeout": 0.02}, lambda _: None),
    "limit": ({"byte_limit": 3}, lambda relay: relay.one.send(b"more")),
    "reset by a": ({}, lambda relay: reset(relay.one)),
    "cancelled": ({}, lambda relay: relay.future.cancel()),
    "shut down": ({}, lambda relay: relay.pool.shutdown(wait=False)),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("timeout", [None, 5.0, 0.0], ids=["blocking", "timeout", "nonblocking"])
def test_the_mode_of_sockets_is_restored(ending, timeout):
    """However the relay ends, by the time that its outcome is known."""
    options, end = ENDINGS[ending]
    with sides("tcp4", "unix") as (one, two), pooling() as pool:
        nears = (one.near, two.near)
        for near in nears:
            near.settimeout(timeout)
        future = pool.submit(*nears, **options)
        end(Relayed(pool, future, one, two))
        reason = future.outcome().reason
        assert reason == ("cancelled" if ending == "shut down" else ending)
        assert [os.get_blocking(near.fileno()) for near in nears] == [timeout is None] * 2
        assert [near.gettimeout() for near in nears] == [timeout] * 2


def test_the_mode_of_pipes_is_left_alone(nonblocking):
    """They are shared with whoever has the other side's descriptors, a child as like as not."""
    with relayed("pair", "tcp4", nonblocking=nonblocking) as (_, future, one, two):
        one.send(payload(65536))
        two.send(b"x")
        assert (len(two.receive(65536)), one.receive(1)) == (65536, b"x")
        assert [os.get_blocking(fd) for fd in one.fds] == [not nonblocking] * 2
        check(finish(future, one, two), 65536, 1)
        assert os.get_blocking(one.fds[0]) == (not nonblocking)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, ValueError),
        ({"threads": -1}, ValueError),
        ({"threads": "1"}, TypeError),
        ({"threads": 1.5}, TypeError),
        ({"max_pipes": -1}, ValueError),
        ({"max_pipes": "1"}, TypeError),
        ({"max_pipes": 1.5}, TypeError),
        ({"max_pipes": 2**40}, (ValueError, OverflowError)),
    ],
)
def test_wrong_pools_are_refused(options, error):
    """And leave nothing behind."""
    with pytest.raises(error):
        RelayPool(**options)


# -- no GIL ----------------------------------------------------------------------------------------


class PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


@pytest.mark.parametrize(("a", "b"), [("tcp4", "tcp4"), ("unix", "tcp4")])
def test_a_held_interpreter_delays_no_byte(a, b):
    """A call that never lets go of the GIL returns when the peers have said all, both ways."""
    with relayed(a, b) as (_, future, one, two), peers(one, two) as child:
        hold = ctypes.PyDLL(None).poll
        wait = PollFd(child.stdout.fileno(), select.POLLIN)
        os.write(child.stdin.fileno(), b"x")
        # Nobody else has the interpreter between these two lines.
        assert hold(ctypes.byref(wait), 1, HANG * 1000) == 1
        assert child.stdout.readline() == b"done\n"
        check(future.result(), THERE, BACK)


def test_a_computing_thread_delays_no_relay():
    """All that it can delay is the result."""
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            sum(range(1000))

    with relayed("tcp4", "tcp4") as (_, future, one, two), peers(one, two) as child:
        busy = Worker(compute)
        os.write(child.stdin.fileno(), b"x")
        assert child.stdout.readline() == b"done\n"
        check(future.result(), THERE, BACK)
        stop.set()
        busy.result()


def test_an_end_that_comes_while_another_is_handled_wakes_nobody():
    """Whoever handles it is awake, and finds it: several ends are one wake-up."""
    waiting = []
    with pooling() as pool:
        fd = lib.sio_completions_fd(pool._engines.completions)
        with sides("unix", "unix") as one, sides("unix", "unix") as two:
            first = pool.submit(one[0].near, one[1].near)
            second = pool.submit(two[0].near, two[1].near)

            def end_the_other(_future):
                for side in two:
                    side.finish()
                until(lambda: active(pool) == [0])
                at_rest()
                with open(f"/proc/self/fdinfo/{fd}") as told:
                    waiting.extend(line for line in told if line.startswith("eventfd-count"))

            first.add_done_callback(end_the_other)
            for side in one:
                side.finish()
            assert second.result(20).reason == "eof"
    # Its own, which is read when the list is empty.
    assert [int(line.split()[1], 16) for line in waiting] == [1]
