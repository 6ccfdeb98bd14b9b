"""What waits makes no system calls: strace counts them, for every call that waits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from spliceio import Transfer
from spliceio._cffi import lib
from tests.support.programs import need
from tests.support.states import thread_state, until

SECONDS = 3
MOST = 2 * SECONDS + 1
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
}


def begin(code):
    """Start a process that waits in one call."""
    code = PRELUDE + "print('ready', flush=True)\n" + code
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def waiting():
    """A process for each call that waits, by the name of the call."""
    processes = {name: begin(code) for name, code in WAITS.items()}
    try:
        for process in processes.values():
            assert process.stdout.readline() == "ready\n"
            until(lambda process=process: sleeps(process.pid))
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.stdout.close()
            process.wait()


def sleeps(pid):
    """Whether every thread of a process sleeps in the kernel."""
    return all(thread_state(int(tid), pid) == "S" for tid in os.listdir(f"/proc/{pid}/task"))


def watched(processes, log):
    """Return the calls that each made while strace watched all of them for SECONDS."""
    pids = [str(process.pid) for process in processes.values()]
    command = [need("strace"), "-f", "-qq", "-o", str(log), *[f"-p{pid}" for pid in pids]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        until(lambda: all(tracer_of(pid) for pid in pids))
        time.sleep(SECONDS)  # a rate is counted: there is no condition to wait for
        tracer.kill()  # asked to detach, it waits for each to make a call
    # What was under way when strace came or went is no new call.
    made = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    made = [row for row in made if not re.search(r"resumed>|restart_syscall|\+\+\+|---", row[1])]
    owner = {
        tid: name for name, p in processes.items() for tid in os.listdir(f"/proc/{p.pid}/task")
    }
    calls = {name: [] for name in processes}
    for tid, call in made:
        calls[owner[tid]].append(call)
    return calls


def tracer_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"TracerPid:\s+(\d+)", status.read())[1])


def test_what_waits_makes_two_calls_a_second_at_the_most(waiting, tmp_path):
    """Slices are short at first, and grow: it is the second look that counts."""
    watched(waiting, tmp_path / "first")
    calls = watched(waiting, tmp_path / "second")
    assert {name: made for name, made in calls.items() if len(made) > MOST} == {}


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


def test_a_mode_that_is_changed_while_it_waits_is_seen(wires):
    """O_NONBLOCK belongs to everybody: it is looked at again after a long wait."""
    near, far = wires.pipe()
    sink = wires.sink("pipe")
    with Transfer(near, sink.end) as transfer:
        thread = threading.Thread(target=transfer.run)
        thread.start()
        until(lambda: lib.sio_test_wake_fd(transfer._flow.c) >= 0)
        os.set_blocking(near, False)
        os.write(far, b"more")
        os.close(far)
        thread.join()
        assert transfer.moved == 4
