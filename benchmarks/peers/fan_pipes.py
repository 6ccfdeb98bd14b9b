"""Standard input to standard output and to further pipes; standard error says what it cost.

usage: fan_pipes.py tee|fanout|read+write [FD ...]

tee is the command `spliceio tee`, as it is, with /dev/fd/FD for its files.
"""

import json
import os
import resource
import sys

AT_ONCE = 64 * 1024


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def with_tee(sinks):
    from spliceio._cli.main import main
    from spliceio._fanout.fanout import Fanout

    drive = Fanout.drive
    results = []

    def noted(*args):
        results.append(drive(*args))
        return results[-1]

    Fanout.drive = noted

    def run():
        status = main(["tee", *(f"/dev/fd/{fd}" for fd in sinks[1:])])
        assert status == 0, status
        return methods_of(results[0])

    return run


def with_fanout(sinks):
    from spliceio import fanout

    return lambda: methods_of(fanout(0, sinks))


def methods_of(result):
    names = {name for sink in result.sinks for name, count in sink.by_method.items() if count}
    return sorted(names)


def with_read_write(sinks):
    def run():
        while data := os.read(0, AT_ONCE):
            for fd in sinks:
                sent = os.write(fd, data)
                while sent < len(data):
                    sent += os.write(fd, data[sent:])
        return ["read_write"]

    return run


def main() -> None:
    sinks = [1, *map(int, sys.argv[2:])]
    ways = {"tee": with_tee, "fanout": with_fanout, "read+write": with_read_write}
    run = ways[sys.argv[1]](sinks)
    before = cpu()
    methods = run()
    report = {"cpu": cpu() - before, "methods": methods}
    # End of file must reach the sinks now: ending the interpreter is no part of the transfer.
    for fd in sinks:
        os.close(fd)
    os.write(2, json.dumps(report).encode())
    os._exit(0)


main()
