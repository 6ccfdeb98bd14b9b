"""Read-ahead of a BufferedReader: the bytes in its memory, peeked at or taken without a read.

It has no way to say what it holds: peek(), read1() and the rest read from the raw file when that is
nothing, and may block. To poll the descriptor first is no answer: it does not say whether anything
is held, and another reader may be quicker. So for the duration of such a call the raw file has
"nothing at the moment" (None), by a readinto of its own.

Rule 1: only the call that wants it, in its thread, gets None. A read meanwhile in another
        thread goes on to what was there before.
Rule 2: however such calls in several threads overlap, what was there before is back with the last.
Not promised: who calls while another thread is inside a read of the same reader waits for its lock.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["peek_buffer", "take_buffer"]

_NAME = "readinto"


def peek_buffer(file: io.BufferedReader) -> bytes:
    """Return the bytes that a reader has in memory; its raw file has to have a __dict__."""
    with _nothing_more(file.raw):
        return file.peek()


def take_buffer(file: io.BufferedReader, most: int | None) -> bytes:
    """Take up to `most` of the bytes that a reader has in memory."""
    with _nothing_more(file.raw):
        held = len(file.peek())
        wanted = held if most is None else min(most, held)
        return (file.read(wanted) or b"") if wanted else b""


class _EmptyRead:
    """A raw file's readinto that returns None for one thread, and reads for all others."""

    is_read_ahead_guard = True  # not a method of the caller's

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.thread: int | None = threading.get_ident()  # None: it is over
        self.before: Any = None  # what the raw file had: of a caller, or of another thread's call

    def __call__(self, buffer: Any) -> Any:
        if self.thread == threading.get_ident():
            return None
        if self.before is not None:
            return self.before(buffer)
        return type(self.raw).readinto(self.raw, buffer)


@contextlib.contextmanager
def _nothing_more(raw: Any) -> Iterator[None]:
    """Let the raw file have nothing to read for this thread, in the block."""
    empty = _EmptyRead(raw)
    try:
        _put(raw.__dict__, empty)
        yield
    finally:
        empty.thread = None
        _clear(raw.__dict__)


# No lock, which a signal handler or a forked child could find taken. Between a look and the store
# after it there is no call and no jump: neither another thread nor a handler gets a turn there.


def _put(attributes: dict[str, Any], empty: _EmptyRead) -> None:
    while True:
        empty.before = attributes.get(_NAME)
        if empty.before is None:
            if attributes.setdefault(_NAME, empty) is empty:
                return
        elif _NAME in attributes and attributes[_NAME] is empty.before:
            attributes[_NAME] = empty
            return


def _clear(attributes: dict[str, Any]) -> None:
    """Remove the guards that are over from the top; one below another is removed with that."""
    while True:
        top = attributes.get(_NAME)
        if top.__class__ is not _EmptyRead or top.thread is not None:
            return
        below = top.before
        if below is None:
            if _NAME in attributes and attributes[_NAME] is top:
                del attributes[_NAME]
        elif _NAME in attributes and attributes[_NAME] is top:
            attributes[_NAME] = below
