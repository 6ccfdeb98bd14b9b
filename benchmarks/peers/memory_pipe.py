"""One unchanging body into standard output, again and again; standard error says what it cost.

usage: memory_pipe.py vmsplice|blob|pages|write FILE SECONDS PIPE_SIZE

As in pipe_source.c the clock starts once more than any pipe can hold has gone. With a PIPE_SIZE
other than 0 the pipe is made as large as that.
"""

import fcntl
import json
import os
import resource
import sys
import time
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path

F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
WARM = 2 * 1024 * 1024


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def by_vmsplice(body):
    from spliceio import vmsplice

    # Not written to again; pages in the pipe outlive this process. It begins with a page, as the
    # memory of pipe_source.c does; a bytes object does not, and takes one slot more.
    memory = memoryview(mmap(-1, len(body), flags=MAP_PRIVATE | MAP_ANONYMOUS))
    memory[:] = body

    def send():
        left = memory
        while left:
            left = left[vmsplice(1, left) :]
        return "vmsplice"

    return send


def by_blob(body):
    from spliceio import Blob, copy

    blob = Blob(body)
    return lambda: copy(blob, 1).method


def by_pages(body):
    from spliceio import PageWriter

    writer = PageWriter(1)

    def send():
        done = writer.write(body)
        assert done == len(body), done
        return writer.method

    return send


def by_write(body):
    def send():
        done = os.write(1, body)
        while done < len(body):
            done += os.write(1, memoryview(body)[done:])
        return "write"

    return send


WAYS = {"vmsplice": by_vmsplice, "blob": by_blob, "pages": by_pages, "write": by_write}


def main() -> None:
    body, seconds, size = Path(sys.argv[2]).read_bytes(), float(sys.argv[3]), int(sys.argv[4])
    if size:
        fcntl.fcntl(1, F_SETPIPE_SZ, size)
    send = WAYS[sys.argv[1]](body)
    times, stop, methods, before = 0, 0.0, set(), cpu()
    while not stop or time.monotonic() < stop:
        methods.add(send())
        times += 1
        if not stop and times * len(body) > WARM:
            stop = time.monotonic() + seconds
    report = {"cpu": cpu() - before, "moved": times * len(body), "methods": sorted(methods)}
    os.write(2, json.dumps(report).encode())
    # At once, so that the sink sees the end of file: ending the interpreter is no part of it.
    os._exit(0)


main()
