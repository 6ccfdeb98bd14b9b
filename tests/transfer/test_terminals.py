"""The end of a pseudo-terminal: a master whose slave is closed, a slave whose master is."""

from __future__ import annotations

import errno
import os
import pty
import socket
import subprocess
import sys
import tty

import pytest

import spliceio
from spliceio import RelayPool, Transfer
from tests.support.wires import payload

LINES = b"".join(b"line %d\n" % i for i in range(200))


def ended_master(wires, data):
    """Return a pty master that holds data, and whose last slave is closed."""
    master, slave = pty.openpty()
    wires.ends.fd(master)
    tty.setraw(slave)
    os.write(slave, data)
    os.close(slave)
    return master


@pytest.mark.parametrize("to", ["pipe", "file", "unix", "tcp4"])
@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_master_without_a_slave_has_ended(wires, to, method):
    """EIO is how a master says end of file: what was written before it arrives."""
    sink = wires.sink(to)
    result = spliceio.copy(ended_master(wires, LINES), sink.end, method=method)
    assert result.moved == len(LINES)
    assert sink.received() == LINES


@pytest.mark.parametrize("call", ["chunks", "discard", "fanout", "steps"])
def test_every_way_of_reading_sees_the_end_of_a_master(wires, call):
    master = ended_master(wires, LINES)
    if call == "chunks":
        assert b"".join(spliceio.chunks(master)) == LINES
    elif call == "discard":
        assert spliceio.discard(master) == len(LINES)
    elif call == "fanout":
        one, other = wires.sink("file"), wires.sink("file")
        assert spliceio.fanout(master, [one.end, other.end]).reason == "eof"
        assert one.received() == other.received() == LINES
    else:
        sink = wires.sink("file")
        with Transfer(master, sink.end) as transfer:
            while not transfer.done:
                transfer.step()
        assert sink.received() == LINES


@pytest.mark.parametrize("pooled", [False, True], ids=["relay", "pool"])
def test_a_relay_ends_when_the_program_at_a_terminal_does(wires, pooled):
    """`relay` promises that closed peers are no exceptions; a terminal's is its program."""
    master, slave = pty.openpty()
    wires.ends.fd(master)
    tty.setraw(slave)
    near, far = wires.sockets("unix")
    code = "import sys; line = sys.stdin.readline(); print('heard', line, end='')"
    with subprocess.Popen([sys.executable, "-c", code], stdin=slave, stdout=slave) as child:
        os.close(slave)
        far.sendall(b"a word\n")
        side = (os.dup(master), os.dup(master))
        for fd in side:
            wires.ends.fd(fd)
        if pooled:
            with RelayPool() as pool:
                result = pool.submit(near, side).result()
        else:
            result = spliceio.relay(near, side)
        assert child.wait() == 0
    assert result.reason == "eof"
    assert far.recv(100, socket.MSG_WAITALL) == b"heard a word\n"


def test_a_terminal_that_is_hung_up_takes_no_more(wires):
    """A slave whose master is closed answers EIO: of a copy an error that names the terminal."""
    master, slave = pty.openpty()
    wires.ends.fd(slave)
    os.close(master)
    with pytest.raises(OSError, match="dst") as caught:
        spliceio.copy(wires.source("pipe", payload(100)).end, slave)
    assert caught.value.errno == errno.EIO
    assert caught.value.held == payload(100)


def test_a_relay_into_a_terminal_that_is_hung_up_is_no_exception(wires):
    master, slave = pty.openpty()
    tty.setraw(slave)
    near, far = wires.sockets("unix")
    far.sendall(b"too late")
    os.close(master)
    side = (os.dup(slave), os.dup(slave))
    os.close(slave)
    for fd in side:
        wires.ends.fd(fd)
    result = spliceio.relay(near, side, idle_timeout=5)
    assert result.reason == "eof"
    assert result.a_to_b == 0
    assert result.held_a_to_b in (b"", b"too late")
