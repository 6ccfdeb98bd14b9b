"""What goes wrong in earnest: full disks, limits, signals, threads, forks, files that change.

Rule 1: nothing is lost and nothing is repeated, whatever went wrong.
Rule 2: children are fresh interpreters, so that limits, mounts and forks touch no other test.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import hashlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

import spliceio
from spliceio import Transfer
from spliceio._cffi import lib
from tests.support.cases import FULL
from tests.support.states import Worker, descriptors, process_state, syscall_of, until
from tests.support.wires import payload, read_all

BIG = (256 if FULL else 48) << 20


class Interrupted(Exception):
    """What the signal handlers here raise."""


def python(script, *args, wrapper=(), **options):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


# ---- nothing more fits --------------------------------------------------------------------------

METHODS = ["auto", "splice", "read_write", "sendfile", "copy_file_range"]


@pytest.mark.parametrize("src", ["file", "pipe", "unix"])
@pytest.mark.parametrize("method", METHODS)
def test_the_file_size_limit(wires, src, method):
    """RLIMIT_FSIZE: what fits is written, EFBIG is raised, the rest is held or in the source."""
    if src != "file" and method in ("sendfile", "copy_file_range"):
        method = "auto"
    data = payload(200_000)
    source, sink = wires.source(src, data), wires.sink("file")
    limit = 70_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    transfer = Transfer(source.end, sink.end, method=method)
    with transfer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match="limit") as caught:
                transfer.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
        assert transfer.moved == limit
        assert sink.received() == data[:limit]
        transfer.run()
        assert transfer.moved == len(data)
    assert sink.received() == data


FULL_TMPFS = """
    import errno, os, subprocess, sys
    import spliceio
    where, src, method = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=True)
    data = os.urandom(3 << 20)
    source = os.memfd_create("source")
    os.write(source, data)
    os.lseek(source, 0, 0)
    feeder = None
    if src == "pipe":
        feeder = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE, bufsize=0)
        source = feeder.stdout.fileno()
    sink = os.open(where + "/full", os.O_RDWR | os.O_CREAT)
    with spliceio.Transfer(source, sink, method=method) as transfer:
        try:
            transfer.run()
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert "full" in str(error), error
        else:
            raise SystemExit("3 MiB went into 1 MiB")
        assert os.pread(sink, len(data), 0)[:transfer.moved] == data[:transfer.moved]
        assert 900_000 < transfer.moved <= 1 << 20, transfer.moved
        subprocess.run(["mount", "-o", "remount,size=8m", where], check=True)
        transfer.run()
        assert transfer.moved == len(data)
    assert os.pread(sink, 4 << 20, 0) == data
    if feeder:
        feeder.stdout.close()
        feeder.wait()
    print("whole", end="")
