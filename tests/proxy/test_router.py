"""Where a connection goes: upstreams that take turns, names, and routes in Python.

Rule 1: before it is decided nothing is consumed: the upstream gets every byte that the client sent.
Rule 2: who is waited for, a route or an upstream, delays nobody else.
Rule 3: trouble costs the one connection, is said once, and is forgotten when it is over.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import subprocess
import sys
import threading
import time

import pytest

from spliceio import Proxy
from spliceio._proxy import address as _address
from spliceio._proxy import resolver as _names
from spliceio._proxy import upstreams as _upstream
from tests.support.commands import HANG, unused_port
from tests.support.proxies import (
    ANY,
    LOG,
    At,
    Later,
    events,
    hanging,
    heard,
    idle,
    is_cut,
    named,
    of_listener,
    patient,
    refuses,
    reset,
    scripted,
    skip,
    talks,
    whom,
)
from tests.support.servers import Server, ask, echo, read_all
from tests.support.states import Worker, until
from tests.support.wires import payload

PEEK = 16 << 10


@pytest.fixture
def told(caplog):
    """Log everything; return what gives the records of some events."""
    caplog.set_level(logging.INFO, LOG)
    return lambda *wanted: events(caplog, *wanted)


# -- several upstreams -----------------------------------------------------------------------------


def test_upstreams_take_turns(told):
    """Of nine connections each of three gets every third."""
    with Server(named(b"0")) as a, Server(named(b"1")) as b, Server(named(b"2")) as c:
        three = [a.address, b.address, c.address]
        with Proxy(ANY, three) as proxy:
            assert b"".join(whom(proxy) for _ in range(9)) == b"012012012"
            idle(proxy)
    assert [record.upstream for record in told("closed")] == three * 3


def test_one_that_refuses_is_passed_over_and_comes_back(told):
    """Nobody notices; that it is passed over is told once, and so is that it is back."""
    port = unused_port()
    down = f"127.0.0.1:{port}"
    with Server(named(b"B")) as other, Proxy(ANY, [down, other.address]) as proxy:
        assert b"".join(whom(proxy) for _ in range(4)) == b"BBBB"
        skip(proxy, 1)
        assert whom(proxy) + whom(proxy) == b"BB"  # it was tried, and refused again
        until(lambda: told("upstream-down"))
        (record,) = told("upstream-down")
        assert (record.levelname, record.upstream) == ("WARNING", down)
        assert record.errno == errno.ECONNREFUSED
        assert record.getMessage() == f"{down}: Connection refused"
        with Later(port, named(b"A")):
            skip(proxy, 2)
            assert sorted([whom(proxy), whom(proxy)]) == [b"A", b"B"]
            assert sorted([whom(proxy), whom(proxy)]) == [b"A", b"B"]
            assert idle(proxy).failed == 0
        until(lambda: told("upstream-up"))
        (record,) = told("upstream-up")
        assert (record.levelname, record.upstream) == ("INFO", down)
        assert record.getMessage() == f"{down}: reached again"
        assert len(told("upstream-down")) == 1


def test_how_long_one_is_passed_over(told):
    """1 s, and twice as long with each refusal, up to 30 s; one success, and it is 1 s again."""
    port = unused_port()
    with Server(named(b"B")) as other:
        proxy = Proxy(ANY, [f"127.0.0.1:{port}", other.address])
        seam = scripted(proxy)

        def tried() -> bool:
            """Say whether a new connection asked the one that refuses."""
            before = len(seam.calls("connect"))
            assert whom(proxy) == b"B"
            idle(proxy)
            return len(seam.calls("connect")) - before == 2

        with proxy:
            assert tried()
            for seconds in (1, 2, 4, 8, 16, 30, 30):
                if seconds >= 8:  # of less, the test itself might take half
                    skip(proxy, seconds / 2)
                    assert not tried()
                    assert not tried()
                skip(proxy, seconds)
                while not tried():  # its turn is the next one, if it was not this one
                    pass
            assert len(told("upstream-down")) == 1
            with Later(port, named(b"A")):
                skip(proxy, 30)
                assert b"A" in (whom(proxy), whom(proxy))
                until(lambda: told("upstream-up"))
                idle(proxy)
            assert b"A" not in (whom(proxy), whom(proxy))
            skip(proxy, 1)
            with Later(port, named(b"A")):
                assert b"A" in (whom(proxy), whom(proxy))
                idle(proxy)


def test_many_refusals_at_once_are_one():
    """Clients that come together do not multiply the time for which an upstream is passed over."""
    port = unused_port()
    with (
        Server(named(b"B")) as other,
        socket.create_server(("127.0.0.1", 0)) as given,
        contextlib.ExitStack() as stack,
    ):
        crowd = [
            stack.enter_context(socket.create_connection(given.getsockname())) for _ in range(16)
        ]
        with Proxy(given, [f"127.0.0.1:{port}", other.address]) as proxy:
            for sock in crowd:
                assert sock.recv(1) == b"B"
                sock.close()
            idle(proxy)
            with Later(port, named(b"A")):
                skip(proxy, 1)
                assert b"A" in (whom(proxy), whom(proxy))
                idle(proxy)


def test_when_all_refuse_a_connection_is_lost_and_the_next_one_tries_again(told):
    """It is closed, counted and logged; nothing of it stays."""
    port = unused_port()
    both = [f"127.0.0.1:{port}", f"127.0.0.1:{unused_port()}"]
    with Proxy(ANY, both) as proxy:
        assert whom(proxy) == b""
        stats = idle(proxy)
        assert (stats.total, stats.failed, stats.a_to_b, stats.b_to_a) == (1, 1, 0, 0)
        until(lambda: told("failed"))
        (record,) = told("failed")
        assert (record.reason, record.a_to_b, record.b_to_a) == ("Connection refused", 0, 0)
        assert record.client.startswith("127.0.0.1:")
        with Later(
            port, named(b"A")
        ):  # it is passed over still, and tried for want of a better one
            assert whom(proxy) == b"A"
            idle(proxy)
        assert proxy.stats().failed == 1


def test_set_upstreams(told):
    """New connections go there at once; what is open stays, and is logged as what it was."""
    with Server(named(b"A")) as a, Server(named(b"B")) as b, Proxy(ANY, a.address) as proxy:
        with At(proxy).connect() as sock:
            assert sock.recv(1) == b"A"
            proxy.set_upstreams([b.address])
            assert whom(proxy) == b"B"
            assert talks(sock)
        idle(proxy)
        until(lambda: len(told("closed")) == 2)
        assert {record.upstream: record.b_to_a for record in told("closed")} == {
            a.address: 6,
            b.address: 1,
        }


def test_set_upstreams_under_load(told):
    """However often the list changes: every connection is served, by one that was in it."""
    with Server(named(b"A")) as a, Server(named(b"B")) as b:
        with Proxy(ANY, a.address, threads=2) as proxy:
            clients = [Worker(lambda: [whom(proxy) for _ in range(40)]) for _ in range(4)]
            while any(client.is_alive() for client in clients):
                for wanted in ([b.address], [a.address, b.address], [a.address]):
                    proxy.set_upstreams(wanted)
            got = b"".join(name for client in clients for name in client.result())
            assert idle(proxy).failed == 0
        assert set(got) <= set(b"AB")
        names = [record.upstream for record in told("closed")]
        assert (len(got), len(names)) == (160, 160)
        assert names.count(a.address) == got.count(b"A")
        assert told("upstream-down") == []


def known(proxy: Proxy) -> int:
    """Count the upstreams whose names a proxy keeps."""
    return sum(len(one.numbers) for one in proxy._log._lists)


@pytest.mark.parametrize("threads", [1, 2])
def test_reloads_leave_nothing_behind(told, threads):
    """Names go with the last that may need them; a connection from before has the right one."""
    closed = f"127.0.0.1:{unused_port()}"
    with Server(named(b"A")) as a, Server(named(b"B")) as b:
        with Proxy(ANY, [a.address], threads=threads) as proxy, At(proxy).connect() as old:
            assert old.recv(1) == b"A"
            for number in range(300):
                proxy.set_upstreams([closed] * (number % 7) + [b.address] * 3)
            until(lambda: proxy.set_upstreams(b.address) or known(proxy) == 3)
            numbers = [one.numbers for one in proxy._log._lists]
            assert max(one.stop for one in numbers) <= 30  # they are given out again
            assert whom(proxy) == b"B"
            assert talks(old)
            old.close()
            idle(proxy)
            until(lambda: proxy.set_upstreams(b.address) or known(proxy) == 2)
            until(lambda: len(told("closed")) == 2)
        assert sorted(record.upstream for record in told("closed")) == sorted(
            [a.address, b.address]
        )


def test_news_of_a_list_that_was_replaced(told, resolver):
    """An upstream of it that does not answer is told by its name, and lacks nobody any more."""
    with Server(named(b"A")) as server, hanging() as hangs:
        resolver.known["name.test"] = [server.address]
        proxy = Proxy(ANY, [hangs], connect_timeout=50)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            until(lambda: seam.calls("connect"))
            for _ in range(10):
                proxy.set_upstreams("name.test:80")
            until(lambda: whom(proxy) == b"A")
            skip(proxy, 50)
            assert heard(sock) == (b"", False)
            idle(proxy)
            until(lambda: told("failed"))
            (record,) = told("upstream-down")
            assert (record.upstream, record.errno) == (hangs, errno.ETIMEDOUT)
            assert not proxy._resolver._is_lacking()  # or names would be looked up for ever


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([], ValueError, "Proxy.set_upstreams: the list is empty"),
        ("nonsense", ValueError, "'nonsense' is no address"),
        (["127.0.0.1:1", 5], TypeError, "an address is text"),
        ("unix:/" + "x" * 107, ValueError, "at most 107 bytes"),
    ],
    ids=["empty", "text", "number", "long"],
)
def test_what_is_no_list_of_upstreams_changes_nothing(given, error, text):
    """It is refused, and the one before is used on."""
    with Server(named(b"A")) as server, Proxy(ANY, server.address) as proxy:
        with pytest.raises(error, match=text):
            proxy.set_upstreams(given)
        assert whom(proxy) == b"A"


# -- names -----------------------------------------------------------------------------------------


class Resolver:
    """Answers for names that end in .test; all others are looked up as ever."""

    def __init__(self, monkeypatch) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        really = socket.getaddrinfo

        def getaddrinfo(host, port, *args, **options):
            if not str(host).endswith(".test"):
                return really(host, port, *args, **options)
            self.asked.append(host)
            self.go_on.wait()
            if host not in self.known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [entry(text) for text in self.known[host]]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def entry(text: str) -> tuple:
    """Make what getaddrinfo answers for one address."""
    at = _address.parse(text)
    if ":" in at.host:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (at.host, at.port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (at.host, at.port)


@pytest.fixture
def resolver(monkeypatch):
    """Stand in for the resolver."""
    return Resolver(monkeypatch)


def unpacked(name: bytes) -> str:
    """Read a struct sockaddr."""
    v6 = int.from_bytes(name[:2], "little") == socket.AF_INET6
    raw = name[8:24] if v6 else name[4:8]
    return socket.inet_ntop(socket.AF_INET6 if v6 else socket.AF_INET, raw)


def test_the_families_take_turns(resolver):
    """The order is that of RFC 8305: the first one's family begins, and no address comes twice."""
    six, four = ["[::1]:80", "[::2]:80", "[::3]:80"], ["127.0.0.1:80", "127.0.0.2:80"]
    for known, expected in (
        ([*six, *four], ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]),
        ([*four, *six], ["127.0.0.1", "::1", "127.0.0.2", "::2", "::3"]),
        ([*four, four[0]], ["127.0.0.1", "127.0.0.2"]),
    ):
        resolver.known["many.test"] = known
        found = _upstream.resolve(_address.parse("many.test:80"))
        assert [unpacked(one) for one in found] == expected


