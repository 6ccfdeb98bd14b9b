"""Listening on what others have, want or have left behind: paths, names, several addresses.

Rule 1: a listener that lives is told at once, named, and notices nothing.
Rule 2: what is removed is dead or ours; nothing else ever is, and ours always.
Rule 3: a name is all its addresses, with one port.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

from spliceio import Proxy, aio
from spliceio._proxy import address as _address
from spliceio._proxy import unix_path as _unix_path
from spliceio._proxy.listeners import Listeners
from tests.support.commands import HANG, SPLICEIO, listening, run, said, started
from tests.support.programs import need
from tests.support.proxies import ANY, At, idle, patient, talks, whom
from tests.support.raising import every_step
from tests.support.servers import Server, ask, echo
from tests.support.states import descriptors, process_state, until

IN_USE = "Address already in use"
COMMANDS = ("proxy", "serve", "recv")


def command(name: str, address: str, tmp_path) -> list[str]:
    """Write a command that listens there."""
    return {
        "proxy": ["proxy", address, "127.0.0.1:1"],
        "serve": ["serve", str(tmp_path), "--bind", address],
        "recv": ["recv", address, str(tmp_path / "received")],
    }[name]


@pytest.fixture
def path(tmp_path):
    """A path that nobody has."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    return folder / "s"


