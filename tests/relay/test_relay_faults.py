"""Relays when things go wrong: resets, urgent bytes, closed sockets, forks, signals, limits.

Rule 1: what arrived, what is held and what is still in the source make up all that was sent.
Rule 2: a reset is never passed on as an end of file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

from spliceio import relay
from tests.support.sides import Collector, Side, check, digest, sides
from tests.support.states import FUTEX, Worker, no_more_descriptors, syscall_of, until
from tests.support.wires import MIB, payload

LINGER = struct.pack("ii", 1, 0)
HANG = 20


def reset(side: Side) -> None:
    """Close the far end so that its peer gets a reset."""
    side.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    side.far.close()


def no_end_of_file(side: Side) -> None:
    """Assert that the far end is neither at its end nor has anything to read."""
    assert side.arrived() == b""


def waits(worker: Worker) -> None:
    """Wait until the relay sleeps in the kernel."""
    until(
        lambda: (
            not worker.is_alive()
            or (worker.asleep() and syscall_of(worker.native_id or 0) not in (None, FUTEX))
        )
    )


# -- resets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["tcp4", "unix", "pair"])
@pytest.mark.parametrize("phase", ["idle", "moved", "both ended halves", "bulk"])
@pytest.mark.parametrize("who", ["a", "b"])
def test_a_reset_by_one_side_ends_the_relay_and_says_whose(who, phase, other, nonblocking):
    """In each phase; the other side reads everything before it, and no end of file."""
    kinds = ("tcp4", other) if who == "a" else (other, "tcp4")
    with sides(*kinds, nonblocking=nonblocking) as pair:
        bad, good = pair if who == "a" else pair[::-1]
        running = Worker(lambda: relay(pair[0].near, pair[1].near))
        expected = b""
        if phase == "moved":
            bad.send(b"abc")
            good.send(b"defg")
            assert os.read(good.reader, 10) == b"abc"
            assert os.read(bad.reader, 10) == b"defg"
        elif phase == "bulk":
            expected = payload(MIB)
            feeder = Worker(lambda: bad.send(expected))
            got = b""
            while len(got) < MIB:
                got += os.read(good.reader, MIB)
            feeder.result()
            assert got == expected
        elif phase == "both ended halves":
            good.finish()
            assert os.read(bad.reader, 10) == b""
            bad.send(b"more")
            assert os.read(good.reader, 10) == b"more"
        waits(running)
        reset(bad)
        result = running.result()
        assert result.reason == f"reset by {who}"
        assert result.held_a_to_b == result.held_b_to_a == b""
        no_end_of_file(good)


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_reset_while_its_bytes_wait_for_a_stalled_peer(who, nonblocking):
    """The peer reads on later: it gets all that was taken, then no end of file."""
    with sides("tcp4", "tcp4", nonblocking=nonblocking) as pair:
        bad, good = pair if who == "a" else pair[::-1]
        running = Worker(lambda: relay(pair[0].near, pair[1].near))
        bad.far.setblocking(False)
        data, sent = payload(64 * MIB), 0
        while True:
            try:
                sent += bad.far.send(data[sent : sent + 65536])
            except BlockingIOError:
                waits(running)
                # Full, and the relay has nothing to do any more.
                if not select.select([], [bad.far], [], 0)[1]:
                    break
        reset(bad)
        got = bytearray()
        good.far.setblocking(False)
        while running.is_alive():
            with contextlib.suppress(BlockingIOError):
                part = good.far.recv(MIB)
                assert part, "an end of file was passed on"
                got += part
        result = running.result()
        moved = result.a_to_b if who == "a" else result.b_to_a
        assert result.reason == f"reset by {who}"
        good.far.setblocking(True)
        got += good.receive(moved - len(got))
        no_end_of_file(good)
        assert digest(got) == digest(data[:moved])


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
@pytest.mark.parametrize("request_size", [10, 100_000, 5 * MIB])
@pytest.mark.parametrize("answer_size", [10, 100_000])
def test_a_server_that_answers_and_resets_is_heard(kind, request_size, answer_size, nonblocking):
    """It closes with our request unread, which is a reset; its answer arrives all the same."""
    answer = payload(answer_size)
    with sides("tcp4", kind, nonblocking=nonblocking) as (client, server):
        server.near.setblocking(True)
        server.near.sendall(b"never read")  # so that the close below is a reset
        server.near.setblocking(not nonblocking)
        got = Collector(client.reader)
        server.send(answer)
        server.far.close()
        feeder = Worker(lambda: client.send(payload(request_size)))
        result = relay(client.near, server.near)
        got.wait_for(result.b_to_a)
        client.near.close()
        with contextlib.suppress(ConnectionError):
            feeder.result()
        with contextlib.suppress(ConnectionResetError):
            got.worker.result()
        assert bytes(got.data) == answer
        assert result.b_to_a == answer_size
        assert result.reason == "reset by b"


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_a_side_that_closed_before_the_relay_began(kind, who):
    """What it had sent arrives, then the end of file; the other's bytes are kept."""
    with sides(kind, kind) as pair:
        gone, other = pair if who == "a" else pair[::-1]
        gone.send(b"bye")
        gone.far.close()
        other.send(payload(1000))
        other.finish()
        got = Collector(other.reader)
        result = relay(pair[0].near, pair[1].near)
        assert result.reason in ("eof", f"reset by {who}")
        back = result.b_to_a if who == "a" else result.a_to_b
        held = result.held_b_to_a if who == "a" else result.held_a_to_b
        assert held + other.rest() == payload(1000)[back:]
        other.near.close()
        with contextlib.suppress(ConnectionResetError):
            got.worker.result()
        assert bytes(got.data) == b"bye"


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_bytes_that_a_gone_reader_refused_are_held(kind):
    """A pipe whose reader went away ends its own way only, and nothing vanishes."""
    with sides(kind, "pair") as (one, two):
        two.far._inward.close_reader()
        one.send(b"refused")
        got = Collector(one.reader)
        two.send(b"still said")
        two.finish()
        result = relay(one.near, two.near)
        assert got.all() == b"still said"
        assert result.b_to_a == 10
        assert result.a_to_b == 0
        assert result.held_a_to_b + one.rest() == b"refused"


