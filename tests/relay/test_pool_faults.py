"""Relays of a pool when things go wrong, on real descriptors: nothing lost, hung or left behind.

Rule 1: what arrived, what is held and what is still in the source make up all that was sent.
Rule 2: trouble with one relay is not the next one's, on the same thread or another.
Rule 3: a reset or a cut is never passed on as an end of file.
"""

from __future__ import annotations

import array
import concurrent.futures
import contextlib
import errno
import gc
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spliceio import RelayFuture, RelayPool
from spliceio._cffi import lib
from spliceio._relay import engine as _engine
from tests.relay import test_relay, test_relay_faults
from tests.relay.test_pool import carry, finish, relayed
from tests.relay.test_relay import (  # noqa: F401  What relay() promises, a pool keeps: see `relay_in_a_pool`.
    Collector,
    Side,
    check,
    digest,
    sides,
    test_one_byte_messages_that_fill_every_slot,
)
from tests.relay.test_relay_faults import (  # noqa: F401
    PLAIN,
    reset,
    test_a_fork_meanwhile_changes_nothing,
    test_a_full_disk_is_an_exception_with_the_result,
    test_a_reset_by_one_side_ends_the_relay_and_says_whose,
    test_a_reset_while_its_bytes_wait_for_a_stalled_peer,
    test_a_server_that_answers_and_resets_is_heard,
    test_a_side_that_closed_before_the_relay_began,
    test_a_storm_of_signals_costs_no_byte,
    test_an_urgent_byte_after_which_nothing_comes_does_not_spin,
    test_bytes_that_a_gone_reader_refused_are_held,
    test_everything_around_urgent_bytes_arrives,
)
from tests.support.pools import at_rest, c_threads, in_child, pooling, script, spawn
from tests.support.programs import need
from tests.support.states import Worker, descriptors, no_more_descriptors, process_state, until
from tests.support.wires import MIB, payload

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def relay_in_a_pool(monkeypatch, leak_guard):
    """Let the tests of relay() that are imported here run theirs in a pool."""
    with pooling() as pool:
        for module in (test_relay, test_relay_faults):
            monkeypatch.setattr(module, "relay", lambda *a, **b: pool.submit(*a, **b).result())
        monkeypatch.setattr(test_relay_faults, "waits", lambda _: at_rest())
        yield


def fill(side: Side, message: bytes = bytes(65536), most: int = 10_000) -> bytes:
    """Send until nothing more is taken and the engines have nothing to do; return what was sent."""
    sent = bytearray()
    side.far.setblocking(False)
    for _ in range(most):
        try:
            sent += message[: side.far.send(message)]
        except BlockingIOError:
            at_rest()
            if not select.select([], [side.far], [], 0)[1]:
                break
    side.far.setblocking(True)
    return bytes(sent)


# -- urgent bytes, slots, descriptors in transit ---------------------------------------------------

OOB = None  # an urgent byte; numbers are plain bytes, "rest" lets the relay come to rest


@pytest.mark.parametrize("other", ["tcp4", "unix", "pair"])
@pytest.mark.parametrize(
    "parts",
    [
        (OOB,),
        (OOB, "rest", 5),
        (5, "rest", OOB),
        (5, "rest", OOB, "rest", 5),
        (5, "rest", 5, OOB, 5, "rest", OOB, OOB, 5),
        (300_000, "rest", OOB),
        (300_000, OOB, "rest", 300_000),
        (300_000, "rest", OOB, 300_000, OOB, "rest", 7),
        (OOB, "rest", OOB, "rest", OOB, "rest", 40_000, OOB),
    ],
    ids=lambda parts: "-".join("oob" if part is OOB else str(part) for part in parts),
)
@pytest.mark.parametrize("fin", ["behind", "later"])
def test_urgent_bytes_at_a_relay_that_rests(parts, other, fin, nonblocking):
    """All around them arrives, and so does the end of file, whether queued or after a rest."""
    with relayed("tcp4", other, nonblocking=nonblocking) as (_, future, one, two):
        got, sent, urgent = Collector(two.reader), b"", 0
        at_rest()
        for part in parts:
            if part is OOB:
                one.far.send(b"!", socket.MSG_OOB)
                urgent += 1
            elif part == "rest":
                got.wait_for(len(sent))
                at_rest()
            else:
                one.send(PLAIN[:part])
                sent += PLAIN[:part]
        if fin == "later":
            got.wait_for(len(sent))
            at_rest()
        one.finish()
        data = got.all()
        assert digest(data.replace(b"!", b"")) == digest(sent)
        # One that a later one overtook is an ordinary byte: that is TCP.
        assert data.count(b"!") <= max(0, urgent - 1)
        check(finish(future, two), len(data), 0)


