"""Descriptors 0 to 2 that are closed at the start, as by cron, a daemon's parent or `>&-`.

Every command runs with every set of them closed. What it needs and has not is an error before
anything happens; what it does not need makes no difference; no number is ever given to a file, a
socket or a pipe, where the bytes and words of somebody else would arrive.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from spliceio._cli.parser import NEEDS
from tests.support.cases import FULL
from tests.support.commands import COMMANDS, HANG, SPLICEIO
from tests.support.programs import need
from tests.support.states import Worker, until

STDIN, STDOUT, STDERR = 0, 1, 2
NAMES = {STDIN: "standard input", STDOUT: "standard output", STDERR: "standard error"}
SETS = [set(some) for n in range(1, 4) for some in itertools.combinations((0, 1, 2), n)]
DATA = b"the bytes\n"
NOBODY = b"the test itself"
FEED = b"typed\n"


def redirected(closed: set[int], command: list) -> list[str]:
    """Return a command that starts the other with these numbers closed."""
    how = " ".join(f"{fd}{'<' if fd == 0 else '>'}&-" for fd in sorted(closed))
    return [need("sh"), "-c", f'exec "$@" {how}', "sh", *map(os.fspath, command)]


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    err: bytes


def ended(closed: set[int], *args, cwd: Path, program=SPLICEIO) -> Done:
    """Run a command to its end; what is not closed is a pipe."""
    done = subprocess.run(
        redirected(closed, [*program, *args]),
        input=FEED,
        capture_output=True,
        timeout=HANG,
        cwd=cwd,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running(closed: set[int], *args, cwd: Path) -> Iterator[subprocess.Popen]:
    """Start a command that goes on; kill it in the end."""
    with subprocess.Popen(
        redirected(closed, [*SPLICEIO, *args]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=cwd,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def connected(path: Path, process: subprocess.Popen) -> socket.socket:
    """Connect to a command that is about to listen there."""
    found: list[socket.socket] = []

    def answers() -> bool:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            assert process.poll() is None, process.stderr.read()
            return False
        found.append(sock)
        return True

    until(answers)
    return found[0]


@contextlib.contextmanager
def peer(path: Path, answer: bytes = b"") -> Iterator[Callable[[], bytes]]:
    """Answer the first connection; give what returns its bytes, NOBODY's if there was none."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def serve() -> bytes:
            sock, _ = listener.accept()
            got = []
            with sock, contextlib.suppress(ConnectionError):
                got += iter(lambda: sock.recv(65536), b"")
                sock.sendall(answer)
            return b"".join(got)

        worker = Worker(serve)

        def came() -> bytes:
            with socket.socket(socket.AF_UNIX) as last, contextlib.suppress(ConnectionError):
                last.connect(os.fspath(path))
                last.sendall(NOBODY)
            return worker.result()

        try:
            yield came
        finally:
            came()


def refusal(name: str, closed: set[int], needs: tuple[int, ...]) -> Done | None:
    """Return how a command ends that needs what is closed; None if it does not."""
    missing = [fd for fd in needs if fd in closed]
    if not missing:
        return None
    said = f"spliceio: {name}{NAMES[missing[0]]}: Bad file descriptor\n".encode()
    return Done(1, b"", b"" if STDERR in closed else said)


def name_of(closed: set[int]) -> str:
    return "".join(map(str, sorted(closed))) or "none"


every_set = pytest.mark.parametrize("closed", [set(), *SETS], ids=name_of)
# Two that are closed are no more than each of them, but to a command that names the first.
MOST = [set(), *(SETS if FULL else [some for some in SETS if len(some) != 2])]
most_sets = pytest.mark.parametrize("closed", MOST, ids=name_of)


# -- commands that end by themselves ---------------------------------------------------------------


class Case(NamedTuple):
    """A command, what it needs, and what is there when it has worked."""

    args: list[str]
    needs: tuple[int, ...] = ()
    out: bytes | None = b""
    files: dict[str, bytes] = {}  # noqa: RUF012 - nobody changes it
    name: str | None = None


