"""Connections through a relay to one upstream: open, 64 bytes there and back, closed.

32 of them at a time. The upstream is the side that closes first, as a server does that answers and
is done; so each relay has to pass on an end, and has no port left in TIME_WAIT afterwards.
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
    MIB,
    OURS,
    TOGETHER,
    Relay,
    check,
    go,
    haproxy,
    in_python,
    present,
    spliceio_proxy,
)

AT_ONCE = 32
SIZE = 64


def timed(peers: Peers, relay: Relay, connections: int, place: Placement) -> Sample:
    with Echoed(peers, place, closes_after=SIZE) as echoed:
        return echoed.connect(echoed.relay(relay), connections, AT_ONCE, SIZE)


def targets() -> list[Target]:
    return [
        Target(OURS, HAPROXY, "cpu_us", ("<=", 1.0)),
        Target(OURS, GO, "cpu_us", None),
        Target(OURS, ASYNCIO, "cpu_us", None),
        Target(OURS, HAPROXY, "per_s", None),
        *(
            Target(OURS + TOGETHER, peer + TOGETHER, "cpu_us", None)
            for peer in (HAPROXY, GO, ASYNCIO)
        ),
    ]


def row(options: Options, peers: Peers) -> Row:
    connections = 100 if options.smoke else 5000
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Relay]] = {
        OURS: spliceio_proxy,
        HAPROXY: lambda: haproxy(peers),
        GO: lambda: go(options, peers),
        ASYNCIO: lambda: in_python("asyncio"),
    }
    found = present(makers, missing)

    def contestant(name: str, relay: Relay, mark: str) -> Contestant:
        place = placements()["together" if mark else "apart"]
        return Contestant(
            name + mark,
            run=lambda: timed(peers, relay, connections, place),
            # Where a relay runs changes nothing in what it gives: once is enough.
            verify=lambda: None if mark else check(relay, MIB + 1),
        )

    return Row(
        name="tcp_connect",
        title=f"{connections} connections, {SIZE} bytes there and back over each",
        metrics=[Metric("per_s", "connections/s", 0), Metric("cpu_us", "cpu us/connection", 1)],
        contestants=[
            contestant(name, relay, mark)
            for mark in ("", TOGETHER)
            for name, relay in found.items()
        ],
        targets=targets(),
        missing=missing,
        notes=[
            f"{AT_ONCE} connections at a time; the client compares the {SIZE} bytes and waits for "
            "the end, the echo closes first.",
            "cpu is that of the relay process, by its clock before the first and after the last.",
            "haproxy: mode tcp, nbthread 1, splicing on. Every relay has one upstream, by address.",
            "Judged with the relay on a processor of its own and client and echo on another; "
            "shown with all on one as well.",
        ],
    )
