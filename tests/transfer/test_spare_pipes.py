"""The empty pipes that the blocking calls of a process share.

Rule 1: a pipe that has carried one transfer carries the next one, on whatever thread that is.
Rule 2: only an empty pipe is kept, and never more than a few.
Rule 3: what a program has made of the number of a spare is left alone, and so are the pipes of
another process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from spliceio import Transfer, copy, fanout, receive_file, relay
from spliceio._cffi import lib
from spliceio._transfer import flow
from tests.support.programs import need
from tests.support.seam import Seam, fail
from tests.support.states import Worker, close_spare_pipes, syscall_of, until
from tests.support.wires import MIB, payload, prefill, read_all

MOST = 4
SIZE = 100_000
LITTLE = 16 << 10
POLLS = (7, 271)
F_GETPIPE_SZ = 1032


def pipes(but=()) -> dict[str, list[int]]:
    """Return the numbers of every pipe that is open, the spare ones too."""
    found: dict[str, list[int]] = {}
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if name.startswith("pipe:") and name not in but:
            found.setdefault(name, []).append(fd)
    return found


def pipe_of(transfer) -> str:
    """Return the name of its private pipe."""
    return os.readlink(f"/proc/self/fd/{lib.sio_test_pipe_writer(transfer._flow.c)}")


def fed(wires, data, kind="unix"):
    """Return a socket that has as many of these bytes as there is room for; the rest comes."""
    near, far = wires.sockets(kind)
    done = prefill(far.fileno(), data)
    feeder = Worker(lambda: (far.sendall(data[done:]), far.shutdown(socket.SHUT_WR)))
    if done == len(data):
        feeder.result()
    return near


def copied(wires, data) -> str:
    """Copy from a socket into a file, through a pipe; return which one."""
    out = wires.file()
    with Transfer(fed(wires, data), out) as transfer:
        assert transfer.run().by_method == {"splice": len(data)}
        used = pipe_of(transfer)
    assert os.pread(out, len(data) + 1, 0) == data
    return used


@pytest.fixture
def spare(wires):
    """Return (its name, the reader, the writer) of a pipe that no call uses now."""
    before = pipes()
    used = copied(wires, payload(SIZE))
    [(name, (reader, writer))] = pipes(before).items()
    assert name == used
    return name, reader, writer


# -- used again ------------------------------------------------------------------------------------


def by_transfer(wires, data):
    copied(wires, data)


def by_copy(wires, data):
    out = wires.file()
    assert copy(fed(wires, data), out).by_method == {"splice": len(data)}
    assert os.pread(out, len(data) + 1, 0) == data


def by_receive_file(wires, data):
    out = wires.file()
    assert receive_file(fed(wires, data), out, len(data)).method == "splice"
    assert os.pread(out, len(data) + 1, 0) == data


def by_relay(wires, data):
    near, far = wires.sockets("unix")
    near.shutdown(socket.SHUT_WR)
    reader, much = Worker(lambda: read_all(near.fileno())), data * 20
    result = relay(fed(wires, much), far)
    assert result.a_to_b == len(much)
    assert reader.result() == much


def by_fanout(wires, data):
    files, digest = [wires.file(), wires.file()], hashlib.sha256()
    fanout(fed(wires, data), [*files, digest])
    assert [os.pread(fd, len(data) + 1, 0) for fd in files] == [data, data]
    assert digest.digest() == hashlib.sha256(data).digest()


CALLS = [by_transfer, by_copy, by_receive_file, by_relay, by_fanout]


@pytest.mark.parametrize("then", CALLS)
@pytest.mark.parametrize("first", CALLS)
def test_the_next_call_uses_the_same_pipes(wires, first, then):
    """Each leaves the pipes that it made, empty and whole, and makes none that it finds."""
    before = pipes()
    first(wires, payload(SIZE))
    left = pipes(before)
    assert 1 <= len(left) <= MOST
    for _, writer in left.values():
        assert fcntl.fcntl(writer, F_GETPIPE_SZ) == MIB
    then(wires, payload(SIZE, 2))
    after = pipes(before)
    assert len(after) <= MOST
    assert left.items() <= after.items()
    then(wires, payload(SIZE, 3))
    assert pipes(before) == after


SCRIPT = """
import os, socket
from spliceio import copy
out = os.memfd_create("out")
for turn in range(3):
    near, far = socket.socketpair()
    a, b = socket.socketpair()
    far.sendall(b"x" * 100000)
    far.shutdown(socket.SHUT_WR)
    if turn == 2:
        os.access("/begin", 0)
    CALL
    if turn == 2:
        os.access("/end", 0)