"""


def namespace():
    """Return how to run a program that may mount, or why that cannot be."""
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    try:
        probe = subprocess.run(
            [*wrapper, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
    except FileNotFoundError as error:
        return None, str(error)
    return (wrapper, "") if probe.returncode == 0 else (None, probe.stderr.decode().strip())


@pytest.mark.parametrize("src", ["file", "pipe"])
@pytest.mark.parametrize("method", ["auto", "splice", "read_write"])
def test_a_full_tmpfs(tmp_path, src, method):
    """ENOSPC says so; once there is room, the same transfer goes on to the last byte."""
    wrapper, why = namespace()
    if wrapper is None:
        pytest.skip(f"no mount namespace here: {why}")
    assert python(FULL_TMPFS, tmp_path, src, method, wrapper=wrapper) == "whole"


@pytest.mark.parametrize("src", ["file", "pipe", "unix", "tcp4"])
def test_dev_full(wires, src):
    """/dev/full refuses splice, then every write: ENOSPC, and no byte is gone from the books."""
    data = payload(50_000)
    source = wires.source(src, data)
    full = wires.ends.fd(os.open("/dev/full", os.O_WRONLY))
    plan = spliceio.explain(source.end, full)
    assert plan.method == "read_write"
    with pytest.raises(OSError, match="full") as caught:
        spliceio.copy(source.end, full)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.result.moved == 0
    assert [f.errno for f in caught.value.result.fallbacks] == [errno.EINVAL]
    assert caught.value.held + source.left() == data


@pytest.mark.parametrize("src", ["file", "pipe", "unix"])
def test_a_sealed_memfd(wires, src):
    """Every method is refused, the last with PermissionError; the words name the seal."""
    data = payload(50_000)
    source = wires.source(src, data)
    memfd = wires.ends.fd(os.memfd_create("sealed", os.MFD_ALLOW_SEALING))
    fcntl.fcntl(memfd, 1033, 8)  # F_ADD_SEALS, F_SEAL_WRITE
    with pytest.raises(PermissionError, match="sealed") as caught:
        spliceio.copy(source.end, memfd)
    assert caught.value.held + source.left() == data


def test_a_sealed_memfd_is_a_good_source(wires):
    """What cannot change can be sent."""
    memfd = wires.ends.fd(os.memfd_create("sealed", os.MFD_ALLOW_SEALING))
    os.write(memfd, b"content")
    os.lseek(memfd, 0, os.SEEK_SET)
    fcntl.fcntl(memfd, 1033, 8)
    sink = wires.sink("tcp4")
    assert spliceio.copy(memfd, sink.end, method="sendfile").moved == 7
    assert sink.received() == b"content"


# ---- O_APPEND and /proc -------------------------------------------------------------------------


@pytest.mark.parametrize("src", ["file", "pipe", "unix", "tcp4"])
def test_an_append_target_is_written_to_at_its_end(wires, src):
    """Zero-copy calls refuse O_APPEND; the bytes are appended all the same, the refusals told."""
    data = payload(100_000)
    source = wires.source(src, data)
    path = wires.tmp_path / "log"
    path.write_bytes(b"before ")
    log = wires.ends.fd(os.open(path, os.O_WRONLY | os.O_APPEND))
    plan = spliceio.explain(source.end, log)
    result = spliceio.copy(source.end, log)
    assert path.read_bytes() == b"before " + data
    assert result.by_method == {"read_write": len(data)}
    assert plan.method == "read_write"
    expected = {"file": [errno.EBADF, errno.EINVAL, errno.EINVAL]}.get(src, [errno.EINVAL])
    assert [f.errno for f in result.fallbacks] == expected
    assert all("O_APPEND" in f.why for f in result.fallbacks)


def test_an_offset_into_an_append_target_is_not_silently_ignored(wires):
    """pwrite() to O_APPEND appends on Linux whatever the offset: refused, or obeyed."""
    path = wires.tmp_path / "log"
    path.write_bytes(b"before")
    log = wires.ends.fd(os.open(path, os.O_RDWR | os.O_APPEND))
    try:
        spliceio.copy(wires.file(b"XX"), log, offset_dst=0)
    except (OSError, ValueError):
        assert path.read_bytes() == b"before"
    else:
        assert path.read_bytes() == b"XXfore"


PROC = [
    "/proc/version",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/mounts",
    "/proc/self/status",
    "/proc/self/maps",
    "/proc/self/cmdline",
    "/proc/self/environ",
    "/proc/kallsyms",
    "/proc/net/tcp",
    "/proc/sys/kernel/pid_max",
    "/sys/kernel/mm/transparent_hugepage/enabled",
]


@pytest.mark.parametrize("path", PROC)
@pytest.mark.parametrize("dst", ["file", "tmpfs", "pipe", "unix", "tcp4"])
def test_files_whose_content_is_made_up_are_not_empty(wires, path, dst):
    """However /proc answers to the zero-copy calls, its content arrives."""
    if not os.access(path, os.R_OK):
        pytest.skip(f"{path} cannot be read here")
    fd = wires.ends.fd(os.open(path, os.O_RDONLY))
    sink = wires.sink(dst)
    result = spliceio.copy(fd, sink.end)
    got = sink.received()
    assert result.moved == len(got) > 0
    if path in ("/proc/version", "/proc/mounts", "/proc/self/cmdline", "/proc/self/environ"):
        with open(path, "rb") as file:
            assert got == file.read()


# ---- files that change --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "read_write", "splice"])
@pytest.mark.parametrize("dst", ["file", "tmpfs", "unix"])
def test_a_file_that_shrinks_ends_where_it_ends(wires, dst, method):
    """No error, no invention: what was moved is a prefix, and its count is right."""
    data = payload(8 << 20)
    src = wires.file(data)
    sink = wires.sink(dst, collecting=False)
    half = 2 << 20
    with Transfer(src, sink.end, len(data), method=method) as transfer:
        if dst == "unix":
            until(lambda: transfer.step() == 0 and transfer.waiting_for == "dst")
        else:
            lib.sio_test_set_left(transfer._flow.c, half)  # as far as that, then the rest
            transfer.step()
            lib.sio_test_set_left(transfer._flow.c, len(data) - transfer.moved)
        cut = max(half, transfer.moved + transfer.held)
        os.ftruncate(src, cut)
        sink.begin()
        result = transfer.run()
        assert result.moved == cut
    assert hashlib.sha256(sink.received()).digest() == hashlib.sha256(data[:cut]).digest()


@pytest.mark.parametrize("method", ["auto", "read_write", "splice"])
def test_a_file_that_grows_is_copied_as_far_as_it_has_grown(wires, method):
    """Run again after the end, a transfer finds nothing lost."""
    src, sink = wires.file(b"begin "), wires.sink("file")
    with Transfer(src, sink.end, method=method) as transfer:
        assert transfer.run().moved == 6
    os.pwrite(src, b"more", 6)
    assert spliceio.copy(src, sink.end, method=method).moved == 4
    assert sink.received() == b"begin more"


# ---- signals ------------------------------------------------------------------------------------


@pytest.fixture
def alarm():
    """Set an interval timer and its handler; both are put back."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler, seconds):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("src", "dst"), [("tcp4", "unix"), ("file", "tcp4"), ("pipe", "pipe"), ("file", "tmpfs")]
)
@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_signal_every_millisecond_that_sometimes_raises(wires, alarm, src, dst, method):
    """Many MiB under SIGALRM; each time the handler raises, the transfer is taken up again."""
    block = payload(1 << 20)
    times = BIG >> 20
    expected = hashlib.sha256()
    for _ in range(times):
        expected.update(block)
    calls = 0

    def handler(signum, frame):
        nonlocal calls, running
        calls += 1
        # Only in the transfer's own code: where a handler may raise is the caller's choice.
        if calls % 7 == 0 and running:
            running = False
            raise Interrupted

    if src == "file":
        reader = wires.file(b"", kind="memfd")
        for _ in range(times):
            os.write(reader, block)
        os.lseek(reader, 0, os.SEEK_SET)
        feeder = None
    else:
        near, far = wires._pair(src, reads=True)
        reader = near
        peer = os.dup(far)

        def feed():
            for _ in range(times):
                view = memoryview(block)
                while view:
                    view = view[os.write(peer, view) :]
            if src == "tcp4":
                with socket.socket(fileno=os.dup(peer)) as end:
                    end.shutdown(socket.SHUT_WR)
            os.close(peer)
            if src == "pipe":
                os.close(far)

        feeder = Worker(feed)
    got, collector = hashlib.sha256(), None
    if dst == "tmpfs":
        writer = wires.file(b"", kind="tmpfs")
    else:
        writer, out = wires._pair(dst, reads=False)

        def collect():
            while part := os.read(out, 1 << 20):
                got.update(part)

        collector = Worker(collect)
    running, raised = False, 0
    with Transfer(reader, writer, method=method) as transfer:
        alarm(handler, 0.001)
        while not transfer.done:
            try:
                running = True
                transfer.run()
            except Interrupted:
                raised += 1
            finally:
                running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert transfer.moved == BIG
        assert transfer.held == 0
    assert calls > 0
    if dst == "tmpfs":
        os.lseek(writer, 0, os.SEEK_SET)
        while part := os.read(writer, 1 << 20):
            got.update(part)
    else:
        os.close(writer) if isinstance(writer, int) else writer.shutdown(socket.SHUT_WR)
        collector.result()
    if feeder:
        feeder.result()
    assert got.hexdigest() == expected.hexdigest()


