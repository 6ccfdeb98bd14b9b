"""peek: the head of a pipe or stream socket, looked at and left there.

Rule 1: whatever a call gives or raises, a read afterwards gets every byte, and no flag, option or
timeout of the descriptor is another one.
Rule 2: waiting for more than is there waits once for each arrival.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spliceio
from spliceio import MORE, Pipe, peek, tls_server_name
from spliceio._transfer import peek as _peek
from tests.support.programs import need
from tests.support.refusals import LINGER
from tests.support.states import Worker, until
from tests.support.wires import fifo_pair, payload, prefill, read_all, tcp_pair, transports

STREAMS = transports("pipe", "fifo", "unix", "tcp4", "tcp6", "mptcp")
BOTH = transports("pipe", "unix", "tcp4")
HANG = 50


class Stream:
    """A reading end to look at, and the peer that sends."""

    def __init__(self, wires, kind: str, nonblocking: bool = False) -> None:
        if kind in ("pipe", "fifo"):
            made = wires.pipe() if kind == "pipe" else fifo_pair(wires.tmp_path)
            self.end, self._feed = (wires.ends.fd(fd) for fd in made)
            os.set_blocking(self.end, not nonblocking)
        else:
            self.end, self._peer = wires.sockets(kind)
            self.end.setblocking(not nonblocking)
            self._feed = self._peer.fileno()
        self.kind = kind
        self.fd = self.end if isinstance(self.end, int) else self.end.fileno()
        self.before = self._state()

    def send(self, data: bytes) -> None:
        assert os.write(self._feed, data) == len(data)

    def finish(self) -> None:
        """Say end of file."""
        if isinstance(self.end, int):
            os.close(self._feed)
        else:
            self._peer.shutdown(socket.SHUT_WR)

    def _state(self) -> tuple:
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL), fcntl.fcntl(self.fd, fcntl.F_GETFD)
        if isinstance(self.end, int):
            return flags, fcntl.fcntl(self.fd, 1032)
        low = self.end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        return flags, self.end.gettimeout(), low

    def rest(self) -> bytes:
        """Check that nothing has changed, then end it and read everything."""
        assert self._state() == self.before
        self.finish()
        return read_all(self.fd)


@pytest.fixture
def waits(monkeypatch):
    """Record each wait for an arrival; without one, the calls would wait for hours."""

    class Recorded:
        def __init__(self) -> None:
            self.epoll = EPOLL()

        def register(self, *args) -> None:
            self.epoll.register(*args)

        def poll(self, seconds):
            begun.append(seconds)
            return self.epoll.poll(seconds)

        def __enter__(self):
            return self

        def __exit__(self, *args) -> None:
            self.epoll.close()

    EPOLL, begun = select.epoll, []
    monkeypatch.setattr(select, "epoll", Recorded)
    for name in ("_INTERVAL", "_MAX_INTERVAL", "_SLICE"):
        monkeypatch.setattr(_peek, name, 10_000.0)
    return begun


# -- what there is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
def test_what_is_there(wires, kind, nonblocking, waits):
    """Up to `count` bytes, as often as one likes, without a wait."""
    stream, data = Stream(wires, kind, nonblocking), payload(9000)
    stream.send(data)
    for count in (1, 10, 8999, 9000, 9001, 1 << 20):
        until(lambda: len(peek(stream.end, 9000)) == 9000)  # mptcp delivers later
        assert peek(stream.end, count) == data[:count]
        assert peek(stream.fd, count, at_least=min(count, 9000)) == data[:count]
    assert waits == []
    assert stream.rest() == data


@pytest.mark.parametrize("kind", BOTH)
def test_more_than_a_first_look_shows(wires, kind):
    """A count beyond 16 KiB is looked for in the same call."""
    stream, data = Stream(wires, kind), payload(60_000)
    stream.send(data)
    assert peek(stream.end, 1 << 20) == data
    assert stream.rest() == data


@pytest.mark.parametrize("kind", STREAMS)
def test_each_arrival_is_one_wait(wires, kind, nonblocking, waits):
    """Sleeps with bytes there, for each that is missing once: nothing spins, nothing is missed."""
    stream, data = Stream(wires, kind, nonblocking), payload(20)
    looking = Worker(lambda: peek(stream.end, 100, at_least=len(data)))
    for at, byte in enumerate(data):
        until(lambda at=at: len(waits) > at and looking.asleep())
        assert len(waits) <= 2 * at + 1
        stream.send(bytes([byte]))
    assert looking.result() == data
    assert len(waits) <= 2 * len(data)
    assert stream.rest() == data


@pytest.mark.parametrize("kind", STREAMS)
def test_a_delimiter_over_two_arrivals(wires, kind, nonblocking, waits):
    """Found wherever it is cut; what is behind it comes too."""
    stream = Stream(wires, kind, nonblocking)
    stream.send(b"head\r\n\r")
    looking = Worker(lambda: peek(stream.end, until=b"\r\n\r\n"))
    until(lambda: waits and looking.asleep())
    stream.send(b"\nbody")
    assert looking.result() == b"head\r\n\r\nbody"
    assert peek(stream.end, until=bytearray(b"body")) == b"head\r\n\r\nbody"
    assert stream.rest() == b"head\r\n\r\nbody"


@pytest.mark.parametrize("kind", STREAMS)
def test_a_question_is_asked_for_each_arrival(wires, kind, waits):
    """`until(first)` gets all there is, and is not asked twice about the same bytes."""
    stream, asked = Stream(wires, kind), []

    def enough(first):
        asked.append(first)
        return first.endswith(b".")

    stream.send(b"a")
    looking = Worker(lambda: peek(stream.end, until=enough))
    until(lambda: waits and looking.asleep())
    stream.send(b"b.")
    assert looking.result() == b"ab."
    assert (asked[0], asked[-1]) == (b"a", b"ab.")
    assert len(asked) == len(set(asked))
    assert stream.rest() == b"ab."


@pytest.mark.parametrize("kind", STREAMS)
def test_a_hello_that_dribbles(wires, kind):
    """The use that it is for: the server name, however the bytes come."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example").do_handshake()
    hello, stream = out.read(), Stream(wires, kind)
    sending = Worker(lambda: [stream.send(hello[at : at + 7]) for at in range(0, len(hello), 7)])
    first = peek(stream.end, until=lambda first: tls_server_name(first) is not MORE)
    assert tls_server_name(first) == "a.example"
    sending.result()
    assert stream.rest() == hello


