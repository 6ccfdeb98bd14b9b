"""SIGTERM and SIGHUP as exceptions: a command cleans up, and still dies by the signal.

Rule 1: a signal that is ignored from the start (nohup) stays ignored.
Rule 2: only the first one is cleaned up after; a second one kills at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Killed", "raise_on_signals"]

_DEADLY = (signal.SIGTERM, signal.SIGHUP)


class Killed(BaseException):
    """Raised by a signal that kills; call `die` once everything is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def die(self) -> NoReturn:
        """End the process as the signal would have done."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)
        os._exit(128 + self.number)  # it is blocked


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Killed in the block, unless they are ignored or handled."""

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
