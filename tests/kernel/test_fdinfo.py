"""What is said of a descriptor: every field of the C struct, under its own name."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import threading

import pytest

from spliceio._cffi import ffi, lib
from spliceio._kernel import fdinfo as _fdinfo
from spliceio._kernel.fdinfo import FdInfo, fd_info


def by_name(fd):
    """Ask the C, and read its struct field by field."""
    found = ffi.new("struct sio_fdinfo *")
    lib.sio_fdinfo(fd, found)
    return {"fd": fd} | {name: getattr(found, name) for name, _ in ffi.typeof(found[0]).fields}


def test_each_field_is_read_under_its_name():
    """No two have the same value here: one that was taken for another would be told."""
    found = ffi.new("struct sio_fdinfo *")
    names = [name for name, _ in ffi.typeof(found[0]).fields]
    assert ("fd", *names) == FdInfo._fields
    flags = {name for name, field in ffi.typeof(found[0]).fields if field.type.cname == "uint8_t"}
    assert flags == {"listening", "connected", "no_read", "no_write"}
    for chosen in sorted(flags):
        given = {name: number + (1 << 20) for number, name in enumerate(names) if name not in flags}
        given |= {name: name == chosen for name in flags}
        for name, value in given.items():
            setattr(found, name, value)
        assert dict(zip(names, _fdinfo._fields(ffi.buffer(found)), strict=True)) == given
    most = {"err": -1, "mode": 2**32 - 1, "dev": 2**64 - 1, "ino": 2**64 - 1, "size": -(2**63)}
    for name, value in most.items():
        setattr(found, name, value)
    read = dict(zip(names, _fdinfo._fields(ffi.buffer(found)), strict=True))
    assert {name: read[name] for name in most} == most


@pytest.fixture(params=["file", "pipe", "listener", "connection", "epoll", "null", "directory"])
def opened(request, tmp_path):
    """The number of an open descriptor of each kind."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    epoll = select.epoll()
    (tmp_path / "file").write_bytes(b"12345")
    read_end, write_end = os.pipe()
    made = {
        "file": os.open(tmp_path / "file", os.O_RDWR | os.O_APPEND),
        "null": os.open("/dev/null", os.O_WRONLY),
        "directory": os.open(tmp_path, os.O_RDONLY),
        "pipe": read_end,
    }
    others = {
        "listener": listener.fileno(),
        "connection": client.fileno(),
        "epoll": epoll.fileno(),
    }
    yield request.param, (made | others)[request.param]
    for fd in (*made.values(), write_end):
        os.close(fd)
    for end in (listener, client, epoll):
        end.close()


def test_it_says_what_the_c_found(opened):
    """The same as the struct read field by field, and as os.fstat and fcntl."""
    kind, fd = opened
    info, status = fd_info(fd), os.fstat(fd)
    assert info._asdict() == by_name(fd)
    assert (info.mode, info.dev, info.ino) == (status.st_mode, status.st_dev, status.st_ino)
    assert (info.rdev, info.flags) == (status.st_rdev, fcntl.fcntl(fd, fcntl.F_GETFL))
    assert info.err == 0
    assert (info.listening is True) == (kind == "listener")
    assert (info.connected is True) == (kind == "connection")
    assert (info.no_read is True) == (info.no_write is True) == (kind == "epoll")
    assert {type(value) for value in info} == {int, bool}


def test_a_closed_number_is_an_answer(opened):
    """And nothing is left in it of the descriptor before."""
    _, fd = opened
    fd_info(fd)
    number = os.dup(fd)
    os.close(number)
    info = fd_info(number)
    assert info == FdInfo(
        number, errno.EBADF, lib.SIO_KIND_OTHER, 0, -1, *(0,) * 11, no_read=False, no_write=False
    )


def test_threads_get_their_own_answers():
    """While one asks, another is asking too: the memory that is used again is nobody else's."""
    wrong, go = [], threading.Barrier(8)

    def asks(fd):
        ino = os.fstat(fd).st_ino
        go.wait()
        wrong.extend(1 for _ in range(3000) if fd_info(fd).ino != ino)

    pipes = [os.pipe() for _ in range(8)]
    threads = [threading.Thread(target=asks, args=(pipe[0],)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pipe in pipes:
        os.close(pipe[0])
        os.close(pipe[1])
    assert not wrong
