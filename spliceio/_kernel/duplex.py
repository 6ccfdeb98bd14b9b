"""Two pipes as a two-way connection, for a child's stdin and stdout: `Duplex`, `pipe_pair`."""

from __future__ import annotations

from collections.abc import Iterator

from .._public import public
from .closing import Closing
from .pipe import Pipe

__all__ = ["Duplex", "pipe_pair"]


@public
class Duplex(Closing):
    """One side of a two-way connection made of two pipes: read from `reader`, write to `writer`.

    Both are descriptor numbers, and the Duplex closes them. It unpacks as `reader, writer`, and
    stands for a side of `relay`.
    """

    def __init__(self, inward: Pipe, outward: Pipe) -> None:
        self._inward, self._outward = inward, outward

    @property
    def reader(self) -> int:
        """The number of the descriptor to read from; -1 when closed."""
        return self._inward.reader

    @property
    def writer(self) -> int:
        """The number of the descriptor to write to; -1 when closed."""
        return self._outward.writer

    def close_writer(self) -> None:
        """Close the writing half: the other side reads the end of file."""
        self._outward.close_writer()

    def close(self) -> None:
        """Close both halves. Safe to call twice and from another thread."""
        self._outward.close_writer()
        self._inward.close_reader()

    def __iter__(self) -> Iterator[int]:
        return iter((self.reader, self.writer))

    def __repr__(self) -> str:
        return f"<Duplex reader={self.reader} writer={self.writer}>"


@public
def pipe_pair(capacity: int | None = None) -> tuple[Duplex, Duplex]:
    """Make two pipes and join them crosswise: what one side writes, the other reads.

    Made for a child process: give it the reader and writer of one side as stdin and stdout, close
    that side here, and pass the other to `relay`. `capacity` is that of `Pipe`, for each.
    Raises what `Pipe` raises.
    """
    one = Pipe(capacity)
    try:
        two = Pipe(capacity)
    except OSError:
        one.close()
        raise
    return Duplex(one, two), Duplex(two, one)
