"""Relays between everything that can be a side: content, half-close, counts, limits, methods.

Data runs one.far -> one.near -> (the relay) -> two.near -> two.far, and back.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spliceio import RelayResult, pipe_pair, relay
from tests.support.cases import cases
from tests.support.sides import Collector, Side, check, digest, sides
from tests.support.states import Worker, descriptors, until
from tests.support.wires import MIB, payload

SIDES = ("unix", "tcp4", "tcp6", "pair", "duplex", "objects")
HANG = 60


def exchange(one: Side, two: Side, ab: bytes, ba: bytes, **options) -> RelayResult:
    """Send both ways at once, to the end; check the content and return the result."""
    got = {side: Collector(side.reader) for side in (one, two)}
    running = Worker(lambda: relay(one.near, two.near, **options))
    feeders = [Worker(lambda s=s, d=d: (s.send(d), s.finish())) for s, d in ((one, ab), (two, ba))]
    for feeder in feeders:
        feeder.result()
    result = running.result()
    assert isinstance(result, RelayResult)
    assert digest(got[two].all()) == digest(bytes(options.get("to_b", b"")) + ab)
    assert digest(got[one].all()) == digest(bytes(options.get("to_a", b"")) + ba)
    return result


# -- content, in every combination -----------------------------------------------------------------


@cases(a=SIDES, b=SIDES, nonblocking=[False, True])
def test_both_ways_at_once(a, b, nonblocking):
    """Random sizes up to 5 MiB both ways; bulk goes by splice."""
    chance = random.Random(f"{a}{b}{nonblocking}")
    ab, ba = (chance.randbytes(chance.randrange(5 * MIB)) for _ in range(2))
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        result = exchange(one, two, ab, ba)
        check(result, len(ab), len(ba))
        if len(ab) + len(ba) > MIB:
            assert result.methods["splice"] > result.methods.get("read_write", 0)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 16384, 32768, 65536, 65537])
@pytest.mark.parametrize(("a", "b"), [("tcp4", "unix"), ("pair", "tcp4"), ("unix", "duplex")])
def test_sizes_at_the_edges(a, b, size):
    """Nothing, a byte, a page and a buffer, one less and one more."""
    with sides(a, b) as (one, two):
        check(exchange(one, two, payload(size), payload(size, 2)), size, size)


@cases(
    a=["unix", "tcp4", "duplex"],
    b=["unix", "tcp4", "pair"],
    first=["a", "b"],
    nonblocking=[False, True],
)
def test_half_close_in_both_orders(a, b, first, nonblocking):
    """One side says everything and ends; the other reads that end, then answers, then ends."""
    ask, answer = payload(300_000), payload(400_000, 2)
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        asks, answers = (one, two) if first == "a" else (two, one)
        asked, answered = Collector(answers.reader), Collector(asks.reader)
        asks.send(ask)
        asks.finish()
        assert asked.all() == ask
        assert running.is_alive()
        assert not answered.data
        answers.send(answer)
        answers.finish()
        assert answered.all() == answer
        sizes = (len(ask), len(answer)) if first == "a" else (len(answer), len(ask))
        check(running.result(), *sizes)


def test_to_a_and_to_b_go_out_first():
    """Bytes from before the relay are in front, and counted."""
    with sides("tcp4", "pair") as (one, two):
        result = exchange(one, two, b"ab", b"ba", to_a=b"x" * 100_000, to_b=b"yy")
        check(result, 4, 100_002)
    with sides("unix", "unix") as (one, two):
        result = exchange(one, two, b"", b"", to_a=bytearray(b"x"), to_b=memoryview(b"yy"))
        check(result, 2, 1)


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_sockets_stay_open_and_numbers_do_as_sides(kind):
    """relay() closes no socket; a number stands for one as well as the object."""
    with sides(kind, kind) as (one, two):
        one.near, two.near = one.near.fileno(), two.near.fileno()
        check(exchange(one, two, b"ab", b"cde"), 2, 3)
        for fd in (*one.fds, *two.fds):
            os.fstat(fd)
            assert os.get_blocking(fd)


def test_a_pair_of_sockets_is_half_closed_and_not_closed():
    """A pair whose writer is a socket gets the end of file by shutdown."""
    with sides("unix", "tcp4") as (one, two):
        both = two.near
        two.near = (both, both)
        check(exchange(one, two, payload(100_000), b"back"), 100_000, 4)
        assert both.fileno() >= 0


def test_a_file_on_one_side(tmp_path):
    """A pair of two files: one is sent whole, the other gets the answer and is closed."""
    source, target = tmp_path / "source", tmp_path / "target"
    data, answer = payload(1_000_000), payload(100_000, 2)
    source.write_bytes(data)
    with (
        sides("tcp4", "tcp4") as (one, unused),
        open(source, "rb") as src,
        open(target, "wb") as dst,
    ):
        got = Collector(one.reader)
        running = Worker(lambda: relay((src, dst), one.near))
        one.send(answer)
        one.finish()
        result = running.result()
        assert got.all() == data
        check_sizes = (result.a_to_b, result.b_to_a, result.reason)
        assert check_sizes == (len(data), len(answer), "eof")
        assert dst.closed
        assert not src.closed
        assert unused.near.fileno() >= 0
    assert target.read_bytes() == answer


# -- bare numbers, standard streams, children ------------------------------------------------------


def test_a_bare_number_stays_the_callers(wires):
    """Its reader sees the end; the number stays closable, and a late write gets BrokenPipeError."""
    with sides("unix", "pair") as (one, two):
        reader, writer = two.near
        os.set_inheritable(writer, True)
        seen = []

        def late():
            assert Collector(two.reader).all() == b"x"
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"late")
            seen.append(writer)
            two.finish()

        running = Worker(lambda: relay(one.near, two.near))
        one.send(b"x")
        one.finish()
        Worker(late).result()
        check(running.result(), 1, 0)
        assert seen
        assert os.get_inheritable(writer)
        os.close(os.dup(writer))
        os.fstat(reader)


def test_a_number_reused_meanwhile_is_left_alone(tmp_path):
    """The caller closes the number and opens a file: the file is not touched."""
    with sides("unix", "pair") as (one, two):
        _reader, writer = two.near
        running = Worker(lambda: relay(one.near, two.near))
        got = Collector(two.reader)
        one.send(b"before")
        got.wait_for(6)
        two.owned[0].close_writer()
        with open(tmp_path / "stranger", "w+b", buffering=0) as made:
            while made.fileno() != writer:
                made = os.fdopen(os.dup(made.fileno()), "w+b", buffering=0)
                one.owned.append(made)
            one.send(b"after")
            one.finish()
            assert got.all() == b"beforeafter"
            two.finish()
            check(running.result(), 11, 0)
            assert made.write(b"mine") == 4
        for file in one.owned[2:]:
            file.close()
        del one.owned[2:]
    assert (tmp_path / "stranger").read_bytes() == b"mine"


def test_standard_streams_are_left_open():
    """As a side of (0, 1): both still work when the relay has ended."""
    script = """
