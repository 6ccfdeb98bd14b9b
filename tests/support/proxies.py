"""What the tests of Proxy stand on: clients, servers with a name, time that is let pass, the log.

`Server`, `echo` and `ask` are those of servers.py; here is what a Proxy of this process needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import socket
import subprocess
import sys
import termios
import threading

from spliceio import Proxy, ProxyStats
from spliceio._cffi import lib
from tests.cli import test_proxy
from tests.support.servers import Server, echo, read_all

from .pools import skip_time as skip
from .seam import Seam
from .states import Worker, until

LOG = "spliceio.proxy"
ANY = "127.0.0.1:0"


class At:
    """Where clients connect to, as `ask` takes it: an address, or the first one of a Proxy."""

    def __init__(self, where: Proxy | str) -> None:
        self.address = where if isinstance(where, str) else where.address

    def connect(self) -> socket.socket:
        """Return a new connection."""
        if not self.address.startswith("unix:"):
            return test_proxy.Proxy.connect(self)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self.address[5:])
        except BaseException:
            sock.close()
            raise
        return sock


class Later(Server):
    """A server on a port of which it was known before that nobody listens."""

    def __init__(self, port: int, serve) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.address, self.serve, self.workers = f"127.0.0.1:{port}", serve, []
        self.acceptor = Worker(self._accept)


def patient(sock: socket.socket) -> None:
    """Echo, to a client that may be cut off."""
    with contextlib.suppress(ConnectionError):
        echo(sock)


def named(name: bytes):
    """Make what a server does that says its name first, then echoes."""

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            sock.sendall(name)
            echo(sock)

    return serve


def whom(proxy: Proxy | str) -> bytes:
    """Say which server a new connection gets: its name, or b"" when it is closed."""
    with At(proxy).connect() as sock, contextlib.suppress(ConnectionError):
        name = sock.recv(1)
        sock.shutdown(socket.SHUT_WR)
        return name + read_all(sock)
    return b""


def idle(proxy: Proxy) -> ProxyStats:
    """Wait until no connection is open; return the counts."""
    until(lambda: proxy.stats().active == 0)
    return proxy.stats()


def talks(sock: socket.socket, text: bytes = b"hello") -> bool:
    """Say something to an echo, and hear it."""
    sock.sendall(text)
    return sock.recv(100) == text


def reset(sock: socket.socket) -> None:
    """Close it so that the other side gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, test_proxy.LINGER)
    sock.close()


def heard(sock: socket.socket) -> tuple[bytes, bool]:
    """Read to the end; return what came, and whether the end was a reset."""
    got = bytearray()
    try:
        while part := sock.recv(1 << 20):
            got += part
    except ConnectionResetError:
        return bytes(got), True
    return bytes(got), False


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes, or to the end."""
    got = bytearray()
    while len(got) < count and (part := sock.recv(min(1 << 20, count - len(got)))):
        got += part
    return bytes(got)


def is_cut(sock: socket.socket) -> bool:
    """Read to the end; say whether it was a reset."""
    return heard(sock)[1]


def refuses(address: str) -> bool:
    """Say whether nobody listens there now."""
    try:
        At(address).connect().close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:  # it was in the backlog of a listener that closed
        pass
    return False


def of_listener(listener: socket.socket) -> str:
    """Return the address of a listening socket on 127.0.0.1."""
    return f"127.0.0.1:{listener.getsockname()[1]}"


def scripted(proxy: Proxy, *rules, stall: int = 10**18) -> Seam:
    """Put a script under the engine of a Proxy that has not been started.

    `stall` nanoseconds after which a full destination is asked again: by default never, so that
    what waits for a forgotten edge waits for ever.
    """
    proxy._script = seam = Seam(*rules)  # whose memory has to live as long as the engine
    (engine,) = proxy._engines.each
    lib.sio_test_engine(engine, seam.c, stall)
    return seam


def events(caplog, *wanted: str) -> list[logging.LogRecord]:
    """Return the records of the proxy, or those that tell of such events."""
    found = [record for record in caplog.records if record.name == LOG]
    return [record for record in found if not wanted or record.event in wanted]


@contextlib.contextmanager
def child(function=lambda: None):
    """Fork; the child calls the function, and stays until the block ends.

    Gives the child's pid once the function has returned. What it returned is in the list that is
    given beside it, if it can be written as JSON; what it raised fails the block.
    """
    stay, leave = os.pipe()
    answer, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(leave)
            os.close(answer)
            os.write(tell, json.dumps(function()).encode())
            os.close(tell)
            os.read(stay, 1)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    os.close(stay)
    os.close(tell)
    try:
        with open(answer, "rb") as said:
            text = said.read()
        yield pid, json.loads(text or "null")
    finally:
        os.close(leave)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@contextlib.contextmanager
def hanging():
    """Give the address of a listener whose backlog is full: to connect there never ends."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            if not select.select([], [sock], [], 0)[1]:
                break
        yield of_listener(listener)


class Keeper(Server):
    """A server that keeps what each connection sent, and whether a reset ended it."""

    def __init__(self, **options) -> None:
        self.kept: list[tuple[bytes, bool]] = []
        super().__init__(lambda sock: self.kept.append(heard(sock)), **options)


def sent_all(sock: socket.socket) -> None:
    """Wait until the other kernel has acknowledged every byte."""
    until(lambda: fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) == bytes(4))


@contextlib.contextmanager
def pair(listen: str = ANY, **options):
    """Give a proxy, its one client, and the upstream's end of that connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(listen, of_listener(listener), **options))
        client = stack.enter_context(At(proxy).connect())
        server = stack.enter_context(listener.accept()[0])
        yield proxy, client, server


def talks_through(client: socket.socket, server: socket.socket) -> bool:
    """Let one byte go each way."""
    client.sendall(b"a")
    server.sendall(b"b")
    return (server.recv(10), client.recv(10)) == (b"a", b"b")


@contextlib.contextmanager
def held_up(where: str, upstream: str, listen: str = ANY):
    """Give a proxy that does not yet connect its clients, and what makes it go on."""
    opened = threading.Event()

    def route(client, first):
        opened.wait()
        return upstream

    with hanging() as hangs:
        if where == "connecting":
            proxy = Proxy(listen, [hangs, upstream], connect_timeout=50)
        elif where == "header":
            networks = ["127.0.0.0/8", "unix"]
            proxy = Proxy(listen, upstream, trust_proxy_protocol=networks, peek_timeout=3600)
        else:
            proxy = Proxy(listen, route=route)
        seam = scripted(proxy)

        def wait() -> None:
            seen = "connect" if where == "connecting" else "peek"
            until(lambda: seam.calls(seen))

        def go_on() -> None:
            opened.set()
            if where == "connecting":
                skip(proxy, 50)

        try:
            with proxy:
                yield proxy, wait, go_on
        finally:
            opened.set()


ECHO = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
def serve(sock):
    with sock:
        while part := sock.recv(65536):
            sock.sendall(part)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def echo_elsewhere():
    """Give the address of an echo that takes none of this process's descriptors."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@contextlib.contextmanager
def unstarted(*args, **options):
    """Give a proxy that is not started, and end it when the block ends."""
    proxy = Proxy(*args, **options)
    try:
        yield proxy
    finally:
        proxy.shutdown()
