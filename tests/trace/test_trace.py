"""`spliceio trace` on programs that nobody here wrote, and on scripts whose every byte is known."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spliceio._cli import trace as _trace
from spliceio._trace import processes as _processes
from spliceio._trace import report as _trace_words
from spliceio._trace.parser import Lines
from spliceio._trace.stats import MOST_PATHS, MOST_PROGRAMS, Stats
from tests.support.commands import HANG, SPLICEIO, run, run_program, said, started, unused_port
from tests.support.programs import answers, need
from tests.support.states import process_state, until
from tests.support.wires import MIB, payload

PYTHON = Path(sys.executable).name[:15]

pytestmark = pytest.mark.usefixtures("strace")


@pytest.fixture
def strace():
    """Every test here needs it."""
    return need("strace")


def kill_group(leader: int) -> None:
    """End whatever is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@contextlib.contextmanager
def tracing(*args, **options):
    """Start a trace in a session of its own; in the end nothing is left of it, nor its command."""
    with started("trace", *args, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            kill_group(process.pid)


def traced(tmp_path, *command, status: int = 0, **options) -> dict:
    """Run a command to its end; return the report."""
    out = tmp_path / "report.json"
    done = run_program("trace", "--json", "-o", out, "--", *command, **options)
    assert done.returncode == status, done.stderr.decode()
    return json.loads(out.read_text())


def program(report: dict, name: str = PYTHON) -> dict:
    """What one program did."""
    (found,) = [one for one in report["programs"] if one["name"] == name]
    return found


def calls(found: dict, kind: str) -> dict[str, dict]:
    """The calls to one kind of destination, by name."""
    for destination in found["destinations"]:
        if destination["kind"] == kind:
            return {call["call"]: call for call in destination["calls"]}
    return {}


def destination(found: dict, kind: str) -> dict:
    """One kind of destination."""
    (it,) = [one for one in found["destinations"] if one["kind"] == kind]
    return it


def script(tmp_path, text: str) -> list[str]:
    """Write a Python script; return the command that runs it."""
    path = tmp_path / "script.py"
    path.write_text(text)
    return [sys.executable, "-I", "-S", str(path)]


# -- scripts whose bytes are known -----------------------------------------------------------------


def test_every_byte_is_counted_where_it_went(tmp_path):
    """sendfile, sendall, write and an error, to sockets, a pipe, a file, memory and devices."""
    (tmp_path / "film").write_bytes(bytes(300_000))
    text = f"""
import os, socket
def drain(sock, left):
    while left:
        left -= len(sock.recv(left))
film = os.open({str(tmp_path / "film")!r}, os.O_RDONLY)
one, two = socket.socketpair()
listener = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(listener.getsockname())
far, _ = listener.accept()
for count in (10_000, 20_000, 30_000):
    assert os.sendfile(near.fileno(), film, 0, count) == count
    drain(far, count)
assert os.sendfile(one.fileno(), film, 0, 5_000) == 5_000
near.sendall(bytes(4_000)); drain(far, 4_000); drain(two, 5_000)
near.setblocking(False)
try:
    near.recv(1)
except BlockingIOError:
    pass
reader, writer = os.pipe()
assert os.write(writer, bytes(700)) == 700
assert os.splice(film, writer, 1_000, offset_src=5) == 1_000
target = os.open({str(tmp_path / "a > b")!r}, os.O_WRONLY | os.O_CREAT)
assert os.pwrite(target, bytes(123), 0) == 123
assert os.writev(target, [bytes(7), bytes(8)]) == 15
memory = os.memfd_create("some memory")
assert os.write(memory, bytes(77)) == 77
assert os.sendfile(memory, film, 0, 50) == 50
null = os.open("/dev/null", os.O_WRONLY)
assert os.write(null, bytes(9)) == 9
"""
    report = traced(tmp_path, *script(tmp_path, text))
    found = program(report)
    assert report["unparsed"] == 0

    sockets = calls(found, "socket")
    assert {name: (c["bytes"], c["calls"]) for name, c in sockets.items()} == {
        "sendfile": (65_000, 4),
        "sendto": (4_000, 1),
    }
    assert sockets["sendfile"]["mean"] == 16_250
    assert destination(found, "socket")["zero_copy_bytes"] == 65_000
    assert destination(found, "socket")["zero_copy_share"] == pytest.approx(65 / 69)
    pipes = calls(found, "pipe")
    assert (pipes["splice"]["bytes"], pipes["write"]["bytes"]) == (1_000, 700)
    files = calls(found, "file")
    assert (files["pwrite64"]["bytes"], files["writev"]["bytes"]) == (123, 15)
    memory = calls(found, "memory")
    assert (memory["write"]["bytes"], memory["sendfile"]["bytes"]) == (77, 50)
    assert calls(found, "device")["write"]["bytes"] == 9

    taken = {(one["kind"], one["call"]): one for one in found["read"]}
    assert taken["socket", "recvfrom"]["bytes"] == 69_000
    assert taken["socket", "recvfrom"]["errors"] == {"EAGAIN": 1}
    film = str(tmp_path / "film")
    assert {(one["path"], one["to"]): one["bytes"] for one in found["sent_paths"]} == {
        (film, "socket"): 65_000,
        (film, "pipe"): 1_000,
        (film, "memory"): 50,
    }
    assert found["summary"] == f"{PYTHON}: 94.2 % of 69 kB to sockets by sendfile; 4.0 kB by sendto"
    assert found["verdict"] == (
        f"Yes: {PYTHON} uses sendfile for 94.2 % of what went to sockets; the rest went by sendto, "
        "a copy through user memory."
    )


def test_a_relay_by_splice_is_socket_to_socket(tmp_path):
    """Its pipe is the way, not the destination; the same for a file that is spliced to a socket."""
    (tmp_path / "film").write_bytes(bytes(9_000))
    text = f"""
import os, socket
a, b = socket.socketpair()
c, d = socket.socketpair()
reader, writer = os.pipe()
for _ in range(10):
    a.sendall(bytes(4_000))
    assert os.splice(b.fileno(), writer, 4_000) == 4_000
    assert os.splice(reader, c.fileno(), 4_000) == 4_000
    left = 4_000
    while left:
        left -= len(d.recv(left))
film = os.open({str(tmp_path / "film")!r}, os.O_RDONLY)
assert os.splice(film, writer, 9_000) == 9_000
assert os.splice(reader, c.fileno(), 9_000) == 9_000
assert os.splice(film, writer, 9_000) == 0
"""
    found = program(traced(tmp_path, *script(tmp_path, text)))
    (pipe,) = calls(found, "pipe").values()
    assert (pipe["call"], pipe["bytes"], pipe["through"]) == ("splice", 49_000, 49_000)
    assert destination(found, "pipe")["bytes"] == 0
    assert calls(found, "socket")["splice"]["bytes"] == 49_000
    sent = {(one["path"], one["to"]): one["bytes"] for one in found["sent_paths"]}
    assert sent["a UNIX-STREAM socket", "socket"] == 40_000
    assert sent[str(tmp_path / "film"), "socket"] == 9_000


def test_what_was_tried_and_refused_is_told(tmp_path):
    """Sendfile to a file that is open for appending: EINVAL, then write."""
    text = f"""
import os
data = os.open({str(tmp_path / "script.py")!r}, os.O_RDONLY)
log = os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
try:
    os.sendfile(log, data, 0, 10)
except OSError:
    os.write(log, bytes(10))
"""
    found = program(traced(tmp_path, *script(tmp_path, text)))
    assert calls(found, "file")["sendfile"]["errors"] == {"EINVAL": 1}
    assert found["verdict"].startswith(f"No: with {PYTHON}, everything to files went by write")
    assert found["verdict"].endswith("sendfile was tried and failed (EINVAL).")


def test_many_messages_at_once(tmp_path):
    """Sendmmsg returns messages, and is counted in bytes; vmsplice goes from memory to a pipe."""
    text = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
class Iov(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("size", ctypes.c_size_t)]
class Header(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint),
                ("iov", ctypes.POINTER(Iov)), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]
