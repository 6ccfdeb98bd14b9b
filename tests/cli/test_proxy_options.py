"""`spliceio proxy` as a process: options, signals, files of upstreams, metrics, given sockets.

Rule 1: what is wrong is one line that says what, and the status: 2 for usage, 1 for the rest.
Rule 2: SIGTERM loses nobody who was connected; SIGHUP with a bad file changes nothing.
Rule 3: what a metric or a line counts is what has happened.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.commands import HANG, SPLICEIO, said, unused_port
from tests.support.commands import run as run_command
from tests.support.proxies import (
    ANY,
    At,
    hanging,
    heard,
    is_cut,
    named,
    of_listener,
    patient,
    read_exactly,
    refuses,
    talks,
    whom,
)
from tests.support.servers import Server, ask, echo, read_all
from tests.support.states import Worker, until
from tests.support.wires import MIB, payload


class Running:
    """A `spliceio proxy` that says where it listens."""

    def __init__(self, process: subprocess.Popen, listeners: int) -> None:
        self.process, self.pid = process, process.pid
        self.addresses: list[str] = []
        self.metrics = ""
        while len(self.addresses) < listeners:
            line = self.line()
            match = re.fullmatch(r"(listening|metrics) on (.+)", line)
            assert match, line + process.stderr.read().decode()
            if match[1] == "metrics":
                self.metrics = match[2]
            else:
                self.addresses.append(match[2])
        self.address = self.addresses[0]

    def line(self) -> str:
        """Read the next line on standard error."""
        return self.process.stderr.readline().decode().rstrip("\n")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait for the end; return the status, and what else was on stderr."""
        os.kill(self.pid, number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the status, and what else was on standard error."""
        self.out, err = (text.decode() for text in self.process.communicate(timeout=HANG))
        return self.process.returncode, err


@contextlib.contextmanager
def proxying(*args, listeners: int = 1, command=(), **popen):
    """Run a proxy until the block ends; it is killed if it still runs then."""
    process = subprocess.Popen(
        [*(command or (*SPLICEIO, "proxy")), *map(os.fspath, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        **popen,
    )
    with process:
        try:
            yield Running(process, listeners)
        finally:
            process.kill()


# -- options ---------------------------------------------------------------------------------------


def test_upstreams_take_turns_and_all_listeners_are_served():
    """Several UPSTREAM, several --listen; each address is said on its line."""
    with Server(named(b"a")) as a, Server(named(b"b")) as b, Server(named(b"c")) as c:
        args = [ANY, a.address, b.address, c.address, "--listen", "[::1]:0", "--listen", ANY]
        with proxying(*args, listeners=3) as running:
            assert len(set(running.addresses)) == 3
            assert running.addresses[1].startswith("[::1]:")
            got = [whom(running.addresses[number % 3]) for number in range(9)]
            assert b"".join(got) == b"abc" * 3
            assert running.end() == (0, "")


def test_threads():
    """--threads N is so many engines, and all of them serve."""
    with Server(echo) as server, proxying(ANY, server.address, "--threads", "3") as running:
        names = [
            (task / "comm").read_text() for task in Path(f"/proc/{running.pid}/task").iterdir()
        ]
        assert names.count("spliceio-engine\n") == 3
        sent = [payload(50_000 + n, n) for n in range(30)]
        workers = [Worker(lambda data=data: ask(At(running.address), data)) for data in sent]
        for worker, data in zip(workers, sent, strict=True):
            assert worker.result() == data
        assert running.end() == (0, "")


def test_max_connections():
    """One more than --max-connections waits until one has ended."""
    with (
        Server(patient) as server,
        proxying(ANY, server.address, "--max-connections", "1") as running,
        At(running.address).connect() as first,
        At(running.address).connect() as second,
    ):
        assert talks(first)
        second.sendall(b"waiting")
        assert talks(first, b"again")
        first.close()
        assert second.recv(10) == b"waiting"
        second.close()
        assert running.end() == (0, "")


def test_connect_timeout():
    """An upstream that hangs is given up after --connect-timeout, and named."""
    with hanging() as hangs, proxying(ANY, hangs, "--connect-timeout", "0.05") as running:
        assert whom(running.address) == b""
        assert running.end() == (0, f"spliceio: proxy: {hangs}: Connection timed out\n")


@pytest.mark.parametrize("version", [1, 2])
def test_proxy_protocol_in_and_out(version):
    """--trust-proxy-protocol, twice, believes; --proxy-protocol tells; -v names the client."""
    heard_there: list[bytes] = []
    trusted = ["--trust-proxy-protocol", "10.0.0.0/8", "--trust-proxy-protocol", "127.0.0.1"]
    with Server(lambda sock: heard_there.append(read_all(sock))) as server:
        args = [ANY, server.address, "--proxy-protocol", str(version), *trusted, "-v"]
        with proxying(*args) as running:
            assert ask(At(running.address), b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nhello") == b""
            assert running.line().startswith(f"spliceio: proxy: 192.0.2.1:5 to {server.address}: ")
            assert running.end() == (0, "")
    header = {
        1: b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
        2: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\5\0\6",
    }
    assert heard_there == [header[version] + b"hello"]


def test_verbose():
    """A line for each connection: who, where to, how much, how long, why it ended."""
    with Server(echo) as server, proxying(ANY, server.address, "--verbose") as running:
        with At(running.address).connect() as sock:
            client = "{}:{}".format(*sock.getsockname())
            assert talks(sock, b"12345")
        assert re.fullmatch(
            rf"spliceio: proxy: {client} to {server.address}: "
            r"5 bytes there, 5 back, \d+\.\d{3} s, eof",
            running.line(),
        )
        assert running.end() == (0, "")


def test_reuse_port_two_processes():
    """Both get some of the connections, and together all of them; one alone serves on."""
    options = ["--reuse-port", "--stats"]
    with Server(echo) as server, proxying(ANY, server.address, *options) as one:
        with proxying(one.address, server.address, *options) as two:
            for number in range(64):
                assert ask(At(one.address), bytes([number])) == bytes([number])
            assert two.end() == (0, "")
            shares = json.loads(two.out)["connections"]
        for _ in range(8):
            assert ask(At(one.address), b"x") == b"x"
        assert one.end() == (0, "")
        assert 0 < shares < 64
        assert json.loads(one.out)["connections"] == 64 - shares + 8


BAD = [
    (["nonsense", ":1"], "argument LISTEN: 'nonsense' is no address"),
    ([":0", "nonsense"], "argument UPSTREAM: 'nonsense' is no address"),
    ([":0", "::1:80"], "put an IPv6 address in brackets"),
    (["unix:/" + "x" * 107, ":1"], "at most 107 bytes"),
    ([":0", "unix:/" + "x" * 107], "at most 107 bytes"),
    ([":0"], "give UPSTREAM, or --upstreams FILE"),
    ([":0", ":1", "--upstreams", "file"], "give UPSTREAM, or --upstreams FILE"),
    ([], "the following arguments are required: LISTEN"),
    *(
        ([":0", ":1", "--threads", text], f"--threads: {text!r} is no number from 1 to")
        for text in ("0", "-1", "1.5", "many", "1025", "9999999")
    ),
    *(
        ([":0", ":1", f"--max-connections={text}"], "is no number from 1 to")
        for text in ("0", "-1", "x")
    ),
    *(
        ([":0", ":1", f"{name}={text}"], f"{name}: {text!r} is no number of seconds above 0")
        for name in ("--idle-timeout", "--connect-timeout")
        for text in ("0", "-1", "nan", "inf", "soon")
    ),
    *(([":0", ":1", f"--drain={text}"], "is no number of seconds") for text in ("-1", "nan", "x")),
    ([":0", ":1", "--proxy-protocol", "3"], "argument --proxy-protocol: '3' is no version of "),
    (
        [":0", ":1", "--trust-proxy-protocol", "10.0.0.0/33"],
        "--trust-proxy-protocol: '10.0.0.0/33'",
    ),
    ([":0", ":1", "--method", "splice"], "invalid choice: 'splice'"),
    ([":0", ":1", "--listen", "nonsense"], "argument --listen: 'nonsense' is no address"),
    ([":0", ":1", "--metrics", "nonsense"], "argument --metrics: 'nonsense' is no address"),
    ([":0", ":1", "--metrics"], "argument --metrics: expected one argument"),
    ([":0", ":1", "--metrics", "unix:/tmp/m"], "it takes host:port, and no unix socket"),
    ([":0", ":1", "--bogus"], "unrecognized arguments: --bogus"),
]


@pytest.mark.parametrize(("args", "text"), BAD, ids=[" ".join(row[0])[:60] for row in BAD])
def test_wrong_usage_is_2(args, text):
    """The usage, then what is wrong."""
    done = run_command("proxy", *args)
    *usage, last = done.stderr.decode().splitlines()
    assert usage[0].startswith("usage: spliceio ")
    assert re.match(r"spliceio( proxy)?: error: ", last)
    assert text in last
    assert (done.returncode, done.stdout) == (2, b"")


def test_what_cannot_be_is_1(tmp_path):
    """One line that names what it is about."""
    (tmp_path / "empty").write_text("\n# nothing\n\n")
    (tmp_path / "broken").write_text("127.0.0.1:1\n\nnonsense\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for args, text in (
            ([of_listener(taken), ":1"], f"{of_listener(taken)}: Address already in use"),
            ([ANY, ":1", "--listen", of_listener(taken)], "Address already in use"),
            ([ANY, ":1", "--metrics", of_listener(taken)], "Address already in use"),
            ([f"unix:{tmp_path}/nosuch/s", ":1"], "No such file or directory"),
            ([ANY, "--upstreams", tmp_path / "missing"], f"{tmp_path}/missing: No such file"),
            ([ANY, "--upstreams", tmp_path], f"{tmp_path}: Is a directory"),
            ([ANY, "--upstreams", tmp_path / "empty"], f"{tmp_path}/empty: no upstream in it"),
            ([ANY, "--upstreams", tmp_path / "broken"], f"{tmp_path}/broken, line 3: 'nonsense'"),
            ([ANY, "--upstreams", tmp_path / "binary"], f"{tmp_path}/binary, line 1: b"),
        ):
            done = run_command("proxy", *args)
            assert text in said(done)
            assert said(done).startswith("spliceio: proxy: ")
            assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize(
    ("module", "option", "text"),
    [
        ("rich", ["--live"], "--live needs rich: pip install 'spliceio[cli]'"),
        (
            "prometheus_client",
            ["--metrics", ANY],
            "--metrics needs prometheus-client: pip install 'spliceio[metrics]'",
        ),
    ],
)
def test_without_an_extra(module, option, text):
    """What is missing, the line that installs it, and 2; all else works without."""
    script = (
        f"import sys; sys.modules[{module!r}] = None; from spliceio.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "proxy"]
    done = subprocess.run([*command, ANY, ":1", *option], capture_output=True, timeout=HANG)
    assert (said(done), done.returncode) == (f"spliceio: proxy: {text}", 2)
    with Server(echo) as server, proxying(ANY, server.address, command=command) as running:
        assert ask(At(running.address), b"x") == b"x"
        assert running.end() == (0, "")


# -- the file of upstreams -------------------------------------------------------------------------


def test_sighup_reads_the_upstreams_again(tmp_path):
    """New connections go where it says now; who is connected stays."""
    file = tmp_path / "upstreams"
    with Server(named(b"a")) as a, Server(named(b"b")) as b:
        file.write_text(f"# the first\n\n  {a.address}  # alone\n")
        with (
            proxying(ANY, "--upstreams", file, "-v") as running,
            At(running.address).connect() as sock,
        ):
            assert sock.recv(1) == b"a"
            file.write_text(f"{b.address}\r\n{b.address}\n")
            os.kill(running.pid, signal.SIGHUP)
            assert running.line() == f"spliceio: proxy: SIGHUP: 2 upstreams from {file}"
            assert whom(running.address) == b"b"
            assert f" to {b.address}: " in running.line()
            assert talks(sock)
            sock.close()
            assert f" to {a.address}: " in running.line()
            assert running.end() == (0, "")


@pytest.mark.parametrize(
    "bad", ["missing", "directory", "empty", "broken", "binary", "long", "unencodable"]
)
def test_sighup_with_a_bad_file_changes_nothing(bad, tmp_path):
    """It is said what is wrong, what was served is served on, and a good file is taken again."""
    file = tmp_path / "upstreams"
    with Server(named(b"a")) as a, Server(named(b"b")) as b:
        file.write_text(a.address)
        with proxying(ANY, "--upstreams", file) as running:
            assert whom(running.address) == b"a"
            file.unlink()
            text = {
                "missing": "No such file or directory",
                "directory": "Is a directory",
                "empty": f"{file}: no upstream in it",
                "broken": f"{file}, line 2: ",
                "binary": f"{file}, line 1: b",
                "long": "at most 107 bytes",
                "unencodable": "a..b",
            }[bad]
            if bad == "directory":
                file.mkdir()
            elif bad == "empty":
                file.write_text("")
            elif bad == "broken":
                file.write_text(f"{b.address}\nnonsense\n")
            elif bad == "binary":
                file.write_bytes(b"\xff\xff")
            elif bad == "long":
                file.write_text(f"unix:/{'x' * 107}\n")
            elif bad == "unencodable":
                file.write_text("a..b:80\n")
            os.kill(running.pid, signal.SIGHUP)
            line = running.line()
            assert line.startswith("spliceio: proxy: SIGHUP: ")
            assert text in line
            assert line.endswith("; the upstreams stay as they were")
            assert whom(running.address) == whom(running.address) == b"a"
            if bad == "directory":
                file.rmdir()
            file.write_text(b.address)
            os.kill(running.pid, signal.SIGHUP)
            assert running.line() == f"spliceio: proxy: SIGHUP: 1 upstreams from {file}"
            assert whom(running.address) == b"b"
            assert running.end() == (0, "")


def test_sighup_without_a_file():
    """It is said that there is none, and nothing ends."""
    with Server(named(b"a")) as a, proxying(ANY, a.address) as running:
        os.kill(running.pid, signal.SIGHUP)
        assert "there is no file of upstreams to read again" in running.line()
        assert whom(running.address) == b"a"
        assert running.end() == (0, "")


# -- signals ---------------------------------------------------------------------------------------


def test_sigterm_drains():
    """20 clients in the middle of their answers get the rest, exactly; then it ends with 0."""
    answer = payload(MIB)
    rest, halfway = threading.Event(), []

    def serve(sock):
        if sock.recv(100) != b"GET /":
            return  # `refuses` has knocked
        sock.sendall(answer[: MIB // 2])
        halfway.append(sock)
        rest.wait()
        for start in range(MIB // 2, MIB, 50_000):
            sock.sendall(answer[start : min(start + 50_000, MIB)])

    with Server(serve) as server, proxying(ANY, server.address, "--stats") as running:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(At(running.address).connect()) for _ in range(20)]
            for sock in clients:
                sock.sendall(b"GET /")
            for sock in clients[:10]:  # the others have not read a byte
                assert read_exactly(sock, MIB // 2) == answer[: MIB // 2]
            until(lambda: len(halfway) == 20)
            os.kill(running.pid, signal.SIGTERM)
            until(lambda: refuses(running.address))
            os.kill(running.pid, signal.SIGHUP)  # which is no impatience
            rest.set()
            workers = [Worker(lambda sock=sock: heard(sock)) for sock in clients]
            got = [worker.result() for worker in workers]
        assert running.ended() == (0, "")
        assert got == [(answer[MIB // 2 :], False)] * 10 + [(answer, False)] * 10
        stats = json.loads(running.out)
        assert stats["b_to_a"] == 20 * MIB
        assert stats["connections"] >= 20  # who knocked to see whether it still listens was let in


def test_sigterm_while_clients_come_and_go():
    """Whoever was let in gets everything; whoever was not gets nothing."""
    answer = payload(300_000)

    def serve(sock):
        with contextlib.suppress(ConnectionError):
            sock.recv(10)
            sock.sendall(answer)

    done: list[tuple[bytes, bool]] = []

    def come_and_go(address: str) -> None:
        while True:
            try:
                sock = At(address).connect()
            except ConnectionRefusedError:
                return
            with sock:
                try:
                    sock.sendall(b"GET /")
                except ConnectionError:
                    done.append((b"", True))
                    continue
                done.append(heard(sock))

    with Server(serve) as server, proxying(ANY, server.address, "--threads", "2") as running:
        clients = [Worker(lambda: come_and_go(running.address)) for _ in range(8)]
        until(lambda: len(done) > 40)
        assert running.end() == (0, "")
        for client in clients:
            client.result()
    assert {(len(got), was_reset) for got, was_reset in done} <= {(len(answer), False), (0, True)}
    assert all(got == answer for got, _ in done if got)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts(second):
    """Who does not want to wait for the last connection any more need not."""
    with Server(patient) as server, proxying(ANY, server.address) as running:
        with At(running.address).connect() as sock:
            assert talks(sock)
            os.kill(running.pid, signal.SIGTERM)
            until(lambda: refuses(running.address))
            assert talks(sock, b"still there")
            status, err = running.end(second)
            assert is_cut(sock)
        assert err == ""
        assert status == 0 or (second, status) == (signal.SIGINT, 130)


@pytest.mark.parametrize("drain", ["0", "0.1"])
def test_the_drain_ends(drain):
    """After --drain seconds what is left is cut, and the status is 0 all the same."""
    with (
        Server(patient) as server,
        proxying(ANY, server.address, "--drain", drain) as running,
        At(running.address).connect() as sock,
    ):
        assert talks(sock)
        assert running.end() == (0, "")
        assert is_cut(sock)


@pytest.mark.parametrize("listen", [ANY, "unix"])
def test_sigint_is_130(listen, tmp_path):
    """It cuts, leaves no path behind, and says nothing."""
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    with Server(patient) as server, proxying(listen, server.address) as running:
        with At(running.address).connect() as sock:
            assert talks(sock)
            assert running.end(signal.SIGINT) == (130, "")
            assert heard(sock)[0] == b""
        assert refuses(running.address)
    assert not (tmp_path / "s").exists()


# -- metrics and the line --------------------------------------------------------------------------


def scrape(url: str) -> dict:
    """Ask for the metrics; return the value of each sample by its name and labels."""
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("spliceio_proxy_")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert family.type == ("counter" if sample.name.endswith("_total") else "gauge")
            name = sample.name.removeprefix("spliceio_proxy_")
            found[(name, *sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("where", [ANY, "[::1]:0", ":0"])
def test_metrics(where):
    """Prometheus reads the counts, while connections are open and after; then nobody listens."""
    data = payload(3 * MIB)
    with Server(patient) as server, proxying(ANY, server.address, "--metrics", where) as running:
        url = running.metrics
        assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1?\]):\d+/metrics", url)
        url = url.replace("[::]", "[::1]")
        empty = scrape(url)
        assert set(empty.values()) == {0}
        assert set(empty) == {
            ("active_connections",),
            ("open_pipes",),
            ("held_pipes",),
            ("connections_total",),
            ("failed_connections_total",),
            ("out_of_descriptors_total",),
            ("bytes_total", "client_to_upstream"),
            ("bytes_total", "upstream_to_client"),
            ("moved_bytes_total", "splice"),
            ("moved_bytes_total", "read_write"),
        }
        with At(running.address).connect() as sock:
            assert talks(sock)
            assert scrape(url)["active_connections",] == 1
        assert ask(At(running.address), data) == data
        until(lambda: scrape(url)["active_connections",] == 0)
        counts = scrape(url)
        assert counts["connections_total",] == 2
        assert counts["failed_connections_total",] == 0
        assert counts["bytes_total", "client_to_upstream"] == 3 * MIB + 5
        assert counts["bytes_total", "upstream_to_client"] == 3 * MIB + 5
        moved = [counts["moved_bytes_total", way] for way in ("splice", "read_write")]
        assert sum(moved) == 6 * MIB + 10
        assert moved[0] > 0
        assert counts["held_pipes",] == 0
        with pytest.raises(urllib.error.HTTPError) as refused:  # which is no reason to end
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE"))
        refused.value.close()
        assert running.end() == (0, "")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url)


def test_metrics_of_failures():
    """A connection for which no upstream was found is counted as that."""
    args = [ANY, f"127.0.0.1:{unused_port()}", "--metrics", ANY]
    with proxying(*args) as running:
        assert whom(running.address) == whom(running.address) == b""
        until(lambda: scrape(running.metrics)["failed_connections_total",] == 2)
        counts = scrape(running.metrics)
        assert counts["connections_total",] == 2
        assert counts["bytes_total", "client_to_upstream"] == 0
        assert running.end()[0] == 0


def test_live():
    """A line of counts on the terminal, that follows what happens."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 200, 0, 0))
    shown = Screen(master)
    try:
        with Server(patient) as server:
            process = subprocess.Popen(
                [*SPLICEIO, "proxy", ANY, server.address, "--live"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=slave,
                # xdist says that there are 80 columns, and the line is longer.
                env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
            )
            os.close(slave)
            with process:
                try:
                    address = shown.until(r"listening on (\S+)\s")
                    shown.until(
                        "0 open, 0 accepted, 0 failed; 0 bytes there, 0 bytes back, 0 bytes/s"
                    )
                    with At(address).connect() as sock:
                        assert talks(sock, b"12345")
                        shown.until("1 open, 1 accepted, 0 failed; 5 bytes there, 5 bytes back, ")
                    shown.until(r"0 open, 1 accepted, .*; 0 of \d pipes in use")
                    process.send_signal(signal.SIGTERM)
                    rest = shown.rest()
                    assert process.wait(HANG) == 0
                finally:
                    process.kill()
        assert rest.endswith("\x1b[?25h")  # the cursor is back
        assert "Traceback" not in rest
    finally:
        os.close(master)


class Screen:
    """What a process has written to a terminal."""

    def __init__(self, master: int) -> None:
        self._master, self._new = master, ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def until(self, pattern: str) -> str:
        """Read until this is there, colours aside; return its group, and keep what follows it.

        What follows may have come in the same read, and is not written again unless it changes.
        """
        while not (found := re.search(pattern, self._new)):
            self._new += self._decode(os.read(self._master, 4096))
            self._new = re.sub(r"\x1b\[[\d;]*m", "", self._new)
        self._new = self._new[found.end() :]
        return found[found.re.groups]

    def rest(self) -> str:
        """Read until nobody has it open any more."""
        with contextlib.suppress(OSError):
            while part := os.read(self._master, 4096):
                self._new += self._decode(part)
        return self._new


# -- sockets that somebody else has opened ---------------------------------------------------------

WRAPPER = """
import os, sys
count, pid, *fds = sys.argv[1].split(",")
for number, fd in enumerate(fds, 3):
    os.dup2(int(fd), number)
os.environ["LISTEN_FDS"] = count
os.environ["LISTEN_PID"] = pid or str(os.getpid())
os.environ["LISTEN_FDNAMES"] = "web"
os.execv(sys.executable, [sys.executable, "-m", "spliceio", "proxy", *sys.argv[2:]])
"""


def passing(*files, count: str | None = None, pid: str = "") -> dict:
    """Start a command as systemd does, with these files from descriptor 3 on."""
    # From far above, so that none is overwritten before it has been copied.
    fds = [fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, 100) for file in files]
    spec = ",".join([str(len(files)) if count is None else count, pid, *map(str, fds)])
    return {"command": [sys.executable, "-c", WRAPPER, spec], "pass_fds": fds}


def close_passed(options: dict) -> None:
    """Close the copies that were made for a child."""
    for fd in options["pass_fds"]:
        os.close(fd)


def test_sockets_from_systemd(tmp_path):
    """LISTEN of "systemd" is all that were passed; they are not closed for others."""
    path = tmp_path / "s"
    with (
        Server(echo) as server,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(path))
        unix.listen()
        options = passing(tcp, unix)
        try:
            args = ["systemd", server.address, "--listen", ANY]
            with proxying(*args, listeners=3, **options) as running:
                assert running.addresses[:2] == [of_listener(tcp), f"unix:{path}"]
                for address in running.addresses:
                    assert ask(At(address), b"hello") == b"hello"
                assert running.end() == (0, "")
            assert path.exists()  # it is systemd's
            with (
                At(of_listener(tcp)).connect() as waits,  # in the backlog, for the next start
                proxying("systemd", server.address, listeners=2, **options) as running,
            ):
                assert talks(waits)
                waits.close()
                assert running.end() == (0, "")
            assert tcp.getblocking()
            assert os.get_blocking(tcp.fileno())
        finally:
            close_passed(options)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pid": "1"}, "systemd passed no sockets to this process (LISTEN_PID)"),
        ({"count": "0"}, "LISTEN_FDS"),
        ({"count": ""}, "LISTEN_FDS"),
        ({"count": "-1"}, "LISTEN_FDS"),
        ({"count": "x"}, "LISTEN_FDS"),
        ({"count": "2"}, "descriptor 4"),
        ("file", "descriptor 3"),
        ("silent", "has to listen"),
        ("datagram", "listen"),
    ],
    ids=str,
)
def test_what_systemd_passed_is_no_listener(given, text, tmp_path):
    """One line that says what is wrong with what, and 1."""
    (tmp_path / "file").touch()
    with contextlib.ExitStack() as stack:
        file = {
            "file": (tmp_path / "file").open,
            "silent": socket.socket,
            "datagram": lambda: socket.socket(type=socket.SOCK_DGRAM),
        }.get(str(given), lambda: socket.create_server(("127.0.0.1", 0)))()
        stack.enter_context(file)
        options = passing(file, **given if isinstance(given, dict) else {})
        stack.callback(close_passed, options)
        command = options.pop("command")
        done = subprocess.run(
            [*command, "systemd", ":1"], capture_output=True, timeout=HANG, **options
        )
        assert text in said(done)
        assert done.returncode == 1


def test_systemd_without_systemd():
    """Started by hand it says what to do."""
    done = run_command("proxy", "systemd", ":1")
    assert said(done).startswith("spliceio: proxy: systemd passed no sockets to this process")
    assert done.returncode == 1
