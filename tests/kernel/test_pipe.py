"""Pipes: what the methods promise, sizes that are true, and closing from anywhere.

Rule 1: whatever could hang a pipe's lock runs in a process of its own, which is killed in time.
Rule 2: the quota of pipes is used up only by an unprivileged user, in a process of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import pty
import subprocess
import sys
import textwrap
import tty
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spliceio
from spliceio import Duplex, Pipe, pipe_pair
from tests.support.programs import need
from tests.support.states import FUTEX, Worker, descriptors, no_more_descriptors, syscall_of, until
from tests.support.wires import payload

PAGE = os.sysconf("SC_PAGESIZE")
F_GETPIPE_SZ = 1032
HANG = 20
"""Seconds after which a process is taken to hang; nothing is measured with it."""

AS_NOBODY = """
import os, resource, sys
import spliceio, socket, select, fcntl
from spliceio import Pipe, copy, features, relay
with Pipe() as pipe:
    pipe.write(b"x"); pipe.peek(1)
features()
a, b = socket.socketpair()
a.sendall(b"x"); a.close()
copy(b, os.open(os.devnull, os.O_WRONLY))
b.close()
if os.geteuid() == 0:
    os.setgroups([])
    # A user of its own: the kernel counts the pipes of a user, those of other tests too.
    user = 100_000 + os.getpid() % 100_000
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
"""


def run(code: str, *, before: str = "") -> str:
    """Run code in a new interpreter; return its output. A hang is a failure, and is killed."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", before + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"it hangs:\n{process.communicate()[1]}") from None
    assert process.returncode == 0, err
    assert not err
    return out


def ended_or_waits(worker: Worker) -> bool:
    """Let the worker run until it has ended or waits in the kernel; say whether it waits."""

    def waits() -> bool:
        return worker.asleep() and syscall_of(worker.native_id or 0) not in (None, FUTEX)

    until(lambda: not worker.is_alive() or waits())
    return worker.is_alive()


def blocked(worker: Worker) -> None:
    """Wait until the worker sleeps in the kernel; fail if it has ended instead."""
    if not ended_or_waits(worker):
        raise AssertionError(f"it did not wait: {worker.value!r} {worker.error!r}")


# -- what it is ------------------------------------------------------------------------------------


def test_a_new_pipe_is_empty_blocking_and_close_on_exec():
    """Both ends are ints, blocking and not inherited."""
    with Pipe() as pipe:
        assert pipe.held == 0
        assert not pipe.closed
        for fd in (pipe.reader, pipe.writer):
            assert type(fd) is int
            assert os.get_blocking(fd)
            assert not os.get_inheritable(fd)
        assert f"reader={pipe.reader} writer={pipe.writer}" in repr(pipe)


def test_nonblocking_makes_both_ends_so():
    """`nonblocking=True` sets O_NONBLOCK on reader and writer."""
    with Pipe(nonblocking=True) as pipe:
        assert not os.get_blocking(pipe.reader)
        assert not os.get_blocking(pipe.writer)
        with pytest.raises(BlockingIOError):
            pipe.read(1)
        assert pipe.write(bytes(pipe.capacity + 1)) == pipe.capacity
        with pytest.raises(BlockingIOError):
            pipe.write(b"x")


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (None, 16 * PAGE),
        (1, PAGE),
        (PAGE - 1, PAGE),
        (PAGE, PAGE),
        (PAGE + 1, 2 * PAGE),
        (3 * PAGE, 4 * PAGE),
        (16 * PAGE + 1, 32 * PAGE),
        (1 << 20, 1 << 20),
    ],
)
def test_capacity_is_what_the_kernel_granted(asked, granted):
    """A power of two pages, read back from the kernel, at birth and when set later."""
    with Pipe(asked) as pipe:
        assert pipe.capacity == fcntl.fcntl(pipe.writer, F_GETPIPE_SZ) == granted
    if asked is not None:
        with Pipe() as pipe:
            pipe.capacity = asked
            assert pipe.capacity == fcntl.fcntl(pipe.reader, F_GETPIPE_SZ) == granted


@pytest.mark.parametrize(
    ("capacity", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("64K", TypeError), (b"", TypeError)],
)
def test_a_capacity_that_is_none_is_refused(capacity, error):
    """Refused at birth and later; the pipe that has it keeps its size."""
    before = descriptors()
    with pytest.raises(error):
        Pipe(capacity)
    assert descriptors() == before
    with Pipe() as pipe:
        with pytest.raises(error):
            pipe.capacity = capacity
        assert pipe.capacity == 16 * PAGE