class Message(ctypes.Structure):
    _fields_ = [("header", Header), ("size", ctypes.c_uint)]
messages, kept = (Message * 40)(), []
for number, message in enumerate(messages):
    kept.append((Iov * 1)(Iov(bytes(100), number + 1)))
    message.header.iov, message.header.iovlen = kept[-1], 1
one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
assert libc.sendmmsg(one.fileno(), messages, 40, 0) == 40
assert libc.recvmmsg(two.fileno(), messages, 40, 0, None) == 40
reader, writer = os.pipe()
pair = (Iov * 2)(Iov(b"abc", 3), Iov(b"defgh", 5))
assert libc.vmsplice(writer, pair, ctypes.c_size_t(2), 0) == 8
"""
    found = program(traced(tmp_path, *script(tmp_path, text)))
    assert calls(found, "socket")["sendmmsg"]["bytes"] == 820
    assert calls(found, "pipe")["vmsplice"]["bytes"] == 8
    (taken,) = [one for one in found["read"] if one["call"] == "recvmmsg"]
    assert taken["bytes"] == 820


def test_threads_and_children_are_counted(tmp_path):
    """Four threads of one program, which then becomes sh, which starts cat and dd."""
    (tmp_path / "film").write_bytes(bytes(5_000))
    text = f"""
import os, threading
target = os.open({str(tmp_path / "out")!r}, os.O_WRONLY | os.O_CREAT)
def work():
    for _ in range(50):
        os.write(target, bytes(10))
