"""Download a file through spliceio's proxy, and through relays that copy; compare what they cost.

    http.server  ->  relay  ->  http.client  ->  file, whose SHA-256 must be the original's

Three relays, each a process of its own, take turns at the same bytes:

- `spliceio proxy`, which moves them inside the kernel;
- `spliceio proxy --method read_write`, the same engine copying through a buffer;
- a relay written in Python with recv_into() and sendall(), at the end of this file.

The CPU time is the relay process's alone, from its own CPU clock, read before and after each
download. Everything runs on the loopback interface and in one temporary directory; nothing is left
behind. The exit status is 1 if a download differs from the original, or if the first relay did not
splice.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

MIB = 1 << 20
HOST = "127.0.0.1"
LAST_START = 30  # seconds; on a slow machine, no round starts later than this
LONGEST_RUN = 55  # seconds; later than this is a failure


class Failed(Exception):
    """The demonstration did not show what it set out to show; the text says why."""


@dataclass
class Relay:
    """One relay process and what its downloads cost."""

    name: str
    command: list[str]
    method: str | None = None  # None: to be learnt from the process's own statistics
    process: subprocess.Popen[str] | None = None
    port: int = 0
    gb_per_second: list[float] = field(default_factory=list)
    cpu_per_gb: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far, threads that ended included."""
        assert self.process is not None
        # What clock_getcpuclockid(3) computes: a clock for each process, in the kernel's encoding.
        return time.clock_gettime((~self.process.pid << 3) | 2)


