"""Small work in one call, on the caller's own descriptors, and what becomes of the rest.

Rule 1: what has arrived, what is held and what is still in the source make up all there was, in
order, whatever a call of the try answers; and so the counts say.
Rule 2: what is done in one go duplicates nothing and makes no pipe.
Rule 3: nothing that was unusual has been touched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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
import time

import pytest

import spliceio
from spliceio import Transfer, UnexpectedEOF, copy, receive_file, send_file
from spliceio._cffi import lib
from spliceio._transfer import act as _act
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.wires import payload

SMALL, BUF = lib.SIO_ACT_SMALL, lib.SIO_ACT_BUF
DATA = payload(3 * BUF)
HEAD, TAIL = payload(300, seed=2), payload(200, seed=3)
EDGES = [1, 4096, SMALL - 1, SMALL, SMALL + 1, BUF, BUF + 1]
GONE = ("EPIPE", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH")
PASSING = ("EAGAIN", "EINTR", "ENOMEM", "ENOBUFS")
LINGER = struct.pack("ii", 1, 0)


@pytest.fixture
def long_way(monkeypatch):
    """How many calls took the long way."""
    made, begin = [], Transfer._init

    def counted(transfer, *args):
        made.append(transfer)
        begin(transfer, *args)

    monkeypatch.setattr(Transfer, "_init", counted)
    return made


def received(end, count):
    """Read exactly so many bytes, and see that nothing more is there."""
    fd = end if isinstance(end, int) else end.fileno()
    got = b""
    while len(got) < count:
        got += os.read(fd, count - len(got))
    assert not select.select([fd], [], [], 0)[0]
    return got


def room(near, far):
    """Let a connection take much at once."""
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BUF)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BUF)
    return near, far


# -- done in one go --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, 0, 5.0], ids=["blocking", "nonblocking", "timeout"])
@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_a_file_goes_into_a_socket(wires, long_way, kind, size, mode):
    """By a read and a send up to a size, by sendfile above it; nothing is duplicated for it."""
    near, far = room(*wires.sockets(kind))
    near.settimeout(mode)
    file = wires.file(DATA[:size])
    result = copy(file, near)
    assert not long_way or size > BUF
    assert (result.moved, result.method) == (size, "read_write" if size <= SMALL else "sendfile")
    assert sum(result.by_method.values()) == size
    assert result.seconds >= 0
    assert received(far, size) == DATA[:size]
    assert os.lseek(file, 0, os.SEEK_CUR) == size


@pytest.mark.parametrize("size", [1, 1000, SMALL])
@pytest.mark.parametrize("count", ["less", "exactly", "more", "all"])
@pytest.mark.parametrize("given", ["position", "offset"])
def test_counts_and_offsets_of_a_file(wires, size, count, given):
    """The end of the file ends it; the position moves if it was used, and else stays."""
    near, far = wires.sockets("tcp4")
    file = wires.file(DATA[: size + 10])
    os.lseek(file, 10 if given == "position" else 3, os.SEEK_SET)
    wanted = {"less": size - size // 2, "exactly": size, "more": size + 5, "all": None}[count]
    result = copy(file, near, wanted, offset_src=10 if given == "offset" else None)
    moved = min(size, size if wanted is None else wanted)
    assert result.moved == moved
    assert received(far, moved) == DATA[10 : 10 + moved]
    assert os.lseek(file, 0, os.SEEK_CUR) == (10 + moved if given == "position" else 3)


@pytest.mark.parametrize("how", ["int", "FileIO", "BufferedReader", "after a read"])
def test_the_kinds_of_files_that_need_no_look(wires, long_way, how):
    """What a reader holds is of no account where an offset is given, and its position stays."""
    near, far = wires.sockets("unix")
    path = wires.tmp_path / "file"
    path.write_bytes(DATA[:1000])
    with open(path, "rb", buffering=0 if how == "FileIO" else -1) as file:
        if how == "after a read":
            file.read(10)
        copy(file.fileno() if how == "int" else file, near, 900, offset_src=50)
        assert file.tell() == (10 if how == "after a read" else 0)
        assert received(far, 900) == DATA[50:950]
        if how != "int":
            copy(file, near, 30)
            at = 10 if how == "after a read" else 0
            assert (file.tell(), file.read(5)) == (at + 30, DATA[at + 30 : at + 35])
            assert received(far, 30) == DATA[at : at + 30]
    assert not long_way


@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_known_bytes_from_pipe_to_pipe(wires, long_way, size):
    (from_r, from_w), (to_r, to_w) = wires.pipe(), wires.pipe()
    os.write(from_w, DATA[:size])
    result = copy(from_r, to_w, size)
    assert (result.moved, result.method, long_way) == (size, "splice", [])
    assert received(to_r, size) == DATA[:size]


@pytest.mark.parametrize("size", [1, 1000, BUF])
@pytest.mark.parametrize("kinds", [("unix", "tcp4"), ("tcp4", "unix")], ids="-".join)
def test_known_bytes_from_socket_to_socket(wires, long_way, kinds, size):
    (near, source), (target, far) = (room(*wires.sockets(kind)) for kind in kinds)
    near.sendall(DATA[:size])
    result = copy(source, target, size)
    # What has not arrived at once is waited for on the long way, and counted together.
    assert result.moved == sum(result.by_method.values()) == size
    assert received(far, size) == DATA[:size]
    if size == 1:
        assert (result.method, long_way) == ("read_write", [])


@pytest.mark.parametrize("call", [copy, receive_file])
@pytest.mark.parametrize("size", [1, 1000, BUF])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_APPEND], ids=["file", "appending"])
def test_known_bytes_from_a_socket_into_a_file(wires, long_way, call, size, flags):
    """At its position, or its end; what follows stays in the connection."""
    near, source = wires.sockets("unix")
    near.sendall(DATA[: size + 10])
    file = wires.file(b"before", flags=flags)
    os.lseek(file, 0, os.SEEK_END)
    result = call(source, file, size)
    assert (result.moved, result.by_method, long_way) == (size, {"read_write": size}, [])
    assert os.pread(file, 2 * BUF, 0) == b"before" + DATA[:size]
    assert os.lseek(file, 0, os.SEEK_CUR) == size + 6
    assert source.recv(100) == DATA[size : size + 10]


@pytest.mark.parametrize("call", ["copy", "receive_file"])
@pytest.mark.parametrize("size", [1, 1000, BUF, 2 * BUF])
@pytest.mark.parametrize("most", [0, 300], ids=["whole", "short"])
def test_bytes_from_a_socket_at_an_offset_of_a_file(wires, long_way, monkeypatch, call, size, most):
    """The position stays, what is around too; what a short write leaves follows it."""
    near, source = room(*wires.sockets("unix"))
    near.sendall(DATA[: size + 10])
    file = wires.file(b"." * (size + 20))
    os.lseek(file, 3, os.SEEK_SET)
    with Seam(*([cap("write", most, times=1)] if most else [])).everywhere(monkeypatch):
        if call == "copy":
            result = copy(source, file, size, offset_dst=7)
        else:
            result = receive_file(source, file, size, offset=7)
    assert result.moved == sum(result.by_method.values()) == size
    assert os.pread(file, 3 * BUF, 0) == b"." * 7 + DATA[:size] + b"." * 13
    assert os.lseek(file, 0, os.SEEK_CUR) == 3
    assert source.recv(100) == DATA[size : size + 10]
    if size <= BUF:
        assert not long_way


@pytest.mark.parametrize("dst", ["appending", "pipe", "socket"])
def test_an_offset_where_nothing_can_be_written_at_one(wires, dst):
    """Refused before anything is taken."""
    near, source = wires.sockets("unix")
    near.sendall(DATA[:1000])
    end = {
        "appending": lambda: wires.file(b"", flags=os.O_RDWR | os.O_APPEND),
        "pipe": lambda: wires.pipe()[1],
        "socket": lambda: wires.sockets("unix")[0],
    }[dst]()
    error = ValueError if dst == "appending" else OSError
    with pytest.raises(error, match=r"O_APPEND|offset"):
        copy(source, end, 1000, offset_dst=0)
    assert source.recv(2000) == DATA[:1000]


@pytest.mark.parametrize("call", [copy, receive_file])
@pytest.mark.parametrize("what", ["read-only", "directory", "sealed"])
def test_a_file_that_takes_nothing(wires, call, what):
    """Refused with nothing taken; a sealed one with what was taken in `held`."""
    near, source = wires.sockets("unix")
    near.sendall(DATA[:1000])
    if what == "sealed":
        file = wires.ends.fd(os.memfd_create("sealed", os.MFD_ALLOW_SEALING))
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    else:
        file = wires.ends.fd(os.open("/" if what == "directory" else __file__, os.O_RDONLY))
    with pytest.raises(OSError, match=r"file|dst") as caught:
        call(source, file, 1000)
    held = getattr(caught.value, "held", b"")
    assert bool(held) == (what == "sealed")
    if held and call is receive_file:
        assert caught.value.unread == 0
    assert held + (b"" if held else source.recv(2000)) == DATA[:1000]


@pytest.mark.parametrize("seam_call", ["read", "write"])
@pytest.mark.parametrize(
    "err", [*PASSING, *GONE, "ENOSPC", "EFBIG", "EDQUOT", "EIO", "EBADF", "EPERM"]
)
@pytest.mark.parametrize("drain", [False, True])
def test_a_body_whose_first_try_fails(wires, monkeypatch, seam_call, err, drain):
    """In the file, held and unread are the whole of it; drained, the next message comes next."""
    near, source = wires.sockets("unix")
    near.sendall(DATA[:1000] + TAIL)
    file = wires.file(b"")
    times, error = ALWAYS if drain and err not in PASSING else 1, None
    with Seam(fail(seam_call, getattr(errno, err), times=times)).everywhere(monkeypatch):
        try:
            moved, held, unread = receive_file(source, file, 1000, drain=drain).moved, b"", 0
        except OSError as caught:
            error = caught
            moved, held, unread = error.result.moved, error.held, error.unread
    assert os.pread(file, BUF, 0) == DATA[:moved]
    if drain and seam_call == "write" and error is not None:
        assert (held, unread) == (b"", 0)
        assert source.recv(1000) == TAIL
    else:
        assert moved + len(held) + unread == 1000
        assert DATA[:moved] + held + source.recv(2000) == DATA[:1000] + TAIL
    if err in PASSING or (drain and seam_call == "write"):
        assert (error is None) == (err in PASSING)


def test_what_progress_raises_of_a_body(wires):
    """It has the counts, and `unread`."""
    near, source = wires.sockets("unix")
    near.sendall(DATA[:1000])

    def stop(moved):
        raise ZeroDivisionError(moved)

    with pytest.raises(ZeroDivisionError) as caught:
        receive_file(source, wires.file(b""), 1000, progress=stop)
    assert (caught.value.result.moved, caught.value.held, caught.value.unread) == (1000, b"", 0)


@pytest.mark.parametrize("size", [1, 1000, SMALL, SMALL + 1, BUF])
@pytest.mark.parametrize("around", [(b"", b""), (HEAD, b""), (b"", TAIL), (HEAD, TAIL)])
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_a_header_a_file_and_a_trailer(wires, long_way, kind, around, size):
    """In this order, counted apart; with a small file in one message."""
    near, far = room(*wires.sockets(kind))
    header, trailer = around
    file = wires.file(DATA[: size + 20])
    result = send_file(near, file, 20, header=header, trailer=trailer)
    whole = header + DATA[20 : 20 + size] + trailer
    assert result.moved == len(whole)
    memory = len(header) + len(trailer)
    method = "read_write" if size <= SMALL else "sendfile"
    assert result.by_method == {method: size, **({"send": memory} if memory else {})}
    assert received(far, len(whole)) == whole
    assert not long_way
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_progress_is_told_the_total_once(wires):
    near, _far = wires.sockets("unix")
    told = []
    copy(wires.file(DATA[:1000]), near, progress=told.append)
    send_file(near, wires.file(DATA[:1000]), header=HEAD, progress=told.append)
    assert told == [1000, 1300]


def test_what_progress_raises_has_the_counts(wires):
    near, _far = wires.sockets("unix")

    def stop(moved):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        send_file(near, wires.file(DATA[:1000]), header=HEAD, progress=stop)
    assert caught.value.result.moved == 1300
    assert caught.value.held == b""


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_a_named_method_is_the_one_that_runs(wires, kind):
    """Small or not: sendfile means sendfile."""
    near, far = wires.sockets(kind)
    assert copy(wires.file(DATA[:100]), near, method="sendfile").method == "sendfile"
    assert received(far, 100) == DATA[:100]


# -- how many system calls -------------------------------------------------------------------------

SCRIPT = """
import os, socket, sys, tempfile, spliceio
mode = {{"blocking": None, "nonblocking": 0, "timeout": 5}}[{mode!r}]
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    one.settimeout(mode)
    return one, other
