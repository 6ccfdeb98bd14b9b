"""Kernel objects that never carry bytes are refused at once, as os.read and os.write do.

Their poll() never says that they are ready, and a call that waited for it would wait for ever.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

import pytest

import spliceio
from spliceio import Transfer

libc = ctypes.CDLL(None, use_errno=True)
SYS_FANOTIFY_INIT, SYS_IO_URING_SETUP, SYS_USERFAULTFD = 300, 425, 323
MAKERS = {
    "epoll": lambda: libc.epoll_create1(0),
    "timerfd": lambda: libc.timerfd_create(1, 0),
    "signalfd": lambda: libc.signalfd(-1, ctypes.create_string_buffer(128), 0),
    "pidfd": lambda: os.pidfd_open(os.getpid()),
    "fanotify": lambda: libc.syscall(SYS_FANOTIFY_INIT, 0, os.O_RDWR),
    "io_uring": lambda: libc.syscall(SYS_IO_URING_SETUP, 4, ctypes.create_string_buffer(120)),
    "inotify": lambda: libc.inotify_init1(0),
    "userfaultfd": lambda: libc.syscall(SYS_USERFAULTFD, 0),
}
NEVER_READ = ("epoll", "pidfd", "io_uring")
NEVER_WRITTEN = ("epoll", "timerfd", "signalfd", "pidfd", "fanotify", "io_uring")


def made(wires, kind):
    fd = MAKERS[kind]()
    if fd < 0:
        pytest.skip(f"{kind} cannot be had here: {os.strerror(ctypes.get_errno())}")
    return wires.ends.fd(fd)


SOURCES = {
    "copy": lambda fd, out: spliceio.copy(fd, out),
    "copy by name": lambda fd, out: spliceio.copy(fd, out, method="read_write"),
    "a count": lambda fd, out: spliceio.copy(fd, out, 10),
    "discard": lambda fd, out: spliceio.discard(fd),
    "chunks": lambda fd, out: list(spliceio.chunks(fd)),
    "fanout": lambda fd, out: spliceio.fanout(fd, [out]),
    "receive_file": lambda fd, out: spliceio.receive_file(fd, out),
    "Transfer": lambda fd, out: Transfer(fd, out),
    "explain": lambda fd, out: spliceio.explain(fd, out),
    "relay": lambda fd, out: spliceio.relay((fd, out), (fd, out)),
}


@pytest.mark.parametrize("kind", NEVER_READ)
@pytest.mark.parametrize("call", SOURCES)
def test_what_is_never_read_is_no_source(wires, kind, call):
    with pytest.raises(OSError, match="no bytes can be read from it") as caught:
        SOURCES[call](made(wires, kind), wires.sink("pipe").end)
    assert caught.value.errno == errno.EINVAL


TARGETS = {
    "copy": lambda src, fd: spliceio.copy(src, fd),
    "copy by name": lambda src, fd: spliceio.copy(src, fd, method="read_write"),
    "fanout": lambda src, fd: spliceio.fanout(src, [fd]),
    "send_file": lambda src, fd: spliceio.send_file(fd, src),
    "Transfer": lambda src, fd: Transfer(src, fd),
    "explain": lambda src, fd: spliceio.explain(src, fd),
    "relay": lambda src, fd: spliceio.relay((src, fd), (src, fd)),
}


@pytest.mark.parametrize("kind", NEVER_WRITTEN)
@pytest.mark.parametrize("call", TARGETS)
def test_what_is_never_written_to_is_no_destination(wires, kind, call):
    source = wires.source("pipe", b"data")
    src = wires.file(b"data") if call == "send_file" else source.end
    with pytest.raises(OSError, match="no bytes can be written to it") as caught:
        TARGETS[call](src, made(wires, kind))
    assert caught.value.errno == errno.EINVAL
    assert source.left() == b"data"


@pytest.mark.parametrize("kind", ["inotify", "userfaultfd"])
def test_what_is_open_for_reading_alone_is_no_destination(wires, kind):
    """These say so by their mode."""
    with pytest.raises(OSError, match="not open for writing") as caught:
        spliceio.copy(wires.source("pipe", b"data").end, made(wires, kind))
    assert caught.value.errno == errno.EBADF


def test_what_has_bytes_is_still_a_source_and_a_destination(wires):
    """An eventfd gives and takes eight bytes, a timerfd and an inotify give theirs."""
    sink = wires.sink("file")
    event = wires.ends.fd(os.eventfd(3, os.EFD_NONBLOCK))
    assert spliceio.copy(event, sink.end, 8).moved == 8
    assert sink.received() == (3).to_bytes(8, "little")
    assert spliceio.copy(wires.source("pipe", (5).to_bytes(8, "little")).end, event).moved == 8
    assert os.eventfd_read(event) == 5
    watch = made(wires, "inotify")
    path = wires.tmp_path / "watched"
    libc.inotify_add_watch(watch, str(wires.tmp_path).encode(), 0x100)
    path.touch()
    size = int.from_bytes(fcntl.ioctl(watch, 0x541B, bytes(4)), "little")
    sink = wires.sink("file")
    assert spliceio.copy(watch, sink.end, size).moved == size
    assert b"watched" in sink.received()


def test_the_refusal_names_the_object(wires):
    with pytest.raises(OSError, match=r"copy: src is a kernel object .*\(eventpoll\)"):
        spliceio.copy(made(wires, "epoll"), wires.sink("pipe").end)


def test_every_device_that_has_bytes_is_still_taken(wires):
    """The question reaches no driver: nothing is read or written by it."""
    assert spliceio.copy(wires.ends.fd(os.open("/dev/zero", os.O_RDONLY)), wires.file(), 10).moved
    null = wires.ends.fd(os.open("/dev/null", os.O_RDWR))
    assert spliceio.copy(null, wires.file()).moved == 0
    assert spliceio.copy(wires.source("pipe", b"x").end, null).moved == 1
