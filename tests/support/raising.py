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
import gc
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import spliceio

PACKAGE = str(Path(spliceio.__file__).parent)
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


class Raised(BaseException):
    """What the handler raises."""


class Raiser:
    """A trace function that raises at the n-th step; `at` says where that was."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.at: str | None = None
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
            self._step(frame)
        return self._inside

    def _below(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            before = self._last.get(frame)
            self._last[frame] = frame.f_lasti
            if before is None or opcode(frame, before).startswith(LOOKS):
                self._step(frame)
        elif event == "return":
            self._last.pop(frame, None)
        return self._below

    def _step(self, frame: FrameType) -> None:
        self.left -= 1
        if self.left == 0:
            code = frame.f_code
            self.at = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
            self._last.clear()
            raise Raised

    def run(self, call: Callable[[], object]) -> object:
        """Return what the call returns, or None when it was interrupted."""
        before = sys.gettrace()
        try:
            sys.settrace(self)
            try:
                return call()
            finally:
                sys.settrace(before)
        except Raised:
            return None


def every_step(first: int = 1, stride: int = 1) -> Iterator[Raiser]:
    """Give what raises at the first step, the second and so on, until one has had nothing to do.

    The collector is off meanwhile: what is not closed when the exception is gone is left open.
    """
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        n = first
        while True:
            raiser = Raiser(n)
            yield raiser
            if raiser.at is None:
                return
            n += stride
    finally:
        if was:
            gc.enable()
