"""Ten thousand relays, opened and closed at random, each with bytes of its own both ways.

Rule 1: what arrives is what was sent, in order, and as much as the result says.
Rule 2: nothing is left of any of them.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass, field

import pytest

from spliceio import RelayPool
from spliceio._relay.pool import RelayFuture
from tests.support.states import descriptors
from tests.support.wires import payload

RELAYS, AT_ONCE = 10_000, 250
STOCK = payload(1 << 18)


def pair(kind: str, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Make two ends of a connection, either of TCP or of a unix socket."""
    if kind == "unix":
        return socket.socketpair()
    near = socket.create_connection(listener.getsockname())
    return near, listener.accept()[0]


@dataclass
class One:
    """A relay, and what goes through it; never more than both sockets' buffers take."""

    ends: list[socket.socket]
    future: RelayFuture
    there: bytes
    back: bytes
    finished: list[int] = field(default_factory=list)

    def send(self) -> None:
        self.ends[0].sendall(self.there)
        self.ends[3].sendall(self.back)

    def finish(self, chance: random.Random) -> None:
        """End it in one of the ways there are, and check what came of it."""
        way = chance.choice(["there first", "back first", "cancel"])
        client, server = self.ends[0], self.ends[3]
        if way == "cancel":
            self.future.cancel()
            result = self.future.outcome(60)
            assert result.reason == "cancelled"
            # What the relay had not taken is still in the sockets that were given.
            for end, sent, moved, held, near in (
                (server, self.there, result.a_to_b, result.held_a_to_b, self.ends[1]),
                (client, self.back, result.b_to_a, result.held_b_to_a, self.ends[2]),
            ):
                got = take(end, moved)
                assert got + held + left_in(near) == sent
            return
        first, second = (client, server) if way == "there first" else (server, client)
        first.shutdown(socket.SHUT_WR)
        assert read_all(second) == (self.there if first is client else self.back)
        second.shutdown(socket.SHUT_WR)
        assert read_all(first) == (self.back if first is client else self.there)
        result = self.future.result(60)
        assert result.reason == "eof"
        assert (result.a_to_b, result.b_to_a) == (len(self.there), len(self.back))

    def close(self) -> None:
        for end in self.ends:
            end.close()


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def take(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        parts.append(sock.recv(count))
        count -= len(parts[-1])
    return b"".join(parts)


def left_in(sock: socket.socket) -> bytes:
    """Read what has come and nobody has taken."""
    parts = []
    while True:
        try:
            parts.append(sock.recv(1 << 20, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return b"".join(parts)


@pytest.mark.parametrize("threads", [1, 3])
def test_ten_thousand_relays_at_random(threads):
    """Each opened, used and ended in a random order, at most 250 at once, a third by cancelling."""
    chance = random.Random(threads)
    before = descriptors()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
        RelayPool(threads) as pool,
    ):
        opened, still = 0, []
        while opened < RELAYS // 2 or still:
            if opened < RELAYS // 2 and len(still) < AT_ONCE and chance.random() < 0.6:
                kind = chance.choice(["unix", "unix", "unix", "tcp"])
                ends = [*pair(kind, listener), *pair(kind, listener)]
                sizes = [chance.choice([0, 1, 100, 4096, 40_000]) for _ in range(2)]
                starts = [chance.randrange(1 << 17) for _ in range(2)]
                data = [STOCK[at : at + n] for at, n in zip(starts, sizes, strict=True)]
                still.append(One(ends, pool.submit(ends[1], ends[2]), *data))
                still[-1].send()
                opened += 1
            elif still:
                one = still.pop(chance.randrange(len(still)))
                one.finish(chance)
                one.close()
        stats = pool.stats()
        assert (stats.active, stats.total, stats.pipes_held) == (0, RELAYS // 2, 0)
    assert descriptors() == before
