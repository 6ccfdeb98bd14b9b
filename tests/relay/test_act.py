"""A relay whose sides have both ended, in one call on the caller's own sockets; and what is left.

Rule 1: what has arrived, what is held and what is still unread make up all that was sent, each way,
whatever a call of the try answers; and so the counts say.
Rule 2: what is done in one go duplicates nothing, changes no mode and wakes no engine.
Rule 3: nothing that goes on has been touched.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

from spliceio import RelayPool, relay
from spliceio._cffi import lib
from spliceio._relay import act as _act
from spliceio._relay import relay as _relay
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail
from tests.support.wires import payload

BUF = lib.SIO_ACT_BUF
TO_B, TO_A = payload(3000, seed=1), payload(2000, seed=2)
LINGER = struct.pack("ii", 1, 0)


@pytest.fixture(params=["relay", "pool"])
def run(request):
    """Relay two sides, by themselves or in a pool."""
    if request.param == "relay":
        yield relay
        return
    with RelayPool(1) as pool:
        yield lambda a, b, **options: pool.submit(a, b, **options).result(20)


@pytest.fixture
def long_way(monkeypatch):
    """Which relays took the long way."""
    made, begin = [], _relay.Pair.__init__

    def counted(pair, *args, **kwargs):
        made.append(pair)
        begin(pair, *args, **kwargs)

    monkeypatch.setattr(_relay.Pair, "__init__", counted)
    return made


class Sides:
    """Two connections whose peers have sent something each, and then their end."""

    def __init__(self, wires, kind="unix", to_b=TO_B, to_a=TO_A):
        (self.a, self.from_a), (self.b, self.from_b) = wires.sockets(kind), wires.sockets(kind)
        for near, far, data in ((self.a, self.from_a, to_b), (self.b, self.from_b, to_a)):
            for sock in (near, far):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
            far.sendall(data)
            far.shutdown(socket.SHUT_WR)
            poll = select.poll()
            poll.register(near, select.POLLRDHUP)
            poll.poll()
        self.to_b, self.to_a = to_b, to_a

    def exact(self, result, *, ended=True):
        """Assert that every byte of both ways is in one place, and the ends of file came."""
        for far, near, sent, moved, held in (
            (self.from_b, self.a, self.to_b, result.a_to_b, result.held_a_to_b),
            (self.from_a, self.b, self.to_a, result.b_to_a, result.held_b_to_a),
        ):
            came, left = unread(far), unread(near)
            assert len(came[0]) == moved
            assert came[0] + held + left[0] == sent
            assert came[1] or not ended
        assert sum(result.methods.values()) == result.a_to_b + result.b_to_a


def unread(sock):
    """Read what is there, and whether the end of file is."""
    came = b""
    while select.select([sock], [], [], 0)[0]:
        part = sock.recv(1 << 20)
        if not part:
            return came, True
        came += part
    return came, False


# -- done in one go --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (0, 3000), (BUF, 2 * BUF + 1)])
@pytest.mark.parametrize("mode", [None, 0, 5.0], ids=["blocking", "nonblocking", "timeout"])
def test_what_has_ended_is_passed_on(wires, run, long_way, kind, sizes, mode):
    sides = Sides(wires, kind, payload(sizes[0], 3), payload(sizes[1], 4))
    for sock in (sides.a, sides.b):
        sock.settimeout(mode)
    result = run(sides.a, sides.b)
    assert (result.a_to_b, result.b_to_a, result.reason) == (*sizes, "eof")
    assert result.methods == ({"read_write": sum(sizes)} if any(sizes) else {})
    assert result.seconds >= 0
    assert long_way == []
    assert (sides.a.gettimeout(), sides.b.gettimeout()) == (mode, mode)
    sides.exact(result)


def test_a_future_of_what_is_over(wires):
    """It is done at once, by whatever it is asked; the pool has counted it."""
    with RelayPool(2) as pool:
        sides = Sides(wires)
        future = pool.submit(sides.a.fileno(), sides.b)
        assert future.done()
        assert not future.running()
        assert not future.cancel()
        called = []
        future.add_done_callback(called.append)
        assert called == [future]
        assert future.exception(0) is None
        assert future.outcome() == future.result()
        again = Sides(wires)
        pool.submit(again.a, again.b).result()
        stats = pool.stats()
        assert (stats.active, stats.total) == (0, 2)
        assert (stats.a_to_b, stats.b_to_a) == (2 * len(TO_B), 2 * len(TO_A))
    sides = Sides(wires)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(sides.a, sides.b)
    assert unread(sides.a)[0] == TO_B


SCRIPT = """
import os, socket, spliceio
pool = spliceio.RelayPool(1)
for turn in range(3):
    (a, from_a), (b, from_b) = socket.socketpair(), socket.socketpair()
    from_a.sendall(b"x" * 1000)
    for far in from_a, from_b:
        far.shutdown(socket.SHUT_WR)
    os.access("/begin", 0)
    {call}
    os.access("/end", 0)
