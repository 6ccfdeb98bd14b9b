"""Listen, connect, hand each pair to a relay: many connections, a thread each.

Threads wait in C without the GIL, so they are cheap while bytes flow; what they cost is memory for
each connection that is open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import select
import socket
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable

from . import _address
from ._relay import RelayResult, run_relay

__all__ = ["ThreadedProxy"]

log = logging.getLogger("spliceio.proxy")
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_CONNECT_TIMEOUT = 10.0
_ACCEPT_TIMEOUT = 0.2
_LINGER = 10.0
_RESET = struct.pack("ii", 1, 0)


class ThreadedProxy:
    """Accept on `listener` and relay every connection to `upstream` until `stop` is called."""

    def __init__(
        self,
        listener: socket.socket,
        upstream: _address.Address,
        *,
        method: str = "auto",
        idle_timeout: float | None = None,
    ) -> None:
        self.listener = listener
        self.upstream = upstream
        self.method = method
        self.idle_timeout = idle_timeout
        self.connections = 0
        self.a_to_b = 0
        self.b_to_a = 0
        self.methods: Counter[str] = Counter()
        self._stopping = False
        self._changed = threading.Condition()
        self._open: dict[threading.Thread, list[socket.socket]] = {}

    def serve_forever(self) -> None:
        """Accept until `stop`; then cut what is still open, and return when it has ended."""
        # A signal that another thread has taken does not wake accept(), and its handler runs here.
        self.listener.settimeout(_ACCEPT_TIMEOUT)
        try:
            while not self._stopping:
                self._accept()
        finally:
            self._cut()

    def stop(self) -> None:
        """End `serve_forever`, from another thread or a signal handler."""
        self._stopping = True
        # close() would not wake a thread in accept(); shutdown() does.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except TimeoutError:
            return
        except OSError as error:
            if self._stopping:
                return
            if error.errno not in _NO_ROOM:
                log.warning("accept: %s", error.strerror)
                return
            # The connection stays in the backlog, and the listener readable: wait for a
            # descriptor to come free instead of asking at full speed.
            with self._changed:
                self._changed.wait(0.1)
            return
        thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
        with self._changed:
            self._open[thread] = [client]
        self.connections += 1
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("no thread for a connection: %s", error)
            self._forget(thread)

    def _serve(self, client: socket.socket) -> None:
        thread = threading.current_thread()
        try:
            server = _address.connect(self.upstream, _CONNECT_TIMEOUT)
        except OSError as error:
            log.warning("%s: %s", self.upstream, error.strerror or error)
            self._forget(thread)
            return
        try:
            with self._changed:
                self._open[thread].append(server)
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._relay(client, server)
        except OSError as error:
            log.warning("relay: %s", error.strerror or error)
        finally:
            self._forget(thread)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        result = run_relay(client, server, idle_timeout=self.idle_timeout, method=self.method)
        if result.reason.startswith("reset"):
            _pass_reset_on(client, server)
        with self._changed:
            self._count(result)

    def _count(self, result: RelayResult) -> None:
        self.a_to_b += result.a_to_b
        self.b_to_a += result.b_to_a
        self.methods.update(result.methods)

    def _forget(self, thread: threading.Thread) -> None:
        with self._changed:
            for sock in self._open.pop(thread, []):
                sock.close()
            self._changed.notify_all()

    def _each_open(self, act: Callable[[socket.socket], None]) -> None:
        for socks in self._open.values():
            for sock in socks:
                with contextlib.suppress(OSError):
                    act(sock)

    def _cut(self) -> None:
        with self._changed:
            self._each_open(lambda sock: sock.shutdown(socket.SHUT_RDWR))
            self._changed.wait_for(lambda: not self._open, timeout=_CONNECT_TIMEOUT)


def _pass_reset_on(*socks: socket.socket) -> None:
    """Let a broken connection look broken on the other side too, and not ended.

    A reset throws away what is still on its way, so what was relayed before goes out first.
    """
    deadline = time.monotonic() + _LINGER
    for sock in socks:
        with contextlib.suppress(OSError):
            while _unacknowledged(sock) and time.monotonic() < deadline:
                # No event tells that a peer has acknowledged everything.
                time.sleep(0.01)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _unacknowledged(sock: socket.socket) -> int:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _is_closed(sock):
        return 0
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])


def _is_closed(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
