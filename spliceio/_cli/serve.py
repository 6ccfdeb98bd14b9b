"""`spliceio serve`: the files of a directory over HTTP, by uvicorn's protocol and `StaticFiles`.

Rule 1: when no descriptor is left, or as many connections are open as may be, new clients wait in
the backlog; those who are there are served.
Rule 2: trouble with one connection is one line in the log, and not the next one's.
Rule 3: while nothing happens, nothing is done: no tick.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
from collections.abc import Sequence

from .._proxy import address as _address
from .._proxy.listeners import Listeners
from . import signals
from .commands import announce
from .progress import MissingExtra

try:
    from uvicorn.config import Config

    from ..asgi import StaticFiles
    from .site import Connection, Limits, Site
except ImportError as _error:
    raise MissingExtra(
        f"serve needs uvicorn, httptools and anyio: pip install 'spliceio[serve]' ({_error})"
    ) from None

__all__ = ["Server", "run"]

# Of the client that has gone before it was accepted: the next one may be there.
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EINTR)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TURN = 64
_PAUSE = 0.1
_ENDING = 5.0


class Server:
    """Accepts on each of `listeners`, in a running event loop."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        app: StaticFiles,
        limits: Limits,
        *,
        most: int,
        quiet: bool = False,
    ) -> None:
        config = Config(
            app=app,
            interface="asgi3",
            loop="none",
            http=f"{Connection.__module__}:{Connection.__name__}",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        self.site = Site(config, limits, quiet, self._ended)
        self.listeners, self._most = list(listeners), most
        self._loop = asyncio.get_running_loop()
        self._is_accepting = self._is_stopping = False
        self._count = 0
        self._logged: set[int | None] = set()
        self._coming: set[asyncio.Task[None]] = set()
        self._all_ended = asyncio.Event()

    def start(self) -> None:
        """Begin to accept."""
        if not (self._is_accepting or self._is_stopping):
            self._is_accepting = True
            for one in self.listeners:
                one.setblocking(False)
                self._loop.add_reader(one.fileno(), self.accept, one)

    def pause(self, seconds: float | None) -> None:
        """Accept nobody until a connection has ended, or for so long."""
        self._is_accepting = False
        for one in self.listeners:
            self._loop.remove_reader(one.fileno())
        if seconds is not None:
            self._loop.call_later(seconds, self.start)

    async def stop(self) -> None:
        """Cut what is open; return when it has ended."""
        self._is_stopping = True
        self.pause(None)
        for task in self._coming:
            task.cancel()
        for one in list(self.site.open):
            one.cut()
        if self.site.open:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), _ENDING)

    def accept(self, listener: socket.socket) -> None:
        """Accept who is there, a bounded number at a time."""
        for _ in range(_TURN):
            if self._count >= self._most:
                self.pause(None)
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                # The client stays in the backlog, and the listener readable: wait for a descriptor
                # to come free, or a sandbox to allow it, instead of asking at full speed.
                if error.errno not in (*_NO_ROOM, *self._logged):
                    self._logged.add(error.errno)
                    self.site.log(f"spliceio: serve: accept: {error.strerror}")
                self.pause(_PAUSE)
                return
            self._count += 1
            task = self._loop.create_task(self._connect(client))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _connect(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: Connection(self.site), client)
        except BaseException as error:
            client.close()
            self._ended()
            if not isinstance(error, OSError):
                raise
            self.site.log(f"spliceio: serve: a new connection: {error.strerror}")

    def _ended(self) -> None:
        self._count -= 1
        if not self.site.open:
            self._all_ended.set()
        if not self._is_accepting:
            self.start()


async def _serve(args: argparse.Namespace, listeners: Listeners) -> list[int]:
    """Serve until a signal; return those that came."""
    app = StaticFiles(args.directory, listing=True, dotfiles=True, pin=args.pin)
    caught: list[int] = []
    signalled = asyncio.Event()

    def stop(number: int) -> None:
        caught.append(number)
        signalled.set()

    with contextlib.closing(app):
        limits = Limits(args.timeout, args.max_head)
        most = min(args.max_connections, _room())
        server = Server(listeners.sockets, app, limits, most=most, quiet=args.quiet)
        for number in _ENDS:
            if signal.getsignal(number) is signal.SIG_IGN:  # by nohup
                continue
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        announce(listeners)
        server.start()
        await signalled.wait()
        await server.stop()
    return caught


def _room() -> int:
    """Raise the limit of descriptors as far as it goes; return how many connections fit in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(soft, 1)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


def run(args: argparse.Namespace) -> None:
    """Serve a directory until a signal."""
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    there = _address.places(args.bind)
    with signals.raise_on_signals(), Listeners() as listeners:
        StaticFiles(args.directory, pin=True).close()  # what is wrong is said first, as it is named
        listeners.add(there)
        loop = _new_loop()
        try:
            asyncio.set_event_loop(loop)
            caught = loop.run_until_complete(_serve(args, listeners))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    if signal.SIGHUP in caught:
        raise signals.Killed(signal.SIGHUP)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt
