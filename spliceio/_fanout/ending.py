"""Close a fan-out on every path, and give an exception its result.

Rule 1: what is closed here holds descriptors, and is let go of with the exception that ended it: no
name for that exception stays in a frame that it came through, which would keep both of them, and
every descriptor, until the collector runs.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

__all__ = ["CloseWithResult"]


class _Run(Protocol):
    """What CloseWithResult closes."""

    def salvage(self, error: BaseException) -> None: ...

    def close(self) -> None: ...


class CloseWithResult:
    """A context manager that closes a run; an exception gets `result`, by `salvage`."""

    __slots__ = ("_run",)

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if value is not None:
                self._run.salvage(value)
        finally:
            self._run.close()
