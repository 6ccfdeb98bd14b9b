"""Fixtures of every test: transports, a leak guard, a watchdog.

Rule 1: after each test, the process has the descriptors, threads and children it had before.
Rule 2: a test that waits for something that never comes fails with a traceback; no test sleeps.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support import wires as _wires
from tests.support.states import descriptors

pytest.register_assert_rewrite("tests.support.seam")

PATIENCE = float(os.environ.get("SPLICEIO_TEST_PATIENCE", "60"))
"""Seconds that one test may take, before it is interrupted; nothing is measured with it."""

# A name that nobody knows is told in seconds, also where no name server answers (resolv.conf(5)).
os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"


def pytest_configure():
    """Let children be interrupted: a shell without job control has Ctrl-C ignored behind an `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Make one worker more than there are processors: many a test waits for the clock."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish():
    """Keep the tests themselves out of the collector: each leak_guard would look through them."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Let others see all objects again: hypothesis asks who refers to what."""
    gc.unfreeze()


class Stalled(AssertionError):
    """The test waited for something that never came."""


def _stalled(signum, frame):
    raise Stalled(f"no end after {PATIENCE:g} s")


class Watch:
    """One thread for all tests, which sleeps until the time of the present one is over.

    A thread for each test took longer than many a test. It is never woken: it looks at the
    deadline when the one that it saw before has passed.
    """

    def __init__(self):
        self._deadline = math.inf
        self._lock = threading.Lock()
        self._thread = None

    def begin(self):
        """Count from now on; a forked child has no thread yet."""
        with self._lock:
            self._deadline = time.monotonic() + PATIENCE
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()

    def end(self):
        """Send no signal any more."""
        with self._lock:
            self._deadline = math.inf

    def _run(self):
        never = threading.Event()
        while True:
            with self._lock:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._deadline = math.inf
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            never.wait(min(max(left, 0), PATIENCE))


_watch = Watch()


@pytest.fixture(autouse=True)
def watchdog():
    """Interrupt a test that hangs, by a signal, so that the next ones still run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, _stalled)
    _watch.begin()
    try:
        yield
    finally:
        _watch.end()
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture(autouse=True)
def leak_guard(watchdog):
    """Fail a test that leaves a descriptor or a thread behind, and name it."""
    fds, threads = descriptors(), set(threading.enumerate())
    yield
    if descriptors() != fds:  # it takes long, and most tests leave nothing to collect
        gc.collect()
    for thread in set(threading.enumerate()) - threads:
        thread._started.wait(10)  # it may just be made
        thread.join(10)
    left = sorted(t.name for t in set(threading.enumerate()) - threads)
    assert not left, f"threads left behind: {left}"
    now = descriptors()
    leaked = {fd: target for fd, target in now.items() if fds.get(fd) != target}
    assert not leaked, f"descriptors left behind: {leaked}"
    lost = {fd: target for fd, target in fds.items() if fd not in now}
    assert not lost, f"descriptors closed that were not the test's: {lost}"


@pytest.fixture
def wires(leak_guard, tmp_path):
    """Make sources, sinks, pipes, sockets, files and terminals; all closed after the test."""
    made = _wires.Wires(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def clogged(wires):
    """(reader, writer) of a pipe that is full by slots, with one byte in each."""
    return wires.clogged()


@pytest.fixture(params=["unix", "tcp4"])
def stuffed(request, wires):
    """(socket, peer): a blocking socket that takes nothing more."""
    return wires.stuffed(request.param)


@pytest.fixture(params=_wires.transports())
def transport(request):
    """Each kind of transport in turn."""
    return request.param


@pytest.fixture(params=[False, True], ids=["blocking", "nonblocking"])
def nonblocking(request):
    """Both blocking modes in turn."""
    return request.param


@pytest.fixture
def here() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
