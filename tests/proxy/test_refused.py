"""A Proxy or a RelayPool whose system calls are refused: told once, and nothing spins.

What the kernel answers is scripted; a sandbox that really refuses is in `test_a_sandbox_...`, in a
process of its own.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import platform
import socket

import pytest

from spliceio import Proxy, RelayPool
from spliceio._cffi import lib
from tests.kernel import test_features
from tests.support.cases import FULL
from tests.support.proxies import ANY, LOG, At, events, idle, refuses, scripted, skip, talks
from tests.support.seam import ALWAYS, Seam, cap, fail
from tests.support.servers import Server, ask, echo, traced
from tests.support.servers import proxy as running
from tests.support.states import Worker, until

ids = {"ids": lambda value: errno.errorcode.get(value, str(value))}
MANY = 64
"""So often `accept4` may fail before it is suspected to be refused."""


@pytest.fixture
def told(caplog):
    """Return what gives the records of some events."""
    caplog.set_level(logging.WARNING, LOG)
    return lambda *wanted: events(caplog, *wanted)


def of_one_connection() -> list[int]:
    """Return what accept(2) says of the one that comes next, and of no other."""
    return [
        *(errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EACCES, errno.EINTR),
        *(errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH),
        *(errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EIO, errno.ENOSYS),
    ]


SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]
SHUT_DOWN = [errno.EINVAL, errno.EBADF, errno.ENOTSOCK]


# -- accept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("err", of_one_connection(), **ids)
def test_connections_that_have_gone_are_passed_over(err, told):
    """The next one is served at once; nothing is told of it."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, fail("accept", err, times=MANY - 1))
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            assert idle(proxy).full == 0
            assert seam.unused() == [0]
        assert told() == []


# They are of one class, as the test above shows of each, and what follows takes real time.
@pytest.mark.parametrize(
    "err", of_one_connection() if FULL else [errno.ECONNABORTED, errno.ENOSYS], **ids
)
def test_an_error_that_lasts_is_asked_in_pauses(err, told):
    """It is no sandbox's: after many answers there is a pause after each, until it has passed."""
    probe = cap("accept", 0, times=1)  # accept4(-1), which the kernel knows to be EBADF
    rules = [fail("accept", err, times=MANY), probe, *[fail("accept", err), probe] * 3]
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, *rules)
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
            rows = seam.calls("accept")
            assert [row.result for row in rows if row.src == -1] == [-errno.EBADF] * 4
            waits = [row for row in seam.calls("epoll_wait") if row.result == 0]
            assert len(waits) >= 4  # each pause is one that ended by its time
        (record,) = told("trouble")
        assert (record.errno, record.levelname) == (err, "WARNING")
        assert record.getMessage().startswith("connections wait in the backlog: accept4: ")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "err", [*of_one_connection(), errno.EAGAIN, errno.EINVAL, *SHORTAGES], **ids
)
def test_an_accept_that_is_refused_ends_the_listening(err, threads, told):
    """Whatever it says: told once, nobody is kept waiting, and serve_forever raises."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address, threads=threads)
        seam = Seam(fail("accept", err, times=ALWAYS))
        for engine in proxy._engines.each:
            lib.sio_test_engine(engine, seam.c, 10**18)
        address = proxy.address
        waiting = [At(address).connect() for _ in range(3)]
        with proxy:
            serving = Worker(proxy.serve_forever)
            while serving.is_alive():
                if err in SHORTAGES:  # a pause follows each of them
                    skip(proxy, 0.1)
                serving.join(0.001)
            with pytest.raises(OSError, match="accept4") as caught:
                serving.result()
            assert caught.value.errno == err
            assert refuses(address)
            for sock in waiting:
                with sock, contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
        assert seam.count < 1000 * threads
        (record,) = told("stopped")
        assert (record.errno, record.levelname) == (err, "ERROR")
        assert bool(told("full")) == (err in SHORTAGES)


@pytest.mark.parametrize("err", SHUT_DOWN, **ids)
def test_a_listener_that_was_shut_down_is_left(err, told):
    """It is its owner's doing: other listeners are served on, and nothing is told."""
    with Server(echo) as server:
        proxy = Proxy([ANY, ANY], server.address)
        seam = scripted(proxy, fail("accept", err))
        with proxy:
            with At(proxy).connect():
                until(lambda: seam.unused() == [0])
            assert ask(At(proxy.addresses[1]), b"hello") == b"hello"
            idle(proxy)
            asked = [row.src for row in seam.calls("accept") if row.src >= 0]
            assert asked.count(asked[0]) == 1
            assert len(asked) < 10
        assert told() == []


