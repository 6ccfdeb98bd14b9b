"""What goes wrong in earnest while files are sent and received: real kernels, peers and signals.

Rule 1: the peer has exactly what `result.moved` counted, without anybody doing more.
Rule 2: whoever goes on from there sends the exact stream.
Rule 3: TCP_CORK and TCP_NODELAY are as before, however it ended.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from spliceio import UnexpectedEOF, send_file, send_ranges
from tests.support.cases import cases
from tests.support.programs import need
from tests.support.states import Worker, descriptors, syscall_of, until
from tests.support.wires import payload, read_all

MIB = 1 << 20
HEADER, TRAILER = payload(200, seed=3), payload(100, seed=4)
BLOCK = payload(MIB)
SIZE = 24 * MIB
"""More than the socket buffers of both ends hold together."""
POLLING = (7, 271)  # poll, ppoll
STALLED = ("tcp4", "unix", "pipe")
stalled_kinds = pytest.mark.parametrize("kind", STALLED)


class Interrupted(Exception):
    """What signal handlers and progress callbacks here raise."""


@pytest.fixture(scope="module")
def whole():
    """The file, between header and trailer."""
    return HEADER + BLOCK * (SIZE // MIB) + TRAILER


@pytest.fixture
def file(wires):
    """Give a file of 24 MiB."""
    fd = wires.file()
    for _ in range(SIZE // MIB):
        os.write(fd, BLOCK)
    return fd


class Stalled:
    """A socket or pipe whose peer reads only when it is told to."""

    def __init__(self, wires, kind, *, cork=0, nodelay=0):
        if kind == "pipe":
            self.peer, self.end = wires.pipe()
        else:
            self.end, self.far = wires.sockets(kind)
            self.peer = self.far.fileno()
        self.tcp, self.before = kind == "tcp4", [cork, nodelay]
        if self.tcp:
            self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, cork)
            self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)

    def unchanged(self):
        """Whether the options are what they were."""
        names = (socket.TCP_CORK, socket.TCP_NODELAY)
        return not self.tcp or self.before == [
            self.end.getsockopt(socket.IPPROTO_TCP, name) for name in names
        ]

    def receive(self, count):
        """Receive exactly so many bytes; the watchdog ends a wait for bytes that never come."""
        parts = []
        while count:
            part = os.read(self.peer, min(count, MIB))
            assert part, f"the end, {count} bytes early"
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def silent(self):
        """Whether nothing more is there."""
        os.set_blocking(self.peer, False)
        try:
            return os.read(self.peer, 1) == b""
        except BlockingIOError:
            return True
        finally:
            os.set_blocking(self.peer, True)

    def collect(self, count):
        """Receive in a thread."""
        return Worker(lambda: self.receive(count))


def rest(moved, file, end, **options):
    """Send what is left when so many bytes have left."""
    at = max(0, moved - len(HEADER))
    offset, trailer = min(at, SIZE), TRAILER[max(0, at - SIZE) :]
    return send_file(end, file, offset, header=HEADER[moved:], trailer=trailer, **options)


def python(script, *args, wrapper=()):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


# ---- files that change --------------------------------------------------------------------------


@stalled_kinds
@pytest.mark.parametrize("cut", [16 * MIB + 123, 20 * MIB, SIZE - 1])
def test_a_file_that_is_truncated_while_it_is_sent(wires, whole, file, kind, cut):
    """UnexpectedEOF with both numbers; the peer has the header and what the file had, no more."""
    stalled = Stalled(wires, kind)
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    os.ftruncate(file, cut)
    got = stalled.receive(len(HEADER) + cut)
    with pytest.raises(UnexpectedEOF) as caught:
        runner.result()
    error = caught.value
    assert isinstance(error, OSError)
    assert isinstance(error, EOFError)
    assert (error.errno, error.held) == (errno.ENODATA, b"")
    assert error.result.moved == len(HEADER) + cut
    assert error.result.by_method["send"] == len(HEADER)
    assert str(cut) in str(error)
    assert str(SIZE) in str(error)
    assert got == whole[: len(HEADER) + cut]
    assert stalled.silent()
    assert stalled.unchanged()


@stalled_kinds
def test_a_file_that_is_emptied_behind_what_is_sent(wires, file, kind):
    """What is in the socket is counted and arrives, though the file has no byte any more."""
    stalled = Stalled(wires, kind)
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    os.ftruncate(file, 0)
    first = stalled.receive(len(HEADER) + 1)  # makes room, or the end is not looked for
    collector = Worker(lambda: read_all(stalled.peer))
    with pytest.raises(UnexpectedEOF) as caught:
        runner.result()
    moved = caught.value.result.moved
    assert stalled.unchanged()
    os.close(stalled.end) if kind == "pipe" else stalled.end.close()
    assert len(first) + len(collector.result()) == moved
    assert first[:-1] == HEADER


@stalled_kinds
def test_a_range_that_is_truncated_ends_all(wires, file, kind):
    """UnexpectedEOF; ranges and headers behind it are not sent."""
    stalled = Stalled(wires, kind)
    ranges, cut = [(0, 5), (0, SIZE), (0, 5)], 20 * MIB
    headers = [b"first", b"second", b"third"]
    runner = Worker(lambda: send_ranges(stalled.end, file, ranges, headers=headers))
    until(runner.asleep)
    os.ftruncate(file, cut)
    got = stalled.receive(5 + 5 + 6 + cut)
    with pytest.raises(UnexpectedEOF) as caught:
        runner.result()
    assert caught.value.result.moved == len(got)
    assert got[:16] == b"first" + BLOCK[:5] + b"second"
    assert stalled.silent()


@stalled_kinds
def test_a_file_that_grows_while_it_is_sent(wires, whole, file, kind):
    """Only what it had at the call is sent: the length in a header stays true."""
    stalled = Stalled(wires, kind)
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    os.pwrite(file, b"more" * 1000, SIZE)
    assert stalled.receive(len(whole)) == whole
    assert runner.result().moved == len(whole)
    assert stalled.silent()


@stalled_kinds
def test_a_file_that_is_edited_while_it_is_sent(wires, whole, file, kind):
    """What has not left yet is sent as it is then; sizes are right."""
    stalled, at = Stalled(wires, kind), 20 * MIB
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    os.pwrite(file, b"edited", at)
    got = stalled.receive(len(whole))
    at += len(HEADER)
    assert got == whole[:at] + b"edited" + whole[at + 6 :]
    assert runner.result().moved == len(whole)


# ---- peers that go ------------------------------------------------------------------------------


@stalled_kinds
@pytest.mark.parametrize(("cork", "nodelay"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_peer_that_goes_in_the_middle(wires, file, kind, cork, nodelay):
    """A reset, or a broken pipe, with the counts; the options of the socket are as before."""
    stalled = Stalled(wires, kind, cork=cork, nodelay=nodelay)
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    if kind == "pipe":
        os.close(stalled.peer)
    else:
        stalled.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stalled.far.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
        runner.result()
    error = caught.value
    assert len(HEADER) < error.result.moved < SIZE
    assert error.result.by_method["send"] == len(HEADER)
    assert error.held == b""
    assert stalled.unchanged()


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_a_peer_that_has_gone_before(wires, file, kind):
    """An error, at the latest when its reset is there."""
    stalled = Stalled(wires, kind)
    stalled.far.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
        rest(0, file, stalled.end)
    assert caught.value.result.moved < SIZE
    assert stalled.unchanged()


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
@pytest.mark.parametrize("text", [b"", HEADER])
def test_a_socket_that_is_shut_down(wires, file, kind, text):
    """BrokenPipeError at once, and nothing was sent."""
    stalled = Stalled(wires, kind)
    stalled.end.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError) as caught:
        send_file(stalled.end, file, header=text)
    assert caught.value.result.moved == 0
    assert stalled.unchanged()


def test_another_thread_that_shuts_the_socket_down(wires, file):
    """Ends it with BrokenPipeError; what was counted arrives."""
    stalled = Stalled(wires, "tcp4")
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    stalled.end.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError) as caught:
        runner.result()
    moved = caught.value.result.moved
    assert len(read_all(stalled.peer)) == moved
    assert stalled.unchanged()


@stalled_kinds
def test_descriptors_that_another_thread_closes_and_uses_again(wires, whole, file, kind):
    """The stranger that now has the numbers gets and loses nothing; the stream is whole."""
    stalled = Stalled(wires, kind)
    number = stalled.end if kind == "pipe" else stalled.end.fileno()
    runner = Worker(lambda: rest(0, file, stalled.end))
    until(runner.asleep)
    stranger = wires.file(b"stranger's")
    os.dup2(stranger, number)
    os.dup2(stranger, file)
    assert stalled.receive(len(whole)) == whole
    assert runner.result().moved == len(whole)
    assert os.pread(stranger, 100, 0) == b"stranger's"
    assert os.lseek(stranger, 0, os.SEEK_CUR) == 0


# ---- stalls, signals, callbacks -----------------------------------------------------------------


@cases(
    kind=STALLED,
    how=["timeout", "settimeout", "nonblocking"],
    options=[(0, 0), (1, 1)],
)
def test_a_peer_that_stalls(wires, whole, file, kind, how, options):
    """TimeoutError; what was counted arrives by itself, and the rest completes it."""
    cork, nodelay = options
    stalled = Stalled(wires, kind, cork=cork, nodelay=nodelay)
    options = {"timeout": 0.1}
    if how == "nonblocking":
        os.set_blocking(stalled.end if kind == "pipe" else stalled.end.fileno(), False)
    elif how == "settimeout" and kind != "pipe":
        stalled.end.settimeout(0.1)
        options = {}
    with pytest.raises(TimeoutError) as caught:
        rest(0, file, stalled.end, **options)
    moved = caught.value.result.moved
    assert len(HEADER) < moved < SIZE
    assert stalled.unchanged()
    if not cork or not stalled.tcp:  # a caller's own cork holds back the end of it
        assert stalled.receive(moved) == whole[:moved]
        assert stalled.silent()
        collector = stalled.collect(len(whole) - moved)
        assert rest(moved, file, stalled.end, timeout=20).moved == len(whole) - moved
        assert collector.result() == whole[moved:]


@stalled_kinds
def test_a_header_that_stalls_on_a_nonblocking_socket(wires, kind):
    """Larger than the buffers, it is stopped in the middle of itself and gone on with there."""
    stalled, header = Stalled(wires, kind), BLOCK * 24
    file = wires.file(b"file")
    os.set_blocking(stalled.end if kind == "pipe" else stalled.end.fileno(), False)
    with pytest.raises(TimeoutError) as caught:
        send_file(stalled.end, file, header=header, timeout=0.1)
    result = caught.value.result
    assert 0 < result.moved < len(header)
    assert result.by_method == {"send": result.moved}
    assert result.method != "send"
    assert stalled.unchanged()
    collector = stalled.collect(len(header) + 4)
    send_file(stalled.end, file, header=memoryview(header)[result.moved :])
    assert collector.result() == header + b"file"


@stalled_kinds
@pytest.mark.parametrize(("cork", "nodelay"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_ctrl_c_while_the_peer_stalls(wires, whole, file, kind, cork, nodelay):
    """KeyboardInterrupt with the counts; options as before; the rest completes the stream."""
    stalled = Stalled(wires, kind, cork=cork, nodelay=nodelay)
    main = threading.main_thread().native_id
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press():
        until(lambda: syscall_of(main) in POLLING)
        os.kill(os.getpid(), signal.SIGINT)

    presser = Worker(press)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            rest(0, file, stalled.end)
    finally:
        presser.join()
        signal.signal(signal.SIGINT, before)
    moved = caught.value.result.moved
    assert len(HEADER) < moved < SIZE
    assert stalled.unchanged()
    collector = stalled.collect(len(whole))
    assert rest(moved, file, stalled.end).moved == len(whole) - moved
    assert stalled.unchanged()
    if cork and kind == "tcp4":
        stalled.end.close()  # a caller's own cork holds back the end of it
    assert collector.result() == whole


@stalled_kinds
def test_a_handler_that_raises_again_and_again(wires, whole, file, kind):
    """Taken up where `result.moved` says, thirty times, the stream is exact."""
    stalled, got, moved, raised = Stalled(wires, kind), [], 0, 0
    main = threading.main_thread().native_id

    def handler(signum, frame):
        raise Interrupted

    def press():
        until(lambda: syscall_of(main) in POLLING)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while raised < 30:
            presser = Worker(press)
            with pytest.raises(Interrupted) as caught:
                rest(moved, file, stalled.end)
            presser.join()
            moved += caught.value.result.moved
            raised += 1
            got.append(stalled.receive(min(MIB // 4, moved - sum(map(len, got)))))
    finally:
        signal.signal(signal.SIGALRM, before)
    collector = stalled.collect(len(whole) - sum(map(len, got)))
    moved += rest(moved, file, stalled.end).moved
    assert moved == len(whole)
    assert b"".join(got) + collector.result() == whole
    assert stalled.unchanged()


@pytest.mark.parametrize("dst", ["tcp4", "unix", "pipe", "file"])
def test_a_signal_every_millisecond(wires, whole, file, dst):
    """Interrupts calls and waits; nothing is lost, repeated, or told."""
    sink, calls = wires.sink(dst), 0

    def handler(signum, frame):
        nonlocal calls
        calls += 1

    before = signal.signal(signal.SIGALRM, handler)
    times = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while not calls or times < 3:
            assert rest(0, file, sink.end).moved == len(whole)
            times += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    expected = hashlib.sha256(whole * times).digest()
    assert hashlib.sha256(sink.received()).digest() == expected


@stalled_kinds
def test_progress_that_raises(wires, whole, file, kind):
    """Its exception passes with the counts; the options are restored; the rest completes it."""
    stalled = Stalled(wires, kind)

    def progress(total):
        raise Interrupted(total)

    with pytest.raises(Interrupted) as caught:
        rest(0, file, stalled.end, progress=progress)
    error = caught.value
    moved = error.result.moved
    assert error.args == (moved,)
    assert stalled.unchanged()
    assert stalled.receive(moved) == whole[:moved]
    collector = stalled.collect(len(whole) - moved)
    rest(moved, file, stalled.end)
    assert collector.result() == whole[moved:]


# ---- threads, forks, life -----------------------------------------------------------------------


def test_one_file_to_many_sockets_at_once(wires, whole, file):
    """Threads share the descriptor and the object, and not a position."""
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as reader:
        sinks = [wires.sink(kind) for kind in ("tcp4", "unix", "pipe", "tcp6")]
        runs = [Worker(lambda end=sink.end: rest(0, reader, end)) for sink in sinks]
        for run, sink in zip(runs, sinks, strict=True):
            assert run.result().moved == len(whole)
            assert sink.received() == whole
        assert reader.tell() == 0


def test_a_child_sends_nothing_of_its_parents(wires):
    """fork() in the middle: the child is refused and leaves the cork alone; the stream is exact."""
    script = """
        import os, socket, threading, spliceio
        data = os.urandom(100_000)  # an end that is sent under the cork
        file = os.memfd_create("file")
        os.write(file, data)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as near_made:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            near_made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            near_made.connect(listener.getsockname())
            far, _ = listener.accept()
            near = near_made.dup()
        cork = lambda: near.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)
        parent, seen, got = os.getpid(), [], []
        def collect():
            with far, far.makefile("rb") as reader:
                got.append(reader.read())
        def progress(total):
            if seen or os.getpid() != parent:
                return
            before, pid = cork(), os.fork()
            if pid:
                seen.append((before, os.waitpid(pid, 0)[1], cork()))
                collector.start()
        collector = threading.Thread(target=collect)
        try:
            spliceio.send_file(near, file, header=b"header", trailer=b"trailer", progress=progress)
        except RuntimeError as error:
            os._exit(0 if os.getpid() != parent and "process" in str(error) else 1)
        except BaseException:
            os._exit(2)
        if os.getpid() != parent:
            os._exit(3)
        assert cork() == 0
        near.close()
        collector.join()
        assert got == [b"header" + data + b"trailer"]
        print(seen, end="")
    """
    assert python(script) == "[(1, 0, 1)]"


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
@pytest.mark.parametrize("how", ["peer gone", "no descriptor left", "short"])
def test_an_exception_in_a_cycle_is_collected(kind, how):
    """It keeps frames alive, and these the header: the collector meets them in any order."""
    script = """
        import gc, os, resource, socket, sys, spliceio
        spliceio.send_file, spliceio.UnexpectedEOF
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        def fail():
            near, far = socket.socketpair()
            file = os.memfd_create("file")
            os.write(file, b"file")
            count = None
            if sys.argv[2] == "peer gone":
                far.close()
            elif sys.argv[2] == "no descriptor left":
                resource.setrlimit(resource.RLIMIT_NOFILE, (file + 1, limit[1]))
            else:
                os.close(file)
                file, count = os.open("/proc/version", os.O_RDONLY), 100_000
            kept = None
            try:
                header = eval(sys.argv[1])(b"header")
                spliceio.send_file(near, file, 0, count, header=header)
            except OSError as error:
                kept = error
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            near.close()
            far.close()
            os.close(file)
            # What goes in one go needs no descriptor.
            assert kept or sys.argv[1:] == ["bytes", "no descriptor left"]
        for _ in range(5):
            fail()
            gc.collect()
        print("alive", end="")
    """
    assert python(script, kind, how) == "alive"


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_running_out_of_descriptors(wires, spare):
    """EMFILE with nothing sent and the options untouched, or all of it; no descriptor stays."""
    stalled, file = Stalled(wires, "tcp4"), wires.file(b"file")
    before, taken, failure = descriptors(), [], None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(spare):
            os.close(taken.pop())
        try:
            send_file(stalled.end, file, header=bytearray(HEADER))  # not tried in one go
        except OSError as error:
            failure = error.errno
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    assert stalled.unchanged()
    assert failure == (errno.EMFILE if spare < 2 else None)
    if spare == 2:
        assert stalled.receive(204) == HEADER + b"file"
    assert stalled.silent()


# ---- what strace makes the kernel say -----------------------------------------------------------


def traced(trace, what, script, *args):
    """Run a script under strace, which injects or shows what it is told; return what it printed."""
    wrapper = [need("strace"), "-f", "-qq", "-o", trace, *what]
    return python(script, *args, wrapper=wrapper)


SENDING = """
    import errno, os, socket, sys, threading, spliceio
    data = os.urandom(1 << 20) * 4
    file = os.memfd_create("file")
    os.write(file, data)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(sys.argv[1]))
    whole, sent, errors, got = b"header" + data + b"trailer", 0, [], []
    collector = threading.Thread(target=lambda: got.append(far.makefile("rb").read()))
    collector.start()
    while sent < len(whole):
        at = max(0, sent - 6)
        try:
            sent += spliceio.send_file(
                near, file, min(at, len(data)), header=whole[sent:6],
                trailer=b"trailer"[max(0, at - len(data)):],
            ).moved
        except OSError as error:
            sent += error.result.moved
            errors.append(error.errno)
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == int(sys.argv[1])
    near.close()
    collector.join()
    assert got == [whole]
    print(*[errno.errorcode[number] for number in errors], end="")
