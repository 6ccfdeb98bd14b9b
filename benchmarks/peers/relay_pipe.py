"""Standard input to standard output, until end of file; standard error says what the moving cost.

usage: relay_pipe.py spliceio|os.splice [COMPUTE_CPU]

With COMPUTE_CPU a second thread computes in Python all the while, on that processor, or
wherever the scheduler puts it if the number is negative.
"""

import json
import os
import resource
import sys
import threading


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compute(processor: int, started: threading.Event) -> None:
    if processor >= 0:
        # Number 0 is the calling thread here, not the process.
        os.sched_setaffinity(0, {processor})
    started.set()
    x = 0
    while True:
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF


def move_with_spliceio():
    from spliceio import copy

    return lambda: copy(0, 1).method


def move_with_os_splice():
    def loop() -> str:
        while os.splice(0, 1, 1 << 20):
            pass
        return "os.splice"

    return loop


def main() -> None:
    move = {"spliceio": move_with_spliceio, "os.splice": move_with_os_splice}[sys.argv[1]]()
    if len(sys.argv) > 2:
        started = threading.Event()
        threading.Thread(target=compute, args=(int(sys.argv[2]), started), daemon=True).start()
        started.wait()
    before = cpu()
    method = move()
    report = {"cpu": cpu() - before, "method": method}
    # End of file must reach the sink now: ending the interpreter is no part of the transfer.
    os.close(1)
    os.write(2, json.dumps(report).encode())
    os._exit(0)


main()
