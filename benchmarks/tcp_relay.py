"""Row 6: bulk from one TCP connection to another through a relay, all on loopback.

Every relay is started for the round, serves one connection, and its process clock is read before
and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Missing, Peers
from benchmarks.processes import (
    PATIENCE,
    Failed,
    Placement,
    cpu_of,
    finish,
    free_port,
    line_from,
    on_processors,
    placements,
    python,
    started,
    wait_for_listener,
)

GB = 1e9
MIB = 1024 * 1024


@dataclass(frozen=True)
class Relay:
    """How to start one, given the port to listen on and the one to connect to.

    `reports`: after each connection it prints what it moved, and by which methods.
    """

    command: Callable[[int, int], Sequence[object]]
    reports: bool = False


@contextmanager
def serving(relay: Relay, upstream: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a relay and wait until it listens; give its port and its process."""
    port = free_port()
    out = subprocess.PIPE if relay.reports else subprocess.DEVNULL
    with started(relay.command(port, upstream), stdout=out) as process:
        wait_for_listener(port, process)
        yield port, process


def believe(process: subprocess.Popen[bytes], there: int, back: int) -> None:
    """Compare what the relay says it did with what was seen: the bytes, and that it spliced them.

    The odd read that is no splice belongs to it: the first one of a connection, say.
    """
    said = json.loads(line_from(process))
    if (said["a_to_b"], said["b_to_a"]) != (there, back):
        raise WrongBytes(f"{there} and {back} bytes went through, the relay says {said}")
    if said["methods"].get("splice", 0) < 0.9 * (there + back):
        raise Failed(f"the relay did not splice: {said}")


def timed(peers: Peers, relay: Relay, seconds: float, place: Placement) -> Sample:
    with ExitStack() as stack:
        with on_processors(place.others):
            sink = stack.enter_context(started([peers.c("tcp_sink")], stdout=subprocess.PIPE))
        upstream = int(line_from(sink))
        with on_processors(place.tested):
            port, process = stack.enter_context(serving(relay, upstream))
        before = cpu_of(process.pid)
        with on_processors(place.others):
            source = stack.enter_context(
                started([peers.c("tcp_source"), port, seconds], stdout=subprocess.PIPE)
            )
        sent = int(finish(source)[0])
        moved, took = finish(sink)[0].split()
        cpu = cpu_of(process.pid) - before
        if relay.reports:
            believe(process, sent, 0)
    if int(moved) != sent:
        raise WrongBytes(f"{sent} bytes went in, {int(moved)} came out")
    return {
        "gb_per_s": sent / float(took) / GB,
        "cpu_per_gb": cpu / (sent / GB),
        "bytes": sent,
    }


def check(relay: Relay, size: int) -> None:
    """Random bytes through the relay, compared by SHA-256 after the same way back."""
    data = os.urandom(size)
    digest = hashlib.sha256(data).digest()

    def echo(server: socket.socket) -> None:
        peer, _ = server.accept()
        peer.settimeout(PATIENCE)
        with peer:
            whole = bytearray()
            while got := peer.recv(MIB):
                whole += got
            peer.sendall(whole)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        thread = threading.Thread(target=echo, args=(server,), daemon=True)
        thread.start()
        with serving(relay, server.getsockname()[1]) as (port, process):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                back = hashlib.sha256()
                while got := sock.recv(MIB):
                    back.update(got)
            thread.join(PATIENCE)
            if back.digest() != digest:
                raise WrongBytes(f"the hash of {size} bytes there and back differs")
            if relay.reports:
                believe(process, size, size)


