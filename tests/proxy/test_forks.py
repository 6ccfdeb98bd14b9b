"""A process that was forked behind Python's back, and holds what the proxy has closed.

Python's own fork closes the copies in the child. A fork of another library does not, and what the
child holds goes on telling the parent's epoll of events, unless it was taken out before the close.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
from pathlib import Path

import pytest

from spliceio import Proxy
from tests.support.pools import at_rest
from tests.support.proxies import ANY, At, idle, of_listener, scripted, skip, talks_through
from tests.support.states import descriptors, until


@contextlib.contextmanager
def holding():
    """Fork as C does; the child holds every descriptor until the block ends, and does nothing."""
    reader, writer = os.pipe()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        assert os.waitpid(pid, 0)[1] == 0


def watched() -> int:
    """Return how many descriptors the engines of this process watch."""
    epolls = [fd for fd, what in descriptors().items() if what == "anon_inode:[eventpoll]"]
    return sum(Path(f"/proc/self/fdinfo/{fd}").read_text().count("tfd:") for fd in epolls)


def disconnect(sock: socket.socket) -> None:
    """Reset it, also when somebody else holds it."""
    assert ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16) == 0  # AF_UNSPEC


def is_connecting_to(address: str) -> bool:
    port = int(address.rpartition(":")[2])
    return f":{port:04X} 02 " in Path("/proc/net/tcp").read_text()


@contextlib.contextmanager
def full_listener():
    """Give a listener that takes nobody more, and the addresses of those who wait there."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        while True:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock.getsockname())
            if not select.select([], [sock], [], 0)[1]:
                break
        yield listener, waiting


def accepted(listener: socket.socket, fillers: list) -> socket.socket:
    """Make room, and return the first connection that is nobody's of the fillers."""
    listener.listen(16)
    while True:
        sock, address = listener.accept()
        if address not in fillers:
            return sock
        sock.close()


def test_an_attempt_that_was_given_up_speaks_for_no_other():
    """It is refused at last, while the next upstream is tried in its place, which then answers."""
    with full_listener() as (one, _), full_listener() as (two, fillers):
        first, second = of_listener(one), of_listener(two)
        proxy = Proxy(ANY, [first, second], connect_timeout=50)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as client:
            until(lambda: len(seam.calls("connect")) == 1)
            at_rest()
            with holding():
                before = watched()
                skip(proxy, 50)
                until(lambda: len(seam.calls("connect")) == 2)
                at_rest()
                assert watched() == before
                one.shutdown(socket.SHUT_RDWR)  # the child has it too
                until(lambda: not is_connecting_to(first))
                at_rest()
                with accepted(two, fillers) as server:
                    assert talks_through(client, server)
            client.close()
            assert idle(proxy).failed == 0


@pytest.mark.parametrize("end", ["eof", "reset", "cut"])
def test_what_is_closed_is_watched_no_more(end):
    """However a connection ended: the child still has it, and no event of it wakes the engine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(ANY, of_listener(listener), idle_timeout=50)
        with proxy, At(proxy).connect() as client, listener.accept()[0] as server:
            assert talks_through(client, server)
            at_rest()
            before = watched()
            with holding():
                if end == "eof":
                    client.shutdown(socket.SHUT_WR)
                    server.shutdown(socket.SHUT_WR)
                elif end == "reset":
                    disconnect(server)
                else:
                    skip(proxy, 51)
                idle(proxy)
                at_rest()
                assert watched() == before - 2