@pytest.mark.parametrize("capacity", [2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**100])
def test_an_absurd_capacity_gets_the_largest_pipe_there_is(capacity):
    """More than the kernel takes is degraded to what it grants, and read back."""
    limit = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    script = f"""
        with Pipe({capacity}) as pipe:
            assert pipe.capacity == fcntl.fcntl(pipe.writer, 1032), pipe.capacity
            assert pipe.write(b"x") == 1
            print(pipe.capacity)
    """
    assert int(run(script, before=AS_NOBODY)) == limit


def test_beyond_pipe_max_size_an_unprivileged_user_gets_the_maximum():
    """64 times the limit gives the limit, at birth and when set later, and no error."""
    limit = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    script = f"""
        with Pipe({64 * limit}) as pipe, Pipe() as other:
            other.capacity = {3 * limit}
            print(pipe.capacity, other.capacity)
    """
    assert run(script, before=AS_NOBODY).split() == [str(limit)] * 2


def test_a_used_up_quota_gives_smaller_pipes_that_say_so_and_work():
    """Past pipe-user-pages-soft the real capacity is shown, and everything still works."""
    script = """
        import threading
        pipes = [Pipe(1 << 20) for _ in range(80)]
        sizes = [pipe.capacity for pipe in pipes]
        assert sizes == [fcntl.fcntl(pipe.writer, 1032) for pipe in pipes], sizes
        assert sizes[0] == 1 << 20, sizes
        with open("/proc/sys/fs/pipe-user-pages-soft") as setting:
            soft = int(setting.read())
        if soft:
            assert sum(sizes) <= soft * 4096 + 80 * 8192, sizes
            assert 4096 <= sizes[-1] < 1 << 20, sizes
            assert features().pipe_granted < 1 << 20
        last = pipes[-1]
        last.capacity = 1 << 20
        assert last.capacity == fcntl.fcntl(last.writer, 1032)
        assert last.write(b"x" * 5000) == 5000 and last.held == 5000
        peeked = last.peek(5000)
        assert peeked and b"x" * 5000 == last.peek(1) + b"x" * 4999, len(peeked)
        assert last.read(9999) == b"x" * 5000

        data = os.urandom(5 << 20)
        a, near = socket.socketpair()
        far, b = socket.socketpair()
        got = []
        def feed():
            a.sendall(data); a.shutdown(socket.SHUT_WR)
        def take():
            while part := b.recv(1 << 20):
                got.append(part)
        threads = [threading.Thread(target=feed), threading.Thread(target=take)]
        [thread.start() for thread in threads]
        result = copy(near, far)
        far.shutdown(socket.SHUT_WR)
        [thread.join() for thread in threads]
        assert b"".join(got) == data and result.moved == len(data)
        assert result.by_method.get("splice", 0) > 0, result
        for sock in (a, b, near, far): sock.close()
        for pipe in pipes: pipe.close()
        print(len(set(sizes)))
    """
    assert run(script, before=AS_NOBODY)


def test_shrinking_below_what_is_held_is_ebusy_and_changes_nothing():
    """The error says to drain first; the bytes and the size stay."""
    data = payload(5 * PAGE)
    with Pipe() as pipe:
        pipe.write(data)
        with pytest.raises(OSError, match=r"holds more.*drain") as caught:
            pipe.capacity = PAGE
        assert caught.value.errno == errno.EBUSY
        assert (pipe.capacity, pipe.held) == (16 * PAGE, len(data))
        assert pipe.read(len(data)) == data
        pipe.capacity = PAGE
        assert pipe.capacity == PAGE


def test_no_descriptor_left_is_an_error_that_says_so():
    """EMFILE with words, and nothing half made stays behind."""
    before = descriptors()
    with no_more_descriptors(1), pytest.raises(OSError, match="no descriptor left") as caught:
        Pipe()
    assert caught.value.errno == errno.EMFILE
    with no_more_descriptors(3), pytest.raises(OSError, match="no descriptor left"):
        pipe_pair()
    gc.collect()
    assert descriptors() == before


def test_a_constructor_that_fails_leaves_nothing_to_complain_about(recwarn):
    """Even a wrong keyword, before __init__ has begun, gives its TypeError and nothing else."""
    with pytest.raises(TypeError):
        Pipe(bogus=1)
    gc.collect()


# -- held, and moving bytes ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 16 * PAGE])
def test_held_counts_what_was_written_and_not_read(size):
    """From either end, also after the writer is closed."""
    with Pipe() as pipe:
        assert pipe.write(bytes(size)) == size
        assert pipe.held == size
        pipe.close_writer()
        assert pipe.held == size
        assert len(pipe.read(size + 1)) == size
        assert pipe.held == 0


