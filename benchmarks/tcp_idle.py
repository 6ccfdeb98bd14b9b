"""Ten thousand idle connections through a relay: what each keeps, and what a busy one pays.

Every idle connection has first had a message of 16 KiB there and back, so that whatever a relay
takes for a connection that moves, buffers or a pipe, it has taken, and may have let go of again.

The price of a busy one is taken from two processes of the same relay, one with the idle connections
and one without. 64 others play ping-pong through one and then the other, in turns within a round,
because a few hundredths are at stake and two rounds differ by more.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmarks.echoed import Echoed
from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import most_open_files, open_files, placements
from benchmarks.proxies import (
    HAPROXY,
    MIB,
    OURS,
    Relay,
    check,
    haproxy,
    present,
    spliceio_proxy,
)

KIB = 1024
BUSY = 64
SIZE = 64
FIRST = 16 * KIB
# Descriptors of a relay: two for each connection, and some for the busy ones and for pipes.
EACH = 2
SPARE = 512


def connections_here(wanted: int) -> int:
    """Return how many connections a relay can have open here, up to `wanted`."""
    return max(1, (most_open_files(wanted * EACH + SPARE) - SPARE) // EACH)


def scarce(wanted: int, got: int) -> list[str]:
    if got == wanted:
        return []
    return [
        f"Not {wanted:,} connections but {got:,}: the limit of descriptors allows no more here, "
        "and raising it takes CAP_SYS_RESOURCE."
    ]


def own_memory(pid: int) -> int:
    """Bytes that the process has written to and shares with nobody."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no Private_Dirty in smaps_rollup")


def pipe_ends(pid: int) -> int:
    """Count the descriptors of pipes, the standard streams aside."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += int(path.name) > 2 and str(path.readlink()).startswith("pipe:")
    return count


def timed(peers: Peers, relay: Relay, idle: int, turns: int, seconds: float) -> Sample:
    place = placements()["apart"]
    with open_files(idle * EACH + SPARE), Echoed(peers, place) as echoed:
        alone, beside = echoed.relay(relay), echoed.relay(relay)
        pairs = [(one, echoed.clients(one, BUSY, SIZE)) for one in (alone, beside)]
        for running, clients in pairs:
            running.cost(clients, seconds)
        before = own_memory(beside.pid)
        echoed.clients(beside, idle, FIRST)
        memory, pipes = own_memory(beside.pid) - before, pipe_ends(beside.pid)
        costs: tuple[list[float], list[float]] = ([], [])
        for _ in range(turns):
            for (running, clients), cost in zip(pairs, costs, strict=True):
                cost.append(running.cost(clients, seconds)["cpu_us"])
    without, with_them = map(statistics.median, costs)
    return {
        "memory": memory / idle,
        "pipes": pipes,
        "cpu_us": without,
        "cpu_us_beside": with_them,
        "ratio": with_them / without,
    }


def row(options: Options, peers: Peers) -> Row:
    wanted = 200 if options.smoke else 10_000
    turns, seconds = (1, 0.02) if options.smoke else (5, 0.2)
    idle = connections_here(wanted)
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Relay]] = {
        OURS: spliceio_proxy,
        HAPROXY: lambda: haproxy(peers, maxconn=idle + 2 * BUSY),
    }
    found = present(makers, missing)

    def contestant(name: str, relay: Relay) -> Contestant:
        # With nowhere to write a report to, it holds no pipe for it.
        silent = replace(relay, reports=False)
        return Contestant(
            name,
            run=lambda: timed(peers, silent, idle, turns, seconds),
            verify=lambda: check(relay, MIB + 1),
        )

    return Row(
        name="tcp_idle",
        title=f"{idle:,} idle connections through a relay, and {BUSY} busy ones beside them",
        metrics=[
            Metric("memory", "bytes/relay", 0),
            Metric("pipes", "pipe ends", 0),
            Metric("cpu_us", "cpu us/round trip"),
            Metric("ratio", "beside idle/without", 3),
        ],
        contestants=[contestant(name, relay) for name, relay in found.items()],
        targets=[
            Target(OURS, None, "memory", ("<=", 2 * KIB)),
            Target(OURS, None, "pipes", ("<=", 0)),
            Target(OURS, None, "ratio", ("<=", 1.05)),
            Target(OURS, HAPROXY, "memory", None),
            Target(OURS, HAPROXY, "cpu_us", None),
        ],
        missing=missing,
        notes=[
            *scarce(wanted, idle),
            f"Each idle connection has had {FIRST // KIB} KiB there and back before.",
            "bytes/relay: growth of the private dirty memory of the process (smaps_rollup), "
            "for each idle connection. What the kernel keeps for the sockets is not in it.",
            "pipe ends: descriptors of pipes that the process holds while all is idle.",
            f"cpu us/round trip: {BUSY} connections, {SIZE} bytes, none idle; beside idle/without: "
            f"the same through a second process with all the idle ones, {turns} turns of "
            f"{seconds} s each, by the medians of a round.",
            "haproxy: mode tcp, nbthread 1, splicing on, maxconn as needed.",
        ],
    )