# -- urgent bytes ----------------------------------------------------------------------------------

PLAIN = b"abcdefghijklmnopqrstuvwxyz" * 4000


def urgent_stream(sock: socket.socket, where: str) -> int:
    """Send PLAIN with urgent bytes in it; return how many."""
    if where == "middle":
        parts = [PLAIN[:50_000], PLAIN[50_000:]]
    elif where == "begin":
        parts = [b"", PLAIN]
    elif where == "end":
        parts = [PLAIN, b""]
    else:
        parts = [PLAIN[:1000], PLAIN[1000:1001], PLAIN[1001:70_000], PLAIN[70_000:], b""]
    for part in parts[:-1]:
        sock.sendall(part)
        sock.send(b"!", socket.MSG_OOB)
    sock.sendall(parts[-1])
    return len(parts) - 1


@pytest.mark.parametrize("other", ["tcp4", "unix", "pair"])
@pytest.mark.parametrize("where", ["begin", "middle", "end", "several"])
@pytest.mark.parametrize("fin", ["queued", "later"])
def test_everything_around_urgent_bytes_arrives(where, other, fin, nonblocking):
    """Before the relay begins or while it waits, with the end of file behind it or later."""
    with sides("tcp4", other, nonblocking=nonblocking) as (one, two):
        sent = []

        def feed():
            sent.append(urgent_stream(one.far, where))
            if fin == "queued":
                one.finish()

        feeder = Worker(feed)
        if fin == "queued":
            until(lambda: not feeder.is_alive() or feeder.asleep())
        two.send(b"answer")
        two.finish()
        running = Worker(lambda: relay(one.near, two.near))
        got = Collector(two.reader)
        feeder.result()
        if fin == "later":
            got.wait_for(len(PLAIN))
            assert got.data.replace(b"!", b"") == PLAIN
            one.finish()
        data = got.all()
        result = running.result()
        assert data.replace(b"!", b"") == PLAIN
        # An urgent byte that a later one overtook is an ordinary byte: that is TCP.
        assert data.count(b"!") <= sent[0] - 1
        assert result.a_to_b == len(data)
        assert result.b_to_a == 6
        assert result.reason == "eof"


def test_an_urgent_byte_after_which_nothing_comes_does_not_spin():
    """The relay sleeps in poll, and asks a bounded number of times."""
    with sides("tcp4", "tcp4") as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        got = Collector(two.reader)
        one.send(b"before")
        one.far.send(b"!", socket.MSG_OOB)
        got.wait_for(6)
        waits(running)
        one.send(b"after")
        got.wait_for(11)
        one.finish()
        two.finish()
        assert got.all() == b"beforeafter"
        check(running.result(), 11, 0)


