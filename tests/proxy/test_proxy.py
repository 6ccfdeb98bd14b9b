"""Proxy as a class, in this process: where it listens, where it connects, how it starts and ends.

Rule 1: every byte arrives, in order, and is counted once, by the way that it went.
Rule 2: what is the caller's (sockets, paths, other files) is left as it was found.
Rule 3: an end is an end: nothing is served after it, nothing of it is left, nothing waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import logging
import math
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

from spliceio import Proxy, ProxyStats
from spliceio._cffi import lib
from spliceio._proxy import address as _address
from spliceio._relay import engine as _engine
from tests.support.commands import HANG, unused_port
from tests.support.pools import at_rest
from tests.support.proxies import (
    ANY,
    LOG,
    At,
    child,
    echo_elsewhere,
    events,
    heard,
    idle,
    is_cut,
    named,
    of_listener,
    pair,
    patient,
    read_exactly,
    refuses,
    reset,
    skip,
    talks,
    talks_through,
    whom,
)
from tests.support.servers import Server, ask, echo, read_all
from tests.support.states import Worker, descriptors, syscall_of, until
from tests.support.wires import MIB, payload

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
EPOLL_WAIT = {232, 281, 22}  # epoll_wait and epoll_pwait of x86-64, the latter of arm64


@pytest.fixture
def told(caplog):
    """Log everything; return what gives the records of some events."""
    caplog.set_level(logging.INFO, LOG)
    return lambda *wanted: events(caplog, *wanted)


# -- where it listens, and where it connects -------------------------------------------------------


@pytest.mark.parametrize("to", ["text", "pair", "Address", "list", "unix"])
@pytest.mark.parametrize("at", ["v4", "v6", "all", "port", "pair", "Address", "unix", "socket"])
def test_every_form_of_an_address(at, to, tmp_path):
    """1 MiB there and back, and the empty request; all of it is counted, and spliced."""
    data = payload(MIB)
    given = {
        "v4": ANY,
        "v6": "[::1]:0",
        "all": ":0",
        "port": "0",
        "pair": ("127.0.0.1", 0),
        "Address": _address.Address("::1", 0),
        "unix": f"unix:{tmp_path}/in",
        "socket": None,
    }[at]
    with contextlib.ExitStack() as stack:
        path = str(tmp_path / "out") if to == "unix" else ""
        server = stack.enter_context(Server(echo, path=path))
        if given is None:
            given = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        upstream = {
            "pair": lambda: ("127.0.0.1", int(server.address.partition(":")[2])),
            "Address": lambda: _address.parse(server.address),
            "list": lambda: [server.address],
        }.get(to, lambda: server.address)()
        with Proxy(given, upstream) as proxy:
            assert not proxy.address.endswith(":0")
            assert proxy.addresses == [proxy.address]
            assert ask(At(proxy), data) == data
            assert ask(At(proxy), b"") == b""
            stats = idle(proxy)
        assert (stats.total, stats.failed, stats.full) == (2, 0, 0)
        assert (stats.a_to_b, stats.b_to_a) == (MIB, MIB)
        assert sum(stats.methods.values()) == 2 * MIB
        assert stats.methods["splice"] > MIB
        assert stats.pipes_held == 0
        assert vars(proxy.stats()) | {"pipes_open": 0} == vars(stats) | {"pipes_open": 0}
        assert proxy.addresses == []
    assert not (tmp_path / "in").exists()


def test_several_listeners(tmp_path):
    """All of a list are served, and named in its order."""
    with (
        Server(echo) as server,
        socket.create_server(("127.0.0.1", 0)) as given,
        Proxy([ANY, "[::1]:0", f"unix:{tmp_path}/s", given], server.address) as proxy,
    ):
        assert len(proxy.addresses) == 4
        assert proxy.address == proxy.addresses[0]
        assert proxy.addresses[2:] == [
            f"unix:{tmp_path}/s",
            f"127.0.0.1:{given.getsockname()[1]}",
        ]
        for number, address in enumerate(proxy.addresses):
            data = payload(10_000 + number, number)
            assert ask(At(address), data) == data
        assert idle(proxy).total == 4


def test_a_given_listener_is_left_as_it_was():
    """After the end it still listens, for its owner, and blocks if it did."""
    with Server(patient) as server, socket.create_server(("127.0.0.1", 0)) as given:
        with Proxy(given, server.address) as proxy:
            assert ask(At(proxy), b"hello") == b"hello"
        with socket.create_connection(given.getsockname()) as client, given.accept()[0] as sock:
            client.sendall(b"mine")
            assert sock.recv(10) == b"mine"
        assert given.getblocking()
        assert os.get_blocking(given.fileno())


def test_who_waited_before_the_start_is_served():
    """A listening socket may have clients in its backlog already."""
    with Server(echo) as server, socket.create_server(("127.0.0.1", 0)) as given:
        clients = [socket.create_connection(given.getsockname()) for _ in range(5)]
        with contextlib.ExitStack() as stack:
            for client in clients:
                stack.enter_context(client)
                client.sendall(b"early")
                client.shutdown(socket.SHUT_WR)
            with Proxy(given, server.address) as proxy:
                assert [read_all(client) for client in clients] == [b"early"] * 5
                assert idle(proxy).total == 5


@pytest.mark.parametrize("other", ["file", "socket"])
def test_a_file_of_somebody_else_at_the_path_is_left(other, tmp_path):
    """What has taken the place of our socket meanwhile is not removed."""
    path = tmp_path / "s"
    with Server(echo) as server, socket.socket(socket.AF_UNIX) as theirs:
        with Proxy(f"unix:{path}", server.address) as proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            path.rename(tmp_path / "kept")  # its inode is not given to the other one
            if other == "file":
                path.write_bytes(b"precious")
            else:
                theirs.bind(str(path))
        assert path.exists()
        assert stat.S_ISSOCK(path.stat().st_mode) == (other == "socket")


def test_what_is_at_the_path_before(tmp_path):
    """A dead socket is replaced; a live one, a file and a directory are left, and named."""
    path = tmp_path / "s"
    with Server(patient) as server:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with Proxy(f"unix:{path}", server.address) as proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            with pytest.raises(OSError, match="already in use") as caught:
                Proxy(f"unix:{path}", server.address)
            assert caught.value.filename == f"unix:{path}"
            assert ask(At(proxy), b"hello") == b"hello"
        for make in (path.mkdir, path.write_bytes):
            make(*[b"precious"] if make == path.write_bytes else [])
            with pytest.raises(OSError, match="already in use"):
                Proxy(f"unix:{path}", server.address)
            assert path.exists()
            if path.is_dir():
                path.rmdir()
        assert path.read_bytes() == b"precious"


def test_one_listener_that_cannot_be_had_undoes_the_others(tmp_path):
    """The OSError names the address, and the sockets and paths made before are gone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="already in use") as caught:
            Proxy([ANY, f"unix:{tmp_path}/s", address], ":1")
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, address)
    assert not (tmp_path / "s").exists()


