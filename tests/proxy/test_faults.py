"""A Proxy when things go wrong: resets, upstreams that hang, shortages, forks, every errno.

Rule 1: what was sent before an end arrives before it, and a reset is never passed on as an end of
        file.
Rule 2: trouble with one connection costs that one at most; the next one is served.
Rule 3: whatever happened, no connection, descriptor, pipe or thread is left in the end.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import random
import signal
import socket
from pathlib import Path

import pytest

from spliceio import Proxy
from tests.support.proxies import (
    ANY,
    LOG,
    At,
    Keeper,
    echo_elsewhere,
    events,
    hanging,
    heard,
    held_up,
    idle,
    is_cut,
    named,
    of_listener,
    pair,
    refuses,
    reset,
    scripted,
    sent_all,
    skip,
    talks_through,
    unstarted,
    whom,
)
from tests.support.seam import ALWAYS, cap, fail, zero
from tests.support.servers import Server, ask, echo, read_all
from tests.support.servers import proxy as command
from tests.support.states import Worker, descriptors, no_more_descriptors, process_state, until
from tests.support.wires import MIB, payload


@pytest.fixture
def told(caplog):
    """Log everything; return what gives the records of some events."""
    caplog.set_level(logging.INFO, LOG)
    return lambda *wanted: events(caplog, *wanted)


# -- resets and half-closes ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("size", [0, 1, 3000, 100_000, 3 * MIB])
@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_arrives_after_what_was_sent_before_it(who, size, method):
    """All bytes, then a reset: to a reader that reads meanwhile, or only when all is over."""
    data = payload(size)
    for reader in ("eager", "late"):
        if reader == "late" and size > MIB:
            continue  # more than the buffers on the way hold is not sent before it is read
        with pair(method=method) as (proxy, client, server):
            bad, good = (client, server) if who == "client" else (server, client)
            assert talks_through(client, server)
            reading = Worker(lambda good=good: heard(good)) if reader == "eager" else None
            bad.sendall(data)
            sent_all(bad)
            reset(bad)
            if reading is None:
                # What is left to be read is on this side of the proxy, or the proxy waits for it.
                reading = Worker(lambda good=good: heard(good))
            got, was_reset = reading.result()
            assert (got == data, len(got), was_reset) == (True, size, True)
            stats = idle(proxy)
            there = stats.a_to_b if who == "client" else stats.b_to_a
            assert (there, stats.pipes_held) == (size + 1, 0)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_while_the_other_side_does_not_read(who):
    """What the proxy holds for it arrives, however long it waits, and then the reset."""
    with pair() as (proxy, client, server):
        bad, good = (client, server) if who == "client" else (server, client)
        bad.setblocking(False)
        data, sent = payload(16 * MIB), 0
        while not proxy.stats().pipes_held:
            with contextlib.suppress(BlockingIOError):
                sent += bad.send(data[sent : sent + MIB])
        good.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        reading = Worker(lambda: heard(good))
        sent_all(bad)
        reset(bad)
        got, was_reset = reading.result()
        assert (len(got), got == data[:sent], was_reset) == (sent, True, True)
        assert idle(proxy).pipes_held == 0


def test_a_reset_is_not_kept_back_for_ever():
    """A client that does not read gets it ten seconds later, before the rest of the bytes."""
    data = payload(400_000)
    with pair() as (proxy, client, server):
        assert talks_through(client, server)
        server.sendall(data)
        until(lambda: proxy.stats().b_to_a == len(data) + 1)
        reset(server)
        skip(proxy, 5)
        assert proxy.stats().active == 1
        while proxy.stats().active:
            skip(proxy, 1)
        assert proxy.stats().pipes_held == 0
        got, was_reset = heard(client)
        assert was_reset
        assert data.startswith(got)


@pytest.mark.parametrize("first", ["client", "server", "both"])
@pytest.mark.parametrize("listen", [ANY, "unix"])
def test_half_closes(first, listen, tmp_path):
    """Who ends early still hears everything; both ends may come at once, with bytes before them."""
    there, back = payload(MIB, 1), payload(MIB + 1, 2)
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    with pair(listen) as (proxy, client, server):

        def end(sock: socket.socket, data: bytes) -> Worker:
            return Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))

        if first == "both":
            workers = [end(client, there), end(server, back)]
            reading = Worker(lambda: heard(server))
            assert heard(client) == (back, False)
            assert reading.result() == (there, False)
        else:
            one, two = (client, server) if first == "client" else (server, client)
            early, late = (there, back) if first == "client" else (back, there)
            workers = [end(one, early)]
            assert heard(two) == (early, False)
            assert idle_is_not_yet(proxy)
            workers.append(end(two, late))
            assert heard(one) == (late, False)
        for worker in workers:
            worker.result()
        stats = idle(proxy)
        assert (stats.a_to_b, stats.b_to_a) == (MIB, MIB + 1)
        assert sum(stats.methods.values()) == 2 * MIB + 1


def idle_is_not_yet(proxy: Proxy) -> bool:
    return proxy.stats().active == 1


@pytest.mark.parametrize("where", ["client", "server", "route"])
def test_an_urgent_byte_is_passed_over(where):
    """Everything around it arrives, and so does the end of file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = of_listener(listener)
        to = (
            {"route": lambda client, first: upstream}
            if where == "route"
            else {"upstream": upstream}
        )
        with Proxy(ANY, **to) as proxy, At(proxy).connect() as client:
            if where == "server":
                client.sendall(b"x")
                server = listener.accept()[0]
                assert server.recv(1) == b"x"
                source = server
            else:
                source = client
            source.sendall(b"abc")
            source.send(b"!", socket.MSG_OOB)
            source.sendall(b"def")
            source.shutdown(socket.SHUT_WR)
            if where != "server":
                server = listener.accept()[0]
            with server:
                assert heard(client if where == "server" else server) == (b"abcdef", False)
            client.close()
            idle(proxy)