import os, socket
from spliceio import relay
a, b = socket.socketpair()
b.sendall(b"from the socket\\n"); b.shutdown(socket.SHUT_WR)
result = relay((0, 1), a)
os.write(1, b"still open\\n")
os.fstat(0), os.fstat(2)
assert b.recv(100) + b.recv(100) == b"from stdin", "wrong"
print(result.a_to_b, result.b_to_a, result.reason)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"from stdin", capture_output=True, timeout=HANG
    )
    assert (done.stderr, done.returncode) == (b"", 0)
    assert done.stdout == b"from the socket\nstill open\n10 16 eof\n"


def through_child(command: list[str], how: str, data: bytes) -> tuple[bytes, RelayResult]:
    """Relay between a socket and a child; return what came back."""
    with sides("tcp4", "tcp4") as (one, _):
        got = Collector(one.reader)
        if how == "popen":
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            side, ours = (child.stdout, child.stdin), None
        else:
            ours, theirs = pipe_pair()
            child = subprocess.Popen(command, stdin=theirs.reader, stdout=theirs.writer)
            theirs.close()
            side = ours if how == "duplex" else tuple(ours)
        with child:
            feeder = Worker(lambda: (one.send(data), one.finish()))
            result = Worker(lambda: relay(one.near, side)).result()
            feeder.result()
            answer = got.all()
            if how == "popen" and result.a_to_b == len(data):
                assert child.stdin.closed
            if ours is not None:
                if how == "ints":
                    with pytest.raises(BrokenPipeError):
                        os.write(ours.writer, b"late")
                ours.close()
        return answer, result


