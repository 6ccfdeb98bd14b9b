"""`spliceio proxy` as a process between real clients and servers.

Rule 1: what a connection would say without the proxy, it says through it: bytes, ends and resets.
Rule 2: trouble with one connection is not the next one's.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.commands import SPLICEIO, said, unused_port
from tests.support.commands import run as run_command
from tests.support.servers import LINGER, Proxy, Server, ask, echo, proxy, read_all, traced
from tests.support.states import Worker, process_state, until
from tests.support.wires import MIB, payload

# -- the bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", ":0", "unix"])
def test_one_connection(listen, upstream, tmp_path):
    """5 MiB there and back over every kind of address, and the counts are exact."""
    data = payload(5 * MIB)
    family = socket.AF_INET6 if upstream == "tcp6" else socket.AF_INET
    path = str(tmp_path / "up") if upstream == "unix" else ""
    listen = f"unix:{tmp_path}/down" if listen == "unix" else listen
    with Server(echo, family, path) as server, proxy(server.address, listen) as running:
        assert not running.address.endswith(":0")
        assert ask(running, data) == data
        assert ask(running, b"") == b""
        running.stop()
        stats = running.stats
        assert stats.keys() == {"connections", "a_to_b", "b_to_a", "cpu_seconds", "methods"}
        assert (stats["connections"], stats["a_to_b"], stats["b_to_a"]) == (2, 5 * MIB, 5 * MIB)
        assert sum(stats["methods"].values()) == 10 * MIB
        assert stats["methods"]["splice"] > 5 * MIB
        assert stats["cpu_seconds"] > 0
        assert running.stderr == ""
    assert not (tmp_path / "down").exists()


def test_many_connections_at_once():
    """120 clients, all connected before the first is answered, each with its own bytes."""
    begin = threading.Barrier(121)

    def serve(sock):
        begin.wait()
        echo(sock)

    with Server(serve) as server, proxy(server.address) as running:
        sent = [payload(1000 * number, number) for number in range(120)]
        workers = [Worker(lambda d=d: ask(running, d)) for d in sent]
        begin.wait()
        for worker, data in zip(workers, sent, strict=True):
            assert worker.result() == data
        running.stop()
        total = sum(map(len, sent))
        assert running.stats["connections"] == 120
        assert (running.stats["a_to_b"], running.stats["b_to_a"]) == (total, total)


def test_read_write_never_splices():
    """--method read_write copies, and the counts say so."""
    with Server(echo) as server, proxy(server.address, ":0", "--method", "read_write") as running:
        data = payload(5 * MIB)
        assert ask(running, data) == data
        running.stop()
        assert running.stats["methods"] == {"read_write": 10 * MIB}


def test_half_close_both_ways():
    """The server answers after the client's end; the client goes on after the server's."""

    def serve(sock):
        data = read_all(sock)
        sock.sendall(hashlib.sha256(data).digest())

    def ends_first(sock):
        sock.shutdown(socket.SHUT_WR)
        seen.append(read_all(sock))

    seen: list[bytes] = []
    data = payload(MIB)
    with Server(serve) as server, proxy(server.address) as running:
        assert ask(running, data) == hashlib.sha256(data).digest()
    with Server(ends_first) as server, proxy(server.address) as running:
        with running.connect() as sock:
            assert sock.recv(1) == b""
            sock.sendall(data)
        until(lambda: seen)
    assert seen == [data]


def test_the_idle_timeout_cuts_a_silent_connection():
    """--idle-timeout: both sides are reset, as nothing has ended; others are served on."""
    with Server(echo) as server, proxy(server.address, ":0", "--idle-timeout", "0.1") as running:
        with running.connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(10) == b"x"
            with pytest.raises(ConnectionResetError):
                sock.recv(10)
        assert ask(running, b"again") == b"again"


# -- resets ----------------------------------------------------------------------------------------


def test_a_client_that_resets_is_no_end_of_file_for_the_server():
    """The server's next read fails with a reset, after everything before it."""
    seen: list[object] = []

    def serve(sock):
        sock.sendall(b"hello")
        try:
            while True:
                seen.append(sock.recv(MIB))
                if not seen[-1]:
                    return
        except ConnectionResetError as error:
            seen.append(error)

    with Server(serve) as server, proxy(server.address) as running:
        sock = running.connect()
        sock.sendall(b"half a request")
        assert sock.recv(10) == b"hello"
        until(lambda: seen)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        sock.close()
        until(lambda: len(seen) == 2)
        assert seen[0] == b"half a request"
        assert isinstance(seen[1], ConnectionResetError)


