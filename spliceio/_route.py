"""Which upstream for this connection?  Python decides, from the first bytes.

The C has peeked at what the client sent and waits for the answer; nothing has been consumed. The
callable runs in threads of its own, so that one that waits (for a resolver, say) holds up neither
the bytes of other connections nor their news.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from . import _address, _upstream
from ._cffi import ffi, lib
from ._sniff import More

__all__ = ["Chosen", "ClientAddress", "More", "Route", "Router", "shown"]

log = logging.getLogger("spliceio.proxy")
_WORKERS = 4


ClientAddress = tuple[str, int] | str
Chosen = _address.AddressLike | list[_address.AddressLike] | Literal[More.MORE] | None
Route = Callable[[ClientAddress, bytes], Chosen]


def shown(client: ClientAddress) -> str:
    """Write a client's address as a log shows it."""
    return client if isinstance(client, str) else str(_address.Address(*client))


class Router:
    """Asks a route in threads, and gives its answers to the engines until it is closed.

    `setup` says whether every end is told, so that `forget` is called for each link.
    """

    def __init__(self, route: Route, setup: Any) -> None:
        self._route, self._setup = route, setup
        self._lock = threading.RLock()
        self._closed = False
        self._chosen: dict[int, list[str]] = {}
        self._threads = ThreadPoolExecutor(_WORKERS, "spliceio-route")

    def ask(self, link: Any, client: ClientAddress) -> None:
        """Let the route decide about a link that is held for this until it is answered."""
        first = bytes(ffi.buffer(link.peeked, link.peeked_len)) if link.peeked_len else b""
        with self._lock:
            if not self._closed:
                self._threads.submit(self._decide, link, client, first)

    def _decide(self, link: Any, client: ClientAddress, first: bytes) -> None:
        chosen: Chosen = None
        named: list[_address.Address] = []
        addresses: list[list[bytes]] = []
        try:
            chosen = self._route(client, first)
            if chosen is not None and not isinstance(chosen, More):
                named = _upstream.upstreams(chosen)
                addresses = [_upstream.resolve(one) for one in named]
        except BaseException as error:
            chosen = None
            if not self._closed:  # at the end an async route is cancelled, which is no failure
                _log_failure(client, error)
        self._answer(link, named, addresses, isinstance(chosen, More))

    def _answer(
        self, link: Any, named: list[_address.Address], addresses: list[list[bytes]], more: bool
    ) -> None:
        # Once it is closed the link may be no more: its engine has cut it.
        with self._lock:
            if not self._closed:
                if self._setup.tell:
                    self._chosen[_key(link)] = [str(one) for one in named]
                to = _upstream.packed(addresses) if addresses else ffi.NULL
                lib.sio_link_route(link, to, more)

    def forget(self, link: Any) -> list[str]:
        """Return what was chosen for a link that is over."""
        with self._lock:
            return self._chosen.pop(_key(link), [])

    def close(self) -> None:
        """Answer no more; the engines are about to go."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def _log_failure(client: ClientAddress, error: BaseException) -> None:
    who = shown(client)
    log.warning(
        "the route for %s failed, the connection is closed: %s",
        who,
        error,
        exc_info=None if isinstance(error, OSError) else error,
        extra={"event": "route-failed", "client": who},
    )


def _key(link: Any) -> int:
    return int(ffi.cast("intptr_t", link))
