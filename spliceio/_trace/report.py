"""Report of a trace as text: sentences and tables from its statistics.

Rule 1: the first line of a program answers the question, the second says yes or no.
Rule 2: a share is only called 100 % when it is, and none is rounded to 0 %.
Rule 3: what cannot be seen is said, and so is what could not be read.
"""

from __future__ import annotations

from .parser import ZERO_COPY
from .stats import KINDS, Count, Paths, Program, Stats

__all__ = ["notes", "report", "summary", "verdict"]

MOST_SHOWN = 10
PLURAL = {
    "socket": "sockets",
    "file": "files",
    "pipe": "pipes",
    "terminal": "terminals",
    "device": "devices",
    "memory": "memory",
    "other": "other descriptors",
    "unknown": "unknown descriptors",
}
UNSEEN = (
    "Not to be seen in a trace: reads and writes of mapped files (mmap), what io_uring moves, and "
    "whether the kernel copies inside a call, as it does to encrypt for kernel TLS."
)


def size(number: int) -> str:
    """Return a number of bytes with two digits that matter: 999 B, 1.2 GB, 16 MB."""
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        value /= 1000
        if value < 9.95:
            return f"{value:.1f} {unit}"
        if value < 999.5:
            return f"{value:.0f} {unit}"
    return f"{value:.0f} EB"


def percent(part: int, whole: int) -> str:
    """Return a share as text."""
    if part == whole:
        return "100 %" if whole else "-"
    share = 100 * part / whole
    return f"{min(99.9, max(0.1, share)) if part else 0:.1f} %"


def summary(program: Program) -> str:
    """Return what went to the main kind of destination, by which calls."""
    kind = program.main
    if kind is None:
        return f"{printable(program.name)}: sent nothing"
    whole = program.final(kind)
    (first, most), *others = [one for one in program.by_call(kind) if one[1].final]
    share = f"{percent(most.final, whole)} of {size(whole)} to {PLURAL[kind]}"
    rest = "".join(f"; {size(count.final)} by {name}" for name, count in others)
    return f"{printable(program.name)}: {share} by {first}{rest}"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def verdict(program: Program) -> str:
    """Return whether the program uses sendfile or another zero-copy call: yes, no or in part."""
    kind = program.main
    if kind is None:
        return "No answer: no bytes were sent."
    where, whole, kept = PLURAL[kind], program.final(kind), program.zero_copy(kind)
    who = printable(program.name)
    used = [name for name, count in program.by_call(kind) if count.final]
    without = _and([name for name in used if name in ZERO_COPY]) if kept else ""
    copying = _and([name for name in used if name not in ZERO_COPY]) if kept < whole else ""
    if kept == whole:
        return f"Yes: {who} uses {without} for all that went to {where}."
    if kept:
        word = "Yes" if 2 * kept >= whole else "In part"
        return (
            f"{word}: {who} uses {without} for {percent(kept, whole)} of what went to "
            f"{where}; the rest went by {copying}, a copy through user memory."
        )
    refused = [
        f" {name} was tried and failed ({', '.join(count.errors)})."
        for name, count in program.by_call(kind)
        if name in ZERO_COPY and count.errors
    ]
    return (
        f"No: with {who}, everything to {where} went by {copying}: "
        f"a copy through user memory.{''.join(refused)}"
    )


def _errors(count: Count) -> str:
    return ", ".join(f"{name} {times}" for name, times in count.errors.most_common())


def _row(end: str, name: str, count: Count, whole: int) -> list[str]:
    moved = [size(count.moved), percent(count.moved, whole)]
    return [end, name, *moved, str(count.calls), size(count.mean), _errors(count)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.rjust(width) if 2 <= place <= 5 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _sent(program: Program) -> list[str]:
    rows, after = [], []
    for kind in KINDS:
        calls = program.by_call(kind)
        whole = sum(count.moved for _, count in calls)
        rows += [
            _row("" if place else PLURAL[kind], name, count, whole)
            for place, (name, count) in enumerate(calls)
        ]
        if through := sum(count.through for _, count in calls):
            after.append(
                f"  Of what went to {PLURAL[kind]}, {size(through)} were spliced on from there "
                "and are counted where they ended up."
            )
        if program.final(kind):
            share = percent(program.zero_copy(kind), program.final(kind))
            after.append(f"  Without a copy to {PLURAL[kind]}: {share}.")
    head = ["to", "by", "bytes", "share", "calls", "mean", "errors"]
    return [*_table(head, rows), *after]


def _taken(program: Program) -> list[str]:
    rows = []
    for kind in KINDS:
        calls = [(name, count) for (end, name), count in program.taken.items() if end == kind]
        whole = sum(count.moved for _, count in calls)
        calls.sort(key=lambda one: (-one[1].moved, one[0]))
        rows += [
            _row("" if place else PLURAL[kind], name, count, whole)
            for place, (name, count) in enumerate(calls)
        ]
    head = ["from", "into user memory by", "bytes", "share", "calls", "mean", "errors"]
    return ["", *_table(head, rows)] if rows else []


def _paths(title: str, paths: Paths, *, ends: bool) -> list[str]:
    if not paths.moved:
        return []
    shown = paths.moved.most_common(MOST_SHOWN)
    numbers = [size(moved) for _, moved in shown]
    width = max(map(len, numbers))
    lines = ["", f"  {title}:"]
    for ((path, kind), _), number in zip(shown, numbers, strict=True):
        to = f" to {PLURAL[kind]}" if ends else ""
        lines.append(f"    {number.rjust(width)}  {printable(path)}{to}")
    if (more := len(paths.moved) - len(shown)) or paths.rest:
        left = paths.moved.total() - sum(moved for _, moved in shown) + paths.rest
        lines.append(f"    {size(left).rjust(width)}  from {more}{'+' * bool(paths.rest)} more")
    return lines


def printable(path: str) -> str:
    """Return a path without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path)


def notes(stats: Stats, unparsed: int) -> list[str]:
    """Return what the figures do not include."""
    said = []
    for program in stats.programs.values():
        who = printable(program.name)
        if program.io_uring:
            said.append(
                f"io_uring was used: {who} entered it {program.io_uring} times, and what "
                "it moved cannot be seen."
            )
        if program.cut:
            said.append(f"{program.cut} calls of {who} had more messages than are shown.")
    if unparsed:
        said.append(f"{unparsed} lines of strace could not be read and are not counted.")
    return [*said, UNSEEN]


def report(stats: Stats, unparsed: int) -> str:
    """Return the whole report."""
    programs = sorted(stats.programs.values(), key=lambda one: (-one.total, one.name))
    active = [program for program in programs if program.sent]
    silent = [printable(program.name) for program in programs if not program.sent]
    lines = []
    for program in active:
        lines += [summary(program), verdict(program), "", *_sent(program), *_taken(program)]
        lines += _paths("Sent without a copy", program.served, ends=True)
        kind = program.main
        if kind is None or 2 * program.zero_copy(kind) < program.final(kind):
            lines += _paths("Files read into user memory", program.files_read, ends=False)
        lines.append("")
    if silent:
        lines += [f"Only read, and sent nothing: {', '.join(silent)}.", ""]
    if not programs:
        lines += ["Nothing was seen: none of the traced I/O calls was made.", ""]
    return "\n".join([*lines, *notes(stats, unparsed), ""])
