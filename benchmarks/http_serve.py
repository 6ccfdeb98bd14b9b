"""Static files over HTTP on loopback: `spliceio serve` beside other servers, one client for all.

The client is a small C program that asks again and again on connections that it keeps, and drops
the bodies uncopied, so that most of what is left is the server. Every server is started for the
round, first has to give the right bytes, and its process clocks are read before and after.

Judged is the server with a processor to itself. Where both share one, most of its time goes to the
client, the same for all servers, and who of the two is charged for the kernel's work on loopback
depends on who happens to run: that is shown beside it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Missing, Peers
from benchmarks.processes import (
    PATIENCE,
    Placement,
    cpu_of,
    finish,
    free_port,
    on_processors,
    placements,
    python,
    started,
    wait_for_listener,
)

GB = 1e9
KIB = 1024
MIB = 1024 * KIB

OURS = "spliceio serve"
PLAIN = "python -m http.server"
NGINX = "nginx"
AIOHTTP = "aiohttp static"
TOGETHER = ", same processor"
EIGHT = ", 8 connections"

# How many connections at once, and where the server and its client run.
SETTINGS = (
    ("", 1, "apart"),
    (EIGHT, 8, "apart"),
    (TOGETHER, 1, "together"),
    (EIGHT + TOGETHER, 8, "together"),
)
BOUNDS = {(PLAIN, "gb_per_s"): (">=", 3.0), (NGINX, "cpu_per_gb"): ("<=", 1.15)}

OVERFLOWS = (
    "of eight that connect anew for each request its queue of five drops some, "
    "and the kernel tries again after seconds"
)

NOTES = [
    "One client for all, in C with one thread: it keeps its connections, "
    "and drops the bodies uncopied (MSG_TRUNC).",
    "cpu is that of the server and its children, by their clocks before and after.",
    "python -m http.server speaks HTTP/1.0 and keeps no connection: each of its requests pays for "
    "a new one. It logs each (here to /dev/null).",
    "nginx: one worker, sendfile on, no access log. aiohttp: no access log.",
    "Judged with the server on a processor of its own; shown with both on one as well.",
]

Command = Callable[[int, Path], Sequence[object]]


@dataclass(frozen=True)
class Load:
    """What is asked for: a file of `size` bytes in a folder of its own, `requests` times."""

    folder: Path
    size: int
    digest: bytes
    requests: int


def family_cpu(pid: int) -> float:
    """Seconds that a process and its living children have run so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_of(pid) + sum(family_cpu(int(child)) for child in children)