@pytest.mark.parametrize("a", ["unix", "tcp4"])
@pytest.mark.parametrize("b", ["unix", "tcp4", "pair"])
@pytest.mark.parametrize("bulk", [0, 2 * MIB])
def test_tiny_messages_to_a_stalled_reader(a, b, bulk, nonblocking):
    """One byte each, until every slot and buffer is full; then all is drained."""
    with relayed(a, b, nonblocking=nonblocking) as (pool, future, one, two):
        before = payload(bulk)
        feeder = Worker(lambda: one.send(before))
        assert digest(two.receive(bulk)) == digest(before)
        feeder.result()
        sent = fill(one) + fill(one, b"x")
        got = Collector(two.reader)
        for number in range(300):
            one.send(b"%d" % (number % 10))
        one.finish()
        assert digest(got.all()) == digest(sent + b"0123456789" * 30)
        check(finish(future, two), bulk + len(sent) + 300, 0)
        assert pool.stats().pipes_held == 0


def test_descriptors_in_transit_are_dropped_and_no_byte_with_them(nonblocking):
    """SCM_RIGHTS between bytes, small and bulk, at rest and not; nobody keeps what was passed."""
    data = payload(2 * MIB)
    with relayed("unix", "tcp4", nonblocking=nonblocking) as (_, future, one, two):
        got, readers, place = Collector(two.reader), [], 0
        for size in (3, 5, 100_000, 1, 1, 300_000, 7, 50_000):
            reader, writer = os.pipe()
            readers.append(reader)
            one.send(data[place : place + size])
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))
            one.far.sendmsg([data[place + size : place + size + 1]], [rights])
            os.close(writer)
            place += size + 1
            if size % 2:
                got.wait_for(place)
                at_rest()
        one.send(data[place:])
        one.finish()
        assert digest(got.all()) == digest(data)
        check(finish(future, two), len(data), 0)
        for reader in readers:
            assert os.read(reader, 1) == b""  # the last writer is closed
            os.close(reader)


# -- shortage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_bounded_number_of_pipes(most, threads):
    """Whoever finds none copies; never are there more, and none is held when all is quiet."""
    data = payload(3 * MIB)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling(threads, max_pipes=most))
        pairs = [stack.enter_context(sides("tcp4", "unix")) for _ in range(6)]
        futures = [pool.submit(one.near, two.near) for one, two in pairs]
        sent = [fill(one) for one, _ in pairs]  # every relay holds what its reader does not take
        assert pool.stats().pipes_open <= most
        got = [Collector(two.reader) for _, two in pairs]
        feeders = [Worker(lambda s=one: (s.send(data), s.finish())) for one, _ in pairs]
        for _, two in pairs:
            two.finish()
        methods: dict[str, int] = {}
        for future, came, before in zip(futures, got, sent, strict=True):
            result = future.result()
            check(result, len(before) + len(data), 0)
            assert digest(came.all()) == digest(before + data)
            for name, moved in result.methods.items():
                methods[name] = methods.get(name, 0) + moved
        for feeder in feeders:
            feeder.result()
        assert ("splice" in methods) == (most > 0)
        assert pool.stats().pipes_held == 0
        assert pool.stats().pipes_open <= most


@pytest.mark.parametrize(("a", "b"), [("tcp4", "unix"), ("unix", "tcp4")])
def test_without_a_descriptor_for_a_pipe_it_copies(a, b, nonblocking):
    """Two duplicates are all there is: exact all the same, and the methods say how."""
    ab, ba = payload(5 * MIB), payload(3 * MIB, 2)
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        with no_more_descriptors(2):
            result = carry(pool, one, two, ab, ba)
        check(result, len(ab), len(ba))
        assert result.methods == {"read_write": len(ab) + len(ba)}


