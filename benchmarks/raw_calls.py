"""Row 1: what one raw call costs beside the standard library's, in one process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

NAMES = ("os.splice", "spliceio.splice", "os.splice + except", "spliceio.try_splice")


def row(options: Options, peers: Peers) -> Row:
    """Take the turns inside one process, where they are milliseconds apart.

    The first contestant of a round runs them, and the others read what it brought.
    """
    batches = 5 if options.smoke else 100
    turns = 3 if options.smoke else 15
    brought: dict[str, float] = {}

    def run_all() -> None:
        command = python("time_splice.py", turns, batches)
        with started(command, stdout=subprocess.PIPE) as process:
            for name, spent in json.loads(finish(process)[0]).items():
                brought[name] = sorted(spent)[len(spent) // 2]

    def reads(name: str) -> Callable[[], Sample]:
        def run() -> Sample:
            if name == NAMES[0]:
                run_all()
            return {"ns": brought[name]}

        return run

    return Row(
        name="raw_calls",
        title="one raw splice of 1 byte, pipe to pipe; the same from an empty pipe",
        metrics=[Metric("ns", "ns a call", 0)],
        # The script compares every byte it gets out, in every round.
        contestants=[Contestant(name, reads(name), lambda: None) for name in NAMES],
        targets=[
            Target("spliceio.splice", "os.splice", "ns", ("<=", 1.5)),
            Target("spliceio.try_splice", "os.splice + except", "ns", ("<=", 0.6)),
        ],
        notes=[
            f"Each figure of a round is a median of {turns} turns of {batches} batches; "
            "filling and emptying the pipes is outside the clock, an empty loop is subtracted.",
        ],
    )