def test_held_may_exceed_the_capacity_and_is_true():
    """A slot takes more than a page from a socket; held then tells more than capacity."""
    data = payload(1 << 20)
    with Pipe() as pipe:
        one, two = _socketpair()
        with one, two:
            feeder = Worker(lambda: (one.sendall(data), one.close()))
            total = 0
            while total <= pipe.capacity:
                n = pipe.fill(two, 1 << 20)
                assert n > 0
                total += n
                assert pipe.held == total
            assert pipe.peek(1 << 20) == data[:total]
            assert pipe.held == total
            got = b"".join(iter(lambda: pipe.read(1 << 20) if pipe.held else b"", b""))
            assert got == data[:total]
            two.close()
            with contextlib.suppress(BrokenPipeError):
                feeder.result()


def _socketpair():
    import socket

    return socket.socketpair()


@pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, 16 * PAGE])
def test_peek_shows_and_does_not_consume(size):
    """Any number of times, any part, and read() then gives all of it."""
    data = payload(size)
    with Pipe() as pipe:
        pipe.write(data)
        for count in (0, 1, size // 2, size, size + 1, 1 << 30):
            assert pipe.peek(count) == data[:count]
            assert pipe.held == size
        pipe.close_writer()
        assert pipe.peek(size) == data
        assert pipe.read(size + 1) == data
        assert pipe.peek(10) == b""


def test_peek_into_a_clogged_pipe(clogged):
    """All slots used by one byte each: as many bytes as slots."""
    reader, _writer = clogged
    with Pipe() as pipe, Pipe() as whole:
        while pipe.held < 16:
            n = spliceio.splice(reader, pipe.writer, 1)
            assert n == 1
        assert pipe.peek(100) == b"." * 16
        assert pipe.held == 16
        assert pipe.tee(whole, 100) == 16
        assert pipe.read(100) == b"." * 16


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: p.peek(-1), ValueError),
        (lambda p: p.peek("1"), TypeError),
        (lambda p: p.read(-1), OSError),
        (lambda p: p.read("1"), TypeError),
        (lambda p: p.write("text"), TypeError),
        (lambda p: p.write(1), TypeError),
        (lambda p: p.fill("name", 1), TypeError),
        (lambda p: p.fill(-1, 1), OSError),
        (lambda p: p.fill(2**40, 1), OverflowError),
        (lambda p: p.fill(p.writer, 1), OSError),
        (lambda p: p.drain("name", 1), TypeError),
        (lambda p: p.drain(p.writer, 1), OSError),
        (lambda p: p.tee(p, 1), OSError),
        (lambda p: p.tee(0.5, 1), TypeError),
        (lambda p: p.tee(p.writer, -1), ValueError),
    ],
)
def test_wrong_arguments_are_refused_and_move_nothing(call, error):
    """The right exception, and what the pipe holds stays."""
    with Pipe() as pipe:
        pipe.write(b"kept")
        worker = Worker(lambda: call(pipe))
        if waits := ended_or_waits(worker):
            pipe.close()  # let it go, so that the test ends
            worker.join()
        assert not waits, "it waits"
        with pytest.raises(error):
            worker.result()
        assert pipe.read(10) == b"kept"


@pytest.mark.parametrize("where", ["unix", "pipe", "file"])
@pytest.mark.parametrize("direction", ["fill", "drain"])
@pytest.mark.parametrize(("count", "expected"), [(0, 0), (-1, ValueError), ("1", TypeError)])
def test_a_count_is_looked_at_before_anything_is_waited_for(
    wires, where, direction, count, expected
):
    """0 moves nothing at once, a bad count is refused at once, idle as the other end may be."""
    if where == "unix":
        end, _other = wires.sockets("unix")
    elif where == "pipe":
        reader, writer = wires.pipe()
        end = reader if direction == "fill" else writer
    else:
        end = wires.file(b"abc")
    with Pipe() as pipe:
        worker = Worker(lambda: getattr(pipe, direction)(end, count))
        waits = ended_or_waits(worker)
        if waits:  # let it go, so that the test ends
            if direction == "drain":
                pipe.close_writer()
            elif where == "unix":
                _other.sendall(b"x")
            else:
                os.write(writer, b"x")
            worker.join()
        assert not waits, f"{direction}({count!r}) waits"
        if expected == 0:
            assert worker.result() == 0
        else:
            with pytest.raises(expected):
                worker.result()


