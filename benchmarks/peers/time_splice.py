"""Time one raw call against the standard library's, in turns inside one process.

usage: time_splice.py ROUNDS BATCHES

A round times each contestant once; filling and emptying the pipes is outside the clock, and the
cost of an empty loop is subtracted.
Prints JSON: for each contestant a list of nanoseconds a call, one a round.
"""

import fcntl
import json
import os
import sys
from itertools import repeat
from time import perf_counter_ns

from spliceio import splice, try_splice

F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 1032)
PAGE = os.sysconf("SC_PAGE_SIZE")


class OneByte:
    """One byte from pipe to pipe: each takes a slot, so a batch is no more than the slots hold."""

    def __init__(self) -> None:
        self.feed_r, self.feed_w = os.pipe()
        self.out_r, self.out_w = os.pipe()
        fcntl.fcntl(self.out_w, F_SETPIPE_SZ, 256 * PAGE)
        self.batch = min(200, fcntl.fcntl(self.out_w, F_GETPIPE_SZ) // PAGE - 1)
        self.data = bytes(range(self.batch))

    def time(self, call, batches: int) -> float:
        src, dst, spent = self.feed_r, self.out_w, 0
        for _ in range(batches):
            os.write(self.feed_w, self.data)
            start = perf_counter_ns()
            for _ in repeat(None, self.batch):
                call(src, dst, 1)
            spent += perf_counter_ns() - start
            got = os.read(self.out_r, self.batch + 1)
            if got != self.data:
                raise SystemExit(f"wrong bytes came out: {got!r}")
        return spent / (batches * self.batch)


class Empty:
    """Asking an empty nonblocking pipe, and being told that there is nothing."""

    def __init__(self) -> None:
        self.src, self.feed_w = os.pipe()
        os.set_blocking(self.src, False)
        self.out_r, self.dst = os.pipe()

    def ask_os(self, count: int) -> float:
        src, dst, ask = self.src, self.dst, os.splice
        refused = 0
        start = perf_counter_ns()
        for _ in repeat(None, count):
            try:
                ask(src, dst, 1)
            except BlockingIOError:
                refused += 1
        spent = perf_counter_ns() - start
        if refused != count:
            raise SystemExit(f"os.splice moved something {count - refused} times")
        return spent / count

    def ask_spliceio(self, count: int) -> float:
        src, dst, ask = self.src, self.dst, try_splice
        refused = 0
        start = perf_counter_ns()
        for _ in repeat(None, count):
            if ask(src, dst, 1) is None:
                refused += 1
        spent = perf_counter_ns() - start
        if refused != count:
            raise SystemExit(f"try_splice moved something {count - refused} times")
        return spent / count


def empty_loop(count: int) -> float:
    start = perf_counter_ns()
    for _ in repeat(None, count):
        pass
    return (perf_counter_ns() - start) / count


def main() -> None:
    rounds, batches = int(sys.argv[1]), int(sys.argv[2])
    one, empty = OneByte(), Empty()
    count = batches * one.batch
    timed = {
        "os.splice": lambda: one.time(os.splice, batches),
        "spliceio.splice": lambda: one.time(splice, batches),
        "os.splice + except": lambda: empty.ask_os(count),
        "spliceio.try_splice": lambda: empty.ask_spliceio(count),
    }
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(-1, rounds):
        loop = empty_loop(count)
        for name, run in timed.items():
            took = run() - loop
            if turn >= 0:
                spent[name].append(took)
    print(json.dumps(spent))


main()
