"""The sockets that a proxy listens on: made, or given and duplicated, until nobody accepts.

Rule 1: whatever is interrupted here can be closed: nothing is open that is not in a list, and a
        path that is about to be bound is written down before.
Rule 2: each step of the end can be repeated, when a signal handler that raises has interrupted it,
        and by another thread meanwhile.
Rule 3: a socket that was given gets its blocking mode back, but only when no engine has it.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket

from . import _address

__all__ = ["Listen", "Listeners"]

Listen = _address.AddressLike | socket.socket


class Listeners:
    """Sockets that listen, and what has to be put back at their end."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._open: list[socket.socket | io.FileIO] = []
        self._blocking: list[io.FileIO] = []
        self._paths: dict[str, tuple[int, bool]] = {}  # inodes; whether that is ours, or was there

    @property
    def fds(self) -> list[int]:
        """The descriptors, all nonblocking."""
        return [one.fileno() for one in self._open]

    def add(self, given: Listen, reuse_port: bool) -> None:
        """Listen there, too.

        Raises ValueError for what is no address or does not listen, OSError when that cannot be.
        """
        if isinstance(given, socket.socket):
            if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValueError("Proxy: a socket to listen on has to listen; call listen() first")
            self._open.append(_duplicate(given))
            if os.get_blocking(given.fileno()):
                self._blocking.append(_duplicate(given))
            shown = given
        else:
            address = _address.of(given)
            if address.path:
                self._paths[address.path] = _inode(address.path), False
            try:
                shown = _address.listen(address, reuse_port=reuse_port)
                self._open.append(shown)
            except OSError:
                self._paths.pop(address.path, None)  # it is somebody else's
                raise
            if address.path:
                self._paths[address.path] = _inode(address.path), True
        os.set_blocking(self._open[-1].fileno(), False)
        self.addresses.append(_address.shown(shown))

    def close(self) -> None:
        """Close them, and remove the paths that are still theirs."""
        self.addresses = []
        for one in self._open:
            one.close()
        for path, (inode, is_ours) in list(self._paths.items()):
            now = _inode(path)
            if now and (now == inode) == is_ours:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            self._paths.pop(path, None)

    def give_back(self) -> None:
        """Put the mode of given sockets back, when nobody accepts there any more."""
        for given in self._blocking:
            with contextlib.suppress(ValueError):  # closed by another thread that does the same
                os.set_blocking(given.fileno(), True)
            given.close()

    def abandon(self) -> None:
        """In a child: they are the parent's, and nobody would serve them here."""
        self.addresses = []
        for one in [*self._open, *self._blocking]:
            one.close()


def _inode(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_ino
    return 0


def _duplicate(sock: socket.socket) -> io.FileIO:
    """Duplicate a descriptor into what closes it, in one call: no signal handler comes between."""
    return next(map(io.FileIO, map(os.dup, [sock.fileno()])))
