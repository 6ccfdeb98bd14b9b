"""Listening sockets: created, or duplicated from the caller's, and closed or restored.

Rule 1: whatever is interrupted here can be closed: nothing is open that is not in a list, and a
        path that is about to be bound is written down before.
Rule 2: each step of the end can be repeated, when a signal handler that raises has interrupted it,
        and by another thread meanwhile.
Rule 3: a socket that was given gets its blocking mode and its options back, but only when no engine
        has it; its path is not removed, whichever process made it.
Rule 4: a name stands for all its addresses that this machine has, and for one port.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from itertools import repeat
from typing import Any

from .._kernel.closing import Closing
from . import address as _address
from .unix_path import BoundPath

__all__ = ["Listen", "Listeners"]

Listen = _address.AddressLike | _address.Places | socket.socket

_BACKLOG = 4096
_PORTS = 16  # to try, where several addresses have to have the same
# An address, or a family, of which this machine has none.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# The client has disconnected before it was accepted: another one may be there.
_GONE = (errno.EAGAIN, errno.ECONNABORTED, errno.EPROTO)
# What an engine changes (csrc/proxy/tune.c), and accepted sockets inherit.
_CHANGED = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
)


class Listeners(Closing):
    """Listening sockets, and what has to be restored at their end."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.sockets: list[socket.socket] = []
        self._given: list[_SharedSocket] = []
        self._paths: list[BoundPath] = []

    @property
    def fds(self) -> list[int]:
        """The descriptors, all nonblocking."""
        return [one.fileno() for one in self._all]

    @property
    def _all(self) -> list[socket.socket | _SharedSocket]:
        return [*self.sockets, *self._given]

    def add(self, given: Listen, reuse_port: bool = False) -> None:
        """Listen on another address or socket.

        Raises ValueError for what is no address or does not listen, OSError when that cannot be.
        """
        if isinstance(given, socket.socket):
            if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValueError("Proxy: a socket to listen on has to listen; call listen() first")
            self._given.append(_SharedSocket(given))
            os.set_blocking(given.fileno(), False)
            self.addresses.append(_address.bound_to(given).text)
            return
        there = _address.places(given)
        try:
            made = self._on_path(there) if there.address.path else _on_port(there, reuse_port)
        except OSError as error:
            raise _address.naming(error, there.address) from None
        for sock in made:
            os.set_blocking(sock.fileno(), False)
            self.sockets.append(sock)
            self.addresses.append(_address.bound_to(sock).text)

    def _on_path(self, there: _address.Places) -> list[socket.socket]:
        ((family, name),) = there.names
        sock = socket.socket(family)
        path = None if there.address.is_abstract else BoundPath(sock, there.address.path)
        try:
            if path is None:
                sock.bind(name)
            else:
                self._paths.append(path)
                path.bind()
            sock.listen(_BACKLOG)
        except OSError:
            if path is not None:
                path.remove()
            sock.close()
            raise
        return [sock]

    def accept(self) -> socket.socket:
        """Wait for a connection; return it."""
        poll = select.poll()
        for one in self.sockets:
            poll.register(one, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            for one in self.sockets:
                if one.fileno() in ready:
                    try:
                        return one.accept()[0]
                    except OSError as error:
                        if error.errno not in _GONE:
                            raise

    def close(self) -> None:
        """Close the sockets, and remove the paths that are still theirs."""
        self.addresses = []
        for path in list(self._paths):
            path.close()
        for one in self._all:
            one.close()

    def restore_mode(self) -> None:
        """Restore the mode of the caller's sockets, when no engine accepts on them any more."""
        for given in self._given:
            given.restore_mode()

    def close_in_child(self) -> None:
        """In a forked child: close the copies."""
        self.addresses = []
        for one in self._all:
            one.close()
        for given in self._given:
            given.close_in_child()


class _SharedSocket:
    """Duplicates of the caller's listening socket: one to listen on, one to restore its mode by."""

    def __init__(self, sock: socket.socket) -> None:
        self._was_blocking = os.get_blocking(sock.fileno())
        self._options: list[tuple[int, int, int]] = []
        for level, option in _CHANGED:
            with contextlib.suppress(OSError):  # it is no TCP socket
                self._options.append((level, option, sock.getsockopt(level, option)))
        self._listener = _duplicate(sock)
        try:
            self._kept = _duplicate(sock)
        except OSError:
            self._listener.close()
            raise

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()

    def restore_mode(self) -> None:
        with contextlib.suppress(OSError):  # closed by another thread that does the same
            for level, option, value in self._options:
                self._kept.setsockopt(level, option, value)
            if self._was_blocking:
                os.set_blocking(self._kept.fileno(), True)
        self._kept.close()

    def close_in_child(self) -> None:
        self._listener.close()
        self._kept.close()


def _duplicate(sock: socket.socket) -> socket.SocketType:
    """Duplicate a socket into an object, in one call: no signal handler can leak it."""
    any_kind = repeat(-1)
    return next(map(socket.SocketType, any_kind, any_kind, any_kind, map(os.dup, [sock.fileno()])))


def _on_port(there: _address.Places, reuse_port: bool) -> list[socket.socket]:
    """Listen on all addresses of a name; if any port will do, on the same one."""
    left = _PORTS if len(there.names) > 1 and not there.address.port else 1
    while True:
        made: list[socket.socket] = []
        left -= 1
        try:
            _listen_on_each(there, reuse_port, made)
        except OSError as error:
            for sock in made:
                sock.close()
            # A port that was free at one address may be taken at the next.
            if error.errno != errno.EADDRINUSE or not left:
                raise
        else:
            return made


def _listen_on_each(there: _address.Places, reuse_port: bool, made: list[socket.socket]) -> None:
    port, missing = there.address.port, OSError(errno.EADDRNOTAVAIL, "it has no address")
    for family, (host, _, *rest) in there.names:
        try:
            made.append(_listen_on_one(family, (host, port, *rest), there.address, reuse_port))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            missing = error
            continue
        port = made[0].getsockname()[1]
    if not made:
        raise missing


def _listen_on_one(
    family: int, name: tuple[Any, ...], address: _address.Address, reuse_port: bool
) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # its IPv4 is an address of its own, if there is a host
            only = 1 if address.host else 0
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind(name)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