def test_what_is_open_goes_on_when_the_listening_has_ended(told):
    """With nobody in serve_forever, who is connected is served to the end."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        scripted(proxy, fail("accept", errno.EPERM, skip=2, times=ALWAYS))
        with proxy:
            address = proxy.address
            with At(address).connect() as first:
                assert talks(first)
                with At(address).connect():
                    until(lambda: told("stopped"))
                until(lambda: refuses(address))
                assert talks(first, b"still there")
            idle(proxy)
            with pytest.raises(OSError, match="accept4"):
                proxy.serve_forever()


# -- epoll_ctl -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("err", [errno.ENOSPC, errno.ENOMEM], **ids)
def test_a_listener_that_cannot_be_watched_now(err, when, told):
    """The user's watches are used up: told, and tried again after a pause."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        rules = [fail("epoll_ctl", err), cap("epoll_ctl", 0, times=1)] * 2
        if when == "later":  # accepting is paused once, and resumed in vain
            rules = [fail("accept", errno.EMFILE), cap("epoll_ctl", 0, times=2), *rules]
        scripted(proxy, *rules)
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
        (record,) = told("trouble")
        assert record.errno == err
        assert "epoll_ctl" in record.getMessage()


@pytest.mark.parametrize("route", [False, True])
@pytest.mark.parametrize("err", [errno.EPERM, errno.ENOSYS], **ids)
def test_a_listener_that_may_not_be_watched(err, route, told):
    """Nobody would ever be accepted: serve_forever says so."""
    to = {"route": lambda client, first: None} if route else {"upstream": "127.0.0.1:1"}
    proxy = Proxy(ANY, **to)
    scripted(proxy, fail("epoll_ctl", err, times=ALWAYS))
    with pytest.raises(OSError, match="epoll_ctl") as caught:
        proxy.serve_forever()
    assert caught.value.errno == err
    assert len(told("stopped")) == 1


@pytest.mark.parametrize("err", [errno.ENOSPC, errno.ENOMEM], **ids)
def test_a_connection_that_cannot_be_watched_now(err, told):
    """It is lost, and no other for it: the rest waits in the backlog."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, cap("epoll_ctl", 0, times=1), fail("epoll_ctl", err))
        with proxy:
            with At(proxy).connect() as lost, contextlib.suppress(ConnectionResetError):
                assert lost.recv(1) == b""
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
            assert seam.unused() == [0]
        assert told("trouble")[0].errno == err


def test_an_attempt_that_cannot_be_watched_is_no_upstreams_fault(told):
    """It is waited out, as any shortage of this machine's."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, cap("epoll_ctl", 0, times=2), fail("epoll_ctl", errno.ENOSPC))
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            assert idle(proxy).failed == 0
            assert seam.unused() == [0]
        assert told() == []


# -- epoll_wait ------------------------------------------------------------------------------------