@contextlib.contextmanager
def bound(path, kind=socket.SOCK_STREAM, backlog=5):
    """Listen at a path, and leave it there in the end, as who crashes does."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(os.fspath(path))
        if backlog is not None and kind != socket.SOCK_DGRAM:
            sock.listen(backlog)
        yield sock


@contextlib.contextmanager
def full(path):
    """Listen with a backlog that is full; give the listener and how many wait."""
    with bound(path, backlog=0) as listener, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        for client in clients:
            client.setblocking(False)
        answers = [client.connect_ex(os.fspath(path)) for client in clients]
        assert set(answers) == {0, errno.EAGAIN}
        yield listener, answers.count(0)


def count_waiting(listener: socket.socket) -> int:
    """Accept all that wait, and close them."""
    listener.setblocking(False)
    for number in range(100):
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError("there is no end of them")


def refused(path) -> str:
    """Return what a Proxy says that cannot listen at a path."""
    before = descriptors()
    with pytest.raises(OSError, match=IN_USE) as caught:
        Proxy(f"unix:{path}", "127.0.0.1:1")
    assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, f"unix:{path}")
    assert descriptors() == before
    return caught.value.strerror


# -- somebody listens there ------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_backlog_makes_no_command_wait(name, path, tmp_path):
    """It says whose address is in use, at once, and does not wait in that backlog."""
    with full(path) as (listener, waiting):
        done = run(*command(name, f"unix:{path}", tmp_path))
        assert said(done) == f"spliceio: {name}: unix:{path}: {IN_USE}"
        assert done.returncode == 1
        assert count_waiting(listener) == waiting
    assert path.is_socket()


def test_a_full_backlog_makes_no_function_wait(path):
    """Neither Proxy nor aio.serve_proxy."""
    anyio = pytest.importorskip("anyio")
    with full(path) as (listener, waiting):
        assert refused(path) == IN_USE
        with pytest.raises(OSError, match=IN_USE):
            anyio.run(aio.serve_proxy, f"unix:{path}", "127.0.0.1:1")
        assert count_waiting(listener) == waiting


@pytest.mark.parametrize("name", COMMANDS)
def test_a_recv_that_waits_keeps_its_one_connection(name, path, tmp_path):
    """Who asks whether the path is free is not taken for the sender."""
    (tmp_path / "file").write_bytes(b"the file")
    with started("recv", f"unix:{path}", tmp_path / "dst") as receiver:
        listening(receiver)
        assert IN_USE in said(run(*command(name, f"unix:{path}", tmp_path)))
        assert run("send", tmp_path / "file", f"unix:{path}").returncode == 0
        assert receiver.wait(HANG) == 0
        assert (tmp_path / "dst").read_bytes() == b"the file"


@pytest.mark.parametrize("backlog", [None, 5])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_every_kind_of_socket_that_lives_is_left(kind, backlog, path):
    """Of any type, listening or only bound, connected or not."""
    with bound(path, kind, backlog) as theirs:
        inode = path.stat().st_ino
        assert refused(path) == IN_USE
        if kind == socket.SOCK_DGRAM:  # it takes nothing from anybody but its peer
            with bound(f"{path}2", kind) as peer:
                theirs.connect(peer.getsockname())
                assert refused(path) == IN_USE
        assert path.stat().st_ino == inode


def test_one_that_lives_in_another_network_namespace_is_left(path):
    """A path is no matter of the network."""
    text = "import socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); input()"
    unshare = [need("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "--net"]
    other = subprocess.Popen(
        [*unshare, sys.executable, "-c", text, path], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with other:
        until(lambda: path.exists() or other.poll() is not None)
        if other.poll() is not None:
            pytest.skip(f"no network namespace here: {other.stderr.read().decode()}")
        assert refused(path) == IN_USE
        other.stdin.close()
    with Listeners() as listeners:  # it has gone
        listeners.add(f"unix:{path}")


def as_nobody(path) -> str:
    """Let somebody else listen at ./s in the directory of a path; return what went wrong."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    text = "import spliceio\nwith spliceio.Proxy('unix:./s', ':1'): pass"
    user = [need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run(
        [*user, sys.executable, "-c", text], cwd=path.parent, capture_output=True, timeout=HANG
    )
    return done.stderr.decode()


def test_one_that_may_not_be_asked_is_left(path):
    """No right to connect: it may live."""
    path.parent.chmod(0o777)
    with bound(path):
        path.chmod(0o600)
        assert f"OSError: [Errno 98] {IN_USE}: 'unix:./s'" in as_nobody(path)
        assert path.is_socket()


def test_below_a_directory_that_one_may_not_enter(path):
    """What was bound is removed, though its absolute path leads nowhere."""
    path.parent.chmod(0o777)
    assert as_nobody(path) == ""
    assert not path.exists()


# -- somebody has left it there --------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dead_socket_is_replaced(name, path, tmp_path):
    """What a crash has left is in nobody's way."""
    with bound(path):
        pass
    with started(*command(name, f"unix:{path}", tmp_path)) as process:
        assert listening(process) == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert os.listdir(path.parent) == ["s"] or name == "recv"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_bytes(b"precious"), "a regular file"),
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: os.mkfifo(path), "a FIFO"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
        (lambda path: path.symlink_to("dead"), "a symbolic link"),
        (lambda path: path.symlink_to("live"), "a symbolic link"),
    ],
)
def test_what_is_no_socket_is_left_and_said(make, what, path, tmp_path):
    """Also a link to a dead socket, whose owner may come back."""
    with bound(path.with_name("dead")):
        pass
    with bound(path.with_name("live")):
        make(path)
        before = path.lstat()
        assert refused(path) == f"{IN_USE}: {what} is there"
        for name in COMMANDS:
            done = run(*command(name, f"unix:{path}", tmp_path))
            assert said(done) == f"spliceio: {name}: unix:{path}: {IN_USE}: {what} is there"
        assert path.lstat()[:4] == before[:4]
        assert sorted(os.listdir(path.parent)) == ["dead", "live", "s"]


def test_a_dead_socket_that_may_not_be_removed(path):
    """The sticky bit, say: it says so, and it is still there."""
    path.parent.chmod(0o1777)
    with bound(path):
        path.chmod(0o777)
    reason = "the dead socket there cannot be removed: Operation not permitted"
    assert f"{IN_USE}: {reason}: 'unix:./s'" in as_nobody(path)
    assert path.is_socket()


