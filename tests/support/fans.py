"""Fan-outs for tests: sinks that read as fast as told, and what must be true of every result."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import select
import socket
import subprocess
import sys
import textwrap

from spliceio._fanout import fanout as _fanout
from tests.support.seam import Seam
from tests.support.states import Worker

ZERO_COPY = {"tee", "splice"}
PATIENCE = 20
"""Seconds without a byte after which a fan-out in a thread ends, so that a test that has failed can
be cleared away; nothing is measured with it."""


def same(got, data):
    """Compare without a diff of megabytes."""
    assert len(got) == len(data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def scripted(monkeypatch, src, sinks, *rules, count=None, **options):
    """Make a Fanout whose every call goes through one seam; return both."""
    seam = Seam(*rules)
    with seam.everywhere(monkeypatch):
        fan = _fanout.Fanout(src, sinks, count, **options)
    return fan, seam


def ends(sinks):
    """Give what is handed to fanout: the end of a wires.Sink, and anything else as it is."""
    return [getattr(sink, "end", sink) for sink in sinks]


def read_slowly(fd: int, chunk: int) -> bytes:
    """Read to the end, a little at a time, letting others run in between."""
    parts = []
    while True:
        try:
            part = os.read(fd, chunk)
        except BlockingIOError:
            select.select([fd], [], [])
            continue
        except OSError:  # EIO: the other side of a terminal is gone
            break
        if not part:
            break
        parts.append(part)
        os.sched_yield()
    return b"".join(parts)


def slow_sink(wires, kind, chunk, *, nonblocking=False):
    """Make a sink whose reader takes `chunk` bytes at a time."""
    sink = wires.sink(kind, nonblocking=nonblocking, collecting=False)
    sink._collector = Worker(lambda: read_slowly(sink._collect_fd, chunk))
    wires.ends.callback(sink.received)
    return sink


def complete(result, size, reason="eof"):
    """Assert that everything went everywhere, and was counted."""
    assert result.reason == reason
    assert result.moved == size
    assert result.unread == b""
    assert result.failed == ()
    for one in result.sinks:
        assert (one.fate, one.error, one.held, one.moved) == ("done", None, b"", size)
        assert sum(one.by_method.values()) == size
        if size:
            assert one.method == max(one.by_method, key=one.by_method.get)


def stuck_sink(wires, kind, *, nonblocking=False):
    """Make a sink that nobody reads from, and that takes much less than a megabyte."""
    sink = wires.sink(kind, nonblocking=nonblocking, collecting=False)
    if kind == "pipe":
        fcntl.fcntl(sink.end, 1031, 65536)  # F_SETPIPE_SZ
    elif kind != "tty":
        sink.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        with socket.socket(fileno=os.dup(sink._collect_fd)) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    return sink


class Raw(io.RawIOBase):
    """A raw file that takes so much at a time, then fails as told."""

    def __init__(self, answers):
        super().__init__()
        self.got, self.answers = b"", list(answers)

    def writable(self):
        return True

    def write(self, part):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            return None
        self.got += part[: max(answer, 0)]
        return min(answer, len(part))


def python(script, *args, wrapper=()):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def account(result, data, got, left=None):
    """Assert that what a sink got and what is held for it make up all that was taken."""
    for one, bytes_ in zip(result.sinks, got, strict=True):
        assert len(bytes_) == one.moved, one.sink
        assert data.startswith(bytes_), one.sink
        if one.fate == "stopped":
            assert one.error is None
            assert bytes_ + one.held == data[: result.moved], one.sink
        else:
            assert one.error is not None
            assert one.held == b""
    if left is not None:
        assert data[: result.moved] + left == data