def test_an_address_of_a_name_that_refuses(resolver, told):
    """The next one is tried at once, and the upstream is none that refuses."""
    with Server(named(b"A")) as server:
        resolver.known["two.test"] = [f"[::1]:{unused_port()}", server.address]
        with Proxy(ANY, "two.test:80") as proxy:
            assert whom(proxy) + whom(proxy) == b"AA"
            assert idle(proxy).failed == 0
    assert [record.event for record in told()] == ["closed", "closed"]
    assert {record.upstream for record in told()} == {"two.test:80"}


def test_an_address_of_a_name_that_does_not_answer(resolver):
    """The next one is tried beside it after a quarter of a second; who answers first is taken."""
    with Server(named(b"A")) as server, hanging() as hangs:
        resolver.known["two.test"] = [hangs, server.address]
        proxy = Proxy(ANY, "two.test:80")
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            until(lambda: seam.calls("connect"))
            skip(proxy, 0.25)
            assert sock.recv(1) == b"A"
            assert [row.result for row in seam.calls("connect")] == [-errno.EINPROGRESS] * 2
            assert talks(sock)
            sock.close()
            assert idle(proxy).failed == 0


def test_the_last_of_many_addresses_has_its_turn(resolver):
    """One refuses, three hang, the fifth answers: every quarter of a second the next is tried."""
    with hanging() as one, hanging() as two, hanging() as three, Server(named(b"A")) as server:
        resolver.known["five.test"] = [one, two, three, server.address, f"[::1]:{unused_port()}"]
        proxy = Proxy(ANY, "five.test:80", connect_timeout=100)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            for count in (1, 3, 4):  # the second, ::1, refuses at once
                until(lambda count=count: len(seam.calls("connect")) == count)
                skip(proxy, 0.25)
            assert sock.recv(1) == b"A"
            sock.close()
            assert idle(proxy).failed == 0


