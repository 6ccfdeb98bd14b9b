"""The first milliseconds of a file, which the loop's own thread sends; what takes longer does not.

Rule 1: whichever way it goes, and wherever that changes, all bytes arrive once and are counted.
Rule 2: a loop that has other handlers for the socket keeps them, and none of ours.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import struct
import sys
import threading
import time

import pytest

from spliceio import aio
from spliceio.aio import _driver, _turns
from tests.support import loops
from tests.support.loops import ASYNCIO, backends, run
from tests.support.wires import payload

ending = loops.ending

MIB = 1 << 20
DATA = payload(MIB + 1)
LINGER = struct.pack("ii", 1, 0)


@pytest.fixture(params=backends(*ASYNCIO))
def backend(request):
    return request.param


@pytest.fixture
def engines(monkeypatch):
    """How often an engine was asked for."""
    asked, ask = [], _driver._engine

    def counted():
        asked.append(1)
        return ask()

    monkeypatch.setattr(_driver, "_engine", counted)
    return asked


@pytest.fixture
def no_limit(monkeypatch):
    """Let no time be too long, on a busy machine either."""
    monkeypatch.setattr(_turns, "_SECONDS", 30)


class Reader:
    """A peer that reads in a thread, from a moment on."""

    def __init__(self, sock, after=0.0):
        self.data = b""
        self._sock, self._go = sock, threading.Event()
        if not after:
            self._go.set()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def go(self):
        self._go.set()

    def _read(self):
        self._go.wait()
        while part := self._sock.recv(1 << 18):
            self.data += part

    def all(self, near):
        near.setblocking(True)
        near.shutdown(socket.SHUT_WR)
        self._thread.join()
        return self.data


def small_buffer(wires, kind):
    near, far = wires.sockets(kind)
    near.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return near, far


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@pytest.mark.parametrize("call", ["copy", "send_file"])
@pytest.mark.parametrize("size", [100_000, MIB, MIB + 1])
def test_a_fast_peer_needs_no_engine(wires, backend, engines, no_limit, kind, call, size):
    """Up to a MiB; progress is told the total."""
    near, far = small_buffer(wires, kind)
    file, reader, told = wires.file(DATA[:size]), Reader(far), []

    async def main():
        if call == "copy":
            return await aio.copy(file, near, progress=told.append)
        return await aio.send_file(near, file, header=b"head", trailer=b"t", progress=told.append)

    result = run(backend, main)
    whole = DATA[:size] if call == "copy" else b"head" + DATA[:size] + b"t"
    assert reader.all(near) == whole
    assert result.moved == len(whole) == told[-1]
    assert result.by_method["sendfile"] == size
    assert 0 < result.seconds < 30
    assert bool(engines) == (len(whole) > MIB)


@pytest.mark.parametrize("mode", [None, 0, 5.0], ids=["blocking", "nonblocking", "timeout"])
def test_a_slow_peer_gets_an_engine(wires, backend, engines, mode):
    """The loop turns all the while, and the socket has its mode afterwards."""
    near, far = small_buffer(wires, "tcp4")
    near.settimeout(mode)
    file, reader, longest = wires.file(DATA[:MIB]), Reader(far, after=1), 0.0

    async def main():
        nonlocal longest
        task = asyncio.ensure_future(aio.copy(file, near))
        while not task.done():
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - begun)
            if engines:
                reader.go()
        return await task

    result = run(backend, main)
    assert (near.gettimeout(), os.get_blocking(near.fileno())) == (mode, mode is None)
    assert os.lseek(file, 0, os.SEEK_CUR) == MIB
    assert reader.all(near) == DATA[:MIB]
    assert (result.moved, engines) == (MIB, [1])
    assert longest < 5


@pytest.mark.parametrize("seconds", [30, 0], ids=["turns", "engine"])
def test_the_position_of_a_reader(wires, backend, monkeypatch, seconds):
    """Where its own read would have left it, whoever has sent it."""
    monkeypatch.setattr(_turns, "_SECONDS", seconds)
    near, far = small_buffer(wires, "unix")
    (wires.tmp_path / "file").write_bytes(DATA)
    with open(wires.tmp_path / "file", "rb") as file:
        assert file.read(10) == DATA[:10]
        reader = Reader(far)

        async def main():
            return await aio.copy(file, near, MIB - 100)

        assert run(backend, main).moved == MIB - 100
        assert reader.all(near) == DATA[10 : MIB - 90]
        assert (file.tell(), file.read()) == (MIB - 90, DATA[MIB - 90 :])


def test_handlers_of_the_same_socket_stay(wires, backend, engines, no_limit):
    near, far = small_buffer(wires, "unix")
    file, reader, called = wires.file(DATA[:MIB]), Reader(far), []

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_writer(near, called.append, "w")
        loop.add_reader(near, called.append, "r")
        await aio.copy(file, near)
        before = len(called)
        await asyncio.sleep(0.01)
        assert len(called) > before
        loop.remove_writer(near)
        loop.remove_reader(near)

    run(backend, main)
    assert "w" in called
    assert not engines
    assert reader.all(near) == DATA[:MIB]


def test_cancelled_while_the_loop_waits(wires, backend, engines, no_limit):
    """What has been sent is counted, and the loop has no handler of ours any more."""
    near, far = small_buffer(wires, "unix")
    file = wires.file(DATA[:MIB])

    async def main():
        task = asyncio.ensure_future(aio.copy(file, near))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        selector = getattr(asyncio.get_running_loop(), "_selector", None)
        if selector is not None:
            assert len(selector.get_map()) == 1  # the loop's own
        return caught.value

    error = run(backend, main)
    moved = error.result.moved
    assert (0 < moved < MIB, error.held, engines) == (True, b"", [])
    assert os.lseek(file, 0, os.SEEK_CUR) == moved
    near.shutdown(socket.SHUT_WR)
    got = b""
    while part := far.recv(MIB):
        got += part
    assert got == DATA[:moved]


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_peer_that_goes_while_the_loop_waits(wires, backend, engines, no_limit, how):
    near, far = small_buffer(wires, "tcp4")
    file = wires.file(DATA[:MIB])

    async def main():
        task = asyncio.ensure_future(aio.copy(file, near))
        await asyncio.sleep(0.05)
        if how == "reset":
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        far.close()
        with pytest.raises(OSError, match="peer") as caught:
            await task
        return caught.value

    error = run(backend, main)
    assert error.errno in (errno.EPIPE, errno.ECONNRESET)
    assert (0 < error.result.moved < MIB, error.held, engines) == (True, b"", [])


@pytest.mark.parametrize("timeout", [0, 0.005, 0.1])
def test_a_timeout_however_short(wires, backend, timeout):
    near, _far = small_buffer(wires, "tcp4")
    file, begun = wires.file(DATA[:MIB]), time.monotonic()

    async def main():
        with pytest.raises(TimeoutError, match="nothing moved") as caught:
            await aio.copy(file, near, timeout=timeout)
        return caught.value

    error = run(backend, main)
    assert time.monotonic() - begun >= timeout
    assert 0 < error.result.moved < MIB


def test_a_file_that_shrinks_while_the_loop_waits(wires, backend, no_limit):
    """Of `copy` that is its end, of `send_file` an error that says how far it came."""
    for call in ("copy", "send_file"):
        near, far = small_buffer(wires, "unix")
        file, reader = wires.file(DATA[:MIB]), Reader(far, after=1)

        async def main(call=call, near=near, file=file, reader=reader):
            made = aio.copy(file, near) if call == "copy" else aio.send_file(near, file)
            task = asyncio.ensure_future(made)
            await asyncio.sleep(0.05)
            os.ftruncate(file, MIB // 2)
            reader.go()
            await asyncio.wait([task])
            return task.exception() or task.result()

        got = run(backend, main)
        assert reader.all(near) == DATA[: MIB // 2]
        if call == "send_file":
            assert "ended after 524288 of the 1048576 bytes" in str(got)
            got = got.result
        assert got.moved == MIB // 2


@pytest.mark.parametrize("where", ["turns", "engine"])
@pytest.mark.parametrize("direct", [True, False], ids=["closed", "collected"])
def test_a_coroutine_that_its_loop_has_left(wires, monkeypatch, engines, where, direct):
    """Closed after its loop, without an await: nothing is in flight, and nothing left open."""
    monkeypatch.setattr(_turns, "_SECONDS", 30 if where == "turns" else 0)
    wrong = []
    monkeypatch.setattr(sys, "unraisablehook", wrong.append)
    near, far = small_buffer(wires, "unix")
    file, loop = wires.file(DATA[:MIB]), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the task says that it was pending
    made = aio.copy(file, near)
    task = loop.create_task(made)
    loop.run_until_complete(asyncio.sleep(0.1))
    assert bool(engines) == (where == "engine")
    loop.close()
    del task
    if direct:
        made.close()
    del made
    gc.collect()
    assert wrong == []
    near.setblocking(True)
    near.shutdown(socket.SHUT_WR)
    got = b""
    while part := far.recv(MIB):
        got += part
    assert 0 < len(got) < MIB
    assert got == DATA[: len(got)]
    assert os.lseek(file, 0, os.SEEK_CUR) == len(got)
