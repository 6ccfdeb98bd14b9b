"""Starting contestants, and what they cost.

Rule 1: nothing that was started outlives its block, whatever goes wrong in it.
Rule 2: no wait is endless. A contestant that hangs is killed, and the run fails with its name.
Rule 3: cpu is that of the process under test alone, and of the moving alone: a Python contestant
        says itself what the moving cost, a C program that does nothing else is charged as a whole,
        and a server is read before and after by its process clock.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0
PEERS = Path(__file__).parent / "peers"

# From the kernel's posix-timers.h: a clock's number carries the inverted pid and the kind of clock.
CPUCLOCK_SCHED = 2


def python(script: str, *args: object) -> list[str]:
    """Return the command that runs a script of peers/ on this interpreter.

    -I, so that an uncompiled checkout in the current folder is not what gets imported.
    """
    return [sys.executable, "-I", str(PEERS / script), *map(str, args)]


class Failed(Exception):
    """A contestant or one of the programs around it ended badly or not at all."""


@contextmanager
def started(command: Sequence[object], **streams: object) -> Iterator[subprocess.Popen[bytes]]:
    """Give the running process; it is killed at the end of the block if it still runs."""
    words = [str(word) for word in command]
    process = subprocess.Popen(words, **streams)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        kill(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it if it still runs; when this returns the kernel has closed all that it had open."""
    if process.poll() is None:
        process.kill()
    process.wait()


def finish(process: subprocess.Popen[bytes], data: bytes | None = None) -> tuple[bytes, bytes]:
    """Wait for a process to end well; give what it wrote on the streams that were piped."""
    try:
        out, err = process.communicate(data, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{name_of(process)} did not end within {PATIENCE:.0f} s") from None
    if process.returncode != 0:
        said = (err or b"").decode(errors="replace").strip()
        raise Failed(f"{name_of(process)} ended with status {process.returncode}: {said}")
    return out or b"", err or b""


def line_from(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for the next line on a process's piped standard output."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    said = process.stdout.readline() if ready else b""
    if not said:
        raise Failed(f"{name_of(process)} did not say what it should have said")
    return said


def finish_charged(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process to end well; the user and system seconds of its whole life."""
    deadline = time.monotonic() + PATIENCE
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            raise Failed(f"{name_of(process)} did not end within {PATIENCE:.0f} s")
        time.sleep(0.001)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{name_of(process)} ended with status {process.returncode}")
    return used.ru_utime + used.ru_stime


def name_of(process: subprocess.Popen[bytes]) -> str:
    return " ".join(map(str, process.args)) if isinstance(process.args, list) else str(process.args)


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have run so far.

    To the nanosecond; /proc/PID/stat counts in hundredths of a second.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listening() -> Iterator[int]:
    """Give the ports that somebody listens on.

    The kernel lists them first: the many thousand connections below them are not even printed.
    """
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                if fields[3] != "0A":
                    break
                yield int(fields[1].rpartition(":")[2], 16)


def wait_for_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on the port.

    By asking /proc: a connection made to find out would be the one that gets served.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        if port in listening():
            return
        if process.poll() is not None:
            raise Failed(f"{name_of(process)} ended with status {process.returncode} at once")
        if time.monotonic() > deadline:
            raise Failed(f"{name_of(process)} does not listen on port {port}")
        time.sleep(0.005)


@dataclass(frozen=True)
class Placement:
    """Where the process under test runs, and where the programs around it do."""

    tested: frozenset[int]
    others: frozenset[int]


def placements() -> dict[str, Placement]:
    """Give the three that rows choose from; on one processor they are all the same."""
    first, *rest = sorted(os.sched_getaffinity(0))
    alone = frozenset(rest[:1] or [first])
    return {
        "apart": Placement(alone, frozenset({first})),
        "together": Placement(frozenset({first}), frozenset({first})),
        "anywhere": Placement(frozenset({first, *rest}), frozenset({first, *rest})),
    }


@contextmanager
def on_processors(wanted: frozenset[int]) -> Iterator[None]:
    """Keep whatever is started in the block on these processors: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def open_files(wanted: int) -> Iterator[None]:
    """Let whatever is started in the block have so many descriptors, or more: that is inherited.

    Above the hard limit it takes CAP_SYS_RESOURCE.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(wanted, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def most_open_files(wanted: int) -> int:
    """Return how many descriptors a process can have here, up to `wanted`."""
    try:
        with open_files(wanted):
            return wanted
    except (ValueError, OSError):
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