file = tempfile.TemporaryFile(buffering=0)
file.write(bytes(1024))
near, far = tcp()
target, last = tcp()
target.settimeout(mode)
(from_r, from_w), (to_r, to_w) = os.pipe(), os.pipe()
sys.stdin.readline()
for turn in range(3):
    {before}
    os.stat("/begin")if 0 else os.access("/begin", 0)
    {call}
    os.access("/end", 0)
    far.recv(9999) if {reads} else None
"""
CALLS = {
    "send_file": (4, "", "spliceio.send_file(near, file, header=b'h' * 100)", 1),
    "copy file tcp": (4, "file.seek(0)", "spliceio.copy(file, near)", 1),
    "copy file tcp offset": (3, "", "spliceio.copy(file, near, 1024, offset_src=0)", 1),
    "copy pipe pipe": (3, "os.write(from_w, b'x' * 1000)", "spliceio.copy(from_r, to_w, 1000)", 0),
    "copy tcp tcp": (2, "far.sendall(b'x' * 1000)", "spliceio.copy(near, target, 1000)", 0),
}


@pytest.mark.parametrize("mode", ["blocking", "nonblocking", "timeout"])
@pytest.mark.parametrize("name", CALLS)
def test_no_more_system_calls_than(tmp_path, name, mode):
    """Counted by strace between two marks, at the last of three calls."""
    most, before, call, reads = CALLS[name]
    log = tmp_path / "log"
    script = SCRIPT.format(mode=mode, before=before or "pass", call=call, reads=reads)
    command = [need("strace"), "-qq", "-o", str(log), sys.executable, "-c", script]
    done = subprocess.run(command, input=b"\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = log.read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if '"/begin"' in line)
    end = max(i for i, line in enumerate(lines) if '"/end"' in line)
    made = [line.partition("(")[0] for line in lines[begin + 1 : end] if re.match(r"\w+\(", line)]
    assert 0 < len(made) <= most, made


# -- what is not done in one go --------------------------------------------------------------------

KINDS = {
    "file": ("read", "write"),
    "file, offset": ("read", "write"),
    "reader": ("read", "write"),
    "blob": ("read", "write"),
    "big blob": (None, "sendfile"),
    "big reader": (None, "sendfile"),
    "big file": (None, "sendfile"),
    "header": ("read", "write"),
    "header, big file": (None, "sendfile"),
    "socket": ("read", "write"),
    "pipe": (None, "splice"),
}


EACH = [(kind, call) for kind, calls in KINDS.items() for call in calls if call is not None]


class Pair:
    """What there is, from where, to where; and what there should be at the other end."""

    def __init__(self, wires, kind):
        size = SMALL + 5000 if "big" in kind else 3000
        self.near, self.far = room(*wires.sockets("tcp4"))
        self.source = None
        if kind == "socket":
            near, self.source = wires.sockets("unix")
            near.sendall(DATA[:size])
        elif kind == "pipe":
            self.source, writer = wires.pipe()
            os.write(writer, DATA[:size])
            self.far, self.near = wires.pipe()
        elif "blob" in kind:
            self.source = spliceio.Blob(DATA[:size])
            wires.ends.callback(self.source.close)
        elif "reader" in kind:
            path = wires.tmp_path / "source"
            path.write_bytes(DATA[:size])
            self.source = open(path, "rb")  # noqa: SIM115
            wires.ends.callback(self.source.close)
        else:
            self.source = wires.file(DATA[:size])
        self.kind, self.size = kind, size
        self.whole = (HEAD if "header" in kind else b"") + DATA[:size]
        self.moved, self.held = 0, b""

    def run(self):
        if "header" in self.kind:
            return send_file(self.near, self.source, header=HEAD)
        offset = 0 if "offset" in self.kind else None
        count = None if "blob" in self.kind or "reader" in self.kind else self.size
        return copy(self.source, self.near, count, offset_src=offset)

    def outcome(self):
        """Return the result, what is held, and the errno of what was raised, or 0."""
        try:
            return self.run(), b"", 0
        except OSError as error:
            return error.result, error.held, error.errno

    def rest(self):
        """Read what is left in the source."""
        if self.kind in ("socket", "pipe"):
            fd = self.source if isinstance(self.source, int) else self.source.fileno()
            left = b""
            while select.select([fd], [], [], 0)[0] and (part := os.read(fd, 1 << 20)):
                left += part
            return left
        if self.kind in ("file", "big file"):
            return os.read(self.source, 1 << 20)
        if "reader" in self.kind:
            return self.source.read()
        return None  # which was read at an offset


@pytest.mark.parametrize(("kind", "call"), EACH)
@pytest.mark.parametrize("err", [*PASSING, *GONE, "EBADF", "EINVAL", "ENOSYS", "EPERM", "EIO"])
def test_each_call_of_it_fails_once(wires, monkeypatch, kind, call, err):
    """It is asked again, or told; every byte is in one place."""
    pair = Pair(wires, kind)
    rule = fail(call, getattr(errno, err))
    with Seam(rule).everywhere(monkeypatch) as seam:
        result, held, said = pair.outcome()
    assert seam.unused() == [0]
    assert said in (0, getattr(errno, err))
    moved = result.moved
    assert sum(result.by_method.values()) == moved
    got = received(pair.far, moved)
    if (rest := pair.rest()) is None:
        assert (got, held) == (pair.whole[:moved], b"")
    else:
        assert got + held + rest == pair.whole
    if err in PASSING:
        assert moved == len(pair.whole)


@pytest.mark.parametrize(("kind", "call"), EACH)
@pytest.mark.parametrize(
    ("most", "times"), [(0, 1), (1, 1), (299, 1), (300, 1), (301, ALWAYS), (2999, ALWAYS)]
)
def test_each_call_of_it_is_short(wires, monkeypatch, kind, call, most, times):
    """The rest goes the long way, and all is counted together."""
    pair = Pair(wires, kind)
    rule = cap(call, most, times=times) if most else zero(call)
    with Seam(rule).everywhere(monkeypatch):
        result = pair.run()
    assert result.moved == sum(result.by_method.values()) == len(pair.whole)
    assert result.by_method.get("send", 0) == len(pair.whole) - pair.size
    assert received(pair.far, len(pair.whole)) == pair.whole


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@pytest.mark.parametrize("mode", [None, 0], ids=["blocking", "nonblocking"])
@pytest.mark.parametrize("size", [1000, SMALL, 3 * BUF])
@pytest.mark.parametrize("header", [b"", HEAD])
def test_a_socket_with_little_room(wires, kind, mode, size, header):
    """The try neither waits nor loses; a timeout tells how far it went."""
    near, far = wires.stuffed(kind)
    before = b""
    far.setblocking(False)
    while len(before) < 5000:
        before += far.recv(5000 - len(before))
    near.settimeout(mode)
    counted = b""
    with contextlib.suppress(TimeoutError):
        for whole in (DATA[:size], DATA * 20):  # so much never fits
            moved = 0
            try:
                moved = send_file(near, wires.file(whole), header=header, timeout=0).moved
            except TimeoutError as error:
                moved = error.result.moved
                raise
            finally:
                counted += (header + whole)[:moved]
    assert moved < len(header + DATA * 20)
    near.shutdown(socket.SHUT_WR)
    far.setblocking(True)
    came = b"".join(iter(lambda: far.recv(1 << 20), b""))
    assert came.endswith(counted)
    assert set(came[: len(came) - len(counted)]) <= set(b"\0.")


def test_a_reset_is_told_though_the_try_has_met_it(wires):
    """The kernel tells it once, to the first who asks."""
    near, source = wires.sockets("tcp4")
    target, _ = wires.sockets("unix")
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    near.close()
    select.select([source], [], [])
    with pytest.raises(ConnectionResetError, match="src is a TCP socket") as caught:
        copy(source, target, 10)
    assert (caught.value.result.moved, caught.value.held) == (0, b"")


def test_bytes_that_a_gone_reader_refused_are_held(wires):
    """They were taken from a socket, and are nowhere else."""
    near, source = wires.sockets("unix")
    target, far = wires.sockets("unix")
    near.sendall(DATA[:1000])
    far.close()
    with pytest.raises(BrokenPipeError, match="dst") as caught:
        copy(source, target, 1000)
    assert (caught.value.result.moved, caught.value.held) == (0, DATA[:1000])


def test_a_file_that_has_become_shorter(wires, monkeypatch):
    """Between the look and the read: nothing is sent that was not promised."""
    near, far = wires.sockets("unix")
    file = wires.file(DATA[:1000])
    with (
        Seam(
            cap("read", 500, times=1), zero("read", times=ALWAYS), fail("sendfile", 22)
        ).everywhere(monkeypatch),
        pytest.raises(UnexpectedEOF),
    ):
        send_file(near, file, header=HEAD)
    assert received(far, 300) == HEAD


@pytest.mark.parametrize("swapped", ["src", "dst"])
def test_a_number_that_has_become_anothers_before_the_rest(wires, monkeypatch, swapped):
    """What is left goes only between what was looked at; what was moved is told."""
    near, far = wires.sockets("unix")
    file = wires.file(DATA[:1000])
    own = os.dup(near.fileno())
    stranger = wires.file(b"a stranger's")
    rest = _act._copy_rest

    def late(*args):
        os.dup2(stranger, file if swapped == "src" else own)
        return rest(*args)

    monkeypatch.setattr(_act, "_copy_rest", late)
    with (
        Seam(cap("write", 400)).everywhere(monkeypatch),
        pytest.raises(OSError, match="closed by another thread") as caught,
    ):
        copy(file, own, 1000)
    os.close(own)
    assert (caught.value.result.moved, caught.value.held) == (400, b"")
    assert received(far, 400) == DATA[:400]
    assert os.pread(stranger, 100, 0) == b"a stranger's"


def reading(end, size, after=0.0):
    """Read so many bytes in a thread, from a moment on; `result()` joins it."""
    got = []

    def read():
        time.sleep(after)
        data = b""
        while len(data) < size:
            data += os.read(end.fileno(), size - len(data))
            time.sleep(0.001)
        got.append(data)

    thread = threading.Thread(target=read)
    thread.start()

    def result():
        thread.join()
        return got[0]

    return result


@pytest.mark.parametrize("call", ["copy", "send_file", "Blob"])
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_what_has_to_wait_goes_on_in_the_same_call(wires, long_way, call, kind):
    """Duplicates are made in C, and nothing in Python, while it takes less than a slice."""
    near, far = wires.sockets(kind)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    data = payload(1 << 19, seed=5)
    file = wires.file(data)
    told = []
    got = reading(far, len(data) + (len(HEAD + TAIL) if call == "send_file" else 0))
    if call == "copy":
        result, whole = copy(file, near, progress=told.append), data
    elif call == "send_file":
        result = send_file(near, file, header=HEAD, trailer=TAIL, progress=told.append)
        whole = HEAD + data + TAIL
    else:
        with spliceio.Blob(data) as blob:
            result, whole = copy(blob, near, progress=told.append), data
    assert got() == whole
    assert result.moved == len(whole) == told[-1]
    assert result.method == "sendfile"
    assert result.by_method["sendfile"] == len(data)
    assert not long_way or result.seconds > 0.08


@pytest.mark.parametrize("given", ["reader", "number"])
@pytest.mark.parametrize("after", [0.01, 0.15])
def test_a_signal_that_raises_while_the_rest_waits(wires, given, after):
    """In the first slice or in a later one: what has arrived is counted, the position is there."""
    near, far = wires.sockets("unix")
    path = wires.tmp_path / "file"
    data = payload(1 << 21, seed=6)
    path.write_bytes(data)
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError("x")))
    with open(path, "rb") as file:
        assert file.read(10) == data[:10]
        if given == "number":
            os.lseek(file.fileno(), 10, os.SEEK_SET)
        try:
            signal.setitimer(signal.ITIMER_REAL, after)
            with pytest.raises(InterruptedError) as caught:
                copy(file if given == "reader" else file.fileno(), near)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        moved = caught.value.result.moved
        assert (caught.value.held, 0 < moved < len(data)) == (b"", True)
        assert received(far, moved) == data[10 : 10 + moved]
        at = file.tell() if given == "reader" else os.lseek(file.fileno(), 0, os.SEEK_CUR)
        assert at == 10 + moved
        assert given == "number" or file.read(5) == data[at : at + 5]


@pytest.mark.parametrize("count", [None, (1 << 20) - 100])
def test_a_reader_whose_rest_takes_longer_than_a_slice(wires, long_way, count):
    """Its position is where its own read would have left it, whatever it had read ahead."""
    near, far = wires.sockets("unix")
    path, data = wires.tmp_path / "file", payload(1 << 20, seed=7)
    path.write_bytes(data)
    with open(path, "rb") as file:
        assert file.read(10) == data[:10]
        end = len(data) if count is None else 10 + count
        got = reading(far, end - 10, after=0.2)
        assert copy(file, near, count).moved == end - 10
        assert got() == data[10:end]
        assert long_way
        assert (file.tell(), file.read()) == (end, data[end:])


@pytest.mark.parametrize("left", [0, 1])
def test_no_descriptor_for_the_rest(wires, left):
    """The error says so, and what went before it is counted."""
    near, far = wires.sockets("unix")
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
    two, source = wires.sockets("unix")
    two.sendall(DATA[:30000])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, before[1]))
    try:
        with pytest.raises(OSError, match="copy: ") as caught:
            copy(source, near, 30000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.errno == errno.EMFILE
    error = caught.value
    got = received(far, error.result.moved)
    assert error.held
    assert got + error.held == DATA[:30000]


def test_a_timeout_begins_with_the_last_byte(wires):
    """Of the socket, or of the call; in the first slice or in a later one."""
    for seconds in (0.02, 0.2):
        near, far = wires.sockets("unix")
        near.settimeout(seconds)
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=f"copy: nothing moved for {seconds:g} s") as caught:
            copy(wires.file(payload(1 << 21)), near)
        assert seconds <= time.monotonic() - begun
        assert caught.value.result.moved == len(received(far, caught.value.result.moved)) > 0


# -- what is not touched ---------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", ["file dgram", "dgram unix", "file seqpacket", "file listener"])
def test_a_socket_of_another_type_is_told_from_a_stream(wires, kinds):
    """By its object or by its number; nothing is sent, and nothing taken."""
    src, dst = kinds.split()
    made = {"file": wires.file(DATA[:100]), "unix": wires.sockets("unix")[0]}
    if "listener" in kinds:
        made["listener"] = wires.ends.sock(socket.create_server(("127.0.0.1", 0)))
    else:
        kind = socket.SOCK_DGRAM if "dgram" in kinds else socket.SOCK_SEQPACKET
        one, two = map(wires.ends.sock, socket.socketpair(socket.AF_UNIX, kind))
        two.send(b"message")
        made["dgram"] = made["seqpacket"] = one
    for number in (False, True):
        ends = [made[end] for end in (src, dst)]
        if number:
            ends = [end if isinstance(end, int) else end.fileno() for end in ends]
        error = OSError if "listener" in kinds else ValueError
        with pytest.raises(error, match=r"listening|messages a byte stream"):
            copy(*ends, 50)
    if "listener" not in kinds:
        assert one.recv(100) == b"message"
        two.setblocking(False)
        with pytest.raises(BlockingIOError):
            two.recv(100)


@pytest.mark.parametrize("bad", [-1.0, "soon", float("nan")])
def test_a_timeout_that_is_none(wires, bad):
    """Said before a byte moves."""
    near, far = wires.sockets("unix")
    with pytest.raises((ValueError, TypeError)):
        copy(wires.file(DATA[:10]), near, timeout=bad)
    with pytest.raises((ValueError, TypeError)):
        send_file(near, wires.file(DATA[:10]), timeout=bad)
    assert not select.select([far], [], [], 0)[0]


@pytest.mark.parametrize("kind", ["datagram", "listening", "closed", "directory", "write-only"])
def test_what_is_refused_is_refused_as_before(wires, kind):
    """With the words of the long way; nothing was taken from the source."""
    source, dst = wires.file(DATA[:10]), wires.sockets("unix")[0]
    if kind == "datagram":
        dst, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        wires.ends.sock(other)
        wires.ends.sock(dst)
    elif kind == "listening":
        dst = wires.ends.sock(socket.create_server(("127.0.0.1", 0)))
    elif kind == "closed":
        dst = 10_000
    elif kind == "directory":
        dst = wires.ends.fd(os.open(wires.tmp_path, os.O_RDONLY))
    elif kind == "write-only":
        source = wires.ends.fd(os.open(wires.tmp_path / "new", os.O_WRONLY | os.O_CREAT))
        os.pwrite(source, b"x", 0)
    with pytest.raises((OSError, ValueError), match="src is" if kind == "write-only" else "dst"):
        copy(source, dst, 10)
    assert os.lseek(source, 0, os.SEEK_CUR) == 0


def test_a_socket_copied_onto_itself_is_an_echo(wires):
    """It is no circle: what comes from the peer goes back to it."""
    near, far = wires.sockets("unix")
    far.sendall(DATA[:100])
    assert copy(near, near, 100).moved == 100
    assert received(far, 100) == DATA[:100]


def test_threads_share_nothing(wires):
    """Each call has a struct of its own, also when many are under way."""
    errors = []

    def work(number):
        try:
            near, far = socket.socketpair()
            data = payload(1000, seed=number)
            with near, far, open(wires.tmp_path / str(number), "wb+", buffering=0) as file:
                file.write(data)
                for _ in range(300):
                    assert send_file(near, file, header=b"%04d" % number).moved == 1004
                    assert far.recv(2000) == b"%04d" % number + data
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_signal_that_raises_meanwhile_leaves_the_counts(wires):
    """An alarm in the middle of thousands of calls: each byte is counted, or still in the file."""
    near, far = room(*wires.sockets("unix"))
    file = wires.file(DATA)

    def stop(*_):
        raise InterruptedError("stop")

    before = signal.signal(signal.SIGALRM, stop)
    moved = 0
    try:
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                while True:
                    copy(file, near, 10, offset_src=0)
                    moved += 10
                    assert received(far, 10) == DATA[:10]
            except InterruptedError:
                signal.setitimer(signal.ITIMER_REAL, 0)
                while select.select([far], [], [], 0)[0]:
                    assert far.recv(10) == DATA[:10]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert moved
    assert spliceio.copy(file, near, 5, offset_src=0).moved == 5


def test_a_blob_is_a_file_with_a_beginning_and_an_end(wires, long_way):
    """Offsets count from its own beginning; a part that it has not is refused."""
    near, far = wires.sockets("unix")
    with spliceio.Blob(DATA[:1000]) as blob:
        assert copy(blob, near).method == "read_write"
        assert copy(blob, near, 10, offset_src=990).moved == 10
        assert send_file(near, blob, 5, 20, header=b"h").moved == 21
        assert received(far, 1031) == DATA[:1000] + DATA[990:1000] + b"h" + DATA[5:25]
        assert not long_way
        with pytest.raises(ValueError, match="ends at 1000"):
            copy(blob, near, 11, offset_src=990)


@pytest.mark.parametrize("left", [1, SMALL, SMALL + 1, 5 * SMALL])
@pytest.mark.parametrize("kind", ["FileIO", "BufferedReader", "int", "Blob"])
def test_explain_says_what_copy_does(wires, kind, left):
    """Also where the position is what makes it small, and why."""
    near, far = room(*wires.sockets("unix"))
    path = wires.tmp_path / "file"
    path.write_bytes(DATA[: left + 7])
    blob = spliceio.Blob(DATA[:left])
    with open(path, "rb", buffering=0 if kind != "BufferedReader" else -1) as file, blob:
        file.seek(7)
        source = {"int": file.fileno(), "Blob": blob}.get(kind, file)
        plan = spliceio.explain(source, near)
        assert any("one read and one send" in note for note in plan.notes) == (left <= SMALL)
        assert plan.method == copy(source, near).method == plan.order[0]
        assert received(far, left) == (DATA[:left] if kind == "Blob" else DATA[7 : left + 7])