@pytest.mark.parametrize(
    "state", ["silent pipe", "silent tcp", "silent tty", "stuffed tcp", "full"]
)
def test_ctrl_c_is_heard_while_the_peer_is_stalled(wires, state):
    """KeyboardInterrupt comes out of every waiting state, with nothing having moved the peer."""
    if state == "silent pipe":
        ends = wires.pipe()[0], wires.sink("file").end
    elif state == "silent tcp":
        ends = wires.sockets("tcp4")[0], wires.sink("file").end
    elif state == "silent tty":
        ends = wires.terminal()[1], wires.sink("file").end
    elif state == "stuffed tcp":
        ends = wires.source("file", b"data").end, wires.stuffed("tcp4")[0]
    else:
        ends = wires.source("file", b"data").end, wires.clogged()[1]
    main = threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press():
        until(lambda: started.is_set() and _asleep(main.native_id))
        os.kill(os.getpid(), signal.SIGINT)

    started = threading.Event()
    presser = Worker(press)
    try:
        with Transfer(*ends) as transfer:
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the flag is part of it
                started.set()
                transfer.run()
            assert transfer.moved == 0
    finally:
        presser.join()
        signal.signal(signal.SIGINT, before)


def _asleep(tid):
    return syscall_of(tid) in (7, 73, 271)  # poll, ppoll


