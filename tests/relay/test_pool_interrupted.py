"""RelayPool when a signal handler raises inside it: at every step of every call.

Afterwards the pool goes on, can be ended, has told every future, and has left nothing open.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from spliceio import RelayPool
from tests.support.cases import FULL
from tests.support.interrupts import is_thrown_away
from tests.support.pools import HANG
from tests.support.raising import every_step
from tests.support.states import descriptors, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def tasks() -> set[str]:
    """Return the threads of this process, those of C too."""
    return set(os.listdir("/proc/self/task"))


@contextlib.contextmanager
def nothing_left():
    """Wait until descriptors and threads are those of before; the watchdog ends it if never."""
    fds, threads = descriptors(), tasks()
    yield
    until(lambda: descriptors() == fds and tasks() <= threads)


@contextlib.contextmanager
def open_relay(pool: RelayPool):
    """Give a future, and the two peers of its relay."""
    (a, x), (b, y) = socket.socketpair(), socket.socketpair()
    with a, b, x, y:
        yield pool.submit(a, b), x, y


def works(pool: RelayPool) -> bool:
    """Whether a relay begins, carries and ends."""
    with open_relay(pool) as (future, x, y):
        x.sendall(b"abc")
        assert y.recv(3) == b"abc"
        x.close()
        y.close()
        return future.result(30).a_to_b == 3


def of_thread(tid: str, name: str) -> str:
    """Return what the kernel has in such a file for a thread of this process."""
    with open(f"/proc/self/task/{tid}/{name}") as file:
        return file.read()


def test_its_threads_take_no_signal():
    """A signal has to reach a thread whose system call it ends: the one that Python runs in."""
    before = tasks()
    with RelayPool() as pool:
        assert works(pool)
        new = tasks() - before
        engines = [tid for tid in new if of_thread(tid, "comm") == "spliceio-engine\n"]
        assert engines
        for tid in engines:
            mask = int(re.search(r"SigBlk:\s+(\w+)", of_thread(tid, "status"))[1], 16)
            blocked = {number for number in signal.valid_signals() if mask >> (number - 1) & 1}
            assert blocked == signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def test_while_it_is_made():
    """Nothing is left open."""
    for raiser in every_step():
        with nothing_left():
            pool = raiser.run(RelayPool)
            if pool is not None:
                pool.shutdown()
            del pool


def test_in_submit():
    """No relay begins of which nobody knows, and the next one is carried."""
    with RelayPool() as pool:
        for raiser in every_step():
            with nothing_left():
                (a, x), (b, y) = socket.socketpair(), socket.socketpair()
                with a, b, x, y:
                    future = raiser.run(lambda a=a, b=b: pool.submit(a, b))
                    if future is not None:
                        assert future.cancel()
                    until(lambda: pool.stats().active == 0)
                    until(lambda a=a: os.get_blocking(a.fileno()))
                assert works(pool)
                del future


@pytest.mark.parametrize("call", ["cancel", "result", "exception", "outcome", "wait", "completed"])
def test_in_a_call_of_its_future(call):
    """It ends, is told, and says what became of it."""
    ask = {
        "wait": lambda future: concurrent.futures.wait([future]),
        "completed": lambda future: list(concurrent.futures.as_completed([future])),
    }.get(call, lambda future: getattr(future, call)())
    with RelayPool() as pool:
        for raiser in every_step():
            with nothing_left(), open_relay(pool) as (future, x, y):
                told = []
                if call != "cancel":
                    x.close()
                    y.close()
                raiser.run(lambda future=future: ask(future))
                future.add_done_callback(told.append)
                if call == "cancel":
                    assert future.cancel() or future.cancelled()
                assert future.outcome(30).reason == ("cancelled" if future.cancelled() else "eof")
                assert future.cancelled() == (call == "cancel")
                until(lambda told=told: told)
                assert concurrent.futures.wait([future], 30).done == {future}
                assert works(pool)
                del future


@pytest.mark.parametrize(
    ("call", "first"), [("result", 1), ("outcome", 2), ("wait", 1), ("completed", 2)]
)
def test_while_it_waits_for_a_future(call, first):
    """As above, of a relay that ends later: in another thread, while this one waits."""
    ask = {
        "wait": lambda future: concurrent.futures.wait([future], 0.001),
        "completed": lambda future: list(concurrent.futures.as_completed([future], 0.001)),
    }.get(call, lambda future: getattr(future, call)(0.001))
    with RelayPool() as pool:
        for raiser in every_step() if FULL else every_step(first, 2):
            with nothing_left(), open_relay(pool) as (future, x, y):
                with contextlib.suppress(TimeoutError, concurrent.futures.TimeoutError):
                    raiser.run(lambda future=future: ask(future))
                x.close()
                y.close()
                assert future.result(30).reason == "eof"
                assert concurrent.futures.wait([future], 30).done == {future}
                assert works(pool)
                del future


# Together they have each step of what they share; in full, each of them has.
@pytest.mark.parametrize(
    ("call", "first"), [("wait", 1), ("drain", 2), ("cut", 3), ("exit", 4), ("raise", 2)]
)
def test_while_it_is_ended(call, first):
    """What is left is done by the next call, and every future has been told."""

    def end(pool: RelayPool) -> None:
        if call == "exit":
            pool.__exit__(None, None, None)
        elif call == "raise":
            pool.__exit__(ValueError, ValueError(), None)
        else:
            pool.shutdown(**{"drain": {"drain": 0.001}, "cut": {"wait": False}}.get(call, {}))

    for raiser in every_step() if FULL else every_step(first, 4):
        with nothing_left():
            pool = RelayPool(2)
            with open_relay(pool) as (future, x, y), open_relay(pool) as (other, z, w):
                if call in ("wait", "exit"):
                    for peer in (x, y, z, w):
                        peer.close()
                raiser.run(lambda pool=pool: end(pool))
                pool.shutdown(wait=False)
                assert future.done()
                assert other.done()
            del pool, future, other


def test_in_stats():
    """It only reads."""
    with RelayPool() as pool:
        for raiser in every_step():
            raiser.run(pool.stats)
        assert works(pool)


class Alarm(BaseException):
    """What the handler of SIGALRM raises."""


def test_a_storm_of_alarms():
    """Real ones, at whatever moment they come: the pool goes on, and nothing is left."""
    armed: list[bool] = []
    came: list[bool] = []

    def ring(_number, frame):
        if armed and not is_thrown_away(frame):
            came.append(True)
            armed.clear()
            raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with nothing_left(), RelayPool(2) as pool:
            for number in range(1500):
                (a, x), (b, y) = socket.socketpair(), socket.socketpair()
                try:
                    armed.append(True)
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 50))
                    future = pool.submit(a, b)
                    future.add_done_callback(id)
                    if number % 2:
                        future.cancel()
                    else:
                        x.close()
                        concurrent.futures.wait([future])
                    future.outcome()
                    pool.stats()
                    armed.clear()
                except Alarm:
                    pass
                for sock in (a, x, b, y):
                    sock.close()
            signal.setitimer(signal.ITIMER_REAL, 0)
            future = None
            assert works(pool)
        assert len(came) > 10
    finally:
        signal.signal(signal.SIGALRM, before)


TWICE = {
    "pool": """
