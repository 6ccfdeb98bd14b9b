"""What waits makes no system calls: strace counts them, for every call that waits."""

from __future__ import annotations

import functools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from spliceio import Transfer
from spliceio._cffi import lib
from tests.support.programs import need
from tests.support.states import Worker, thread_state, until
from tests.support.wires import MIB, payload, prefill

MS = 10**6
"""Nanoseconds."""
PAGE = 4096
GROWING = 2.5
"""Seconds until slices are as long as they get: 80 ms, twice that, and so on up to a second."""
SECONDS = 2
MOST = 2 * (SECONDS + 1)
"""Two calls for each slice that ends meanwhile; of slices of 80 ms there would be 50."""
PRELUDE = """
import os, socket, sys, threading
import spliceio
from spliceio import *
def pipe(): return os.pipe()
def full():
    r, w = os.pipe(); os.set_blocking(w, False)
    try:
        while True: os.write(w, bytes(4096))
    except BlockingIOError: pass
    os.set_blocking(w, True)
    return r, w
def stuffed():
    a, b = socket.socketpair(); a.setblocking(False)
    try:
        while True: a.send(bytes(65536))
    except BlockingIOError: pass
    a.setblocking(True)
    return a, b
"""
WAITS = {
    "copy, empty pipe to pipe": "r, w = pipe(); r2, w2 = pipe(); copy(r, w2)",
    "copy, empty pipe to file": "r, w = pipe(); copy(r, os.memfd_create('x'))",
    "copy, silent socket to file": "a, b = socket.socketpair(); copy(a, os.memfd_create('x'))",
    "copy, silent socket to pipe": "a, b = socket.socketpair(); r, w = pipe(); copy(a, w)",
    "copy, into a full pipe": "r, w = full(); copy(os.open('/dev/zero', 0), w)",
    "copy, into a full socket": "a, b = stuffed(); copy(os.open('/dev/zero', 0), a)",
    "copy with a timeout": "r, w = pipe(); r2, w2 = pipe(); copy(r, w2, timeout=60)",
    "copy with progress": "r, w = pipe(); r2, w2 = pipe(); copy(r, w2, progress=lambda n: None)",
    "copy by read_write": "r, w = pipe(); r2, w2 = pipe(); copy(r, w2, method='read_write')",
    "Transfer.run": "r, w = pipe(); r2, w2 = pipe(); Transfer(r, w2).run()",
    "for in Transfer": "r, w = pipe(); r2, w2 = pipe()\nfor n in Transfer(r, w2): pass",
    "discard": "r, w = pipe(); discard(r)",
    "chunks": "r, w = pipe(); list(chunks(r))",
    "receive_file": "a, b = socket.socketpair(); receive_file(a, os.memfd_create('x'), 10)",
    "send_file": "a, b = stuffed(); f = open(os.__file__, 'rb'); send_file(a, f)",
    "relay of sockets": "a, b = socket.socketpair(); c, d = socket.socketpair(); relay(a, c)",
    "relay of pipes": "relay((pipe()[0], pipe()[1]), (pipe()[0], pipe()[1]))",
    "relay with an idle limit": (
        "a, b = socket.socketpair(); c, d = socket.socketpair(); relay(a, c, idle_timeout=60)"
    ),
    "relay, stuffed": "a, b = stuffed(); c, d = socket.socketpair(); d.send(b'x'); relay(a, c)",
    "RelayPool": (
        "a, b = socket.socketpair(); c, d = socket.socketpair()\n"
        "with RelayPool() as pool: pool.submit(a, c).result()"
    ),
    "peek, empty socket": "a, b = socket.socketpair(); peek(a)",
    "peek, empty pipe": "r, w = pipe(); peek(r)",
    "peek, some bytes": "a, b = socket.socketpair(); b.send(b'x'); peek(a, at_least=2)",
    "peek, some bytes in a pipe": "r, w = pipe(); os.write(w, b'x'); peek(r, at_least=2)",
    "Pipe.fill": "a, b = socket.socketpair(); Pipe().fill(a, 1)",
    "Pipe.drain": "a, b = stuffed(); p = Pipe(); p.write(b'x'); p.drain(a, 1)",
    "PageWriter": "r, w = full(); PageWriter(w).write(b'x')",
    "fanout, empty pipe": "r, w = pipe(); fanout(r, [pipe()[1], socket.socketpair()[0]])",
    "fanout by read_write": (
        "r, w = pipe(); fanout(r, [pipe()[1], socket.socketpair()[0]], method='read_write')"
    ),
    "fanout, a full pipe": (
        "r, w = pipe(); os.write(w, b'x' * 1000); full_r, full_w = full()\n"
        "fanout(r, [full_w, socket.socketpair()[0]], progress=lambda n: None)"
    ),
}


