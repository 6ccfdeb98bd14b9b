"""Routing: a Python callable chooses the upstream of a connection, from its first bytes.

The C has peeked at what the client sent and waits for the answer; nothing has been consumed. The
callable runs in threads of its own, so that one that waits (for a resolver, say) holds up neither
the bytes of other connections nor their completions; and one that hangs does not keep the
interpreter from ending.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from .._cffi import ffi, lib
from .._relay.notify import Thread
from . import address, upstreams
from .sniff import More

if TYPE_CHECKING:
    from .._cffi import (
        struct_sio_conn_ptr,
        struct_sio_proxy_config_ptr,
        struct_sio_proxy_report_ptr,
    )

    _Asked = tuple[struct_sio_conn_ptr, "ClientAddress", bytes]
    _Answered = tuple[struct_sio_conn_ptr, list[address.Address], list[list[bytes]], bool]

__all__ = ["Chosen", "ClientAddress", "More", "Route", "Router", "shown"]

log = logging.getLogger("spliceio.proxy")
_WORKERS = 4


ClientAddress = tuple[str, int] | str
Chosen = address.AddressLike | list[address.AddressLike] | Literal[More.MORE] | None
Route = Callable[[ClientAddress, bytes], Chosen]


def shown(client: ClientAddress) -> str:
    """Return a client's address as a log shows it."""
    return client if isinstance(client, str) else str(address.Address(*client))


class Router:
    """Runs the route in threads, and passes its answers to the engines until it is closed.

    `ask`, `answer` and `forget` are for the completion thread, which alone uses connections and the
    tables here: a connection may be freed once its end was handled. The threads of the route call
    `wake` when there is something to answer. `setup` says whether every end is posted, so that
    `forget` is called for each connection.
    """

    def __init__(
        self, route: Route, setup: struct_sio_proxy_config_ptr, wake: Callable[[], object]
    ) -> None:
        self._route, self._setup, self._wake = route, setup, wake
        self._closed = False
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._answered: deque[_Answered] = deque()
        self._threads: list[Thread] = []
        self._idle_workers: deque[None] = deque()  # one for each thread that waits
        self._open: set[int] = set()
        self._chosen: dict[int, list[str]] = {}

    def ask(
        self, conn: struct_sio_conn_ptr, report: struct_sio_proxy_report_ptr, client: ClientAddress
    ) -> None:
        """Queue a connection for the route; it is held until it is answered."""
        first = bytes(ffi.buffer(report.peeked, report.peeked_len)) if report.peeked_len else b""
        try:
            self._ensure_worker()
        except RuntimeError as error:
            if not self._threads:  # the route will never run
                _log_failure(client, error)
                lib.sio_proxy_route(conn, ffi.NULL, 0)
                return
        self._open.add(_key(conn))
        self._asked.put((conn, client, first))

    def answer(self) -> None:
        """Pass to the engines what the route has decided meanwhile."""
        while self._answered:
            conn, named, addresses, more = self._answered.popleft()
            key = _key(conn)
            if key in self._open and self._setup.tell:  # else it is never asked for
                self._chosen[key] = [str(one) for one in named]
            self._open.discard(key)
            lib.sio_proxy_route(conn, upstreams.packed(addresses) if addresses else ffi.NULL, more)

    def forget(self, conn: struct_sio_conn_ptr) -> list[str]:
        """Return what was chosen for a connection that has ended."""
        self._open.discard(_key(conn))
        return self._chosen.pop(_key(conn), [])

    def close(self) -> None:
        """Queue nothing more. A route that is running goes on, and its answer is dropped."""
        self._closed = True
        for _ in range(_WORKERS):
            self._asked.put(None)

    def _ensure_worker(self) -> None:
        """Make sure that a thread takes the next connection; RuntimeError if there can be none."""
        with contextlib.suppress(IndexError):
            return self._idle_workers.pop()
        if len(self._threads) < _WORKERS:
            thread = Thread(self._work, f"spliceio-route_{len(self._threads)}")
            thread.start()
            self._threads.append(thread)
        return None

    def _work(self) -> None:
        # Not idle at first: the connection for which it was started is about to come.
        asked = self._asked.get()
        while asked is not None and not self._closed:
            self._decide(*asked)
            try:
                asked = self._asked.get_nowait()
            except Empty:
                self._idle_workers.append(None)
                asked = self._asked.get()

    def _decide(self, conn: struct_sio_conn_ptr, client: ClientAddress, first: bytes) -> None:
        chosen: Chosen = None
        named: list[address.Address] = []
        addresses: list[list[bytes]] = []
        try:
            chosen = self._route(client, first)
            if chosen is not None and not isinstance(chosen, More):
                named = upstreams.upstreams(chosen)
                addresses = [upstreams.resolve(one) for one in named]
        except BaseException as error:
            chosen = None
            if not self._closed:  # at the end an async route is cancelled, which is no failure
                _log_failure(client, error)
        self._answered.append((conn, named, addresses, isinstance(chosen, More)))
        self._wake()


def _log_failure(client: ClientAddress, error: BaseException) -> None:
    who = shown(client)
    log.warning(
        "the route for %s failed, the connection is closed: %s",
        who,
        error,
        exc_info=None if isinstance(error, OSError) else error,
        extra={"event": "route-failed", "client": who},
    )


def _key(conn: struct_sio_conn_ptr) -> int:
    return int(ffi.cast("intptr_t", conn))
