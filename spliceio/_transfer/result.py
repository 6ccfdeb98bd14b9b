"""What a transfer says that it has done: `TransferResult`, and `Fallback` for what was refused.

Values that somebody else fills in; nothing here asks a descriptor or the C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .._public import public

__all__ = ["Fallback", "TransferResult"]


@public
@dataclass(frozen=True)
class Fallback:
    """A method that was refused before it moved a byte, and why the next one was taken.

    `errno` is the kernel's answer; 0 means that the method reported the end of a file that had
    data. The three fields unpack as a tuple would: `method, errno, why = fallback`.
    """

    method: str
    errno: int
    why: str

    def __iter__(self) -> Iterator[Any]:
        return iter((self.method, self.errno, self.why))


@public
@dataclass(frozen=True)
class TransferResult:
    """The result of a transfer.

    `moved` is in bytes, `seconds` is the time from start to end. `method` is the one that moved
    most of them ("copy_file_range", "sendfile", "splice" or "read_write"), `by_method` says how
    many bytes each moved, and `fallbacks` which methods were refused before, and why.
    """

    moved: int
    method: str
    seconds: float
    fallbacks: tuple[Fallback, ...] = ()
    by_method: dict[str, int] = field(default_factory=dict)
