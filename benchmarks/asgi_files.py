"""Files over ASGI: uvicorn with `UvicornProtocol` and `StaticFiles` beside their peers.

The same client, the same load and the same checks as in `http_serve`. The server has a processor
to itself; all of uvicorn run on uvloop and httptools, without an access log.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import http.client
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.http_serve import (
    KIB,
    MIB,
    NGINX,
    PER_GB,
    PER_REQUEST,
    Command,
    Load,
    made,
    nginx,
    serving,
    timed,
)
from benchmarks.peers import Missing, Peers
from benchmarks.processes import PATIENCE, placements, python

RESPONSE = "FileResponse, our protocol"
PLAIN_RESPONSE = "FileResponse, uvicorn"
OURS = "our StaticFiles and protocol"
COPIED = "our StaticFiles, uvicorn"
STARLETTE = "Starlette's StaticFiles, uvicorn"
GRANIAN = "granian's static files"
NOTHING = "an app of uvicorn that does nothing"

UVICORN = {
    RESPONSE: ("response", "ours"),
    PLAIN_RESPONSE: ("response", "plain"),
    OURS: ("ours", "ours"),
    COPIED: ("ours", "plain"),
    STARLETTE: ("starlette", "plain"),
    NOTHING: ("nothing", "plain"),
}
COLD, AT_ONCE = 200, 32

NOTES = [
    "One client for all, in C with one thread: it keeps its connections, "
    "and drops the bodies uncopied (MSG_TRUNC).",
    "cpu is that of the server and its children, by their clocks before and after.",
    "uvicorn: uvloop, httptools, no access log. granian: one worker, no access log. "
    "nginx: one worker, sendfile on, no access log.",
]

Bounds = list[tuple[str, str, str, tuple[str, float]]]


def uvicorn_command(name: str) -> Command:
    script = python("serve_asgi.py")
    return lambda port, folder: [*script, port, folder, *UVICORN[name]]


def servers(peers: Peers, missing: dict[str, str]) -> dict[str, Command]:
    """Return how to start each; those that this machine lacks go into `missing`."""

    def granian() -> Command:
        interpreter = peers.with_package("granian")
        return lambda port, folder: [
            *(interpreter, "-m", "granian", "--interface", "asgi", "--port", port),
            *("--static-path-route", "", "--static-path-mount", folder),
            *("--log-level", "error", "json:loads"),  # an app that nobody asks
        ]

    found = {name: uvicorn_command(name) for name in UVICORN}
    for name, make in ((NGINX, lambda: nginx(peers)), (GRANIAN, granian)):
        try:
            found[name] = make()
        except Missing as why:
            missing[name] = str(why)
    return found


def table(
    options: Options, peers: Peers, load: Load, name: str, size: str, metrics: list[Metric],
    bounds: Bounds,
) -> Row:  # fmt: skip
    missing: dict[str, str] = {}
    place = placements()["apart"]

    def runs(command: Command) -> Callable[[], Sample]:
        return lambda: timed(peers, command, load, 1, place)

    found = servers(peers, missing)
    if load.size != KIB:
        del found[NOTHING]
    return Row(
        name=name,
        title=f"a file of {size} over ASGI, {load.requests} requests",
        metrics=metrics,
        contestants=[
            Contestant(name, runs(command), lambda: None) for name, command in found.items()
        ],
        targets=[Target(*bound) for bound in bounds],
        missing=missing,
        notes=NOTES,
    )


def small(options: Options, peers: Peers) -> Row:
    bounds: Bounds = [
        (RESPONSE, PLAIN_RESPONSE, "cpu_us", ("<=", 0.5)),
        (OURS, STARLETTE, "cpu_us", ("<=", 0.2)),
        (OURS, GRANIAN, "cpu_us", ("<=", 0.45)),
        (OURS, NGINX, "cpu_us", None),
        (COPIED, STARLETTE, "cpu_us", None),
        (NOTHING, GRANIAN, "cpu_us", None),
    ]
    load = made(options, KIB, 10000)
    return table(options, peers, load, "asgi_1k", "1 KiB", PER_REQUEST, bounds)


def middle(options: Options, peers: Peers) -> Row:
    bounds: Bounds = [
        (OURS, STARLETTE, "cpu_us", ("<=", 0.25)),
        (OURS, GRANIAN, "cpu_us", None),
        (RESPONSE, PLAIN_RESPONSE, "cpu_us", None),
        (OURS, NGINX, "cpu_us", None),
    ]
    load = made(options, 64 * KIB, 5000)
    return table(options, peers, load, "asgi_64k", "64 KiB", PER_REQUEST, bounds)


def large(options: Options, peers: Peers) -> Row:
    bounds: Bounds = [
        (RESPONSE, PLAIN_RESPONSE, "cpu_per_gb", ("<=", 0.2)),
        (RESPONSE, NGINX, "cpu_per_gb", ("<=", 1.5)),
        (OURS, NGINX, "gb_per_s", (">=", 0.95)),
        (OURS, NGINX, "cpu_per_gb", None),
        (OURS, GRANIAN, "cpu_per_gb", None),
    ]
    load = made(options, 16 * MIB, 100)
    return table(options, peers, load, "asgi_16m", "16 MiB", PER_GB, bounds)


# -- files that have to be read from their disk ----------------------------------------------------


def made_cold(options: Options) -> tuple[Path, dict[str, bytes], Load]:
    """Make the files, each of a megabyte, and one for the check of each server."""
    folder = options.workdir / "cold"
    folder.mkdir()
    files = {}
    for number in range(10 if options.smoke else COLD):
        body = os.urandom(MIB)
        files[f"f{number}"] = hashlib.sha256(body).digest()
        (folder / f"f{number}").write_bytes(body)
    (folder / "file").write_bytes(b"known")
    return folder, files, Load(folder, 5, hashlib.sha256(b"known").digest(), 1)


def forget(folder: Path) -> None:
    """Let the kernel forget what is in the files."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def got(port: int, target: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as link:
        link.request("GET", target)
        answer = link.getresponse()
        if answer.status != 200:
            raise WrongBytes(f"status {answer.status}")
        return answer.read()