def test_of_many_who_find_a_dead_one_one_gets_the_path(path):
    """All others are told; and who got it is who answers there."""
    for _ in range(25):
        with bound(path):
            pass
        each = [Listeners() for _ in range(8)]
        start, told = threading.Barrier(len(each)), []

        def add(one: Listeners, start=start, told=told) -> None:
            start.wait()
            try:
                one.add(f"unix:{path}")
            except OSError as error:
                told.append(error.errno)

        threads = [threading.Thread(target=add, args=[one]) for one in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == [errno.EADDRINUSE] * (len(each) - 1)
        (winner,) = [one for one in each if one.sockets]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            winner.accept().close()
        for one in each:
            one.close()
        assert os.listdir(path.parent) == []


@pytest.mark.parametrize("when", ["rename", "unlink"])
@pytest.mark.parametrize("linkable", [True, False])
def test_who_takes_the_path_at_the_last_moment_keeps_it(when, linkable, path, monkeypatch):
    """One that knows nothing of locks replaces the dead socket between our look and our deed."""
    with bound(path):
        pass
    with contextlib.ExitStack() as stack:
        rename, unlink = os.rename, os.unlink
        theirs = stack.enter_context(socket.socket(socket.AF_UNIX))

        def take() -> None:
            if not took:
                took.append(1)
                if path.exists():
                    unlink(path)
                theirs.bind(str(path))
                theirs.listen()

        def late_rename(*names) -> None:
            take()
            rename(*names)

        def late_unlink(*names) -> None:
            take()
            unlink(*names)

        def no_link(*names) -> None:
            raise PermissionError(errno.EPERM, "fs.protected_hardlinks")

        took: list[int] = []
        monkeypatch.setattr(os, when, {"rename": late_rename, "unlink": late_unlink}[when])
        if not linkable:
            monkeypatch.setattr(os, "link", no_link)
        assert refused(path) == IN_USE
        assert took
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert os.listdir(path.parent) == ["s"]


def test_who_removes_the_dead_one_at_the_last_moment_is_in_nobodys_way(path, monkeypatch):
    """The path is free, whoever has made it so."""
    with bound(path):
        pass
    rename = os.rename

    def late_rename(*names) -> None:
        path.unlink()
        rename(*names)

    monkeypatch.setattr(os, "rename", late_rename)
    listeners = Listeners()
    listeners.add(f"unix:{path}")
    monkeypatch.undo()
    with listeners:
        assert path.is_socket()
    assert os.listdir(path.parent) == []


def test_a_path_that_is_listed_twice(path):
    """The second is told, and the first is gone again."""
    with pytest.raises(OSError, match=IN_USE):
        Proxy([f"unix:{path}", f"unix:{path}"], "127.0.0.1:1")
    assert os.listdir(path.parent) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("ending", [False, True])
def test_interrupted_at_every_step_nothing_is_left(ending, path):
    """While a dead socket is replaced, and at the end: not even under another name."""
    for raiser in every_step():
        with bound(path):
            pass
        listeners = Listeners()
        if ending:
            listeners.add(f"unix:{path}")
            raiser.run(listeners.close)
        else:
            raiser.run(lambda listeners=listeners: listeners.add(f"unix:{path}"))
        listeners.close()
        assert os.listdir(path.parent) in ([], ["s"])
        if path.exists():  # the dead one: it was interrupted before
            assert _unix_path._is_dead(str(path))
            path.unlink()


def test_a_lock_that_somebody_holds_for_ever_keeps_nobody_from_starting(path, monkeypatch):
    """Whoever may read the directory can hold it."""
    monkeypatch.setattr(_unix_path, "_LOCK_SECONDS", 0.05)
    with bound(path):
        pass
    held = os.open(path.parent, os.O_RDONLY)
    try:
        _unix_path.fcntl.flock(held, _unix_path.fcntl.LOCK_EX)
        with Listeners() as listeners:
            listeners.add(f"unix:{path}")
            assert listeners.addresses == [f"unix:{path}"]
        assert not path.exists()
    finally:
        os.close(held)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_who_may_connect_is_said_by_the_umask(umask, path):
    """As ever, also where a dead socket is replaced that allowed more."""
    with bound(path):
        path.chmod(0o777)
    before = os.umask(umask)
    try:
        with Listeners() as listeners:
            listeners.add(f"unix:{path}")
            assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    finally:
        os.umask(before)


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_path(name, number, path, tmp_path):
    """Whatever ends it, and recv dies of it as it did; SIGHUP does not end a proxy."""
    with started(*command(name, f"unix:{path}", tmp_path)) as process:
        listening(process)
        until(lambda: process_state(process.pid) == "S")
        process.send_signal(number)
        if (name, number) == ("proxy", signal.SIGHUP):
            assert b"no file of upstreams" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
        status = process.wait(HANG)
        assert process.stderr.read() == b""
    assert os.listdir(path.parent) == []
    if number == signal.SIGINT:
        assert status == 130
    elif name == "recv" or (name, number) == ("serve", signal.SIGHUP):
        assert status == -number
    else:
        assert status == 0


def test_recv_leaves_no_path_however_it_ends(path, tmp_path):
    """The path goes when the one connection has come: nobody else is let in."""
    with started("recv", f"unix:{path}", tmp_path / "dst") as process:
        listening(process)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"x")
            until(lambda: (tmp_path / "dst").exists() and (tmp_path / "dst").stat().st_size)
            assert not path.exists()
        assert process.wait(HANG) == 0
    with started("recv", f"unix:{path}", tmp_path / "no" / "dst") as process:  # an error
        line = process.stderr.readline()
        if line.startswith(b"listening"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            line = process.stderr.readline()
        assert b"No such file or directory" in line
        assert process.wait(HANG) == 1
    assert not path.exists()


def test_a_signal_that_is_ignored_stays_so(path, tmp_path):
    """nohup: recv waits on."""
    ignoring = [sys.executable, "-c", "import os, signal, sys; signal.signal(1, signal.SIG_IGN); "
                "os.execv(sys.argv[1], sys.argv[1:])"]  # fmt: skip
    args = [*ignoring, *SPLICEIO, "recv", f"unix:{path}", tmp_path / "dst"]
    with subprocess.Popen(args, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            listening(process)
            process.send_signal(signal.SIGHUP)
            assert run("send", os.devnull, f"unix:{path}").returncode == 0
            assert process.wait(HANG) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("other", ["socket", "file"])
def test_a_command_leaves_what_has_taken_its_place(name, other, path, tmp_path):
    """Who has replaced the path by force keeps it."""
    with (
        socket.socket(socket.AF_UNIX) as theirs,
        started(*command(name, f"unix:{path}", tmp_path)) as process,
    ):
        listening(process)
        path.unlink()
        if other == "socket":
            theirs.bind(str(path))
        else:
            path.write_bytes(b"precious")
        inode = path.stat().st_ino
        process.terminate()
        process.wait(HANG)
        assert path.stat().st_ino == inode
        assert os.listdir(path.parent) == ["s"]


def test_a_relative_path_is_removed_from_wherever_one_is_then(tmp_path, monkeypatch):
    """The directory of the start counts."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "s").write_bytes(b"precious")
    monkeypatch.chdir(tmp_path)
    with Server(echo) as server, Proxy("unix:s", server.address) as proxy:
        assert proxy.address == "unix:s"
        assert ask(At(proxy), b"hello") == b"hello"
        monkeypatch.chdir(tmp_path / "other")
    assert not (tmp_path / "s").exists()
    assert (tmp_path / "other" / "s").read_bytes() == b"precious"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_proxy_that_is_dropped_takes_its_path_along(path):
    """One that has never been started."""
    proxy = Proxy(f"unix:{path}", "127.0.0.1:1")
    assert path.exists()
    del proxy
    assert not path.exists()


def test_a_child_leaves_the_path(path):
    """It is its parent's, whatever becomes of the copies in the child."""
    with Listeners() as listeners:
        listeners.add(f"unix:{path}")
        pid = os.fork()
        if pid == 0:
            listeners.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert path.exists()
    assert not path.exists()


def test_sockets_of_systemd_keep_their_path(path, tmp_path):
    """They are inherited: who made the path removes it."""
    text = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', "
        "'LISTEN_PID': str(os.getpid())}; os.execv(sys.argv[2], sys.argv[2:])"
    )
    with Server(patient) as server, bound(path) as listener:
        fd = listener.fileno()
        args = [sys.executable, "-c", text, str(fd), *SPLICEIO, "proxy", "systemd", server.address]
        with subprocess.Popen(args, pass_fds=[fd, 3], stderr=subprocess.PIPE) as process:
            assert listening(process) == f"unix:{path}"
            with At(f"unix:{path}").connect() as client:
                assert talks(client)
            process.terminate()
            assert process.wait(HANG) == 0
        assert path.is_socket()


# -- names -----------------------------------------------------------------------------------------


def resolving(monkeypatch, **hosts) -> None:
    """Let names stand for addresses."""
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        if host not in hosts:
            return real(host, port, *args, **options)
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, port, 0, 0) if ":" in ip else (ip, port),
            )
            for ip in hosts[host].split()
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_of_ipv6_alone(monkeypatch):
    """It is listened on."""
    resolving(monkeypatch, six="::1")
    with Server(echo) as server, Proxy("six:0", server.address) as proxy:
        assert re.fullmatch(r"\[::1\]:\d+", proxy.address)
        assert ask(At(proxy), b"hello") == b"hello"


