"""Peers that die silently: keepalive on both sides of a proxy, and on the connections of commands.

Rule 1: what is asked of the real sockets is what was set, on every one of them.
Rule 2: a socket that was given, and one whose owner has timings of their own, stay as they are.
Rule 3: a peer that has vanished is noticed, and only by what was promised.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
import subprocess
import sys

import pytest

from spliceio import Proxy, aio
from tests.support.commands import HANG, listening, run, started
from tests.support.programs import need
from tests.support.proxies import ANY, At, of_listener, pair, talks_through
from tests.support.states import descriptors, until

PIDFD_OPEN, PIDFD_GETFD = 434, 438
OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
)
DEFAULT = (1, 60, 12, 5, 1)


def options_of(sock: socket.socket) -> tuple[int, ...]:
    """Return what is set on a socket; the timings matter only where keepalive is on."""
    got = tuple(int(bool(sock.getsockopt(*one))) if one[0] == socket.SOL_SOCKET
                else sock.getsockopt(*one) for one in OPTIONS)  # fmt: skip
    return got if got[0] else (0, got[-1])


def borrowed(pid: int):
    """Give duplicates of all TCP sockets of a process, one after the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    assert pidfd >= 0, os.strerror(ctypes.get_errno())
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                err = ctypes.get_errno()
                if err in (errno.EPERM, errno.ENOSYS):
                    pytest.skip(f"pidfd_getfd: {os.strerror(err)}")
                assert err == errno.EBADF
            elif os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                with socket.socket(fileno=fd) as sock:
                    yield sock
            else:
                os.close(fd)
    finally:
        os.close(pidfd)


def set_on(peer: socket.socket, pid: int | None = None) -> tuple[int, ...]:
    """Return what a process, or this one, has set on the other end of a connection."""
    found = set()
    for sock in borrowed(pid or os.getpid()):
        with contextlib.suppress(OSError):  # it is not connected
            if (sock.getpeername(), sock.getsockname()) == (
                peer.getsockname(),
                peer.getpeername(),
            ):
                found.add(options_of(sock))
    (one,) = found  # and its duplicates
    return one


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, DEFAULT),
        ({"keepalive": 60}, DEFAULT),
        ({"keepalive": 5}, (1, 5, 1, 5, 1)),
        ({"keepalive": 0.1}, (1, 1, 1, 5, 1)),
        ({"keepalive": 7.5}, (1, 8, 2, 5, 1)),
        ({"keepalive": 32767}, (1, 32767, 6554, 5, 1)),
        ({"keepalive": None}, (0, 1)),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_on_both_sides(given, wanted, threads):
    """By default, for as long as was asked, or not at all."""
    with pair(threads=threads, **given) as (_, client, server):
        assert talks_through(client, server)
        assert set_on(client) == wanted
        assert set_on(server) == wanted


def test_over_ipv6_and_beside_unix_sockets(tmp_path):
    """A unix socket has no keepalive, and its other side has."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        at = f"[::1]:{listener.getsockname()[1]}"
        with Proxy(["[::1]:0", f"unix:{tmp_path}/s"], at) as proxy:
            for address in proxy.addresses:
                with At(address).connect() as client, listener.accept()[0] as server:
                    assert talks_through(client, server)
                    assert set_on(server) == DEFAULT
                    if client.family != socket.AF_UNIX:
                        assert set_on(client) == DEFAULT


def test_who_was_in_the_backlog_before():
    """They inherit nothing of what the listener got later; those who come then do."""
    with socket.create_server(("127.0.0.1", 0)) as given, contextlib.ExitStack() as stack:
        name = given.getsockname()
        early = [stack.enter_context(socket.create_connection(name)) for _ in range(3)]
        upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.enter_context(Proxy(given, of_listener(upstream), threads=2))
        for _ in early:
            stack.enter_context(upstream.accept()[0])
        assert [set_on(client) for client in early] == [DEFAULT] * 3
        late = stack.enter_context(socket.create_connection(name))
        stack.enter_context(upstream.accept()[0])
        assert set_on(late) == DEFAULT


def test_a_given_listener_gets_its_options_back():
    """All of them."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        given.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        before = [given.getsockopt(*one) for one in OPTIONS]
        with Proxy(given, "127.0.0.1:1"):
            assert options_of(given) == DEFAULT
        assert [given.getsockopt(*one) for one in OPTIONS] == before


@pytest.mark.parametrize("keepalive", [5, None])
def test_who_gives_a_listener_with_timings_keeps_them(keepalive):
    """Systemd's KeepAliveTimeSec=, say; for whoever was there before as well."""
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        socket.create_server(("127.0.0.1", 0)) as upstream,
    ):
        own = (1, 100, 20, 3)
        for (level, option), value in zip(OPTIONS, own, strict=False):
            given.setsockopt(level, option, value)
        with (
            socket.create_connection(given.getsockname()) as early,
            Proxy(given, of_listener(upstream), keepalive=keepalive),
            upstream.accept()[0],
            socket.create_connection(given.getsockname()) as late,
            upstream.accept()[0],
        ):
            assert set_on(early) == set_on(late) == (*own, 1)
        assert options_of(given)[:4] == own