# From Python 3.14 on the name is the kernel's too, and one that has ended is known by nothing else.
threads = [threading.Thread(target=work, name={PYTHON!r}) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
os.execvp("sh", ["sh", "-c", "cat film > copy; dd if=film of=other bs=1000 status=none"])
"""
    report = traced(tmp_path, *script(tmp_path, text), cwd=tmp_path, env=with_package())
    assert {"sh", "cat", "dd", PYTHON} == {one["name"] for one in report["programs"]}
    assert calls(program(report), "file")["write"]["bytes"] == 2_000
    assert sum(c["bytes"] for c in calls(program(report, "cat"), "file").values()) == 5_000
    dd = calls(program(report, "dd"), "file")["write"]
    assert (dd["bytes"], dd["calls"], dd["mean"]) == (5_000, 5, 1_000)


def with_package(**more: str) -> dict[str, str]:
    """An environment in which `python -m spliceio` works in any directory."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **more}


# -- core utilities --------------------------------------------------------------------------------


def test_cp_copies_without_a_copy(tmp_path):
    """Or by what this file system lets it: the figures add up to the file."""
    (tmp_path / "film").write_bytes(payload(MIB))
    report = traced(tmp_path, "cp", "--reflink=never", tmp_path / "film", tmp_path / "copy")
    assert destination(program(report, "cp"), "file")["bytes"] == MIB
    report = traced(tmp_path, "cp", "--reflink=auto", tmp_path / "film", tmp_path / "copy2")
    cp = program(report, "cp")
    assert set(calls(cp, "file")) & {"copy_file_range", "write"}
    if "copy_file_range" in calls(cp, "file"):
        assert cp["verdict"] == "Yes: cp uses copy_file_range for all that went to files."
        (sent,) = cp["sent_paths"]
        assert sent == {"path": str(tmp_path / "film"), "to": "file", "bytes": MIB}


def test_dd_copies_through_user_memory(tmp_path):
    """The path that was read, and how much of it; as a table for a person."""
    (tmp_path / "a film > b é").write_bytes(payload(MIB))
    done = run_program(
        "trace", "dd", f"if={tmp_path}/a film > b é", f"of={tmp_path}/o", "bs=64K", "status=none"
    )
    assert (done.returncode, done.stdout) == (0, b"")
    text = done.stderr.decode()
    assert text.startswith(
        "dd: 100 % of 1.0 MB to files by write\nNo: with dd, everything to files"
    )
    assert re.search(r"^  files  write  1\.0 MB  100 %     16  66 kB$", text, re.M)
    assert f"1.0 MB  {tmp_path}/a film > b é\n" in text
    assert "Without a copy to files: 0.0 %." in text


def test_standard_output_is_the_commands(tmp_path):
    """Cat into a pipe: its bytes on standard output, the report on standard error."""
    data = payload(MIB)
    (tmp_path / "film").write_bytes(data)
    done = run_program("trace", "--", "cat", tmp_path / "film")
    assert (done.returncode, done.stdout == data) == (0, True)
    assert done.stderr.startswith(b"cat: 100 % of 1.0 MB to pipes by ")
    done = run_program("trace", "cat", input=data)
    assert (done.returncode, done.stdout == data) == (0, True)


def test_our_own_pipe_is_zero_copy(tmp_path):
    """`spliceio pipe` under `spliceio trace`."""
    data = payload(3 * MIB)
    (tmp_path / "film").write_bytes(data)
    with open(tmp_path / "film", "rb") as film:
        done = run_program(
            "trace", "--json", "-o", tmp_path / "r", "--", *SPLICEIO, "pipe", stdin=film
        )
    assert (done.returncode, done.stdout == data) == (0, True)
    found = program(json.loads((tmp_path / "r").read_text()))
    assert calls(found, "pipe")["splice"]["bytes"] == 3 * MIB
    assert destination(found, "pipe")["zero_copy_share"] == 1.0


def test_nothing_seen_is_said():
    """A program without one I/O call that is traced."""
    text = _trace_words.report(Stats(lambda pid, comm: "x"), 0)
    assert text.startswith("Nothing was seen: none of the traced I/O calls was made.\n")
    assert "mmap" in text


# -- servers ---------------------------------------------------------------------------------------


def download(port: int, path: str) -> bytes:
    """Get one file over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


@pytest.fixture
def site(tmp_path):
    """A directory with one film."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "film.mp4").write_bytes(payload(5 * MIB))
    return tmp_path / "site"


def nginx(site: Path, port: int, sendfile: str) -> list:
    """Return a command: a master that stays in the foreground, one worker."""
    work = site.parent / "nginx"
    work.mkdir()
    temporary = "".join(
        f"{name}_temp_path {work}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # or the worker cannot read the directory
    (work / "conf").write_text(
        f"daemon off; worker_processes 1; {user} pid {work}/pid; error_log {work}/log;\n"
        f"events {{}}\nhttp {{ access_log off; sendfile {sendfile}; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; root {site}; }} }}\n"
    )
    return [need("nginx"), "-p", work, "-e", work / "log", "-c", work / "conf"]


@contextlib.contextmanager
def serving(report: Path, port: int, *command):
    """Trace a server until SIGTERM, which is passed on to it."""
    with tracing("--json", "-o", report, "--", *command, stderr=None) as process:
        until(answers(process, port))
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(HANG)


@pytest.mark.parametrize("sendfile", ["on", "off"])
def test_nginx(site, tmp_path, sendfile):
    """Its configuration is seen from outside."""
    port, out = unused_port(), tmp_path / "r"
    film = payload(5 * MIB)
    with serving(out, port, *nginx(site, port, sendfile)) as process:
        for _ in range(2):
            assert download(port, "/film.mp4") == film
    assert process.returncode == 0
    report = json.loads(out.read_text())
    found = program(report, "nginx")
    assert report["unparsed"] == 0
    sockets = calls(found, "socket")
    if sendfile == "on":
        assert sockets["sendfile"]["bytes"] == 10 * MIB
        assert re.match(
            r"nginx: 99\.9 % of 10 MB to sockets by sendfile; \d+ B by", found["summary"]
        )
        assert found["verdict"].startswith("Yes: nginx uses sendfile for 99.9 % of what went to so")
        sent = {(one["path"], one["to"]): one["bytes"] for one in found["sent_paths"]}
        assert sent == {(str(site / "film.mp4"), "socket"): 10 * MIB}
    else:
        assert "sendfile" not in sockets
        assert sockets["writev"]["bytes"] > 10 * MIB
        assert found["verdict"].startswith("No: with nginx, everything to sockets went by writev")
        read = {one["path"]: one["bytes"] for one in found["read_paths"]}
        assert read[str(site / "film.mp4")] == 10 * MIB


def test_the_standard_librarys_server(site, tmp_path):
    """It copies, and the file that it read is named."""
    port, out = unused_port(), tmp_path / "r"
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", site, str(port)]
    with serving(out, port, *command) as process:
        assert download(port, "/film.mp4") == payload(5 * MIB)
    assert process.returncode == 128 + signal.SIGTERM
    found = program(json.loads(out.read_text()))
    assert destination(found, "socket")["zero_copy_bytes"] == 0
    # The signal may end it before strace has counted the last of its calls.
    assert destination(found, "socket")["bytes"] > 4 * MIB
    assert found["verdict"].startswith(f"No: with {PYTHON}, everything to sockets went by sendto:")
    read = {one["path"]: one["bytes"] for one in found["read_paths"]}
    assert read[str(site / "film.mp4")] == 5 * MIB


@pytest.mark.parametrize("option", [[], ["--no-sendfile"]], ids=["sendfile", "no-sendfile"])
def test_gunicorn(site, tmp_path, option):
    """wsgi.file_wrapper is sendfile, unless it is told otherwise."""
    if importlib.util.find_spec("gunicorn") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("gunicorn is not installed")
    (tmp_path / "served.py").write_text(
        "def app(environ, start_response):\n"
        f"    film = open({str(site / 'film.mp4')!r}, 'rb')\n"
        f"    start_response('200 OK', [('Content-Length', '{5 * MIB}')])\n"
        "    return environ['wsgi.file_wrapper'](film, 65536)\n"
    )
    port, out = unused_port(), tmp_path / "r"
    options = ["-b", f"127.0.0.1:{port}", "--chdir", tmp_path, "--no-control-socket", *option]
    with serving(out, port, sys.executable, "-m", "gunicorn", *options, "served:app") as process:
        assert download(port, "/") == payload(5 * MIB)
    assert process.returncode == 0
    report = json.loads(out.read_text())
    sent = sum(
        calls(one, "socket").get("sendfile", {"bytes": 0})["bytes"] for one in report["programs"]
    )
    assert sent == (0 if option else 5 * MIB)
    word = "No" if option else "Yes"
    assert any(one["verdict"].startswith(f"{word}: ") for one in report["programs"])


def test_our_own_server(site, tmp_path):
    """`spliceio serve` uses sendfile for every byte of the file."""
    out = tmp_path / "r"
    command = [*SPLICEIO, "serve", site, "--bind", "127.0.0.1:0"]
    with tracing("--json", "-o", out, "--", *command) as process:
        line = process.stderr.readline().decode()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        assert found, line
        assert download(int(found[1]), "/film.mp4") == payload(5 * MIB)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=HANG)
    found = program(json.loads(out.read_text()))
    assert calls(found, "socket")["sendfile"]["bytes"] == 5 * MIB
    assert {"path": str(site / "film.mp4"), "to": "socket", "bytes": 5 * MIB} in found["sent_paths"]
    assert found["verdict"].startswith(f"Yes: {PYTHON} uses sendfile for 9")


# -- attached to a process -------------------------------------------------------------------------


def may_attach() -> None:
    """Skip, or fail where CI is set, if only a parent may trace its children."""
    with contextlib.suppress(FileNotFoundError):
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
        if scope != "0" and os.geteuid() != 0:
            reason = f"kernel.yama.ptrace_scope is {scope}: be root, or set it to 0"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextlib.contextmanager
def attached(*args):
    """Start `trace -p`; go on when strace has attached."""
    may_attach()
    with tracing(*args) as tracer:
        line = tracer.stderr.readline().decode()
        assert re.fullmatch(r"tracing (1 process|\d+ processes); Ctrl-C ends it\n", line), line
        yield tracer


def test_attached_to_a_server_and_let_go(site, tmp_path):
    """Master and worker by the PID of the master; after Ctrl-C nginx goes on as before."""
    port = unused_port()
    film = payload(5 * MIB)
    with subprocess.Popen([*map(str, nginx(site, port, "on"))]) as server:
        try:
            until(answers(server, port))
            # The worker answers only after it has been forked.
            assert download(port, "/film.mp4") == film
            with attached("-p", str(server.pid)) as tracer:
                assert download(port, "/film.mp4") == film
                idle(*_processes.descendants([server.pid]))
                os.killpg(tracer.pid, signal.SIGINT)  # as a terminal does
                out, err = tracer.communicate(timeout=HANG)
            assert (tracer.returncode, err) == (0, b"")
            text = out.decode()
            assert text.startswith("nginx: 99.9 % of 5.2 MB to sockets by sendfile; ")
            assert f"5.2 MB  {site}/film.mp4 to sockets\n" in text
            assert _processes.descendants([server.pid])[1:]
            for pid in _processes.descendants([server.pid]):
                assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
            assert download(port, "/film.mp4") == film
        finally:
            server.terminate()
            server.wait(HANG)


RUNS_LINES = "import os, sys\nfor line in sys.stdin:\n    exec(line)\n"


@contextlib.contextmanager
def waiting(tmp_path):
    """Run a script that says "up", and goes on for each line it gets."""
    command = script(tmp_path, f"print('up', flush=True)\n{RUNS_LINES}")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, bufsize=0, **pipes) as process:
        try:
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