def test_the_words_of_a_regular_expression(wires):
    """Anything that is true ends it."""
    stream = Stream(wires, "pipe")
    stream.send(b"abc 12")
    assert peek(stream.end, until=re.compile(rb"\d").search) == b"abc 12"


def test_count_is_enough_whatever_is_awaited(wires):
    """The delimiter behind it is not waited for."""
    stream = Stream(wires, "unix")
    stream.send(b"abc\n")
    assert peek(stream.end, 3, until=b"\n") == b"abc"
    assert peek(stream.end, 3, until=lambda first: False) == b"abc"


@pytest.mark.parametrize("kind", STREAMS)
def test_at_least_nothing(wires, kind, nonblocking):
    """Never waits."""
    stream = Stream(wires, kind, nonblocking)
    assert peek(stream.end, at_least=0) == b""
    assert stream.rest() == b""


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=8),
    st.integers(1, 200),
    st.integers(0, 200),
    st.one_of(st.none(), st.binary(min_size=1, max_size=2)),
)
def test_against_a_model(parts, count, at_least, delimiter):
    """Of a stream that has ended, the beginning, whatever is asked for; and all of it is left."""
    data = b"".join(parts)
    with Pipe() as pipe:
        for part in parts:
            pipe.write(part)
        pipe.close_writer()
        got = peek(pipe.reader, count, until=delimiter, at_least=min(at_least, count))
        assert got == data[:count]
        assert pipe.read(1000) == data


# -- when no more can come -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("data", [b"", b"abc"])
def test_the_end_of_file_ends_it(wires, kind, nonblocking, data):
    """What there is comes, b"" at a bare end, and again the next time."""
    stream = Stream(wires, kind, nonblocking)
    if data:
        stream.send(data)
    stream.finish()
    for _ in range(2):
        assert peek(stream.end, at_least=10) == data
        assert peek(stream.end, until=b"x") == data
    assert read_all(stream.fd) == data


@pytest.mark.parametrize("kind", STREAMS)
def test_the_end_of_file_while_it_waits(wires, kind, waits):
    """Wakes it."""
    stream = Stream(wires, kind)
    stream.send(b"abc")
    looking = Worker(lambda: peek(stream.end, until=b"\n"))
    until(lambda: waits and looking.asleep())
    stream.finish()
    assert looking.result() == b"abc"
    assert read_all(stream.fd) == b"abc"


