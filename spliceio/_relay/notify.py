"""Waiting and threads without shared locks, safe against signal handlers that raise.

Such a handler (Ctrl-C, a SIGALRM that raises TimeoutError) leaves a lock held for ever when it
comes between taking it and entering the block that gives it back; `with threading.Condition()` has
such a gap, and so have Event, Future and Timer, which are made of it. So in here and above it:

Rule 1: no lock is shared. A waiter blocks on a lock of its own, which the notifier releases.
Rule 2: what decides between threads is one operation of a dict, list or deque, which is atomic.
Rule 3: what was interrupted is begun again by calling it again.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Event", "Thread", "Waiters"]


class Waiters:
    """Threads that wait for something to become true: a Condition without a lock."""

    def __init__(self) -> None:
        self._asleep: dict[Any, None] = {}

    def wait_for(self, is_true: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until it is, for at most `timeout` seconds; return whether it is.

        Whoever makes it true calls `notify_all` after that.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_true():
            lock = threading.Lock()
            lock.acquire()
            self._asleep[lock] = None
            try:
                # Only now is it sure that a notification will not be missed.
                if is_true():
                    break
                left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
                if not lock.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
                    return bool(is_true())
            finally:
                self._asleep.pop(lock, None)
        return True

    def notify_all(self) -> None:
        """Let all waiters check again."""
        for lock in list(self._asleep):
            if self._asleep.pop(lock, self) is None:  # or another thread has released it
                lock.release()


class Event:
    """A threading.Event without its Condition."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake the waiters."""
        self._is_set = True
        self._waiters.notify_all()

    def clear(self) -> None:
        """Unset it."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for at most `timeout` seconds; return whether it is."""
        return self._waiters.wait_for(self.is_set, timeout)

    def _at_fork_reinit(self) -> None:
        """Do what `threading` asks of the event of a thread, in a child."""
        self._waiters = Waiters()


class Thread(threading.Thread):
    """A daemon thread with a reliable state, however its start was interrupted.

    It does not keep the interpreter from ending.
    """

    def __init__(self, function: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._function = function
        # start() waits for it, and the new thread sets it: neither may find a lock held.
        self._started: Any = Event()
        self._decided: dict[str, bool] = {}
        self.ended = Event()

    def start(self) -> None:
        """Start it; RuntimeError if there can be no more threads.

        What `threading` does for that is not to be interrupted: it would list for ever what never
        ran. So it is done in a thread, in which no signal handler is called.
        """
        tried, failed = Event(), []

        def start() -> None:
            try:
                super(Thread, self).start()
            except BaseException as error:
                failed.append(error)
            tried.set()

        _thread.start_new_thread(start, ())
        tried.wait()
        if failed:
            raise failed[0]

    def run(self) -> None:
        """Call the function, unless `cancel_start` came first."""
        if self._decided.setdefault("runs", True):
            try:
                self._function()
            finally:
                self.ended.set()

    def cancel_start(self) -> bool:
        """Keep it from running if it has not begun; return whether that is so."""
        return not self._decided.setdefault("runs", False)

    def wait_ended(self) -> None:
        """Wait for its end, if it has begun."""
        if not self.cancel_start():
            self.ended.wait()
            if self.is_alive():  # for the moment that it takes to go
                self.join()