def row(options: Options, peers: Peers) -> Row:
    seconds = 0.1 if options.smoke else 1.0
    size = (2 if options.smoke else 32) * MIB + 1
    contestants: list[Contestant] = []
    missing: dict[str, str] = {}

    together = ", same processor"
    nonblocking = "spliceio.relay, nonblocking"

    def add(name: str, make: Callable[[], Relay], mark: str) -> None:
        place = placements()["together" if mark else "apart"]
        name += mark
        try:
            relay = make()
        except Missing as why:
            missing[name] = str(why)
            return
        contestants.append(
            Contestant(
                name,
                run=lambda: timed(peers, relay, seconds, place),
                verify=lambda: check(relay, size),
            )
        )

    def in_python(method: str) -> Relay:
        return Relay(
            lambda listen, upstream: python("relay_tcp.py", method, listen, upstream),
            reports=method != "asyncio",
        )

    def haproxy(pipe_size: int | None) -> Relay:
        tool = peers.tool("haproxy")
        return Relay(
            lambda listen, upstream: [
                *(tool, "-db", "-q", "-f"),
                peers.haproxy_config(listen, upstream, pipe_size=pipe_size),
            ]
        )

    def go() -> Relay:
        if options.smoke:
            raise Missing("not built in a smoke run")
        binary = peers.go("tcp_copy")
        return Relay(lambda listen, upstream: [binary, listen, upstream])

    def socat() -> Relay:
        # -t: how long the second direction may go on after the first has ended.
        tool, patience = peers.tool("socat"), int(PATIENCE)
        return Relay(
            lambda listen, upstream: [
                *(tool, "-t", patience),
                f"TCP4-LISTEN:{listen},bind=127.0.0.1,reuseaddr",
                f"TCP4:127.0.0.1:{upstream}",
            ]
        )

    def c_loop() -> Relay:
        binary = peers.c("tcp_splice")
        return Relay(lambda listen, upstream: [binary, listen, upstream])

    for mark in ("", together):
        add("spliceio.relay", lambda: in_python("spliceio"), mark)
        add(nonblocking, lambda: in_python("spliceio-nonblocking"), mark)
        add("C splice loop", c_loop, mark)
        add("haproxy", lambda: haproxy(None), mark)
        add("haproxy, 1 MiB pipes", lambda: haproxy(MIB), mark)
        add("Go io.Copy", go, mark)
        add("socat", socat, mark)
        add("asyncio streams", lambda: in_python("asyncio"), mark)
    ours = "spliceio.relay"
    targets = [
        Target(ours, "haproxy", "cpu_per_gb", ("<=", 0.6)),
        Target(ours, "haproxy", "gb_per_s", (">=", 1.3)),
        Target(ours, "C splice loop", "cpu_per_gb", ("<=", 1.05)),
        Target(ours, "C splice loop", "gb_per_s", None),
        Target(nonblocking, "C splice loop", "cpu_per_gb", None),
        Target(ours, "haproxy, 1 MiB pipes", "cpu_per_gb", None),
        Target(ours, "haproxy, 1 MiB pipes", "gb_per_s", None),
        Target(ours, "Go io.Copy", "cpu_per_gb", None),
        Target(ours, "socat", "cpu_per_gb", None),
        Target(ours, "asyncio streams", "cpu_per_gb", None),
    ]
    for peer in ("haproxy", "C splice loop"):
        for metric in ("cpu_per_gb", "gb_per_s"):
            targets.append(Target(ours + together, peer + together, metric, None))
    return Row(
        name="tcp_relay",
        title="TCP -> TCP, bulk",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        missing=missing,
        targets=targets,
        notes=[
            f"One connection for {seconds} s; the source sends one buffer over and over, "
            "the sink drops the bytes uncopied (MSG_TRUNC).",
            "cpu is that of the relay process, by its clock before and after the connection.",
            "The sockets given to spliceio.relay are blocking ones, as Python makes them; "
            "'nonblocking' is the same with O_NONBLOCK set, as all the other relays have it.",
            "haproxy: mode tcp, splice-auto, splice-request, splice-response, nbthread 1; "
            "its pipes are 64 KiB unless it is told otherwise.",
            "Judged with the relay on a processor of its own and source and sink on another; "
            "shown with all on one as well.",
        ],
    )