def test_a_server_that_resets_is_no_end_of_file_for_the_client():
    """A truncated answer does not look whole."""

    def serve(sock):
        sock.sendall(b"half an answer")
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)

    with Server(serve) as server, proxy(server.address) as running, running.connect() as sock:
        assert sock.recv(100) == b"half an answer"
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("size", [100, 20_000, 3 * MIB])
@pytest.mark.parametrize("reader", ["eager", "late"])
def test_the_answer_of_a_server_that_resets_arrives(size, reader):
    """It answers before it has read the request, and closes: what it said is not lost."""
    answer = payload(size)
    closed = threading.Event()

    def serve(sock):
        sock.recv(1)  # the rest of the request stays unread, so close() is a reset
        sock.sendall(answer)
        # The proxy has taken all of it when nothing is left to be acknowledged.
        until(lambda: struct.unpack("i", _outq(sock))[0] == 0)
        sock.close()
        closed.set()

    with Server(serve) as server, proxy(server.address) as running, running.connect() as sock:
        sock.sendall(b"a request that is too long")
        if reader == "late" and size < MIB:
            closed.wait()
        got = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(4096 if reader == "late" else MIB):
                got += part
        sock.close()
        running.stop()
        assert running.stats["b_to_a"] == size
        assert (len(got), bytes(got) == answer) == (size, True)


def _outq(sock: socket.socket) -> bytes:
    import fcntl
    import termios

    return fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))


# -- upstream --------------------------------------------------------------------------------------


def test_an_upstream_that_refuses_and_then_does_not():
    """The client is closed, one line names the address, and the next connection is served."""
    port = unused_port()
    with proxy(f"127.0.0.1:{port}") as running:
        with running.connect() as sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        with (
            socket.create_server(("127.0.0.1", port)) as listener,
            running.connect() as sock,
            listener.accept()[0] as peer,
        ):
            sock.sendall(b"hello")
            assert peer.recv(10) == b"hello"
        running.stop()
        assert running.stderr == f"spliceio: proxy: 127.0.0.1:{port}: Connection refused\n"


@pytest.mark.parametrize("upstream", ["nosuch.invalid:80", "unix:/nosuch/socket"])
def test_an_upstream_that_is_not_there(upstream):
    """Each client is closed, and it is said what is wrong with which address, not for each."""
    with proxy(upstream) as running:
        for _ in range(2):
            with running.connect() as sock, contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        running.stop()
        lines = running.stderr.splitlines()
        assert lines
        assert all(line.startswith(f"spliceio: proxy: {upstream}: ") for line in lines)