"""
CALLS = {
    "relay": (11, "spliceio.relay(a, b)"),
    "pool": (13, "pool.submit(a, b).result()"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_more_system_calls_than(tmp_path, name):
    """Counted by strace between two marks, of all threads, at the last of three calls."""
    most, call = CALLS[name]
    log = tmp_path / "log"
    command = [need("strace"), "-f", "-qq", "-o", str(log)]
    command += [sys.executable, "-c", SCRIPT.format(call=call)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = log.read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if '"/begin"' in line)
    end = max(i for i, line in enumerate(lines) if '"/end"' in line)
    made = [line for line in lines[begin + 1 : end] if re.match(r"\d+ +\w+\(", line)]
    assert 0 < len(made) <= most, made
    assert not any(re.search(r" (futex|write|epoll_\w+)\(", line) for line in made), made


# -- what is not done in one go --------------------------------------------------------------------


PASSING = ("EAGAIN", "EINTR", "ENOMEM")
GONE = ("EPIPE", "ECONNRESET", "ETIMEDOUT")


@pytest.mark.parametrize("call", ["read", "write", "poll", "shutdown"])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("err", [*PASSING, *GONE, "EIO"])
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_each_call_of_it_fails_once(wires, monkeypatch, kind, call, skip, err):
    """It is asked again, or told; every byte is in one place."""
    sides = Sides(wires, kind)
    rule = fail(call, getattr(errno, err), skip=skip)
    raised = None
    with Seam(rule).everywhere(monkeypatch):
        try:
            result = relay(sides.a, sides.b, idle_timeout=5)
        except OSError as error:
            raised, result = error, error.result
    if err in ("EAGAIN", "EINTR") and call != "shutdown":
        assert (result.reason, result.a_to_b, result.b_to_a) == ("eof", len(TO_B), len(TO_A))
    if err in GONE and call == "read" and skip < 2:
        assert result.reason == "reset by a"
    if err == "ECONNRESET" and call == "write" and skip < 2:
        assert result.reason == ("reset by b" if skip == 0 else "reset by a")
    sides.exact(result, ended=False)
    assert raised is None or raised.errno == getattr(errno, err)


@pytest.mark.parametrize("call", ["read", "write"])
@pytest.mark.parametrize(("most", "times"), [(1, 1), (999, 1), (700, ALWAYS)])
@pytest.mark.parametrize("skip", [0, 1])
def test_each_call_of_it_is_short(wires, monkeypatch, call, skip, most, times):
    """The rest goes the long way, and all is counted together."""
    sides = Sides(wires)
    with Seam(cap(call, most, skip=skip, times=times)).everywhere(monkeypatch):
        result = relay(sides.a, sides.b, idle_timeout=5)
    assert (result.reason, result.a_to_b, result.b_to_a) == ("eof", len(TO_B), len(TO_A))
    sides.exact(result)


@pytest.mark.parametrize("way", ["to_b", "to_a"])
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_more_than_is_little_goes_on(wires, run, long_way, kind, way):
    """Four buffers of it, and the rest the long way."""
    data = payload(6 * BUF)
    (near, far), (other, end) = wires.sockets(kind), wires.sockets(kind)
    for sock in (near, far, other, end):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)
    end.shutdown(socket.SHUT_WR)
    poll = select.poll()
    poll.register(near, select.POLLRDHUP)
    poll.poll()
    came = []
    reader = threading.Thread(target=lambda: came.extend(iter(lambda: end.recv(1 << 20), b"")))
    reader.start()
    result = run(near, other) if way == "to_b" else run(other, near)
    reader.join()
    moved = (result.a_to_b, result.b_to_a)
    assert moved == ((len(data), 0) if way == "to_b" else (0, len(data)))
    assert b"".join(came) == data
    assert result.reason == "eof"
    assert sum(result.methods.values()) == len(data)
    assert len(long_way) == 1


def test_what_a_full_side_has_not_taken_is_held(wires, run):
    """The idle timeout ends it; what was taken is told, both by the counts and by the bytes."""
    sides = Sides(wires)
    full = wires.stuffed("unix")
    far = full[1]
    far.shutdown(socket.SHUT_WR)
    result = run(sides.a, full[0], idle_timeout=0.05)
    assert result.reason == "idle"
    assert result.held_a_to_b + unread(sides.a)[0] == TO_B
    assert result.a_to_b == result.b_to_a == 0


def test_a_reset_is_told_though_the_try_has_met_it(wires, run, monkeypatch):
    """The kernel tells it once, to the first who asks."""
    near, far = wires.sockets("tcp4")
    other, _end = wires.sockets("unix")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    select.select([near], [], [])
    assert run(near, other, idle_timeout=5).reason == "reset by a"


def test_an_urgent_byte_is_passed_over_as_ever(wires, run):
    """Everything around it arrives."""
    (near, far), (other, end) = wires.sockets("tcp4"), wires.sockets("tcp4")
    far.sendall(b"before")
    far.send(b"!", socket.MSG_OOB)
    far.sendall(b"after")
    far.shutdown(socket.SHUT_WR)
    end.shutdown(socket.SHUT_WR)
    poll = select.poll()
    poll.register(near, select.POLLRDHUP)
    poll.poll()
    result = run(near, other)
    came = b"".join(iter(lambda: end.recv(100), b""))
    assert came.replace(b"!", b"") == b"beforeafter"
    assert result.a_to_b == len(came)


@pytest.mark.parametrize("swapped", ["a", "b"])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_number_that_has_become_anothers_before_the_rest(wires, monkeypatch, swapped, pooled):
    """What is left goes only between what was looked at; what was done is told."""
    sides = Sides(wires)
    ends = {"a": os.dup(sides.a.fileno()), "b": os.dup(sides.b.fileno())}
    stranger, strangers_far = wires.sockets("unix")
    make = _relay.Pair.__init__

    def late(pair, *args, **kwargs):
        os.dup2(stranger.fileno(), ends[swapped])
        make(pair, *args, **kwargs)

    monkeypatch.setattr(_relay.Pair, "__init__", late)
    with (
        RelayPool() as pool,
        Seam(cap("write", 400)).everywhere(monkeypatch),
        pytest.raises(OSError, match="closed by another thread") as caught,
    ):
        (pool.submit if pooled else relay)(*ends.values())
    for fd in ends.values():
        os.close(fd)
    assert caught.value.result.a_to_b == 400
    assert caught.value.result.held_a_to_b == TO_B[400:]
    sides.exact(caught.value.result, ended=False)
    assert unread(strangers_far) == (b"", False)


def test_it_cannot_even_go_on(wires, monkeypatch):
    """No descriptor is left for a duplicate: what was passed on is told, and the rest is held."""
    sides = Sides(wires)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    make = _relay.Pair.__init__

    def none_left(pair, *args, **kwargs):
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            make(pair, *args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    monkeypatch.setattr(_relay.Pair, "__init__", none_left)
    with (
        Seam(cap("write", 400)).everywhere(monkeypatch),
        pytest.raises(OSError, match="no descriptor left") as caught,
    ):
        relay(sides.a, sides.b)
    assert caught.value.result.a_to_b == 400
    sides.exact(caught.value.result, ended=False)


# -- what is not touched ---------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"to_a": b"x"}, {"to_b": b"x"}, {"byte_limit": 10}])
def test_what_has_to_be_counted_or_sent_first_takes_the_long_way(wires, long_way, option):
    sides = Sides(wires)
    relay(sides.a, sides.b, **option)
    assert len(long_way) == 1


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_side_that_has_not_ended_is_not_read(wires, monkeypatch, which):
    """Both have to be through: nothing is taken from the one that is."""
    (near, far), (other, end) = wires.sockets("unix"), wires.sockets("unix")
    ended = far if which == "a" else end
    far.sendall(b"from a")
    end.sendall(b"from b")
    ended.shutdown(socket.SHUT_WR)
    monkeypatch.setattr(_relay, "run_relay", lambda *_args, **_options: "the long way")
    assert relay(near, other) == "the long way"
    assert (near.recv(99), other.recv(99)) == (b"from a", b"from b")


@pytest.mark.parametrize("kind", ["datagram", "listening", "closed", "file", "itself"])
def test_what_is_refused_is_refused_as_before(wires, kind):
    sides = Sides(wires)
    if kind == "datagram":
        bad, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        wires.ends.sock(bad)
        wires.ends.sock(other)
        other.shutdown(socket.SHUT_RDWR)
    elif kind == "listening":
        bad = wires.ends.sock(socket.create_server(("127.0.0.1", 0)))
    elif kind == "closed":
        bad = 10_000
    else:
        bad = wires.ends.fd(os.open(wires.tmp_path, os.O_RDONLY))
    with pytest.raises((OSError, ValueError)):
        relay(sides.a, bad)
    assert unread(sides.a)[0] == TO_B


@pytest.mark.parametrize("bad", [-1.0, "soon", float("nan")])
def test_a_timeout_that_is_none(wires, run, bad):
    """Said before a byte moves."""
    sides = Sides(wires)
    with pytest.raises((ValueError, TypeError)):
        run(sides.a, sides.b, idle_timeout=bad)
    assert unread(sides.a)[0] == TO_B


def test_threads_share_nothing(wires):
    """Each call has a struct of its own, also when many are under way."""
    errors = []

    def work(number):
        try:
            data = payload(1000, seed=number)
            for _ in range(200):
                (a, far), (b, end) = socket.socketpair(), socket.socketpair()
                with a, far, b, end:
                    far.sendall(data)
                    far.shutdown(socket.SHUT_WR)
                    end.shutdown(socket.SHUT_WR)
                    assert relay(a, b).a_to_b == 1000
                    assert end.recv(2000) == data
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_signal_that_raises_meanwhile_leaves_the_counts(wires):
    """An alarm in the middle of the call: what has arrived is what the result says."""

    def stop(*_):
        raise InterruptedError("stop")

    before = signal.signal(signal.SIGALRM, stop)
    told = 0
    try:
        for turn in range(100):
            sides = Sides(wires)
            result = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + turn * 0.000003)
                result = relay(sides.a, sides.b)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedError as error:
                signal.setitimer(signal.ITIMER_REAL, 0)
                result = result or getattr(error, "result", None)
            if result is not None:
                told += 1
                sides.exact(result, ended=False)
            for sock in (sides.a, sides.b, sides.from_a, sides.from_b):
                sock.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert told


def test_the_try_is_what_is_asked_first(wires, monkeypatch):
    """A pool in which nothing ends at once has its engines do all of it."""
    monkeypatch.setattr(_act, "_act", lambda *_: lib.SIO_UNTRIED)
    sides = Sides(wires)
    with RelayPool() as pool:
        result = pool.submit(sides.a, sides.b).result(20)
        assert pool.stats().total == 1
    sides.exact(result)
