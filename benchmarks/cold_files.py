"""Files that are on their disk, sent from asyncio: who holds up the event loop, and how long."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from statistics import median

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

NAMES = ("spliceio.aio.send_file", "loop.sock_sendfile")


def row(options: Options, peers: Peers) -> Row:
    turns, files = (1, 4) if options.smoke else (3, 32)
    unread: dict[str, Sample] = {}

    def figures(name: str) -> Sample:
        """The first who asks makes both take turns; each reads what it has brought."""
        if name not in unread:
            command = python("time_cold.py", turns, files)
            with started(command, stdout=subprocess.PIPE, cwd=options.workdir) as process:
                for each, spent in json.loads(finish(process)[0]).items():
                    unread[each] = {what: median(took) for what, took in spent.items()}
        return unread.pop(name)

    def reads(name: str) -> Callable[[], Sample]:
        return lambda: figures(name)

    return Row(
        name="cold_files",
        title=f"{files} files of 4 MiB at once, read from their disk, in asyncio",
        metrics=[Metric("stall", "ms the loop stood still"), Metric("whole", "ms in all")],
        # The script counts the bytes that arrive, in every round.
        contestants=[Contestant(name, reads(name), lambda: None) for name in NAMES],
        targets=[
            Target(NAMES[0], None, "stall", ("<=", 5.0)),
            Target(*NAMES, "stall", ("<=", 0.2)),
            Target(*NAMES, "whole", ("<=", 1.0)),
        ],
        notes=[
            "The pages of all files are dropped before each turn; the reader is another process. "
            "The stall is the longest time between two turns of a task that only yields; a process "
            "that loses its processor to others stands still too.",
        ],
    )
