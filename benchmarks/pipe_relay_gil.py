"""Row 3: the relay of row 2 while another thread of the same process computes in Python.

A byte in flight must not wait for the interpreter lock. To see the lock alone, and not the
processor time that the computing thread takes, source, relay and sink share one processor in the
runs that are judged, and the computing thread has another to itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.pipe_relay import check, line
from benchmarks.processes import Placement, placements, python


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.05 if options.smoke else 0.6
    contestants: list[Contestant] = []
    missing: dict[str, str] = {}
    places = placements()
    together, anywhere = places["together"], places["anywhere"]
    free_core = places["apart"].tested - together.tested

    def add(
        name: str,
        how: str,
        *,
        compute: int | None = None,
        place: Placement,
        size: int = 32 * 1024 * 1024 + 1,
    ) -> None:
        words = [how] if compute is None else [how, compute]
        command: Sequence[object] = python("relay_pipe.py", *words)

        def run() -> Sample:
            return line(peers, command, seconds, reports=True, place=place)

        contestants.append(Contestant(name, run, lambda: check(command, size)))

    # One chunk in 5 ms is all a loop gets that asks for the lock each time: check it with less.
    few = 1024 * 1024 + 1
    if free_core:
        # The computing thread moves itself there: affinity binds a thread, not its process.
        (core,) = free_core
        add("spliceio.copy", "spliceio", place=together)
        add("spliceio.copy + computing thread", "spliceio", compute=core, place=together)
        add("os.splice loop", "os.splice", place=together)
        add(
            "os.splice loop + computing thread", "os.splice", compute=core, place=together, size=few
        )
    else:
        missing["with a free processor"] = "this machine has one processor only"
    add("spliceio.copy, unpinned", "spliceio", place=anywhere)
    add("spliceio.copy + computing thread, unpinned", "spliceio", compute=-1, place=anywhere)
    add(
        "os.splice loop + computing thread, unpinned",
        "os.splice",
        compute=-1,
        place=anywhere,
        size=few,
    )
    busy = "spliceio.copy + computing thread"
    return Row(
        name="pipe_relay_gil",
        title="the same with one Python thread computing",
        metrics=[Metric("gb_per_s", "GB/s", 3)],
        contestants=contestants,
        missing=missing,
        targets=[
            Target(busy, "spliceio.copy", "gb_per_s", (">=", 0.9)),
            Target(busy, "os.splice loop + computing thread", "gb_per_s", (">=", 4.0)),
            Target("os.splice loop + computing thread", "os.splice loop", "gb_per_s", None),
            Target("spliceio.copy", "os.splice loop", "gb_per_s", None),
            Target(f"{busy}, unpinned", "spliceio.copy, unpinned", "gb_per_s", None),
            Target(
                f"{busy}, unpinned",
                "os.splice loop + computing thread, unpinned",
                "gb_per_s",
                None,
            ),
        ],
        notes=[
            f"Each run lasts {seconds} s; source and sink as in pipe_relay.",
            "Judged with source, relay and sink on one processor and the computing thread on "
            "another, which is the free core that the target speaks of.",
            "Unpinned, the computing thread also takes processor time from source, relay and sink, "
            "so that figure holds the price of the missing core as well: shown, not judged.",
        ],
    )