@pytest.mark.parametrize(("a", "b", "needed"), [("unix", "tcp4", 2), ("pair", "unix", 4)])
def test_without_descriptors_for_itself_it_says_so_and_takes_nothing(a, b, needed, nonblocking):
    """EMFILE at once, whichever duplicate is missing; not even a buffered byte is gone."""
    with sides(a, b, nonblocking=nonblocking) as (one, two), pooling() as pool:
        one.send(b"read ahead and kept")
        if a == "pair":
            buffered = os.fdopen(os.dup(one.fds[0]), "rb")
            one.owned.append(buffered)
            assert buffered.read(5) == b"read "
            one.near = (buffered, one.near[1])
        else:
            assert one.near.recv(5) == b"read "
        fds = (*one.fds, *two.fds)
        for spare in range(needed):
            with no_more_descriptors(spare), pytest.raises(OSError, match="no descr") as caught:
                pool.submit(one.near, two.near)
            assert caught.value.errno == errno.EMFILE
            assert pool.stats().total == 0
            assert [os.get_blocking(fd) for fd in fds] == [not nonblocking] * len(fds)
        with no_more_descriptors(needed):
            future = pool.submit(one.near, two.near)
        at_rest()
        assert two.arrived() == b"ahead and kept"
        assert future.cancel()
        future.outcome()


@pytest.mark.parametrize("spare", range(5))
def test_without_descriptors_for_a_pool_it_says_so(spare):
    """EMFILE, whichever is missing; nothing is left open."""
    with no_more_descriptors(spare), pytest.raises(OSError, match="no descriptor") as caught:
        RelayPool(2)
    assert caught.value.errno == errno.EMFILE


def test_without_a_thread_for_the_news_it_says_so(monkeypatch):
    """The threads that run already end; nothing is left open."""
    before = c_threads()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            RelayPool(2)
    gc.collect()
    # Joined, a thread is still listed until the kernel is through with it.
    until(lambda: c_threads() <= before)


def test_without_a_thread_for_the_second_engine_it_says_so(monkeypatch):
    """As pthread_create says it; the first one's ends, and nothing is left open."""
    before, started = c_threads(), []

    class Refusing:
        def __getattr__(self, name):
            return self.start if name == "sio_engine_start" else getattr(lib, name)

        def start(self, engine):
            started.append(engine)
            return lib.sio_engine_start(engine) if len(started) == 1 else -errno.EAGAIN

    monkeypatch.setattr(_engine, "lib", Refusing())
    with pytest.raises(OSError, match="pthread_create") as caught:
        RelayPool(3)
    assert caught.value.errno == errno.EAGAIN
    assert len(started) == 2
    started.clear()
    gc.collect()
    # Joined, a thread is still listed until the kernel is through with it.
    until(lambda: c_threads() <= before)