def test_a_fifo_that_nobody_has_opened_yet(tmp_path, wires, waits):
    """Waits for its first writer."""
    os.mkfifo(tmp_path / "fifo")
    reader = wires.ends.fd(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    looking = Worker(lambda: peek(reader, at_least=3))
    until(lambda: waits and looking.asleep())
    with open(tmp_path / "fifo", "wb") as writer:
        writer.write(b"abc")
    assert looking.result() == b"abc"


@pytest.mark.parametrize("capacity", [4096, 65536, 1 << 20])
def test_a_full_pipe(wires, capacity, waits):
    """Gives all its capacity, and is not waited for."""
    reader, writer = wires.pipe(capacity)
    data = payload(capacity)
    assert prefill(writer, data + b"more") == capacity
    assert peek(reader, 2 * capacity, until=b"\0none\0") == data
    assert peek(reader, 2 * capacity, at_least=capacity) == data
    assert waits == []


def test_a_pipe_that_is_full_by_slots(clogged, waits):
    """One byte in each slot: 16 bytes are all that it takes."""
    reader, _ = clogged
    assert peek(reader, at_least=100) == b"." * 16
    assert waits == []


def test_a_pipe_of_large_slots_is_not_full(wires, waits):
    """It holds its capacity in bytes, has slots left, and is waited for."""
    near, far = wires.sockets("unix")
    with Pipe(65536) as pipe:
        while pipe.held < 2 * pipe.capacity:
            near.sendall(payload(32768))
            assert pipe.fill(far, 32768) == 32768
        looking = Worker(lambda: peek(pipe.reader, 1 << 20, until=b"!end!"))
        until(lambda: waits and looking.asleep())
        pipe.write(b"!end!")
        assert len(looking.result()) == pipe.held


def test_a_packet_pipe(wires):
    """Packets are joined, and stay packets."""
    with contextlib.ExitStack() as stack:
        reader, writer = os.pipe2(os.O_DIRECT)
        for fd in (reader, writer):
            stack.callback(os.close, fd)
        os.write(writer, b"abc")
        os.write(writer, b"defg")
        assert peek(reader, at_least=7) == b"abcdefg"
        assert peek(reader, 5) == b"abcde"
        assert (os.read(reader, 100), os.read(reader, 100)) == (b"abc", b"defg")


@pytest.mark.parametrize("kind", transports("tcp4", "tcp6"))
def test_a_socket_whose_window_is_closed(wires, kind):
    """A sender that is stopped by it is not waited for; then the rest comes."""
    stream, data = Stream(wires, kind), payload(8 << 20)
    sending = Worker(lambda: stream._peer.sendall(data))
    got = peek(stream.end, len(data), at_least=len(data))
    assert 1000 < len(got) < len(data)
    assert got == data[: len(got)]
    rest = Worker(lambda: read_all(stream.fd))
    sending.result()
    stream.finish()
    assert rest.result() == data


def test_an_urgent_mark(wires):
    """What is before the mark; at the mark, what is behind it."""
    near, far = (wires.ends.sock(sock) for sock in tcp_pair())
    far.sendall(b"abc")
    far.send(b"!", socket.MSG_OOB)
    far.sendall(b"defg")
    assert peek(near, at_least=7, timeout=HANG) == b"abc"
    assert near.recv(3) == b"abc"
    assert peek(near, at_least=4, timeout=HANG) == b"defg"
    near.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    assert peek(near, at_least=5) == b"!defg"


def test_descriptors_in_a_unix_stream(wires):
    """What is before the next message stays, with its descriptors."""
    near, far = wires.sockets("unix")
    far.sendall(b"abc")
    far.sendmsg([b"de"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [far.fileno()]))])
    far.sendall(b"fg")
    assert peek(near, until=b"g") == b"abcde"
    data, fds, _, _ = socket.recv_fds(near, 100, 2)
    assert data == b"abcde"
    assert len(fds) == 1
    os.close(fds[0])


def test_a_reset(wires):
    """Raised once, with a name, as recv would."""
    near, far = (wires.ends.sock(sock) for sock in tcp_pair())
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    with pytest.raises(ConnectionResetError, match=r"^\[Errno 104\] peek: the peer reset"):
        peek(near)
    assert peek(near) == b""


def test_bytes_before_a_reset(wires, waits):
    """They come first; the reset is left for who reads."""
    near, far = (wires.ends.sock(sock) for sock in tcp_pair())
    far.sendall(b"abc")
    looking = Worker(lambda: peek(near, at_least=10))
    until(lambda: waits and looking.asleep())
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    assert looking.result() == b"abc"
    assert near.recv(3) == b"abc"
    with pytest.raises(ConnectionResetError):
        near.recv(1)


