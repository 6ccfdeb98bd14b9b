"""Row 6: bulk from one TCP connection to another through a relay, all on loopback.

Every relay is started for the round, serves one connection, and its process clock is read before
and after.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Peers
from benchmarks.processes import (
    PATIENCE,
    Placement,
    cpu_of,
    finish,
    line_from,
    on_processors,
    placements,
    started,
)
from benchmarks.proxies import (
    ASYNCIO,
    GO,
    HAPROXY,
    MIB,
    OURS,
    TOGETHER,
    Relay,
    believe,
    c_program,
    check,
    go,
    haproxy,
    in_python,
    present,
    serving,
    spliceio_proxy,
)

GB = 1e9

C_LOOP = "C splice loop"
WIDE = "haproxy, 1 MiB pipes"
SOCAT = "socat"
RELAY = "spliceio.relay"
NONBLOCKING = "spliceio.relay, nonblocking"


def timed(peers: Peers, relay: Relay, seconds: float, place: Placement) -> Sample:
    with ExitStack() as stack:
        with on_processors(place.others):
            sink = stack.enter_context(started([peers.c("tcp_sink")], stdout=subprocess.PIPE))
        upstream = int(line_from(sink))
        with on_processors(place.tested):
            port, process = stack.enter_context(serving(relay, upstream))
        before = cpu_of(process.pid)
        with on_processors(place.others):
            source = stack.enter_context(
                started([peers.c("tcp_source"), port, seconds], stdout=subprocess.PIPE)
            )
        sent = int(finish(source)[0])
        moved, took = finish(sink)[0].split()
        cpu = cpu_of(process.pid) - before
        if relay.reports:
            believe(relay, process, sent, 0)
    if int(moved) != sent:
        raise WrongBytes(f"{sent} bytes went in, {int(moved)} came out")
    return {
        "gb_per_s": sent / float(took) / GB,
        "cpu_per_gb": cpu / (sent / GB),
        "bytes": sent,
    }


def socat(peers: Peers) -> Relay:
    # -t: how long the second direction may go on after the first has ended.
    tool, patience = peers.tool("socat"), int(PATIENCE)
    return Relay(
        lambda listen, upstream: [
            *(tool, "-t", patience),
            f"TCP4-LISTEN:{listen},bind=127.0.0.1,reuseaddr",
            f"TCP4:127.0.0.1:{upstream}",
        ]
    )


def targets() -> list[Target]:
    shown = [
        Target(OURS, C_LOOP, "gb_per_s", None),
        *(Target(OURS, WIDE, metric, None) for metric in ("cpu_per_gb", "gb_per_s")),
        *(Target(OURS, peer, "cpu_per_gb", None) for peer in (GO, SOCAT, ASYNCIO)),
        *(Target(relay, C_LOOP, "cpu_per_gb", None) for relay in (RELAY, NONBLOCKING)),
        Target(OURS, RELAY, "cpu_per_gb", None),
    ]
    for peer in (HAPROXY, C_LOOP):
        for metric in ("cpu_per_gb", "gb_per_s"):
            shown.append(Target(OURS + TOGETHER, peer + TOGETHER, metric, None))
    return [
        Target(OURS, HAPROXY, "cpu_per_gb", ("<=", 0.6)),
        Target(OURS, HAPROXY, "gb_per_s", (">=", 1.3)),
        Target(OURS, C_LOOP, "cpu_per_gb", ("<=", 1.05)),
        *shown,
    ]


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.05 if options.smoke else 1.0
    size = (2 if options.smoke else 32) * MIB + 1
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Relay]] = {
        OURS: spliceio_proxy,
        RELAY: lambda: in_python("spliceio", reports=True),
        NONBLOCKING: lambda: in_python("spliceio-nonblocking", reports=True),
        C_LOOP: lambda: c_program(peers, "tcp_splice"),
        HAPROXY: lambda: haproxy(peers),
        WIDE: lambda: haproxy(peers, pipe_size=MIB),
        GO: lambda: go(options, peers),
        SOCAT: lambda: socat(peers),
        ASYNCIO: lambda: in_python("asyncio"),
    }
    found = present(makers, missing)

    def contestant(name: str, relay: Relay, mark: str) -> Contestant:
        place = placements()["together" if mark else "apart"]
        return Contestant(
            name + mark,
            run=lambda: timed(peers, relay, seconds, place),
            # Where a relay runs changes nothing in what it gives: once is enough.
            verify=lambda: None if mark else check(relay, size),
        )

    return Row(
        name="tcp_relay",
        title="TCP -> TCP, bulk",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=[
            contestant(name, relay, mark)
            for mark in ("", TOGETHER)
            for name, relay in found.items()
        ],
        missing=missing,
        targets=targets(),
        notes=[
            f"One connection for {seconds} s; the source sends one buffer over and over, "
            "the sink drops the bytes uncopied (MSG_TRUNC).",
            "cpu is that of the relay process, by its clock before and after the connection.",
            "The sockets given to spliceio.relay are blocking ones, as Python makes them; "
            "'nonblocking' is the same with O_NONBLOCK set, as all the other relays have it.",
            "haproxy: mode tcp, splice-auto, splice-request, splice-response, nbthread 1; "
            "its pipes are 64 KiB unless it is told otherwise.",
            "Judged with the relay on a processor of its own and source and sink on another; "
            "shown with all on one as well.",
        ],
    )