def idle(*pids: int) -> None:
    """Wait until processes that have answered wait for more: then strace has told the answer."""
    until(lambda: all(process_state(pid) == "S" for pid in pids))


def test_the_end_of_the_process_is_the_end_of_the_trace(tmp_path):
    """Every call that began after strace came is counted, and the one before it at most once."""
    line = b"os.write(1, b'12345\\n')\n"
    with waiting(tmp_path) as process, attached("-p", f"{process.pid}", "--json") as tracer:
        for _ in range(2):
            process.stdin.write(line)
            assert process.stdout.readline() == b"12345\n"
        process.stdin.close()
        process.wait(HANG)
        out, err = tracer.communicate(timeout=HANG)
        assert (tracer.returncode, err) == (0, b"")
    found = program(json.loads(out))
    assert calls(found, "pipe")["write"]["bytes"] == 12
    (taken,) = [one for one in found["read"] if one["kind"] == "pipe"]
    assert taken["bytes"] in (len(line), 2 * len(line))


def test_new_children_are_followed_and_lists_are_taken(tmp_path):
    """Two processes by one -p, a third by another; a child that is born later; no one twice."""
    with contextlib.ExitStack() as stack:
        folders = [tmp_path / name for name in "abc"]
        for folder in folders:
            folder.mkdir()
        one, two, three = (stack.enter_context(waiting(folder)) for folder in folders)
        lists = ["-p", f"{one.pid},{two.pid}", "-p", f"{three.pid} {one.pid}"]
        tracer = stack.enter_context(attached(*lists, "--json"))
        for process in (one, two):
            process.stdin.write(b"os.write(1, b'12345\\n')\n")
            assert process.stdout.readline() == b"12345\n"
        dd = "'dd', 'if=/dev/zero', 'bs=1000', 'count=7', 'status=none'"
        three.stdin.write(
            f"import subprocess; subprocess.run([{dd}]); print(flush=True)\n".encode()
        )
        assert three.stdout.readline() == bytes(7000) + b"\n"
        idle(one.pid, two.pid, three.pid)
        tracer.send_signal(signal.SIGTERM)
        out, _ = tracer.communicate(timeout=HANG)
    assert tracer.returncode == 0
    report = json.loads(out)
    assert calls(program(report), "pipe")["write"]["bytes"] == 2 * 6 + 1
    assert calls(program(report, "dd"), "pipe")["write"]["calls"] == 7