# -- time, signals, other threads ------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("seconds", [0, 0.02])
def test_a_timeout_takes_nothing(wires, kind, seconds):
    """TimeoutError, with how many bytes are there and what was waited for; they are."""
    stream = Stream(wires, kind)
    stream.send(b"abc")
    until(lambda: peek(stream.end) == b"abc")
    words = rf"peek: 3 bytes are there after {seconds} s, still unread; waited for at least "
    with pytest.raises(TimeoutError, match=words + "9$") as caught:
        peek(stream.end, at_least=9, timeout=seconds)
    assert caught.value.errno == errno.ETIMEDOUT
    with pytest.raises(TimeoutError, match=words + r"1, with b'\\n' among them"):
        peek(stream.end, until=b"\n", timeout=seconds)
    with pytest.raises(TimeoutError, match=words + r"1, and for until\(\)"):
        peek(stream.end, until=lambda first: None, timeout=seconds)
    assert stream.rest() == b"abc"


def test_the_timeout_of_a_socket(wires):
    """settimeout() counts, and an own timeout before it."""
    near, _ = wires.sockets("unix")
    near.settimeout(0.02)
    with pytest.raises(TimeoutError, match=r"after 0.02 s"):
        peek(near)
    with pytest.raises(TimeoutError, match=r"after 0.01 s"):
        peek(near, timeout=0.01)
    assert near.gettimeout() == 0.02


def test_a_default_timeout_of_the_process_changes_no_flags(wires):
    """setdefaulttimeout() is for sockets that are made, and this one is not."""
    stream = Stream(wires, "tcp4")
    socket.setdefaulttimeout(5)
    try:
        stream.send(b"abc")
        assert peek(stream.fd, until=b"c") == b"abc"
    finally:
        socket.setdefaulttimeout(None)
    assert stream.rest() == b"abc"