@pytest.mark.parametrize("err", [errno.EPERM, errno.ENOSYS, errno.EBADF, errno.EFAULT], **ids)
def test_an_engine_that_cannot_wait_ends_every_relay(err):
    """Each future has the error, and what moved; later ones are refused with it."""
    pool = RelayPool()
    seam = Seam(fail("epoll_wait", err, skip=8, times=ALWAYS))
    for engine in pool._engines.each:
        lib.sio_test_engine(engine, seam.c, 10**18)
    pairs = [socket.socketpair() for _ in range(4)]
    (client, a), (b, _), (_, c), (d, _) = pairs
    try:
        futures = [pool.submit(a, b), pool.submit(c, d)]
        client.setblocking(False)
        while not all(future.done() for future in futures):
            with contextlib.suppress(BlockingIOError):
                client.send(b"x")
        for future in futures:
            error = future.exception()
            assert (type(error), error.errno) == (type(OSError(err, "")), err)
            assert str(error).startswith(f"[Errno {err}] epoll_wait: ")
            assert (error.result.a_to_b > 0) == (future is futures[0])
        with pytest.raises(OSError, match="epoll_wait") as caught:
            pool.submit(a, b)
        assert caught.value.errno == err
        assert pool.stats().active == 0
    finally:
        pool.shutdown(wait=False)
        for pair in pairs:
            for sock in pair:
                sock.close()
    assert seam.count < 1000


@pytest.mark.parametrize("err", [errno.EPERM, errno.ENOSYS], **ids)
def test_a_proxy_that_cannot_wait_ends(err, told):
    """What is open is cut, and serve_forever raises."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, fail("epoll_wait", err, skip=20, times=ALWAYS))
        with proxy:
            serving = Worker(proxy.serve_forever)
            with At(proxy).connect() as client, contextlib.suppress(ConnectionError):
                while talks(client):
                    pass
            with pytest.raises(OSError, match="epoll_wait"):
                serving.result()
        assert len(told("stopped")) == 1
        assert seam.count < 1000


def test_an_interrupted_wait_is_no_end():
    """EINTR comes of a debugger, or of SIGSTOP."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address)
        seam = scripted(proxy, fail("epoll_wait", errno.EINTR, times=5))
        with proxy:
            assert ask(At(proxy), b"hello") == b"hello"
            idle(proxy)
            assert seam.unused() == [0]


# -- sandboxes that really refuse ------------------------------------------------------------------

test_features.NUMBERS.update(
    {
        "x86_64": {"accept4": 288, "epoll_wait": 232},
        "aarch64": {"accept4": 242, "epoll_wait": 22},
    }.get(platform.machine(), {})
)

SERVE = """
from spliceio import Proxy
listener = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(listener.getsockname()), listener:
    try:
        Proxy(listener, "127.0.0.1:1").serve_forever()
    except OSError as error:
        print(json.dumps([error.errno, error.strerror.split(":")[0]]))
"""

RELAY = """
from spliceio import RelayPool
(a, x), (b, y) = socket.socketpair(), socket.socketpair()
said = []
with RelayPool() as pool:
    for wait in (True, False):
        try:
            pool.submit(a, b).result()
        except OSError as error:
            said += [error.errno, error.strerror.split(":")[0]]
print(json.dumps(said[:2]))
"""


@test_features.sandbox
@pytest.mark.parametrize("err", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize(
    ("call", "code"), [("accept4", SERVE), ("epoll_wait", SERVE), ("epoll_wait", RELAY)]
)
def test_a_sandbox_that_refuses_is_told(call, code, err):
    """A filter of the kernel's: the owner gets an exception that names the call."""
    assert test_features.run({call: err}, code) == [getattr(errno, err), call]


def test_the_command_ends_when_nothing_is_accepted_any_more(tmp_path):
    """With status 1 and a sentence, so that whoever started it can start it again."""
    trace = tmp_path / "trace"
    command = traced(trace, "-e", "inject=accept4:error=ENOSYS")
    text = ""
    with (
        Server(echo) as server,
        running(server.address, command=command) as started,
    ):
        with contextlib.suppress(ConnectionError), started.connect() as client:
            client.recv(1)
        text = started.process.communicate()[1].decode()
        assert started.process.returncode == 1
        started.process.returncode = 0  # what the block expects of the end
    assert "nothing is accepted any more: accept4: Function not implemented" in text
    assert trace.read_text().count("ENOSYS") < 100