WHERE = ["connecting", "header", "route"]


@pytest.mark.parametrize("end", ["half", "whole"])
@pytest.mark.parametrize("listen", [ANY, "unix"])
@pytest.mark.parametrize("where", WHERE)
def test_a_client_that_says_all_and_ends_is_heard(where, listen, end, tmp_path):
    """It closes before anybody was connected for it: its bytes arrive, and its end of file."""
    data = payload(10_000)
    header = b"PROXY UNKNOWN\r\n" if where == "header" else b""
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    with Keeper() as server, held_up(where, server.address, listen) as (proxy, wait, go_on):
        with At(proxy).connect() as sock:
            if where != "header":
                sock.sendall(data)
                wait()
            else:
                sock.sendall(header[:5])
                wait()
                sock.sendall(header[5:] + data)
            if end == "half":
                sock.shutdown(socket.SHUT_WR)
        go_on()
        assert idle(proxy).a_to_b == len(data)
        until(lambda: server.kept)
        assert server.kept == [(data, False)]


@pytest.mark.parametrize("where", WHERE)
def test_a_client_that_resets_before_it_is_connected(where, told):
    """It is forgotten, with all that was begun for it; no upstream is to blame for it."""
    before = len(descriptors())
    with Server(named(b"B")) as server, held_up(where, server.address) as (proxy, wait, go_on):
        mine = len(descriptors())
        sock = At(proxy).connect()
        sock.sendall(b"PROX" if where == "header" else b"x")
        wait()
        reset(sock)
        until(lambda: told("failed"))
        go_on()
        assert idle(proxy).total == 1
        (record,) = told()
        assert (record.event, record.reason) == ("failed", "Connection reset by peer")
        assert len(descriptors()) == mine
        assert proxy.stats().failed == 0
        if where != "header":
            with At(proxy).connect() as sock:
                sock.sendall(b"y")
                go_on()
                assert sock.recv(1) == b"B"
            idle(proxy)
    gc.collect()
    assert len(descriptors()) == before


# -- upstreams -------------------------------------------------------------------------------------


def test_an_upstream_that_hangs(told):
    """After connect_timeout the next one is tried, and the one that hangs is passed over."""
    with Server(named(b"B")) as other, hanging() as hangs:
        proxy = Proxy(ANY, [hangs, other.address], connect_timeout=50)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            until(lambda: seam.calls("connect"))
            assert whom(proxy) == b"B"  # nobody else is delayed
            skip(proxy, 50)
            assert sock.recv(1) == b"B"
            until(lambda: told("upstream-down"))
            (record,) = told("upstream-down")
            assert (record.upstream, record.errno) == (hangs, errno.ETIMEDOUT)
            assert whom(proxy) == whom(proxy) == b"B"
            assert len(seam.calls("connect")) == 5
            sock.close()
            assert idle(proxy).failed == 0