# -- start and stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_connections_open(number):
    """Both sides are reset, so that nothing looks whole, and bytes so far are counted."""
    cut = []

    def serve(sock):
        try:
            while part := sock.recv(MIB):
                sock.sendall(part)
        except ConnectionResetError as error:
            cut.append(error)

    with Server(serve) as server:
        process = subprocess.Popen(
            [*SPLICEIO, "proxy", "127.0.0.1:0", server.address, "--stats", "--drain", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        with process:
            try:
                running = Proxy(process)
                with running.connect() as busy, running.connect() as idle:
                    busy.sendall(b"abc")
                    assert busy.recv(10) == b"abc"
                    running.stop(number)
                    for sock in (busy, idle):
                        with pytest.raises(ConnectionResetError):
                            sock.recv(10)
                    until(lambda: len(cut) == 2)
            finally:
                process.kill()
        assert process.returncode == (0 if number == signal.SIGTERM else 130)
        assert running.stats["a_to_b"] == running.stats["b_to_a"] == 3
        assert running.stderr == ""


def test_no_other_thread_takes_the_signals():
    """Every thread blocks SIGTERM, so that it waits for the one that asks for it."""
    with Server(echo) as server, proxy(server.address) as running, running.connect() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        tasks = {int(task.name): task for task in Path(f"/proc/{running.pid}/task").iterdir()}
        assert tasks.pop(running.pid)  # this one asks for them by sigwait()
        assert len(tasks) >= 2  # the engine, and the one that hears its news
        for task in tasks.values():
            mask = re.search(r"^SigBlk:\s*(\w+)", (task / "status").read_text(), re.M)
            assert mask
            assert int(mask[1], 16) & 1 << signal.SIGTERM - 1
        sock.close()


def test_a_stalled_client_does_not_hold_the_end_up():
    """SIGTERM while a client does not read: it ends all the same."""

    def serve(sock):
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(bytes(MIB))

    with Server(serve) as server, proxy(server.address) as running, running.connect() as sock:
        assert sock.recv(1)
        until(lambda: not select.select([sock], [], [], 0)[0] or process_state(running.pid) == "S")
        running.stop()


def test_the_address_is_taken(tmp_path):
    """The reason and 1; a live unix socket is left alone, a dead one is replaced."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_command("proxy", address, ":1")
        assert re.match(f"spliceio: proxy: {address}: Address already in use", said(done))
        assert done.returncode == 1
    path = tmp_path / "sock"
    with Server(echo, path=str(path)) as server:
        done = run_command("proxy", f"unix:{path}", ":1")
        assert said(done) == f"spliceio: proxy: unix:{path}: Address already in use"
        assert done.returncode == 1
        # The probe of the proxy was a connection too.
        until(lambda: all(not worker.is_alive() for worker in server.workers))
    assert path.exists()  # dead now
    with Server(echo) as server, proxy(server.address, f"unix:{path}") as running:
        assert ask(running, b"hello") == b"hello"
    assert not path.exists()


# -- no descriptors --------------------------------------------------------------------------------


def find_child(running: Proxy) -> None:
    """Point a traced proxy's pid at itself, not at strace."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
    running.pid = int(children.split()[0])


def test_no_descriptor_for_accept_is_waited_out(tmp_path):
    """A listener that stays readable is asked again after a pause, and nobody is turned away."""
    trace = tmp_path / "trace"
    command = traced(trace, "-e", "inject=accept4:error=EMFILE:when=2..6")
    with Server(echo) as server, proxy(server.address, command=command) as running:
        find_child(running)
        with running.connect() as first:
            first.sendall(b"first")
            assert first.recv(10) == b"first"
            with running.connect() as second:
                second.sendall(b"second")
                assert second.recv(10) == b"second"
        running.stop()
        assert running.stats["connections"] == 2
    failed = [line for line in trace.read_text().splitlines() if "EMFILE" in line]
    times = [float(line.split()[1]) for line in failed]
    assert len(times) == 5
    # Each is followed by a pause of 0.1 s, which can only get longer.
    assert all(later - earlier > 0.05 for earlier, later in itertools.pairwise(times))


def test_more_clients_than_descriptors(tmp_path):
    """Who is connected is served on, who comes later is too; accept is asked but a few times."""
    trace = tmp_path / "trace"
    limit, crowd_size = 64, 200
    with (
        Server(echo) as server,
        proxy(
            server.address,
            command=traced(trace),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        ) as running,
    ):
        find_child(running)
        with running.connect() as first:
            first.sendall(b"first")
            assert first.recv(10) == b"first"
            with contextlib.ExitStack() as crowd:
                clients = [crowd.enter_context(running.connect()) for _ in range(crowd_size)]
                served = refused = 0
                for client in clients:
                    with contextlib.suppress(ConnectionError):
                        client.sendall(b"x")
                        client.shutdown(socket.SHUT_WR)
                    try:
                        answer = read_all(client)
                    except ConnectionResetError:
                        answer = b""
                    assert answer in (b"x", b"")
                    served, refused = served + bool(answer), refused + (not answer)
                first.sendall(b"still here")
                assert first.recv(20) == b"still here"
            assert served
            assert ask(running, b"afterwards") == b"afterwards"
        running.stop()
        assert running.stats["connections"] == crowd_size + 2
        assert len(running.stderr.splitlines()) <= refused + 1
        assert "Traceback" not in running.stderr
    assert trace.read_text().count("accept4(") < 2 * crowd_size
