"""The blocking mode of lent sockets: csrc/relay/modes.c alone, with links that no engine has."""

from __future__ import annotations

import os
import socket

import pytest

from spliceio._cffi import ffi, lib
from spliceio._relay.job import _modes


def lend(*fds: int):
    """Lend descriptors; give the link."""
    config = ffi.new("struct sio_job_config *")
    config.fds = [*fds, *[-1] * (4 - len(fds))]
    link = ffi.gc(lib.sio_job_new(config), lib.sio_job_free)
    lib.sio_job_acquire(link, _modes)
    return link


@pytest.fixture
def sock():
    """A socket, blocking, and its peer closed after the test."""
    near, far = socket.socketpair()
    with near, far:
        yield near


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_it_is_nonblocking_while_it_is_lent(sock, blocking, times):
    """Then it is what it was; to lend or give back again changes nothing."""
    os.set_blocking(sock.fileno(), blocking)
    link = lend(sock.fileno())
    for _ in range(times):
        lib.sio_job_acquire(link, _modes)
        assert not os.get_blocking(sock.fileno())
    for _ in range(times):
        lib.sio_job_release(link)
        assert os.get_blocking(sock.fileno()) == blocking


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_last_of_several_puts_it_back(sock, order):
    """By whatever descriptors they have it, in whatever order they end."""
    with sock.dup() as second:
        links = [lend(sock.fileno(), second.fileno()), lend(second.fileno()), lend(sock.fileno())]
        for number in order:
            assert not os.get_blocking(sock.fileno())
            lib.sio_job_release(links[number])
        assert os.get_blocking(sock.fileno())


def test_a_link_that_is_dropped_gives_back(sock):
    """As one does whose submit was interrupted for the second time."""
    link = lend(sock.fileno())
    del link
    assert os.get_blocking(sock.fileno())


def test_a_strangers_number_is_left_alone(sock):
    """The descriptor was closed, and its number is another socket's now."""
    kept = sock.dup()
    number = kept.fileno()
    link = lend(number)
    kept.close()
    near, far = socket.socketpair()
    stranger = near.detach()  # it has got the number, or gets it now
    os.dup2(stranger, number)
    os.set_blocking(number, False)
    lib.sio_job_release(link)
    assert not os.get_blocking(number)
    for fd in {stranger, number}:
        os.close(fd)
    far.close()


def test_what_is_no_socket_is_left_alone():
    """The mode of a pipe or file is its owner's, and -1 is none."""
    reader, writer = os.pipe()
    link = lend(-1, reader, writer)
    assert os.get_blocking(reader)
    assert os.get_blocking(writer)
    lib.sio_job_release(link)
    os.close(reader)
    os.close(writer)


def test_a_child_begins_with_none_lent(sock):
    """What the parent has lent stays so: the child's copy gives nothing back."""
    link = lend(sock.fileno())
    child = os.fork()
    if child == 0:
        lib.sio_job_release(link)
        again = lend(sock.fileno())
        lib.sio_job_release(again)
        os._exit(0 if not os.get_blocking(sock.fileno()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not os.get_blocking(sock.fileno())
    lib.sio_job_release(link)
    assert os.get_blocking(sock.fileno())
