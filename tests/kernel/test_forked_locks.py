"""A child of fork() never waits for a lock that a thread of its parent held."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import spliceio
from spliceio import PageWriter, Pipe, Transfer
from spliceio._kernel.lock import ForkLock
from tests.support.states import syscall_of, until


def in_child(function):
    """Return what a forked child has to say; it is killed when it hangs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        signal.alarm(20)
        try:
            os.write(writer, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 10_000)
    os.close(reader)
    os.waitpid(pid, 0)
    return said.decode()


@pytest.fixture
def running(wires):
    """A transfer that a thread runs, and that waits for its source."""
    near, far = wires.pipe()
    sink = wires.sink("pipe")
    with Transfer(near, sink.end) as transfer:
        thread = threading.Thread(target=transfer.run)
        thread.start()
        until(lambda: syscall_of(thread.native_id) in (7, 271))
        yield transfer
        os.close(far)
        thread.join()


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.close(),
        lambda t: t.take_held(),
        lambda t: print(t.moved, t.held, t.method, t.done, t.result().moved, repr(t)),
        lambda t: t.__exit__(None, None, None),
    ],
    ids=["close", "take_held", "look", "exit"],
)
def test_a_copy_of_a_running_transfer_can_be_closed(running, use):
    assert in_child(lambda: use(running)) in ("None", "b''")


def test_a_copy_of_a_running_transfer_refuses_to_run(running):
    def run():
        try:
            running.run()
        except RuntimeError as error:
            return str(error)

    assert "another process" in in_child(run)


def test_a_copy_of_a_transfer_that_is_closed_while_it_runs(running):
    """The lock is held by the runner, and wanted by the closer, at the moment of the fork."""
    assert in_child(lambda: (running.close(), running.closed)[1]) == "True"
    assert not running.closed


def test_the_ends_of_a_pipe_that_a_thread_uses_can_be_closed(wires):
    """The thread is not in the child, and uses nothing there."""
    near, _far = wires.sockets("unix")
    with Pipe() as pipe:
        thread = threading.Thread(target=lambda: pipe.fill(near, 1))
        thread.start()
        until(lambda: syscall_of(thread.native_id) in (7, 271))

        def close():
            number = pipe.writer
            pipe.close()
            try:
                os.fstat(number)
            except OSError:
                return pipe.closed

        assert in_child(close) == "True"
        _far.sendall(b"x")
        thread.join()


def test_a_page_writer_that_a_thread_uses_can_be_closed(wires):
    reader, writer = wires.pipe(65536)
    with PageWriter(writer) as pages:
        thread = threading.Thread(target=lambda: pages.write(bytes(1 << 20)))
        thread.start()
        until(lambda: syscall_of(thread.native_id) in (1, 278, 275))
        assert in_child(lambda: (pages.close(), pages.closed)[1]) == "True"
        got = 0
        while got < 1 << 20:
            got += len(os.read(reader, 1 << 20))
        thread.join()


def test_every_lock_of_the_module_is_free_in_a_child():
    """Held by another thread, it is not in the child; held by nobody, it is the same one."""
    lock, forgotten = ForkLock(), []
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock.current():
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def ask():
        free = lock.current(lambda: forgotten.append(1)).acquire(blocking=False)
        lock.current(lambda: forgotten.append(2))
        return free, forgotten

    assert in_child(ask) == "(True, [1])"
    release.set()
    thread.join()
    assert lock.current() is lock.current()
    assert forgotten == []


def test_a_copy_under_way_leaves_its_child_nothing_to_wait_for(wires):
    """`copy` in one thread, fork in another: the child works with the library as if new."""
    near, far = wires.pipe()
    sink = wires.sink("pipe")
    thread = threading.Thread(target=lambda: spliceio.copy(near, sink.end))
    thread.start()
    until(lambda: syscall_of(thread.native_id) in (7, 271))

    def work():
        with Pipe() as one, Pipe() as two:
            one.write(b"data")
            one.close_writer()
            return spliceio.copy(one.reader, two.writer).moved

    assert in_child(work) == "4"
    os.close(far)
    thread.join()