def test_threads_belong_to_their_program(tmp_path):
    """Whatever a thread called itself before strace came."""
    text = """
import os, threading
def work():
    with open("/proc/thread-self/comm", "w") as comm:
        comm.write("a worker")
    for _ in range(2):
        os.write(theirs[1], os.read(ours[0], 1))
def ask():
    os.write(ours[1], b"?")
    os.read(theirs[0], 1)
ours, theirs = os.pipe(), os.pipe()
thread = threading.Thread(target=work)
thread.start()
ask()
"""
    with waiting(tmp_path) as process:
        process.stdin.write(f"exec({text!r}, globals()); print('named', flush=True)\n".encode())
        assert process.stdout.readline() == b"named\n"
        names = {path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")}
        assert names == {f"{PYTHON}\n", "a worker\n"}
        with attached("-p", str(process.pid), "--json") as tracer:
            process.stdin.write(b"ask(); thread.join(); os.write(1, b'done\\n')\n")
            assert process.stdout.readline() == b"done\n"
            idle(process.pid)
            tracer.send_signal(signal.SIGINT)
            out, _ = tracer.communicate(timeout=HANG)
    (found,) = json.loads(out)["programs"]
    assert found["name"] == PYTHON
    assert calls(found, "pipe")["write"]["bytes"] == 1 + 1 + len("done\n")


def test_a_thread_that_has_ended_still_belongs_to_its_program():
    """Known from before the trace; a process that has ended is called as strace calls it."""
    gone = 2**22 + 1  # above the kernel's PID_MAX_LIMIT
    assert _processes.program_of(gone, "a worker", {gone: "app"}) == "app"
    assert _processes.program_of(gone, "cat", {}) == "cat"
    assert _processes.program_of(gone, None, {}) == "?"
    assert _processes.program_of(os.getpid(), "new name", {}) == "new name"
    assert os.getpid() not in _processes.threads([os.getpid(), gone])


def test_a_shell_that_asks_about_itself(tmp_path):
    """We are among its children, and are left out: the trace ends, and the shell goes on."""
    may_attach()
    command = f"{sys.executable} -m spliceio trace -p $$ --seconds 0.2; echo done"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"done")
    assert done.stderr == b"tracing 1 process; Ctrl-C ends it\n"


def test_one_of_two_cannot_be_traced(tmp_path):
    """It is named; the other is traced to its end."""
    (tmp_path / "two").mkdir()
    with (
        waiting(tmp_path) as one,
        waiting(tmp_path / "two") as two,
        attached("-p", str(one.pid)),
        attached("-p", f"{one.pid},{two.pid}") as tracer,
    ):
        two.stdin.write(b"os.write(1, b'12345\\n')\n")
        assert two.stdout.readline() == b"12345\n"
        two.stdin.close()
        out, err = tracer.communicate(timeout=HANG)
    assert tracer.returncode == 0
    assert out.startswith(f"{PYTHON}: 100 % of 6 B to pipes by write\n".encode())
    assert err.startswith(f"spliceio: trace: {one.pid} ({PYTHON}) is already traced, by ".encode())


def test_seconds_end_it(tmp_path):
    """Without Ctrl-C; nothing happened, and that is said."""
    may_attach()
    with waiting(tmp_path) as process:
        done = run_program("trace", "-p", str(process.pid), "--seconds", "0.2")
        assert done.returncode == 0
        assert done.stdout.startswith(b"Nothing was seen")
        process.stdin.write(b"print(5, flush=True)\n")
        assert process.stdout.readline() == b"5\n"


def let_go(pid: int) -> bool:
    """Say whether a process has no tracer and is not stopped."""
    status = Path(f"/proc/{pid}/status").read_text()
    return "\nTracerPid:\t0\n" in status and not re.search(r"^State:\t[tT]", status, re.M)


def end(tracer: subprocess.Popen, how: signal.Signals | None) -> tuple[bytes, bytes]:
    """End a trace by a signal or, with None, by its --seconds; return what it said."""
    if how is not None:
        tracer.send_signal(how)
    out, err = tracer.communicate(timeout=HANG)
    assert tracer.returncode == 0, err
    return out, err


ENDS = pytest.mark.parametrize("how", [None, signal.SIGINT, signal.SIGTERM])


@ENDS
def test_a_process_that_cannot_stop_holds_up_nothing(tmp_path, how):
    """A parent in vfork(2), whose child opens a FIFO that nobody writes: strace would wait.

    That the trace ends while the FIFO has no writer is the behaviour; HANG bounds it.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opens = f"[(os.POSIX_SPAWN_OPEN, 5, {os.fspath(fifo)!r}, os.O_RDONLY, 0)]"
    seconds = [] if how else ["--seconds", "0.5"]
    (tmp_path / "other").mkdir()
    with waiting(tmp_path) as process, waiting(tmp_path / "other") as other:
        with attached("-p", f"{process.pid},{other.pid}", *seconds) as tracer:
            process.stdin.write(
                f"os.waitpid(os.posix_spawn('/bin/true', ['true'], {{}}, file_actions={opens}), 0);"
                "print('spawned', flush=True)\n".encode()
            )
            until(lambda: process_state(process.pid) == "D")
            (child,) = _processes.children(process.pid)
            until(lambda: process_state(child) == "S")  # in open()
            end(tracer, how)
        assert process_state(process.pid) == "D"
        assert all(let_go(pid) for pid in (process.pid, child, other.pid))
        other.stdin.write(b"print(5, flush=True)\n")
        assert other.stdout.readline() == b"5\n"
        fifo.write_bytes(b"")
        assert process.stdout.readline() == b"spawned\n"


HERD = """
import mmap, os, time
moves = mmap.mmap(-1, 32)
def work(number):
    null = os.open("/dev/null", os.O_WRONLY)
    while True:
        os.write(null, b"x")
        if number % 8 == 0:
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        elif number % 8 == 1 and os.fork():
            os._exit(0)
        else:
            time.sleep(0.002)
        moves[number] = 1
os.setpgid(0, 0)
for number in range(32):
    if os.fork() == 0:
        work(number)