def test_progress_that_raises_ends_copy_with_the_counts(wires):
    """The exception passes unchanged, with .result and .held; the rest is in the source."""
    data = payload(300_000)
    source, sink = wires.source("unix", data), wires.sink("file")

    def progress(total):
        raise Interrupted(total)

    with pytest.raises(Interrupted) as caught:
        spliceio.copy(source.end, sink.end, progress=progress)
    error = caught.value
    assert error.args == (error.result.moved,)
    assert sink.received() + error.held + source.left() == data


# ---- threads ------------------------------------------------------------------------------------


def test_a_descriptor_closed_by_another_thread_and_used_again(wires):
    """The number now stands for a stranger's file, which gets no byte and loses none."""
    near, far = wires.sockets("unix")
    sink = wires.sink("tcp4")
    transfer = Transfer(near, sink.end)
    runner = Worker(transfer.run)
    far.sendall(b"first ")
    until(lambda: transfer.moved == 6)
    stranger_in, stranger_out = wires.file(b"secret"), wires.file()
    duplicate = os.dup(sink.end.fileno())
    os.dup2(stranger_in, near.fileno())
    os.dup2(stranger_out, sink.end.fileno())
    far.sendall(b"second")
    far.close()
    assert runner.result().moved == 12
    transfer.close()
    assert os.fstat(stranger_out).st_size == 0
    assert os.lseek(stranger_in, 0, os.SEEK_CUR) == 0
    os.dup2(duplicate, sink.end.fileno())
    os.close(duplicate)
    assert sink.received() == b"first second"