@pytest.mark.parametrize("addresses", ["127.0.0.1 ::1 127.0.0.2 127.0.0.1", ":: 0.0.0.0"])
def test_a_name_of_several_addresses_is_all_of_them(addresses, monkeypatch):
    """Each once, and one port where any will do."""
    resolving(monkeypatch, many=addresses)
    with Server(echo) as server, Proxy("many:0", server.address) as proxy:
        assert len(proxy.addresses) == len(set(addresses.split()))
        assert len({one.rpartition(":")[2] for one in proxy.addresses}) == 1
        for address in proxy.addresses:
            assert ask(At(address), address.encode()) == address.encode()
        assert idle(proxy).total == len(proxy.addresses)


def test_addresses_that_this_machine_does_not_have_are_passed_over(monkeypatch):
    """Unless there is no other; what is taken is no such thing, and undoes the rest."""
    resolving(monkeypatch, some="192.0.2.1 127.0.0.1 2001:db8::1", none="192.0.2.1 2001:db8::1")
    with Listeners() as listeners:
        listeners.add("some:0")
        assert [one.rpartition(":")[0] for one in listeners.addresses] == ["127.0.0.1"]
        with pytest.raises(OSError, match="Cannot assign") as caught:
            listeners.add("none:0")
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRNOTAVAIL, "none:0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        resolving(monkeypatch, mixed="::1 127.0.0.1")
        port, before = taken.getsockname()[1], descriptors()
        with pytest.raises(OSError, match=IN_USE) as caught:
            Proxy(f"mixed:{port}", "127.0.0.1:1")
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, f"mixed:{port}")
        assert descriptors() == before
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            pass