"""


@pytest.mark.parametrize("call", ["copy(near, out)", "copy(near, a)"])
def test_no_system_call_makes_a_pipe(tmp_path, call):
    """Nor sizes or closes one, at the third call; strace counts."""
    log = tmp_path / "log"
    script = SCRIPT.replace("CALL", call)
    command = [need("strace"), "-qq", "-o", str(log), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = log.read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if '"/begin"' in line)
    end = max(i for i, line in enumerate(lines) if '"/end"' in line)
    made = lines[begin + 1 : end]
    assert any(line.startswith("splice(") for line in made)
    assert not [line for line in made if re.search(r"pipe2?\(|PIPE_SZ", line)]
    assert sum(line.startswith("close(") for line in made) == 2  # the duplicates


@pytest.mark.parametrize("kind", ["file", "socket"])
@pytest.mark.parametrize("named", [False, True], ids=["auto", "splice"])
@pytest.mark.parametrize("count", [1, 4096, LITTLE - 1, LITTLE, LITTLE + 1])
def test_a_known_small_count_needs_no_pipe(wires, count, named, kind):
    """It is read and written, waiting or not; unless splice is asked for by name."""
    data = payload(count)
    near, far = wires.sockets("unix")
    out, end = wires.sockets("unix")
    file = wires.file()
    method = "splice" if named else "auto"
    with Transfer(near, file if kind == "file" else out, count, method=method) as transfer:
        running = Worker(transfer.run)
        until(lambda: syscall_of(running.native_id) in POLLS)
        half = count // 2 if count < LITTLE else 0
        far.sendall(data[:half])
        until(lambda: transfer.moved == half)
        far.sendall(data[half:])
        result = running.result()
        has_pipe = lib.sio_test_pipe_writer(transfer._flow.c) >= 0
    used = "splice" if named or count >= LITTLE else "read_write"
    assert result.moved == count
    assert result.method == used
    assert result.fallbacks == ()
    assert has_pipe == (used == "splice")
    got = os.pread(file, count + 1, 0) if kind == "file" else end.recv(count + 1)
    assert got == data


# -- how many --------------------------------------------------------------------------------------


def test_there_are_never_more_than_a_few(wires):
    """Those in use are counted: who comes later makes one as large as it needs, and closes it."""
    before = pipes()
    data = payload(SIZE)
    with ExitStack() as stack:
        begun = []
        for _ in range(MOST + 2):
            transfer = stack.enter_context(Transfer(fed(wires, data), wires.file(), SIZE))
            transfer.run()
            begun.append(lib.sio_test_pipe_writer(transfer._flow.c))
        sizes = [fcntl.fcntl(fd, F_GETPIPE_SZ) for fd in begun]
        assert sizes == [MIB] * MOST + [1 << 17] * 2
        assert len(pipes(before)) == MOST + 2
    assert len(pipes(before)) == MOST


def test_many_threads_use_them_and_lose_no_byte(wires):
    """Every transfer has its own bytes, whoever had the pipe before."""
    before = pipes()

    def work(seed):
        for turn in range(25):
            data = payload(SIZE + turn, 100 * seed + turn)
            near, far = socket.socketpair()
            out = os.memfd_create("out")
            with near, far:
                far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                copy(near, out)
            assert os.pread(out, len(data) + 1, 0) == data
            os.close(out)

    for worker in [Worker(lambda seed=seed: work(seed)) for seed in range(12)]:
        worker.result()
    assert 1 <= len(pipes(before)) <= MOST


def test_a_transfer_that_a_collector_closes_leaves_its_pipe(wires):
    """As one that is closed by name."""
    before = pipes()
    transfer = Transfer(fed(wires, payload(SIZE)), wires.file())
    transfer.run()
    used = pipe_of(transfer)
    del transfer
    assert list(pipes(before)) == [used]


# -- only empty ones -------------------------------------------------------------------------------


def test_what_holds_bytes_is_closed(wires):
    """A transfer that is stopped in the middle takes its pipe along."""
    before = pipes()
    near, far = wires.sockets("unix")
    out, peer = wires.sockets("unix")
    prefill(out.fileno(), b"z" * MIB)
    far.sendall(payload(SIZE))
    with Transfer(near, out) as transfer:
        running = Worker(transfer.run)
        until(lambda: transfer.held)
        until(running.asleep)
        used = pipe_of(transfer)
        transfer.close()
        with pytest.raises(ValueError, match="closed"):
            running.result()
    assert used not in pipes()
    assert not pipes(before)
    peer.close()
    assert copied(wires, payload(SIZE, 2)) != used


@pytest.mark.parametrize("takes", [False, True])
def test_a_pipe_of_a_failed_transfer_is_closed(wires, takes):
    """With its bytes, and when they have been taken out as well."""
    before = pipes()
    near, far = wires.sockets("unix")
    out, peer = wires.sockets("unix")
    far.sendall(payload(SIZE))
    peer.close()
    with Transfer(near, out) as transfer:
        with pytest.raises(BrokenPipeError):
            transfer.run()
        held = transfer.held
        assert 0 < held <= SIZE
        if takes:
            assert transfer.take_held() == payload(SIZE)[:held]
    assert not pipes(before)
    copied(wires, payload(SIZE, 2))


def test_a_sink_that_fails_leaves_no_byte_for_the_next(wires):
    """A fan-out whose socket has gone closes that one's pipe; the next gets none of its bytes."""
    out, peer = wires.sockets("unix")
    prefill(out.fileno(), b"z" * MIB)
    kept = wires.file()
    data = payload(SIZE)
    running = Worker(lambda: fanout(fed(wires, data), [out, kept]))
    until(running.asleep)
    peer.close()
    result = running.result()
    assert [one.fate for one in result.sinks] == ["failed", "done"]
    assert os.pread(kept, SIZE + 1, 0) == data
    for seed in range(2, 2 + MOST + 1):
        by_fanout(wires, payload(SIZE, seed))