@pytest.mark.parametrize("waiting", ["src", "dst"])
def test_close_from_another_thread_ends_a_waiting_run(wires, waiting):
    """close() is not starved by the running thread, which then says that it was closed."""
    if waiting == "src":
        ends = wires.sockets("unix")[0], wires.sink("file").end
    else:
        ends = wires.source("file", b"data").end, wires.stuffed("tcp4")[0]
    transfer = Transfer(*ends)
    runner = Worker(transfer.run)
    until(runner.asleep)
    transfer.close()
    with pytest.raises(ValueError, match="closed"):
        runner.result()
    transfer.close()
    assert transfer.closed


def test_two_threads_on_one_transfer_repeat_nothing(wires):
    """Both run it; every byte arrives once."""
    data = payload(16 << 20)
    source, sink = wires.source("unix", data), wires.sink("tcp4")
    with Transfer(source.end, sink.end) as transfer:
        for worker in [Worker(transfer.run), Worker(transfer.run)]:
            worker.result()
        assert transfer.moved == len(data)
    assert hashlib.sha256(sink.received()).digest() == hashlib.sha256(data).digest()


def test_many_transfers_in_threads(wires):
    """Each keeps its own bytes."""
    runs = []
    for seed in range(8):
        data = payload(1 << 20, seed=seed)
        source, sink = wires.source("unix", data), wires.sink("pipe")
        run = Worker(lambda s=source, d=sink: spliceio.copy(s.end, d.end))
        runs.append((data, sink, run))
    for data, sink, run in runs:
        assert run.result().moved == len(data)
        assert sink.received() == data


# ---- fork ---------------------------------------------------------------------------------------


def test_fork_with_a_transfer_alive(wires):
    """The child is refused, and may close its copy; the parent goes on and loses nothing."""
    script = """
        import os, spliceio
        r, w = os.pipe()
        out_r, out_w = os.pipe()
        transfer = spliceio.Transfer(r, out_w)
        os.write(w, b"first ")
        transfer.step()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                transfer.step()
            except RuntimeError as error:
                status = 0 if "process" in str(error) else 2
            transfer.close()
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        os.write(w, b"second")
        os.close(w)
        assert transfer.run().moved == 12
        transfer.close()
        os.close(out_w)
        assert os.read(out_r, 100) == b"first second"
        print("whole", end="")
    """
    assert python(script) == "whole"


def test_a_forked_child_does_not_move_a_file_back(wires):
    """Held bytes are put back into a file by the parent alone, who shares the position."""
    script = """
        import os, socket, spliceio
        src = os.memfd_create("src")
        os.write(src, bytes(range(256)) * 4000)
        os.lseek(src, 0, 0)
        near, far = socket.socketpair()
        near.setblocking(False)
        transfer = spliceio.Transfer(src, near, method="splice")
        while transfer.step():
            pass
        assert transfer.held > 0
        at = os.lseek(src, 0, 1)
        pid = os.fork()
        if pid == 0:
            transfer.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.lseek(src, 0, 1) == at
        moved = transfer.moved
        transfer.close()
        assert os.lseek(src, 0, 1) == moved
        print("whole", end="")
    """
    assert python(script) == "whole"


# ---- descriptors and life -----------------------------------------------------------------------


def test_a_transfer_that_is_dropped_closes_everything(wires):
    """Without close(), with bytes in the pipe: the collector closes duplicates and pipe."""
    source = wires.source("unix", payload(1 << 20))
    near, _ = wires.sockets("tcp4")
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    before = descriptors()

    def abandon():
        transfer = Transfer(source.end, near)
        until(lambda: transfer.step() == 0 and transfer.waiting_for == "dst")
        assert len(descriptors()) == len(before) + 4

    abandon()
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
@pytest.mark.parametrize("method", ["auto", "splice"])
def test_running_out_of_descriptors_leaks_none_and_loses_nothing(wires, spare, method):
    """EMFILE at each dup and at the pipe: an error that says so, or a copy without a pipe."""
    data = payload(100_000)
    source, sink = wires.source("unix", data), wires.sink("file")
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(spare):
            os.close(taken.pop())
        error = result = None
        try:
            result = spliceio.copy(source.end, sink.end, method=method)
        except OSError as caught:
            error = caught
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    if error is not None:
        assert error.errno == errno.EMFILE
        assert spare < 2 or method == "splice"
        assert source.left() == data
        return
    assert spare >= 2
    assert result.by_method == {"read_write": len(data)}
    assert [f.errno for f in result.fallbacks] == [errno.EMFILE]
    assert sink.received() == data


