"""A signal handler that raises at any opcode of a call leaves no descriptor and no thread behind.

Rule 1: without a collection: what a call owned is closed when its exception is gone.
Rule 2: every public call that owns something and runs in the calling thread is in the table here;
        long ones are interrupted at every so-manieth opcode, and where a descriptor has just come
        or gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import warnings

import pytest

import spliceio
from spliceio import Blob, PageWriter, Pipe, Transfer
from tests.support.cases import FULL
from tests.support.interrupts import leaks

SIZE = 5000


class Place:
    """A file, a pipe and two sockets, which are as they were before each turn."""

    def __init__(self, wires, tmp_path):
        self.path, self.other = tmp_path / "a", tmp_path / "b"
        self.path.write_bytes(b"x" * SIZE)
        self.file = wires.file(b"x" * SIZE)
        self.out = wires.file(kind="memfd")
        self.reader, self.writer = wires.pipe()
        self.near, self.far = wires.sockets("unix")
        for fd in (self.reader, self.near.fileno(), self.far.fileno()):
            os.set_blocking(fd, False)

    def reset(self):
        for fd in (self.file, self.out):
            os.lseek(fd, 0, os.SEEK_SET)
        for fd in (self.reader, self.near.fileno(), self.far.fileno()):
            with contextlib.suppress(BlockingIOError):
                while os.read(fd, 1 << 20):
                    pass


class Fails:
    """A sink that fails at once."""

    def write(self, data):
        raise OSError(28, "full")


def fan(at, method="auto", *more):
    spliceio.fanout(at.file, [at.writer, at.near, hashlib.md5(), at.out, *more], method=method)


def fan_from_a_pipe(at):
    os.write(at.writer, b"x" * 100)
    spliceio.fanout(at.reader, [at.near, io.BytesIO()], 100)


def fan_refused(at):
    with contextlib.suppress(TypeError):
        spliceio.fanout(at.file, [at.writer, at.near, "no sink"])


def blob(at):
    with Blob([b"x" * 100, b"y"]) as made:
        bytes(made.view[1:3])


def blob_of_a_file(at):
    Blob.from_file(at.file, 3000).close()


def steps(at):
    with Transfer(at.file, at.out) as transfer:
        transfer.step()
        transfer.run()


def pieces(at):
    for _ in spliceio.chunks(at.file, 2000):
        pass


def receive(at):
    at.far.send(b"z" * 100)
    spliceio.receive_file(at.near, at.out, 100)


def ranges(at):
    spliceio.send_ranges(at.near, at.file, [(1, 10), (20, 5)])


def fileobj(at):
    with at.path.open("rb") as src, at.other.open("wb") as dst:
        spliceio.copyfileobj(src, dst)


def peek(at):
    at.far.send(b"zz")
    spliceio.peek(at.near, 2)


def peek_at_a_pipe(at):
    os.write(at.writer, b"zz")
    spliceio.peek(at.reader, 2)


def pipe(at):
    with Pipe(nonblocking=True) as made:
        made.write(b"abc")
        made.peek(3)


def pipes(at):
    for one in spliceio.pipe_pair():
        one.close()


def pages(at):
    with PageWriter(at.writer) as writer:
        writer.write(b"x" * 9000)


def relay(at):
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    with a, b, c, d:
        b.shutdown(socket.SHUT_WR)
        d.shutdown(socket.SHUT_WR)
        spliceio.relay(a, c)


CALLS = {
    "fanout": (fan, 13),
    "fanout by copying": (lambda at: fan(at, "read_write"), 17),
    "fanout with one that fails": (lambda at: fan(at, "auto", Fails()), 19),
    "fanout from a pipe": (fan_from_a_pipe, 9),
    "fanout refused": (fan_refused, 7),
    "Blob": (blob, 1),
    "Blob.from_file": (blob_of_a_file, 5),
    "copy": (lambda at: spliceio.copy(at.file, at.writer), 5),
    "copy through a pipe": (lambda at: spliceio.copy(at.file, at.near, method="splice"), 5),
    "Transfer": (steps, 5),
    "discard": (lambda at: spliceio.discard(at.file), 5),
    "chunks": (pieces, 2),
    "send_file": (lambda at: spliceio.send_file(at.near, at.file, header=b"h", trailer=b"t"), 7),
    "send_ranges": (ranges, 7),
    "receive_file": (receive, 6),
    "copy_file": (lambda at: spliceio.copy_file(at.path, at.other), 7),
    "copyfileobj": (fileobj, 7),
    "peek": (peek, 3),
    "peek at a pipe": (peek_at_a_pipe, 3),
    "Pipe": (pipe, 2),
    "pipe_pair": (pipes, 2),
    "PageWriter": (pages, 2),
    "explain": (lambda at: spliceio.explain(at.file, at.writer), 5),
    "features": (lambda at: spliceio.features(), 13),
    "relay": (relay, 9),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_left_open(wires, tmp_path, name):
    """Whatever the step at which the handler raises."""
    call, stride = CALLS[name]
    stride *= 1 if FULL else 16
    place = Place(wires, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        steps, found = leaks(lambda: call(place), reset=place.reset, stride=stride, behind=4)
    assert found == []
    assert steps > 20