def test_a_clogged_pipe_is_full_long_before_its_capacity(clogged):
    """16 bytes in 16 slots: fill and write would block; one byte out, one byte in."""
    reader, _writer = clogged
    with Pipe(nonblocking=True) as pipe:
        while pipe.held < 16:
            assert spliceio.splice(reader, pipe.writer, 1) == 1
        with open("/dev/zero", "rb") as zero, pytest.raises(BlockingIOError):
            pipe.fill(zero, 1)
        with pytest.raises(BlockingIOError):
            pipe.write(bytes(PAGE))
        assert (pipe.held, pipe.capacity) == (16, 16 * PAGE)
        assert pipe.read(1) == b"."
        with open("/dev/zero", "rb") as zero:
            assert pipe.fill(zero, 1) == 1


def test_fill_and_drain_use_offsets_and_leave_the_position(wires):
    """With an offset the file position stays; without, it moves."""
    data = payload(3 * PAGE)
    src, dst = wires.file(data), wires.file(b"-" * 20)
    with Pipe() as pipe:
        assert pipe.fill(src, 10, offset=5) == 10
        assert os.lseek(src, 0, os.SEEK_CUR) == 0
        assert pipe.drain(dst, 100, offset=7) == 10
        assert os.lseek(dst, 0, os.SEEK_CUR) == 0
        assert os.pread(dst, 100, 0) == b"-" * 7 + data[5:15] + b"-" * 3
        assert pipe.fill(src, PAGE) == PAGE
        assert os.lseek(src, 0, os.SEEK_CUR) == PAGE
        assert pipe.drain(dst, PAGE) == PAGE
        assert os.lseek(dst, 0, os.SEEK_CUR) == PAGE
        assert os.pread(dst, 2 * PAGE, 0) == data[:PAGE]
        assert pipe.fill(src, 10, offset=len(data)) == 0
        with pytest.raises(OSError, match="offset"):
            pipe.fill(src, 10, offset=-1)


@pytest.mark.parametrize("kind", ["pipe", "fifo", "unix", "tcp4", "file", "tmpfs"])
def test_fill_takes_from_everything_until_its_end(wires, kind, nonblocking):
    """Exact bytes from each transport, then 0."""
    data = payload(300_000)
    source = wires.source(kind, data, nonblocking=nonblocking)
    got = bytearray()
    with Pipe() as pipe:
        while True:
            try:
                n = pipe.fill(source.end, 1 << 20)
            except BlockingIOError:
                assert nonblocking
                os.sched_yield()
                continue
            assert pipe.held == n
            if not n:
                break
            got += pipe.read(n)
    assert bytes(got) == data


@pytest.mark.parametrize("kind", ["pipe", "fifo", "unix", "tcp4", "file", "tmpfs"])
def test_drain_gives_to_everything(wires, kind, nonblocking):
    """Exact bytes to each transport; what is not taken stays held."""
    data = payload(300_000)
    sink = wires.sink(kind, nonblocking=nonblocking)
    left = memoryview(data)
    with Pipe() as pipe:
        while left or pipe.held:
            if not pipe.held:
                left = left[pipe.write(left[: 16 * PAGE]) :]
            held = pipe.held
            try:
                n = pipe.drain(sink.end, 1 << 20)
            except BlockingIOError:
                assert nonblocking
                os.sched_yield()
                continue
            assert n > 0
            assert pipe.held == held - n
    assert sink.received() == data


def test_drain_at_the_end_is_0_and_to_a_gone_reader_is_broken_pipe(wires):
    """The end of the pipe is no error, a reader that went away is, and keeps the bytes."""
    reader, writer = wires.pipe()
    with Pipe() as pipe:
        pipe.write(b"abc")
        os.close(reader)
        with pytest.raises(BrokenPipeError, match="splice"):
            pipe.drain(writer, 10)
        assert pipe.peek(10) == b"abc"
        with open(os.devnull, "wb") as null:
            assert pipe.drain(null, 10) == 3
            pipe.close_writer()
            assert pipe.drain(null, 10) == 0
    with Pipe() as pipe:
        pipe.close_reader()
        with pytest.raises(BrokenPipeError):
            pipe.write(b"x")
        with open("/dev/zero", "rb") as zero, pytest.raises(BrokenPipeError):
            pipe.fill(zero, 10)


