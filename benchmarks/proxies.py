"""TCP relays as processes: how each is started, and that each gives back what it got.

All listen on one port of 127.0.0.1 and connect each client to another. What they print on standard
error is dropped: with every connection that is reset at the end of a round most have a word to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness import Options, WrongBytes
from benchmarks.peers import Missing, Peers
from benchmarks.processes import (
    PATIENCE,
    Failed,
    free_port,
    line_from,
    python,
    started,
    wait_for_listener,
)

MIB = 1024 * 1024

OURS = "spliceio proxy"
HAPROXY = "haproxy"
UNSPLICED = "haproxy, no splicing"
GO = "Go io.Copy"
ASYNCIO = "asyncio streams"
LEAST = "C epoll loop"
TOGETHER = ", same processor"


@dataclass(frozen=True)
class Relay:
    """How to start one, given the port to listen on and the one to connect to.

    `reports`: it prints what it moved, and by which methods: after each connection, or, `at_end`,
    for all of them when it is told to end.
    """

    command: Callable[[int, int], Sequence[object]]
    reports: bool = False
    at_end: bool = False


def spliceio_proxy() -> Relay:
    return Relay(
        lambda listen, upstream: [
            *(sys.executable, "-I", "-m", "spliceio", "proxy"),
            *(f"127.0.0.1:{listen}", f"127.0.0.1:{upstream}", "--stats"),
        ],
        reports=True,
        at_end=True,
    )


def in_python(method: str, *computing: int, reports: bool = False) -> Relay:
    """One of peers/relay_tcp.py; `computing`: the processor of a thread that computes beside it."""
    return Relay(
        lambda listen, upstream: python("relay_tcp.py", method, listen, upstream, *computing),
        reports=reports,
    )


def haproxy(
    peers: Peers, *, pipe_size: int | None = None, maxconn: int = 256, splicing: bool = True
) -> Relay:
    tool = peers.tool("haproxy")

    def command(listen: int, upstream: int) -> Sequence[object]:
        config = peers.haproxy_config(
            listen, upstream, pipe_size=pipe_size, maxconn=maxconn, splicing=splicing
        )
        return [tool, "-db", "-q", "-f", config]

    return Relay(command)


def go(options: Options, peers: Peers) -> Relay:
    if options.smoke:
        raise Missing("not built in a smoke run")
    binary = peers.go("tcp_copy")
    return Relay(lambda listen, upstream: [binary, listen, upstream])


def c_program(peers: Peers, name: str) -> Relay:
    """One of peers/*.c."""
    binary = peers.c(name)
    return Relay(lambda listen, upstream: [binary, listen, upstream])


def present(makers: Mapping[str, Callable[[], Relay]], missing: dict[str, str]) -> dict[str, Relay]:
    """Make those that this machine can run; the others go into `missing`."""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except Missing as why:
            missing[name] = str(why)
    return found


@contextmanager
def serving(relay: Relay, upstream: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a relay and wait until it listens; give its port and its process."""
    port = free_port()
    out = subprocess.PIPE if relay.reports else subprocess.DEVNULL
    command = relay.command(port, upstream)
    with started(command, stdout=out, stderr=subprocess.DEVNULL) as process:
        wait_for_listener(port, process)
        yield port, process


def believe(relay: Relay, process: subprocess.Popen[bytes], there: int, back: int) -> None:
    """Compare what the relay says it did with what was seen: the bytes, and that it spliced them.

    The odd read that is no splice belongs to it: the first one of a connection, say.
    """
    if relay.at_end:
        process.terminate()
    said = json.loads(line_from(process))
    if (said["a_to_b"], said["b_to_a"]) != (there, back):
        raise WrongBytes(f"{there} and {back} bytes went through, the relay says {said}")
    if said["methods"].get("splice", 0) < 0.9 * (there + back):
        raise Failed(f"the relay did not splice: {said}")


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
                believe(relay, process, size, size)
