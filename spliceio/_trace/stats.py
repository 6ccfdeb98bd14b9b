"""Statistics of a trace: bytes by program, by kind of destination and by call.

Rule 1: bytes that a program splices into a pipe and on again count once, where they end up; the
        way through the pipe is `through`, so that a relay by splice is one of socket to socket.
Rule 2: memory is bounded: past MOST_PATHS files of a program, the rest are one number, and past
        MOST_PROGRAMS names, the rest are one program.
Rule 3: no words and no printing here.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .parser import TAKES, ZERO_COPY, Call, TraceEnd

__all__ = ["KINDS", "Count", "Paths", "Program", "Stats", "data"]

KINDS = ("socket", "file", "pipe", "terminal", "device", "memory", "other", "unknown")
MOST_PATHS = 10_000
MOST_PIPES = 4096
MOST_PROGRAMS = 1000


@dataclass
class Count:
    """The calls of one name to one kind of destination."""

    calls: int = 0
    moved: int = 0
    through: int = 0  # of what moved: went into a pipe and was spliced on from there
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def final(self) -> int:
        """Bytes that stayed there."""
        return self.moved - self.through

    @property
    def mean(self) -> int:
        """Bytes of a call that did not fail."""
        return round(self.moved / max(1, self.calls - sum(self.errors.values())))

    def add(self, call: Call) -> None:
        """Count one more."""
        self.calls += 1
        self.moved += call.moved
        if call.error is not None:
            self.errors[call.error] += 1


class Paths:
    """Bytes by path, and by the kind of their other end."""

    def __init__(self) -> None:
        self.moved: Counter[tuple[str, str]] = Counter()
        self.rest = 0

    def add(self, path: str, kind: str, moved: int) -> None:
        """Count bytes of a file."""
        if (path, kind) in self.moved or len(self.moved) < MOST_PATHS:
            self.moved[path, kind] += moved
        else:
            self.rest += moved

    def less(self, path: str, kind: str, moved: int) -> None:
        """Take back bytes that were counted, and went on."""
        self.moved[path, kind] -= min(moved, self.moved[path, kind])
        if not self.moved[path, kind]:
            del self.moved[path, kind]


class Program:
    """All calls of the processes of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: dict[tuple[str, str], Count] = {}
        self.taken: dict[tuple[str, str], Count] = {}
        self.served, self.files_read = Paths(), Paths()
        self.io_uring = self.cut = 0

    def final(self, kind: str) -> int:
        """Bytes that ended up in that kind of destination."""
        return sum(count.final for (to, _), count in self.sent.items() if to == kind)

    @property
    def total(self) -> int:
        """Bytes that ended up anywhere."""
        return sum(count.final for count in self.sent.values())

    @property
    def main(self) -> str | None:
        """The main kind of destination: sockets if any byte went there, or that with most bytes."""
        if self.final("socket"):
            return "socket"
        best = max(KINDS, key=self.final)
        return best if self.final(best) else None

    def by_call(self, kind: str) -> list[tuple[str, Count]]:
        """The calls to one kind of destination, the one with the most bytes first."""
        found = [(name, count) for (to, name), count in self.sent.items() if to == kind]
        return sorted(found, key=lambda one: (-one[1].final, -one[1].moved, one[0]))

    def zero_copy(self, kind: str) -> int:
        """Bytes that ended up there without entering user memory."""
        return sum(count.final for name, count in self.by_call(kind) if name in ZERO_COPY)


class Stats:
    """Adds up the calls of a trace."""

    def __init__(self, program_of: Callable[[int, str | None], str]) -> None:
        self.programs: dict[str, Program] = {}
        self._program_of = program_of
        self._names: OrderedDict[tuple[int, str | None], str] = OrderedDict()
        # By pipe: who spliced into it last, from where, and into which count that went.
        self._pipes: OrderedDict[str, tuple[Program, TraceEnd, Count]] = OrderedDict()

    def program(self, pid: int, comm: str | None) -> Program:
        """Return the program that a thread belongs to."""
        if (pid, comm) not in self._names:
            self._names[pid, comm] = self._program_of(pid, comm)
            if len(self._names) > MOST_PIPES:
                self._names.popitem(last=False)
        name = self._names[pid, comm]
        if name not in self.programs and len(self.programs) >= MOST_PROGRAMS:
            name = "other programs"
        return self.programs.setdefault(name, Program(name))

    def add(self, call: Call) -> None:
        """Count one call."""
        program = self.program(call.pid, call.comm)
        program.cut += call.cut
        if call.name == "io_uring_enter":
            program.io_uring += 1
        elif call.name in TAKES:
            program.taken.setdefault((call.src.kind, call.name), Count()).add(call)
            if call.moved and call.src.kind == "file":
                program.files_read.add(call.src.label, "memory", call.moved)
        else:
            count = program.sent.setdefault((call.dst.kind, call.name), Count())
            count.add(call)
            if call.moved and call.name in ZERO_COPY:
                self._spliced(program, call, count)

    def _spliced(self, program: Program, call: Call, count: Count) -> None:
        """Follow bytes through pipes to where they came from."""
        origin = call.src
        if origin.kind == "pipe":
            filler, source, into = self._pipes.get(origin.label, (None, origin, count))
            if filler is program and call.name != "tee":  # tee leaves them in the pipe
                # No more than went in, when the trace began in the middle.
                through = min(call.moved, into.final)
                into.through += through
                program.served.less(_name(source), "pipe", through)
            origin = source
        if call.dst.kind == "pipe":
            self._pipes[call.dst.label] = (program, origin, count)
            self._pipes.move_to_end(call.dst.label)
            if len(self._pipes) > MOST_PIPES:
                self._pipes.popitem(last=False)
        program.served.add(_name(origin), call.dst.kind, call.moved)


def _name(origin: TraceEnd) -> str:
    """Return the label of a source: a pipe without a path is like any other."""
    anonymous = origin.kind == "pipe" and not origin.label.startswith("/")
    return "a pipe" if anonymous else origin.label


def data(program: Program) -> dict[str, Any]:
    """Return the report as data, for JSON."""
    return {
        "name": program.name,
        "destinations": [_destination(program, kind) for kind in KINDS if program.by_call(kind)],
        "read": [
            {"kind": kind, "call": name, **_count(count)}
            for (kind, name), count in sorted(program.taken.items(), key=lambda one: -one[1].moved)
        ],
        "sent_paths": _paths(program.served),
        "read_paths": _paths(program.files_read),
        "io_uring_calls": program.io_uring,
    }


def _destination(program: Program, kind: str) -> dict[str, Any]:
    final, kept = program.final(kind), program.zero_copy(kind)
    return {
        "kind": kind,
        "bytes": final,
        "zero_copy_bytes": kept,
        "zero_copy_share": kept / final if final else None,
        "calls": [{"call": name, **_count(count)} for name, count in program.by_call(kind)],
    }


def _count(count: Count) -> dict[str, Any]:
    return {
        "bytes": count.moved,
        "through": count.through,
        "calls": count.calls,
        "mean": count.mean,
        "errors": dict(count.errors),
    }


def _paths(paths: Paths) -> list[dict[str, Any]]:
    return [
        {"path": path, "to": kind, "bytes": moved}
        for (path, kind), moved in paths.moved.most_common()
    ]
