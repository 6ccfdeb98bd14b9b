"""One to many when things go wrong: signals, forks, resets, full disks, dying readers.

Rule 1: for every sink that was not detached, what it got and what is held make up all that was
        taken; what was not taken is still in a source that is a pipe.
Rule 2: children are fresh interpreters, so that limits, mounts and forks touch no other test.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

from spliceio import fanout
from spliceio._fanout import fanout as _fanout
from tests.support.cases import cases
from tests.support.fans import PATIENCE, account, complete, ends, python, stuck_sink
from tests.support.programs import need
from tests.support.states import Worker, until
from tests.support.wires import MIB, payload

LINGER = struct.pack("ii", 1, 0)


class Interrupted(BaseException):
    """What the signal handlers here raise."""


# ---- the source fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_all_that_came_before_a_reset_arrives(wires, size, method):
    """Every sink gets it, then the error is raised, with what each got."""
    data = payload(size)
    near, far = wires.sockets("tcp4")
    kept = io.BytesIO()
    sinks = [wires.sink("pipe"), wires.sink("unix"), wires.sink("file"), kept]
    running = Worker(lambda: fanout(near, ends(sinks), method=method, timeout=PATIENCE))
    far.sendall(data)
    until(lambda: len(kept.getvalue()) == size and running.asleep())
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    with pytest.raises(ConnectionResetError, match="src") as caught:
        running.result()
    result = caught.value.result
    assert (result.reason, result.moved) == ("stopped", size)
    account(result, data, [*(sink.received() for sink in sinks[:3]), kept.getvalue()])
    assert [one.moved for one in result.sinks] == [size] * 4


def test_a_reset_while_a_sink_is_stuck_waits_for_it(wires):
    """The error comes when everything before it is through, not earlier."""
    data = payload(150_000)
    near, far = wires.sockets("tcp4")
    far.sendall(data)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    stuck, sink = wires.sink("pipe", collecting=False), wires.sink("pipe")
    running = Worker(lambda: fanout(near, [stuck.end, sink.end], timeout=PATIENCE))
    until(running.asleep)
    far.close()
    stuck.begin()
    with pytest.raises(ConnectionResetError) as caught:
        running.result()
    result = caught.value.result
    account(result, data, [stuck.received(), sink.received()])
    assert [one.moved for one in result.sinks] == [result.moved] * 2


# ---- stopped in the middle ----------------------------------------------------------------------


@cases(
    method=["auto", "read_write"],
    src=["pipe", "unix", "file", "tcp4"],
    stuck=["pipe", "unix", "tcp4"],
)
def test_a_timeout_accounts_for_every_byte(wires, src, stuck, method):
    """A stuck sink beside two fast ones and a hash: moved + held is one prefix for all."""
    data = payload(4 * MIB)
    source = wires.source(src, data)
    sinks = [wires.sink("pipe"), stuck_sink(wires, stuck), wires.sink("file")]
    memory = io.BytesIO()
    with pytest.raises(TimeoutError) as caught:
        fanout(source.end, [memory, *ends(sinks)], timeout=0.05, method=method)
    got = [memory.getvalue(), *(sink.received() for sink in sinks)]
    account(caught.value.result, data, got, source.left() if src == "pipe" else None)
    assert caught.value.result.unread == b""


class Stepper:
    """Raise Interrupted at the n-th line of the functions that drive a fan-out."""

    NAMES = (
        "drive",
        "_slice",
        "_serve_objects",
        "_collect_handed",
        "_take",
        "_taken",
        "_accepted",
        "check_detached",
        "write_due",
        "_count",
    )

    def __init__(self, n):
        self.left, self.at = n, None

    def __call__(self, frame, event, arg):
        code = frame.f_code
        ours = code.co_filename.endswith(("_fanout/fanout.py", "_fanout/sinks.py"))
        return self._line if ours and code.co_name in self.NAMES else None

    def _line(self, frame, event, arg):
        if event == "line" and self.at is None:
            self.left -= 1
            if not self.left:
                self.at = (frame.f_code.co_name, frame.f_lineno)
                raise Interrupted
        return self._line


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", ["pipe", "unix"])
def test_an_interruption_at_any_line_loses_nothing(wires, src, method):
    """As a signal handler that raises may come between any two lines."""
    data = payload(100_000)
    n, lines = 0, set()
    while True:
        n += 1
        source, memory, dead = wires.source(src, data), io.BytesIO(), wires.pipe()
        os.close(dead[0])
        sinks = [wires.sink("unix"), wires.sink("pipe")]
        fan = _fanout.Fanout(source.end, [dead[1], memory, *ends(sinks)], method=method)
        stepper = Stepper(n)
        before = sys.gettrace()
        sys.settrace(stepper)
        try:
            fan.run()
        except Interrupted as error:
            result = error.result
        finally:
            sys.settrace(before)
        os.close(dead[1])
        got = [b"", memory.getvalue(), *(sink.received() for sink in sinks)]
        left = source.left()
        wires.ends.close()
        if stepper.at is None:
            break
        lines.add(stepper.at)
        account(result, data, got, left if src == "pipe" else None)
    assert len(lines) > 20


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", ["pipe", "unix", "tcp4"])
def test_a_signal_handler_that_raises_at_any_time(wires, src, method):
    """Ctrl-C in the middle of megabytes, at another moment each time."""

    def handler(signum, frame):
        raise Interrupted

    data = payload(3 * MIB)
    before = signal.signal(signal.SIGALRM, handler)
    stopped = 0
    try:
        for n in range(12):
            source = wires.source(src, data)
            sinks = [wires.sink(kind) for kind in ("pipe", "unix", "tcp4", "pipe")]
            fan = _fanout.Fanout(source.end, ends(sinks), method=method)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 * (n + 1))
                try:
                    result = fan.run()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted as error:
                result = getattr(error, "result", None)
                fan.close()
            got = [sink.received() for sink in sinks]
            left = source.left()
            wires.ends.close()
            if result is not None and result.reason == "stopped":
                stopped += 1
                account(result, data, got, left if src == "pipe" else None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped


def test_a_signal_every_millisecond_changes_nothing(wires):
    """Handlers that return interrupt calls and waits, and no byte is lost."""
    calls = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    data = payload(4 * MIB)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while not calls:
            for src in ("pipe", "tcp4"):
                source, digest = wires.source(src, data), hashlib.sha256()
                sinks = [wires.sink(kind) for kind in ("pipe", "unix", "tcp4", "file")]
                complete(fanout(source.end, [digest, *ends(sinks)]), len(data))
                assert digest.digest() == hashlib.sha256(data).digest()
                assert all(sink.received() == data for sink in sinks)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("where", ["progress", "write"])
def test_ctrl_c_in_a_callers_function(wires, where):
    """KeyboardInterrupt in progress or in a sink's method ends everything, accounted for."""
    data = payload(500_000)
    kept = []

    class Sink:
        def write(self, part):
            if where == "write" and kept:
                raise KeyboardInterrupt
            kept.append(part[:100])
            return len(kept[-1])

    def progress(moved):
        raise KeyboardInterrupt

    source, sink = wires.source("pipe", data), wires.sink("pipe")
    with pytest.raises(KeyboardInterrupt) as caught:
        fanout(source.end, [sink.end, Sink()], progress=progress)
    account(caught.value.result, data, [sink.received(), b"".join(kept)], source.left())


