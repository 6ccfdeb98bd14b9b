"""Resolver of a proxy: looks up the names of its upstreams, and again when one is unreachable.

A lookup may take its time, so it runs in a thread of its own as soon as there is a name to look up;
until the first has ended, clients wait in the backlog.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from .._relay.notify import Thread
from . import upstreams as _upstreams
from .upstreams import Numbered

__all__ = ["Resolver"]

log = logging.getLogger("spliceio.proxy")
_AGAIN = 5.0


class Resolver:
    """Resolves a list of addresses, and calls `found` with the result, until it is closed.

    As long as `is_lacking` says that one of them cannot be reached, they are looked up again and
    again.
    """

    def __init__(
        self, found: Callable[[list[list[bytes]], Numbered], None], is_lacking: Callable[[], bool]
    ) -> None:
        self._found, self._is_lacking = found, is_lacking
        self._wanted = Numbered((), 0)
        self._asked: SimpleQueue[float] = SimpleQueue()  # in how many seconds to look them up
        self._later: dict[str, int] = {}  # the thread that waits so long, once there is one
        self._closed = False

    def look_up(self, wanted: Numbered) -> None:
        """Resolve these from now on; at once, unless a name has to be looked up."""
        self._wanted, upstreams = wanted, wanted.upstreams
        has_names = any(map(_upstreams.is_name, upstreams))
        if upstreams and not (has_names and _start_thread(self._resolve)):
            self._resolve()

    def look_up_again(self) -> None:
        """Resolve again soon: an unreachable upstream may have a new address."""
        has_names = any(map(_upstreams.is_name, self._wanted.upstreams))
        if has_names and (self._later or _start_thread(self._wait)):
            self._asked.put(_AGAIN)

    def close(self) -> None:
        """Resolve nothing more."""
        self._closed = True
        self._asked.put(0)

    def _wait(self) -> None:
        # Two may have been started at once.
        this = threading.get_ident()
        if self._later.setdefault("thread", this) != this:
            return
        due = math.inf
        while not self._closed:
            try:
                left = None if due == math.inf else max(0.0, due - time.monotonic())
                due = min(due, time.monotonic() + self._asked.get(timeout=left))
            except Empty:
                due = math.inf
                self._resolve()

    def _resolve(self) -> None:
        while True:
            wanted, addresses = self._wanted, []
            for one in wanted.upstreams:
                try:
                    addresses.append(_upstreams.resolve(one))
                except (OSError, ValueError) as error:
                    extra = {"event": "unresolved", "upstream": str(one)}
                    why = error.strerror if isinstance(error, OSError) else error
                    log.warning("%s: %s", one, why, extra=extra)
                    addresses.append([])
                    self.look_up_again()
            # The list may have been replaced, or all be over, while the resolver was asked.
            if self._closed or wanted is not self._wanted:
                return
            self._found(addresses, wanted)
            # If it was replaced just now, the new one may have been found before the old one.
            if wanted is self._wanted:
                break
        if self._is_lacking():
            self.look_up_again()


def _start_thread(function: Callable[[], None]) -> bool:
    """Call it in a thread; return False if there can be none."""
    try:
        Thread(function, "spliceio-names").start()
    except RuntimeError as error:
        log.warning("names cannot be looked up in a thread: %s", error, extra={"event": "names"})
        return False
    return True