@pytest.mark.parametrize("flavour", ["Pipe", "int", "object"])
def test_tee_duplicates_from_the_head(flavour):
    """Into a Pipe, a number or an object; both pipes then hold the bytes."""
    with Pipe() as one, Pipe() as two:
        one.write(b"abcdef")
        if flavour == "object":
            with open(os.dup(two.writer), "wb", buffering=0) as target:
                assert one.tee(target, 4) == 4
        else:
            assert one.tee(two if flavour == "Pipe" else two.writer, 4) == 4
        assert (one.held, two.held) == (6, 4)
        assert one.tee(two, 100) == 6
        assert two.read(100) == b"abcdabcdef"
        assert one.read(100) == b"abcdef"


def test_a_descriptor_without_splice_is_refused_with_words(wires):
    """A file of /proc that refuses says to use copy()."""
    with (
        Pipe() as pipe,
        open("/proc/self/status", "rb", buffering=0) as status,
        pytest.raises(OSError, match=r"copy\(\)") as caught,
    ):
        pipe.fill(status, 10)
    assert caught.value.errno == errno.EINVAL


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.binary(max_size=3 * PAGE)),
            st.tuples(st.just("fill"), st.integers(0, 3 * PAGE)),
            st.tuples(st.just("read"), st.integers(0, 5 * PAGE)),
            st.tuples(st.just("drain"), st.integers(0, 5 * PAGE)),
            st.tuples(st.just("peek"), st.integers(0, 5 * PAGE)),
            st.tuples(st.just("tee"), st.integers(0, 5 * PAGE)),
            st.tuples(st.just("capacity"), st.sampled_from([PAGE, 16 * PAGE, 64 * PAGE])),
        ),
        max_size=30,
    )
)
def test_any_order_of_calls_keeps_the_bytes(calls):
    """Whatever is called, the pipe holds what a plain list of bytes would."""
    content = payload(64 * PAGE)
    model, taken = b"", 0
    src, dst = os.memfd_create("src"), os.memfd_create("dst")
    drained = b""
    try:
        os.write(src, content)
        os.lseek(src, 0, os.SEEK_SET)
        with Pipe(nonblocking=True) as pipe:
            for call, value in calls:
                try:
                    if call == "write":
                        model += value[: pipe.write(value)] if value else b""
                    elif call == "fill":
                        n = pipe.fill(src, value)
                        model, taken = model + content[taken : taken + n], taken + n
                    elif call == "read":
                        assert pipe.read(value) == model[:value]
                        model = model[value:]
                    elif call == "drain":
                        n = pipe.drain(dst, value)
                        drained, model = drained + model[:n], model[n:]
                    elif call == "peek":
                        assert pipe.peek(value) == model[:value]
                    elif call == "tee":
                        with Pipe(pipe.capacity, nonblocking=True) as other:
                            n = pipe.tee(other, value)
                            assert other.read(n + 1 if n else 0) == model[:n]
                    else:
                        pipe.capacity = value
                except BlockingIOError:
                    assert call in ("write", "fill") or not model
                except OSError as error:
                    if (call, error.errno) != ("capacity", errno.EBUSY):
                        raise
                assert pipe.held == len(model)
            assert (pipe.read(1 << 20) if model else b"") == model
        assert os.pread(dst, 1 << 20, 0) == drained
    finally:
        os.close(src)
        os.close(dst)


# -- waiting without the lock ----------------------------------------------------------------------

LOCKS = """
import os, pty, select, socket, sys, termios, threading, tty
from spliceio import Pipe
import contextlib

def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far

def asleep(thread):
    while thread.is_alive():
        with contextlib.suppress(OSError):
            with open(f"/proc/self/task/{thread.native_id}/syscall") as call:
                if call.read().split()[0] not in ("running", "-1", str(FUTEX)):
                    return
        os.sched_yield()

def stuff(fd):
    os.set_blocking(fd, False)
    for size in (1 << 20, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(fd, bytes(size))
    while select.select([], [fd], [], 0)[1]:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b".")
    os.set_blocking(fd, True)

def make(kind):
    if kind == "tcp":
        return tcp()
    if kind == "unix":
        return socket.socketpair()
    master, slave = pty.openpty()
    tty.setraw(slave)
    return open(slave, "r+b", buffering=0), open(master, "r+b", buffering=0)
"""


