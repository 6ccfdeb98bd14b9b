"""Processes in /proc: their children, names and tracers.

Every answer may be out of date by the time it is read; a process that is gone is no error here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence

__all__ = ["children", "descendants", "program_of", "refusal", "threads", "traced_by"]


def children(pid: int) -> list[int]:
    """Return the children of each thread of a process, where they can be seen."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def descendants(pids: Sequence[int]) -> list[int]:
    """Return the processes themselves and all that they have started, each once."""
    found: dict[int, None] = {}
    queue = list(pids)
    while queue:
        pid = queue.pop(0)
        if pid not in found:
            found[pid] = None
            queue += children(pid)
    return list(found)


def _status(pid: int, field: str) -> str | None:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="surrogateescape") as file:
            found = re.search(rf"^{field}:\t(.*)$", file.read(), re.M)
    except OSError:
        return None
    return found[1] if found else None


def traced_by(tracer: int) -> list[int]:
    """Return the processes that a process traces."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if _status(pid, "TracerPid") == str(tracer)]


def threads(pids: Sequence[int]) -> dict[int, str]:
    """Return the threads of some processes without their leaders, and their programs' names."""
    found: dict[int, str] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            name = _status(pid, "Name") or "?"
            found |= {int(tid): name for tid in os.listdir(f"/proc/{pid}/task") if int(tid) != pid}
    return found


def program_of(pid: int, comm: str | None, known: Mapping[int, str]) -> str:
    """Return the program's name of a thread: threads have names of their own, their leader has its.

    `known` has the names of those that may have ended since. A thread that has begun and ended in
    the trace goes by its own name: strace prints nothing else of it.
    """
    leader = _status(pid, "Tgid")
    if leader is None:
        return known.get(pid) or comm or "?"
    if comm is not None and int(leader) == pid:
        return comm
    return _status(int(leader), "Name") or comm or "?"


def refusal(pid: int) -> str:
    """Return why a process could not be attached to, and what to do."""
    name = _status(pid, "Name")
    if name is None:
        return f"no process has the PID {pid}"
    tracer = _status(pid, "TracerPid")
    if tracer not in (None, "0"):
        return f"{pid} ({name}) is already traced, by process {tracer}; one tracer at a time"
    return (
        f"{pid} ({name}): the kernel refuses to trace it; be root, or own it with "
        "`sysctl kernel.yama.ptrace_scope=0`; in a container, add the capability SYS_PTRACE"
    )
