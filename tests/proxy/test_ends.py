"""How a Proxy passes the end of one side on to another that does not read.

Rule 1: a reset waits for the bytes before it, for ten seconds from when it was seen and no longer,
        wherever they are: in the proxy or on their way.
Rule 2: an end of file waits as long as it takes.
Rule 3: who waits asks nothing: the kernel says when something has changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

import pytest

from spliceio import Proxy
from tests.support.pools import at_rest
from tests.support.proxies import (
    ANY,
    At,
    heard,
    idle,
    of_listener,
    reset,
    scripted,
    sent_all,
    skip,
    talks_through,
)
from tests.support.states import until
from tests.support.wires import MIB, payload

SIDES = ["tcp", "unix"]


def listening(kind: str, path: str) -> tuple[socket.socket, str]:
    """Listen there; give the socket and how a proxy calls it."""
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        return listener, of_listener(listener)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener, f"unix:{path}"


@contextlib.contextmanager
def pair(tmp_path, listen: str = "tcp", upstream: str = "tcp", **options):
    """Give a proxy between two kinds of sockets, its one client and the upstream's end."""
    listener, address = listening(upstream, str(tmp_path / "upstream"))
    here = ANY if listen == "tcp" else f"unix:{tmp_path}/proxy"
    with listener, contextlib.ExitStack() as stack:
        proxy = Proxy(here, address, **options)
        scripted(proxy)
        stack.enter_context(proxy)
        client = stack.enter_context(At(proxy).connect())
        server = stack.enter_context(listener.accept()[0])
        assert talks_through(client, server)
        yield proxy, client, server


def fill(sock: socket.socket, most: int = 1 << 40) -> int:
    """Send, until nothing on the way takes more; return how many bytes it were."""
    data, sent = payload(MIB), 0
    sock.setblocking(False)
    while sent < most:
        try:
            sent += sock.send(data[: most - sent])
        except BlockingIOError:
            at_rest()
            try:
                sent += sock.send(data[: most - sent])
            except BlockingIOError:
                break
    sock.setblocking(True)
    return sent


# -- a reset, and a side that does not read --------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("upstream", SIDES)
@pytest.mark.parametrize("listen", SIDES)
@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_reaches_a_side_that_does_not_read(who, listen, upstream, method, tmp_path):
    """Its buffers are full, and so are the proxy's: after ten seconds it is cut all the same."""
    with pair(tmp_path, listen, upstream, method=method) as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        sent = fill(bad)
        good.sendall(b"which nobody reads")  # so that a unix socket is reset, too
        at_rest()
        reset(bad)
        at_rest()
        skip(proxy, 9)
        at_rest()
        assert proxy.stats().active == 1
        skip(proxy, 1)
        assert idle(proxy).pipes_held == 0
        got, was_reset = heard(good)
        assert was_reset or good.family == socket.AF_UNIX  # which knows no other end
        assert len(got) < sent


@pytest.mark.parametrize("who", ["client", "server"])
def test_ten_seconds_are_ten_in_all(who, tmp_path):
    """Six while the proxy held bytes, four while they were on their way."""
    with pair(tmp_path) as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        good.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        fill(bad)
        reset(bad)
        at_rest()
        skip(proxy, 6)
        while proxy.stats().pipes_held:
            good.recv(4096)
        at_rest()
        assert proxy.stats().active == 1
        skip(proxy, 3)
        at_rest()
        assert proxy.stats().active == 1
        skip(proxy, 1)
        idle(proxy)
        assert heard(good)[1]


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_after_the_end_cuts_nobody_off(who, tmp_path):
    """It had said that it was the end, and what it sent is whole: there is no hurry."""
    with pair(tmp_path) as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        good.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        part, sent, stuck = payload(65536), 0, 0
        while stuck < 5:  # and not only for the moment
            bad.sendall(part)
            sent_all(bad)
            at_rest()
            sent += len(part)
            stuck += proxy.stats().pipes_held
        bad.close()
        at_rest()
        good.sendall(b"which is refused")
        at_rest()
        for _ in range(6):
            skip(proxy, 10)
            at_rest()
        assert proxy.stats().pipes_held == 1
        assert len(heard(good)[0]) == sent
        idle(proxy)