print(os.getpid(), flush=True)
while os.read(0, 1):
    moves[:] = bytes(32)
    while not all(moves):
        time.sleep(0.01)
    print("all move", flush=True)
"""


@ENDS
def test_a_herd_is_let_go(tmp_path, how):
    """32 processes that write, spawn, fork and end: none is left stopped or traced, or ended."""
    may_attach()
    seconds = [] if how else ["--seconds", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(script(tmp_path, HERD), bufsize=0, **pipes) as herd:
        try:
            leader = int(herd.stdout.readline())
            with attached("-p", str(leader), "--json", *seconds) as tracer:
                for _ in range(2):  # each has written in between
                    herd.stdin.write(b"?")
                    assert herd.stdout.readline() == b"all move\n"
                seen = tracer.poll() is None  # a second may be over before
                out, _ = end(tracer, how)
            herd.stdin.write(b"?")
            assert herd.stdout.readline() == b"all move\n"
            for pid in _processes.descendants([leader]):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    until(lambda pid=pid: let_go(pid))
        finally:
            kill_group(herd.pid)
    assert seen or how is None
    if seen:
        # How many of them it had reached by then is as chance has it.
        assert calls(program(json.loads(out)), "device")["write"]["bytes"] > 0


@ENDS
def test_strace_that_never_attaches(tmp_path, monkeypatch, how):
    """An attach that takes longer than the time asked for: that is said, and nothing stays."""
    fake, up = tmp_path / "bin" / "strace", tmp_path / "up"
    fake.parent.mkdir()
    os.mkfifo(up)
    fake.write_text(
        f"#!/bin/sh\n[ $1 = --help ] && exec {need('strace')} --help\n"
        f"trap '' INT TERM\necho $$ > {up}\nexec sleep 1000\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    seconds = [] if how else ["--seconds", "0.1"]
    with waiting(tmp_path) as process, tracing("-p", str(process.pid), *seconds) as tracer:
        strace = int(up.read_text())
        if how is not None:
            tracer.send_signal(how)
        out, err = tracer.communicate(timeout=HANG)
        assert (tracer.returncode, out) == (1, b"")
        assert err == b"spliceio: trace: it was ended before strace had attached to anything\n"
        assert process_state(strace) == "gone"
        assert let_go(process.pid)


def test_a_process_that_does_not_exist():
    """A clear error."""
    gone = subprocess.Popen(["true"])
    gone.wait(HANG)
    done = run_program("trace", "-p", str(gone.pid))
    assert (done.returncode, done.stdout) == (1, b"")
    assert said(done) == f"spliceio: trace: no process has the PID {gone.pid}"


def test_one_tracer_at_a_time(tmp_path):
    """The second is told who the first is, and the first is not disturbed."""
    with waiting(tmp_path) as process, attached("-p", str(process.pid)) as tracer:
        done = run_program("trace", "-p", str(process.pid))
        assert (done.returncode, done.stdout) == (1, b"")
        assert f"{process.pid} ({PYTHON}) is already traced, by process " in said(done)
        process.stdin.write(b"os.write(1, b'12345\\n')\n")
        assert process.stdout.readline() == b"12345\n"
        idle(process.pid)
        tracer.send_signal(signal.SIGINT)
        out, _ = tracer.communicate(timeout=HANG)
    assert out.startswith(f"{PYTHON}: 100 % of 6 B to pipes by write\n".encode())


def test_ptrace_that_is_refused_says_what_to_do(tmp_path):
    """Without CAP_SYS_PTRACE on a process that has it, as in a container."""
    less = [need("setpriv"), "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]
    with waiting(tmp_path) as process:
        root = os.geteuid() == 0
        pid = process.pid if root else 1
        command = [*(less if root else []), *SPLICEIO, "trace", "-p", str(pid)]
        done = subprocess.run(command, capture_output=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.search(rf"{pid} \(.+\): the kernel refuses.*ptrace_scope.*SYS_PTRACE$", said(done))


# -- signals and statuses --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_status_of_the_command_is_passed_on(status):
    """As it is."""
    done = run_program("trace", "--", "sh", "-c", f"exit {status}")
    assert done.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_command_that_a_signal_ends(number):
    """128 more, as a shell has it."""
    done = run_program("trace", "--", "sh", "-c", f"ulimit -c 0; kill -{number} $$")
    assert done.returncode == 128 + number
    assert b"sh" in done.stderr


COUNTS_SIGNALS = """
import os, select, signal, sys
seen, source = [], sys.stdin
for number in (signal.SIGINT, signal.SIGTERM):
    # Not print(): the signal may come while the one below is not over.
    signal.signal(number, lambda number, frame: (seen.append(number), os.write(1, b"got\\n")))
print("up", flush=True)
# A signal that comes just before a call that blocks is handled after it: so none blocks for long.
while not select.select([source], [], [], 0.05)[0]:
    pass
source.readline()
print(*seen, flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on(tmp_path, number):
    """The command gets it once, as if it had been sent to it; then the report is printed."""
    with tracing("--", *script(tmp_path, COUNTS_SIGNALS)) as tracer:
        assert tracer.stdout.readline() == b"up\n"
        tracer.send_signal(number)
        assert tracer.stdout.readline() == b"got\n"
        out, err = tracer.communicate(b"\n", timeout=HANG)
    assert (tracer.returncode, out.split()) == (7, [str(int(number)).encode()])
    assert err.startswith(f"{PYTHON}: 100 % of ".encode())


def test_a_daemon_gets_the_signal_when_the_command_is_gone(tmp_path):
    """The command has ended, what it left behind is followed until SIGTERM reaches it."""
    text = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print(os.getpid(), flush=True)
if os.fork():
    os._exit(5)
print("ended by", int(signal.sigwait({signal.SIGTERM})), flush=True)
"""
    with tracing("--", *script(tmp_path, text)) as tracer:
        command = int(tracer.stdout.readline())
        until(lambda: process_state(command) == "gone")
        tracer.send_signal(signal.SIGTERM)
        assert tracer.stdout.readline() == b"ended by 15\n"
        _, err = tracer.communicate(timeout=HANG)
    assert tracer.returncode == 5
    assert err.startswith(f"{PYTHON}: 100 % of ".encode())


def test_the_command_is_started_as_without_us(tmp_path):
    """The same descriptors, blocked and ignored signals, and standard input."""
    text = """
import os, sys
fds = sorted(os.listdir("/proc/self/fd"))
status = [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))]
print(fds, status, sys.stdin.read())
"""
    command = script(tmp_path, text)
    plain = subprocess.run(command, input=b"hello", stdout=subprocess.PIPE, check=True)
    assert b"hello" in plain.stdout
    assert run_program("trace", "--", *command, input=b"hello").stdout == plain.stdout


def settled(pid: int) -> bool:
    """Say whether a process waits, and has taken every SIGINT that was sent to it."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = int(re.search(r"^ShdPnd:\t(\w+)$", status, re.M)[1], 16)
    return not pending >> (signal.SIGINT - 1) & 1 and process_state(pid) == "S"


