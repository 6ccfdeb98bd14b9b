"""The names of a proxy's upstreams, looked up: at first, and again when one cannot be reached.

A resolver may take its time, so it is asked in a thread of its own whenever there is a name to ask
for; until it has answered for the first time, clients wait in the backlog.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from . import _upstream
from ._upstream import Numbered

__all__ = ["Names"]

log = logging.getLogger("spliceio.proxy")
_AGAIN = 5.0


class Names:
    """Looks a list of addresses up, and gives `found` what each stands for, until it is closed.

    As long as `is_lacking` says that one of them cannot be reached, they are looked up again and
    again.
    """

    def __init__(
        self, found: Callable[[list[list[bytes]], Numbered], None], is_lacking: Callable[[], bool]
    ) -> None:
        self._found, self._is_lacking = found, is_lacking
        self._asked = Numbered((), 0)
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()
        self._closed = False

    def look_up(self, wanted: Numbered) -> None:
        """Find these from now on; at once, unless a resolver has to be asked."""
        with self._lock:  # then those before are found no more, and may be forgotten
            self._asked = wanted
        if any(map(_upstream.is_name, wanted.upstreams)):
            self._in(0)
        elif wanted.upstreams:
            self._resolve()

    def look_up_again(self) -> None:
        """What cannot be reached may have moved: ask again, but not at once and not each time."""
        if any(map(_upstream.is_name, self._asked.upstreams)):
            self._in(_AGAIN)

    def close(self) -> None:
        """Find nothing more."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _in(self, seconds: float) -> None:
        def resolve() -> None:
            with self._lock:
                if self._timer is timer:
                    self._timer = None
            self._resolve()

        with self._lock:
            if self._timer is not None and not seconds:
                self._timer.cancel()  # of a list that is no longer wanted, perhaps
                self._timer = None
            if self._timer is None and not self._closed:
                self._timer = timer = threading.Timer(seconds, resolve)
                timer.daemon = True
                timer.start()

    def _resolve(self) -> None:
        asked, addresses = self._asked, []
        for one in asked.upstreams:
            try:
                addresses.append(_upstream.resolve(one))
            except (OSError, ValueError) as error:
                extra = {"event": "unresolved", "upstream": str(one)}
                why = error.strerror if isinstance(error, OSError) else error
                log.warning("%s: %s", one, why, extra=extra)
                addresses.append([])
                self.look_up_again()
        with self._lock:
            # The list may have been replaced, or all be over, while the resolver was asked.
            if asked is self._asked and not self._closed:
                self._found(addresses, asked)
        if self._is_lacking():
            self.look_up_again()