CASES = {
    "pipe": Case(["pipe"], (STDIN, STDOUT), FEED),
    "pipe-nothing": Case(["pipe", "-s", "0"], (STDIN, STDOUT)),
    "cp": Case(["cp", "a", "b"], files={"b": DATA}),
    "cp-stdin": Case(["cp", "-", "b"], (STDIN,), files={"b": FEED}),
    "cp-stdout": Case(["cp", "a", "-"], (STDOUT,), DATA),
    "cp-both": Case(["cp", "-", "-"], (STDIN, STDOUT), FEED),
    "trace-to-a-file": Case(["trace", "-o", "report", "--", "cp", "a", "b"], files={"b": DATA}),
    "trace": Case(["trace", "--", "cp", "a", "b"], (STDERR,), files={"b": DATA}),
    "explain": Case(["explain", "a", "tcp"], (STDOUT,), None),
    "explain-stdin": Case(["explain", "-", "tcp"], (STDIN, STDOUT), None),
    "explain-stdout": Case(["explain", "tcp", "-"], (STDOUT,), None),
    "features": Case(["features"], (STDOUT,), None),
    "help": Case(["--help"], (STDOUT,), None, name=""),
    "version": Case(["--version"], (STDOUT,), None, name=""),
}


@pytest.mark.parametrize(
    ("case", "closed"),
    [
        pytest.param(case, closed, id=f"{name}-{name_of(closed)}")
        for name, case in CASES.items()
        for closed in ([set(), *SETS] if name in ("pipe", "cp", "features") else MOST)
    ],
)
def test_what_is_closed_matters_to_who_needs_it(case, closed, tmp_path):
    """One line and status 1 with nothing done; or all of the work and its status."""
    if case.args[0] == "trace" and "--help" not in case.args:
        need("strace")
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "b").write_bytes(b"old")
    name = f"{case.args[0]}: " if case.name is None else case.name
    done = ended(closed, *case.args, cwd=tmp_path)
    refused = refusal(name, closed, case.needs)
    if refused is not None:
        assert done == refused
        assert (tmp_path / "b").read_bytes() == b"old"
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
        return
    assert done.status == 0, done
    assert done.err == b"" or case.needs == (STDERR,), done
    if case.out is None:
        assert done.out
    else:
        assert done.out == (b"" if STDOUT in closed else case.out)
    for file, data in case.files.items():
        assert (tmp_path / file).read_bytes() == data


@pytest.mark.parametrize("command", [*COMMANDS, "tee"])
def test_the_help_of_every_command_goes_to_standard_output_or_fails(command, tmp_path):
    """And not to standard error, where argparse would print it."""
    done = ended({STDOUT}, command, "--help", cwd=tmp_path)
    assert done == refusal("", {STDOUT}, (STDOUT,))


@every_set
def test_tee(closed, tmp_path):
    """It needs its input; without standard output it serves the files, and fails, as tee(1)."""
    (tmp_path / "f").write_bytes(b"old")
    done = ended(closed, "tee", "f", cwd=tmp_path)
    if STDIN in closed:
        assert done == refusal("tee: ", closed, (STDIN,))
        assert (tmp_path / "f").read_bytes() == b"old"
        return
    said = b"spliceio: tee: 'standard output': Bad file descriptor\n" if STDOUT in closed else b""
    assert done.err == (b"" if STDERR in closed else said)
    assert done.status == (1 if STDOUT in closed else 0)
    assert done.out == (b"" if STDOUT in closed else FEED)
    assert (tmp_path / "f").read_bytes() == FEED


@most_sets
@pytest.mark.parametrize("args", [["cp", "one"], ["proxy", ":0"]], ids=str)
def test_wrong_usage_is_told_on_standard_error_or_nowhere(args, closed, tmp_path):
    """The status is 2, and standard output gets nothing, in whatever state the rest is."""
    done = ended(closed, *args, cwd=tmp_path)
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith(b"usage: ") is (STDERR not in closed)


# -- commands with a peer --------------------------------------------------------------------------


@most_sets
@pytest.mark.parametrize("file", ["a", "-"])
def test_send(file, closed, tmp_path):
    """The peer gets the file; without standard input nobody connects to it."""
    (tmp_path / "a").write_bytes(DATA)
    with peer(tmp_path / "sock", b"an answer") as came:
        done = ended(closed, "send", file, f"unix:{tmp_path}/sock", cwd=tmp_path)
        refused = refusal("send: ", closed, (STDIN,) if file == "-" else ())
        assert done == (refused or Done(0, b"", b""))
        assert came() == (NOBODY if refused else FEED if file == "-" else DATA)