# -- closed and forked under way -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_closing_your_sockets_meanwhile_reaches_no_stranger(kind, tmp_path):
    """The relay goes on with its own duplicates; files that took the numbers stay empty."""
    with sides(kind, kind) as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        got, back = Collector(two.reader), Collector(one.reader)
        one.send(b"before")
        got.wait_for(6)
        numbers = {*one.fds, *two.fds}
        one.near.close()
        two.near.close()
        files = [open(tmp_path / str(i), "w+b") for i in range(4)]  # noqa: SIM115
        assert numbers <= {file.fileno() for file in files}
        data = payload(MIB)
        feeder = Worker(lambda: (one.send(data), one.finish()))
        two.send(b"back")
        two.finish()
        assert digest(got.all()) == digest(b"before" + data)
        assert back.all() == b"back"
        feeder.result()
        check(running.result(), MIB + 6, 4)
        for file in files:
            assert os.fstat(file.fileno()).st_size == 0
            file.close()


def test_shutting_a_socket_down_meanwhile_ends_its_relay():
    """shutdown() works through the duplicates, so it is the way to stop one."""
    with sides("tcp4", "tcp4") as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        waits(running)
        one.near.shutdown(socket.SHUT_RDWR)
        two.near.shutdown(socket.SHUT_RDWR)
        assert running.result().a_to_b == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_meanwhile_changes_nothing():
    """The child takes no byte, and its end is not the relay's."""
    with sides("tcp4", "unix") as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        got, back = Collector(two.reader), Collector(one.reader)
        one.send(b"before")
        got.wait_for(6)
        hold_r, hold_w = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(hold_w)
            os.read(hold_r, 1)
            os._exit(0)
        os.close(hold_r)
        data = payload(2 * MIB)
        feeder = Worker(lambda: (one.send(data), one.finish()))
        two.finish()
        # The child still has every duplicate, and yet the end of file comes.
        assert digest(got.all()) == digest(b"before" + data)
        assert back.all() == b""
        feeder.result()
        check(running.result(), len(data) + 6, 0)
        os.close(hold_w)
        assert os.waitpid(child, 0)[1] == 0


def run(script: str, *, send: bytes = b"") -> str:
    """Run a script in a new interpreter; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", script], input=send, capture_output=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("call", ["relay(near, far)", "copy(near, far)"])
def test_a_child_forked_in_a_signal_handler_takes_nothing(call):
    """In the child the call raises, and the bytes in the shared private pipe stay the parent's."""
    out = run(
        f"FUTEX = {FUTEX}"
        + """
import os, select, signal, socket, threading
from spliceio import copy, relay
a, near = socket.socketpair()
far, b = socket.socketpair()
main, forked = threading.main_thread(), threading.Event()

def fork(*_):
    if os.fork():
        forked.set()

def main_waits():
    with open(f"/proc/self/task/{main.native_id}/syscall") as call:
        return call.read().split()[0] not in ("running", "-1", str(FUTEX))

def feed():
    sent = 0
    a.setblocking(False)
    while True:  # until everything is full and the relay holds bytes
        while not main_waits():
            os.sched_yield()
        if not select.select([], [a], [], 0)[1]:
            break
        sent += a.send(b"x" * 65536)
    signal.pthread_kill(main.ident, signal.SIGALRM)
    forked.wait()
    status = os.waitstatus_to_exitcode(os.wait()[1])
    a.shutdown(socket.SHUT_WR)
    b.settimeout(10)
    got = 0
    while part := b.recv(1 << 20):
        got += len(part)
    b.shutdown(socket.SHUT_WR)
    print(status, "exact" if got == sent else f"got {got} of {sent}", flush=True)

signal.signal(signal.SIGALRM, fork)
thread = threading.Thread(target=feed, daemon=True)
thread.start()
try:
    CALL
except RuntimeError as error:
    os._exit(7 if "process" in str(error) else 1)
far.shutdown(socket.SHUT_WR)
thread.join()
""".replace("CALL", call)
    )
    assert out == "7 exact\n"


