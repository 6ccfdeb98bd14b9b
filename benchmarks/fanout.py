"""One pipe to one, three and sixteen pipes, process to process: source | fan-out | sinks.

The source maps the same pages into the pipe over and over, the sinks splice to /dev/null, so that
most of the work left is that of the process between them. Beside that it is shown with a source
that copies into the pipe, and with sinks that copy out of it.

Judged is 1 to 3 with everybody on one processor, for the reason given in pipe_relay.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

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
MIB = 1024 * 1024

# The command for the outputs beside standard output, given as descriptors it inherits.
Command = Callable[[Sequence[int]], Sequence[object]]

COMMAND = "spliceio tee"
CALL = "spliceio.fanout"
COREUTILS = "coreutils tee"
PYTHON = "os.read + os.write"
C_LOOP = "C tee loop"
C_WIDE = "C tee loop, 1 MiB pipes"

ONE = ""
FREE = ", unpinned"
SOURCE_COPIES = ", source copies"
SINKS_COPY = ", sinks copy"


def in_python(how: str) -> Command:
    return lambda fds: python("fan_pipes.py", how, *fds)


def pipes(count: int, ours: ExitStack) -> list[tuple[int, int]]:
    """Make so many; the ends are closed with `ours`."""
    made = [os.pipe() for _ in range(count)]
    for ends in made:
        for end in ends:
            ours.callback(os.close, end)
    return made


def line(
    peers: Peers,
    command: Command,
    sinks: int,
    seconds: float,
    mark: str,
    *,
    shares: bool | None,
    place: Placement,
) -> Sample:
    """Time one run.

    `shares`: the process says itself what the moving cost, and must have used tee and splice alone
    if True and neither if False; with None its whole life is charged.
    """
    feed = "write" if mark == SOURCE_COPIES else "vmsplice"
    take = ["read"] if mark == SINKS_COPY else []
    err = None if shares is None else subprocess.PIPE
    with ExitStack() as stack:
        with ExitStack() as ours, on_processors(place.others):
            (src_r, src_w), *outs = pipes(1 + sinks, ours)
            source = stack.enter_context(
                started(
                    [peers.c("pipe_source"), seconds, feed], stdout=src_w, stderr=subprocess.PIPE
                )
            )
            more = [write for _, write in outs[1:]]
            with on_processors(place.tested):
                middle = stack.enter_context(
                    started(
                        command(more), stdin=src_r, stdout=outs[0][1], stderr=err, pass_fds=more
                    )
                )
            ends = [
                stack.enter_context(
                    started([peers.c("pipe_sink"), *take], stdin=read, stdout=subprocess.PIPE)
                )
                for read, _ in outs
            ]
        # The sinks first: until they end we sleep, and take no time from the others.
        came = [finish(sink)[0].split() for sink in ends]
        cpu = finish_charged(middle) if shares is None else said_by(finish(middle)[1], shares)
        sent = int(finish(source)[1])
    for number, (moved, _) in enumerate(came):
        if int(moved) != sent:
            raise WrongBytes(f"{sent} bytes went in, {int(moved)} came out at sink {number}")
    return {
        "gb_per_s": sent / max(float(took) for _, took in came) / GB,
        "cpu_per_gb": cpu / (sent / GB),
        "bytes": sent,
    }


def said_by(err: bytes, shares: bool) -> float:
    """Read the cpu seconds that a process reports; it must have moved the bytes as it should."""
    said = json.loads(err)
    allowed = {"tee", "splice"} if shares else {"read_write"}
    if not set(said["methods"]) <= allowed:
        raise Failed(f"the bytes were moved by {', '.join(said['methods'])}")
    return float(said["cpu"])


def check(command: Command, sinks: int, size: int) -> None:
    """Pass random bytes through, and compare each output by SHA-256."""
    data = os.urandom(size)

    def digest(read: int) -> bytes:
        got = hashlib.sha256()
        with open(read, "rb", buffering=0, closefd=False) as file:
            while part := file.read(MIB):
                got.update(part)
        return got.digest()

    with ExitStack() as stack:
        with ExitStack() as ours:
            outs = pipes(sinks, ours)
            more = [write for _, write in outs[1:]]
            kept = [os.dup(read) for read, _ in outs]
            for read in kept:
                stack.callback(os.close, read)
            process = stack.enter_context(
                started(
                    command(more),
                    stdin=subprocess.PIPE,
                    stdout=outs[0][1],
                    stderr=subprocess.PIPE,
                    pass_fds=more,
                )
            )
        with ThreadPoolExecutor(sinks) as pool:
            # Should the process end early, its outputs end too, so the threads do not stay.
            came = pool.map(digest, kept)
            try:
                finish(process, data)
            finally:
                process.kill()
            wrong = [n for n, one in enumerate(came) if one != hashlib.sha256(data).digest()]
    if wrong:
        raise WrongBytes(f"{command([])[0]}: sink {wrong[0]} got other bytes than went in")


def row(options: Options, peers: Peers, sinks: int, marks: Sequence[str]) -> Row:
    seconds = 0.05 if options.smoke else 0.4
    size = (2 if options.smoke else 32) * MIB + 1
    contestants: list[Contestant] = []
    c_loop = peers.c("pipe_tee")
    coreutils = peers.tool("tee")

    def add(name: str, command: Command, mark: str, shares: bool | None = None) -> None:
        place = placements()["anywhere" if mark == FREE else "together"]

        def run() -> Sample:
            return line(peers, command, sinks, seconds, mark, shares=shares, place=place)

        contestants.append(Contestant(name + mark, run, lambda: check(command, sinks, size)))

    for mark in marks:
        add(COMMAND, in_python("tee"), mark, True)
        add(CALL, in_python("fanout"), mark, True)
        add(COREUTILS, lambda fds: [coreutils, *(f"/dev/fd/{fd}" for fd in fds)], mark)
        add(PYTHON, in_python("read+write"), mark, False)
        add(C_LOOP, lambda fds: [c_loop, 0, *fds], mark)
        add(C_WIDE, lambda fds: [c_loop, MIB, *fds], mark)
    targets = []
    for mark in marks:
        judged = sinks == 3 and mark == ONE
        targets += [
            Target(COMMAND + mark, COREUTILS + mark, "gb_per_s", (">=", 8.0) if judged else None),
            Target(
                COMMAND + mark, COREUTILS + mark, "cpu_per_gb", ("<=", 0.15) if judged else None
            ),
            Target(COMMAND + mark, C_WIDE + mark, "gb_per_s", None),
            Target(COMMAND + mark, C_WIDE + mark, "cpu_per_gb", None),
            Target(CALL + mark, COREUTILS + mark, "gb_per_s", None),
            Target(CALL + mark, COREUTILS + mark, "cpu_per_gb", None),
            Target(CALL + mark, C_LOOP + mark, "gb_per_s", None),
            Target(CALL + mark, C_LOOP + mark, "cpu_per_gb", None),
            Target(CALL + mark, PYTHON + mark, "gb_per_s", None),
            Target(CALL + mark, PYTHON + mark, "cpu_per_gb", None),
        ]
    notes = [
        f"Each run lasts {seconds} s; GB are those of the source. The pipes have their default "
        "size, unless the contestant makes them larger, as spliceio tee does.",
        "The source maps the same pages over and over, the sinks drop the bytes uncopied; source "
        "copies: write() in its place; sinks copy: read() in theirs.",
        "cpu is that of the process between them; the start of an interpreter is not in it.",
    ]
    if sinks == 3:
        notes.append(
            "Judged with everybody on one processor. Unpinned, where the scheduler puts them "
            "decides more than the fan-out does: shown, not judged."
        )
    return Row(
        name=f"fanout_{sinks}",
        title=f"1 -> {sinks} fan-out, pipes, process to process",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        targets=targets,
        notes=notes,
    )


def one(options: Options, peers: Peers) -> Row:
    return row(options, peers, 1, (ONE, FREE))


def three(options: Options, peers: Peers) -> Row:
    return row(options, peers, 3, (ONE, FREE, SOURCE_COPIES, SINKS_COPY))


def sixteen(options: Options, peers: Peers) -> Row:
    return row(options, peers, 16, (ONE, FREE))
