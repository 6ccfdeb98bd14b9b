"""Bulk through a relay in a Python process, while another thread of that process computes.

A byte in flight must not wait for the interpreter lock. To see the lock alone, and not the
processor time that the computing thread takes, source, relay and sink share one processor in the
runs that are judged, and the computing thread has another to itself (as in pipe_relay_gil).
"""

from __future__ import annotations

from benchmarks.harness import Contestant, Metric, Options, Row, Target
from benchmarks.peers import Peers
from benchmarks.processes import Placement, placements
from benchmarks.proxies import ASYNCIO, MIB, check, in_python
from benchmarks.tcp_relay import timed

PROXY = "spliceio.Proxy"
COMPUTING = " + computing thread"
UNPINNED = ", unpinned"
METHODS = {PROXY: "spliceio.Proxy", ASYNCIO: "asyncio"}


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.05 if options.smoke else 0.6
    contestants: list[Contestant] = []
    missing: dict[str, str] = {}
    places = placements()
    together, anywhere = places["together"], places["anywhere"]
    free_core = places["apart"].tested - together.tested

    def add(name: str, mark: str, place: Placement, *computing: int) -> None:
        relay = in_python(METHODS[name], *computing)
        # What asks for the lock each time gets a chunk moved in 5 ms: check it with less.
        size = (MIB if options.smoke or computing else 32 * MIB) + 1
        contestants.append(
            Contestant(
                name + mark,
                run=lambda: timed(peers, relay, seconds, place),
                verify=lambda: check(relay, size),
            )
        )

    # The computing thread moves itself there: affinity binds a thread, not its process.
    for core in free_core:
        for name in METHODS:
            add(name, "", together)
            add(name, COMPUTING, together, core)
    add(PROXY, UNPINNED, anywhere)
    # Below 0: wherever the scheduler puts it.
    add(PROXY, COMPUTING + UNPINNED, anywhere, -1)
    if not free_core:
        missing["with a free processor"] = "this machine has one processor only"
    return Row(
        name="tcp_gil",
        title="TCP -> TCP in a Python process, with one Python thread computing",
        metrics=[Metric("gb_per_s", "GB/s", 3)],
        contestants=contestants,
        missing=missing,
        targets=[
            Target(PROXY + COMPUTING, PROXY, "gb_per_s", (">=", 0.9)),
            Target(ASYNCIO + COMPUTING, ASYNCIO, "gb_per_s", None),
            Target(PROXY + COMPUTING, ASYNCIO + COMPUTING, "gb_per_s", None),
            Target(PROXY + COMPUTING + UNPINNED, PROXY + UNPINNED, "gb_per_s", None),
        ],
        notes=[
            f"Each run lasts {seconds} s; source and sink as in tcp_relay.",
            "Judged with source, relay and sink on one processor and the computing thread on "
            "another, which is the free core that the target speaks of.",
            "Unpinned, the computing thread also takes processor time from source, relay and sink, "
            "so that figure holds the price of the missing core as well: shown, not judged.",
        ],
    )