def test_nobody_but_upstreams_that_hang(told):
    """The connection is closed after connect_timeout for each; nothing of it stays."""
    with hanging() as one, hanging() as two:
        proxy = Proxy(ANY, [one, two], connect_timeout=50)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            for count in (1, 2):
                until(lambda count=count: len(seam.calls("connect")) == count)
                skip(proxy, 50)
            assert heard(sock)[0] == b""
            assert idle(proxy).failed == 1
            until(lambda: told("failed"))
            assert told("failed")[0].reason == "Connection timed out"


def test_no_connect_timeout_waits_for_ever():
    """With None a connection waits as long as the kernel does."""
    with hanging() as hangs:
        proxy = Proxy(ANY, hangs, connect_timeout=None)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            until(lambda: seam.calls("connect"))
            skip(proxy, 10**6)
            with At(proxy).connect():
                until(lambda: len(seam.calls("connect")) == 2)
            assert proxy.stats().active == 2
            proxy.shutdown()
            assert is_cut(sock)


@pytest.mark.parametrize("room", [True, False], ids=["room", "no room"])
def test_a_unix_upstream_with_a_full_backlog(room, tmp_path):
    """It is waited for; after connect_timeout the next one is tried."""
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        filler = stack.enter_context(socket.socket(socket.AF_UNIX))
        filler.connect(path)
        other = stack.enter_context(Server(named(b"B")))
        proxy = Proxy(ANY, [f"unix:{path}", other.address], connect_timeout=3600)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as sock:
            until(lambda: [row.result for row in seam.calls("connect")].count(-errno.EAGAIN) > 1)
            if room:
                listener.accept()[0].close()
                with listener.accept()[0] as server:
                    server.sendall(b"A")
                    assert sock.recv(1) == b"A"
            else:
                skip(proxy, 3600)
                assert sock.recv(1) == b"B"
            sock.close()
            assert idle(proxy).failed == 0


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_an_upstream_that_closes_at_once(how):
    """The client is closed, or another upstream serves it; nobody after it is harmed."""

    def serve(sock):
        if how == "reset":
            reset(sock)

    with Server(serve) as rude, Server(named(b"B")) as other:
        with Proxy(ANY, [rude.address, other.address]) as proxy:
            for _ in range(20):
                assert whom(proxy) + whom(proxy) in (b"B", b"BB")
            assert idle(proxy).total == 40
        with Proxy(ANY, rude.address) as proxy:
            for _ in range(20):
                assert whom(proxy) == b""
            assert idle(proxy).total == 20