def stalled(command: Command, folder: Path, files: dict[str, bytes], load: Load) -> Sample:
    with ExitStack() as stack:
        place = placements()["anywhere"]
        port, _ = stack.enter_context(serving(command, load, place))
        # The same server, which is asked for nothing: what the machine itself does to a loop.
        idle, _ = stack.enter_context(serving(command, load, place))
        got(port, "/stall")  # it begins to measure
        forget(folder)
        for each in (port, idle):
            got(each, "/stall")
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            bodies = pool.map(lambda name: hashlib.sha256(got(port, f"/{name}")).digest(), files)
            if list(bodies) != list(files.values()):
                raise WrongBytes("a file that is not as it was")
        return {
            "stall_ms": float(got(port, "/stall")),
            "idle_ms": float(got(idle, "/stall")),
        }


def cold(options: Options, peers: Peers) -> Row:
    folder, files, load = made_cold(options)

    def runs(name: str) -> Callable[[], Sample]:
        return lambda: stalled(uvicorn_command(name), folder, files, load)

    names = (OURS, RESPONSE, COPIED, STARLETTE)
    return Row(
        name="asgi_cold",
        title=f"the longest stall of the event loop, {len(files)} files from a disk",
        metrics=[Metric("stall_ms", "ms"), Metric("idle_ms", "ms, idle beside it")],
        contestants=[Contestant(name, runs(name), lambda: None) for name in names],
        targets=[
            Target(OURS, None, "stall_ms", ("<=", 5.0)),
            Target(RESPONSE, None, "stall_ms", ("<=", 5.0)),
            Target(OURS, STARLETTE, "stall_ms", None),
        ],
        notes=[
            f"{AT_ONCE} at once, by a client in Python; what is in the files is forgotten by the "
            "kernel before (POSIX_FADV_DONTNEED).",
            "By a task of the server that sleeps for half a millisecond, again and again.",
        ],
    )
