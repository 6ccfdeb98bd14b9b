"""Little to several sinks in one call, on the caller's own descriptors, and what becomes of it.

Rule 1: what each sink has got, what is held for it and what is still in the source make up all
there was, whatever a call of the try answers; and so the counts say.
Rule 2: what is done in one go duplicates nothing and makes no pipe.
Rule 3: nothing that was unusual has been touched.
"""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading

import pytest

from spliceio import fanout
from spliceio._cffi import lib
from spliceio._fanout import fanout as _fanout
from tests.support.fans import account, complete
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.wires import payload

BUF = lib.SIO_ACT_BUF
DATA = payload(3 * BUF)
SIZE = 3000
LINGER = struct.pack("ii", 1, 0)


@pytest.fixture
def long_way(monkeypatch):
    """Which fan-outs took the long way."""
    made, begin = [], _fanout.Fanout.__init__

    def counted(fan, *args, **kwargs):
        made.append(fan)
        begin(fan, *args, **kwargs)

    monkeypatch.setattr(_fanout.Fanout, "__init__", counted)
    return made


class Fan:
    """A source that has `data`, and sinks with the other end of each."""

    def __init__(self, wires, source, sinks, size=SIZE):
        self.wires, self.kind, self.data = wires, source, DATA[:size]
        self.source = self._source_of(source, self.data)
        ends = [self._sink_of(kind) for kind in sinks]
        self.sinks, self.far = [one for one, _ in ends], [other for _, other in ends]

    def _source_of(self, kind, data):
        if kind == "file":
            return self.wires.file(data)
        if kind == "unix":
            near, source = self.wires.sockets("unix")
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BUF)
            near.sendall(data)
            return source
        source, self.writer = self.wires.pipe(4 * BUF)
        os.write(self.writer, data)
        return source

    def _sink_of(self, kind):
        if kind == "pipe":
            reader, writer = self.wires.pipe(4 * BUF)
            return writer, reader
        if kind in ("file", "append"):
            sink = self.wires.file(flags=os.O_RDWR | (os.O_APPEND if kind == "append" else 0))
            return sink, sink
        near, far = self.wires.sockets(kind)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BUF)
        return near, self.wires.ends.fd(far.detach())

    def got(self):
        """Read what has come to each sink."""
        return [os.pread(fd, 1 << 20, 0) if _is_file(fd) else unread(fd) for fd in self.far]

    def rest(self):
        """Read what is left in the source."""
        if self.kind == "file":
            return os.read(self.source, 1 << 20)
        return unread(self.source if isinstance(self.source, int) else self.source.fileno())


def _is_file(fd):
    return stat.S_ISREG(os.fstat(fd).st_mode)


def unread(fd):
    """Read what is there now."""
    came = b""
    while select.select([fd], [], [], 0)[0] and (part := os.read(fd, 1 << 20)):
        came += part
    return came


SHAPES = [
    ("pipe", ("pipe", "unix")),
    ("pipe", ("unix", "pipe")),
    ("pipe", ("pipe", "pipe")),
    ("pipe", ("pipe",)),
    ("pipe", ("unix", "tcp4", "file")),
    ("pipe", ("file", "pipe", "append", "pipe")),
    ("file", ("pipe", "unix", "file")),
    ("file", ("tcp4",)),
    ("unix", ("pipe", "unix", "file")),
]
NAMES = [f"{source} to {', '.join(sinks)}" for source, sinks in SHAPES]
shapes = pytest.mark.parametrize(("source", "sinks"), SHAPES, ids=NAMES)


