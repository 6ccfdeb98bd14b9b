"""Rounds, medians, ratios and targets; it knows nothing of pipes or sockets.

Rule 1: a contestant first proves on one round of its own that the bytes come out right; only then
        is it timed.
Rule 2: rounds alternate (ABCABC). A median of A is only ever compared with one of B from the same
        run.
Rule 3: a contestant that is not there is named with the reason; it never just goes missing.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Sample = dict[str, float]

# The parent of all kernel threads.
KTHREADD = 2


class WrongBytes(Exception):
    """What came out is not what went in: no figure of this contestant is worth anything."""


@dataclass(frozen=True)
class Options:
    """How large a run: every row scales itself by these."""

    smoke: bool
    rounds: int
    workdir: Path


@dataclass(frozen=True)
class Metric:
    """A column. `name` is its key in a Sample."""

    name: str
    label: str
    digits: int = 2


@dataclass
class Contestant:
    """`run` is one timed round; `verify` moves known bytes and raises WrongBytes."""

    name: str
    run: Callable[[], Sample]
    verify: Callable[[], None]
    samples: list[Sample] = field(default_factory=list)

    def median(self, metric: str) -> float:
        return statistics.median(sample[metric] for sample in self.samples)

    def spread(self, metric: str) -> tuple[float, float]:
        values = [sample[metric] for sample in self.samples]
        return min(values), max(values)


@dataclass(frozen=True)
class Target:
    """`metric` of `ours` divided by that of `peer`, and the bound it should keep.

    Without a bound the ratio is shown, not judged. Without a peer it is the median itself that
    should keep the bound: for a count, or for what each round has compared by itself.
    """

    ours: str
    peer: str | None
    metric: str
    bound: tuple[str, float] | None

    def met(self, ratio: float) -> bool | None:
        if self.bound is None:
            return None
        sign, limit = self.bound
        return ratio <= limit if sign == "<=" else ratio >= limit


@dataclass
class Row:
    """One row of the table: who runs, what is measured, what should hold."""

    name: str
    title: str
    metrics: list[Metric]
    contestants: list[Contestant]
    targets: list[Target]
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    disturbed: float = 0.0
    """The share of the machine's processors that went to other work while this row ran."""

    def find(self, name: str) -> Contestant | None:
        return next((one for one in self.contestants if one.name == name), None)

    def ratio(self, target: Target) -> float | None:
        ours = self.find(target.ours)
        if ours is None:
            return None
        if target.peer is None:
            return ours.median(target.metric)
        peer = self.find(target.peer)
        if peer is None:
            return None
        below = peer.median(target.metric)
        return ours.median(target.metric) / below if below else None


def foreign_seconds() -> float:
    """Sum up the processor seconds of all processes but this one and its children.

    Read from each process's own count and that of the children it has waited for. Not from
    /proc/stat, which also has the kernel's network work, and here that is ours.
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if path.parent.name != str(os.getpid()) and fields[1] != str(KTHREADD):
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(row: Row, rounds: int) -> None:
    """Verify everybody, then run the rounds in turns."""
    for contestant in row.contestants:
        contestant.verify()
    began, foreign = time.monotonic(), foreign_seconds()
    for turn in range(rounds):
        print(f"\r{row.name}: round {turn + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for contestant in row.contestants:
            contestant.samples.append(contestant.run())
    spent = time.monotonic() - began
    foreign = max(0.0, foreign_seconds() - foreign)
    row.disturbed = foreign / spent / (os.cpu_count() or 1)
    print(file=sys.stderr)