STARTER = """
import json, sys, traceback
for name, code in json.loads(sys.argv[1]).items():
    child = os.fork()
    if not child:
        try:
            exec(code)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    print(child, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def waiting():
    """The pid of a process for each call that waits, by the name of the call."""
    command = [sys.executable, "-c", PRELUDE + STARTER, json.dumps(WAITS)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of processes, which is killed as one
    ) as starter:
        try:
            pids = {name: int(starter.stdout.readline()) for name in WAITS}
            for pid in pids.values():
                until(lambda pid=pid: sleeps(pid))
            yield pids
        finally:
            os.killpg(starter.pid, signal.SIGKILL)


def sleeps(pid):
    """Whether every thread of a process sleeps in the kernel."""
    return all(thread_state(int(tid), pid) == "S" for tid in os.listdir(f"/proc/{pid}/task"))


def watched(pids, log):
    """Return the calls that each made while strace watched all of them for SECONDS."""
    command = [need("strace"), "-f", "-qq", "-o", str(log), *[f"-p{pid}" for pid in pids.values()]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        until(lambda: all(tracer_of(pid) for pid in pids.values()))
        time.sleep(SECONDS)  # a rate is counted: there is no condition to wait for
        tracer.kill()  # asked to detach, it waits for each to make a call
    # What was under way when strace came or went is no new call.
    made = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    made = [row for row in made if not re.search(r"resumed>|restart_syscall|\+\+\+|---", row[1])]
    owner = {tid: name for name, pid in pids.items() for tid in os.listdir(f"/proc/{pid}/task")}
    calls = {name: [] for name in pids}
    for tid, call in made:
        calls[owner[tid]].append(call)
    return calls


def tracer_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"TracerPid:\s+(\d+)", status.read())[1])


def test_what_waits_makes_two_calls_a_second_at_the_most(waiting, tmp_path):
    """A poll a second, and the question whose process it is; once slices have grown."""
    time.sleep(GROWING)  # they grow with time, and nothing tells of it
    calls = watched(waiting, tmp_path / "log")
    assert {name: made for name, made in calls.items() if len(made) > MOST} == {}
    fans = [call for name, made in calls.items() if "fanout" in name for call in made]
    assert [call for call in fans if not re.match(r"getpid|p?poll", call)] == []
    assert fans  # and strace saw them


def test_what_is_woken_ends_its_slice(wires):
    """At once, however long it is; without a wake it would be as long as that."""
    sink = wires.sink("pipe")
    with Transfer(wires.pipe()[0], sink.end) as transfer:
        c = transfer._flow.c
        assert lib.sio_transfer_wakeable(c) == 0
        hour = 3_600 * 10**9
        running = Worker(lambda: lib.sio_transfer_run(c, hour, -1))
        until(running.asleep)
        lib.sio_transfer_wake(c)
        assert running.result() == lib.SIO_INTERRUPTED


def test_close_in_another_thread_ends_a_wait_of_any_length(wires):
    """A long slice does not make the closer wait: it is woken."""
    near, _far = wires.pipe()
    sink = wires.sink("pipe")
    transfer = Transfer(near, sink.end)
    failed = []

    def run():
        try:
            transfer.run()
        except ValueError as error:
            failed.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    # It has an eventfd once its slices have grown.
    until(lambda: lib.sio_test_wake_fd(transfer._flow.c) >= 0)
    transfer.close()
    thread.join()
    assert failed == ["the transfer is closed"]
    assert transfer.closed


def test_a_signal_ends_a_wait_of_any_length(wires):
    """The handler runs at once, and what it raises passes through."""
    near, _far = wires.pipe()
    sink = wires.sink("pipe")

    class Woken(Exception):
        pass

    def handler(signum, frame):
        raise Woken

    before = signal.signal(signal.SIGUSR2, handler)
    main = threading.main_thread().ident
    with Transfer(near, sink.end) as transfer:

        def interrupt():
            until(lambda: lib.sio_test_wake_fd(transfer._flow.c) >= 0)
            signal.pthread_kill(main, signal.SIGUSR2)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(Woken):
                transfer.run()
        finally:
            signal.signal(signal.SIGUSR2, before)
            thread.join()


@pytest.mark.parametrize(
    ("method", "src", "dst"),
    [("splice", "pipe", "unix"), ("sendfile", "file", "unix"), ("read_write", "file", "pipe")],
)
def test_a_destination_that_is_made_blocking_while_it_waits_blocks_no_call(wires, method, src, dst):
    """O_NONBLOCK belongs to everybody: after a long wait it is looked at again."""
    source = wires.source(src, payload(MIB))
    if dst == "unix":
        near, far = wires.stuffed("unix")
        fd, read = near.fileno(), far.recv
    else:
        reader, fd = wires.pipe()
        prefill(fd, bytes(MIB))
        read = functools.partial(os.read, reader)
    os.set_blocking(fd, False)
    with Transfer(source.end, fd, method=method) as transfer:
        c = transfer._flow.c
        assert lib.sio_transfer_run(c, MS, -1) == lib.SIO_BUDGET
        assert transfer.moved == 0
        os.set_blocking(fd, True)
        while not select.select([], [fd], [], 0)[1]:
            read(PAGE)
        while not transfer.moved:  # a slice may be over before its first call
            assert lib.sio_transfer_run(c, MS, -1) == lib.SIO_BUDGET
        assert transfer.moved < MIB
