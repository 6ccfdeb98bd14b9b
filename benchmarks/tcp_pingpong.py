"""Small messages through a relay to an echo and back, on 64 connections at once.

Each connection waits for its message to come back before it sends the next, so most of what a relay
does here is to wake, look, and move a little. The client compares every byte that comes back; the
clock of the relay's process is read before and after, with all connections open by then.

Judged is the relay with a processor to itself. A relay that is faster than client and echo, which
share the other, then goes to sleep and wakes more often than a slow one, and pays for it. With all
on one processor, shown beside it, each finds about as much to do whenever it wakes.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.echoed import Echoed
from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import Placement, placements
from benchmarks.proxies import (
    ASYNCIO,
    GO,
    HAPROXY,
    LEAST,
    MIB,
    OURS,
    TOGETHER,
    UNSPLICED,
    Relay,
    c_program,
    check,
    go,
    haproxy,
    in_python,
    present,
    spliceio_proxy,
)

CONNECTIONS = 64
KIB = 1024
METRICS = [Metric("per_s", "round trips/s", 0), Metric("cpu_us", "cpu us/round trip")]
BOUNDS = {HAPROXY: ("<=", 0.8), ASYNCIO: ("<=", 0.25)}


def timed(peers: Peers, relay: Relay, size: int, seconds: float, place: Placement) -> Sample:
    with Echoed(peers, place) as echoed:
        running = echoed.relay(relay)
        clients = echoed.clients(running, CONNECTIONS, size)
        return running.cost(clients, seconds)


def targets() -> list[Target]:
    alone = [
        Target(OURS, peer, "cpu_us", BOUNDS.get(peer))
        for peer in (HAPROXY, ASYNCIO, UNSPLICED, GO, LEAST)
    ]
    return [
        *alone,
        *(Target(OURS, peer, "per_s", None) for peer in (HAPROXY, ASYNCIO)),
        *(
            Target(OURS + TOGETHER, peer + TOGETHER, "cpu_us", None)
            for peer in (HAPROXY, ASYNCIO, UNSPLICED, GO, LEAST)
        ),
    ]


def row(options: Options, peers: Peers, size: int, name: str, words: str) -> Row:
    seconds = 0.05 if options.smoke else 0.6
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Relay]] = {
        OURS: spliceio_proxy,
        HAPROXY: lambda: haproxy(peers),
        UNSPLICED: lambda: haproxy(peers, splicing=False),
        LEAST: lambda: c_program(peers, "tcp_epoll"),
        GO: lambda: go(options, peers),
        ASYNCIO: lambda: in_python("asyncio"),
    }
    found = present(makers, missing)

    def contestant(name: str, relay: Relay, mark: str) -> Contestant:
        place = placements()["together" if mark else "apart"]
        return Contestant(
            name + mark,
            run=lambda: timed(peers, relay, size, seconds, place),
            # Where a relay runs changes nothing in what it gives: once is enough.
            verify=lambda: None if mark else check(relay, MIB + 1),
        )

    return Row(
        name=name,
        title=f"{words} there and back over TCP, on {CONNECTIONS} connections",
        metrics=METRICS,
        contestants=[
            contestant(name, relay, mark)
            for mark in ("", TOGETHER)
            for name, relay in found.items()
        ],
        targets=targets(),
        missing=missing,
        notes=[
            f"{CONNECTIONS} connections for {seconds} s, each with one message on its way at any "
            "time; client and echo are C programs with one thread each.",
            "The client compares all that comes back with what it sent.",
            "cpu is that of the relay process, by its clock, with all connections open before.",
            "haproxy: mode tcp, nbthread 1, splice-auto, splice-request, splice-response, "
            "or none of these.",
            "C epoll loop: one recv and one send for each message and nothing else (tcp_epoll.c).",
            "Judged with the relay on a processor of its own and client and echo on another; "
            "shown with all on one as well.",
        ],
    )


def small(options: Options, peers: Peers) -> Row:
    return row(options, peers, 64, "tcp_pingpong_64", "64 bytes")


def large(options: Options, peers: Peers) -> Row:
    return row(options, peers, 16 * KIB, "tcp_pingpong_16k", "16 KiB")