@pytest.mark.parametrize(
    ("call", "err"), [("epoll_create1", "EPERM"), ("eventfd2", "ENFILE"), ("epoll_ctl", "EPERM")]
)
def test_a_call_that_is_refused_is_named(call, err):
    """Not another one: a sandbox is mended by its name."""
    # The first eventfd is that of the news.
    inject = f"inject={call}:error={err}" + ":when=2+" * (call == "eventfd2")
    strace = [need("strace"), "-f", "-qq", "-o", os.devnull, "-e", inject]
    done = subprocess.run(
        [*strace, sys.executable, "-c", "import spliceio; spliceio.RelayPool()"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert f"[Errno {getattr(errno, err)}] {call.removesuffix('2')}: " in said


def test_a_used_up_pipe_quota_means_copying():
    """Of a user without privileges: new pipes are tiny then, and relays copy, exactly."""
    soft = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    if not 0 < soft <= 1 << 16:
        pytest.skip(f"fs.pipe-user-pages-soft is {soft}: no quota that can be used up here")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < soft // 128 + 200:
        pytest.skip("too few descriptors (ulimit -n) to use up the pipe quota")
    out = script("""
import fcntl, hashlib
if not os.getuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
used = []
while True:
    used.append(os.pipe())
    try:
        size = fcntl.fcntl(used[-1][1], 1031, 1 << 20)
    except PermissionError:
        size = fcntl.fcntl(used[-1][1], 1032)
    if size < 65536:
        break
pool = RelayPool(2)
data = os.urandom(3 << 20)
futures = [pool.submit(near[0], far[0]) for near, far in zip(pairs[::2], pairs[1::2])]
def feed(sock):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
for _, sock in pairs:
    threading.Thread(target=feed, args=(sock,)).start()
got = [None] * len(pairs)
def collect(number):
    parts = []
    while part := pairs[number][1].recv(1 << 20):
        parts.append(part)
    got[number] = b"".join(parts) == data
collectors = [threading.Thread(target=collect, args=(n,)) for n in range(len(pairs))]
for collector in collectors:
    collector.start()
for collector in collectors:
    collector.join()
print(all(got), [f.result().methods for f in futures], pool.stats().pipes_open)
pool.shutdown()
""")
    assert out == f"True {[{'read_write': 6 * MIB}] * 4} 0\n"


# -- many, and trouble among them ------------------------------------------------------------------


def test_an_idle_relay_owns_no_pipe():
    """Neither before bulk nor after it, and small messages need none at all."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling())
        pairs = [stack.enter_context(sides("tcp4", "unix")) for _ in range(20)]
        before = list(descriptors().values())
        futures = [pool.submit(one.near, two.near) for one, two in pairs]
        for one, two in pairs:
            one.send(b"abc")
            assert two.receive(3) == b"abc"
        assert pool.stats().pipes_open == 0
        assert not [
            name for name in descriptors().values() if name not in before and "pipe" in name
        ]
        for one, two in pairs:
            sent = fill(one)
            assert pool.stats().pipes_held == 1
            assert digest(two.receive(len(sent))) == digest(sent)
            until(lambda: pool.stats().pipes_held == 0)
        assert pool.stats().pipes_open == 1
        for future, pair in zip(futures, pairs, strict=True):
            finish(future, *pair)


@contextlib.contextmanager
def numbers_in_order():
    """Take every low number, so that what is closed and opened again gets the same numbers."""
    taken = [os.dup(2) for _ in range(64)]
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)


def test_a_number_that_a_relay_has_given_up_is_not_watched_for_it():
    """A pipe's duplicate is closed at the half-close; who gets its number next is left alone."""
    with contextlib.ExitStack() as stack:
        one, two = stack.enter_context(sides("unix", "pair"))
        pairs = [stack.enter_context(sides("unix", "unix")) for _ in range(2)]
        stack.enter_context(numbers_in_order())
        pool = stack.enter_context(pooling())
        first = pool.submit(one.near, two.near)
        one.finish()
        assert os.read(two.reader, 1) == b""
        others = [pool.submit(three.near, four.near) for three, four in pairs]
        for three, four in pairs:
            three.send(b"x")
            assert four.receive(1) == b"x"
        two.finish()
        check(first.result(), 0, 0)
        for future, (three, four) in zip(others, pairs, strict=True):
            for src, dst in ((three, four), (four, three)):
                src.send(b"still watched")
                at_rest()
                assert dst.arrived() == b"still watched"
            check(finish(future, three, four), 14, 13)


def test_a_writer_that_stays_open_elsewhere_can_be_used_again():
    """The end of its relay is the end of all watching: another relay may write to the same pipe."""
    with contextlib.ExitStack() as stack:
        one, two = stack.enter_context(sides("unix", "pair"))
        three, _ = stack.enter_context(sides("unix", "unix"))
        reader, writer = two.near
        kept = os.dup(writer)
        stack.callback(os.close, kept)
        two.finish()
        stack.enter_context(numbers_in_order())
        pool = stack.enter_context(pooling())
        first = pool.submit(one.near, (reader, writer))
        one.finish()
        check(first.result(), 0, 0)
        second = pool.submit(three.near, (reader, kept))
        three.send(b"abc")
        three.finish()
        check(second.result(), 3, 0)
        assert two.receive(3) == b"abc"


def test_a_stalled_relay_and_a_flood_hold_nobody_up():
    """On one thread: each round trip of a third relay comes through, whatever the others do."""
    stop = threading.Event()

    def flood(side: Side) -> None:
        while not stop.is_set():
            side.send(bytes(MIB))

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pooling())
        pairs = [stack.enter_context(sides("tcp4", kind)) for kind in ("unix", "tcp4", "pair")]
        stalled, flooded, quick = (
            (pool.submit(one.near, two.near), one, two) for one, two in pairs
        )
        sent = fill(stalled[1])
        sink = Worker(lambda: all(iter(lambda: os.read(flooded[2].reader, MIB), b"")))
        floods = [Worker(lambda: flood(flooded[1])) for _ in range(2)]
        for number in range(100):
            quick[1].send(b"%64d" % number)
            assert quick[2].receive(64) == b"%64d" % number
            quick[2].send(b"%64d" % number)
            assert quick[1].receive(64) == b"%64d" % number
        stop.set()
        for worker in floods:
            worker.result()
        assert digest(stalled[2].receive(len(sent))) == digest(sent)
        for future, one, two in (stalled, flooded, quick):
            assert finish(future, one, two).reason == "eof"
        sink.result()


class Life:
    """One relay among thousands: what is to be sent, what came, and how it shall end."""

    def __init__(self, pool: RelayPool, chance: random.Random) -> None:
        kinds = chance.choice(["tcp4", "unix"]), chance.choice(["tcp4", "unix"])
        self.pair = Side(kinds[0]), Side(kinds[1])
        self.fate = chance.choice(["eof"] * 6 + ["cancel", "reset", "close", "shut down"])
        self.patience = chance.randrange(6)
        size = chance.choice([0, 1, 64, 5_000, 40_000, 300_000])
        self.data = [chance.randbytes(chance.randrange(size + 1)) for _ in range(2)]
        self.sent, self.got = [0, 0], [bytearray(), bytearray()]
        self.future: RelayFuture = pool.submit(self.pair[0].near, self.pair[1].near)
        for side in self.pair:
            side.far.setblocking(False)

    def turn(self) -> None:
        """Send and receive at both far ends."""
        for way, side in enumerate(self.pair):
            if side.far.fileno() >= 0:
                self.talk(way, side.far)
        self.patience -= 1
        if self.patience == 0:
            self.meet_fate(self.sent[0] % 2)

    def talk(self, way: int, far: socket.socket) -> None:
        with contextlib.suppress(OSError):  # what has to arrive is checked at the end
            if self.sent[way] <= len(self.data[way]):
                self.sent[way] += far.send(self.data[way][self.sent[way] :][:65536])
                if self.sent[way] == len(self.data[way]):
                    self.sent[way] += 1
                    far.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            self.got[1 - way] += far.recv(65536)

    def meet_fate(self, way: int) -> None:
        if self.fate == "cancel":
            self.future.cancel()
        elif self.fate == "close":
            self.pair[way].near.close()
        elif self.fate == "shut down":
            with contextlib.suppress(OSError):
                self.pair[way].near.shutdown(socket.SHUT_RDWR)
        elif self.fate == "reset":
            reset(self.pair[way])

    def finish(self) -> str:
        """Check everything, and close."""
        result = self.future.outcome()
        for way, count in enumerate((result.a_to_b, result.b_to_a)):
            far, data = self.pair[1 - way].far, self.data[way]
            # What comes for a TCP socket that is shut down both ways is answered by a reset, which
            # throws away what the far end has not read yet.
            whole = result.reason in ("eof", "cancelled") and self.fate != "shut down"
            if far.fileno() >= 0 and whole:
                far.setblocking(True)
                while len(self.got[way]) < count:
                    self.got[way] += far.recv(count - len(self.got[way]))
                assert len(self.got[way]) == count
            assert self.got[way] == data[: len(self.got[way])]
            if result.reason == "eof" and self.fate in ("eof", "close"):
                assert count == len(data)
        self.close()
        return result.reason

    def close(self) -> None:
        for side in self.pair:
            side.close()


def test_thousands_of_relays_that_open_and_close_at_random():
    """Up to a hundred at once: each carries its own bytes and ends as its own peers want it."""
    chance, lives, reasons, begun = random.Random(2026), [], [], 0
    with pooling(2, max_pipes=3) as pool, contextlib.ExitStack() as stack:
        while begun < 2000 or lives:
            if begun < 2000 and len(lives) < 100:
                begun += 1
                lives.append(Life(pool, chance))
                stack.callback(lives[-1].close)
            for life in lives:
                life.turn()
            for life in [life for life in lives if life.future.done()]:
                lives.remove(life)
                reasons.append(life.finish())
        assert len(reasons) == 2000
        assert set(reasons) == {"eof", "cancelled", "reset by a", "reset by b"}
        assert reasons.count("eof") > 1200
        stats = pool.stats()
        assert (stats.active, stats.total, stats.pipes_held) == (0, 2000, 0)


# -- closed, forked, interrupted -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_closing_your_sockets_reaches_no_stranger(kind, tmp_path):
    """The relay goes on with its duplicates; whoever took the numbers notices nothing."""
    with relayed(kind, kind) as (_, future, one, two):
        got, back = Collector(two.reader), Collector(one.reader)
        one.send(b"before")
        got.wait_for(6)
        numbers = {*one.fds, *two.fds}
        one.near.close()
        two.near.close()
        strangers = [os.open(tmp_path / str(i), os.O_CREAT | os.O_RDWR) for i in range(4)]
        assert numbers <= set(strangers)
        for stranger in strangers:
            os.set_blocking(stranger, False)
        data = payload(MIB)
        feeder = Worker(lambda: (one.send(data), one.finish()))
        two.send(b"back")
        two.finish()
        assert digest(got.all()) == digest(b"before" + data)
        assert back.all() == b"back"
        feeder.result()
        check(future.result(), MIB + 6, 4)
        for stranger in strangers:
            assert os.fstat(stranger).st_size == 0
            assert not os.get_blocking(stranger)
            os.close(stranger)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
@pytest.mark.parametrize("ways", [socket.SHUT_RDWR, socket.SHUT_RD, socket.SHUT_WR])
def test_shutting_both_sockets_down_ends_the_relay(kind, ways):
    """shutdown() works through the duplicates; what had arrived before stays arrived."""
    with relayed(kind, kind) as (_, future, one, two):
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        for near in (one.near, two.near):
            near.shutdown(ways)
        if ways == socket.SHUT_WR:
            assert (one.far.recv(1), two.far.recv(1)) == (b"", b"")
            one.finish()
            two.finish()
        result = future.result()
        assert (result.a_to_b, result.b_to_a) == (3, 0)
        assert one.far.recv(1) == two.far.recv(1) == b""


@forks
def test_a_forked_child_gets_errors_and_the_parent_goes_on():
    """Each call on the parent's pool and futures answers at once; not a byte is touched."""
    with relayed() as (pool, future, one, two), sides("unix", "unix") as (three, four):
        ended = pool.submit(three.near, four.near)
        result = finish(ended, three, four)
        said = in_child(
            lambda: pool.submit(three.near, four.near),
            pool.stats,
            future.result,
            future.exception,
            future.outcome,
            lambda: concurrent.futures.wait([future]).done == {future},
            lambda: next(concurrent.futures.as_completed([future])) is future,
            future.cancel,
            pool.shutdown,
            ended.result,
        )
        assert said[:3] == ["RuntimeError"] * 3
        assert said[3].startswith("RuntimeError(")
        assert said[4:7] == ["RuntimeError", "True", "True"]
        assert said[7] in ("RuntimeError", "False")
        assert said[8:] == ["None", repr(result)]
        one.send(b"abc")
        assert two.receive(3) == b"abc"
        check(finish(future, one, two), 3, 0)


@forks
def test_a_forked_child_can_make_a_pool_of_its_own():
    """While the parent's goes on."""

    def own() -> str:
        with sides("unix", "tcp4") as (three, four), pooling() as mine:
            return carry(mine, three, four, payload(MIB), b"x").reason

    with relayed() as (_, future, one, two):
        assert in_child(own) == ["'eof'"]
        check(finish(future, one, two), 0, 0)


@forks
def test_a_grandchild_closes_no_descriptor_of_the_child():
    """What the child has opened since took the numbers of what it closed, and stays open."""

    def child() -> list[str]:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
        return in_child(lambda: sum(os.fstat(fd) is not None for fd in opened))

    with relayed() as (_, future, one, two):
        assert in_child(child) == ["['30']"]
        check(finish(future, one, two), 0, 0)


@forks
def test_forks_in_the_middle_of_bulk_cost_no_byte():
    """Thirty children, each with a copy of whatever the engine was at."""
    data = payload(20 * MIB)
    with relayed("tcp4", "unix") as (_, future, one, two):
        got, back = Collector(two.reader), Collector(one.reader)
        feeders = [Worker(lambda s=s: (s.send(data), s.finish())) for s in (one, two)]
        for _ in range(30):
            assert in_child(os.getpid) != [repr(os.getpid())]
        for feeder in feeders:
            feeder.result()
        check(future.result(), len(data), len(data))
        assert digest(got.all()) == digest(back.all()) == digest(data)


FORKS = r"""
import os, sys
from spliceio import RelayPool
pool = RelayPool()
a, b, hold = (int(number) for number in sys.argv[1:])
future = pool.submit(a, b)
os.close(a), os.close(b)
if os.fork() == 0:
    os.write(1, b"child\n")
    os.read(hold, 1)
    os._exit(0)
os.read(0, 1)
os._exit(0)
"""


def test_the_parents_end_is_the_peers_end_although_a_child_lives():
    """The child has let go of its copies of the duplicates."""
    with sides("tcp4", "unix") as (one, two):
        hold_reader, hold_writer = os.pipe()
        near = (one.near.fileno(), two.near.fileno())
        parent = spawn(FORKS, fds=(*near, hold_reader))
        with parent:
            one.near.close()
            two.near.close()
            os.close(hold_reader)
            assert parent.stdout.readline() == b"child\n"
            one.send(b"abc")
            assert two.receive(3) == b"abc"
            os.write(parent.stdin.fileno(), b"x")
            assert parent.wait() == 0
            assert one.far.recv(1) == two.far.recv(1) == b""
            os.close(hold_writer)
            assert parent.stdout.read() == b""  # the child has ended


# -- the end of the interpreter --------------------------------------------------------------------

OPEN = """
pool = RelayPool(2)
future = pool.submit(a, b)
x.sendall(b"abc"); assert y.recv(3) == b"abc"
"""
FULL = """
x.setblocking(False)
for _ in range(1000):
    try: x.send(bytes(65536))
    except BlockingIOError: pass
"""
# Since Python 3.12 a fork of a process that has threads is warned of.
FORKED = """
import warnings; warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
faulthandler.cancel_dump_traceback_later()
os.fork() and os.wait()
"""
EXITS = {
    "the end": "",
    "in front of a stalled reader": FULL,
    "several pools": "pools = [RelayPool(3) for _ in range(4)]; pools[0].submit(c, d)",
    "sys.exit": "sys.exit(0)",
    "sys.exit in the block": "with pool: sys.exit(0)",
    "os._exit": "os._exit(0)",
    "shut down": "pool.shutdown(wait=False)",
    "ended": "close(x, y); pool.shutdown()",
    "no pool": "del pool",
    "no future": "del future",
    "neither": "del pool, future",
    "closed sockets": "close(a, b, x, y)",
    "cancelled": "future.cancel()",
    "a waiting thread": "threading.Thread(target=future.exception, daemon=True).start()",
    "atexit": "atexit.register(lambda: (x.send(b'x'), y.recv(1), pool.stats(), future.cancel()))",
    "atexit submits": "atexit.register(lambda: pool.submit(c, d))",
    "atexit shuts down": "atexit.register(pool.shutdown, wait=False)",
    "a forked child": FORKED,
    "a cycle": "cycle = [pool, future]; cycle.append(cycle); del pool, future",
}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends_with_relays_alive(how):
    """Well, and without a word."""
    assert script(OPEN + EXITS[how]) == ""


def test_at_the_end_of_the_interpreter_futures_are_told():
    """What is open is cut, and that is a result."""
    say = "future.add_done_callback(lambda f: print(f.result().reason, f.result().a_to_b))"
    assert script(OPEN + say) == "cancelled 3\n"


SIGNALLED = r"""
import faulthandler, os, signal, sys
from spliceio import RelayPool
faulthandler.dump_traceback_later(10, exit=True)
where, (a, b) = sys.argv[1], map(int, sys.argv[2:])
if where == "caught":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with RelayPool() as pool:
        future = pool.submit(a, b)
        os.close(a), os.close(b)
        try:
            os.write(1, b"ready\n")
            if where != "block":
                future.result()
        except KeyboardInterrupt:
            if where != "caught":
                raise
            os.write(1, b"caught\n")
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["result", "block", "caught"])
def test_a_signal_in_the_middle(number, where):
    """The program ends as ever and the peers see it; who catches it finds all as it was."""
    with sides("tcp4", "unix") as (one, two):
        near = (one.near.fileno(), two.near.fileno())
        with spawn(SIGNALLED, where, fds=near, stderr=subprocess.PIPE) as child:
            one.near.close()
            two.near.close()
            assert child.stdout.readline() == b"ready\n"
            one.send(b"abc")
            assert two.receive(3) == b"abc"
            until(lambda: process_state(child.pid) == "S")
            child.send_signal(number)
            if where == "caught":
                assert child.stdout.readline() == b"caught\n"
                two.send(b"de")
                assert one.receive(2) == b"de"
                one.finish()
                two.finish()
            assert one.far.recv(1) == two.far.recv(1) == b""
            assert child.stderr.read() == b""
        killed = number == signal.SIGTERM and where != "caught"
        assert child.returncode == (-number if killed else 0 if where == "caught" else 7)