# -- scripted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("err", [errno.EMFILE, errno.ENFILE, errno.EPERM])
def test_a_script_sees_its_pipe_made(wires, spare, err):
    """A test that lets pipe2 fail gets its failure, and leaves the spare one alone."""
    seam = Seam(fail("pipe", err))
    with Transfer(fed(wires, payload(SIZE)), wires.file()) as transfer:
        seam.attach(transfer)
        result = transfer.run()
    assert result.by_method == {"read_write": SIZE}
    assert [one.errno for one in result.fallbacks] == [err]
    assert spare[0] in pipes()


def test_a_script_keeps_its_pipe(wires):
    """What was made under a script is closed."""
    before, seam = pipes(), Seam()
    with Transfer(fed(wires, payload(SIZE)), wires.file()) as transfer:
        seam.attach(transfer)
        assert transfer.run().method == "splice"
    assert not pipes(before)


# -- numbers that are not ours any more ------------------------------------------------------------


def stranger(kind, wires):
    """Return a descriptor that a program may open next, and how to see that it is untouched."""
    if kind == "a file":
        fd = wires.file(b"")
        return fd, lambda: os.fstat(fd).st_size == 0
    if kind == "a pipe":
        reader, writer = wires.pipe()
        os.set_blocking(reader, False)

        def is_empty():
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
            return True

        return writer, is_empty
    near, far = wires.sockets("unix")
    far.setblocking(False)

    def is_silent():
        with pytest.raises(BlockingIOError):
            far.recv(1)
        return True

    return near.fileno(), is_silent