def test_aio():
    """serve_proxy takes it too."""
    anyio = pytest.importorskip("anyio")

    async def look(upstream: socket.socket) -> list[tuple[int, ...]]:
        async with anyio.create_task_group() as tasks:
            proxy = await tasks.start(
                lambda task_status: aio.serve_proxy(
                    ANY, of_listener(upstream), keepalive=9, task_status=task_status
                )
            )
            with At(proxy).connect() as client:
                server = await anyio.to_thread.run_sync(lambda: upstream.accept()[0])
                with server:
                    got = [set_on(client), set_on(server)]
            tasks.cancel_scope.cancel()
        return got

    with socket.create_server(("127.0.0.1", 0)) as upstream:
        assert anyio.run(look, upstream) == [(1, 9, 2, 5, 1)] * 2


@pytest.mark.parametrize("given", [0, -1, 32768, float("inf"), float("nan"), True])
def test_what_is_no_time(given):
    """Refused before anything is open."""
    before = descriptors()
    with pytest.raises(ValueError, match="keepalive must be None or seconds above 0"):
        Proxy(ANY, "127.0.0.1:1", keepalive=given)
    assert descriptors() == before


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], DEFAULT),
        (["--keepalive", "10"], (1, 10, 2, 5, 1)),
        (["--keepalive", "off"], (0, 1)),
    ],
)
def test_of_the_command(args, wanted):
    """Seconds, or off."""
    with (
        socket.create_server(("127.0.0.1", 0)) as upstream,
        started("proxy", ANY, of_listener(upstream), *args) as process,
        At(listening(process)).connect() as client,
        upstream.accept()[0] as server,
    ):
        assert set_on(client, process.pid) == wanted
        assert set_on(server, process.pid) == wanted


@pytest.mark.parametrize("text", ["0", "-1", "on", "", "40000", "nan"])
def test_what_is_no_time_for_the_command(text):
    """Wrong usage, told in one line."""
    done = run("proxy", ANY, "127.0.0.1:1", f"--keepalive={text}")
    assert done.returncode == 2
    wanted = f"{text!r} is neither off nor a number of seconds above 0, at most 32767"
    assert done.stderr.decode().splitlines()[-1].endswith(wanted)


@pytest.mark.parametrize("command", ["send", "recv", "connect"])
def test_of_one_connection(command, tmp_path):
    """A peer that vanishes leaves nobody waiting for ever."""
    with contextlib.ExitStack() as stack:
        if command == "recv":
            process = stack.enter_context(started("recv", ANY, tmp_path / "dst"))
            peer = stack.enter_context(At(listening(process)).connect())
            peer.sendall(b"x")
            until(lambda: (tmp_path / "dst").exists() and (tmp_path / "dst").stat().st_size)
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            file = ["-"] if command == "send" else []
            process = stack.enter_context(started(command, *file, of_listener(listener)))
            peer = stack.enter_context(listener.accept()[0])
            process.stdin.write(b"x")
            assert peer.recv(1) == b"x"
        assert set_on(peer, process.pid) == DEFAULT


# -- a peer that vanishes --------------------------------------------------------------------------

# The network goes away under both: nothing arrives any more, and nobody says so.
VANISHING = """
import fcntl, logging, os, socket, struct, sys
from spliceio import Proxy

def loopback(is_up):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = fcntl.ioctl(sock, 0x8913, b"lo".ljust(40, bytes(1)))  # SIOCGIFFLAGS
        flags = struct.unpack_from("H", asked, 16)[0] & ~1 | is_up
        fcntl.ioctl(sock, 0x8914, b"lo".ljust(16, bytes(1)) + struct.pack("H22x", flags))

def listening(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock

def client_of(proxy):
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)))

loopback(1)
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
unix, tcp = listening("up"), socket.create_server(("127.0.0.1", 0))
to_tcp = "127.0.0.1:%d" % tcp.getsockname()[1]
with (
    Proxy("127.0.0.1:0", "unix:up", keepalive=1) as one,
    Proxy("unix:front", to_tcp, keepalive=1) as two,
    Proxy("127.0.0.1:0", "unix:up", keepalive=None) as without,
):
    client_1, server_1 = client_of(one), unix.accept()[0]
    client_2, server_2 = socket.socket(socket.AF_UNIX), None
    client_2.connect("front")
    server_2 = tcp.accept()[0]
    client_3, server_3 = client_of(without), unix.accept()[0]
    for sock, other in ((client_1, server_1), (client_2, server_2), (client_3, server_3)):
        sock.sendall(b"x")
        other.sendall(b"y")
        assert (other.recv(1), sock.recv(1)) == (b"x", b"y")
    loopback(0)
    for sock in (server_1, client_2):
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert without.stats().active == 1
    os.write(1, b"\\nnoticed\\n")  # beside the log, which other threads write
"""


def test_a_peer_that_vanishes_is_noticed(tmp_path):
    """On either side, and not where keepalive is off."""
    command = [need("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "--net"]
    done = subprocess.run([*command, "true"], capture_output=True, timeout=HANG)
    if done.returncode:
        pytest.skip(f"no network namespace here: {done.stderr.decode()}")
    command += [sys.executable, "-c", VANISHING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=HANG)
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert lines.count("noticed") == 1
    told = [re.sub(r"^\S+ to \S+: |[\d.]+ s, ", "", line) for line in lines if " to " in line]
    assert {"1 bytes there, 1 back, reset by a", "1 bytes there, 1 back, reset by b"} <= {*told}