def check(port: int, load: Load) -> None:
    """Get the file once, and compare by SHA-256."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        link.request("GET", "/file")
        answer = link.getresponse()
        body = answer.read()
    finally:
        link.close()
    if answer.status != 200 or hashlib.sha256(body).digest() != load.digest:
        raise WrongBytes(f"status {answer.status}, {len(body)} bytes that are not the file's")


@contextmanager
def serving(command: Command, load: Load, place: Placement) -> Iterator[tuple[int, int]]:
    """Start a server that has proved itself; give its port and its process id."""
    port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        with on_processors(place.tested):
            process = stack.enter_context(started(command(port, load.folder), **quiet))
        stack.callback(end, process)
        wait_for_listener(port, process)
        check(port, load)
        yield port, process.pid


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and kill it only if it does not: nginx would leave its worker behind."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def timed(peers: Peers, command: Command, load: Load, connections: int, place: Placement) -> Sample:
    with ExitStack() as stack:
        port, pid = stack.enter_context(serving(command, load, place))
        client = [peers.c("http_get"), port, "/file", load.size, load.requests, connections]
        used = family_cpu(pid)
        with on_processors(place.others):
            process = stack.enter_context(
                started(client, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        said = finish(process)[0].split()
        used = family_cpu(pid) - used
    requests, moved, took, connects = int(said[0]), int(said[1]), float(said[2]), int(said[3])
    if requests != load.requests or moved != load.requests * load.size:
        raise WrongBytes(f"{requests} answers of {moved} bytes in all")
    return {
        "per_s": requests / took,
        "cpu_us": used / requests * 1e6,
        "gb_per_s": moved / took / GB,
        "cpu_per_gb": used / (moved / GB),
        "bytes": moved,
        "connects": connects,
    }


def nginx(peers: Peers) -> Command:
    tool = peers.tool("nginx")
    return lambda port, folder: [tool, "-e", "stderr", "-c", peers.nginx_config(port, folder)]


def servers(peers: Peers, missing: dict[str, str]) -> dict[str, Command]:
    """Return how to start each; those that this machine lacks go into `missing`."""

    def aiohttp() -> Command:
        interpreter = peers.with_package("aiohttp")
        script = python("serve_aiohttp.py")[-1]
        return lambda port, folder: [interpreter, "-I", script, port, folder]

    found: dict[str, Command] = {
        OURS: lambda port, folder: [
            *(sys.executable, "-I", "-m", "spliceio", "serve", folder),
            *("--bind", f"127.0.0.1:{port}", "--quiet"),
        ],
        PLAIN: lambda port, folder: [
            *(sys.executable, "-I", "-m", "http.server", port),
            *("--bind", "127.0.0.1", "--directory", folder),
        ],
    }
    for name, make in ((NGINX, lambda: nginx(peers)), (AIOHTTP, aiohttp)):
        try:
            found[name] = make()
        except Missing as why:
            missing[name] = str(why)
    return found


def made(options: Options, size: int, requests: int) -> Load:
    """Make the file, and leave it in the page cache with nothing to write back."""
    folder = options.workdir / f"http-{size}"
    folder.mkdir(exist_ok=True)
    body = os.urandom(size)
    with open(folder / "file", "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    return Load(folder, size, hashlib.sha256(body).digest(), 20 if options.smoke else requests)


def table(
    options: Options, peers: Peers, load: Load, name: str, size: str, metrics: list[Metric]
) -> Row:
    missing: dict[str, str] = {}
    contestants: list[Contestant] = []
    targets: list[Target] = []
    found = servers(peers, missing)

    def runs(command: Command, connections: int, place: Placement) -> Callable[[], Sample]:
        return lambda: timed(peers, command, load, connections, place)

    for mark, connections, place in SETTINGS:
        for server, command in found.items():
            if server == PLAIN and connections > 1:
                missing[server + mark] = OVERFLOWS
                continue
            # Each server has to give the right bytes in every round, before the clock starts.
            run = runs(command, connections, placements()[place])
            contestants.append(Contestant(server + mark, run, lambda: None))
        for peer in (PLAIN, NGINX, AIOHTTP):
            if (peer == PLAIN and connections > 1) or (peer == AIOHTTP and mark):
                continue
            for metric in metrics[-2:]:
                bound = BOUNDS.get((peer, metric.name)) if place == "apart" else None
                targets.append(Target(OURS + mark, peer + mark, metric.name, bound))
    return Row(
        name=name,
        title=f"a file of {size} over HTTP, {load.requests} requests",
        metrics=metrics,
        contestants=contestants,
        targets=targets,
        missing=missing,
        notes=NOTES,
    )


PER_REQUEST = [Metric("per_s", "requests/s", 0), Metric("cpu_us", "cpu us/request", 1)]
PER_GB = [
    Metric("per_s", "requests/s", 0),
    Metric("gb_per_s", "GB/s"),
    Metric("cpu_per_gb", "cpu s/GB", 4),
]


def small(options: Options, peers: Peers) -> Row:
    load = made(options, KIB, 1000)
    return table(options, peers, load, "http_1k", "1 KiB", PER_REQUEST)


def middle(options: Options, peers: Peers) -> Row:
    load = made(options, 64 * KIB, 1000)
    return table(options, peers, load, "http_64k", "64 KiB", PER_REQUEST)


def large(options: Options, peers: Peers) -> Row:
    """A tenth of the requests: a thousand would take every server seconds."""
    load = made(options, 16 * MIB, 100)
    return table(options, peers, load, "http_16m", "16 MiB", PER_GB)
