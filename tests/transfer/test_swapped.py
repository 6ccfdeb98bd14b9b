"""Closed by another thread as the call begins: no byte reaches the stranger that has the number.

Rule: what was looked at is what is used. Each test closes the descriptor at one moment between the
look and the duplicate, and lets another file get its number.
"""

from __future__ import annotations

import os
import socket
import threading

import pytest

import spliceio
from spliceio import PageWriter, Pipe, RelayPool, Transfer
from spliceio._kernel import endpoint as _fds
from spliceio._kernel import owned as _owned
from spliceio._transfer import act as _act
from spliceio._transfer import flow as _flow
from tests.support.states import syscall_of, until
from tests.support.wires import payload

DATA = payload(1000)


class Swap:
    """Closes a descriptor, and opens another file in its place, at a moment that a test chooses."""

    def __init__(self, wires, given, other=None):
        self.number = given if isinstance(given, int) else given.fileno()
        self.given, self.wires, self.done, self.other = given, wires, False, other
        self.stranger = -1

    def now(self):
        if self.done:
            return
        self.done = True
        if isinstance(self.given, int):
            os.close(self.given)
        else:
            self.given.close()
        other = self.wires.file(b"a stranger's") if self.other is None else self.other
        self.stranger = os.dup(other)
        if other != self.number:
            os.dup2(other, self.number)
            self.wires.ends.fd(self.number)
        self.wires.ends.fd(self.stranger)

    def is_whole(self):
        """Whether the stranger's file is as it was, also its position."""
        os.lseek(self.stranger, 0, os.SEEK_SET)
        return self.done and os.read(self.stranger, 100) == b"a stranger's"


def before_the_duplicate(monkeypatch, swap):
    """Swap when everything has been looked at, and the C is about to duplicate."""
    opened = _flow.lib.sio_transfer_open

    class Lib:
        def __getattr__(self, name):
            return getattr(_flow_lib, name)

        def sio_transfer_open(self, *args):
            swap.now()
            return opened(*args)

    _flow_lib = _flow.lib
    monkeypatch.setattr(_flow, "lib", Lib())
    before_each(monkeypatch, swap, "_copy_rest", "_send_rest")


def before_each(monkeypatch, swap, *entries):
    """Swap before C is asked for a first try, or for what it has left."""

    def late(entry):
        def call(*args):
            swap.now()
            return entry(*args)

        return call

    for name in entries:
        monkeypatch.setattr(_act, name, late(getattr(_act, name)))


def before_the_look(monkeypatch, swap):
    """Swap when the number is known, and nothing has been looked at."""
    look = _fds.fd_info

    def about(fd):
        if fd == swap.number:
            swap.now()
        return look(fd)

    monkeypatch.setattr(_fds, "fd_info", about)
    before_each(monkeypatch, swap, "_copy", "_send")


def file_object(wires, name, mode):
    made = open(wires.tmp_path / name, mode, buffering=0)  # noqa: SIM115
    wires.ends.callback(made.close)
    return made


CALLS = {
    "copy to": lambda wires, dst: spliceio.copy(wires.source("pipe", DATA).end, dst),
    # What is sent in one go has no duplicate: a header that is no bytes is not tried so.
    "send_file to": lambda wires, dst: spliceio.send_file(
        dst, wires.file(DATA), header=bytearray(b"head")
    ),
    "fanout to": lambda wires, dst: spliceio.fanout(wires.source("pipe", DATA).end, [dst]),
    "Transfer to": lambda wires, dst: Transfer(wires.source("pipe", DATA).end, dst),
    "receive_file to": lambda wires, dst: spliceio.receive_file(
        wires.source("unix", DATA).end, dst
    ),
    "copy from": lambda wires, src: spliceio.copy(src, wires.file()),
    "chunks from": lambda wires, src: list(spliceio.chunks(src)),
    "discard from": lambda wires, src: spliceio.discard(src),
    # With a method, which leaves the first try out: that one duplicates nothing.
    "fanout from": lambda wires, src: spliceio.fanout(src, [wires.file()], method="read_write"),
}
calls = pytest.mark.parametrize("call", CALLS)
moments = pytest.mark.parametrize("moment", [before_the_look, before_the_duplicate])


@calls
@pytest.mark.parametrize("kind", ["pipe", "unix"])
def test_a_number_that_has_become_another_files_is_refused(wires, monkeypatch, call, kind):
    """A bare number says nothing of its file but what the look has seen."""
    if kind == "pipe":
        given = os.dup(wires.pipe()[call.endswith("to")])
    else:
        given = os.dup(wires.sockets("unix")[0].fileno())
    swap = Swap(wires, given)
    before_the_duplicate(monkeypatch, swap)
    with pytest.raises(OSError, match="closed by another thread as the call began"):
        CALLS[call](wires, given)
    assert swap.is_whole()


@calls
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_another_file_of_the_same_filesystem_is_refused(wires, monkeypatch, call, kind):
    """All pipes have one device, and so have the files of a filesystem: the inode tells."""
    if kind == "file":
        given, other = os.dup(wires.file(DATA)), wires.file(b"a stranger's")
        swap = Swap(wires, given, other)
    else:
        side = call.endswith("to")
        reader, writer = wires.pipe()
        os.write(writer, b"a stranger's")
        given = os.dup(wires.pipe()[side])
        swap = Swap(wires, given, writer if side else reader)
        if not side:
            os.close(writer)
    before_the_duplicate(monkeypatch, swap)
    with pytest.raises(OSError, match="closed by another thread as the call began"):
        CALLS[call](wires, given)
    if kind == "file":
        assert swap.is_whole()
    else:
        assert swap.done
        assert os.read(reader, 5000) == b"a stranger's"


