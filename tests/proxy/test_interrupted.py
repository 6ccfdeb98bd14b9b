"""Proxy when a signal handler raises inside it: at every step of every call.

Afterwards it can be ended, and then nothing of it is left: no descriptor, no thread, no path; and
a listener that was given has its mode back.
"""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from spliceio import Proxy
from tests.support.cases import FULL
from tests.support.proxies import ANY, At, patient, talks
from tests.support.raising import every_step
from tests.support.servers import Server
from tests.support.states import descriptors, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@contextlib.contextmanager
def nothing_left():
    """Wait until descriptors and threads are those of before; the watchdog ends it if never."""
    fds, threads = descriptors(), set(os.listdir("/proc/self/task"))
    yield
    until(lambda: descriptors() == fds and set(os.listdir("/proc/self/task")) <= threads)


@pytest.mark.parametrize(
    ("listen", "options"),
    [
        ("tcp", {}),
        ("unix", {"threads": 2}),
        ("given", {"route": lambda client, first: None}),
    ],
)
def test_while_it_is_made(listen, options, tmp_path):
    """Nothing is left open, and no path."""
    path = tmp_path / "socket"
    to = () if "route" in options else ("127.0.0.1:1",)
    with socket.create_server(("127.0.0.1", 0)) as given:
        at = {"tcp": ANY, "unix": f"unix:{path}", "given": given}[listen]
        for raiser in every_step():
            with nothing_left():
                proxy = raiser.run(lambda: Proxy(at, *to, **options))
                if proxy is not None:
                    proxy.shutdown()
                del proxy
            assert not path.exists()
            assert os.get_blocking(given.fileno())


# Each second step of two calls that do almost the same is each step of what they share.
@pytest.mark.parametrize(
    ("call", "first"),
    [("start", 1), ("__enter__", 2), ("stats", 1), ("set_upstreams", 1), ("names", 2)],
)
def test_before_it_is_ended(call, first, monkeypatch):
    """It ends as ever."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])

    def use(proxy: Proxy) -> None:
        if call == "set_upstreams":
            proxy.set_upstreams("127.0.0.1:2")
        elif call == "names":
            proxy.set_upstreams(["one.test:1", "127.0.0.1:2"])
        else:
            getattr(proxy, call)()

    for raiser in every_step() if FULL or call == "stats" else every_step(first, 2):
        with nothing_left():
            proxy = Proxy(ANY, "127.0.0.1:1", threads=2)
            if call not in ("start", "__enter__"):
                proxy.start()
            raiser.run(lambda proxy=proxy: use(proxy))
            proxy.shutdown()
            assert proxy.addresses == []
            del proxy


@pytest.mark.parametrize("call", ["shutdown", "drain", "__exit__", "serve_forever"])
# Together they have each third step of what they share; in full, each of them has.
@pytest.mark.parametrize(
    ("kind", "listen", "first"),
    [
        ("list", "tcp", 1),
        ("list", "unix", 4),
        ("list", "given", 7),
        ("route", "tcp", 10),
        ("name", "tcp", 13),
    ],
)
def test_while_it_is_ended(call, listen, kind, first, tmp_path, monkeypatch):
    """What is left is done by the next call."""
    monkeypatch.setattr("spliceio._proxy.proxy.log.disabled", True)
    path = tmp_path / "socket"

    def end(proxy: Proxy) -> None:
        if call == "serve_forever":
            proxy._changed.wait_for = lambda *_: proxy.shutdown()  # while it waits
            proxy.serve_forever()
        elif call == "__exit__":
            proxy.__exit__(None, None, None)
        else:
            proxy.shutdown(*([0.001] if call == "drain" else []))

    with (
        Server(patient) as server,
        socket.create_server(("127.0.0.1", 0)) as given,
    ):
        at = {"tcp": ANY, "unix": f"unix:{path}", "given": given}[listen]
        to = {
            "list": {"upstream": server.address},
            "route": {"route": lambda client, first: server.address},
            "name": {"upstream": server.address.replace("127.0.0.1", "localhost")},
        }[kind]
        for raiser in every_step(stride=3) if FULL else every_step(first, 15):
            with nothing_left():
                proxy = Proxy(at, **to)
                proxy.start()
                with At(proxy).connect() as sock:
                    assert talks(sock)
                    raiser.run(lambda proxy=proxy: end(proxy))
                    proxy.shutdown()
                assert not path.exists()
                assert os.get_blocking(given.fileno())
                del proxy
                server.workers.clear()


def test_while_it_serves():
    """A handler that raises in serve_forever, and one in what cleans up after it."""
    for raiser in every_step():
        with nothing_left():
            proxy = Proxy(ANY, "127.0.0.1:1")
            proxy.start()
            proxy.shutdown()
            raiser.run(proxy.serve_forever)
            del proxy