class Rung(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("kind", BOTH)
def test_a_signal_handler_that_raises(wires, kind, waits):
    """Its exception passes through, and nothing is lost or left open."""
    stream, me = Stream(wires, kind), threading.get_ident()
    stream.send(b"abc")

    def ring(signum, frame):
        raise Rung

    def when_asleep():
        until(lambda: waits)
        signal.pthread_kill(me, signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, ring)
    try:
        bell = Worker(when_asleep)
        with pytest.raises(Rung):
            peek(stream.end, until=b"\n")
        bell.result()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert stream.rest() == b"abc"


@pytest.mark.parametrize("kind", BOTH)
def test_a_signal_handler_that_returns(wires, kind, waits):
    """The wait goes on."""
    stream, me, rung = Stream(wires, kind), threading.get_ident(), []
    before = signal.signal(signal.SIGUSR2, lambda *_: rung.append(1))

    def when_asleep():
        until(lambda: waits)
        signal.pthread_kill(me, signal.SIGUSR2)
        until(lambda: rung)
        stream.send(b"abc\n")

    try:
        bell = Worker(when_asleep)
        assert peek(stream.end, until=b"\n") == b"abc\n"
        bell.result()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert stream.rest() == b"abc\n"


def test_a_question_that_raises(wires):
    """Passes through; nothing is taken."""
    stream = Stream(wires, "tcp4")
    stream.send(b"abc")
    with pytest.raises(ZeroDivisionError):
        peek(stream.end, until=lambda first: 1 // 0)
    assert stream.rest() == b"abc"


def test_closed_by_another_thread(wires, waits):
    """The call goes on with the stream that it was given, not with what gets the number."""
    reader, writer = wires.pipe()
    looking = Worker(lambda: peek(reader, at_least=3))
    until(lambda: waits and looking.asleep())
    with Pipe() as stranger:
        os.dup2(stranger.reader, reader)
        stranger.write(b"strange")
        os.write(writer, b"abc")
        assert looking.result() == b"abc"


def test_every_wait_ends_by_itself(wires, monkeypatch):
    """What is no event is seen all the same: the source is looked at again after a while."""
    stream, asked = Stream(wires, "pipe"), []
    stream.send(b"abc")
    for name in ("_INTERVAL", "_MAX_INTERVAL", "_PIPES_NOTIFY"):
        monkeypatch.setattr(_peek, name, 0.001 if "INTERVAL" in name else False)
    look = spliceio._transfer.peek.peek_pipe

    def at_last(fd, count):
        asked.append(count)
        return look(fd, count)[0], len(asked) > 5

    monkeypatch.setattr(spliceio._transfer.peek, "peek_pipe", at_last)
    assert peek(stream.end, at_least=10) == b"abc"


# -- what it takes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_a_buffered_reader(wires, kind):
    """What it has read ahead comes first, and stays with it."""
    stream = Stream(wires, kind)
    stream.send(b"line\nahead")
    file = stream.end.makefile("rb") if kind != "pipe" else os.fdopen(stream.end, "rb")
    with file:
        assert file.readline() == b"line\n"
        stream.send(b" behind\n")
        assert peek(file, until=b"\n") == b"ahead behind\n"
        assert peek(file, 3) == b"ahe"
        assert peek(file, 7) == b"ahead b"
        assert file.read(13) == b"ahead behind\n"
        stream.finish()
        assert file.read() == b""


REFUSED = {
    "file": (lambda w: w.file(b"abc"), ValueError, r"regular file.*os\.pread"),
    "terminal": (lambda w: w.source("tty", b"").end, ValueError, "a terminal, which shows"),
    "device": (lambda w: w.ends.fd(os.open("/dev/zero", os.O_RDONLY)), ValueError, "/dev/zero"),
    "datagrams": (lambda w: w.ends.sock(socket.socket(type=socket.SOCK_DGRAM)), ValueError, "dat"),
    "listening": (lambda w: w.ends.sock(socket.create_server(("", 0))), OSError, r"accept\(\)"),
    "unconnected": (lambda w: w.ends.sock(socket.socket()), OSError, r"connect\(\)"),
    "wrong end": (lambda w: w.pipe()[1], OSError, "pass the read end"),
    "no descriptor": (lambda w: 2**20, OSError, "not open"),
    "name": (lambda w: "name", TypeError, r"an int or have fileno\(\)"),
    "directory": (lambda w: w.ends.fd(os.open("/", os.O_RDONLY)), IsADirectoryError, "directory"),
}


@pytest.mark.parametrize(("make", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_refusals(wires, make, kind, words):
    """Named, with the way out."""
    with pytest.raises(kind, match=rf"peek: src .*{words}"):
        peek(make(wires))


def test_text_and_tls_and_closed_are_refused(wires, tmp_path):
    """What a descriptor shows would not be what their reader reads."""
    near, _ = wires.sockets("tcp4")
    context = ssl.create_default_context()
    with (
        context.wrap_socket(near, server_hostname="x", do_handshake_on_connect=False) as tls,
        pytest.raises(TypeError, match="peek: src is an SSLSocket, which encrypts"),
    ):
        peek(tls)
    with open(tmp_path / "text", "w+") as text, pytest.raises(TypeError, match="text file"):
        peek(text)
    with pytest.raises(ValueError, match="peek: src is closed"):
        peek(text.buffer)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"count": 0}, ValueError),
        ({"count": -1}, ValueError),
        ({"count": 1.5}, TypeError),
        ({"at_least": -1}, ValueError),
        ({"count": 5, "at_least": 6}, ValueError),
        ({"until": b""}, ValueError),
        ({"until": "\n"}, TypeError),
        ({"until": 3}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
    ],
)
def test_arguments_that_make_no_sense(wires, options, kind):
    """Refused before anything is looked at."""
    with pytest.raises(kind):
        peek(wires.pipe()[0], **options)


def test_system_calls_of_a_wait(tmp_path):
    """Ten bytes that come one by one cost a few waits each at the most, as strace counts them."""
    script = (
        "import os, spliceio, threading\n"
        "r, w = os.pipe()\n"
        "back, forth = os.pipe()\n"
        "def feed():\n"
        "    for _ in range(10):\n"
        "        os.read(back, 1); os.write(w, b'x')\n"
        "def more(first):\n"
        "    os.write(forth, b'.'); return len(first) == 10\n"
        "os.write(forth, b'.')\n"
        "thread = threading.Thread(target=feed); thread.start()\n"
        "assert spliceio.peek(r, until=more) == b'x' * 10\n"
        "thread.join()\n"
    )
    trace = tmp_path / "trace"
    subprocess.run(
        [need("strace"), "-f", "-o", trace, "-e", "trace=epoll_wait,epoll_pwait,tee",
         sys.executable, "-c", script],
        check=True, timeout=HANG,
    )  # fmt: skip
    text = trace.read_text()
    assert 1 <= len(re.findall(r"epoll_p?wait\(", text)) <= 30
    assert len(re.findall(r"\btee\(", text)) <= 30