def test_ctrl_c_at_a_terminal_reaches_the_command_once(tmp_path):
    """The terminal sends it to all of us; it must not arrive twice."""
    go, out = tmp_path / "go", tmp_path / "r"
    os.mkfifo(go)
    text = COUNTS_SIGNALS.replace("sys.stdin", f"open({str(go)!r}, 'r+b', buffering=0)")
    pid, terminal = pty.fork()
    if pid == 0:
        command = [*SPLICEIO, "trace", "-o", str(out), "--", *script(tmp_path, text)]
        os.execv(command[0], command)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(open(terminal, "rb+", buffering=0))
        stack.callback(kill_group, pid)

        def line() -> bytes:
            return b"".join(iter(lambda: screen.read(1), b"\n")).strip(b"\r")

        assert line() == b"up"
        screen.write(b"\x03")
        assert line() in (b"^Cgot", b"got")
        until(lambda: settled(pid))
        go.write_text("\n")
        assert line() == b"2"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert out.read_text().startswith(f"{PYTHON}: ")


@pytest.mark.parametrize("attach", [False, True], ids=["command", "attached"])
def test_strace_that_dies(tmp_path, attach):
    """What was seen is reported, and the status is 1; an attached process goes on."""
    line = b"os.write(1, b'12345\\n'); print(os.getpid(), flush=True)\n"
    with contextlib.ExitStack() as stack:
        if attach:
            process = stack.enter_context(waiting(tmp_path))
            tracer = stack.enter_context(attached("-p", str(process.pid)))
        else:
            command = script(tmp_path, RUNS_LINES)
            tracer = process = stack.enter_context(tracing("--", *command))
        process.stdin.write(line)
        assert process.stdout.readline() == b"12345\n"
        pid = int(process.stdout.readline())
        if not attach:  # nothing that it does by itself would end it
            process.stdin.write(b"import signal; print('paused', flush=True); signal.pause()\n")
            assert process.stdout.readline() == b"paused\n"
        (child,) = _processes.children(tracer.pid)
        os.kill(child, signal.SIGKILL)
        if attach:
            out, err = tracer.communicate(timeout=HANG)
            assert out.startswith(f"{PYTHON}: 100 % of ".encode())
            process.stdin.write(line)
            assert process.stdout.readline() == b"12345\n"
        else:
            err = tracer.stderr.read()
            tracer.wait(HANG)
            assert f"\n{PYTHON}: 100 % of ".encode() in err
            until(lambda: process_state(pid) in ("gone", "Z"))
        assert tracer.returncode == 1
        assert err.startswith(b"spliceio: trace: strace ended too early (status -9); this is what")


