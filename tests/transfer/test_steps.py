"""A number closed and used again, by another thread, between any two system calls of a copy.

Rule: the calls of the first try are on the caller's own numbers, and one of them can meet a
stranger, as `os.sendfile` can. Whatever comes after it is on duplicates of what was looked at: a
stranger gets no byte, loses none, and what was asked for goes on or is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spliceio import copy, send_file
from tests.support.programs import need
from tests.support.seam import Seam, cap, swap
from tests.support.wires import payload

DATA = payload(300_000, seed=9)
HEAD, TAIL = b"h" * 300, b"t" * 200
STRANGE = b"a stranger's"
ROOT = Path(__file__).resolve().parents[2]
CAPS = [cap("write", 700), cap("read", 900), cap("sendfile", 50_000), cap("splice", 2_000)]


class Work:
    """Two ends by number, and what is to go from one to the other."""

    def __init__(self, wires, kind):
        self.kind, self._wires = kind, wires
        self.kinds = ("file", kind.split()[1]) if kind.startswith("send") else tuple(kind.split())
        self.data = DATA[: {"pipe": 20_000}.get(self.kinds[0], 60_000)]
        if self.kinds[0] == "file":
            self.data = DATA
        self.whole = self.data
        if kind.startswith("send"):
            self.whole = HEAD + self.data + TAIL
        self.src = os.dup(self._source(self.kinds[0], self.data))
        self.dst = os.dup(self._sink(self.kinds[1]))
        for fd in (self.src, self.dst):
            wires.ends.fd(fd)

    def _source(self, kind, data):
        if kind == "file":
            return self._wires.file(data)
        if kind == "pipe":
            reader, writer = self._wires.pipe()
            os.write(writer, data)
            return reader
        near, far = self._wires.sockets(kind)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        far.sendall(data)
        return near.fileno()

    def _sink(self, kind):
        self._file = self._near = None
        if kind == "file":
            self._file = self._wires.file(b"")
            return self._file
        if kind == "pipe":
            self._far, writer = self._wires.pipe()
            return writer
        self._near, far = self._wires.sockets(kind)
        self._far = far.fileno()
        return self._near.fileno()

    def run(self):
        """Return how many bytes are said to have been moved, and the error, if there was one."""
        count = None if self.kinds[0] == "file" else len(self.data)
        try:
            if self.kind.startswith("send"):
                done = send_file(self.dst, self.src, header=HEAD, trailer=TAIL)
            else:
                done = copy(self.src, self.dst, count)
        except OSError as error:
            return error.result.moved, error
        return done.moved, None

    @contextlib.contextmanager
    def read(self):
        """Read all the while what arrives; `got` is that, afterwards."""
        self.got, over = b"", threading.Event()

        def collect():
            # What is in a pipe is there at once; a socket says its end.
            while not over.is_set() or self._near is not None:
                while select.select([self._far], [], [], 0.01)[0]:
                    if not (part := os.read(self._far, 1 << 20)):
                        return
                    self.got += part

        if self._file is not None:
            yield
            self.got = os.pread(self._file, 1 << 20, 0)
            return
        thread = threading.Thread(target=collect)
        thread.start()
        try:
            yield
        finally:
            over.set()
            if self._near is not None:
                self._near.shutdown(socket.SHUT_WR)
            thread.join()


class Stranger:
    """Another descriptor of the same kind, which has something of its own."""

    def __init__(self, wires, kind):
        self._kind = kind
        if kind == "file":
            self.fd = wires.file(STRANGE)
        elif kind == "reader":
            self.fd, writer = wires.pipe()
            os.write(writer, STRANGE)
        elif kind == "pipe":
            self._far, self.fd = wires.pipe()
        else:
            near, far = wires.sockets(kind)
            near.setblocking(False)
            far.setblocking(False)
            far.send(STRANGE)
            self.fd, self._far = near.fileno(), far.fileno()

    def changed(self):
        """Return how many bytes it has got or lost; one that is read from gives its own."""
        if self._kind == "file":
            data = os.pread(self.fd, 1 << 20, 0)
            same = data == STRANGE and not os.lseek(self.fd, 0, os.SEEK_CUR)
            return 0 if same else max(len(data), 1)
        got = lost = 0
        if self._kind != "pipe":
            mine = os.read(self.fd, 100) if select.select([self.fd], [], [], 0)[0] else b""
            lost = len(STRANGE) - len(mine)
        if self._kind != "reader":
            while select.select([self._far], [], [], 0)[0]:
                got += len(os.read(self._far, 1 << 20))
        return got + lost


KINDS = [
    "file unix",
    "file tcp4",
    "file pipe",
    "unix tcp4",
    "unix file",
    "tcp4 pipe",
    "pipe pipe",
    "pipe unix",
    "send_file unix",
    "send_file tcp4",
]


@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("kind", KINDS)
def test_between_any_two_calls(wires, monkeypatch, kind, side):
    """The first forty of them, and every tenth after that."""
    plain = Work(wires, kind)
    with plain.read(), Seam(*CAPS).everywhere(monkeypatch) as seam:
        assert plain.run() == (len(plain.whole), None)
    assert plain.got == plain.whole
    calls = [row.call for row in seam.log]
    own = {plain.src, plain.dst}
    tried = max((i for i, row in enumerate(seam.log) if own & {row.src, row.dst}), default=-1)
    assert tried < 3  # the first try is a few calls at the most, and then no number is used
    numbers = [step for step in range(len(calls)) if step < 40 or step % 10 == 0]
    assert len(calls) > 4
    went_on = 0
    for step in numbers:
        work = Work(wires, kind)
        number = work.src if side == "src" else work.dst
        what = work.kinds[side == "dst"]
        stranger = Stranger(wires, "reader" if (what, side) == ("pipe", "src") else what)
        rule = swap(calls[step], number, stranger.fd, skip=calls[:step].count(calls[step]))
        with work.read(), Seam(rule, *CAPS).everywhere(monkeypatch) as seam:
            moved, error = work.run()
        if seam.unused()[0]:
            continue  # the kernel has answered otherwise, and so there was no such call
        row = seam.log[min(step, seam.count - 1)]
        if step <= tried:
            # One call has met the stranger, and no other: what was left was refused.
            most = max((one.len for one in seam.log[: tried + 1]), default=0)
            assert stranger.changed() <= max(most, len(STRANGE)), row
            if error is not None and error.errno == errno.EBADF:
                assert "closed by another thread" in str(error)
            continue
        assert not stranger.changed(), row
        assert (error, work.got, moved) == (None, work.whole, len(work.whole)), row
        went_on += 1
    assert went_on


DUPLICATED = """
import os, socket, sys, threading, time
import spliceio

