"""One body in memory to a pipe, again and again, and a process that drops what comes.

Judged is a pipe of the default size with both processes on one processor, for the reason given in
pipe_relay.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Peers
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
KIB = 1024
MIB = 1024 * 1024
# That of peers/pipe_source.c.
C_BUFFER = 256 * KIB

ONE = ""
WIDE = ", in a 1 MiB pipe"
FREE = ", unpinned"
COPIED = ", reader copies"
MARKS = (ONE, WIDE, FREE, COPIED)

RAW = "spliceio.vmsplice"
C_LOOP = "C vmsplice loop"
BLOB = "copy(Blob)"
PAGES = "PageWriter.write"
WRITE = "os.write"
C_MEMFD = "C splice loop, memfd"

# The command that sends for so many seconds into a pipe of such a size; 0: the default.
Command = Callable[[float, int], Sequence[object]]


def timed(
    peers: Peers, command: Sequence[object], wanted: set[str] | None, mark: str, place: Placement
) -> Sample:
    """Time one run; without `wanted` methods the sender is in C and charged as a whole."""
    take = ["read"] if mark == COPIED else []
    with ExitStack() as stack:
        with ExitStack() as ours:
            read, write = os.pipe()
            for end in (read, write):
                ours.callback(os.close, end)
            with on_processors(place.others):
                sink = stack.enter_context(
                    started([peers.c("pipe_sink"), *take], stdin=read, stdout=subprocess.PIPE)
                )
            with on_processors(place.tested):
                sender = stack.enter_context(started(command, stdout=write, stderr=subprocess.PIPE))
        # The sink first: until it ends we sleep, and take no time from the two.
        moved, took = finish(sink)[0].split()
        if wanted is None:
            assert sender.stderr is not None
            cpu = finish_charged(sender)
            sent = int(sender.stderr.read())
        else:
            sent, cpu = said_by(finish(sender)[1], wanted)
    if int(moved) != sent:
        raise WrongBytes(f"{sent} bytes went in, {int(moved)} came out")
    return {
        "gb_per_s": sent / float(took) / GB,
        "cpu_per_gb": cpu / (sent / GB),
        "bytes": sent,
    }


def said_by(err: bytes, wanted: set[str]) -> tuple[int, float]:
    """Read bytes and cpu seconds that a sender reports; all must have gone by what is `wanted`."""
    said = json.loads(err)
    if not set(said["methods"]) <= wanted:
        raise Failed(f"the sender used {', '.join(said['methods'])}")
    return said["moved"], said["cpu"]


def check(command: Sequence[object], body: bytes) -> None:
    """Let it send for no time at all, and compare every byte."""
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        came, _ = finish(process)
    times, rest = divmod(len(came), len(body))
    if rest or not times or came != body * times:
        raise WrongBytes(f"{command[0]}: what came is not the body again and again")


def bodies(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    made = {}
    for size in sizes:
        made[size] = folder / f"body-{size}"
        made[size].write_bytes(os.urandom(size))
    return made


def in_python(way: str, body: Path, lasts: float, pipe: int) -> Sequence[object]:
    return python("memory_pipe.py", way, body, lasts, pipe)


def vmsplice_loop(program: Path, lasts: float, pipe: int) -> Sequence[object]:
    return [program, lasts, "vmsplice", pipe]


def memfd_splice(program: Path, body: Path, lasts: float, pipe: int) -> Sequence[object]:
    return [program, body, lasts, pipe]


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.05 if options.smoke else 0.3
    small, large = MIB, (4 if options.smoke else 64) * MIB
    files = bodies(options.workdir, (C_BUFFER, small, large))
    c_loop, c_body = peers.c("pipe_source"), options.workdir / "body-c"
    c_body.write_bytes(b"x" * C_BUFFER)
    contestants: list[Contestant] = []

    def add(name: str, command: Command, body: Path, wanted: set[str] | None, mark: str) -> None:
        place = placements()["anywhere" if mark == FREE else "together"]
        pipe = MIB if mark == WIDE else 0
        contestants.append(
            Contestant(
                name + mark,
                run=lambda: timed(peers, command(seconds, pipe), wanted, mark, place),
                verify=lambda: check(command(0, pipe), body.read_bytes()),
            )
        )

    targets: list[Target] = []
    for mark in MARKS:
        judged = mark == ONE
        raw = files[C_BUFFER]
        add(RAW, partial(in_python, "vmsplice", raw), raw, {"vmsplice"}, mark)
        add(C_LOOP, partial(vmsplice_loop, c_loop), c_body, None, mark)
        targets += [
            Target(RAW + mark, C_LOOP + mark, "gb_per_s", (">=", 0.9) if judged else None),
            Target(RAW + mark, C_LOOP + mark, "cpu_per_gb", None),
        ]
        for size in (small, large):
            of = f", {size // MIB} MiB"
            body = files[size]
            add(BLOB + of, partial(in_python, "blob", body), body, {"splice"}, mark)
            add(WRITE + of, partial(in_python, "write", body), body, {"write"}, mark)
            c_splice = partial(memfd_splice, peers.c("memfd_splice"), body)
            add(C_MEMFD + of, c_splice, body, None, mark)
            # Without huge pages it writes.
            add(PAGES + of, partial(in_python, "pages", body), body, {"vmsplice", "write"}, mark)
            pair = BLOB + of + mark, WRITE + of + mark
            targets += [
                Target(*pair, "gb_per_s", (">=", 2.5) if judged else None),
                Target(*pair, "cpu_per_gb", None),
            ]
            targets.append(Target(BLOB + of + mark, C_MEMFD + of + mark, "gb_per_s", None))
            pair = PAGES + of + mark, WRITE + of + mark
            targets += [Target(*pair, "gb_per_s", None), Target(*pair, "cpu_per_gb", None)]
    return Row(
        name="memory_pipe",
        title="memory -> pipe, to a process that drops it",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        targets=targets,
        notes=[
            f"Each run lasts {seconds} s; the same body goes again and again, by the two vmsplice "
            f"loops one of {C_BUFFER // KIB} KiB. The pipe has its default size.",
            "The reader splices to /dev/null; reader copies: it calls read().",
            "cpu is that of the sender; the start of an interpreter is not in it. That of the C "
            "splice loop has the filling of its memfd in it.",
            "Judged with both on one processor and a default pipe; the others are shown.",
        ],
    )
