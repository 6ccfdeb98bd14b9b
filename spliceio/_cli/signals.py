"""Signals that end a command: what it has made is cleaned up first, and it still dies of them.

Rule 1: a signal that somebody wants ignored (nohup) stays ignored.
Rule 2: only the first one is waited for; who sends another does not want to wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Killed", "raising"]

_DEADLY = (signal.SIGTERM, signal.SIGHUP)


class Killed(BaseException):
    """A signal has come that kills; `die` of it once everything is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def die(self) -> NoReturn:
        """End the process as the signal would have done."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)
        os._exit(128 + self.number)  # it is blocked


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Killed, where they would end the process without a word."""

    def handler(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Killed(number)

    changed = [one for one in _DEADLY if signal.getsignal(one) == signal.SIG_DFL]
    try:
        for number in changed:
            signal.signal(number, handler)
        yield
    finally:
        for number in changed:
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