@calls
@moments
@pytest.mark.parametrize("kind", ["socket", "file", "makefile"])
def test_an_object_that_is_closed_meanwhile_is_refused(wires, monkeypatch, call, moment, kind):
    """Its number is its own only as long as it has it."""
    mode = "wb" if call.endswith("to") else "rb"
    if kind == "socket":
        given = wires.sockets("unix")[0]
    elif kind == "makefile":
        near = wires.sockets("unix")[0]
        given = near.makefile(mode, buffering=0)
        near.close()
    else:
        (wires.tmp_path / "theirs").write_bytes(DATA)
        given = file_object(wires, "theirs", mode)
    swap = Swap(wires, given)
    moment(monkeypatch, swap)
    with pytest.raises((OSError, ValueError)):
        CALLS[call](wires, given)
    assert swap.is_whole()


def test_a_relay_refuses_a_socket_that_is_closed_meanwhile(wires, monkeypatch):
    near, far = wires.sockets("unix")
    swap = Swap(wires, near)
    far.sendall(DATA)
    before_the_duplicate(monkeypatch, swap)
    with pytest.raises((OSError, ValueError), match="closed by another thread"):
        spliceio.relay(near, wires.sockets("unix")[0])
    assert swap.is_whole()


def test_a_pool_refuses_a_socket_that_is_closed_meanwhile(wires, monkeypatch):
    near, _far = wires.sockets("unix")
    other = wires.sockets("unix")[0]
    swap = Swap(wires, near)
    with RelayPool() as pool:
        before_the_duplicate(monkeypatch, swap)
        with pytest.raises((OSError, ValueError), match="closed by another thread"):
            pool.submit(other, near)
    assert swap.is_whole()


@pytest.mark.parametrize("what", ["peek", "PageWriter"])
def test_other_duplicates_are_checked_too(wires, monkeypatch, what):
    reader, writer = map(os.dup, wires.pipe())
    wires.ends.fd(reader if what == "PageWriter" else writer)
    swap = Swap(wires, reader if what == "peek" else writer)
    duplicate = _owned.duplicate

    def late(owner, fd):
        swap.now()
        return duplicate(owner, fd)

    monkeypatch.setattr(_owned, "duplicate", late)
    with pytest.raises(OSError, match="closed by another thread"):
        spliceio.peek(reader, timeout=0) if what == "peek" else PageWriter(writer)
    monkeypatch.undo()
    assert swap.is_whole()


@pytest.mark.parametrize("way", ["fill", "drain"])
def test_a_pipe_that_has_waited_looks_again(wires, way):
    """Waiting may take long: whose number it is then is asked anew."""
    near, far = wires.sockets("unix") if way == "fill" else wires.stuffed("unix")
    with Pipe() as pipe:
        pipe.write(b"from the pipe")
        given = wires.ends.fd(os.dup(near.fileno()))
        failed = []

        def run():
            try:
                getattr(pipe, way)(given, 10)
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: syscall_of(thread.native_id) in (7, 271))
        file = wires.file(b"a stranger's")
        os.lseek(file, 0, os.SEEK_SET)
        os.dup2(file, given)
        if way == "fill":
            far.sendall(b"x")
        else:
            far.recv(1 << 20, socket.MSG_DONTWAIT)
        thread.join()
        assert len(failed) == 1
        assert os.pread(file, 100, 0) == b"a stranger's"
        assert os.lseek(file, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("call", ["copy", "fanout"])
def test_closing_in_another_thread_never_reaches_a_strangers_file(wires, call):
    """The race itself, many times: whoever wins, the file that gets the number stays empty."""
    for turn in range(150):
        near, far = wires.sockets("unix")
        source = wires.source("pipe", DATA)
        go = threading.Barrier(2)
        path = wires.tmp_path / f"stranger{turn}"

        def close(near=near, go=go, path=path):
            go.wait()
            near.close()
            return os.open(path, os.O_RDWR | os.O_CREAT)

        worker = Closer(close)
        go.wait()
        try:
            if call == "copy":
                spliceio.copy(source.end, near)
            else:
                spliceio.fanout(source.end, [near])
        except (OSError, ValueError):
            pass
        fd = worker.result()
        assert os.fstat(fd).st_size == 0
        os.close(fd)
        far.close()
        assert source.end >= 0


class Closer(threading.Thread):
    """A thread that has a result."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.start()

    def run(self):
        self.value = self.function()

    def result(self):
        self.join()
        return self.value


def test_a_terminal_of_ones_own_is_the_one_that_was_given(wires):
    """It is opened anew by its number's link in /proc, and is still the same terminal."""
    master, slave = wires.terminal()
    os.write(master, b"line\n")
    stream = _fds.source(slave)
    try:
        assert stream.owned.fd >= 0
        assert _fds.fd_info(stream.owned.fd).same_file(stream.info)
    finally:
        stream.close()