@most_sets
@pytest.mark.parametrize("file", ["f", "-"])
def test_recv(file, closed, tmp_path):
    """What the peer sends is in the file, and nothing comes back to it."""
    (tmp_path / "f").write_bytes(b"old")
    address = f"unix:{tmp_path}/sock"
    if refused := refusal("recv: ", closed, (STDOUT,) if file == "-" else ()):
        assert ended(closed, "recv", address, file, cwd=tmp_path) == refused
        assert not (tmp_path / "sock").exists()
        return
    with running(closed, "recv", address, file, cwd=tmp_path) as process:
        with connected(tmp_path / "sock", process) as sock:
            sock.sendall(DATA)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b""
        assert process.wait(HANG) == 0
        assert process.stdout.read() == (DATA if file == "-" else b"")
        assert process.stderr.read().count(b"\n") == (STDERR not in closed)
    assert (tmp_path / "f").read_bytes() == (b"old" if file == "-" else DATA)


@every_set
def test_connect(closed, tmp_path):
    """Nobody connects unless both streams are there: the peer never gets its own bytes back."""
    with peer(tmp_path / "sock", b"an answer") as came:
        done = ended(closed, "connect", f"unix:{tmp_path}/sock", cwd=tmp_path)
        refused = refusal("connect: ", closed, (STDIN, STDOUT))
        assert done == (refused or Done(0, b"an answer", b""))
        assert came() == (NOBODY if refused else FEED)


def path_only(pid: int, fd: int) -> bool:
    """Whether a number of a process is one that no byte can go through."""
    flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    return bool(int(re.search(r"flags:\s+(\d+)", flags)[1], 8) & os.O_PATH)


@most_sets
def test_the_log_of_serve_reaches_no_client(closed, tmp_path):
    """Two requests: two answers, and not a word between them or after them."""
    (tmp_path / "a").write_bytes(DATA)
    args = "serve", ".", "--bind", f"unix:{tmp_path}/sock"
    with running(closed, *args, cwd=tmp_path) as process:
        with connected(tmp_path / "sock", process) as sock:
            assert all(path_only(process.pid, fd) for fd in closed)
            sock.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            first = b""
            while not first.endswith(DATA):
                first += sock.recv(65536)
            sock.sendall(b"GET /none HTTP/1.0\r\n\r\n")
            second = b"".join(iter(lambda: sock.recv(65536), b""))
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 404 ")
        assert b'"GET' not in first + second
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 0
        assert process.stdout.read() == b""
        assert (b'"GET /none' in process.stderr.read()) is (STDERR not in closed)


@pytest.mark.parametrize(
    ("closed", "stats"),
    [*[(some, False) for some in MOST], (set(), True), ({STDOUT}, True), ({STDIN, STDERR}, True)],
    ids=str,
)
def test_the_log_of_proxy_reaches_no_connection(closed, stats, tmp_path):
    """A client and its upstream get each other's bytes, and nothing else."""
    args = ["proxy", "-v", f"unix:{tmp_path}/sock", f"unix:{tmp_path}/up"]
    args += ["--stats"] * stats
    with peer(tmp_path / "up", b"an answer") as came:
        if refused := refusal("proxy: ", closed, (STDOUT,) if stats else ()):
            assert ended(closed, *args, cwd=tmp_path) == refused
            assert not (tmp_path / "sock").exists()
            return
        with running(closed, *args, cwd=tmp_path) as process:
            with connected(tmp_path / "sock", process) as sock:
                sock.sendall(DATA)
                sock.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: sock.recv(65536), b"")) == b"an answer"
            assert came() == DATA
            assert all(path_only(process.pid, fd) for fd in closed)
            process.send_signal(signal.SIGTERM)
            assert process.wait(HANG) == 0
            assert bool(process.stdout.read()) is stats
            assert (b"listening on" in process.stderr.read()) is (STDERR not in closed)


