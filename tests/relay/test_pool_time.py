"""Relays over hours of logical time: what passes is the engine's clock, not the test's.

`sio_test_skip` lets time pass for an engine, and the engine's own timers do the rest.
"""

from __future__ import annotations

import socket
from concurrent.futures import wait
from pathlib import Path

import pytest

from spliceio import RelayPool
from spliceio._cffi import lib
from tests.support.sides import digest
from tests.support.states import Worker, thread_state, until
from tests.support.wires import payload

SECOND = 1_000_000_000
DATA = payload(3_000_000)


class Clock:
    """Lets time pass for the engine of a pool, while it sleeps.

    In the middle of its round it would take the time of before for that of what it does next.
    """

    def __init__(self, pool: RelayPool, relays: int = 1) -> None:
        self.engine = pool._engines.each[0]
        self.tid = next(
            int(task.name)
            for task in Path("/proc/self/task").iterdir()
            if (task / "comm").read_text() == "spliceio-engine\n"
        )
        until(lambda: pool.stats().active == relays)

    def is_asleep(self) -> bool:
        return thread_state(self.tid) == "S"

    def skip(self, seconds: float) -> None:
        until(self.is_asleep)
        lib.sio_test_skip(self.engine, int(seconds * SECOND))
        until(self.is_asleep)


@pytest.fixture
def link():
    """(client, a, b, server): two connections to be relayed between a and b."""
    client, a = socket.socketpair()
    b, server = socket.socketpair()
    with client, a, b, server:
        yield client, a, b, server


def fill(sock: socket.socket, data: bytes) -> int:
    """Send until nothing more is taken, by the relay neither; return how much that was."""
    sock.setblocking(False)
    sent = 0
    try:
        while True:
            sent += sock.send(data[sent : sent + 65536])
    except BlockingIOError:
        return sent
    finally:
        sock.setblocking(True)


def test_a_stalled_reader_loses_nothing_in_hours(link):
    """It reads nothing for ten hours while the other side sends what fits; then all arrives."""
    client, a, b, server = link
    with RelayPool() as pool:
        future = pool.submit(a, b)
        clock = Clock(pool)
        sent = fill(client, DATA)
        for _ in range(600):
            clock.skip(60)
            sent += fill(client, DATA[sent:])
        assert future.running()
        feeder = Worker(lambda: (client.sendall(DATA[sent:]), client.shutdown(socket.SHUT_WR)))
        got = b"".join(iter(lambda: server.recv(1 << 20), b""))
        feeder.result()
        server.shutdown(socket.SHUT_WR)
        result = future.result(20)
    assert digest(got) == digest(DATA)
    assert (result.a_to_b, result.reason) == (len(DATA), "eof")
    assert result.seconds > 36_000


def test_what_was_sent_before_a_reset_waits_for_its_reader(link):
    """No ten seconds as in a proxy: in hours nothing is lost, and then the reason is the reset."""
    client, a, b, server = link
    with RelayPool() as pool:
        future = pool.submit(a, b)
        a.close()
        b.close()
        clock, sent = Clock(pool), 0
        while more := fill(client, DATA[sent:]):
            sent += more
            until(clock.is_asleep)
        server.sendall(b"never read, which makes of a close a reset")
        until(lambda: pool.stats().b_to_a)
        client.close()
        for _ in range(3):
            clock.skip(3600)
        assert future.running()
        got = b""
        while part := server.recv(1 << 20):
            got += part
        assert digest(got) == digest(DATA[:sent])
        assert future.result().reason == "reset by a"


def test_the_idle_limit_is_counted_from_the_last_byte(link):
    """Bytes every four minutes keep a limit of five minutes away; six minutes do not."""
    client, a, b, server = link
    with RelayPool() as pool:
        future = pool.submit(a, b, idle_timeout=300)
        clock = Clock(pool)
        for sender, receiver in ((client, server), (server, client)) * 5:
            clock.skip(240)
            sender.sendall(b"x")
            assert receiver.recv(10) == b"x"
        assert future.running()
        clock.skip(360)
        result = future.result(20)
    assert (result.reason, result.a_to_b, result.b_to_a) == ("idle", 5, 5)


def test_a_stalled_reader_is_idle_in_the_end(link):
    """Nothing moves, so the limit ends it; what was taken and not delivered is in the result."""
    client, a, b, server = link
    with RelayPool() as pool:
        future = pool.submit(a, b, idle_timeout=300)
        clock = Clock(pool)
        sent = 0
        # Asleep though there is more to be read: it holds bytes, and waits for their reader.
        while more := fill(client, DATA[sent:]):
            sent += more
            until(clock.is_asleep)
        clock.skip(299)
        clock.skip(302)
        result = future.result(20)
        a.close()
        b.close()
        got = b"".join(iter(lambda: server.recv(1 << 20), b""))
    assert result.reason == "idle"
    assert result.held_a_to_b
    whole = got + result.held_a_to_b
    assert digest(whole) == digest(DATA[: len(whole)])
    assert result.a_to_b == len(got)


def test_limits_end_in_their_order():
    """Two hundred relays with a limit each: as the clock goes on, each ends at its own."""
    ended: list[int] = []
    with RelayPool() as pool:
        socks = []
        limits = [(n * 7919) % 200 + 1 for n in range(200)]
        futures = []
        for limit in limits:
            pairs = (*socket.socketpair(), *socket.socketpair())
            socks += pairs
            futures.append(pool.submit(pairs[1], pairs[2], idle_timeout=limit * 10))
            futures[-1].add_done_callback(lambda _, limit=limit: ended.append(limit))
        clock = Clock(pool, 200)
        for tick in range(1, 201):
            clock.skip(10)
            wait([futures[limits.index(tick)]], 20)
            assert sorted(ended) == list(range(1, tick + 1)), "nobody ends before its time"
        for sock in socks:
            sock.close()
    assert ended == sorted(limits)