def test_a_slow_object_is_no_silence(wires):
    """The time that a sink's own method takes does not count as time without bytes."""
    source, feed = wires.pipe()
    taken = threading.Event()

    class Slow:
        def write(self, part):
            if not taken.is_set():
                threading.Event().wait(0.6)
                taken.set()

    os.write(feed, b"first")
    sink = wires.sink("pipe")

    def feeder():
        taken.wait()
        threading.Event().wait(0.1)
        os.write(feed, b"second")
        os.close(feed)

    feeding = Worker(feeder)
    result = fanout(source, [Slow(), sink.end], timeout=0.5)
    feeding.result()
    complete(result, 11)
    assert sink.received() == b"firstsecond"


# ---- disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_the_file_size_limit_ends_that_sink(wires, method):
    """RLIMIT_FSIZE: EFBIG for the file, all for the others."""
    data, limit = payload(400_000), 70_000
    source = wires.source("pipe", data)
    sinks = [wires.sink("pipe"), wires.sink("file"), wires.sink("unix")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = fanout(source.end, ends(sinks), method=method)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [failed] = result.failed
    assert (failed.sink, failed.error.errno) == (sinks[1].end, errno.EFBIG)
    assert failed.moved == limit
    assert sinks[1].received() == data[:limit]
    assert sinks[0].received() == sinks[2].received() == data


FULL_TMPFS = """
    import errno, hashlib, os, subprocess, sys, spliceio
    where, method = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=True)
    data = os.urandom(3 << 20)
    source = os.memfd_create("source")
    os.write(source, data)
    os.lseek(source, 0, 0)
    full = os.open(where + "/full", os.O_RDWR | os.O_CREAT)
    whole, digest = os.memfd_create("whole"), hashlib.sha256()
    result = spliceio.fanout(source, [full, whole, digest], method=method)
    assert result.moved == len(data)
    first, *rest = result.sinks
    assert first.error.errno == errno.ENOSPC, first
    assert "sinks[0]" in str(first.error)
    assert os.pread(full, len(data), 0) == data[:first.moved]
    assert 900_000 < first.moved <= 1 << 20
    assert [one.fate for one in rest] == ["done", "done"]
    assert os.pread(whole, len(data), 0) == data
    assert digest.digest() == hashlib.sha256(data).digest()
    print("whole", end="")
"""


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_disk_that_is_full(tmp_path, method):
    """ENOSPC in the middle: that sink has exactly a prefix, the others have all."""
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    probe = [*wrapper, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(probe, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.decode().strip()}")
    assert python(FULL_TMPFS, tmp_path, method, wrapper=wrapper) == "whole"


# ---- forks and threads --------------------------------------------------------------------------

FORK = """
    import os, sys, spliceio
    from spliceio._fanout import fanout as _fanout
    data = os.urandom(200_000)
    r, w = os.pipe()
    out = [os.memfd_create("out") for _ in range(2)]
    os.write(w, data[:60_000])

    class Forking:
        got, pid = b"", 0

        def write(self, part):
            self.got += part
            if self.pid:
                return
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    fan.drive()
                except RuntimeError as error:
                    fan.salvage(error)
                    fan.close()
                    os._exit("process" not in str(error))
                os._exit(3)
            assert os.waitpid(self.pid, 0)[1] == 0
            os.write(w, data[60_000:120_000])
            os.close(w)

    forking = Forking()
    fan = _fanout.Fanout(r, [out[0], forking, out[1]], method=sys.argv[1])
    result = fan.run()
    assert result.moved == 120_000 == len(forking.got)
    for fd in out:
        assert os.pread(fd, 1 << 20, 0) == forking.got == data[:120_000]
    print("whole", end="")
"""


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_fork_in_the_middle(method):
    """The child is refused and takes nothing; the parent goes on and loses nothing."""
    assert python(FORK, method) == "whole"


def test_descriptors_that_another_thread_closes(wires):
    """Every end is a duplicate: the caller's numbers may be closed and used again."""
    data = payload(2 * MIB)
    near, far = wires.sockets("unix")
    sinks = [wires.sink("pipe"), wires.sink("unix"), wires.sink("pipe")]
    handed = [near, *(os.dup(sink.fd) for sink in sinks)]
    half = threading.Event()

    class Tell:
        got = 0

        def update(self, part):
            self.got += len(part)
            half.set()

    tell = Tell()
    running = Worker(lambda: fanout(near, [tell, *handed[1:]], timeout=PATIENCE))
    far.sendall(data[:MIB])
    half.wait()
    near.close()
    for fd in handed[1:]:
        os.close(fd)
    strangers = [wires.file() for _ in range(8)]
    far.sendall(data[MIB:])
    far.shutdown(socket.SHUT_WR)
    complete(running.result(), len(data))
    assert all(sink.received() == data for sink in sinks)
    assert all(os.fstat(fd).st_size == 0 for fd in strangers)


@pytest.mark.parametrize("src", ["pipe", "unix"])
def test_sinks_that_die_at_random(wires, src):
    """Readers close in the middle, one after another: the last gets everything."""
    data = payload(3 * MIB)
    random_ = random.Random(7)
    source = wires.source(src, data)
    readers, sinks = [], []

    def read_and_leave(end, most):
        got = b""
        while len(got) < most and (part := os.read(end, 40_000)):
            got += part
        os.close(end)
        return got

    for number in range(8):  # every descriptor is closed below, by whoever has done with it
        pair = os.pipe() if number % 2 else [sock.detach() for sock in socket.socketpair()]
        reader, writer = pair
        sinks.append(writer)
        most = random_.randrange(2 * MIB) if number else 1 << 40
        readers.append(Worker(lambda end=reader, most=most: read_and_leave(end, most)))
    result = fanout(source.end, sinks)
    for fd in sinks:
        os.close(fd)
    assert (result.reason, result.moved) == ("eof", len(data))
    assert readers[0].result() == data
    assert result.sinks[0].fate == "done"
    for reader, one in zip(readers[1:], result.sinks[1:], strict=True):
        assert data.startswith(reader.result())
        assert isinstance(one.error, BrokenPipeError | ConnectionResetError)


# ---- what strace makes the kernel say -----------------------------------------------------------

INJECTED = """
    import errno, hashlib, os, socket, sys, threading, spliceio
    data = os.urandom(700_001)
    r, w = os.pipe() if sys.argv[1] == "pipe" else (s.detach() for s in socket.socketpair())
    feeder = open(w, "wb")
    digest, whole = hashlib.sha256(), [os.memfd_create(str(n)) for n in range(3)]
    out_r, out_w = os.pipe()
    got = []
    threads = [
        threading.Thread(target=lambda: (feeder.write(data), feeder.close()), daemon=True),
        threading.Thread(target=lambda: got.append(open(out_r, "rb").read()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    result = spliceio.fanout(r, [whole[0], out_w, digest, *whole[1:]])
    os.close(out_w)
    for thread in threads:
        thread.join()
    assert got == [data]
    assert all(os.pread(fd, 1 << 20, 0) == data for fd in whole)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert not result.failed, result.failed
    assert result.moved == len(data)
    print(*[errno.errorcode[one.errno] for one in result.fallbacks], end="")
"""


@pytest.mark.parametrize("src", ["pipe", "unix"])
@pytest.mark.parametrize(
    ("inject", "told"),
    [
        ("tee:error=ENOSYS", "ENOSYS"),
        ("tee:error=EPERM", "EPERM"),
        ("tee:error=EINVAL:when=3+", "EINVAL"),
        ("tee:error=EAGAIN:when=1+3", ""),
        ("tee:error=EINTR:when=1+2", ""),
        ("tee:retval=0:when=2+3", ""),
        ("poll:error=EINTR:when=1+2", ""),
        ("splice:error=EAGAIN:when=1+3", ""),
        ("splice:error=EINTR:when=1+3", ""),
        ("splice:error=EINVAL", None),
    ],
)
def test_what_strace_injects(src, inject, told):
    """Real errors at real calls: told or passed over, every sink is exact."""
    call = inject.partition(":")[0]
    wrapper = [need("strace"), "-f", "-qq", "-o", os.devnull, "--seccomp-bpf"]  # stops at it alone
    wrapper += ["-e", f"trace={call}", "-e", f"inject={inject}"]
    said = python(INJECTED, src, wrapper=wrapper)
    assert told is None or said == told