# -- the numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["cp", "a", "b"],
        ["cp", "-p", "a", "b"],
        ["send", "a", "unix:up"],
        ["tee", "b"],
        ["serve", "none"],
        ["explain", "tcp", "unix"],
        ["proxy", "unix:a/x", "unix:up"],
    ],
    ids=" ".join,
)
def test_the_numbers_are_taken_before_the_work_and_until_the_end(args, tmp_path):
    """A number that is in use is given to nobody: once all are taken, none is closed again."""
    closed = {STDIN, STDOUT, STDERR}
    (tmp_path / "a").write_bytes(DATA)
    trace = tmp_path / "trace"
    strace = [need("strace"), "-f", "-o", trace, "-e", "trace=execve,openat,dup2,dup3,close"]
    with peer(tmp_path / "up"):
        subprocess.run(
            [*strace, *redirected(closed, [*SPLICEIO, *args])],
            input=FEED,
            capture_output=True,
            timeout=HANG,
            cwd=tmp_path,
        )
    begun = trace.read_text().rpartition("execve(")[2]
    taken = [
        found.end()
        for found in re.finditer(r"openat\(.*O_PATH.*\) = [012]\n|dup[23]\(\d+, [012]\b", begun)
    ]
    after = begun[taken[-1] :]
    assert {fd for fd in closed if f"close({fd})" in after} == set()
    assert " openat(" in after  # the command's own work
    assert {int(n) for n in re.findall(r"openat\(.*\) = (\d+)\n", after)} & closed == set()


# -- other ways to have no stream, and other ways to begin -----------------------------------------


@pytest.mark.parametrize(
    ("args", "redirection", "name"),
    [
        (["pipe"], "0>x", "standard input"),
        (["pipe"], "1<a", "standard output"),
        (["tee", "b"], "0>x", "standard input"),
        (["cp", "a", "-"], "1<a", "standard output"),
        (["features"], "1<a", "standard output"),
        (["connect", "unix:sock"], "1<a", "standard output"),
        (["send", "-", "unix:sock"], "0>x", "standard input"),
        (["recv", "unix:mine", "-"], "1<a", "standard output"),
    ],
    ids=str,
)
def test_open_the_wrong_way_is_as_good_as_closed(args, redirection, name, tmp_path):
    """It is told before anybody is connected to or listened for."""
    (tmp_path / "a").write_bytes(DATA)
    with peer(tmp_path / "sock") as came:
        done = subprocess.run(
            [need("sh"), "-c", f'exec "$@" {redirection}', "sh", *SPLICEIO, *args],
            input=FEED,
            capture_output=True,
            timeout=HANG,
            cwd=tmp_path,
        )
        assert came() == NOBODY
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"spliceio: {args[0]}: {name}: Bad file descriptor\n"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("args", "closed"),
    [
        (["cp", "a", "/dev/stdout"], {STDOUT}),
        (["cp", "a", "/dev/fd/1"], {STDIN, STDOUT}),
        (["cp", "/dev/stdin", "b"], {STDIN}),
        (["tee", "/dev/stderr"], {STDERR}),
        (["send", "/dev/stdin", "unix:sock"], {STDIN}),
        (["recv", "unix:mine", "/dev/stdout"], {STDOUT}),
        (["explain", "/dev/stdin", "tcp"], {STDIN}),
    ],
    ids=str,
)
def test_a_path_to_a_closed_stream_leads_nowhere(args, closed, tmp_path):
    """It fails, and neither is a file made nor is anything written that nobody sees."""
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "b").write_bytes(b"old")
    with peer(tmp_path / "sock") as came:
        done = ended(closed, *args, cwd=tmp_path)
        assert came() == NOBODY
    assert done.status == 1
    assert b"Traceback" not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "sock"}
    assert (tmp_path / "b").read_bytes() == b"old"


