"""One call of `spliceio.copy` from 1 byte to 16 MiB, beside what one would write without it.

At each size the best of the others is what counts: nobody has to know which that is.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

MIB = 1 << 20
SIZES = [4**n for n in range(13)]
OURS = "spliceio.copy"
TITLES = {
    "file-tcp": "file -> TCP",
    "file-unix": "file -> unix socket",
    "socket-file": "TCP -> file",
    "pipe-pipe": "pipe -> pipe",
}


def label(size: int) -> str:
    for unit, name in ((MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def bound(pair: str, size: int) -> tuple[str, float] | None:
    """What the ratio should keep at a size; between the given sizes nothing is promised."""
    if pair != "file-tcp":
        return None
    if size <= 4096:
        return "<=", 2.2
    if size == 65536:
        return "<=", 1.5
    if size >= 4 * MIB:
        return "<=", 1.0
    return ("<=", 1.1) if size >= 262144 else None


def _row(pair: str, options: Options) -> Row:
    turns, most = (1, 4 * MIB) if options.smoke else (5, 64 * MIB)
    unread: dict[str, Sample] = {}

    def figures(name: str) -> Sample:
        """The first who asks makes all sizes run; each reads what that has brought."""
        if name not in unread:
            with started(python("time_sizes.py", pair, turns, most), stdout=subprocess.PIPE) as run:
                for size, found in json.loads(finish(run)[0]).items():
                    took = {one: median(spent) for one, spent in found.items()}
                    ours = took.pop(OURS)
                    unread[f"{OURS}, {label(int(size))}"] = {"cpu_us": ours}
                    unread[f"best, {label(int(size))}"] = {"cpu_us": min(took.values())}
        return unread.pop(name)

    def reads(name: str) -> Callable[[], Sample]:
        return lambda: figures(name)

    names = [(f"{OURS}, {label(size)}", f"best, {label(size)}") for size in SIZES]
    return Row(
        name=f"sweep_{pair.replace('-', '_')}",
        title=f"{TITLES[pair]}, one call from 1 B to 16 MiB, warm",
        metrics=[Metric("cpu_us", "cpu us a call")],
        contestants=[
            # The script compares every byte of each size once, before the clock runs.
            Contestant(name, reads(name), lambda: None)
            for both in names
            for name in both
        ],
        targets=[
            Target(ours, best, "cpu_us", bound(pair, size))
            for (ours, best), size in zip(names, SIZES, strict=True)
        ],
        notes=[
            f"The processor time of the thread that moves the bytes, a median of {turns} turns; "
            "another process feeds and reads. The best of a loop of the one system call and a loop "
            "of read and write, in Python, at each size.",
        ],
    )


def file_tcp(options: Options, peers: Peers) -> Row:
    return _row("file-tcp", options)


def file_unix(options: Options, peers: Peers) -> Row:
    return _row("file-unix", options)


def socket_file(options: Options, peers: Peers) -> Row:
    return _row("socket-file", options)


def pipe_pipe(options: Options, peers: Peers) -> Row:
    return _row("pipe-pipe", options)


def draw(folder: Path, rows: Iterable[Row]) -> None:
    """Draw the ratios of each sweep over the sizes, as SVG; the line at 1 is the best of others."""
    import pygal

    sweeps = [row for row in rows if row.name.startswith("sweep_")]
    if not sweeps:
        return
    chart = pygal.Line(
        title="cpu of spliceio.copy, the best of the others = 1",
        logarithmic=True,
        js=[],
        width=900,
        height=480,
    )
    chart.x_labels = [label(size) for size in SIZES]
    for row in sweeps:
        ratios = [row.ratio(target) for target in row.targets]
        chart.add(row.title.partition(",")[0], [ratio and round(ratio, 2) for ratio in ratios])
    folder.mkdir(parents=True, exist_ok=True)
    chart.render_to_file(str(folder / "sizes.svg"))