def test_both_are_full_and_one_resets(tmp_path):
    """Bytes wait on both sides; those for the one that is gone are nobody's."""
    with pair(tmp_path) as (proxy, client, server):
        fill(client)
        fill(server)
        reset(server)
        at_rest()
        skip(proxy, 9)
        at_rest()
        assert proxy.stats().active == 1
        skip(proxy, 1)
        assert idle(proxy).pipes_held == 0
        assert heard(client)[1]


# -- while it arrives ------------------------------------------------------------------------------

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


def deaf(sock: socket.socket) -> None:
    """Let the kernel drop every packet that comes to it: none is acknowledged."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(drop))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def looks(proxy: Proxy) -> int:
    """Return how often the engine has looked whether all has arrived."""
    return len(proxy._script.calls("unsent"))


def pass_slowly(proxy: Proxy, seconds: float, later: float = 0.05) -> None:
    """Let time pass, a round of the engine at each step: of 5 milliseconds, then of `later`."""
    steps = [0.005] * 20
    for step in steps + [later] * round((seconds - sum(steps)) / later):
        skip(proxy, step)
        at_rest()


@pytest.mark.parametrize("upstream", SIDES)
@pytest.mark.parametrize("listen", SIDES)
@pytest.mark.parametrize("who", ["client", "server"])
def test_what_waits_to_be_sent_is_waited_for_in_the_kernel(who, listen, upstream, tmp_path):
    """Nothing is asked while nobody reads; the reader itself wakes the proxy."""
    data = payload(100_000)
    with pair(tmp_path, listen, upstream) as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        good.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bad.sendall(data)
        until(lambda: proxy.stats().a_to_b + proxy.stats().b_to_a == len(data) + 2)
        good.sendall(b"which nobody reads")
        at_rest()
        reset(bad)
        until(lambda: looks(proxy))
        at_rest()
        before = looks(proxy)
        pass_slowly(proxy, 5)
        assert looks(proxy) == before
        skip(proxy, -3600)  # no timer will end it now
        got, was_reset = heard(good)
        assert (got == data, was_reset or good.family == socket.AF_UNIX) == (True, True)
        idle(proxy)


@pytest.mark.parametrize("who", ["client", "server"])
def test_what_is_not_acknowledged_is_asked_for_less_and_less(who, tmp_path):
    """No event tells of it: a dozen looks in ten seconds, and soon again when it has arrived."""
    data = payload(1000)
    with pair(tmp_path) as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        deaf(good)
        bad.sendall(data)
        until(lambda: proxy.stats().a_to_b + proxy.stats().b_to_a == len(data) + 2)
        reset(bad)
        until(lambda: looks(proxy))
        pass_slowly(proxy, 5)
        assert 5 < looks(proxy) < 17
        assert proxy.stats().active == 1
        good.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        assert good.recv(1, socket.MSG_PEEK) == data[:1]  # it is sent again now
        pass_slowly(proxy, 4, 0.005)  # an acknowledgement takes real time
        assert proxy.stats().active == 0
        assert heard(good) == (data, True)


def test_what_comes_in_meanwhile_wakes_nobody(tmp_path):
    """A client that goes on sending does not make the proxy look at each packet."""
    with pair(tmp_path) as (proxy, client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.sendall(payload(100_000))
        until(lambda: proxy.stats().b_to_a == 100_001)
        reset(server)
        until(lambda: looks(proxy))
        at_rest()
        before = looks(proxy)
        for _ in range(200):
            client.sendall(b"x")
            at_rest()
        assert looks(proxy) == before
