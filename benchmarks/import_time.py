"""The last row: what an import costs a cold interpreter with warm files."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target, WrongBytes
from benchmarks.peers import Peers
from benchmarks.processes import finish, started

STATEMENTS = {
    "import spliceio": "spliceio",
    "from spliceio import copy": "spliceio",
    "import ssl": "ssl",
}


def wall(statement: str) -> float:
    start = time.perf_counter()
    with started([sys.executable, "-I", "-c", statement]) as process:
        process.wait()
        spent = time.perf_counter() - start
        finish(process)
    return spent * 1e3


def imported(statement: str) -> None:
    """Check that the statement really loads what it names."""
    module = STATEMENTS[statement]
    code = f"{statement}\nimport sys\nprint(getattr(sys.modules[{module!r}], '__file__', None))"
    with started([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE) as process:
        origin = finish(process)[0].decode().strip()
    if not origin or origin == "None":
        raise WrongBytes(f"{statement}: nothing was loaded")


def by_importtime(statement: str) -> float:
    """Return the milliseconds that the interpreter itself counts for one statement's imports."""
    command = [sys.executable, "-I", "-X", "importtime", "-c", statement]
    with started(command, stderr=subprocess.PIPE) as process:
        lines = finish(process)[1].decode().splitlines()
    # self | cumulative | name, indented by depth. What comes before `site` is the start-up's own.
    found = [re.match(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)", line) for line in lines]
    rows = [match.groups() for match in found if match]
    names = [name for *_, name in rows]
    begin = names.index("site") + 1
    return sum(int(spent) for spent, *_ in rows[begin:]) / 1e3


def row(options: Options, peers: Peers) -> Row:
    runs = 2 if options.smoke else 12

    def measured(statement: str) -> Callable[[], Sample]:
        def run() -> Sample:
            beyond, counted = [], []
            for _ in range(runs):
                bare = wall("pass")
                beyond.append(wall(statement) - bare)
                counted.append(by_importtime(statement))
            middle = runs // 2
            return {"ms": sorted(beyond)[middle], "counted": sorted(counted)[middle]}

        return run

    return Row(
        name="import_time",
        title="import spliceio",
        metrics=[Metric("ms", "ms"), Metric("counted", "ms by -X importtime")],
        contestants=[
            Contestant(statement, measured(statement), lambda s=statement: imported(s))  # type: ignore[misc]
            for statement in STATEMENTS
        ],
        targets=[
            Target("import spliceio", "import ssl", "ms", ("<=", 1.0)),
            Target("import spliceio", "import ssl", "counted", None),
            Target("from spliceio import copy", "import ssl", "ms", None),
            Target("from spliceio import copy", "import ssl", "counted", None),
        ],
        notes=[
            "ms is the wall time of `python -I -c STATEMENT` less that of a bare interpreter "
            "started right before it; the files are in the page cache.",
        ],
    )