@pytest.mark.parametrize("then", ["the next call", "the end"])
@pytest.mark.parametrize("kind", ["a file", "a pipe", "a socket"])
@pytest.mark.parametrize("which", [(1,), (2,), (1, 2)], ids=["reader", "writer", "both"])
def test_a_number_that_a_stranger_got_is_left_alone(wires, spare, which, kind, then):
    """A program closes all descriptors and opens its own: it keeps them, and gets no byte."""
    fd, is_untouched = stranger(kind, wires)
    numbers = [wires.ends.fd(spare[one]) for one in which]
    for number in numbers:
        os.dup2(fd, number)
    name = os.readlink(f"/proc/self/fd/{fd}")
    if then == "the end":
        close_spare_pipes()
    else:
        assert copied(wires, payload(SIZE, 2)) != spare[0]
    assert [os.readlink(f"/proc/self/fd/{number}") for number in numbers] == [name] * len(which)
    assert is_untouched()
    assert spare[0] not in pipes()  # the half that was ours is closed


def test_closed_numbers_are_no_spare_pipes(wires, spare):
    """Nothing is at them: the next call makes a pipe, and there may be as many as before."""
    before = pipes([spare[0]])
    os.close(spare[1])
    os.close(spare[2])
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(Transfer(fed(wires, payload(SIZE)), wires.file())).run()
    assert len(pipes(before)) == MOST


DAEMON = """
import os, socket
from spliceio import copy

def copied(byte):
    near, far = socket.socketpair()
    far.sendall(byte * 100000)
    far.shutdown(socket.SHUT_WR)
    out = os.memfd_create("out")
    copy(near, out)
    assert os.pread(out, 100001, 0) == byte * 100000
    return near.detach(), far.detach(), out

copied(b"a")
spare = [fd for fd in range(3, 256) if os.path.exists(f"/proc/self/fd/{fd}")
         and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")]
assert len(spare) == 2, spare
os.closerange(3, 256)
mine = os.memfd_create("mine")
while not all(os.path.exists(f"/proc/self/fd/{fd}") for fd in spare):
    os.dup(mine)
os.write(mine, b"precious")
for byte in (b"b", b"c"):
    copied(byte)
for fd in spare:
    assert os.pread(fd, 100, 0) == b"precious"
print("intact")
"""


def test_a_daemon_closes_everything():
    """os.closerange, and the same numbers for its own files."""
    done = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"intact\n")


# -- other processes -------------------------------------------------------------------------------


def forked(function, fork=os.fork) -> Worker:
    """Return a Worker with what a child says that `function` returned; it is killed if it hangs."""
    reader, writer = os.pipe()
    pid = fork()
    if not pid:
        said = "raised"
        signal.alarm(20)
        try:
            os.close(reader)
            said = repr(function())
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)

    def said():
        try:
            return read_all(reader).decode()
        finally:
            os.close(reader)
            os.waitpid(pid, 0)

    return Worker(said)


quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@quiet
def test_a_child_shares_no_pipe_with_its_parent(wires, spare):
    """Both copy at once, 16 MiB each: the bytes are their own, and so are the pipes."""
    data, other = payload(16 * MIB), payload(16 * MIB, 2)
    ours, theirs = wires.sockets("unix"), wires.sockets("unix")
    outs = wires.file(), wires.file()
    go_r, go_w = wires.pipe()

    def child():
        inherited = spare[0] in pipes()
        os.read(go_r, 1)
        with Transfer(theirs[0], outs[1], len(other)) as transfer:
            transfer.run()
            return inherited, pipe_of(transfer) == spare[0]

    said = forked(child)
    feeders = [
        Worker(lambda: ours[1].sendall(data)),
        Worker(lambda: theirs[1].sendall(other)),
    ]
    os.write(go_w, b"x")
    with Transfer(ours[0], outs[0], len(data)) as transfer:
        transfer.run()
        assert pipe_of(transfer) == spare[0]
    for feeder in feeders:
        feeder.result()
    assert said.result() == "(False, False)"
    for out, sent in zip(outs, (data, other), strict=True):
        assert hashlib.sha256(os.pread(out, len(sent) + 1, 0)).digest() == (
            hashlib.sha256(sent).digest()
        )