# -- done in one go --------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("size", [1, 1000, 4096, 4097, BUF - 1, BUF])
@pytest.mark.parametrize("nonblocking", [False, True])
def test_every_sink_has_it_and_nothing_was_made(wires, long_way, source, sinks, size, nonblocking):
    """Pipes share the pages with a pipe; all others are written to."""
    fan = Fan(wires, source, sinks, size)
    for end in [fan.source, *fan.sinks]:
        os.set_blocking(end if isinstance(end, int) else end.fileno(), not nonblocking)
    told = []
    result = fanout(fan.source, fan.sinks, size, progress=told.append)
    complete(result, size, "count")
    assert (told, long_way, result.fallbacks) == ([size], [], ())
    assert result.seconds >= 0
    for kind, one, given in zip(sinks, result.sinks, fan.sinks, strict=True):
        assert one.sink is given
        shared = source == "pipe" and kind == "pipe"
        assert (one.method in ("tee", "splice")) == shared
    if source == "pipe" and set(sinks) == {"pipe"}:
        assert [one.method for one in result.sinks] == ["tee"] * (len(sinks) - 1) + ["splice"]
    assert fan.got() == [fan.data] * len(sinks)
    assert fan.rest() == b""


@pytest.mark.parametrize("size", [1, 1000, BUF - 1, BUF])
@pytest.mark.parametrize("count", [None, "less", "more"])
def test_a_file_ends_where_it_ends(wires, long_way, size, count):
    """Without a count, or with one that it does not have; its position goes along."""
    fan = Fan(wires, "file", ("unix", "pipe"), size)
    os.lseek(fan.source, size // 3, os.SEEK_SET)
    left = size - size // 3
    wanted = {"less": left // 2 + 1, "more": left + 5, None: None}[count]
    result = fanout(fan.source, fan.sinks, wanted)
    moved = left if wanted is None else min(left, wanted)
    complete(result, moved, "count" if moved == wanted else "eof")
    assert fan.got() == [fan.data[size // 3 :][:moved]] * 2
    assert os.lseek(fan.source, 0, os.SEEK_CUR) == size // 3 + moved
    assert bool(long_way) == (left + 1 > BUF and count != "less")


def test_a_result_is_whole_however_it_is_looked_at(wires):
    """Its sinks are made when they are asked for, from what there was at the time."""
    fan = Fan(wires, "pipe", ("pipe", "file"))
    sinks = list(fan.sinks)
    result = fanout(fan.source, sinks, SIZE)
    sinks.clear()
    assert len(result.sinks) == 2
    assert result.sinks is result.sinks
    os.write(fan.writer, fan.data)
    other = fanout(fan.source, fan.sinks, SIZE)
    assert "by_method={'tee': 3000}" in repr(other)
    os.write(fan.writer, fan.data)
    kept = fanout(fan.source, fan.sinks, SIZE)
    same = pickle.loads(pickle.dumps(kept))
    assert same == kept == copy.copy(kept)
    assert vars(same).keys() == {"moved", "seconds", "reason", "sinks", "fallbacks", "unread"}
    with pytest.raises(AttributeError, match="no attribute 'sink'"):
        _ = kept.sink


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@pytest.mark.parametrize("spliced", [False, True], ids=["fresh", "spliced into"])
def test_a_pipe_that_no_read_is_asked_not_to_wait_of(wires, long_way, kind, spliced):
    """A FIFO, and one that was spliced into: it is asked first whether there is anything."""
    fan = Fan(wires, "pipe", ("pipe", kind), 10)
    source, feed = fan.source, fan.writer
    if spliced:
        reader, writer = wires.pipe()
        os.write(writer, fan.data)
        os.read(source, 10)
        assert lib.sio_try_splice_plain(reader, feed, 10, 0) == 10
    result = fanout(source, fan.sinks, 10)
    complete(result, 10, "count")
    assert long_way == []
    assert fan.got() == [fan.data] * 2


SCRIPT = """
import os, socket, sys, tempfile, spliceio
mode = {{"blocking": None, "nonblocking": 0, "timeout": 5}}[{mode!r}]
(from_r, from_w), (to_r, to_w), (two_r, two_w) = os.pipe(), os.pipe(), os.pipe()
near, far = socket.socketpair()
near.settimeout(mode)
file = tempfile.TemporaryFile(buffering=0)
file.write(b"x" * 1000)
for turn in range(3):
    {before}
    os.access("/begin", 0)
    {call}
    os.access("/end", 0)
    os.read(to_r, 9999)
"""
FEED = "os.write(from_w, b'x' * 1000)"
CALLS = {
    "a pipe and a socket": (6, FEED, "spliceio.fanout(from_r, [to_w, near], 1000)"),
    "two pipes": (6, FEED, "spliceio.fanout(from_r, [to_w, two_w], 1000)"),
    "from a file": (11, "file.seek(0)", "spliceio.fanout(file, [to_w, near])"),
}


@pytest.mark.parametrize("mode", ["blocking", "nonblocking", "timeout"])
@pytest.mark.parametrize("name", CALLS)
def test_no_more_system_calls_than(tmp_path, name, mode):
    """Counted by strace between two marks, at the last of three calls."""
    most, before, call = CALLS[name]
    log = tmp_path / "log"
    script = SCRIPT.format(mode=mode, before=before, call=call)
    command = [need("strace"), "-qq", "-o", str(log), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = log.read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if '"/begin"' in line)
    end = max(i for i, line in enumerate(lines) if '"/end"' in line)
    made = [line.partition("(")[0] for line in lines[begin + 1 : end] if re.match(r"\w+\(", line)]
    assert 0 < len(made) <= most, made


# -- what is not done in one go --------------------------------------------------------------------


CALLS_OF = {"pipe": ("tee", "splice", "read", "write"), "file": ("read", "write")}
EACH = [
    (source, sinks, call)
    for source, sinks in SHAPES
    for call in CALLS_OF.get(source, ("read", "write"))
]
PASSING = ("EAGAIN", "EINTR", "ENOMEM")
WRONG = ("EPIPE", "ECONNRESET", "EBADF", "EINVAL", "ENOSYS", "EPERM", "EIO", "ENOSPC")


def outcome(fan, count=SIZE, **options):
    """Return the result, and what was raised, if it was."""
    try:
        return fanout(fan.source, fan.sinks, count, **options), None
    except OSError as error:
        return error.result, error


def every_byte_is_somewhere(fan, result, error):
    got = fan.got()
    for one, came in zip(result.sinks, got, strict=True):
        assert len(came) == one.moved == sum(one.by_method.values())
        if one.fate == "stopped":
            assert came + one.held == fan.data[: result.moved]
        elif one.fate == "failed":
            assert one.error is not None
            assert fan.data.startswith(came)
        else:
            assert error is None
            assert came == fan.data
    if result.reason == "no sinks":
        most = max(map(len, got))
        assert fan.data[:most] + result.unread + fan.rest() == fan.data
    else:
        assert fan.data[: result.moved] + fan.rest() == fan.data


@pytest.mark.parametrize(("source", "sinks", "call"), EACH)
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("err", [*PASSING, *WRONG])
def test_each_call_of_it_fails_once(wires, monkeypatch, source, sinks, call, skip, err):
    """It is asked again, or told; every byte is in one place."""
    fan = Fan(wires, source, sinks)
    rule = fail(call, getattr(errno, err), skip=skip)
    with Seam(rule).everywhere(monkeypatch):
        result, error = outcome(fan)
    every_byte_is_somewhere(fan, result, error)
    if err in ("EAGAIN", "EINTR"):
        complete(result, SIZE, "count")


@pytest.mark.parametrize(("source", "sinks", "call"), EACH)
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(("most", "times"), [(0, 1), (1, 1), (299, 1), (301, ALWAYS)])
def test_each_call_of_it_is_short(wires, monkeypatch, source, sinks, call, skip, most, times):
    """The rest goes the long way, and all is counted together."""
    fan = Fan(wires, source, sinks)
    rule = cap(call, most, skip=skip, times=times) if most else zero(call, skip=skip)
    with Seam(rule).everywhere(monkeypatch):
        result, error = outcome(fan)
    every_byte_is_somewhere(fan, result, error)
    if most:
        complete(result, SIZE, "count")


@shapes
@pytest.mark.parametrize("most", [1, 500])
def test_it_cannot_even_go_on(wires, monkeypatch, source, sinks, most):
    """No descriptor is left for a duplicate: what was given is told, and the rest is held."""
    fan = Fan(wires, source, sinks)
    kinds = set(sinks)
    only_pipes = source == "pipe" and kinds == {"pipe"}
    call = "splice" if only_pipes else "write"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = _fanout.Fanout
    with Seam(cap(call, most)).everywhere(monkeypatch):

        def none_left(*args, **kwargs):
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                return made(*args, **kwargs)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        monkeypatch.setattr(_fanout, "Fanout", none_left)
        with pytest.raises(OSError, match="no descriptor left") as caught:
            fanout(fan.source, fan.sinks, SIZE)
    result = caught.value.result
    assert result.reason == "stopped"
    assert any(one.moved for one in result.sinks)
    account(result, fan.data, fan.got(), fan.rest())


def test_the_source_is_asked_again_for_what_a_sink_has(wires, monkeypatch):
    """Shared, and then neither read nor gone on with: it is taken out, as it is told."""
    fan = Fan(wires, "pipe", ("pipe", "unix"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def none_left(*args, **kwargs):
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr(_fanout, "Fanout", none_left)
    with (
        Seam(fail("read", errno.EIO)).everywhere(monkeypatch),
        pytest.raises(OSError, match="none left") as caught,
    ):
        fanout(fan.source, fan.sinks, SIZE)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    result = caught.value.result
    assert [one.moved for one in result.sinks] == [SIZE, 0]
    account(result, fan.data, fan.got(), fan.rest())


@pytest.mark.parametrize("source", ["pipe", "unix", "file"])
@pytest.mark.parametrize("gone", ["pipe", "unix"])
@pytest.mark.parametrize("first", [False, True])
def test_a_sink_whose_reader_has_gone_ends_alone(wires, source, gone, first):
    """The others get all of it, and the error is that of the call."""
    kinds = (gone, "pipe", "unix") if first else ("pipe", "unix", gone)
    fan = Fan(wires, source, kinds)
    place = 0 if first else 2
    os.close(fan.far[place])
    fan.far[place] = wires.ends.fd(os.open(os.devnull, os.O_RDONLY))
    result = fanout(fan.source, fan.sinks, SIZE)
    lost = result.sinks[place]
    assert (lost.fate, lost.moved, lost.by_method) == ("failed", 0, {})
    assert isinstance(lost.error, BrokenPipeError)
    others = [one for number, one in enumerate(result.sinks) if number != place]
    assert [(one.fate, one.moved) for one in others] == [("done", SIZE)] * 2
    got = fan.got()
    del got[place]
    assert got == [fan.data] * 2


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_reset_is_told_though_the_try_has_met_it(wires, side):
    """The kernel tells it once, to the first who asks."""
    near, end = wires.sockets("tcp4")
    reader, writer = wires.pipe()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    near.close()
    select.select([end], [], [])
    if side == "source":
        with pytest.raises(ConnectionResetError) as caught:
            fanout(end, [writer], 10)
        assert caught.value.result.moved == 0
        return
    source, feed = wires.pipe()
    os.write(feed, DATA[:10])
    result = fanout(source, [writer, end], 10)
    assert isinstance(result.sinks[1].error, ConnectionResetError)
    assert (result.sinks[0].moved, os.read(reader, 99)) == (10, DATA[:10])


@pytest.mark.parametrize("kind", ["pipe", "unix"])
@pytest.mark.parametrize("source", ["pipe", "file", "unix"])
def test_a_full_sink_is_waited_for_no_longer_than_told(wires, kind, source):
    """The others have got it; what is held for the full one is in the result."""
    fan = Fan(wires, source, ("unix", "pipe"))
    clogged = wires.clogged()[1] if kind == "pipe" else wires.stuffed("unix")[0]
    with pytest.raises(TimeoutError) as caught:
        fanout(fan.source, [fan.sinks[0], clogged, fan.sinks[1]], SIZE, timeout=0.01)
    result = caught.value.result
    assert [one.moved + len(one.held) for one in result.sinks] == [result.moved] * 3
    assert result.sinks[1].moved == 0
    assert fan.got() == [fan.data[: result.moved]] * 2
    assert fan.data[: result.moved] + fan.rest() == fan.data


@pytest.mark.parametrize("swapped", ["src", "sinks[0]", "sinks[1]"])
def test_a_number_that_has_become_anothers_before_the_rest(wires, monkeypatch, swapped):
    """What is left goes only to what was looked at; what was given is told."""
    fan = Fan(wires, "pipe", ("pipe", "unix"))
    source, pipe, sock = os.dup(fan.source), os.dup(fan.sinks[0]), os.dup(fan.sinks[1].fileno())
    stranger = wires.file(b"a stranger's")
    make, ends = _fanout.Fanout, [source, pipe, sock]

    def late(*args, **kwargs):
        os.dup2(stranger, ends[("src", "sinks[0]", "sinks[1]").index(swapped)])
        return make(*args, **kwargs)

    monkeypatch.setattr(_fanout, "Fanout", late)
    with (
        Seam(cap("write", 400)).everywhere(monkeypatch),
        pytest.raises(OSError, match=rf"{re.escape(swapped)} was closed by another") as caught,
    ):
        fanout(source, [pipe, sock], SIZE)
    for end in ends:
        os.close(end)
    assert [one.moved for one in caught.value.result.sinks] == [SIZE, 400]
    account(caught.value.result, fan.data, fan.got(), fan.rest())
    assert os.pread(stranger, 100, 0) == b"a stranger's"


SWAPPED = """
import os, sys, threading, spliceio
reader, writer = os.pipe()
os.write(writer, b"x" * 1000)
first = os.open("first", os.O_RDWR | os.O_CREAT)
second = os.open("second", os.O_RDWR | os.O_CREAT)
stranger = os.open("stranger", os.O_RDWR | os.O_CREAT)
def swap():
    while not os.fstat(first).st_size:
        pass
    os.dup2(stranger, second)
thread = threading.Thread(target=swap)
thread.start()
try:
    spliceio.fanout(reader, [first, second], 1000)
except OSError as error:
    print(error, [one.moved for one in error.result.sinks], len(error.result.sinks[1].held))
thread.join()
print(os.fstat(stranger).st_size)
"""


def test_a_file_is_looked_at_again_behind_another(tmp_path):
    """A write to a disk may take long; strace makes it so. The number behind it is a stranger's."""
    slow = ["-e", "inject=write:delay_exit=500000"]
    quiet = [need("strace"), "-f", "-qq", "-o", os.devnull, "-P", str(tmp_path / "first"), *slow]
    command = [*quiet, sys.executable, "-c", SWAPPED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stderr == ""
    told, stranger = done.stdout.splitlines()
    assert "sinks[1] was closed by another thread" in told
    assert told.endswith("[1000, 0] 1000")
    assert stranger == "0"


# -- what is not touched ---------------------------------------------------------------------------


BAD = ["read-only", "listening", "datagram", "closed", "directory", "path"]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        *((source, kind) for source in ("pipe", "file", "unix") for kind in BAD),
        ("pipe", "itself"),
        ("file", "itself"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_refused_is_refused_as_before(wires, source, kind, place):
    """With the words of the long way; nothing was taken, and nobody has got anything."""
    fan = Fan(wires, source, ("pipe", "unix"))
    if kind == "datagram":
        bad, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        wires.ends.sock(other)
        wires.ends.sock(bad)
    elif kind == "listening":
        bad = wires.ends.sock(socket.create_server(("127.0.0.1", 0)))
    elif kind == "closed":
        bad = 10_000
    elif kind == "read-only":
        bad = wires.pipe()[0]
    elif kind == "path":
        bad = wires.ends.fd(os.open(wires.tmp_path, os.O_PATH))
    elif kind == "directory":
        bad = wires.ends.fd(os.open(wires.tmp_path, os.O_RDONLY))
    else:
        bad = getattr(fan, "writer", fan.source)
    sinks = list(fan.sinks)
    sinks.insert(place, bad)
    with pytest.raises((OSError, ValueError)):
        fanout(fan.source, sinks, SIZE)
    assert fan.got() == [b"", b""]
    assert fan.rest() == fan.data


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("on_slow", "never"),
        ("stall_timeout", None),
        ("stall_timeout", -1.0),
        ("stall_timeout", "soon"),
        ("timeout", float("nan")),
        ("timeout", -1),
        ("method", "tee"),
        ("count", -1),
        ("count", 1.5),
    ],
)
def test_a_wrong_number_is_said_before_a_byte_moves(wires, option, value):
    fan = Fan(wires, "pipe", ("pipe", "unix"))
    with pytest.raises((ValueError, TypeError)):
        fanout(fan.source, fan.sinks, **{"count": SIZE, option: value})
    assert (fan.got(), fan.rest()) == ([b"", b""], fan.data)


def test_read_write_is_read_write(wires):
    """A named method is the one that runs."""
    fan = Fan(wires, "pipe", ("pipe", "unix"))
    result = fanout(fan.source, fan.sinks, SIZE, method="read_write")
    assert [one.by_method for one in result.sinks] == [{"read_write": SIZE}] * 2


def test_more_sinks_than_a_try_takes(wires, long_way):
    """They go the long way, all of them."""
    most = lib.SIO_FAN_MOST
    for count in (most, most + 1):
        fan = Fan(wires, "pipe", ("pipe",) * count, 100)
        complete(fanout(fan.source, fan.sinks, 100), 100, "count")
        assert fan.got() == [fan.data] * count
        assert len(long_way) == (count > most)


def test_what_progress_raises_has_the_result(wires):
    fan = Fan(wires, "pipe", ("pipe", "unix"))

    def stop(moved):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        fanout(fan.source, fan.sinks, SIZE, progress=stop)
    complete(caught.value.result, SIZE, "count")


def test_threads_share_nothing(wires):
    """Each call has a struct of its own, also when many are under way."""
    errors = []

    def work(number):
        try:
            near, far = socket.socketpair()
            (from_r, from_w), (to_r, to_w) = os.pipe(), os.pipe()
            data = payload(1000, seed=number)
            with near, far:
                for _ in range(300):
                    os.write(from_w, data)
                    assert fanout(from_r, [to_w, near], 1000).moved == 1000
                    assert far.recv(2000) == data == os.read(to_r, 2000)
            for fd in (from_r, from_w, to_r, to_w):
                os.close(fd)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_signal_that_raises_meanwhile_leaves_the_counts(wires):
    """An alarm in the middle of thousands of calls: each sink has what its result says."""
    fan = Fan(wires, "pipe", ("pipe", "unix"), 10)

    def stop(*_):
        raise InterruptedError("stop")

    before = signal.signal(signal.SIGALRM, stop)
    told = 0
    try:
        for turn in range(200):
            assert not any(fan.got())
            fan.rest()
            os.write(fan.writer, fan.data)
            result = None
            try:
                # Sooner or later: how long a call takes depends on the machine.
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + turn * 0.000003)
                result = fanout(fan.source, fan.sinks, 10)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedError as error:
                signal.setitimer(signal.ITIMER_REAL, 0)
                result = result or getattr(error, "result", None)
            got = fan.got()
            if result is not None:
                told += 1
                assert [one.moved for one in result.sinks] == [len(came) for came in got]
            assert got[0] == got[1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert told