def test_a_free_port_is_free_at_each_address(monkeypatch):
    """One that is taken at the second address is not the one."""
    resolving(monkeypatch, two="127.0.0.1 ::1")
    real, ports = socket.socket.bind, []
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

        def bind(sock, name):
            if sock.family == socket.AF_INET6 and not ports:
                ports.append(name[1])
                real(taken, name)
                taken.listen()
            real(sock, name)

        monkeypatch.setattr(socket.socket, "bind", bind)
        with Listeners() as listeners:
            listeners.add("two:0")
            got = {int(one.rpartition(":")[2]) for one in listeners.addresses}
            assert len(listeners.addresses) == 2
            assert len(got) == 1
            assert got != set(ports)


def with_hosts(tmp_path, text: str) -> list[str]:
    """Return what runs a command with other names in /etc/hosts; skip where that cannot be."""
    (tmp_path / "hosts").write_text(text)
    unshare = [need("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "--mount"]
    mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
    command = [*unshare, "sh", "-c", mount, str(tmp_path / "hosts")]
    done = subprocess.run([*command, "true"], capture_output=True)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.decode()}")
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_listens_on_all_addresses_of_a_name(name, tmp_path):
    """Each is said on a line of its own, and served."""
    hosts = with_hosts(tmp_path, "127.0.0.1 localhost both.test\n::1 both.test\n")
    with Server(lambda sock: sock.sendall(b"p")) as server:
        for number in range(2):
            args = command(name, "both.test:0", tmp_path)
            args = [server.address if one == "127.0.0.1:1" else one for one in args]
            process = subprocess.Popen(
                [*hosts, *SPLICEIO, *args], stderr=subprocess.PIPE, bufsize=0
            )
            with process:
                try:
                    told = sorted(listening(process) for _ in range(2))
                    assert re.fullmatch(r"127\.0\.0\.1:(\d+) \[::1\]:\1", " ".join(told))
                    parsed = _address.parse(told[number])
                    with socket.create_connection(parsed[:2]) as client:
                        if name == "serve":
                            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                        elif name == "recv":
                            client.sendall(b"sent")
                            client.shutdown(socket.SHUT_WR)
                        assert bool(client.recv(1)) == (name != "recv")
                    if name == "recv":
                        assert process.wait(HANG) == 0
                        assert (tmp_path / "received").read_bytes() == b"sent"
                finally:
                    process.kill()


@pytest.mark.parametrize("what", ["a name", "upstreams"])
def test_a_proxy_that_still_waits_to_start_can_be_ended(what, tmp_path):
    """A resolver that does not answer, a file of upstreams that nobody writes: SIGTERM ends it."""
    fifo, before, args = tmp_path / "fifo", [], ["--upstreams", tmp_path / "fifo"]
    os.mkfifo(fifo)
    if what == "a name":
        before, args = with_hosts(tmp_path, ""), ["127.0.0.1:1"]
        before = [str(fifo) if one == str(tmp_path / "hosts") else one for one in before]
    at = "slow.test:0" if what == "a name" else ANY
    process = subprocess.Popen([*before, *SPLICEIO, "proxy", at, *map(str, args)])
    with process:
        try:

            def is_waiting() -> bool:
                """Opening a FIFO for writing succeeds when somebody waits to read it."""
                with contextlib.suppress(OSError):
                    opened.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
                return bool(opened)

            opened: list[int] = []
            until(is_waiting)
            process.terminate()
            assert process.wait(HANG) == -signal.SIGTERM
        finally:
            process.kill()
            for fd in opened:
                os.close(fd)


# -- abstract sockets ------------------------------------------------------------------------------


@pytest.fixture
def name():
    """An abstract name that nobody has."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("")
        return f"@spliceio-test-{os.getpid()}-{sock.getsockname()[1:].decode()}"


def abstract(text: str) -> str:
    """Return what Python takes for an abstract name."""
    return "\0" + text[1:]


@pytest.mark.parametrize("routed", [False, True])
def test_an_abstract_socket_is_an_address_everywhere(name, routed, tmp_path, monkeypatch):
    """To listen on, as an upstream, as a route's answer; a file of that name is something else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"precious")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(patient))
        to = {"route": lambda client, first: f"unix:{name}"} if routed else f"unix:{name}"
        inner = stack.enter_context(Proxy(f"unix:{name}", server.address))
        options = to if routed else {"upstream": to}
        outer = stack.enter_context(Proxy(f"unix:{name}-outer", **options))
        assert inner.addresses == [f"unix:{name}"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(abstract(f"{name}-outer"))
            assert talks(client)
        with pytest.raises(OSError, match=IN_USE) as caught:
            Proxy(inner.address, server.address)
        assert caught.value.filename == f"unix:{name}"
        assert idle(outer).total == 1
    with Listeners() as listeners:  # and it is free again
        listeners.add(f"unix:{name}")
    assert (tmp_path / name).read_bytes() == b"precious"


def test_an_abstract_socket_on_the_command_line(name, tmp_path):
    """recv, send, proxy, serve and connect."""
    (tmp_path / "file").write_bytes(b"the file")
    with started("recv", f"unix:{name}", tmp_path / "dst") as receiver:
        assert listening(receiver) == f"unix:{name}"
        with started("proxy", f"unix:{name}p", f"unix:{name}") as proxy:
            assert listening(proxy) == f"unix:{name}p"
            assert run("send", tmp_path / "file", f"unix:{name}p").returncode == 0
            assert receiver.wait(HANG) == 0
    assert (tmp_path / "dst").read_bytes() == b"the file"
    with started("serve", tmp_path, "--bind", f"unix:{name}") as server:
        assert listening(server) == f"unix:{name}"
        request = b"GET /file HTTP/1.0\r\n\r\n"
        assert run("connect", f"unix:{name}", input=request).stdout.endswith(b"the file")
    assert said(run("send", tmp_path / "file", f"unix:{name}")) == (
        f"spliceio: send: unix:{name}: Connection refused"
    )
    assert sorted(os.listdir(tmp_path)) == ["dst", "file"]


@pytest.mark.parametrize("form", ["given", "text"])
def test_an_odd_name_is_not_logged_raw(form, name, caplog):
    """NUL and newline are escaped in logs and errors, and kept in what can be read again."""
    odd = f"{name}\0\n\x1b\0"
    shown = f"unix:{name}\\x00\\x0a\\x1b\\x00"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(patient))
        at: object = f"unix:{odd}"
        if form == "given":
            at = stack.enter_context(socket.socket(socket.AF_UNIX))
            at.bind(abstract(odd))
            at.listen()
        proxy = stack.enter_context(Proxy(at, server.address))
        assert proxy.address == f"unix:{odd}"
        assert str(_address.parse(proxy.address)) == shown
        outer = stack.enter_context(Proxy(ANY, proxy.address))
        with At(outer).connect() as client:
            assert talks(client)
        with pytest.raises(OSError, match=IN_USE) as caught:
            Proxy(f"unix:{odd}", server.address)
        assert caught.value.filename == shown
    with Proxy(ANY, f"unix:{odd}") as proxy:
        assert whom(proxy) == b""
    assert [record.getMessage() for record in caplog.records] == [f"{shown}: Connection refused"]
    assert [record.upstream for record in caplog.records] == [shown]


def test_an_odd_name_is_not_said_raw(name):
    """By a command: what systemd passes may be called anything."""
    odd = f"{name}\0\nx"
    text = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', "
        "'LISTEN_PID': str(os.getpid())}; os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(abstract(odd))
        sock.listen()
        args = [sys.executable, "-c", text, str(sock.fileno()), *SPLICEIO, "proxy", "systemd", ":1"]
        passed = [sock.fileno(), 3]
        with subprocess.Popen(args, pass_fds=passed, stderr=subprocess.PIPE, bufsize=0) as process:
            try:
                assert listening(process) == f"unix:{name}\\x00\\x0ax"
            finally:
                process.kill()


def test_a_client_with_an_abstract_name_is_logged(name, path, tmp_path):
    """Serve names a client on a unix socket "unix:", whatever it is bound to."""
    with started("serve", tmp_path, "--bind", f"unix:{path}") as server:
        listening(server)
        for own in (abstract(name), str(path.with_name("client"))):
            with socket.socket(socket.AF_UNIX) as client:
                client.bind(own)
                client.connect(str(path))
                client.sendall(b"GET /none HTTP/1.0\r\n\r\n")
                assert client.recv(1)
            assert server.stderr.readline().startswith(b"unix: - - [")


def test_a_file_whose_name_begins_with_an_at_sign(tmp_path, monkeypatch):
    """Is written with its directory."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock, Server(patient) as server:
        sock.bind("@file")
        sock.listen()
        with Proxy(sock, server.address) as proxy:
            assert proxy.address == "unix:./@file"
            with At(proxy).connect() as client:
                assert talks(client)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unix:@", "needs a path"),
        ("unix:\0name", "a path has no NUL; an abstract name is written unix:@name"),
        ("unix:/run/a\0b", r"unix:/run/a\\x00b: a path has no NUL"),
        (f"unix:{'p' * 108}", "path has at most 107 bytes"),
        (f"unix:@{'p' * 108}", "abstract name has at most 107 bytes"),
    ],
)
def test_what_is_no_name_of_a_unix_socket(text, words):
    """Refused before anything is bound."""
    with pytest.raises(ValueError, match=words):
        Proxy(text, ":1")


def test_the_longest_names(name, tmp_path, monkeypatch):
    """107 bytes are bound as they are."""
    monkeypatch.chdir(tmp_path)
    for text in ("p" * 107, "@" + (name[1:] + "p" * 107)[:107]):
        with Server(patient) as server, Proxy(f"unix:{text}", server.address) as proxy:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(abstract(text) if text[0] == "@" else text)
                assert talks(client)
            assert proxy.address == f"unix:{text}"
    assert os.listdir(tmp_path) == []