def test_what_an_upstream_says_before_it_resets_at_once_arrives():
    """It answers and resets before the proxy has seen that it was connected."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler = stack.enter_context(socket.create_connection(listener.getsockname()))
        with command(of_listener(listener)) as running, running.connect() as sock:
            port = f":{listener.getsockname()[1]:04X} 02 "  # SYN_SENT
            until(lambda: port in Path("/proc/net/tcp").read_text())
            os.kill(running.pid, signal.SIGSTOP)
            until(lambda: process_state(running.pid) == "T")
            listener.accept()[0].close()
            filler.close()
            server = listener.accept()[0]  # the kernel has tried again
            server.sendall(b"too busy")
            reset(server)
            os.kill(running.pid, signal.SIGCONT)
            assert heard(sock) == (b"too busy", True)


# -- descriptors, and what is the caller's ---------------------------------------------------------


@pytest.mark.parametrize("spare", [3, 4, 8])
def test_more_clients_than_descriptors(spare, told):
    """All are served, a few at a time, with bulk data; it is said once, and nothing spins."""
    data = payload(200_000)
    with echo_elsewhere() as upstream, socket.create_server(("127.0.0.1", 0)) as listener:
        crowd = [socket.create_connection(listener.getsockname()) for _ in range(12)]
        with contextlib.ExitStack() as stack:
            for sock in crowd:
                stack.enter_context(sock)
            proxy = stack.enter_context(unstarted(listener, upstream))
            seam = scripted(proxy)
            with no_more_descriptors(spare):
                proxy.start()
                for sock in crowd:
                    feeder = Worker(
                        lambda sock=sock: (sock.sendall(data), sock.shutdown(socket.SHUT_WR))
                    )
                    assert read_all(sock) == data
                    feeder.result()
                stats = idle(proxy)
            assert (stats.total, stats.failed, stats.a_to_b) == (12, 0, 12 * len(data))
            assert sum(stats.methods.values()) == 24 * len(data)
            shortages = [row for row in seam.log if row.result == -errno.EMFILE]
            assert shortages
            assert len(shortages) < 2000  # a pause after each; without one it would be millions
            until(lambda: told("full") or not stats.full)
            assert len(told("full")) == bool(stats.full)
            assert told("upstream-down") == []
            assert ask(At(proxy), b"afterwards") == b"afterwards"
            idle(proxy)


@pytest.mark.parametrize("spare", range(12))
def test_no_descriptors_to_begin_with(spare):
    """However few there are: an OSError that says so, and nothing is left open."""
    with socket.create_server(("127.0.0.1", 0)) as given, contextlib.ExitStack() as stack:
        # Two engines have two descriptors each, beside one for news and four for listeners; the
        # start takes four more, for the listeners of each engine.
        text = "Too many open files|no descriptor left"
        with no_more_descriptors(spare), pytest.raises(OSError, match=text) as caught:
            stack.enter_context(Proxy([given, ANY], "127.0.0.1:1", threads=2))
        assert caught.value.errno == errno.EMFILE


def test_the_owner_closes_the_listener():
    """The proxy has its own: it serves on, and can be ended."""
    with Server(echo) as server:
        given = socket.create_server(("127.0.0.1", 0))
        with Proxy(given, server.address) as proxy:
            address = proxy.address
            given.close()
            assert ask(At(proxy), b"hello") == b"hello"
            assert proxy.address == address
            idle(proxy)
        assert refuses(address)


def test_the_owner_shuts_the_listener_down(told):
    """Nothing more comes there; that is no shortage, and other listeners are served on."""
    with Server(echo) as server, socket.create_server(("127.0.0.1", 0)) as given:
        proxy = Proxy([given, ANY], server.address)
        seam = scripted(proxy)
        with proxy:
            given.shutdown(socket.SHUT_RDWR)
            until(lambda: any(row.result == -errno.EINVAL for row in seam.calls("accept")))
            for _ in range(3):
                assert ask(At(proxy.addresses[1]), b"hello") == b"hello"
            assert idle(proxy).full == 0
            assert told("full") == []
            assert len(seam.calls("accept")) < 1000


def test_an_idle_end_with_bytes_missing_is_no_end_of_file():
    """A client that did not read in time gets a reset, so that what it has does not look whole."""
    with pair(idle_timeout=50) as (proxy, client, server):
        server.setblocking(False)
        while not proxy.stats().pipes_held:
            with contextlib.suppress(BlockingIOError):
                server.send(bytes(MIB))
        server.shutdown(socket.SHUT_WR)
        skip(proxy, 51)
        idle(proxy)
        assert is_cut(client)


def test_a_storm():
    """150 clients and servers that end as they like, on two threads: nothing is left of it."""

    def behave(sock: socket.socket, seed: int) -> None:
        random_ = random.Random(seed)
        with sock, contextlib.suppress(OSError):
            for _ in range(random_.randrange(4)):
                if random_.random() < 0.5:
                    sock.sendall(bytes(random_.choice([1, 3000, 70_000])))
                else:
                    sock.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        sock.recv(random_.choice([1, 100_000]))
                    sock.settimeout(None)
            if random_.random() < 0.3:
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    read_all(sock)
            if random_.random() < 0.4:
                reset(sock)

    numbers = iter(range(10_000, 20_000))
    options = {"threads": 2, "max_connections": 20}
    with (
        Server(lambda sock: behave(sock, next(numbers))) as server,
        Proxy(ANY, server.address, **options) as proxy,
    ):
        clients = [Worker(lambda n=n: behave(At(proxy).connect(), n)) for n in range(150)]
        for client in clients:
            client.result()
        stats = idle(proxy)
        assert (stats.total, stats.failed, stats.pipes_held) == (150, 0, 0)


def test_few_pipes_for_many():
    """20 at once with two pipes between them: who gets none copies, and every byte is right."""
    with Server(echo) as server, Proxy(ANY, server.address, max_pipes=2) as proxy:
        sent = [payload(MIB + number, number) for number in range(20)]
        workers = [Worker(lambda data=data: ask(At(proxy), data)) for data in sent]
        for worker, data in zip(workers, sent, strict=True):
            assert worker.result() == data
        stats = idle(proxy)
        assert sum(stats.methods.values()) == 2 * sum(map(len, sent))
        assert stats.pipes_open <= 2
        assert stats.pipes_held == 0


# -- every errno -----------------------------------------------------------------------------------

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
GONE = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.EINTR, errno.EAGAIN, errno.EPERM, errno.ENETDOWN),
    *(errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP),
    errno.ENETUNREACH,
)
ids = {"ids": lambda value: errno.errorcode.get(value, str(value))}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("err", [*SHORTAGES, *GONE], **ids)
def test_accept_fails(err, times, told):
    """Whoever waits is served all the same; only a shortage is counted and told as one."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, fail("accept", err, times=times))
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            stats = idle(proxy)
            assert seam.unused() == [0]
            assert (stats.total, stats.failed) == (1, 0)
            if err in (errno.EMFILE, errno.ENFILE):
                assert stats.full == times
                until(lambda: told("full"))
                assert len(told("full")) == 1
            elif err in GONE:
                assert stats.full == 0
                assert told("full") == []


