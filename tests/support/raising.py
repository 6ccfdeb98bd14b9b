"""A signal handler that raises, at every place of a call where Python would let it.

The n-th step of the call raises, for n = 1, 2, 3 ... until the call ends before its n-th step. In
the package's own code every opcode is a step. In the standard library below it a step is what comes
after a call, a jump back or the entry of a function: there, and only there, the interpreter looks
for signals, and so `with lock:` of a lock made in C has none between taking it and its block. What
is raised when all is done but to return is the caller's to deal with, and no step.
"""

from __future__ import annotations

import concurrent.futures
import dis
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.interrupts import PACKAGE, Tracer, no_collector

BELOW = {threading.__file__, weakref.__file__, queue.__file__}
FUTURES = str(Path(concurrent.futures.__file__).parent)
LOOKS = ("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "RESUME", "SEND")


def opcode(frame: FrameType, at: int) -> str:
    """Return the name of one."""
    return dis.opname[frame.f_code.co_code[at]]


def is_return(frame: FrameType) -> bool:
    """Whether nothing is left to do but to return."""
    at = frame.f_lasti
    if opcode(frame, at) == "LOAD_CONST":
        at += 2
    return opcode(frame, at).startswith("RETURN")


class Raiser(Tracer):
    """Raises at the n-th step of a call, where that is one at which Python looks for signals."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self._last: dict[FrameType, int] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._inside
        if name in BELOW or name.startswith(FUTURES):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._below
        return None

    def _inside(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and not is_return(frame):
            self.step(frame)
        return self._inside

    def _below(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            before = self._last.get(frame)
            self._last[frame] = frame.f_lasti
            if before is None or opcode(frame, before).startswith(LOOKS):
                self.step(frame)
        elif event == "return":
            self._last.pop(frame, None)
        return self._below

    def run(self, call: Callable[[], object]) -> object:
        """Return what the call returns, or None when it was interrupted."""
        try:
            return super().run(call)
        finally:
            self._last.clear()


def every_step(first: int = 1, stride: int = 1) -> Iterator[Raiser]:
    """Give what raises at the first step, the second and so on, until one has had nothing to do."""
    n = first
    with no_collector():
        yield Raiser(sys.maxsize)  # from 3.12 on, code has steps from its second run on
        while True:
            raiser = Raiser(n)
            yield raiser
            if raiser.at is None:
                # From 3.12 on, code that is entered but once may be traced too late.
                assert n > first or sys.version_info >= (3, 12), "there was no step at all"
                return
            n += stride
