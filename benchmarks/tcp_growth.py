"""The cost of a round trip of 64 bytes through a relay, with 1, 10, 100, 1,000, 10,000 connections.

All of them are busy. A relay that looks at each connection to find the one with news pays more for
each the more there are; one that is told does not.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.echoed import Echoed
from benchmarks.harness import Contestant, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import open_files, placements
from benchmarks.proxies import (
    HAPROXY,
    LEAST,
    MIB,
    OURS,
    Relay,
    c_program,
    check,
    haproxy,
    present,
    spliceio_proxy,
)
from benchmarks.tcp_idle import EACH, SPARE, connections_here, scarce
from benchmarks.tcp_pingpong import METRICS

SIZE = 64
LEVELS = (1, 10, 100, 1_000, 10_000)
FLAT_FROM = 100
BOUND = ("<=", 1.2)


def timed(peers: Peers, relay: Relay, connections: int, seconds: float) -> Sample:
    place = placements()["apart"]
    with open_files(connections * EACH + SPARE), Echoed(peers, place) as echoed:
        running = echoed.relay(relay)
        clients = echoed.clients(running, connections, SIZE)
        return running.cost(clients, seconds)


def named(relay: str, connections: int) -> str:
    return f"{relay}, {connections:,}"


def targets(levels: list[int]) -> list[Target]:
    """No level from 100 up is dearer than another below it by more than the bound."""
    found = []
    flat = [level for level in levels if level >= FLAT_FROM]
    for relay, bound in ((OURS, BOUND), (HAPROXY, None), (LEAST, None)):
        for at, few in enumerate(flat):
            for many in flat[at + 1 :]:
                found.append(Target(named(relay, many), named(relay, few), "cpu_us", bound))
    for peer in (HAPROXY, LEAST):
        for level in levels:
            found.append(Target(named(OURS, level), named(peer, level), "cpu_us", None))
    return found


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.02 if options.smoke else 0.8
    wanted = FLAT_FROM if options.smoke else max(LEVELS)
    most = connections_here(wanted)
    levels = sorted({min(level, most) for level in LEVELS})
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Relay]] = {
        OURS: spliceio_proxy,
        HAPROXY: lambda: haproxy(peers, maxconn=most + 64),
        LEAST: lambda: c_program(peers, "tcp_epoll"),
    }
    found = present(makers, missing)

    def contestant(name: str, relay: Relay, level: int) -> Contestant:
        return Contestant(
            named(name, level),
            run=lambda: timed(peers, relay, level, seconds),
            # How many there are changes nothing in what one gives: once is enough.
            verify=lambda: None if level > 1 else check(relay, MIB + 1),
        )

    return Row(
        name="tcp_growth",
        title="64 bytes there and back over TCP, on 1 to 10,000 connections, all busy",
        metrics=METRICS,
        contestants=[
            contestant(name, relay, level) for name, relay in found.items() for level in levels
        ],
        targets=targets(levels),
        missing=missing,
        notes=[
            *scarce(wanted, most),
            f"{seconds} s at each number of connections, each of them with one message on its way "
            "at any time; client and echo as in tcp_pingpong_64, all compared.",
            "cpu is that of the relay process, by its clock, with all connections open before. "
            "It has a processor of its own, client and echo share another.",
            "haproxy: mode tcp, nbthread 1, splicing on, maxconn as needed.",
            "C epoll loop: one recv and one send for each message and nothing else (tcp_epoll.c), "
            "so that what grows there is the kernel's.",
        ],
    )