def test_a_name_that_cannot_be_resolved_is_asked_for_again(resolver, told, monkeypatch):
    """Connections are closed meanwhile, not kept waiting; once it is known they are served."""
    monkeypatch.setattr(_names, "_AGAIN", 0)
    with Server(named(b"A")) as server, Proxy(ANY, "later.test:80") as proxy:
        assert whom(proxy) == b""
        (record, *_) = told("unresolved")
        assert (record.levelname, record.upstream) == ("WARNING", "later.test:80")
        assert record.getMessage() == "later.test:80: Name or service not known"
        resolver.known["later.test"] = [server.address]
        until(lambda: whom(proxy) == b"A")
        idle(proxy)


def test_a_name_that_has_moved(resolver, told, monkeypatch):
    """When its address refuses, it is looked up again; the log says when it is reached again."""
    monkeypatch.setattr(_names, "_AGAIN", 0)
    resolver.known["moves.test"] = [f"127.0.0.1:{unused_port()}"]
    with Server(named(b"A")) as server, Proxy(ANY, "moves.test:80") as proxy:
        for count in (2, 3):  # and again, as long as it is the same
            assert whom(proxy) == b""
            until(lambda count=count: len(resolver.asked) >= count)
        resolver.known["moves.test"] = [server.address]
        until(lambda: whom(proxy) == b"A")
        idle(proxy)
        until(lambda: told("upstream-up"))
        assert len(told("upstream-down")) == len(told("upstream-up")) == 1


