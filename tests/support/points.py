"""Every point: where a call waits and can be cancelled, and where a signal handler can raise.

Rule 1: points are counted, not timed: a test goes from the first to the one that is never reached.
Rule 2: a handler runs where CPython looks for signals: behind a call, at the beginning of a
        function and of a loop's next round. It raises at the next instruction, so what a function
        does first is already in a `try` that it begins with.
"""

from __future__ import annotations

import asyncio
import dis
import functools
import sys
from collections.abc import Awaitable, Callable, Generator
from types import CodeType, FrameType
from typing import Any

import anyio


class Suspended:
    """Await a call, and cancel it at its n-th suspension; `reached` says whether there was one."""

    def __init__(self, call: Callable[[], Awaitable[Any]], at: int, way: str) -> None:
        self.call, self.at, self.way, self.count = call, at, way, 0
        self.scope = anyio.CancelScope()
        self.outcome: Any = None

    @property
    def reached(self) -> bool:
        return self.count >= self.at

    async def run(self) -> Any:
        """Return what the call returned, or what passed through it."""
        if self.way == "task":
            await asyncio.wait([asyncio.ensure_future(self._noted())])
        else:
            with self.scope:
                await self._noted()
        return self.outcome

    async def _noted(self) -> None:
        try:
            self.outcome = await self
        except BaseException as error:
            self.outcome = error
            if self.way == "scope":
                raise

    def _cancel(self) -> None:
        if self.way == "task":
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        else:
            self.scope.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.call().__await__()
        go_on = functools.partial(next, inner)
        while True:
            try:
                waits_for = go_on()
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.count == self.at:
                self._cancel()
            try:
                go_on = functools.partial(inner.send, (yield waits_for))
            except BaseException as error:
                go_on = functools.partial(inner.throw, error)


class Raised(Exception):
    """What the handler raises."""


@functools.cache
def _looks(code: CodeType) -> dict[int, bool]:
    """Say of each instruction whether CPython looks for signals at its end."""
    return {
        one.offset: (
            one.opname.startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE"))
            and "NO_INTERRUPT" not in one.opname
        )
        # Not where an await goes on.
        or (one.opname == "RESUME" and one.arg < 2)
        for one in dis.get_instructions(code)
    }


class Handler:
    """A signal handler that raises at the n-th point of the code in some files."""

    def __init__(self, files: set[str], at: int) -> None:
        self.files, self.at, self.count, self.where = files, at, 0, ""
        self._last: dict[int, bool] = {}

    @property
    def reached(self) -> bool:
        return self.count >= self.at

    def __enter__(self) -> Handler:
        # Python 3.12 looks at what has been asked for once, in settrace().
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_exception: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            last = self._last.get(id(frame), False)
            self._last[id(frame)] = _looks(frame.f_code).get(frame.f_lasti, False)
            if last:
                self.count += 1
                if self.count == self.at:
                    self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                    raise Raised
        elif event == "return":
            self._last.pop(id(frame), None)
        return self._step