@contextlib.contextmanager
def running(command: list[str], stream: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server until the block ends; yield it and the port named by its first line."""
    # Its own session: Ctrl-C reaches this process alone, which then ends the servers in order.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stream == "stderr" else subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output = process.stderr if stream == "stderr" else process.stdout
        assert output is not None
        line = output.readline()
        match = re.search(r"(?:port |:)(\d+)\b", line)
        if match is None:
            process.kill()
            raise Failed(f"{' '.join(command)} did not start: {line}{output.read()}".strip())
        yield process, int(match[1])
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def make_file(path: Path, size: int) -> str:
    """Write `size` random bytes and return their SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def download(port: int, name: str, into: Path) -> int:
    """Fetch http://HOST:port/name into a file and return the number of bytes."""
    moved = 0
    buffer = memoryview(bytearray(MIB))
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("GET", f"/{name}")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise Failed(f"the server answered {response.status} {response.reason}")
        with open(into, "wb") as file:
            while count := response.readinto(buffer):
                file.write(buffer[:count])
                moved += count
    finally:
        connection.close()
    return moved


def measure(relay: Relay, original: Path, digest: str) -> None:
    """Download once through the relay, check the bytes, and note time and CPU time."""
    copy = original.with_name("downloaded")
    cpu = relay.cpu_seconds()
    start = time.perf_counter()
    moved = download(relay.port, original.name, copy)
    seconds = time.perf_counter() - start
    cpu = relay.cpu_seconds() - cpu
    if sha256(copy) != digest:
        raise Failed(f"{relay.name}: the download's SHA-256 is not the original's")
    relay.gb_per_second.append(moved / seconds / 1e9)
    relay.cpu_per_gb.append(cpu / (moved / 1e9))


def learn_method(relay: Relay, least: int) -> None:
    """End the relay and take from its statistics the method that moved the bytes."""
    assert relay.process is not None
    relay.process.terminate()
    stdout, stderr = relay.process.communicate(timeout=10)
    try:
        stats = json.loads(stdout)
    except ValueError:
        raise Failed(f"{relay.name}: no statistics at its end: {stdout}{stderr}") from None
    if stats["b_to_a"] < least:
        raise Failed(f"{relay.name}: {least} bytes were downloaded, it saw {stats['b_to_a']}")
    by_method = stats["methods"]
    relay.method = max(by_method, key=by_method.__getitem__, default="none")


def show(relays: list[Relay], size: int, rounds: int) -> None:
    """Print the table."""
    width = max(len(relay.name) for relay in relays)
    print(f"\n{'relay':{width}}  {'bytes':>11}  {'GB/s':>6}  {'cpu s/GB':>8}  method")
    for relay in relays:
        speed = statistics.median(relay.gb_per_second)
        cpu = statistics.median(relay.cpu_per_gb)
        print(f"{relay.name:{width}}  {size:11}  {speed:6.2f}  {cpu:8.3f}  {relay.method}")
    ours, *others = ((relay.name, statistics.median(relay.cpu_per_gb)) for relay in relays)
    ratios = [f"{ours[1] / cpu:.2f}x that of {name}" for name, cpu in others]
    print(f"\nThe CPU time of {ours[0]} is {' and '.join(ratios)}.")
    count = len(relays) * rounds
    print(f"Medians of {rounds} rounds; all {count} downloads have the original's SHA-256.")


def demonstrate(directory: Path, size: int, rounds: int) -> None:
    """Make the file, start the servers, measure in turns, print the table."""
    original = directory / "original"
    print(f"making a file of {size // MIB} MiB of random bytes ...", flush=True)
    digest = make_file(original, size)
    print(f"SHA-256 {digest}", flush=True)

    serve = ["-u", "-m", "http.server", "0", "--bind", HOST, "--directory", str(directory)]
    with contextlib.ExitStack() as stack:
        _, port = stack.enter_context(running([sys.executable, *serve], "stdout"))
        upstream = f"{HOST}:{port}"
        proxy = [sys.executable, "-m", "spliceio", "proxy", f"{HOST}:0", upstream, "--stats"]
        plain = [sys.executable, __file__, "--relay-to", str(port)]
        relays = [
            Relay("spliceio proxy", proxy),
            Relay("the same, copying", [*proxy, "--method", "read_write"]),
            Relay("plain Python", plain, "recv/sendall"),
        ]
        for relay in relays:
            started = stack.enter_context(running(relay.command, "stderr"))
            relay.process, relay.port = started

        began = time.monotonic()
        for number in range(rounds):
            if number and time.monotonic() - began > LAST_START:
                rounds = number
                break
            print(f"round {number + 1} of {rounds} ...", flush=True)
            # Another order each round, so that no relay is always the one after the slow one.
            first = number % len(relays)
            for relay in relays[first:] + relays[:first]:
                measure(relay, original, digest)
        for relay in relays:
            if relay.method is None:
                learn_method(relay, size * rounds)

    show(relays, size, rounds)
    if relays[0].method != "splice":
        raise Failed(f"{relays[0].name} moved the bytes by {relays[0].method}, not by splice")


def stop(signum: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that everything is cleaned up on the way out."""
    if signum == signal.SIGALRM:
        raise Failed(f"not finished after {LONGEST_RUN} seconds")
    sys.exit(128 + signum)


def main() -> int:
    """Run the demonstration, or, with --relay-to, the Python relay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the file (default 256)")
    parser.add_argument("--rounds", type=int, default=5, help="downloads by relay (default 5)")
    parser.add_argument("--relay-to", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay_to is not None:
        serve_python_relay(options.relay_to)
        return 0
    if options.mib < 1 or options.rounds < 1:
        parser.error("--mib and --rounds are at least 1")

    for signum in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    signal.alarm(LONGEST_RUN)
    size = options.mib * MIB
    try:
        with tempfile.TemporaryDirectory(prefix="spliceio-demo-") as directory:
            free = shutil.disk_usage(directory).free
            if free < 2 * size + 64 * MIB:
                raise Failed(f"{directory} has {free // MIB} MiB free, which is too little")
            demonstrate(Path(directory), size, options.rounds)
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    except (Failed, OSError, http.client.HTTPException) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def serve_python_relay(port: int) -> None:
    """Relay every connection to HOST:port, one thread a direction."""
    with socket.create_server((HOST, 0)) as listener:
        print(f"listening on {HOST}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((HOST, port))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()


def pump(src: socket.socket, dst: socket.socket) -> None:
    """Copy one direction to its end."""
    buffer = memoryview(bytearray(65536))
    try:
        while count := src.recv_into(buffer):
            dst.sendall(buffer[:count])
        dst.shutdown(socket.SHUT_WR)
    except OSError:
        # Either peer went away; the client sees a short download and says so.
        for end in (src, dst):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    sys.exit(main())