@pytest.mark.parametrize("how", ["popen", "duplex", "ints"])
@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_a_child_process(how, size):
    """`tr` and `cat` get everything and the end of file, and their output comes back."""
    data = payload(size).hex().encode()
    answer, result = through_child(["tr", "a-z", "A-Z"], how, data)
    assert digest(answer) == digest(data.upper())
    check(result, len(data), len(data))
    answer, result = through_child(["cat"], how, data)
    assert digest(answer) == digest(data)


IGNORES = "import os; os.close(0); os.write(1, b'answer' * 100000)"


@pytest.mark.parametrize("how", ["popen", "duplex", "ints"])
@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_a_child_that_ignores_its_input_still_answers(how, size):
    """Its stdin is closed without a read: what it writes arrives whole."""
    script = IGNORES.replace("os.write(1, b'answer' * 100000)", "print('answer' * 100000, end='')")
    answer, result = through_child([sys.executable, "-c", script], how, payload(size))
    assert answer == b"answer" * 100_000
    assert result.b_to_a == 600_000
    assert result.reason == "eof"


@pytest.mark.parametrize("how", ["popen", "duplex", "ints"])
def test_a_child_that_ends_ends_the_relay(how):
    """Though the client neither sends nor closes: nobody is there to read from it any more."""
    with sides("tcp4", "tcp4") as (one, _):
        ours, theirs = pipe_pair()
        with ours:
            command = ["sh", "-c", "echo gone"]
            if how == "popen":
                child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                side = (child.stdout, child.stdin)
            else:
                child = subprocess.Popen(command, stdin=theirs.reader, stdout=theirs.writer)
                side = ours if how == "duplex" else tuple(ours)
            theirs.close()
            with child:
                check(relay(one.near, side), 0, 5)
                assert Collector(one.reader).all() == b"gone\n"


# -- limits ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    a=st.sampled_from(["unix", "tcp4", "pair"]),
    b=st.sampled_from(["unix", "tcp4", "duplex"]),
    ab=st.integers(0, 50_000),
    ba=st.integers(0, 50_000),
    to_a=st.integers(0, 2_000),
    to_b=st.integers(0, 2_000),
    limit=st.one_of(st.integers(0, 3), st.integers(0, 110_000)),
    nonblocking=st.booleans(),
)
def test_the_byte_limit_is_exact(a, b, ab, ba, to_a, to_b, limit, nonblocking):
    """Both ways together carry min(limit, all); the rest is still in its source."""
    data = {"ab": payload(ab), "ba": payload(ba, 2)}
    before = {"ab": b"<" * to_b, "ba": b">" * to_a}
    limit += to_a + to_b
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        one.send(data["ab"])
        two.send(data["ba"])
        one.finish()
        two.finish()
        result = relay(one.near, two.near, to_a=before["ba"], to_b=before["ab"], byte_limit=limit)
        total = ab + ba + to_a + to_b
        assert result.a_to_b + result.b_to_a == min(limit, total)
        assert (result.held_a_to_b, result.held_b_to_a) == (b"", b"")
        if limit < total:
            assert result.reason == "limit"
        elif limit > total:
            assert result.reason == "eof"
        came = {"ab": two.receive(result.a_to_b), "ba": one.receive(result.b_to_a)}
        for side in (one, two):
            if select.select([side.reader], [], [], 0)[0]:
                assert os.read(side.reader, 1) == b""
        assert came["ab"] + one.rest() == before["ab"] + data["ab"]
        assert came["ba"] + two.rest() == before["ba"] + data["ba"]