def test_a_fork_that_python_is_not_told_of(wires, spare):
    """A library that forks in C: the child uses no pipe of its parent's, and can copy."""
    before = pipes([spare[0]])

    def child():
        used = [copied(wires, payload(SIZE, seed)) for seed in (2, 3)]
        return spare[0] in used

    assert forked(child, ctypes.PyDLL(None).fork).result() == "False"
    assert list(pipes(before)) == [spare[0]]
    assert copied(wires, payload(SIZE, 4)) == spare[0]


def test_a_child_keeps_no_pipe_of_a_copied_transfer(wires):
    """It closes its copy; what it makes then is its own, and as much as any process may have."""
    transfer = Transfer(fed(wires, payload(SIZE)), wires.file())
    transfer.run()
    used = pipe_of(transfer)

    def child():
        before = pipes([used])
        transfer.close()
        closed = used not in pipes()
        with ExitStack() as stack:
            for _ in range(MOST):
                stack.enter_context(Transfer(fed(wires, payload(SIZE)), wires.file())).run()
        return closed, len(pipes(before))

    with transfer:
        assert forked(child).result() == f"(True, {MOST})"
        assert pipe_of(transfer) == used
    assert copied(wires, payload(SIZE, 2)) == used


def test_a_fork_while_they_are_locked(wires, spare):
    """The child has a lock of its own: the thread that holds its parent's is not there."""
    lib.sio_test_lock(flow.spares, 1)
    try:
        said = forked(lambda: copied(wires, payload(SIZE)) != spare[0]).result()
    finally:
        lib.sio_test_lock(flow.spares, 0)
    assert said == "True"


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="libasan's allocator may be locked in a child that is forked beside threads",
)
@quiet
def test_a_fork_while_threads_take_and_give(wires):
    """Each child copies, whatever its parent's threads were doing."""
    over = []

    def work():
        while not over:
            near, far = socket.socketpair()
            with near, far:
                far.sendall(b"x" * 20000)
                far.shutdown(socket.SHUT_WR)
                out = os.memfd_create("out")
                copy(near, out)
                os.close(out)

    workers = [Worker(work) for _ in range(4)]
    try:
        for seed in range(25):
            data = payload(SIZE, seed)
            assert forked(lambda data=data: bool(copied(wires, data))).result() == "True"
    finally:
        over.append(True)
        for worker in workers:
            worker.result()


def test_a_program_that_is_started_inherits_none(wires, spare):
    """Close-on-exec, also where descriptors are passed on."""
    script = "import os; print(*[os.readlink('/proc/self/fd/' + fd) for fd in FDS])".replace(
        "FDS", "os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], close_fds=False, capture_output=True, text=True, check=True
    )
    assert "pipe:" in said.stdout  # its own output
    assert spare[0] not in said.stdout.split()


QUOTA = """
import os, socket, spliceio
from spliceio import copy
spliceio.Pipe
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
taken = [spliceio.Pipe(1 << 20) for _ in range(80)]
def pipes():
    return sum(os.path.exists(f"/proc/self/fd/{fd}")
               and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:") for fd in range(1024))
before = pipes()
for turn in range(MOST + 2):
    near, far = socket.socketpair()
    far.sendall(b"x" * 100000)
    far.shutdown(socket.SHUT_WR)
    out = os.memfd_create("out")
    assert copy(near, out).moved == 100000
    assert os.pread(out, 100001, 0) == b"x" * 100000
print(taken[-1].capacity, pipes() - before)
""".replace("MOST", str(MOST))


def test_a_small_pipe_is_not_kept():
    """One that the quota makes small serves once: there may be room again later."""
    soft = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    done = subprocess.run([sys.executable, "-c", QUOTA], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    capacity, left = map(int, done.stdout.split())
    assert capacity < MIB or not soft or soft > 80 * 256
    assert (left == 0) == (capacity < MIB)