@pytest.mark.parametrize("closed", [{0}, {1, 2}, {0, 1, 2}], ids=str)
def test_without_proc_or_sockets(closed, tmp_path):
    """What takes the numbers is another thing then, and nobody can tell."""
    (tmp_path / "a").write_bytes(DATA)
    inject = [need("strace"), "-f", "-o", "/dev/null", "-e", "inject=socket:error=EPERM"]
    command = [need("sh"), "-c", 'exec "$@"', "sh"]
    for args, needs, out in (
        (["cp", "a", "b"], (), b""),
        (["pipe"], (STDIN, STDOUT), FEED),
        (["--version"], (STDOUT,), None),
    ):
        done = ended(set(), *inject, *redirected(closed, [*SPLICEIO, *args]), cwd=tmp_path,
                     program=command)  # fmt: skip
        refused = refusal("" if out is None else f"{args[0]}: ", closed, needs)
        assert refused in (None, done)
        assert refused or done.status == 0
    assert (tmp_path / "b").read_bytes() == DATA


STRANGER = """
import os, sys
assert os.open(sys.argv.pop(1), os.O_RDWR) == 0
from spliceio.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("args", [["pipe"], ["cp", "-", "b"]], ids=str)
def test_a_number_that_somebody_else_has_got_before(args, tmp_path):
    """A profiler or a .pth file may have opened something: that is not standard input."""
    (tmp_path / "a").write_bytes(b"secret")
    program = [sys.executable, "-c", STRANGER, "a"]
    done = ended({STDIN}, *args, cwd=tmp_path, program=program)
    assert done == refusal(f"{args[0]}: ", {STDIN}, (STDIN,))
    assert (tmp_path / "a").read_bytes() == b"secret"
    assert not (tmp_path / "b").exists()


CALLER = """
import os, sys
closed = set(map(int, sys.argv[1:]))
from spliceio.__main__ import main
before = sorted(os.listdir("/proc/self/fd"))
assert main(["cp", "a", "b"]) == 0
if closed & {0, 1}:
    assert main(["pipe"]) == 1
if 0 in closed:
    assert main(["cp", "-", "b"]) == 1
assert sorted(os.listdir("/proc/self/fd")) == before
"""


@every_set
def test_a_call_in_a_process_leaves_its_descriptors_alone(closed, tmp_path):
    """The numbers that are closed stay closed; a command that needs one says so."""
    (tmp_path / "a").write_bytes(DATA)
    done = ended(closed, *map(str, closed), cwd=tmp_path, program=[sys.executable, "-c", CALLER])
    assert done.status == 0, done
    assert (tmp_path / "b").read_bytes() == DATA


def test_wrong_usage_is_2_where_standard_error_is_full(tmp_path):
    """What cannot be told does not change the status."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*SPLICEIO, "cp"], stderr=full, timeout=HANG, cwd=tmp_path)
    assert done.returncode == 2


LEFT = """
import os, sys
from spliceio.__main__ import main
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
assert main(["features"]) == 141
assert os.path.samestat(os.fstat(1), os.fstat(writer))
os.dup2(2, 1)
"""


def test_a_call_whose_reader_has_gone_leaves_standard_output_where_it_is(tmp_path):
    """Only the program itself turns it to nowhere, as it is about to end."""
    done = ended(set(), cwd=tmp_path, program=[sys.executable, "-c", LEFT])
    assert done.status == 0, done


@most_sets
def test_a_traced_command_has_what_it_would_have(closed, tmp_path):
    """Numbers that are closed are closed for it, too."""
    need("strace")
    script = "for fd in 0 1 2; do if [ -e /proc/$$/fd/$fd ]; then echo $fd >>open; fi; done"
    done = ended(closed, "trace", "-o", "report", "--", "sh", "-c", script, cwd=tmp_path)
    assert done.status == 0, done
    found = (tmp_path / "open").read_text().split() if (tmp_path / "open").exists() else []
    assert set(map(int, found)) == {0, 1, 2} - closed


def test_the_installed_script_takes_the_numbers_too(tmp_path):
    """It begins in another way than `python -m`."""
    script = Path(sysconfig.get_path("scripts"), "spliceio")
    with peer(tmp_path / "sock", b"an answer") as came:
        done = ended({0, 1}, "connect", f"unix:{tmp_path}/sock", cwd=tmp_path, program=[script])
        assert done == refusal("connect: ", {0, 1}, (STDIN,))
        assert came() == NOBODY


def test_every_command_says_what_it_needs():
    """There is one table, and it has exactly the commands."""
    assert set(NEEDS) == {*COMMANDS, "tee"}
