"""An echo, relays to it, and clients of those relays: what one round of small messages takes.

Rule 1: the echo and all clients share the processors that the relays do not have.
Rule 2: the echo ends first, and resets what is open. A relay that is told of an end by its client
        first keeps its own port of each connection in TIME_WAIT, and after three rounds of ten
        thousand there would be no ports left.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.harness import Sample
from benchmarks.peers import Peers
from benchmarks.processes import Placement, cpu_of, finish, kill, line_from, on_processors, started
from benchmarks.proxies import Relay, serving


@dataclass(frozen=True)
class Clients:
    """Open connections, each proved by a message there and back, and silent until told to play."""

    process: subprocess.Popen[bytes]

    def play(self, seconds: float) -> tuple[int, float]:
        """Give the round trips of so many seconds, and the seconds that they really took."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%f\n" % seconds)
        self.process.stdin.flush()
        count, took = line_from(self.process).split()
        return int(count), float(took)


@dataclass(frozen=True)
class Running:
    """A relay that listens on `port`."""

    port: int
    pid: int

    def cost(self, clients: Clients, seconds: float) -> Sample:
        """Charge this relay for each round trip that they make."""
        before = cpu_of(self.pid)
        count, took = clients.play(seconds)
        cpu = cpu_of(self.pid) - before
        return {"per_s": count / took, "cpu_us": cpu / count * 1e6, "round_trips": count}


class Echoed:
    """A context manager: what is started from it ends with its block."""

    def __init__(self, peers: Peers, place: Placement, *, closes_after: int | None = None) -> None:
        self._peers = peers
        self._place = place
        self._limit = [] if closes_after is None else [closes_after]

    def __enter__(self) -> Echoed:
        with ExitStack() as stack, on_processors(self._place.others):
            command = [self._peers.c("tcp_echo"), *self._limit]
            self._echo = stack.enter_context(started(command, stdout=subprocess.PIPE))
            self._upstream = int(line_from(self._echo))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        kill(self._echo)
        self._stack.close()

    def relay(self, relay: Relay) -> Running:
        with on_processors(self._place.tested):
            port, process = self._stack.enter_context(serving(relay, self._upstream))
        return Running(port, process.pid)

    def clients(self, through: Running, connections: int, size: int) -> Clients:
        """Open so many connections, for messages of `size` bytes."""
        command = [self._peers.c("tcp_pingpong"), through.port, connections, size]
        with on_processors(self._place.others):
            process = self._stack.enter_context(
                started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        line_from(process)
        return Clients(process)

    def connect(self, through: Running, connections: int, at_once: int, size: int) -> Sample:
        """Make so many connections one after another, `at_once` of them at a time."""
        command = [self._peers.c("tcp_connect"), through.port, connections, at_once, size]
        before = cpu_of(through.pid)
        with on_processors(self._place.others):
            process = self._stack.enter_context(started(command, stdout=subprocess.PIPE))
        count, took = finish(process)[0].split()
        cpu = cpu_of(through.pid) - before
        return {"per_s": int(count) / float(took), "cpu_us": cpu / int(count) * 1e6}
