"""What other threads and processes are doing, as the kernel sees it; no clock is asked.

Waiting here is polling /proc until a state is reached. The watchdog of conftest.py ends a test
whose state never comes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

_YIELDS = 20
_FIRST_NAP, _LONGEST_NAP = 20e-6, 1e-3


def until(condition: Callable[[], object]) -> None:
    """Let others run until the condition holds.

    At first by giving way, then by naps of up to a millisecond: who asks all the time takes the
    processor, and the interpreter's lock, from those that it waits for.
    """
    for _ in range(_YIELDS):
        if condition():
            return
        os.sched_yield()
    nap = _FIRST_NAP
    while not condition():
        time.sleep(nap)
        nap = min(2 * nap, _LONGEST_NAP)


def thread_state(tid: int, pid: int | str = "self") -> str:
    """Return R, S, D, ... of a thread; "gone" when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return stat.rpartition(")")[2].split()[0]


def syscall_of(tid: int) -> int | None:
    """Return the number of the system call that a thread sleeps in; None while it runs.

    One that another processor is about to wake still shows the call, but is no longer asleep.
    """
    if thread_state(tid) not in ("S", "D"):
        return None
    try:
        first = Path(f"/proc/self/task/{tid}/syscall").read_text().split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(first) if first.lstrip("-").isdigit() else None


def process_state(pid: int) -> str:
    """Return R, S, D, Z, ... of a process; "gone" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return stat.rpartition(")")[2].split()[0]


class Worker(threading.Thread):
    """A thread that keeps what its function returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.value: object = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.function()
        except BaseException as error:
            self.error = error

    def result(self) -> object:
        """Wait for the end; return or raise what the function did."""
        self.join()
        if self.error is not None:
            raise self.error
        return self.value

    def asleep(self) -> bool:
        """Say whether it waits in the kernel now."""
        return self.native_id is not None and thread_state(self.native_id) in ("S", "D")


def close_spare_pipes() -> None:
    """Close the empty pipes that the package keeps, if it is loaded at all."""
    flow = sys.modules.get("spliceio._transfer.flow")
    if flow is not None:
        flow.lib.sio_test_trim(flow.spares)


def descriptors() -> dict[int, str]:
    """Return what every descriptor of this process points at.

    The pipes that blocking calls keep for the next one are closed before: what is left is
    somebody's.
    """
    close_spare_pipes()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


def children(pid: int) -> list[int]:
    """Return the numbers of the processes that a process has started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(number) for number in text.split()]


FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238, "i686": 240}[
    os.uname().machine
]
"""The system call of a thread that only waits for the interpreter's lock."""


@contextlib.contextmanager
def no_more_descriptors(spare: int = 0):
    """Let this process open `spare` more descriptors, and no other."""
    close_spare_pipes()
    free = [os.dup(2) for _ in range(spare + 1)]
    for fd in free:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