@pytest.mark.parametrize("kind", ["tcp", "unix", "tty"])
def test_a_fill_from_an_idle_end_leaves_the_pipe_to_others(kind):
    """Held, capacity, write and read answer while a thread fills from what gives nothing."""
    assert run(
        f"""
        near, far = make({kind!r})
        pipe, done = Pipe(), []
        thread = threading.Thread(target=lambda: done.append(pipe.fill(near, 100)), daemon=True)
        thread.start()
        asleep(thread)
        assert pipe.held == 0 and pipe.capacity == 65536
        assert pipe.write(b"abc") == 3 and pipe.peek(9) == b"abc" and pipe.read(9) == b"abc"
        pipe.capacity = 4096
        assert not done
        os.write(far.fileno(), b"hello")
        thread.join()
        assert pipe.read(100) == b"hello" and done == [5]
        pipe.close()
        print("ok")
        """,
        before=f"FUTEX = {FUTEX}\n" + LOCKS,
    )


@pytest.mark.parametrize("kind", ["tcp", "unix", "tty"])
@pytest.mark.parametrize("size", [100, 65536])
def test_a_drain_into_a_full_end_leaves_the_pipe_to_others(kind, size):
    """Held, capacity, write and peek answer while a thread drains into what takes nothing."""
    assert run(
        f"""
        near, far = make({kind!r})
        stuff(near.fileno())
        # A terminal's line discipline takes a little more, a moment later.
        while select.select([], [near], [], 0.1)[1]:
            stuff(near.fileno())
        pipe, done = Pipe(), []
        pipe.capacity = 1 << 17
        pipe.write(bytes({size}))
        thread = threading.Thread(target=lambda: done.append(pipe.drain(near, 1 << 20)),
                                  daemon=True)
        thread.start()
        asleep(thread)
        assert pipe.held == {size} and pipe.capacity == 1 << 17
        assert pipe.write(b"abc") == 3 and pipe.peek(1) == b"\\0"
        assert not done
        os.set_blocking(far.fileno(), False)
        while thread.is_alive():
            with contextlib.suppress(BlockingIOError):
                os.read(far.fileno(), 1 << 20)
        assert done[0] > 0 and pipe.held == {size} + 3 - done[0], (done, pipe.held)
        pipe.close()
        print("ok")
        """,
        before=f"FUTEX = {FUTEX}\n" + LOCKS,
    )


@pytest.mark.parametrize("kind", ["tcp", "unix", "tty"])
def test_a_drain_of_much_into_a_slow_end_leaves_the_pipe_to_others(kind):
    """What is drained in one call is no more than the blocking end takes at once."""
    assert run(
        f"""
        near, far = make({kind!r})
        pipe = Pipe(1 << 20)
        data = bytes(1 << 20)
        thread = None
        for _ in range(200):
            if pipe.held < 1 << 19:
                pipe.write(data[: 1 << 19])
            thread = threading.Thread(target=lambda: pipe.drain(near, 1 << 20), daemon=True)
            thread.start()
            asleep(thread)
            assert pipe.capacity == 1 << 20  # hangs when the lock is held
            if thread.is_alive():
                break
        else:
            raise AssertionError("the other end never got full")
        far.close()
        thread.join()
        print("ok")
        """,
        before=f"FUTEX = {FUTEX}\n" + LOCKS + "threading.excepthook = lambda args: None\n",
    )


def test_a_nonblocking_pipe_never_waits_for_the_other_end(wires):
    """With nonblocking=True a blocking socket that is idle or full raises BlockingIOError."""
    near, far = wires.sockets("unix")
    with Pipe(nonblocking=True) as pipe:
        worker = Worker(lambda: pipe.fill(near, 10))
        waits = ended_or_waits(worker)
        far.sendall(b"x")
        worker.join()
        assert not waits, "fill waits for the socket"
        assert isinstance(worker.error, BlockingIOError)


def test_a_nonblocking_pipe_does_not_wait_for_a_full_socket(stuffed):
    """Draining into a full blocking socket from a nonblocking pipe raises BlockingIOError."""
    near, far = stuffed
    with Pipe(nonblocking=True) as pipe:
        pipe.write(b"abc")
        worker = Worker(lambda: pipe.drain(near, 10))
        waits = ended_or_waits(worker)
        far.setblocking(False)
        while worker.is_alive():
            with contextlib.suppress(BlockingIOError):
                far.recv(1 << 20)
        assert not waits, "drain waits for the socket"
        assert isinstance(worker.error, BlockingIOError)


