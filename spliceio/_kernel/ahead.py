"""What a BufferedReader holds in memory, seen and taken without letting it read more.

It has no way to say what it holds: peek(), read1() and the rest read from the raw file when that is
nothing, and may block. To poll the descriptor first is no answer: it does not say whether anything
is held, and another reader may be quicker. So for the duration of such a call the raw file has
"nothing at the moment" (None), by a readinto of its own.

Rule 1: only the call that wants it, in its thread, is told so. Whoever reads meanwhile in another
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

__all__ = ["seen", "taken"]

_NAME = "readinto"


def seen(file: io.BufferedReader) -> bytes:
    """Return the bytes that a reader has in memory; its raw file has to have a __dict__."""
    with _nothing_more(file.raw):
        return file.peek()


def taken(file: io.BufferedReader, most: int | None) -> bytes:
    """Take up to `most` of the bytes that a reader has in memory."""
    with _nothing_more(file.raw):
        held = len(file.peek())
        wanted = held if most is None else min(most, held)
        return (file.read(wanted) or b"") if wanted else b""


class _Silent:
    """A raw file's readinto that has nothing for one thread, and all for others."""

    is_passing = True  # no method of the caller's, for who looks at what the raw file has

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
    silent = _Silent(raw)
    try:
        _put(raw.__dict__, silent)
        yield
    finally:
        silent.thread = None
        _clear(raw.__dict__)


# No lock, which a signal handler or a forked child could find taken. Between a look and the store
# after it there is no call and no jump: neither another thread nor a handler gets a turn there.


def _put(attributes: dict[str, Any], silent: _Silent) -> None:
    while True:
        silent.before = attributes.get(_NAME)
        if silent.before is None:
            if attributes.setdefault(_NAME, silent) is silent:
                return
        elif _NAME in attributes and attributes[_NAME] is silent.before:
            attributes[_NAME] = silent
            return


def _clear(attributes: dict[str, Any]) -> None:
    """Take off what is over; what is below one that is not, goes with that."""
    while True:
        top = attributes.get(_NAME)
        if top.__class__ is not _Silent or top.thread is not None:
            return
        below = top.before
        if below is None:
            if _NAME in attributes and attributes[_NAME] is top:
                del attributes[_NAME]
        elif _NAME in attributes and attributes[_NAME] is top:
            attributes[_NAME] = below