# -- what is missing or wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("no-such-command", 127, "no-such-command: command not found"),
        ("./no/such", 127, "./no/such: No such file or directory"),
        ("/etc/passwd", 126, "/etc/passwd: Permission denied"),
        ("/etc", 126, "/etc: Is a directory"),
    ],
)
def test_a_command_that_cannot_be_run(command, status, words):
    """The words and the status of a shell."""
    done = run_program("trace", "--", command)
    assert (done.returncode, said(done)) == (status, f"spliceio: trace: {words}")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--"],
        ["-p", "1", "true"],
        ["-p", "0"],
        ["-p", "x"],
        ["-p", ""],
        ["-p", "1,-2"],
        ["--seconds", "1", "true"],
        ["-p", "1", "--seconds", "0"],
        ["-p", "1", "--seconds", "nan"],
    ],
)
def test_wrong_usage(args):
    """Status 2, and a line that says what is wrong."""
    done = run("trace", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    text = done.stderr.decode()
    assert text.startswith("usage: spliceio trace ")
    assert re.fullmatch(r"spliceio trace: error: .+", text.splitlines()[-1])


def test_a_report_that_cannot_be_written(tmp_path):
    """Before anything is run."""
    done = run_program("trace", "-o", tmp_path / "no" / "report", "touch", tmp_path / "ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert said(done).endswith("no/report: No such file or directory")
    assert not (tmp_path / "ran").exists()


def test_without_strace(tmp_path):
    """One sentence that says how to get it."""
    env = with_package(PATH=str(tmp_path))
    done = run_program("trace", "--", "/bin/true", env=env)
    assert done.returncode == 1
    assert said(done).startswith("spliceio: trace: strace is not installed; get it with `apt inst")


def test_strace_that_cannot_start_the_command(tmp_path):
    """Where ptrace is forbidden altogether; strace's own words come first."""
    fake = tmp_path / "strace"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --help ] && exit\n'
        "echo 'strace: do_test_ptrace_setoptions_followfork: Operation not permitted' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    done = run_program("trace", "true", env=with_package(PATH=f"{tmp_path}:{os.environ['PATH']}"))
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (1, 2)
    assert lines[1].startswith(
        "spliceio: trace: strace could not trace true (status 1); where ptra"
    )


def test_a_reader_of_the_report_that_goes_away(tmp_path):
    """Ends it quietly."""
    with waiting(tmp_path) as process, attached("-p", str(process.pid)) as tracer:
        tracer.stdout.close()
        tracer.send_signal(signal.SIGINT)
        assert tracer.stderr.read() == b""
        assert tracer.wait(HANG) == 141


# -- counting, without strace ----------------------------------------------------------------------


def tallied(*texts: str) -> tuple[Stats, Lines]:
    """Count literal lines."""
    lines = Lines()
    chunks = [("\n".join(texts) + "\n").encode()]
    return _trace._counted(chunks, lines), lines


def test_io_uring_is_owned_up_to():
    """It was used; what it moved is not known."""
    tally, lines = tallied(
        "999999999<app> io_uring_enter(4<anon_inode:[io_uring]>, 1, 1, 0, NULL, 8) = 1"
    )
    text = _trace_words.report(tally, lines.unparsed)
    assert "io_uring was used: app entered it 1 times, and what it moved cannot be seen.\n" in text


def test_lines_that_could_not_be_read_are_owned_up_to():
    """In the text, by their number; and one that never ends does not fill the memory."""
    tally, lines = tallied("999999999<app> futex(0x1, FUTEX_WAKE) = 1", "what")
    assert "2 lines of strace could not be read and are not counted." in _trace_words.report(
        tally, lines.unparsed
    )
    endless = Lines()
    _trace._counted([b"x" * MIB, b"x" * MIB, b"x\n"], endless)
    assert endless.unparsed == endless.lines == 2


def test_a_program_that_only_reads_is_named():
    """It has no table."""
    tally, _ = tallied('999999999<sh> read(3</etc/x>, ""..., 5) = 5')
    assert _trace_words.report(tally, 0).startswith("Only read, and sent nothing: sh.\n")


def test_names_cannot_drive_a_terminal():
    """Neither of programs nor of files."""
    tally, _ = tallied(
        "999999999<\\33[2J> sendfile(1<TCP:[a->b]>, 5</x\\33[31m\\n\\377>, NULL, 5) = 5"
    )
    text = _trace_words.report(tally, 0)
    assert "\x1b" not in text
    assert "/x\\x1b[31m\\n\\udcff to sockets" in text
    assert text.startswith("\\x1b[2J: 100 % of 5 B to sockets by sendfile\n")


def test_half_and_half_is_in_part():
    """Less than half without a copy."""
    tally, _ = tallied(
        "999999999<app> sendfile(1<TCP:[a->b]>, 5</x>, NULL, 50) = 40",
        '999999999<app> write(1<TCP:[a->b]>, ""..., 60) = 60',
        '999999999<app> sendto(1<TCP:[a->b]>, ""..., 50) = 1',
    )
    (found,) = tally.programs.values()
    assert _trace_words.summary(found) == (
        "app: 59.4 % of 101 B to sockets by write; 40 B by sendfile; 1 B by sendto"
    )
    assert _trace_words.verdict(found) == (
        "In part: app uses sendfile for 39.6 % of what went to sockets; the rest went by write and "
        "sendto, a copy through user memory."
    )


def test_more_files_than_are_remembered_are_one_number():
    """Memory stays bounded, and no byte is lost."""
    number = MOST_PATHS + 5
    tally, _ = tallied(
        *(
            f"999999999<app> sendfile(1<TCP:[a->b]>, 5</no/such/{one}>, NULL, 3) = 3"
            for one in range(number)
        )
    )
    (found,) = tally.programs.values()
    assert len(found.served.moved) == MOST_PATHS
    assert found.served.rest == 15
    assert f"from {MOST_PATHS - 10}+ more" in _trace_words.report(tally, 0)


def test_memory_is_bounded_by_what_lives():
    """Threads, pipes, names and programs without number come and go."""
    tally, lines = tallied(
        *(
            f"{one}<p{one % 3000}> splice(3</x>, NULL, 4<pipe:[{one}]>, NULL, 9, 0) = 9\n"
            f"{one}<p{one % 3000}> read(3</x>,  <unfinished ...>\n"
            f"{one}<p{one % 3000}> +++ killed by SIGKILL +++"
            for one in range(900_000_000, 900_009_000)
        )
    )
    assert (lines.live, lines._unfinished) == (set(), {})
    assert len(tally._names) == len(tally._pipes) == 4096
    assert len(tally.programs) == MOST_PROGRAMS + 1
    assert sum(found.total for found in tally.programs.values()) == 9 * 9_000


def test_a_tee_is_no_way_through():
    """What is duplicated stays in the first pipe, and has the same origin in both."""
    tally, _ = tallied(
        "999999999<app> splice(3</x>, NULL, 4<pipe:[1]>, NULL, 9, 0) = 9",
        "999999999<app> tee(5<pipe:[1]>, 6<pipe:[2]>, 9, 0) = 9",
        "999999999<app> splice(5<pipe:[1]>, NULL, 7<TCP:[a->b]>, NULL, 9, 0) = 9",
        "999999999<app> splice(8<pipe:[2]>, NULL, 9</y>, NULL, 9, 0) = 9",
    )
    (found,) = tally.programs.values()
    assert {kind: found.final(kind) for kind in ("socket", "file", "pipe")} == {
        "socket": 9,
        "file": 9,
        "pipe": 0,
    }
    assert found.served.moved == {("/x", "socket"): 9, ("/x", "file"): 9}
    assert "Of what went to pipes, 18 B were spliced on" in _trace_words.report(tally, 0)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (16_000_000, "16 MB"),
        (5 * 10**21, "5000 EB"),
    ],
)
def test_sizes(number, text):
    """Two digits that matter."""
    assert _trace_words.size(number) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "-"),
        (0, 5, "0.0 %"),
        (5, 5, "100 %"),
        (99_999, 100_000, "99.9 %"),
        (1, 10**9, "0.1 %"),
    ],
)
def test_shares(part, whole, text):
    """100 % is all, and 0 % is nothing."""
    assert _trace_words.percent(part, whole) == text