# -- signals ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def alarms(handler, interval: float = 0.001):
    """Call the handler for SIGALRM, again and again."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("a", "b"), [("tcp4", "unix"), ("pair", "tcp4")])
def test_a_storm_of_signals_costs_no_byte(a, b, nonblocking):
    """SIGALRM every millisecond, both ways busy."""
    ab, ba = payload(24 * MIB), payload(16 * MIB, 2)
    calls = []
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        got, back = Collector(two.reader), Collector(one.reader)
        feeders = [
            Worker(lambda s=s, d=d: (s.send(d), s.finish())) for s, d in ((one, ab), (two, ba))
        ]
        with alarms(lambda *_: calls.append(1)):
            result = relay(one.near, two.near)
        for feeder in feeders:
            feeder.result()
        check(result, len(ab), len(ba))
        assert digest(got.all()) == digest(ab)
        assert digest(back.all()) == digest(ba)
    assert calls


class Stop(Exception):
    pass


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGINT])
@pytest.mark.parametrize("busy", [True, False])
def test_an_exception_from_a_signal_handler_carries_the_result(number, busy, nonblocking):
    """Counts, held bytes and what is left in the source make up everything sent."""

    def stop(*_):
        raise Stop

    before = signal.signal(number, stop if number == signal.SIGALRM else signal.default_int_handler)
    try:
        with sides("tcp4", "unix", nonblocking=nonblocking) as (one, two):
            got = Collector(two.reader)
            data = payload(20 * MIB if busy else 1000)
            main = threading.main_thread()
            sender = Worker(lambda: one.send(data))

            def interrupt():
                got.wait_for(MIB if busy else 1000)
                signal.pthread_kill(main.ident, number)

            interrupter = Worker(interrupt)
            with pytest.raises(Stop if number == signal.SIGALRM else KeyboardInterrupt) as caught:
                relay(one.near, two.near)
            interrupter.result()
            result = caught.value.result
            assert result.reason == "stopped"
            assert result.b_to_a == 0
            rest = bytearray()
            while result.a_to_b + len(result.held_a_to_b) + len(rest) < len(data):
                select.select([one.fds[0]], [], [])
                rest += os.read(one.fds[0], MIB)
            sender.result()
            two.near.close()
            arrived = got.all()
            assert len(arrived) == result.a_to_b
            assert digest(arrived + result.held_a_to_b + rest) == digest(data)
    finally:
        signal.signal(number, before)


# -- no descriptors --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_without_a_descriptor_for_the_pipe_it_copies(kind, nonblocking):
    """The two duplicates are all there is: exact all the same, and the methods say how."""
    ab, ba = payload(5 * MIB), payload(3 * MIB, 2)
    with sides(kind, kind, nonblocking=nonblocking) as (one, two):
        got, back = Collector(two.reader), Collector(one.reader)
        feeders = [
            Worker(lambda s=s, d=d: (s.send(d), s.finish())) for s, d in ((one, ab), (two, ba))
        ]
        with no_more_descriptors(2):
            result = relay(one.near, two.near)
        for feeder in feeders:
            feeder.result()
        check(result, len(ab), len(ba))
        assert result.methods == {"read_write": len(ab) + len(ba)}
        assert digest(got.all()) == digest(ab)
        assert digest(back.all()) == digest(ba)


@pytest.mark.parametrize("spare", [0, 1])
def test_without_descriptors_for_itself_it_says_so_and_takes_nothing(spare):
    """EMFILE before the first byte; nothing is left open. A relay of two sockets takes two."""
    with sides("unix", "unix") as (one, two):
        one.send(b"kept")
        with no_more_descriptors(spare), pytest.raises(OSError, match="no descriptor") as caught:
            relay(one.near, two.near)
        assert caught.value.errno == errno.EMFILE
        assert one.rest() == b"kept"


def test_a_full_disk_is_an_exception_with_the_result():
    """A failure of another kind than a closed connection is raised, with the counts."""
    data = payload(100_000)
    with sides("tcp4", "tcp4") as (one, _), open("/dev/full", "wb", buffering=0) as full:
        with open(os.devnull, "rb", buffering=0) as nothing:
            one.send(data)
            with pytest.raises(OSError, match="dst") as caught:
                relay(one.near, (nothing, full))
        assert caught.value.errno == errno.ENOSPC
        result = caught.value.result
        assert result.a_to_b == 0
        assert result.held_a_to_b + one.rest() == data
