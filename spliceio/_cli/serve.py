"""`spliceio serve`: an HTTP server for files, with a thread for each connection.

Rule 1: when no descriptor or thread is left, new clients wait; those who are there are served.
Rule 2: trouble with one connection is one line in the log, and not the next one's.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from typing import Any

from .._http.docroot import Docroot
from .._http.site import Handler, Site
from .._proxy import address as _address
from .._proxy.listeners import Listeners
from . import signals
from .commands import announce

__all__ = ["Server", "run"]

# Of the client that has gone before it was accepted: the next one may be there.
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EINTR)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ENDING = 5.0


class Server(ThreadingHTTPServer):
    """An HTTP server that accepts on each of `listeners`, and serves `site`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listeners: Sequence[socket.socket], site: Site) -> None:
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.listeners = {one.fileno(): one for one in listeners}
        self.site = site
        self._stopping = False
        self._changed = threading.Condition()
        self._logged: set[int | None] = set()
        self._open: set[socket.socket] = set()

    def serve_forever(self, poll_interval: float = 1.0) -> None:
        """Accept until `stop`; then shut open connections down, and return when they have ended."""
        poll = select.poll()
        for fd, one in self.listeners.items():
            one.setblocking(False)
            poll.register(fd, select.POLLIN)
        try:
            while not self._stopping:
                # A signal that another thread has taken wakes no poll(); its handler runs here.
                for fd, _ in poll.poll(poll_interval * 1000):
                    self._accept(self.listeners[fd])
        finally:
            self._shut_down_open()

    def stop(self) -> None:
        """End `serve_forever`, from another thread or a signal handler."""
        self._stopping = True
        for one in self.listeners.values():
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if not self._stopping and error.errno not in _GONE:
                # The client stays in the backlog, and the listener readable: wait for a descriptor
                # to come free, or a sandbox to allow it, instead of asking at full speed.
                if error.errno not in (*_NO_ROOM, *self._logged):
                    self._logged.add(error.errno)
                    self.site.log(f"spliceio: serve: accept: {error.strerror}\n")
                self._wait_for_an_end()
            return
        with self._changed:
            self._open.add(client)
        try:
            self.process_request(client, address)
        except RuntimeError as error:
            self.site.log(f"spliceio: serve: no thread for a connection: {error}\n")
            self.shutdown_request(client)
            self._wait_for_an_end()

    def _wait_for_an_end(self) -> None:
        with self._changed:
            self._changed.wait(0.1)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and notify the threads that wait for a free descriptor."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an unexpected exception of a thread; that a client disconnects is expected."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.site.log(f"spliceio: serve: {type(error).__name__}: {error}\n")

    def _shut_down_open(self) -> None:
        with self._changed:
            for client in self._open:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=_ENDING)


def run(args: argparse.Namespace) -> None:
    """Serve a directory until a signal."""
    docroot = Docroot(args.directory)
    there = _address.places(args.bind)
    caught: list[int] = []
    with contextlib.closing(docroot), signals.raise_on_signals(), Listeners() as listeners:
        listeners.add(there)
        server = Server(listeners.sockets, Site(docroot, args.timeout, args.quiet))

        def stop(number: int, _frame: object) -> None:
            caught.append(number)
            server.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        announce(listeners)
        server.serve_forever()
    if signal.SIGINT in caught:
        raise KeyboardInterrupt