def test_drain_never_asks_for_more_than_is_held(tmp_path):
    """A longer length makes the kernel hold the last packet back on TCP (MSG_MORE)."""
    trace = tmp_path / "trace"
    script = (
        f"FUTEX = {FUTEX}\n"
        + LOCKS
        + textwrap.dedent(
            """
        near, far = tcp()
        os.set_blocking(near.fileno(), sys.argv[1] == "blocking")
        with Pipe() as pipe, Pipe() as bytes_, open("/dev/zero", "rb", buffering=0) as zero:
            for size in (1, 16):
                for _ in range(size):
                    bytes_.write(b".")
                    pipe.fill(bytes_.reader, 1)
                assert pipe.drain(near, 1 << 20) == size
        """
        )
    )
    for mode in ("blocking", "nonblocking"):
        command = [need("strace"), "-f", "-qq", "-e", "trace=splice", "-o", str(trace)]
        subprocess.run([*command, sys.executable, "-c", script, mode], check=True, timeout=HANG)
        drains = [
            line.rpartition(" = ") for line in trace.read_text().splitlines() if "splice(" in line
        ]
        asked = [int(call.split(", ")[4]) for call, _, _ in drains]
        got = [int(result.split()[0]) for _, _, result in drains]
        assert got[-1] == 16
        assert asked[-1] == 16, f"{mode}: splice was asked for {asked[-1]} bytes of 16"


# -- ending it -------------------------------------------------------------------------------------


def test_unpacking_hands_both_ends_over():
    """As with os.pipe: the caller closes; the Pipe is closed and silent."""
    made = Pipe()
    reader, writer = made
    assert made.closed
    assert (made.reader, made.writer) == (-1, -1)
    del made
    gc.collect()
    os.write(writer, b"x")
    assert os.read(reader, 2) == b"x"
    os.close(reader)
    os.close(writer)