side, begins = sys.argv[1], threading.Event()
near, far = socket.socketpair()
near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
source = os.open(sys.argv[2], os.O_RDONLY)
number = source if side == "src" else os.dup(near.fileno())
strange, other = socket.socketpair()
stranger = os.open(sys.argv[3], os.O_RDONLY) if side == "src" else strange.fileno()

def swap():
    begins.wait()
    time.sleep(0.7)  # the modes are asked for, for a second; the duplicates come after that
    os.dup2(stranger, number)

thread = threading.Thread(target=swap)
thread.start()
begins.set()
try:
    spliceio.copy(source, number if side == "dst" else near.fileno(), 300_000, timeout=1)
except OSError as error:
    print("closed by another thread" in str(error), error.result.moved, end=" ")
thread.join()
other.setblocking(False)
try:
    print(len(other.recv(10)), end=" ")
except BlockingIOError:
    print("nothing", end=" ")
print(os.lseek(stranger, 0, os.SEEK_CUR) if side == "src" else 0)
"""


@pytest.mark.parametrize("side", ["src", "dst"])
def test_between_the_last_look_and_the_duplicate(tmp_path, side):
    """Every fcntl is delayed, so that another thread has the time for it."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(DATA)
    command = [need("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl"]
    command += ["-e", "inject=fcntl:delay_enter=500000"]
    command += [sys.executable, "-c", DUPLICATED, side, tmp_path / "one", tmp_path / "two"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr) == ("True 0 nothing 0\n", "")
