"""The measured rows as a table that a person can read, and as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Row
from benchmarks.peers import versions

VERDICT = {True: "met", False: "MISSED", None: ""}


def columns(lines: list[list[str]]) -> Iterable[str]:
    """Lay out the first column to the left, the others to the right, as wide as they need."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        yield "  " + "   ".join(cells).rstrip()


def figure(contestant: Contestant, metric: Metric) -> list[str]:
    low, high = contestant.spread(metric.name)
    digits = metric.digits
    return [
        f"{contestant.median(metric.name):.{digits}f}",
        f"{low:.{digits}f} .. {high:.{digits}f}",
    ]


def text(row: Row) -> str:
    """One row: its contestants, then its ratios beside their targets, then how it was measured."""
    head = [""]
    for metric in row.metrics:
        head += [metric.label, "min .. max"]
    lines = [head]
    for contestant in row.contestants:
        cells = [contestant.name]
        for metric in row.metrics:
            cells += figure(contestant, metric)
        lines.append(cells)
    out = [f"{row.name}: {row.title}", *columns(lines)]
    out += [f"  {name}: missing, {why}" for name, why in row.missing.items()]
    labels = {metric.name: metric.label for metric in row.metrics}
    ratios = [["ratio of medians", "of", "", "target", ""]]
    for target in row.targets:
        ratio = row.ratio(target)
        ratios.append(
            [
                f"{target.ours} / {target.peer}" if target.peer else f"{target.ours}, itself",
                labels[target.metric],
                "-" if ratio is None else f"{ratio:.3f}",
                f"{target.bound[0]} {target.bound[1]}" if target.bound else "",
                "not measured" if ratio is None else VERDICT[target.met(ratio)],
            ]
        )
    out += ["", *columns(ratios), ""]
    out += [f"  {note}" for note in row.notes]
    if row.disturbed > 0.05:
        out.append(
            f"  Disturbed: other work took {row.disturbed:.0%} of the machine's processors "
            "meanwhile; measure again when it is idle."
        )
    return "\n".join(out) + "\n"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def spliceio_version() -> str:
    """Asked of the interpreter that the contestants run on."""
    code = "import spliceio; print(spliceio.__version__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SystemExit(
            "benchmarks: spliceio is not installed for this Python: "
            + (said[-1] if said else "import failed")
        )
    return done.stdout.strip()


def machine() -> dict[str, object]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def about(*, smoke: bool, rounds: int) -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "spliceio": spliceio_version(),
        "peers": versions(),
        "smoke": smoke,
        "rounds": rounds,
    }


def as_data(row: Row) -> dict[str, object]:
    targets = []
    for target in row.targets:
        ratio = row.ratio(target)
        targets.append(
            {
                "ours": target.ours,
                "peer": target.peer,
                "metric": target.metric,
                "ratio": ratio,
                "bound": list(target.bound) if target.bound else None,
                "met": None if ratio is None else target.met(ratio),
            }
        )
    return {
        "title": row.title,
        "contestants": {
            one.name: {
                "median": {metric.name: one.median(metric.name) for metric in row.metrics},
                "samples": one.samples,
            }
            for one in row.contestants
        },
        "missing": row.missing,
        "disturbed": round(row.disturbed, 3),
        "targets": targets,
        "notes": row.notes,
    }


def write(path: Path, head: dict[str, object], rows: list[Row]) -> None:
    whole = {**head, "rows": {row.name: as_data(row) for row in rows}}
    path.write_text(json.dumps(whole, indent=1) + "\n")