def test_a_shortage_is_told_once(told):
    """Not with each attempt, and not again when the upstreams change."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        scripted(proxy, fail("accept", errno.EMFILE, times=2))
        with proxy:
            for _ in range(3):
                assert ask(At(proxy), b"x") == b"x"
                proxy.set_upstreams(server.address)
            assert idle(proxy).full == 2
        (record,) = told("full")
        assert record.levelname == "WARNING"
        assert "ulimit -n" in record.getMessage()


@pytest.mark.parametrize("err", SHORTAGES, **ids)
def test_no_socket_for_the_upstream(err, told):
    """It is waited out: the connection is served in the end, and nobody is passed over."""
    with Server(echo) as server, Server(echo) as other:
        proxy = Proxy(ANY, [server.address, other.address])
        seam = scripted(proxy, fail("socket", err, times=3))
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
            assert seam.unused() == [0]
            assert told("upstream-down") == []
            until(lambda: told("closed"))
            assert told("closed")[0].upstream == server.address


@pytest.mark.parametrize("call", ["socket", "connect"])
def test_a_shortage_is_no_upstreams_fault(call, told):
    """One that outlasts connect_timeout costs the connection; no upstream is passed over for it."""
    err = errno.EMFILE if call == "socket" else errno.ENOBUFS
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address, connect_timeout=50)
        seam = scripted(proxy, fail(call, err, times=ALWAYS))
        with proxy, At(proxy).connect() as sock:
            until(lambda: len(seam.calls(call)) > 2)
            skip(proxy, 51)
            assert heard(sock)[0] == b""
            assert idle(proxy).failed == 1
            until(lambda: told("failed"))
            assert told("failed")[0].reason == os.strerror(err)
        assert told("upstream-down") == []


@pytest.mark.parametrize(
    "err",
    [
        *(errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT),
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ECONNRESET, errno.EPROTOTYPE),
    ],
    **ids,
)
def test_connect_fails(err, told):
    """The next upstream is asked, and the one that failed is told of, with the reason."""
    with Server(named(b"A")) as server, Server(named(b"B")) as other:
        proxy = Proxy(ANY, [server.address, other.address])
        scripted(proxy, fail("connect", err))
        with proxy:
            assert whom(proxy) == b"B"
            assert idle(proxy).failed == 0
            until(lambda: told("upstream-down"))
            (record,) = told("upstream-down")
            assert (record.upstream, record.errno) == (server.address, err)
            assert record.getMessage() == f"{server.address}: {os.strerror(err)}"
            skip(proxy, 1)
            assert whom(proxy) == b"A"
            idle(proxy)


@pytest.mark.parametrize(
    "err", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL], **ids
)
def test_connect_is_tried_again(err, told):
    """What passes is waited out, when there is nobody else to ask."""
    with Server(named(b"A")) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, fail("connect", err))
        with proxy:
            assert whom(proxy) == b"A"
            assert idle(proxy).failed == 0
            assert seam.unused() == [0]


def test_an_address_that_this_machine_cannot_use_is_passed_over(monkeypatch):
    """A name with ::1 first, where there is no IPv6: 127.0.0.1 is tried, not ::1 for ever."""
    really = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        if host != "both.test":
            return really(host, port, *args, **options)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Server(named(b"A")) as server:
        proxy = Proxy(ANY, f"both.test:{server.address.partition(':')[2]}")
        seam = scripted(proxy, fail("connect", errno.EADDRNOTAVAIL))
        with proxy:
            assert whom(proxy) == b"A"
            idle(proxy)
        families = [row.flags for row in seam.calls("socket")]
        assert families == [socket.AF_INET6, socket.AF_INET]


@pytest.mark.parametrize("where", ["header", "route"])
@pytest.mark.parametrize(
    "err", [errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ECONNRESET, errno.ETIMEDOUT], **ids
)
def test_peek_fails(err, where, told):
    """What passes is asked again; any other error ends the connection, and the next is served."""
    with Server(echo) as server:
        options = (
            {"upstream": server.address, "trust_proxy_protocol": ["127.0.0.1"]}
            if where == "header"
            else {"route": lambda client, first: server.address}
        )
        header = b"PROXY UNKNOWN\r\n" if where == "header" else b""
        proxy = Proxy(ANY, **options)
        scripted(proxy, fail("peek", err))
        with proxy:
            with At(proxy).connect() as sock:
                with contextlib.suppress(OSError):
                    sock.sendall(header + b"hello")
                    sock.shutdown(socket.SHUT_WR)
                got, _ = heard(sock)
            idle(proxy)
            if err in (errno.EAGAIN, errno.EINTR):
                assert got == b"hello"
            else:
                assert got in (b"", b"hello")
                failed = [record.reason for record in told("failed")]
                assert failed == ([os.strerror(err)] if not got else [])
            assert ask(At(proxy), header + b"again") == b"again"
            idle(proxy)


class Played:
    """What became of one client's bytes, through a proxy with a script under it.

    The client has sent what it can before the proxy starts, so that the first calls are those of
    its flow. With `waits` it sends its last byte, and its end, only when the script was played: an
    invented EAGAIN is followed by no event.
    """

    def __init__(self, size: int, *rules, waits: bool = False) -> None:
        self.data, self.waits, self.waiting = payload(size), waits, False
        with Keeper() as server, contextlib.ExitStack() as stack:
            proxy = stack.enter_context(unstarted(ANY, server.address))
            self.seam = scripted(proxy, *rules, stall=10**6)
            with At(proxy).connect() as sock:
                feeder = Worker(lambda: self._send(sock))
                until(lambda: feeder.asleep() or not feeder.is_alive() or self.waiting)
                proxy.start()
                self.back, self.was_reset = heard(sock)
                feeder.result()
            self.stats = idle(proxy)
            until(lambda: server.kept)
            ((self.got, self.server_was_reset),) = server.kept
            assert self.stats.pipes_held == 0
            assert self.back == b""
            assert set(self.seam.unused()) <= {0}
            with At(proxy).connect() as sock:
                sock.sendall(b"and the next one")
            idle(proxy)
            until(lambda: len(server.kept) == 2)
            assert server.kept[-1] == (b"and the next one", False)

    def _send(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may be cut at any moment
            sock.sendall(self.data[:-1])
            if self.waits:
                self.waiting = True
                until(lambda: self.seam.unused() == [0])
            sock.sendall(self.data[-1:])
            sock.shutdown(socket.SHUT_WR)

    def whole(self) -> None:
        """Assert that all arrived, and both ends were clean."""
        assert (len(self.got), self.got == self.data) == (len(self.data), True)
        assert (self.server_was_reset, self.was_reset) == (False, False)
        assert self.stats.a_to_b == sum(self.stats.methods.values()) == len(self.data)

    def cut(self) -> None:
        """Assert that what arrived is the beginning, and does not look whole."""
        assert self.data.startswith(self.got)
        assert self.server_was_reset
        assert self.stats.a_to_b <= len(self.data)


SMALL, BULK = 3000, 3 * MIB
CALLS = {
    "read": (SMALL, "read", "fill"),
    "write": (SMALL, "write", "drain"),
    "fill": (BULK, "splice", "fill"),
    "drain": (BULK, "splice", "drain"),
}
nth = pytest.mark.parametrize("skipped", [0, 1, 2])


def script(call: str, err: int, skipped: int, times: int = 1):
    size, name, site = CALLS[call]
    if size == SMALL and skipped:  # a small message is one call: make it several
        return size, (cap(name, size // 4, site=site, times=skipped), fail(name, err, site=site))
    return size, (fail(name, err, site=site, skip=skipped, times=times),)


@nth
@pytest.mark.parametrize("err", [errno.EAGAIN, errno.EINTR, errno.ENOMEM], **ids)
@pytest.mark.parametrize("call", CALLS)
def test_what_passes_is_waited_out(call, err, skipped):
    """A call that says "not now", at any point: every byte arrives, once, in order."""
    size, rules = script(call, err, skipped)
    waits = err == errno.EAGAIN and call in ("read", "fill")
    if waits and call == "fill" and not skipped:
        size = 60_000  # so little that nothing is kept back for want of a window
    Played(size, *rules, waits=waits).whole()


@pytest.mark.parametrize("err", [errno.ENOBUFS, errno.ENOMEM], **ids)
@pytest.mark.parametrize("call", ["write", "drain"])
def test_no_memory_to_send(call, err):
    """It is waited out as often as it comes."""
    size, rules = script(call, err, 0, times=3)
    Played(size, *rules).whole()


@nth
@pytest.mark.parametrize("err", [errno.ECONNRESET, errno.ETIMEDOUT], **ids)
@pytest.mark.parametrize("call", ["read", "fill"])
def test_the_client_is_gone(call, err, skipped):
    """What it sent before arrives, and no end of file."""
    size, rules = script(call, err, skipped)
    Played(size, *rules).cut()


@nth
@pytest.mark.parametrize("err", [errno.EIO, errno.EFAULT], **ids)
@pytest.mark.parametrize("call", CALLS)
def test_an_error_that_nobody_expects(call, err, skipped, told):
    """Both sides are cut, or the other method goes on when nothing was moved; no pipe is kept."""
    size, rules = script(call, err, skipped)
    played = Played(size, *rules)
    if played.got == played.data and not played.server_was_reset:
        played.whole()
        return
    played.cut()
    until(lambda: told("closed"))
    assert told("closed")[0].reason not in ("eof", "cancelled")


@pytest.mark.parametrize("err", [errno.EINVAL, errno.ENOSYS, errno.EPERM], **ids)
def test_splice_is_refused(err):
    """By a sandbox, say: the bytes are copied, all of them."""
    played = Played(BULK, fail("splice", err, times=1))
    played.whole()
    assert "read_write" in played.stats.methods


@pytest.mark.parametrize("err", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM], **ids)
def test_no_pipe_is_to_be_had(err):
    """The bytes are copied, and nobody waits."""
    played = Played(BULK, fail("pipe", err))
    played.whole()
    assert played.stats.methods["read_write"] > 0


@pytest.mark.parametrize("call", ["fill", "drain"])
def test_a_splice_that_moves_nothing(call):
    """0 from a splice is no end of file as long as bytes are there."""
    size, name, site = CALLS[call]
    Played(size, zero(name, site=site)).whole()


@pytest.mark.parametrize("most", [1, 7, 4096])
@pytest.mark.parametrize("call", CALLS)
def test_short_counts(call, most):
    """Fewer bytes than asked for, again and again."""
    size, name, site = CALLS[call]
    Played(size, cap(name, most, site=site, times=500)).whole()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "err", [errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM], **ids
)
def test_the_header_cannot_be_sent(err, version):
    """Half a header is none: the connection is closed, or served whole; the next one is served."""
    with Keeper() as server:
        proxy = Proxy(ANY, server.address, proxy_protocol=version)
        scripted(proxy, fail("write", err), stall=10**6)
        with proxy:
            with At(proxy).connect() as sock:
                with contextlib.suppress(OSError):
                    sock.sendall(b"hello")
                    sock.shutdown(socket.SHUT_WR)
                assert heard(sock)[0] == b""
            idle(proxy)
            with At(proxy).connect() as sock:
                sock.sendall(b"next")
            idle(proxy)
            until(lambda: len(server.kept) == 2)
        begin = b"PROXY TCP4" if version == 1 else b"\r\n\r\n\0\r\nQUIT"
        first, second = sorted((got for got, _ in server.kept), key=lambda got: b"next" in got)
        assert first == b"" or (first.startswith(begin) and first.endswith(b"hello"))
        assert second.startswith(begin)
        assert second.endswith(b"next")


def test_shutdown_says_that_the_other_side_has_gone():
    """ENOTCONN from a half-close is no error: what comes the other way still arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(ANY, of_listener(listener))
        seam = scripted(proxy, fail("shutdown", errno.ENOTCONN))
        with proxy, At(proxy).connect() as client, listener.accept()[0] as server:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert server.recv(10) == b"hello"
            until(lambda: seam.unused() == [0])
            server.sendall(b"bye")
            server.close()
            assert heard(client)[0] == b"bye"
            idle(proxy)
