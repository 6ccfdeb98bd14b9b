"""A lock per object that is free in a forked child.

A fork copies a lock as it is, and the thread that holds it is not in the child: a waiter
there waits for ever. So an object asks for its lock each time, and in a child gets a new one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["ForkLock"]

_forks = 0
_renewing = threading.Lock()


class ForkLock:
    """The lock of one object: `with self._lock.current():`, in this process and in its children."""

    __slots__ = ("_forks", "_lock")

    def __init__(self) -> None:
        self._lock, self._forks = threading.RLock(), _forks

    def current(self, after_fork: Callable[[], None] = lambda: None) -> threading.RLock:
        """Return the lock to be used in this process.

        `after_fork` is called in a child, before its first use, to forget other users.
        """
        if self._forks != _forks:
            with _renewing:
                if self._forks != _forks:
                    after_fork()
                    self._lock, self._forks = threading.RLock(), _forks
        return self._lock


def _after_fork() -> None:
    global _forks, _renewing
    _forks, _renewing = _forks + 1, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
