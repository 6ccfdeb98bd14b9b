"""Row 2: source | relay | sink, three processes and two plain pipes.

The source maps the same pages into the pipe over and over (vmsplice) or copies them (write), the
sink splices to /dev/null, so that most of the work left in the line is the relay's.

Judged is the line with all three processes on one processor. Left to the scheduler, a line of three
on two cores was seen to run up to five times faster or slower by where the three happened to be
put, which drowns every difference between the relays.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Missing, Peers
from benchmarks.processes import (
    Failed,
    Placement,
    finish,
    finish_charged,
    on_processors,
    placements,
    python,
    started,
)

GB = 1e9


def line(
    peers: Peers,
    relay: Sequence[object],
    seconds: float,
    feed: str = "vmsplice",
    *,
    reports: bool,
    place: Placement,
) -> Sample:
    """Time one run.

    `reports`: the relay says itself what the moving cost; else its whole life is charged.
    """
    with ExitStack() as stack:
        src_r, src_w = os.pipe()
        dst_r, dst_w = os.pipe()
        with ExitStack() as ours, on_processors(place.others):
            for end in (src_r, src_w, dst_r, dst_w):
                ours.callback(os.close, end)
            source = stack.enter_context(
                started(
                    [peers.c("pipe_source"), seconds, feed], stdout=src_w, stderr=subprocess.PIPE
                )
            )
            err = subprocess.PIPE if reports else None
            with on_processors(place.tested):
                middle = stack.enter_context(started(relay, stdin=src_r, stdout=dst_w, stderr=err))
            sink = stack.enter_context(
                started([peers.c("pipe_sink")], stdin=dst_r, stdout=subprocess.PIPE)
            )
        # The sink first: until it ends we sleep, and take no time from the three.
        moved, took = finish(sink)[0].split()
        if reports:
            said = json.loads(finish(middle)[1])
            cpu = said["cpu"]
            if said["method"] not in ("splice", "os.splice"):
                raise Failed(f"the relay moved the bytes by {said['method']}, not by splice")
        else:
            cpu = finish_charged(middle)
        sent = int(finish(source)[1])
    if int(moved) != sent:
        raise WrongBytes(f"{sent} bytes went in, {int(moved)} came out")
    return {
        "gb_per_s": sent / float(took) / GB,
        "cpu_per_gb": cpu / (sent / GB),
        "bytes": sent,
    }


def check(relay: Sequence[object], size: int) -> None:
    """Pass random bytes through the relay, and compare by SHA-256."""
    data = os.urandom(size)
    with started(
        relay, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        came, _ = finish(process, data)
    if hashlib.sha256(came).digest() != hashlib.sha256(data).digest():
        raise WrongBytes(f"{relay[0]}: the hash of {size} relayed bytes differs")


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.05 if options.smoke else 0.5
    size = (4 if options.smoke else 64) * 1024 * 1024 + 1
    contestants: list[Contestant] = []
    missing: dict[str, str] = {}
    one, free, copied = "", ", unpinned", ", source copies"

    def add(name: str, command: Sequence[object], mark: str, *, reports: bool = False) -> None:
        feed = "write" if mark == copied else "vmsplice"
        place = placements()["anywhere" if mark == free else "together"]

        def run() -> Sample:
            return line(peers, command, seconds, feed, reports=reports, place=place)

        contestants.append(Contestant(name + mark, run, lambda: check(command, size)))

    for mark in (one, free, copied):
        add("spliceio.copy", python("relay_pipe.py", "spliceio"), mark, reports=True)
        add("C splice loop", [peers.c("pipe_splice")], mark)
        add("cat", [peers.tool("cat")], mark)
        try:
            add("pv -q", [peers.tool("pv"), "-q"], mark)
        except Missing as why:
            missing["pv -q" + mark] = str(why)
    ours = "spliceio.copy"
    targets = [
        Target(ours, "C splice loop", "gb_per_s", (">=", 0.97)),
        Target(ours, "cat", "gb_per_s", (">=", 1.3)),
        Target(ours, "cat", "cpu_per_gb", ("<=", 0.35)),
        Target(ours, "pv -q", "gb_per_s", None),
        Target(ours, "C splice loop", "cpu_per_gb", None),
    ]
    for mark in (free, copied):
        targets += [
            Target(ours + mark, "C splice loop" + mark, "gb_per_s", None),
            Target(ours + mark, "cat" + mark, "gb_per_s", None),
            Target(ours + mark, "cat" + mark, "cpu_per_gb", None),
        ]
    return Row(
        name="pipe_relay",
        title="pipe -> pipe relay, process to process",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        missing=missing,
        targets=targets,
        notes=[
            f"Each run lasts {seconds} s. The pipes have their default size; "
            "the source maps the same pages over and over; the sink drops the bytes uncopied.",
            "cpu is that of the relay process; the start of the interpreter is not in it.",
            "Judged with source, relay and sink on one processor. Unpinned, where the scheduler "
            "puts the three decides more than the relay does: shown, not judged.",
        ],
    )