def test_reuse_port():
    """Two proxies share a port: both get some, nobody is lost, and one alone gets all."""
    with Server(echo) as server, Proxy(ANY, server.address, reuse_port=True) as one:
        with Proxy(one.address, server.address, reuse_port=True) as two:
            assert one.address == two.address
            for number in range(64):
                assert ask(At(one), bytes([number])) == bytes([number])
            shares = idle(one).total, idle(two).total
            assert sum(shares) == 64
            assert min(shares) > 0
        for number in range(8):
            assert ask(At(one), bytes([number])) == bytes([number])
        assert idle(one).total == shares[0] + 8
    with Proxy(ANY, ":1") as alone, pytest.raises(OSError, match="already in use"):
        Proxy(alone.address, ":1", reuse_port=True)


# -- limits and methods ----------------------------------------------------------------------------


def test_above_max_connections_clients_wait_their_turn():
    """Two are served; each that ends lets in the next of the backlog, in order."""
    order: list[bytes] = []

    def serve(sock):
        order.append(sock.recv(1))
        patient(sock)

    with (
        Server(serve) as server,
        Proxy(ANY, server.address, max_connections=2) as proxy,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for number in range(6):
            clients.append(stack.enter_context(At(proxy).connect()))
            clients[-1].sendall(b"%d" % number)
        until(lambda: len(order) == 2)
        for number in range(4):
            stats = proxy.stats()
            assert (stats.active, stats.total, stats.full) == (2, 2 + number, 0)
            clients[number].close()
            until(lambda number=number: len(order) == 3 + number)
        assert sorted(order[:2]) == [b"0", b"1"]
        assert order[2:] == [b"2", b"3", b"4", b"5"]


def test_threads_share_the_listeners_and_the_limit():
    """60 clients on two threads, never more than 7 of them at once, all bytes exact."""
    lock, most, there = threading.Lock(), 0, 0

    def serve(sock):
        nonlocal most, there
        with lock:
            there += 1
            most = max(most, there)
        data = read_all(sock)
        with lock:
            there -= 1
        sock.sendall(data)

    with Server(serve) as server, Proxy(ANY, server.address, threads=2, max_connections=7) as proxy:
        sent = [payload(20_000 + number, number) for number in range(60)]
        workers = [Worker(lambda data=data: ask(At(proxy), data)) for data in sent]
        for worker, data in zip(workers, sent, strict=True):
            assert worker.result() == data
        stats = idle(proxy)
        total = sum(map(len, sent))
        assert (stats.total, stats.a_to_b, stats.b_to_a) == (60, total, total)
        assert 0 < most <= 7


@pytest.mark.parametrize("options", [{"method": "read_write"}, {"max_pipes": 0}], ids=str)
def test_copying_instead_of_splicing(options):
    """By request, or for want of a pipe: the same bytes, and the counts say how they went."""
    data = payload(5 * MIB)
    with Server(echo) as server, Proxy(ANY, server.address, **options) as proxy:
        assert ask(At(proxy), data) == data
        stats = idle(proxy)
        assert stats.methods == {"read_write": 10 * MIB}
        assert (stats.a_to_b, stats.b_to_a, stats.pipes_open) == (5 * MIB, 5 * MIB, 0)


CLIENT = """
import socket, sys
for number in range(20):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as sock:
        sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        got = 0
        while part := sock.recv(65536):
            got += len(part)
        assert got == 100_000
print("done")
"""


def test_nothing_waits_for_the_interpreter():
    """With the GIL held all the time, connections are accepted, connected and served to the end."""
    answer = ctypes.create_string_buffer(4)
    with echo_elsewhere() as upstream, Proxy(ANY, upstream) as proxy:
        port = proxy.address.partition(":")[2]
        process = subprocess.Popen([sys.executable, "-c", CLIENT, port], stdout=subprocess.PIPE)
        with process:
            ctypes.PyDLL(None).read(process.stdout.fileno(), answer, 4)  # lets go of nothing
        assert answer.raw == b"done"
        stats = idle(proxy)
        assert (stats.total, stats.a_to_b, stats.b_to_a) == (20, 2_000_000, 2_000_000)


def test_idle_timeout(told):
    """A silent connection is closed; one on which a byte moves now and then is not."""
    with (
        Server(patient) as server,
        Proxy(ANY, server.address, idle_timeout=60) as proxy,
        At(proxy).connect() as silent,
        At(proxy).connect() as other,
    ):
        assert talks(silent)
        skip(proxy, 40)
        assert talks(other)
        at_rest()  # the engine has noted that bytes moved
        skip(proxy, 40)
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        assert talks(other)
        until(lambda: told("closed"))
        (record,) = told("closed")
        assert (record.reason, record.a_to_b, record.b_to_a) == ("idle", 5, 5)
        assert record.client == "{}:{}".format(*silent.getsockname())
        assert record.seconds >= 80


# -- the log ---------------------------------------------------------------------------------------


def test_a_connection_is_logged(told):
    """Who, where to, how much, how long and why it ended: as attributes, and in a sentence."""
    with Server(echo) as server, Proxy(ANY, server.address) as proxy:
        with At(proxy).connect() as sock:
            client = "{}:{}".format(*sock.getsockname())
            assert talks(sock, b"12345")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
        until(lambda: told())
    (record,) = told()
    fields = ("event", "client", "upstream", "a_to_b", "b_to_a", "reason", "levelname")
    assert [getattr(record, name) for name in fields] == [
        *("closed", client, server.address, 5, 5, "eof", "INFO")
    ]
    assert 0 <= record.seconds < HANG
    assert record.getMessage() == (
        f"{client} to {server.address}: 5 bytes there, 5 back, {record.seconds:.3f} s, eof"
    )


@pytest.mark.parametrize("reason", ["reset by a", "reset by b", "cancelled"])
def test_the_reason_of_an_end(reason, told):
    """Which side has reset, or that it was cut."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(ANY, of_listener(listener)) as proxy,
        At(proxy).connect() as client,
        listener.accept()[0] as server,
    ):
        client.sendall(b"abc")
        assert server.recv(10) == b"abc"
        if reason == "cancelled":
            proxy.shutdown()
        else:
            first = client if reason == "reset by a" else server
            reset(first)
            assert is_cut(server if first is client else client)
        until(lambda: told())
        (record,) = told()
        assert (record.event, record.reason, record.a_to_b) == ("closed", reason, 3)


def test_a_unix_client_has_no_address(told, tmp_path):
    """It is logged as unix."""
    with Server(echo) as server, Proxy(f"unix:{tmp_path}/s", server.address) as proxy:
        assert ask(At(proxy), b"x") == b"x"
        idle(proxy)
    assert [record.client for record in told()] == ["unix"]


def test_connections_are_not_logged_when_nobody_asked_at_the_start(caplog):
    """Trouble is, all the same; and the counts are right."""
    caplog.set_level(logging.WARNING, LOG)
    down = f"127.0.0.1:{unused_port()}"
    with Server(named(b"B")) as server, Proxy(ANY, [down, server.address]) as proxy:
        caplog.set_level(logging.INFO, LOG)
        proxy.set_upstreams(server.address)
        assert whom(proxy) == b"B"
        assert idle(proxy).total == 1
        caplog.set_level(logging.WARNING, LOG)
        proxy.set_upstreams([down, server.address])
        assert whom(proxy) == b"B"
        idle(proxy)
    assert [record.event for record in events(caplog)] == ["upstream-down"]


def test_a_handler_that_fails_costs_nothing(monkeypatch):
    """An error in the user's log handler is reported; no connection is kept for it."""
    reported = []

    class Broken(logging.Handler):
        def emit(self, record):
            raise ZeroDivisionError(record.getMessage())

    logger, handler = logging.getLogger(LOG), Broken()
    monkeypatch.setattr(_engine.log, "exception", lambda *args: reported.append(sys.exc_info()[0]))
    monkeypatch.setattr(logger, "propagate", False)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with Server(echo) as server, Proxy(ANY, server.address) as proxy:
            for _ in range(3):
                assert ask(At(proxy), b"x") == b"x"
            until(lambda: len(reported) == 3)
            assert idle(proxy).total == 3
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert set(reported) == {ZeroDivisionError}


# -- arguments -------------------------------------------------------------------------------------


def nowhere(client, first):
    """Route nobody anywhere."""


BAD = [
    ({"upstream": None}, TypeError, "Proxy: give an upstream or a route, one of the two"),
    ({"route": nowhere}, TypeError, "Proxy: give an upstream or a route, one of the two"),
    ({"upstream": None, "route": 5}, TypeError, "Proxy: route must be callable, not int"),
    ({"upstream": []}, ValueError, "Proxy: the list of upstreams is empty"),
    ({"upstream": "nonsense"}, ValueError, "'nonsense' is no address; write host:port"),
    ({"upstream": "::1:80"}, ValueError, "put an IPv6 address in brackets"),
    ({"upstream": "unix:"}, ValueError, "unix: needs a path"),
    ({"upstream": "unix:/" + "x" * 107}, ValueError, "has at most 107 bytes"),
    ({"upstream": ("h", 65536)}, ValueError, "a port is a number from 0 to 65535"),
    ({"upstream": 5}, TypeError, "an address is text .* not 5"),
    ({"upstream": ["h:1", None]}, TypeError, "an address is text .* not None"),
    ({"listen": []}, ValueError, "listen"),
    ({"listen": 80}, TypeError, "an address is text .* not 80"),
    ({"listen": "nonsense"}, ValueError, "'nonsense' is no address; write host:port"),
    ({"listen": "nosuch.invalid:0"}, OSError, "nosuch.invalid:0"),
    ({"listen": "unix:/nosuch/directory/s"}, FileNotFoundError, "unix:/nosuch/directory/s"),
    ({"listen": "unix:/" + "x" * 107}, ValueError, "has at most 107 bytes"),
    ({"proxy_protocol": 3}, ValueError, "proxy_protocol must be None, 1 or 2, not 3"),
    ({"proxy_protocol": "1"}, ValueError, "proxy_protocol must be None, 1 or 2, not '1'"),
    ({"max_connections": 0}, ValueError, "max_connections must be None or at least 1, not 0"),
    ({"method": "splice"}, ValueError, "method must be one of auto, read_write, not 'splice'"),
    ({"threads": 0}, ValueError, "threads must be at least 1, not 0"),
    ({"max_pipes": -1}, ValueError, r"max_pipes cannot be negative \(got -1\)"),
    ({"connect_timeout": 0}, ValueError, "connect_timeout must be None or more than 0, not 0"),
    ({"connect_timeout": math.nan}, ValueError, "connect_timeout must be"),
    ({"idle_timeout": -1}, ValueError, "idle_timeout must be None or a number .* not -1"),
    ({"peek_timeout": -1}, ValueError, "peek_timeout must be None or a number .* not -1"),
    ({"trust_proxy_protocol": "::1"}, ValueError, r"is a list of networks, such as \['::1'\]"),
    ({"trust_proxy_protocol": ["10.0.0.0/33"]}, ValueError, "10.0.0.0/33"),
    ({"trust_proxy_protocol": ["localhost"]}, ValueError, "localhost"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD, ids=[str(row[0])[:25] for row in BAD])
def test_bad_arguments(given, error, text):
    """Refused at once, in words that say what to give instead; nothing is left open."""
    with pytest.raises(error, match=text):
        Proxy(**{"listen": ANY, "upstream": "127.0.0.1:1", **given})


def test_a_socket_that_does_not_listen_is_refused():
    """It says what is missing, and the socket stays the caller's."""
    with socket.socket() as sock:
        with pytest.raises(ValueError, match=r"has to listen; call listen\(\) first"):
            Proxy(sock, "127.0.0.1:1")
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        Proxy(sock, "127.0.0.1:1").shutdown()
        assert sock.fileno() >= 0


# -- start and end ---------------------------------------------------------------------------------


def test_it_starts_once():
    """A second start is refused, and disturbs nothing; entering a started one is no start."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        assert proxy.stats().total == 0
        proxy.start()
        with pytest.raises(RuntimeError, match=r"Proxy.start: it has been started"):
            proxy.start()
        with proxy as same:
            assert same is proxy
            assert ask(At(proxy), b"x") == b"x"
            idle(proxy)


def test_nothing_can_be_done_after_the_end():
    """Calls say so, the counts stay, and to end it again is no error."""
    with Server(echo) as server:
        with Proxy(ANY, server.address) as proxy:
            assert ask(At(proxy), b"x") == b"x"
            stats = idle(proxy)
        address = f"127.0.0.1:{unused_port()}"
        for call in (proxy.start, lambda: proxy.set_upstreams(address), proxy.__enter__):
            with pytest.raises(RuntimeError, match="shut down"):
                call()
        proxy.shutdown()
        proxy.shutdown(drain=60)
        proxy.serve_forever()  # there is nothing to wait for
        assert proxy.stats() == ProxyStats(0, 1, 0, 1, 1, stats.methods, 0, 0, 0)


def test_the_end_of_one_that_never_started(tmp_path):
    """Its listeners and path go; it can be dropped as well."""
    before = descriptors()
    proxy = Proxy([ANY, f"unix:{tmp_path}/s"], ":1")
    address = proxy.address
    proxy.shutdown(drain=60)
    assert refuses(address)
    assert not (tmp_path / "s").exists()
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_never_started_and_is_dropped_leaves_nothing():
    """The collector closes what it had."""
    before = descriptors()
    proxy = Proxy(ANY, ":1", threads=2)
    assert descriptors() != before
    del proxy
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("drain", [None, 0, 0.01])
def test_shutdown_cuts(drain):
    """Both sides are reset, so that nothing looks whole; nobody is let in any more."""
    cut = []

    def serve(sock):
        sock.sendall(b"half an ans")
        cut.append(is_cut(sock))

    with Server(serve) as server, Proxy(ANY, server.address) as proxy:
        with At(proxy).connect() as sock:
            assert sock.recv(100) == b"half an ans"
            address = proxy.address
            proxy.shutdown(drain)
            assert is_cut(sock)
        until(lambda: cut)
        assert cut == [True]
        assert refuses(address)
        assert (proxy.stats().active, proxy.stats().b_to_a) == (0, 11)


@pytest.mark.parametrize("listen", [ANY, "unix"])
def test_shutdown_drains(listen, tmp_path):
    """Who is connected goes on to the end; who comes now is refused."""
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    data = payload(3 * MIB)
    with Server(echo) as server, Proxy(listen, server.address) as proxy:
        address = proxy.address
        with At(proxy).connect() as sock:
            assert talks(sock)
            closing = Worker(lambda: proxy.shutdown(3600))
            until(lambda: refuses(address))
            feeder = Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            assert read_all(sock) == data
            feeder.result()
        closing.result()
        assert proxy.stats().a_to_b == proxy.stats().b_to_a == len(data) + 5
    assert not (tmp_path / "s").exists()


def test_two_shutdowns_at_once():
    """One waits for the last connection, the other cuts it: both return."""
    with Server(patient) as server, Proxy(ANY, server.address, threads=2) as proxy:
        address = proxy.address
        with At(proxy).connect() as sock:
            assert talks(sock)
            waiting = [Worker(lambda: proxy.shutdown(3600)) for _ in range(3)]
            until(lambda: refuses(address))
            proxy.shutdown()
            assert is_cut(sock)
        for worker in waiting:
            worker.result()


def test_a_drain_does_not_spin_on_a_listener_that_is_still_somebodys():
    """The caller's own socket has a client: that is nothing to the engine, which sleeps."""
    with Server(echo) as server, socket.create_server(("127.0.0.1", 0)) as given:
        before = {int(name) for name in os.listdir("/proc/self/task")}
        with Proxy(given, server.address) as proxy, At(proxy).connect() as sock:
            assert talks(sock)
            tasks = {int(name) for name in os.listdir("/proc/self/task")} - before
            closing = Worker(lambda: proxy.shutdown(3600))
            until(lambda: proxy.addresses == [])
            with socket.create_connection(given.getsockname()) as late:
                assert talks(sock, b"once more")
                until(lambda: any(syscall_of(tid) in EPOLL_WAIT for tid in tasks))
                given.accept()[0].close()
                assert late.recv(1) == b""
            sock.close()
            closing.result()


def test_shutdown_ends_whatever_the_news_thread_is_doing(monkeypatch):
    """The word of the end comes while news are being heard, and is not lost."""
    hearing, woken = threading.Event(), threading.Event()
    take = _engine.Engines._dispatch

    def wake(news):
        lib.sio_completions_wake(news)
        woken.set()

    def slow(engines):
        if not hearing.is_set():
            hearing.set()
            woken.wait()
        take(engines)

    proxy = Proxy(ANY, ":1")
    monkeypatch.setattr(_engine.Engines, "_dispatch", slow)
    monkeypatch.setattr(_engine, "lib", Watched("sio_completions_wake", wake))
    proxy.start()
    lib.sio_completions_wake(proxy._engines.completions)
    hearing.wait()
    proxy.shutdown()


def test_many_short_lives():
    """Start, one connection, end: fifty times, at whatever moment the end comes."""
    with Server(patient) as server:
        for number in range(50):
            threads = 1 + number % 2
            with Proxy(ANY, server.address, threads=threads) as proxy, At(proxy).connect() as sock:
                if number % 3:
                    assert talks(sock)
            assert proxy.stats().active == 0


def test_serve_forever_in_a_thread():
    """It starts the proxy, and returns once shutdown() has ended it."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        serving = Worker(proxy.serve_forever)
        assert ask(At(proxy), b"x") == b"x"
        assert serving.is_alive()
        idle(proxy)
        proxy.shutdown(drain=60)
        serving.result()


SERVE = """
import signal, sys
from spliceio import Proxy
proxy = Proxy("127.0.0.1:0", sys.argv[1])
def end(number, frame):
    drain = 3600 if number == signal.SIGTERM else None
    proxy.shutdown(drain)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
print(proxy.address, flush=True)
"""


@contextlib.contextmanager
def script(text: str, *args: str):
    """Run a script that prints the address of a proxy; give the process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("impatient", [False, True])
def test_a_signal_handler_that_calls_shutdown(impatient):
    """serve_forever lets it run, and it drains; a second signal meanwhile cuts."""
    text = SERVE + "proxy.serve_forever(); print('over', proxy.stats().active)"
    with Server(patient) as server, script(text, server.address) as (process, address):
        with At(address).connect() as sock:
            assert talks(sock)
            process.send_signal(signal.SIGTERM)
            until(lambda: refuses(address))
            assert talks(sock, b"still there")
            if impatient:
                process.send_signal(signal.SIGINT)
                assert is_cut(sock)
        out, err = process.communicate(timeout=HANG)
        assert (process.returncode, out, err) == (0, "over 0\n", "")


def test_ctrl_c_in_serve_forever():
    """It raises KeyboardInterrupt, as everywhere, and the end of the block cuts what is open."""
    text = """
import sys
from spliceio import Proxy
try:
    with Proxy("127.0.0.1:0", sys.argv[1]) as proxy:
        print(proxy.address, flush=True)
        proxy.serve_forever()
except KeyboardInterrupt:
    print("interrupted", proxy.stats().active, proxy.addresses)
"""
    with Server(patient) as server, script(text, server.address) as (process, address):
        with At(address).connect() as sock:
            assert talks(sock)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=HANG)
            assert is_cut(sock)
        assert (process.returncode, out, err) == (0, "interrupted 0 []\n", "")


def test_all_at_once_from_many_threads():
    """Every call from any thread, until one of them ends it: then they say so."""

    def hammer(call):
        while True:
            call()

    with Server(patient) as server, Proxy(ANY, server.address, threads=2) as proxy:
        calls = [lambda: proxy.set_upstreams(server.address), lambda: proxy.set_upstreams(":1")]
        workers = [Worker(lambda call=call: hammer(call)) for call in calls]
        for _ in range(300):
            assert proxy.stats().active == 0
            assert len(proxy.addresses) == 1
        for ending in [Worker(proxy.shutdown) for _ in range(3)]:
            ending.result()
        for worker in workers:
            with pytest.raises(RuntimeError, match="shut down"):
                worker.result()


class Watched:
    """The C, with something that is done around one of its functions."""

    def __init__(self, name: str, function) -> None:
        self._name, self._function = name, function

    def __getattr__(self, name):
        return self._function if name == self._name else getattr(lib, name)


@pytest.mark.parametrize("call", ["stats", "drain"])
def test_a_signal_while_the_counts_are_read(call, monkeypatch):
    """A handler that calls shutdown() may run at any point of other calls; none locks up."""
    ran = []

    def interrupted(*args):
        if not ran and threading.current_thread() is threading.main_thread():
            ran.append(True)
            signal.raise_signal(signal.SIGUSR2)
        lib.sio_engine_counts(*args)

    with (
        Server(patient) as server,
        Proxy(ANY, server.address) as proxy,
        At(proxy).connect() as sock,
    ):
        assert talks(sock)
        before = signal.signal(signal.SIGUSR2, lambda *_: proxy.shutdown())
        try:
            monkeypatch.setattr(_engine, "lib", Watched("sio_engine_counts", interrupted))
            if call == "stats":
                assert proxy.stats().total == 1
            else:
                proxy.shutdown(drain=3600)
        finally:
            signal.signal(signal.SIGUSR2, before)
        assert ran
        assert is_cut(sock)


# -- other processes, and the end of this one ------------------------------------------------------


@forks
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_keeps_nothing_open(threads, tmp_path):
    """Neither listeners nor connections nor pipes that hold bytes; the parent goes on."""
    with socket.create_server(("127.0.0.1", 0)) as upstream, contextlib.ExitStack() as stack:
        mine = set(descriptors())
        listen = [ANY, f"unix:{tmp_path}/s"]
        proxy = stack.enter_context(Proxy(listen, of_listener(upstream), threads=threads))
        address = proxy.address
        client = stack.enter_context(At(proxy).connect())
        server = stack.enter_context(upstream.accept()[0])
        server.setblocking(False)
        sent = 0
        while not proxy.stats().pipes_held:  # the client does not read
            with contextlib.suppress(BlockingIOError):
                sent += server.send(bytes(MIB))
        server.setblocking(True)
        mine |= {client.fileno(), server.fileno()}
        with child(lambda: sorted(set(descriptors().items()), key=str)) as (_, found):
            others = [target for fd, target in found if fd not in mine]
            assert len(others) == 2, others  # the pipes of `child`
            assert all(target.startswith("pipe:") for target in others), others
            server.shutdown(socket.SHUT_WR)
            got = heard(client) if sent == 0 else (read_exactly(client, sent), False)
            assert got == (bytes(sent), False)
            client.sendall(b"bye")
            client.shutdown(socket.SHUT_WR)
            assert heard(server) == (b"bye", False)
            assert heard(client) == (b"", False)
            proxy.shutdown(drain=60)
            assert refuses(address)
        assert not (tmp_path / "s").exists()


@forks
@pytest.mark.parametrize("state", ["new", "started"])
def test_a_forked_child_cannot_use_it(state, tmp_path):
    """Every use says why; to end it is the parent's, and does nothing."""
    with Server(echo) as server:
        proxy = Proxy(f"unix:{tmp_path}/s", server.address)
        if state == "started":
            proxy.start()

        def uses():
            said = []
            for call in (
                proxy.start,
                proxy.serve_forever,
                proxy.stats,
                proxy.__enter__,
                lambda: proxy.set_upstreams("127.0.0.1:1"),
            ):
                try:
                    call()
                except RuntimeError as error:
                    said.append(str(error))
                else:
                    said.append("")
            proxy.shutdown()
            proxy.shutdown(drain=60)
            proxy.__exit__(None, None, None)
            gc.collect()
            return said

        with child(uses) as (_, said):
            assert len(said) == 5
            for text in said:
                assert "threads do not survive a fork. Make a new one in the child" in text
            proxy.__enter__()
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
        assert ask(At(proxy), b"after the child") == b"after the child"
        idle(proxy)
        proxy.shutdown()


@forks
def test_a_child_makes_a_proxy_of_its_own():
    """After a fork a new one works, while the parent's goes on."""
    with Server(echo) as server, Proxy(ANY, server.address) as proxy:

        def serve():
            with Proxy(ANY, server.address) as own:
                return ask(At(own), b"child") == b"child" and idle(own).total

        with child(serve) as (_, total):
            assert total == 1
            assert ask(At(proxy), b"parent") == b"parent"
        assert idle(proxy).total == 1


@forks
def test_a_child_that_was_forked_in_the_middle_of_it_delays_no_end(tmp_path):
    """Ends and resets arrive though a child that knows nothing of them lives on."""
    with pair() as (proxy, client, server):
        assert talks_through(client, server)
        with child(lambda: [client.close(), server.close()]):
            client.shutdown(socket.SHUT_WR)
            assert heard(server) == (b"", False)
            reset(server)
            assert is_cut(client)
            idle(proxy)


IGNORING = [sys.executable, "-W", "ignore::ResourceWarning", "-c"]
ALIVE = """
import gc, sys, threading
from spliceio import Proxy
proxy = Proxy("127.0.0.1:0", sys.argv[1], threads=2)
print(proxy.address, flush=True)
"""


@pytest.mark.parametrize("how", ["open", "dropped", "never started", "serving", "routing"])
def test_the_interpreter_ends_with_the_proxy_alive(how):
    """It ends with 0 and in silence; what is open is cut."""
    text = {
        "open": ALIVE + "proxy.start()",
        "dropped": ALIVE + "proxy.start(); del proxy; gc.collect()",
        "never started": ALIVE,
        "serving": ALIVE + "threading.Thread(target=proxy.serve_forever, daemon=True).start()",
        "routing": ALIVE.replace("sys.argv[1]", "route=lambda client, first: sys.argv[1]")
        + "proxy.start()",
    }[how]
    with Server(patient) as server:
        process = subprocess.Popen(
            [*IGNORING, text + "\nsys.stdin.readline()", server.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                with At(process.stdout.readline().strip()).connect() as sock:
                    if how not in ("never started", "dropped"):
                        assert talks(sock)
                    _, err = process.communicate("end\n", timeout=HANG)
                    assert is_cut(sock)
                assert (process.returncode, err) == (0, "")
            finally:
                process.kill()