def test_the_limit_is_reached_while_data_comes_piece_by_piece():
    """One byte at a time, alternating: the relay ends by itself at the very byte."""
    with sides("tcp4", "unix") as (one, two):
        running = Worker(lambda: relay(one.near, two.near, byte_limit=10))
        got = Collector(two.reader), Collector(one.reader)
        for i in range(5):
            one.send(b"a")
            got[0].wait_for(i + 1)
            two.send(b"b")
            got[1].wait_for(i + 1)
        check(running.result(), 5, 5, "limit")
        one.near.close()
        two.near.close()
        assert (got[0].all(), got[1].all()) == (b"aaaaa", b"bbbbb")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"byte_limit": -1}, ValueError),
        ({"byte_limit": 2, "to_a": b"abc"}, ValueError),
        ({"byte_limit": "1"}, TypeError),
        ({"byte_limit": 1.5}, TypeError),
        ({"idle_timeout": -1}, ValueError),
        ({"idle_timeout": float("nan")}, ValueError),
        ({"idle_timeout": "1"}, TypeError),
        ({"to_a": "text"}, TypeError),
        ({"to_b": 5}, TypeError),
    ],
)
def test_wrong_options_are_refused(options, error):
    """Before anything moves."""
    with sides("unix", "unix") as (one, two):
        one.send(b"kept")
        one.finish()
        two.finish()
        with pytest.raises(error):
            relay(one.near, two.near, **options)
        assert one.rest() == b"kept"


@pytest.mark.parametrize(
    ("side", "error"),
    [
        (None, TypeError),
        (1.5, TypeError),
        ((1, 2, 3), TypeError),
        ((1,), TypeError),
        (("r", "w"), TypeError),
        (-1, OSError),
        ((-1, 1), OSError),
        ("ab", TypeError),
        ("file", (TypeError, OSError, ValueError)),
        ("datagram", ValueError),
        ("listener", OSError),
        ("swapped", OSError),
        ("text", TypeError),
        ("closed", OSError),
    ],
)
@pytest.mark.parametrize("which", ["a", "b"])
def test_wrong_sides_are_refused(side, error, which, tmp_path, wires):
    """With an exception that names the side, and nothing left open."""
    with sides("unix", "pair") as (one, two), contextlib.ExitStack() as stack:
        if side == "file":
            side = stack.enter_context(open(tmp_path / "file", "wb"))
        elif side == "datagram":
            side = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        elif side == "listener":
            side = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        elif side == "swapped":
            side = two.near[::-1]
        elif side == "text":
            side = (stack.enter_context(open(__file__)), two.near[1])
        elif side == "closed":
            side = two.owned[0]
            side.close()
        ends = (side, one.near) if which == "a" else (one.near, side)
        with pytest.raises(error):
            relay(*ends)


@pytest.mark.parametrize("b", ["unix", "tcp4", "pair"])
@pytest.mark.parametrize("a", ["unix", "tcp4", "pair"])
def test_an_idle_relay_ends_by_its_timeout(a, b, nonblocking):
    """Nothing is passed on, and what moved before is counted."""
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        one.send(b"abc")
        result = relay(one.near, two.near, idle_timeout=0.05)
        check(result, 3, 0, "idle")
        assert result.seconds >= 0.05
        assert two.arrived() == b"abc"
        assert one.arrived() == b""


@cases(
    a=["unix", "tcp4", "pair"],
    b=["unix", "tcp4", "pair", "duplex"],
    size=[100_000, 20 * MIB],
    nonblocking=[False, True],
)
def test_a_stalled_peer_ends_it_and_every_byte_is_accounted_for(a, b, size, nonblocking):
    """Moved, held and still in the source: together all that was sent, in order."""
    data = payload(size)
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        sent = []

        def feed():
            view = memoryview(data)
            while view:
                n = os.write(one.writer, view[:65536])
                sent.append(n)
                view = view[n:]

        feeder = Worker(feed)
        result = relay(one.near, two.near, idle_timeout=0.1)
        assert result.reason == "idle"
        got = two.receive(result.a_to_b)
        assert two.arrived() == b""
        taken = got + result.held_a_to_b
        assert taken == data[: len(taken)]
        assert sum(result.methods.values()) == result.a_to_b
        rest = bytearray()
        while len(taken) + len(rest) < size:
            select.select([one.fds[0]], [], [])
            rest += os.read(one.fds[0], MIB)
        feeder.result()
        assert digest(taken + rest) == digest(data)
        assert sum(sent) == size


# -- which method ----------------------------------------------------------------------------------


def pingpong(one: Side, two: Side, sizes: list[int]) -> None:
    """Send each message there and back, the next when the last has come back."""
    there, back = Collector(two.reader), Collector(one.reader)
    total = 0
    for number, size in enumerate(sizes):
        message = payload(size, number)
        feeder = Worker(lambda m=message: one.send(m))
        there.wait_for(total + size)
        feeder.result()
        assert there.data[total:] == message
        feeder = Worker(lambda m=message: two.send(m))
        back.wait_for(total + size)
        feeder.result()
        assert back.data[total:] == message
        total += size
    one.finish()
    two.finish()
    there.all()
    back.all()