"""


@pytest.mark.parametrize(
    ("inject", "told"),
    [
        ("sendfile:error=EIO:when=2", "EIO"),
        ("sendfile:error=EIO:when=1..3", ""),
        ("sendfile:error=EAGAIN:when=1+2", ""),
        ("sendfile:error=EINVAL", ""),
        ("sendfile:retval=0:when=1", ""),
        ("poll:error=EINTR:when=1+2", ""),
        ("setsockopt:error=ENOPROTOOPT:when=3+", ""),
    ],
)
def test_what_strace_injects(tmp_path, inject, told):
    """Real errors at real calls: told or not, the stream is exact and the cork is off."""
    assert traced(tmp_path / "trace", ["-e", f"inject={inject}"], SENDING, 0) == told


@pytest.mark.parametrize("cork", [0, 1])
def test_the_callers_cork_is_not_lifted_for_a_moment(tmp_path, cork):
    """As strace sees it: it is put on and taken off by whoever found it off, and nobody else."""
    trace = tmp_path / "trace"
    assert traced(trace, ["-e", "trace=setsockopt"], SENDING, cork) == ""
    calls = [line for line in trace.read_text().splitlines() if "TCP_CORK" in line]
    values = [line.partition("TCP_CORK, [")[2][:1] for line in calls]
    assert values == (["1"] if cork else ["0", "1", "0"])


# ---- disks that fill up -------------------------------------------------------------------------

FULL_DISK = """
    import errno, os, socket, subprocess, sys, threading, spliceio
    where, kind, drain = sys.argv[1], sys.argv[2], sys.argv[3] == "drain"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=True)
    body, after = os.urandom(3 << 20), b"the next request"
    file = os.open(where + "/file", os.O_RDWR | os.O_CREAT)
    if kind == "unix":
        near, far = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
    def feed():
        far.sendall(body + after)
        far.shutdown(socket.SHUT_WR)
    feeder = threading.Thread(target=feed)
    feeder.start()
    source = near.makefile("rb") if kind == "reader" else near
    if kind == "reader":
        source.peek()
    try:
        spliceio.receive_file(source, file, len(body), drain=drain)
    except OSError as error:
        caught = error
    assert caught.errno == errno.ENOSPC, caught
    assert "full" in str(caught), caught
    moved, held, unread = caught.result.moved, caught.held, caught.unread
    assert 900_000 < moved <= 1 << 20, moved
    # A page that could not be had may leave the file longer than what was counted: never shorter.
    assert os.pread(file, moved, 0) == body[:moved]
    if drain:
        assert (held, unread) == (b"", 0), (len(held), unread)
    else:
        assert moved + len(held) + unread == len(body)
        subprocess.run(["mount", "-o", "remount,size=8m", where], check=True)
        assert os.pwrite(file, held, moved) == len(held)
        spliceio.receive_file(source, file, unread, offset=moved + len(held))
        assert os.pread(file, len(body), 0) == body
    left = source.read() if kind == "reader" else near.recv(100, socket.MSG_WAITALL)
    assert left == after
    feeder.join()
    print("in step", end="")
"""


@pytest.fixture
def namespace():
    """How to run a program that may mount."""
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    mount = [*wrapper, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        probe = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no mount namespace here: {error}")
    if probe.returncode:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    return wrapper


@pytest.mark.parametrize("kind", ["tcp4", "unix", "reader"])
@pytest.mark.parametrize("drain", ["drain", "keep"])
def test_a_disk_that_fills_up(tmp_path, namespace, kind, drain):
    """ENOSPC in the middle of a body: what is where is told, and the connection is in step."""
    assert python(FULL_DISK, tmp_path, kind, drain, wrapper=namespace) == "in step"