pool = None
try:
    with RelayPool(2) as pool:
        print("up", flush=True)
        while True:
            (a, x), (b, y) = socket.socketpair(), socket.socketpair()
            future = pool.submit(a, b)
            x.close(), y.close()
            future.result(), a.close(), b.close()
finally:
    if pool is not None:
        pool.shutdown(wait=False)
""",
    "proxy": """
proxy = None
try:
    print("up", flush=True)
    while True:
        with Proxy("127.0.0.1:0", "127.0.0.1:1", threads=2) as proxy:
            proxy.set_upstreams("localhost:1")
finally:
    if proxy is not None:
        proxy.shutdown()
""",
    "command": """
print("up", flush=True)
from spliceio.__main__ import main
sys.exit(main(["proxy", "127.0.0.1:0", "127.0.0.1:1"]))
""",
}


@pytest.mark.parametrize("what", TWICE)
def test_ctrl_c_twice(what):
    """At whatever moments they come: the program ends."""
    text = "import socket, sys\nfrom spliceio import Proxy, RelayPool\n" + TWICE[what]
    for number in range(0, 10, 1 if FULL else 2):
        child = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        with child:
            assert child.stdout.readline() == b"up\n"
            for turns in (number * 200, number * 40):
                for _ in range(turns):
                    os.sched_yield()
                child.send_signal(signal.SIGINT)
            try:
                assert child.wait(HANG) in (0, 1, 130, -signal.SIGINT)
            finally:
                child.kill()
