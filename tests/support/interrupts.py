"""A signal handler that raises, at every place of a call, and what is left open afterwards.

The n-th step of the call (a line, or one opcode) raises, for n = 1, 2, 3 ... until the call ends
before its n-th step. Python runs signal handlers between opcodes, so that is everywhere one of them
can raise, between the return of a function and the name given to what it returned included. Only C
code has no such places.

Rule 1: the collector is off: descriptors and threads are right as soon as the exception is gone.
Rule 2: steps of the package's own code raise; so do those of what it calls in the standard library,
        where `deep` is asked for. Not those of a finaliser, whose exceptions Python throws away.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import spliceio
from tests.support.states import descriptors

PACKAGE = str(Path(spliceio.__file__).parent)


class Interrupted(BaseException):
    """What the handler raises."""


class Tracer:
    """Raises at the n-th step of a call; `at` says where that was. Subclasses say what is one."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.at: tuple[str, str, int] | None = None
        self.kind: type[BaseException] = Interrupted

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        raise NotImplementedError

    def step(self, frame: FrameType) -> None:
        """Count a step, and raise if it is the one."""
        if self.at is None:
            self.left -= 1
            if not self.left:
                code = frame.f_code
                self.at = (Path(code.co_filename).name, code.co_name, frame.f_lineno)
                raise self.kind

    def run(self, call: Callable[[], object]) -> object:
        """Return what the call returns, or None when it was interrupted."""
        before = sys.gettrace()
        # Python 3.12 looks at what has been asked for once, in settrace().
        sys._getframe().f_trace_opcodes = True
        try:
            sys.settrace(self)
            try:
                return call()
            finally:
                sys.settrace(before)
        except Interrupted:
            return None


class Stepper(Tracer):
    """Every line or opcode of the package is a step; with `deep`, of what it calls, too."""

    def __init__(self, n: int, *, opcodes: bool = True, deep: bool = False) -> None:
        super().__init__(n)
        self.opcodes, self.deep = opcodes, deep

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if not (self.deep or frame.f_code.co_filename.startswith(PACKAGE)) or _is_finaliser(frame):
            return None
        frame.f_trace_opcodes = self.opcodes
        frame.f_trace_lines = not self.opcodes
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event in ("line", "opcode") and not _enters_a_handler(frame):
            self.step(frame)
        return self._step


class Watcher(Stepper):
    """Notes which steps come after one in which descriptors were opened or closed."""

    def __init__(self, *, opcodes: bool = True, deep: bool = False) -> None:
        super().__init__(sys.maxsize, opcodes=opcodes, deep=deep)
        self.count = 0
        self.changes: list[int] = []
        self._open = os.listdir("/proc/self/fd")

    def step(self, frame: FrameType) -> None:
        self.count += 1
        now = os.listdir("/proc/self/fd")
        if now != self._open:
            self.changes.append(self.count)
            self._open = now


def _enters_a_handler(frame: FrameType) -> bool:
    """Whether this only takes an exception to its `except` or `finally`.

    It is no step of anybody's: no signal handler runs there, and what is raised would leave the
    block without the exception that is on its way.
    """
    return frame.f_lasti in _entries(frame.f_code)


@functools.cache
def _entries(code: CodeType) -> frozenset[int]:
    return frozenset(
        one.offset for one in dis.get_instructions(code) if one.opname == "PUSH_EXC_INFO"
    )


def is_thrown_away(frame: FrameType | None) -> bool:
    """Whether Python throws away what is raised here, with a hook that keeps all the frames.

    So it is in a finaliser, in a callback of a weak reference, and in the one by which hypothesis
    times the collector.
    """
    while frame is not None:
        path = frame.f_code.co_filename
        if frame.f_code.co_name == "__del__" or "/hypothesis/" in path or "weakref" in path:
            return True
        frame = frame.f_back
    return False


def _is_finaliser(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Turn the collector off: what is not closed when the exception is gone is left open."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def leaks(
    call: Callable[[], object],
    *,
    opcodes: bool = True,
    deep: bool = False,
    first: int = 1,
    stride: int = 1,
    behind: int = 0,
    reset: Callable[[], object] = lambda: None,
) -> tuple[int, list[str]]:
    """Interrupt `call` at every step; return how many there were, and what each has left open.

    With a `stride`, at every so-manieth step, and with `behind`, at the first so many steps behind
    each that has opened or closed a descriptor, where it is easily lost. `call` closes what it gets
    when it is not interrupted, and `reset` is called before each turn, and is no part of what is
    counted.
    """
    call()  # modules are loaded, and caches filled
    reset()
    Stepper(sys.maxsize, opcodes=opcodes, deep=deep).run(call)  # from 3.12 on, this makes the steps
    found: list[str] = []
    with no_collector():
        reset()
        watcher = Watcher(opcodes=opcodes, deep=deep)
        if behind:
            watcher.run(call)
        near = {step + more for step in watcher.changes for more in range(behind)}
        for n in itertools.count(first):
            if (n - first) % stride and n not in near:
                continue
            reset()
            before, threads = descriptors(), set(threading.enumerate())
            stepper = Stepper(n, opcodes=opcodes, deep=deep)
            stepper.run(call)
            now = descriptors()
            new = {fd: to for fd, to in now.items() if before.get(fd) != to}
            gone = {fd: to for fd, to in before.items() if fd not in now}
            for fd, to in new.items():
                found.append(f"step {n}, {stepper.at}: {fd} -> {to} is left open")
            for fd, to in gone.items():
                found.append(f"step {n}, {stepper.at}: {fd} -> {to} of another was closed")
            for thread in set(threading.enumerate()) - threads:
                found.append(f"step {n}, {stepper.at}: thread {thread.name} is left")
            if new:
                gc.collect()
            if stepper.at is None:
                assert n > first, "there was no step at all"
                return n, found
    raise AssertionError("it has no end")
