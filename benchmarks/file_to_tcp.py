"""Row 4: a page-cached file to a TCP connection on loopback, to a receiver that copies nothing.

Judged is the sender with a processor to itself. On loopback the kernel does part of the receiver's
work on the sender's time, all the more when both share a processor: that is shown beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
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
# That of peers/send_file.py.
HEADER = bytes(200)

Command = Callable[[int, Path, int], Sequence[object]]


def sender(method: str) -> Command:
    return lambda port, path, times: python("send_file.py", method, port, path, times)


def said_by(out: bytes, wanted: str | None) -> tuple[int, float]:
    """Read what a sender printed, bytes and cpu seconds; it must have used the `wanted` method."""
    if wanted is None:
        moved, cpu = out.split()
        return int(moved), float(cpu)
    report = json.loads(out)
    if report["method"] != wanted:
        raise Failed(f"the sender used {report['method']}, not {wanted}")
    return report["moved"], report["cpu"]


def timed(
    peers: Peers,
    command: Command,
    path: Path,
    times: int,
    wanted: str | None,
    place: Placement,
    head: bytes,
) -> Sample:
    with ExitStack() as stack:
        with on_processors(place.others):
            sink = stack.enter_context(started([peers.c("tcp_sink")], stdout=subprocess.PIPE))
        port = int(line_from(sink))
        with on_processors(place.tested):
            process = stack.enter_context(
                started(command(port, path, times), stdout=subprocess.PIPE)
            )
        sent, cpu = said_by(finish(process)[0], wanted)
        moved, took = finish(sink)[0].split()
    size = (path.stat().st_size + len(head)) * times
    if not sent == int(moved) == size:
        raise WrongBytes(f"of {size} bytes {sent} were reported sent and {int(moved)} came")
    return {
        "gb_per_s": size / float(took) / GB,
        "cpu_per_gb": cpu / (size / GB),
        "bytes": size,
    }


def check(command: Command, path: Path, digest: bytes, head: bytes) -> None:
    """Send the file once, receive it in user space and compare by SHA-256."""
    got, before = hashlib.sha256(), bytearray()

    def receive(server: socket.socket) -> None:
        peer, _ = server.accept()
        peer.settimeout(PATIENCE)
        with peer:
            while data := peer.recv(MIB):
                taken = len(head) - len(before)
                before.extend(data[:taken])
                got.update(data[taken:])

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        thread = threading.Thread(target=receive, args=(server,), daemon=True)
        thread.start()
        port = server.getsockname()[1]
        with started(command(port, path, 1), stdout=subprocess.PIPE) as process:
            finish(process)
        thread.join()
    if got.digest() != digest or before != head:
        raise WrongBytes("the hash of what was received is not the file's")


def random_file(path: Path, size: int) -> bytes:
    """Make it, and leave it in the page cache with nothing to write back; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.digest()


def row(options: Options, peers: Peers) -> Row:
    size, times = (4 * MIB, 2) if options.smoke else (512 * MIB, 4)
    path = options.workdir / "file"
    digest = random_file(path, size)
    c_loop = peers.c("tcp_sendfile")
    contestants = []

    together = ", same processor"
    headed = "spliceio.send_file, with a head"

    def add(name: str, command: Command, wanted: str | None, mark: str, head: bytes = b"") -> None:
        place = placements()["together" if mark else "apart"]
        contestants.append(
            Contestant(
                name + mark,
                run=lambda: timed(peers, command, path, times, wanted, place, head),
                verify=lambda: check(command, path, digest, head),
            )
        )

    for mark in ("", together):
        add("spliceio.copy", sender("spliceio"), "sendfile", mark)
        add(headed, sender("spliceio.send_file"), "sendfile", mark, HEADER)
        add("C sendfile loop", lambda *args: [c_loop, *args], None, mark)
        add("socket.sendfile", sender("socket.sendfile"), "sendfile", mark)
        add("read+sendall", sender("read+sendall"), "read_write", mark)
        add("asyncio loop.sendfile", sender("asyncio"), "sendfile", mark)
    ours = "spliceio.copy"
    targets = [
        Target(ours, "C sendfile loop", "gb_per_s", (">=", 0.98)),
        Target(ours, "read+sendall", "gb_per_s", (">=", 2.5)),
        Target(ours, "read+sendall", "cpu_per_gb", ("<=", 0.4)),
        Target(ours, "C sendfile loop", "cpu_per_gb", None),
        Target(headed, "C sendfile loop", "gb_per_s", None),
        Target(headed, "C sendfile loop", "cpu_per_gb", None),
        Target(ours, "socket.sendfile", "gb_per_s", None),
        Target(ours, "asyncio loop.sendfile", "gb_per_s", None),
    ]
    for peer in ("C sendfile loop", "read+sendall"):
        for metric in ("gb_per_s", "cpu_per_gb"):
            targets.append(Target(ours + together, peer + together, metric, None))
    return Row(
        name="file_to_tcp",
        title="file -> TCP, page-cached",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        targets=targets,
        notes=[
            f"A file of {size // MIB} MiB, sent {times} times over one connection.",
            f"With a head: {len(HEADER)} bytes of memory go before the file, each time.",
            "The receiver drops the bytes uncopied (MSG_TRUNC); "
            "cpu is that of the sending process, for the sending alone.",
            "Judged with the sender on a processor of its own; shown with both on one as well.",
        ],
    )
