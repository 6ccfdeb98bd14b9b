"""Copy by read and write methods, block by block, where the descriptors cannot be used.

The bytes pass through the interpreter, and are counted as those of a transfer are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from .result import Fallback, TransferResult

__all__ = ["BlockCopy", "Put", "written_whole"]

Put = Callable[[Any], tuple[int, Any]]
"""Writes some of a block; says how much, and what is left of it (None: nothing)."""


def written_whole(write: Callable[[Any], object]) -> Put:
    """Return a `Put` for a function that writes all it is given."""

    def put(block: Any) -> tuple[int, Any]:
        write(block)
        return len(block), None

    return put


class BlockCopy:
    """One copy: `run` writes the blocks; `moved` and `rest` are true whatever it raises.

    Of `moved`, the first `around` bytes are a header, which `result` counts as "send".
    """

    def __init__(self, put: Put, reason: Fallback, *, method: str, around: int = 0) -> None:
        self.moved = 0
        self.rest: Any = None
        """What of the last block has not been written; None: nothing."""
        self._put, self._reason = put, reason
        self._method, self._around = method, around
        self._begun = time.monotonic()

    def run(self, blocks: Iterable[Any]) -> TransferResult:
        """Write every block to its end."""
        for block in blocks:
            self.rest = block
            while self.rest is not None:
                n, self.rest = self._put(self.rest)
                self.moved += n
        return self.result()

    def result(self) -> TransferResult:
        """Return what has been done so far."""
        around = min(self._around, self.moved)
        by_method = {self._method: self.moved - around, "send": around}
        return TransferResult(
            self.moved,
            self._method,
            time.monotonic() - self._begun,
            (self._reason,),
            {name: count for name, count in by_method.items() if count},
        )