def test_unpacking_in_a_with_block_keeps_the_pipe_the_owner():
    """Inside `with Pipe() as pipe`, the numbers are shown and the pipe closes them."""
    with Pipe() as pipe:
        reader, writer = pipe
        assert (reader, writer) == (pipe.reader, pipe.writer)
        assert tuple(pipe) == (reader, writer)
    for fd in (reader, writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("spoil", [Pipe.close, Pipe.close_reader, Pipe.close_writer, list])
def test_unpacking_what_is_closed_or_handed_over_is_refused(spoil):
    """No -1 is ever handed out."""
    pipe = Pipe()
    given = spoil(pipe)
    with pytest.raises(ValueError, match="closed"):
        _reader, _writer = pipe
    for fd in given or []:
        os.close(fd)
    pipe.close()


def test_closing_is_safe_twice_and_everything_then_says_closed():
    """close() in any order; every use of a closed end is a ValueError, not a stray descriptor."""
    pipe = Pipe()
    pipe.close_writer()
    pipe.close_writer()
    assert (pipe.writer, pipe.closed) == (-1, False)
    with pytest.raises(ValueError, match="write end"):
        pipe.write(b"x")
    with pytest.raises(ValueError, match="write end"):
        pipe.fill(0, 1)
    assert pipe.read(1) == b""
    pipe.close()
    pipe.close()
    pipe.close_reader()
    assert pipe.closed
    assert repr(pipe) == "<Pipe closed>"
    assert (pipe.reader, pipe.writer) == (-1, -1)
    for use in (
        lambda: pipe.read(1),
        lambda: pipe.peek(1),
        lambda: pipe.drain(1, 1),
        lambda: pipe.tee(1, 1),
        lambda: pipe.held,
        lambda: pipe.capacity,
        lambda: setattr(pipe, "capacity", PAGE),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_pipe_that_is_lost_is_closed_with_a_warning():
    """As with files: ResourceWarning, and no descriptor leaks."""
    before = descriptors()
    pipe = Pipe()
    with pytest.warns(ResourceWarning, match="unclosed <Pipe reader="):
        del pipe
    assert descriptors() == before


def _waiting(wires, how, pipe):
    """Start a call that waits; return the worker, and what lets it go."""
    if how == "read":
        return Worker(lambda: pipe.read(10)), lambda: None
    if how == "write":
        pipe.write(bytes(pipe.capacity))
        return Worker(lambda: pipe.write(b"x")), lambda: None
    if how == "drain empty":
        near, far = wires.sockets("tcp4")
        return Worker(lambda: pipe.drain(near, 10)), lambda: None
    if how == "fill idle":
        near, far = wires.sockets("tcp4")
        return Worker(lambda: pipe.fill(near, 10)), lambda: far.sendall(b"x")
    if how == "fill full":
        pipe.write(bytes(pipe.capacity))
        return Worker(lambda: pipe.fill(wires.file(b"x"), 10)), lambda: None
    near, far = wires.stuffed("tcp4")
    pipe.write(b"abc")
    far.setblocking(False)

    def empty():
        with contextlib.suppress(BlockingIOError):
            far.recv(1 << 20)

    return Worker(lambda: pipe.drain(near, 10)), empty


@pytest.mark.parametrize(
    "how", ["read", "write", "drain empty", "drain full", "fill idle", "fill full"]
)
def test_closing_from_another_thread_while_a_call_waits(wires, how):
    """The call ends by itself or when its other end moves; its number is not reused before."""
    pipe = Pipe()
    worker, let_go = _waiting(wires, how, pipe)
    blocked(worker)
    numbers = (pipe.reader, pipe.writer)
    inodes = {os.fstat(fd).st_ino for fd in numbers}
    pipe.close()
    assert pipe.closed
    used = numbers[0] if how in ("read", "drain empty", "drain full") else numbers[1]
    strangers = [os.open("/dev/null", os.O_RDWR) for _ in range(8)]
    try:
        if how in ("fill idle", "drain full"):  # nothing has woken it: it still owns its number
            assert worker.is_alive()
            assert used not in strangers
            assert os.fstat(used).st_ino in inodes
        with pytest.raises(ValueError, match="closed"):
            pipe.read(1)
        while worker.is_alive():
            let_go()
            os.sched_yield()
    finally:
        for fd in strangers:
            os.close(fd)
    if worker.error is not None:
        assert isinstance(worker.error, BrokenPipeError), worker.error
    else:
        assert worker.value in (b"", 0, 3), worker.value
    for fd in numbers:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_closing_while_others_use_it_never_reaches_a_stranger():
    """Threads that write, read, peek and look while it is closed see closed, broken or end."""
    for _ in range(60):
        pipe = Pipe()
        uses: list[int] = []

        def use(call, pipe=pipe, uses=uses):
            while True:
                uses.append(1)
                try:
                    if call(pipe) == b"":
                        return
                except (ValueError, BrokenPipeError):
                    return

        workers = [
            Worker(lambda call=call, use=use: use(call))
            for call in (
                lambda p: p.write(b"x"),
                lambda p: p.read(1),
                lambda p: p.peek(1) or p.held or None,
            )
        ]
        until(lambda uses=uses: len(uses) > 30)
        numbers = (pipe.reader, pipe.writer)
        pipe.close()
        for worker in workers:
            worker.result()
        for fd in numbers:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


# -- two of them crosswise -------------------------------------------------------------------------


def test_a_pair_is_joined_crosswise():
    """What one side writes the other reads; each half is closed by itself."""
    one, two = pipe_pair(PAGE)
    with one, two:
        assert isinstance(one, Duplex)
        assert tuple(one) == (one.reader, one.writer)
        for fd in (*one, *two):
            assert fcntl.fcntl(fd, F_GETPIPE_SZ) == PAGE
        os.write(one.writer, b"to two")
        os.write(two.writer, b"to one")
        assert os.read(two.reader, 10) == b"to two"
        assert os.read(one.reader, 10) == b"to one"
        one.close_writer()
        one.close_writer()
        assert one.writer == -1
        assert os.read(two.reader, 10) == b""
        os.write(two.writer, b"still")
        assert os.read(one.reader, 10) == b"still"
        assert repr(one) == f"<Duplex reader={one.reader} writer=-1>"
    one.close()
    assert tuple(one) == tuple(two) == (-1, -1)


def test_a_lost_pair_is_closed_with_warnings():
    """Both pipes behind it warn."""
    before = descriptors()
    pair = pipe_pair()
    with pytest.warns(ResourceWarning) as caught:
        del pair
    assert len([w for w in caught if w.category is ResourceWarning]) == 2
    assert descriptors() == before


def test_a_pair_is_a_childs_stdin_and_stdout():
    """A child process gets one side; the end of file goes both ways."""
    ours, theirs = pipe_pair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                ["tr", "a-z", "A-Z"], stdin=theirs.reader, stdout=theirs.writer
            )
        with child:
            os.write(ours.writer, b"hello")
            ours.close_writer()
            assert os.read(ours.reader, 100) == b"HELLO"
            assert os.read(ours.reader, 100) == b""


def test_a_terminal_is_filled_from_and_drained_to():
    """A blocking terminal gives a line and takes one, without its flags being changed."""
    master, slave = pty.openpty()
    try:
        tty.setraw(slave)
        with Pipe() as pipe:
            os.write(master, b"typed")
            assert pipe.fill(slave, 100) == 5
            assert pipe.drain(slave, 100) == 5
            assert os.read(master, 100) == b"typed"
            assert os.get_blocking(slave)
    finally:
        os.close(master)
        os.close(slave)
