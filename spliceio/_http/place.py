"""Place of an open file: the file under an object, its position, and what is left from there.

Rule 1: only a real file with a size that is known has one: everything else has to be read.
Rule 2: what is sent of it moves the position to where reading as much would leave it.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from .._cffi import lib
from .._kernel import endpoint, objects
from .._kernel.arguments import Window
from .._kernel.number import number

__all__ = ["Place", "place_of"]


class Place(NamedTuple):
    """A real file, its descriptor's number, and the part of it that is wanted."""

    file: Any
    fd: int
    begin: int
    most: int

    def move(self, count: int) -> None:
        """Move the position to where reading so many bytes leaves it."""
        if hasattr(self.file, "seek"):
            self.file.seek(self.begin + count)
        else:
            os.lseek(number(self.file, "src"), self.begin + count, os.SEEK_SET)


def place_of(given: Any, call: str, offset: int | None, count: int | None) -> Place:
    """Find the real file, and how many bytes it has of those wanted from `offset` on.

    Without `offset` that is its position, without `count` all to its end. Raises ValueError or
    TypeError for what has bytes of its own, no position or no known size.
    """
    if isinstance(given, Window):
        raise TypeError("it is read from no position")  # nor has it a read()
    file = objects.real(given, call, "src", sends=False)
    info = endpoint.info_of(file, call, "src")
    if info.kind != lib.SIO_KIND_FILE or not info.size_is_known:
        raise ValueError(f"{info.text} has no size that is known before it is read")
    if offset is not None:
        begin = offset
    elif hasattr(file, "tell"):
        begin = file.tell()
    else:
        begin = os.lseek(info.fd, 0, os.SEEK_CUR)
    if hasattr(file, "flush"):
        file.flush()
    left = max(0, os.fstat(info.fd).st_size - begin)
    return Place(file, info.fd, begin, left if count is None else min(count, left))
