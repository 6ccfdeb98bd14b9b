"""Small work: one call of a few bytes beside what one would write without this library.

All contestants take turns in one process, warm; what is compared is the door to the system call,
not the call.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from statistics import median

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

WORKS = {
    "file -> TCP, 1 KiB": ("spliceio.copy", "os.sendfile", "us", 2.0),
    "100 B + file of 1 KiB -> TCP": ("spliceio.send_file", "sendall(head + pread)", "us", 2.0),
    "pipe -> pipe, 1000 B": ("spliceio.copy", "os.splice", "us", 2.5),
    "socket -> socket, 1000 B": ("spliceio.copy", "recv + send", "us", 2.0),
    "1000 B -> pipe and socket": ("spliceio.fanout", "read + 2 writes", "us", 3.0),
    "an empty relay": ("RelayPool.submit .. result", "two threads made and joined", "us", 0.5),
    "in asyncio, 1 KiB": ("spliceio.aio.send_file", "loop.sock_sendfile", "cpu_us", 0.7),
    "in asyncio, 64 KiB": ("spliceio.aio.send_file", "loop.sock_sendfile", "cpu_us", 0.8),
    "in asyncio, 1 MiB": ("spliceio.aio.send_file", "loop.sock_sendfile", "cpu_us", 1.0),
}


def row(options: Options, peers: Peers) -> Row:
    turns, repeats = (1, 20) if options.smoke else (3, 1000)
    unread: dict[tuple[str, str], Sample] = {}

    def figures(work: str, name: str) -> Sample:
        """The first who asks makes everybody take turns; each reads what it has brought."""
        if (work, name) not in unread:
            command = python("time_small.py", turns, repeats)
            with started(command, stdout=subprocess.PIPE) as process:
                for one, by_name in json.loads(finish(process)[0]).items():
                    for each, spent in by_name.items():
                        unread[one, each] = {what: median(took) for what, took in spent.items()}
        return unread.pop((work, name))

    def reads(work: str, name: str) -> Callable[[], Sample]:
        return lambda: figures(work, name)

    contestants, targets = [], []
    for work, (ours, theirs, metric, bound) in WORKS.items():
        names = [f"{name}: {work}" for name in (ours, theirs)]
        # The script compares every byte that arrives, in every round.
        contestants += [
            Contestant(said, reads(work, name), lambda: None)
            for said, name in zip(names, (ours, theirs), strict=True)
        ]
        targets.append(Target(names[0], names[1], metric, ("<=", bound)))
    return Row(
        name="small_work",
        title="one call of a few bytes, warm, in one process",
        metrics=[Metric("us", "us a call"), Metric("cpu_us", "cpu us a call")],
        contestants=contestants,
        targets=targets,
        notes=[
            f"Each figure of a round is a median of {turns} turns of {repeats} calls. The cpu is "
            "that of the process, with all its threads. Of a pipe the write before and the read "
            "after are in the clock for both; elsewhere only the call is.",
        ],
    )