@pytest.mark.parametrize("b", ["unix", "tcp4"])
@pytest.mark.parametrize("a", ["unix", "tcp4"])
def test_small_messages_are_copied(a, b):
    """64-byte ping-pong never goes through a pipe."""
    with sides(a, b) as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        pingpong(one, two, [64] * 200)
        result = running.result()
        check(result, 12_800, 12_800)
        assert result.methods == {"read_write": 25_600}


@pytest.mark.parametrize("b", ["unix", "tcp4"])
@pytest.mark.parametrize("a", ["unix", "tcp4"])
def test_the_method_switches_both_ways(a, b):
    """Bulk goes by splice, small messages after it by copying, and bulk by splice again."""
    small, bulk, rounds = 64, 2 * MIB, 3
    with sides(a, b) as (one, two):
        running = Worker(lambda: relay(one.near, two.near))
        pingpong(one, two, ([small] * 50 + [bulk]) * rounds + [small] * 50)
        result = running.result()
        total = rounds * (50 * small + bulk) + 50 * small
        check(result, total, total)
        # The first small read after bulk still goes by splice: it is what tells.
        assert result.methods["read_write"] >= 2 * (rounds + 1) * 40 * small
        assert result.methods["splice"] >= rounds * bulk


@pytest.mark.parametrize("b", ["unix", "tcp4", "pair"])
@pytest.mark.parametrize("a", ["unix", "tcp4", "pair"])
def test_one_byte_messages_that_fill_every_slot(a, b, nonblocking):
    """Many single bytes wait in the source before the relay begins, and others follow."""
    with sides(a, b, nonblocking=nonblocking) as (one, two):
        data = payload(2000)
        feeder_done = threading.Event()

        def feed():
            for i in range(len(data)):
                one.send(data[i : i + 1])
                if i == 100:
                    feeder_done.set()
            one.finish()

        feeder = Worker(feed)
        feeder_done.wait()
        two.finish()
        running = Worker(lambda: relay(one.near, two.near))
        got = Collector(two.reader).all()
        feeder.result()
        check(running.result(), 2000, 0)
        assert got == data


@settings(deadline=None, max_examples=40)
@given(
    a=st.sampled_from(SIDES),
    b=st.sampled_from(SIDES),
    nonblocking=st.booleans(),
    schedule=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.one_of(st.integers(0, 200), st.integers(0, 200_000)),
            st.booleans(),
        ),
        max_size=25,
    ),
    ends=st.sampled_from(["ab", "ba"]),
)
def test_any_schedule_arrives_as_sent(a, b, nonblocking, schedule, ends):
    """Messages of any size, any way, waited for or not, then both ends in any order."""
    sent = {"a": bytearray(), "b": bytearray()}
    with sides(a, b, nonblocking=nonblocking) as pair:
        side = dict(zip("ab", pair, strict=True))
        got = {"a": Collector(pair[1].reader), "b": Collector(pair[0].reader)}
        running = Worker(lambda: relay(pair[0].near, pair[1].near))
        for number, (way, size, wait) in enumerate(schedule):
            message = payload(size, number)
            side[way].send(message)
            sent[way] += message
            if wait:
                got[way].wait_for(len(sent[way]))
        for way in ends:
            side[way].finish()
        for way in "ab":
            assert digest(got[way].all()) == digest(bytes(sent[way]))
        check(running.result(), len(sent["a"]), len(sent["b"]))


def test_an_idle_relay_owns_no_pipe():
    """Small messages and waiting need none: ten thousand idle relays own no pipe."""
    with sides("tcp4", "tcp4") as (one, two):
        before = set(descriptors().values())
        running = Worker(lambda: relay(one.near, two.near))
        got = Collector(two.reader)
        one.send(b"abc")
        got.wait_for(3)
        until(running.asleep)
        made = set(descriptors().values()) - before
        assert not [target for target in made if target.startswith("pipe:")]
        one.finish()
        two.finish()
        got.all()
        check(running.result(), 3, 0)