def test_a_new_list_is_looked_up_at_once(resolver, told, monkeypatch):
    """Though the one before it was to be asked for again in an hour."""
    monkeypatch.setattr(_names, "_AGAIN", 3600)
    with Server(named(b"A")) as server, Proxy(ANY, "nosuch.test:80") as proxy:
        until(lambda: told("unresolved"))
        resolver.known["new.test"] = [server.address]
        proxy.set_upstreams("new.test:80")
        until(lambda: whom(proxy) == b"A")
        idle(proxy)
        assert set(resolver.asked) == {"nosuch.test", "new.test"}


def test_an_answer_that_comes_too_late_is_ignored(resolver):
    """A list that was replaced, and a proxy that is over, have no use for it."""
    with Server(named(b"A")) as a, Server(named(b"B")) as b:
        resolver.known["slow.test"] = [a.address]
        resolver.go_on.clear()
        with Proxy(ANY, "slow.test:80") as proxy, At(proxy).connect() as waits:
            until(lambda: resolver.asked)
            proxy.set_upstreams(b.address)
            assert waits.recv(1) == b"B"
            resolver.go_on.set()
            assert b"".join(whom(proxy) for _ in range(5)) == b"BBBBB"
            waits.close()
            idle(proxy)
            resolver.go_on.clear()
            proxy.set_upstreams("slow.test:80")
            until(lambda: len(resolver.asked) == 2)
        resolver.go_on.set()