def test_closing_puts_the_position_of_a_file_back(wires):
    """What was taken from a file and not delivered is back in it after close()."""
    data = payload(4 << 20)
    src = wires.file(data)
    near, far = wires.sockets("unix")
    near.setblocking(False)
    with Transfer(src, near, method="splice") as transfer:
        while transfer.step():
            pass
        assert transfer.held
        moved = transfer.moved
    assert os.lseek(src, 0, os.SEEK_CUR) == moved
    near.close()
    assert read_all(far.fileno()) + read_all(src) == data


def test_a_closed_transfer_says_so(wires):
    """After close(), step and run are a ValueError, and the counts stay readable."""
    source, sink = wires.source("file", b"abc"), wires.sink("file")
    transfer = Transfer(source.end, sink.end)
    transfer.run()
    transfer.close()
    transfer.close()
    assert transfer.moved == 3
    for call in (transfer.step, transfer.run, lambda: next(iter(transfer))):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("end", ["master", "slave"])
def test_both_ends_of_a_terminal_are_the_ones_that_were_given(wires, end):
    """A pty's master is a terminal too: opened anew it would be another pty."""
    master, slave = wires.terminal()
    near, far = (master, slave) if end == "master" else (slave, master)
    os.write(far, b"typed")
    sink = wires.sink("file")
    assert spliceio.copy(near, sink.end, 5, timeout=5).moved == 5
    assert sink.received() == b"typed"
    spliceio.copy(wires.source("file", b"shown").end, near)
    assert select.select([far], [], [], 5)[0]
    assert os.read(far, 100) == b"shown"
    assert os.get_blocking(near)


def test_a_terminal_that_hangs_up_after_bytes_were_spliced(wires):
    """A hang-up is the end of a slave, whatever splice() says of it then."""
    master, slave = wires.terminal()
    os.write(master, b"x" * 1000)
    sink = wires.sink("file")
    with Transfer(slave, sink.end, timeout=5) as transfer:
        until(lambda: transfer.step() == 0 and transfer.moved == 1000)
        os.close(master)
        transfer.run()
        assert transfer.done
    assert sink.received() == b"x" * 1000


def test_a_child_that_is_killed_ends_its_pipe(wires):
    """The writer of a pipe dies: that is the end of file."""
    with subprocess.Popen(
        [sys.executable, "-c", "import os,signal; os.write(1,b'last words'); signal.pause()"],
        stdout=subprocess.PIPE,
    ) as child:
        sink = wires.sink("file")
        with Transfer(child.stdout.fileno(), sink.end) as transfer:
            until(lambda: transfer.step() or transfer.moved)
            child.kill()
            until(lambda: process_state(child.pid) in ("Z", "gone"))
            assert transfer.run().moved == 10
    assert sink.received() == b"last words"


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@pytest.mark.parametrize("method", ["auto", "splice", "read_write"])
def test_a_full_blocking_socket_that_is_shut_down_says_so(wires, kind, method):
    """Its buffer stays full for ever, and yet poll says POLLOUT: not a reason to wait or spin."""
    near, _far = wires.sockets(kind)
    with Transfer(wires.file(payload(32 << 20)), near, method=method, timeout=20) as transfer:
        while transfer.waiting_for != "dst":
            transfer.step()
        near.shutdown(socket.SHUT_RDWR)
        with pytest.raises(BrokenPipeError):
            transfer.run()
