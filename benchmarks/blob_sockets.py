"""One response body to 64 TCP connections on loopback, one after the other, by one thread.

Shown with the sender on a processor of its own, and with both on one: on loopback the kernel does
part of the receiver's work on the sender's time.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Peers
from benchmarks.processes import (
    PATIENCE,
    Failed,
    Placement,
    finish,
    line_from,
    on_processors,
    placements,
    python,
    started,
)

GB = 1e9
MIB = 1024 * 1024
CONNECTIONS = 64

BLOB = "send_file(Blob)"
SENDFILE = "os.sendfile of its memfd"
SENDALL = "socket.sendall"


def timed(peers: Peers, way: str, wanted: str, path: Path, rounds: int, place: Placement) -> Sample:
    with ExitStack() as stack:
        with on_processors(place.others):
            sinks = stack.enter_context(
                started([peers.c("tcp_sinks"), CONNECTIONS], stdout=subprocess.PIPE)
            )
        port = int(line_from(sinks))
        command = python("blob_sockets.py", way, port, path, CONNECTIONS, rounds)
        with on_processors(place.tested):
            sender = stack.enter_context(started(command, stdout=subprocess.PIPE))
        said = json.loads(finish(sender)[0])
        moved, least, most, took = finish(sinks)[0].split()
    if said["methods"] != [wanted]:
        raise Failed(f"the sender used {', '.join(said['methods'])}, not {wanted}")
    each = path.stat().st_size * rounds
    size = each * CONNECTIONS
    if not said["moved"] == int(moved) == size or not int(least) == int(most) == each:
        raise WrongBytes(f"of {size} bytes {said['moved']} were reported sent, {int(moved)} came")
    return {
        "gb_per_s": size / float(took) / GB,
        "cpu_per_gb": said["cpu"] / (size / GB),
        "bytes": size,
    }


def check(way: str, path: Path) -> None:
    """Send the body once to each connection, receive it in user space, compare by SHA-256."""
    came: list[bytes] = []

    def receive(server: socket.socket) -> None:
        with ExitStack() as stack, selectors.DefaultSelector() as waiting, suppress(TimeoutError):
            for _ in range(CONNECTIONS):
                peer = stack.enter_context(server.accept()[0])
                waiting.register(peer, selectors.EVENT_READ, hashlib.sha256())
            while waiting.get_map() and (ready := waiting.select(PATIENCE)):
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    if data := key.fileobj.recv(MIB):
                        key.data.update(data)
                    else:
                        waiting.unregister(key.fileobj)
                        came.append(key.data.digest())

    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as server:
        server.settimeout(PATIENCE)
        thread = threading.Thread(target=receive, args=(server,), daemon=True)
        thread.start()
        port = server.getsockname()[1]
        command = python("blob_sockets.py", way, port, path, CONNECTIONS, 1)
        with started(command, stdout=subprocess.PIPE) as process:
            finish(process)
        thread.join()
    if came != [hashlib.sha256(path.read_bytes()).digest()] * CONNECTIONS:
        raise WrongBytes(f"{way}: what {CONNECTIONS} connections got is not the body for each")


def row(options: Options, peers: Peers) -> Row:
    size, rounds = (64 * 1024, 2) if options.smoke else (MIB, 40)
    path = options.workdir / "response"
    path.write_bytes(os.urandom(size))
    contestants: list[Contestant] = []
    targets: list[Target] = []

    def add(name: str, way: str, wanted: str, mark: str) -> None:
        place = placements()["together" if mark else "apart"]
        contestants.append(
            Contestant(
                name + mark,
                run=lambda: timed(peers, way, wanted, path, rounds, place),
                verify=lambda: check(way, path),
            )
        )

    for mark in ("", ", same processor"):
        add(BLOB, "blob", "sendfile", mark)
        add(SENDFILE, "sendfile", "sendfile", mark)
        add(SENDALL, "sendall", "sendall", mark)
        targets += [
            Target(BLOB + mark, SENDALL + mark, "cpu_per_gb", None),
            Target(BLOB + mark, SENDALL + mark, "gb_per_s", None),
            Target(SENDFILE + mark, SENDALL + mark, "cpu_per_gb", None),
            Target(BLOB + mark, SENDFILE + mark, "cpu_per_gb", None),
        ]
    return Row(
        name="blob_sockets",
        title=f"one body of memory -> {CONNECTIONS} TCP connections",
        metrics=[Metric("cpu_per_gb", "cpu s/GB", 4), Metric("gb_per_s", "GB/s")],
        contestants=contestants,
        targets=targets,
        notes=[
            f"A body of {size // 1024} KiB to each connection in turn, {rounds} rounds; "
            "blocking sockets, one thread.",
            "The receivers, one process, drop the bytes uncopied (MSG_TRUNC); "
            "cpu is that of the sending process, for the sending alone.",
        ],
    )