# -- what a route answers --------------------------------------------------------------------------


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_answers_are_forgotten_with_their_connections(caplog, level):
    """Logged or not: no names of upstreams stay of what is over."""
    caplog.set_level(level, LOG)
    with Server(named(b"A")) as server, contextlib.ExitStack() as stack:
        proxy = Proxy(ANY, route=lambda client, first: server.address, peek_timeout=None)
        with proxy:
            socks = [stack.enter_context(At(proxy).connect()) for _ in range(20)]
            for sock in socks:
                sock.sendall(b"?")
                assert sock.recv(1) == b"A"
            for sock in socks:
                sock.close()
            idle(proxy)
            until(lambda: not proxy._router._chosen)
    assert len(events(caplog, "closed")) == (20 if level == logging.INFO else 0)


class Route:
    """A route that remembers what it was asked, and answers as it is told."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked: list[tuple] = []

    def __call__(self, client, first):
        self.asked.append((client, first))
        answer = self.answer(first) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Gate:
    """A route that lets nobody pass before it is opened."""

    def __init__(self, answer) -> None:
        self.answer, self.opened, self.inside = answer, threading.Event(), 0

    def __call__(self, client, first):
        self.inside += 1
        self.opened.wait()
        return self.answer


def say(proxy: Proxy, data: bytes) -> bytes:
    """Send data and the end of file; return what comes back, which is nothing if it is closed."""
    try:
        return ask(At(proxy), data)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("form", ["text", "pair", "Address", "list", "refuses", "unix", "name"])
def test_a_route_that_says_where(form, told, tmp_path):
    """It is given the client's address and first bytes; the upstream gets all of them."""
    data = payload(100_000)
    with Server(echo, path=str(tmp_path / "s") if form == "unix" else "") as server:
        port = 0 if form == "unix" else int(server.address.partition(":")[2])
        route = Route(
            {
                "pair": ("127.0.0.1", port),
                "Address": _address.parse(server.address),
                "list": [server.address],
                "refuses": [f"127.0.0.1:{unused_port()}", server.address],
                "name": f"localhost:{port}",
            }.get(form, server.address)
        )
        with Proxy(ANY, route=route) as proxy, At(proxy).connect() as sock:
            feeder = Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            assert read_all(sock) == data
            feeder.result()
            stats = idle(proxy)
            assert (stats.total, stats.a_to_b, stats.b_to_a) == (1, len(data), len(data))
            ((client, first),) = route.asked
            assert client == sock.getsockname()
            assert 0 < len(first) <= PEEK
            assert data.startswith(first)
            until(lambda: told())
            (record,) = told()
            expected = f"localhost:{port}" if form == "name" else server.address
            assert (record.event, record.upstream) == ("closed", expected)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (ZeroDivisionError("oh no"), "oh no"),
        (OSError(5, "oh no"), "oh no"),
        (SystemExit(3), "3"),
        (5, "an address is text"),
        (b"127.0.0.1:1", "an address is text"),
        ("nonsense", "'nonsense' is no address"),
        (("127.0.0.1", 65536), "a port is a number"),
        (["127.0.0.1:1", None], "an address is text"),
        ("nosuch.invalid:80", "nosuch.invalid:80"),
        ("a..b:80", "a..b"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_route_that_fails(answer, text, told):
    """Its connection is closed, and it is said why; the next one is asked for again."""
    with Server(echo) as server:
        route = Route(answer)
        with Proxy(ANY, route=route) as proxy:
            assert say(proxy, b"hello") == b""
            idle(proxy)
            (record,) = told("route-failed")
            assert text in record.getMessage()
            assert record.levelname == "WARNING"
            assert record.client == "{}:{}".format(*route.asked[0][0])
            assert bool(record.exc_info) == (not isinstance(answer, OSError) and ":80" not in text)
            route.answer = server.address
            assert say(proxy, b"again") == b"again"
            assert idle(proxy).total == 2


@pytest.mark.parametrize("answer", [None, []], ids=str)
def test_a_route_that_refuses(answer, told):
    """The connection is closed, which is no failure of an upstream, and logged as what it is."""
    with Proxy(ANY, route=Route(answer)) as proxy:
        assert say(proxy, b"hello") == b""
        stats = idle(proxy)
        assert (stats.total, stats.failed, stats.a_to_b) == (1, 0, 0)
        until(lambda: told())
        (record,) = told()
        assert (record.event, record.reason) == ("failed", "the route refused it")
        assert record.upstream is None


@pytest.mark.parametrize("listen", [ANY, "[::1]:0", ":0", "unix"])
def test_who_the_client_is(listen, tmp_path):
    """A host and a port, IPv4 as such wherever it came in; or "unix"."""
    route = Route(None)
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    with Proxy(listen, route=route) as proxy, At(proxy).connect() as sock:
        sock.sendall(b"x")
        assert heard_nothing(sock)
        ((client, first),) = route.asked
        assert first == b"x"
        assert client == ("unix" if sock.family == socket.AF_UNIX else sock.getsockname()[:2])
        idle(proxy)


def heard_nothing(sock: socket.socket) -> bool:
    """Wait for the end; say whether nothing came before it."""
    try:
        return read_all(sock) == b""
    except ConnectionResetError:
        return True


def test_each_connection_is_logged_with_its_own_upstream(told):
    """Whatever the connection before it in the same memory had."""
    with Server(echo) as a, Server(echo) as b:
        servers = {b"a": a.address, b"b": b.address, b"n": None}
        with Proxy(ANY, route=lambda client, first: servers[first[:1]]) as proxy:
            for name in b"abnbaanb":
                say(proxy, bytes([name]) * 3)
                idle(proxy)
    assert [record.upstream for record in told()] == [
        servers[bytes([name])] for name in b"abnbaanb"
    ]


# -- what a route is given -------------------------------------------------------------------------


def test_more_gives_the_route_more(told):
    """Byte by byte: each question has all bytes so far, and the upstream gets them all."""
    line = b"GET / HTTP/1.0\r\n"
    with Server(echo) as server:
        route = Route(lambda first: server.address if first.endswith(b"\n") else Proxy.MORE)
        with Proxy(ANY, route=route) as proxy, At(proxy).connect() as sock:
            for number in range(len(line)):
                sock.sendall(line[number : number + 1])
                until(lambda number=number: len(route.asked) == number + 1)
            assert sock.recv(100) == line
            assert [first for _, first in route.asked] == [
                line[: number + 1] for number in range(len(line))
            ]
            assert talks(sock)
            sock.close()
            assert idle(proxy).a_to_b == len(line) + 5


def test_more_than_can_be_peeked_at():
    """16 KiB is the most; with that a route has to decide, and all that follows arrives."""
    data = payload(300_000)
    with Server(echo) as server:
        route = Route(lambda first: server.address if len(first) == PEEK else Proxy.MORE)
        with Proxy(ANY, route=route) as proxy:
            assert ask(At(proxy), data) == data
            assert route.asked[-1][1] == data[:PEEK]
            assert idle(proxy).a_to_b == len(data)


@pytest.mark.parametrize("end", ["full", "eof", "time"])
def test_more_when_there_is_no_more(end):
    """It is asked once more when all is there that will be, and MORE then is a refusal."""
    data = payload(PEEK if end == "full" else 100)
    route = Route(Proxy.MORE)
    with Proxy(ANY, route=route, peek_timeout=3600) as proxy, At(proxy).connect() as sock:
        sock.sendall(data)
        until(lambda: route.asked and route.asked[-1][1] == data)
        if end == "eof":
            sock.shutdown(socket.SHUT_WR)
        elif end == "time":
            skip(proxy, 3600)
        assert heard_nothing(sock)
        assert {data[: len(first)] for _, first in route.asked} == {
            first for _, first in route.asked
        }
        assert route.asked[-1][1] == data
        idle(proxy)


def test_a_client_that_sends_nothing():
    """After peek_timeout the route is asked with what there is; the server may speak first."""
    with Server(named(b"220 ready")) as server:
        route = Route(server.address)
        with Proxy(ANY, route=route, peek_timeout=3600) as proxy, At(proxy).connect() as sock:
            until(lambda: proxy.stats().active == 1)
            assert route.asked == []
            skip(proxy, 3600)
            assert sock.recv(100) == b"220 ready"
            assert [first for _, first in route.asked] == [b""]
            assert talks(sock)
            sock.close()
            idle(proxy)


def test_peek_timeout_counts_from_the_beginning():
    """A client that trickles does not put the decision off for ever."""
    with Server(echo) as server:
        late = threading.Event()
        route = Route(lambda first: server.address if late.is_set() else Proxy.MORE)
        with Proxy(ANY, route=route, peek_timeout=100) as proxy, At(proxy).connect() as sock:
            for number in range(1, 4):
                sock.sendall(b".")
                until(lambda number=number: len(route.asked) == number)
                if number < 3:
                    skip(proxy, 40)
            late.set()
            skip(proxy, 40)
            assert sock.recv(10) == b"..."
            assert [first for _, first in route.asked] == [b".", b"..", b"...", b"..."]
            sock.close()
            idle(proxy)


@pytest.mark.parametrize("data", [b"", b"request"])
def test_a_client_that_ends_before_the_decision(data):
    """Its end of file is passed on after its bytes, and the answer comes back."""
    with Server(lambda sock: sock.sendall(b"got " + read_all(sock))) as server:
        gate = Gate(server.address)
        with Proxy(ANY, route=gate) as proxy, At(proxy).connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            until(lambda: gate.inside)
            gate.opened.set()
            assert read_all(sock) == b"got " + data
            idle(proxy)


# -- routes that take their time -------------------------------------------------------------------


def test_a_slow_route_delays_nobody_else():
    """Three wait in the route: a fourth is routed, and bytes of one that is open go on."""
    with Server(patient) as server:
        gate = Gate(server.address)

        def route(client, first):
            return gate(client, first) if first == b"slow" else server.address

        with contextlib.ExitStack() as stack, Proxy(ANY, route=route) as proxy:
            before = stack.enter_context(At(proxy).connect())
            assert talks(before)
            slow = [stack.enter_context(At(proxy).connect()) for _ in range(3)]
            for sock in slow:
                sock.sendall(b"slow")
            until(lambda: gate.inside == 3)
            assert ask(At(proxy), b"quick") == b"quick"
            assert talks(before, b"still here")
            gate.opened.set()
            assert [sock.recv(10) for sock in slow] == [b"slow"] * 3


def test_more_clients_than_threads_for_routes():
    """They wait for their turn, and all are served; who is open already does not wait."""
    with Server(patient) as server:
        gate = Gate(server.address)

        def route(client, first):
            return server.address if first == b"hello" else gate(client, first)

        with contextlib.ExitStack() as stack, Proxy(ANY, route=route) as proxy:
            before = stack.enter_context(At(proxy).connect())
            assert talks(before)
            crowd = [stack.enter_context(At(proxy).connect()) for _ in range(20)]
            for number, sock in enumerate(crowd):
                sock.sendall(b"%d" % number)
            until(lambda: gate.inside == 4)
            assert talks(before)
            assert proxy.stats().active == 21
            gate.opened.set()
            assert [sock.recv(10) for sock in crowd] == [b"%d" % number for number in range(20)]


def test_many_at_once_go_each_where_they_belong():
    """60 clients, two servers, two threads of C: everybody gets the right one, with all bytes."""
    with Server(named(b"a")) as a, Server(named(b"b")) as b:
        servers = {b"a": a.address, b"b": b.address}
        with Proxy(ANY, route=lambda client, first: servers[first[:1]], threads=2) as proxy:
            sent = [b"ab"[n % 2 : n % 2 + 1] + payload(3000 * (n % 7), n) for n in range(60)]
            workers = [Worker(lambda data=data: ask(At(proxy), data)) for data in sent]
            for worker, data in zip(workers, sent, strict=True):
                assert worker.result() == data[:1] + data
            assert idle(proxy).total == 60


def test_a_client_that_resets_while_the_route_decides(told):
    """No upstream hears of it, whatever the route answers then; the next client is served."""
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        gate = Gate(of_listener(upstream))
        with Proxy(ANY, route=gate) as proxy:
            sock = At(proxy).connect()
            sock.sendall(b"hello")
            until(lambda: gate.inside)
            reset(sock)
            until(lambda: told("failed"))
            gate.opened.set()
            assert idle(proxy).total == 1
            (record,) = told()
            assert (record.event, record.reason) == ("failed", "Connection reset by peer")
            with At(proxy).connect() as sock:
                sock.sendall(b"next")
                with upstream.accept()[0] as peer:  # the first that comes is this one
                    assert peer.recv(10) == b"next"
            idle(proxy)


def test_shutdown_while_routes_run():
    """Who waits is cut, in the route or before it; what a route answers later is nobody's."""
    gate = Gate("127.0.0.1:1")
    with contextlib.ExitStack() as stack, Proxy(ANY, route=gate, max_connections=12) as proxy:
        crowd = [stack.enter_context(At(proxy).connect()) for _ in range(12)]
        for sock in crowd:
            sock.sendall(b"x")
        until(lambda: gate.inside == 4 and proxy.stats().active == 12)
        proxy.shutdown()
        assert all(is_cut(sock) for sock in crowd)
        assert proxy.stats().active == 0
        gate.opened.set()
    assert gate.inside == 4


def test_a_drain_waits_for_routes():
    """Who was accepted before is routed and served to its end."""
    with Server(echo) as server:
        gate = Gate(server.address)
        with Proxy(ANY, route=gate) as proxy, At(proxy).connect() as sock:
            address = proxy.address
            sock.sendall(b"hello")
            until(lambda: gate.inside)
            closing = Worker(lambda: proxy.shutdown(drain=3600))
            until(lambda: refuses(address))
            gate.opened.set()
            assert sock.recv(10) == b"hello"
            sock.close()
            closing.result()
            assert proxy.stats().a_to_b == 5


def test_a_route_asks_the_proxy_itself():
    """It may read the counts, and has all the time it wants."""
    with Server(echo) as server:

        def route(client, first):
            assert proxy.stats().active == 1
            time.sleep(0)
            return server.address

        with Proxy(ANY, route=route) as proxy:
            assert ask(At(proxy), b"x") == b"x"
            idle(proxy)
            with pytest.raises(RuntimeError, match="its route decides; there is no list"):
                proxy.set_upstreams(server.address)


def test_a_route_that_hangs_does_not_keep_the_interpreter(told):
    """The program ends, with a client in a route that never answers, shut down or not."""
    script = """
import socket, sys, threading
from spliceio import Proxy
inside = threading.Event()
def route(client, first):
    inside.set()
    threading.Event().wait()
proxy = Proxy("127.0.0.1:0", route=route)
proxy.start()
host, port = proxy.address.split(":")
client = socket.create_connection((host, int(port)))
client.sendall(b"hello")
inside.wait()
if sys.argv[1] == "shut":
    proxy.shutdown()
print("ended")
"""
    for how in ("shut", "open"):
        done = subprocess.run(
            [sys.executable, "-c", script, how], capture_output=True, text=True, timeout=HANG
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


@pytest.fixture
def no_threads(monkeypatch):
    """Refuse to start a thread, until the context that it gives is over."""

    @contextlib.contextmanager
    def refusing():
        def refuse(*_args):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            yield

    return refusing


def test_no_thread_for_the_first_route(told, no_threads):
    """The connection is closed, and the log says why; the next one is served."""
    with Server(named(b"A")) as server, Proxy(ANY, route=lambda *_: server.address) as proxy:
        sock = At(proxy).connect()
        with sock, no_threads(), contextlib.suppress(ConnectionResetError):
            sock.sendall(b"x")
            assert sock.recv(1) == b""
        (record,) = told("route-failed")
        assert "can't start new thread" in record.getMessage()
        with At(proxy).connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"A"
        idle(proxy)


def test_no_thread_for_the_second_route(no_threads):
    """It waits for the first one's, and is served."""
    with Server(named(b"A")) as server:
        gate = Gate(server.address)
        with Proxy(ANY, route=gate) as proxy, At(proxy).connect() as one:
            one.sendall(b"x")
            until(lambda: gate.inside)
            with At(proxy).connect() as two:
                with no_threads():
                    two.sendall(b"x")
                    until(lambda: proxy._router._asked.qsize())
                gate.opened.set()
                assert one.recv(1) == two.recv(1) == b"A"


def test_no_thread_for_names(resolver, told, no_threads):
    """They are looked up without one."""
    with Server(named(b"A")) as server:
        resolver.known["name.test"] = [server.address]
        with Proxy(ANY, "127.0.0.1:1") as proxy:
            with no_threads():
                proxy.set_upstreams("name.test:80")
            assert whom(proxy) == b"A"
            (record,) = told("names")
            assert "can't start new thread" in record.getMessage()
            idle(proxy)
