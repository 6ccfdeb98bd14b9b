"""spliceio.aio and asyncio's transports, as a protocol has them: without streams.

Rule 1: what the transport has not sent goes first; what its protocol was given is the caller's to
        pass on, so that a transport which still reads is refused.
Rule 2: the transport stays its owner's: it can go on reading and writing afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
import sys

import pytest

from spliceio import RelayPool, aio
from tests.support import loops
from tests.support.loops import ASYNCIO, backends, run, until
from tests.support.states import Worker
from tests.support.streams import tls_context
from tests.support.wires import MIB, payload, read_all

backend, ending = loops.backend, loops.ending

DATA = payload(5 * MIB)


@pytest.fixture(params=backends(*ASYNCIO))
def loop(request):
    """Each kind of asyncio loop in turn."""
    return request.param


class Kept(asyncio.Protocol):
    """Keeps what it is given."""

    def __init__(self):
        self.got, self.lost = bytearray(), False

    def data_received(self, data):
        self.got += data

    def connection_lost(self, why):
        self.lost = True


@contextlib.asynccontextmanager
async def transport(wires, kind="tcp4"):
    """Make a transport, its protocol, and the socket at the other end."""
    near, far = wires.sockets(kind)
    near.setblocking(False)
    made, protocol = await asyncio.get_running_loop().create_connection(Kept, sock=near)
    try:
        yield made, protocol, far
    finally:
        made.abort()
        await until(lambda: protocol.lost)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_a_relay_of_two_transports(wires, loop, kind):
    """Bytes read ahead, unsent bytes, both ways; afterwards both still work."""
    head, unsent, back = b"read ahead", payload(16 * MIB, seed=2), payload(2 * MIB, seed=3)

    async def main():
        async with transport(wires, kind) as (a, at_a, far_a), transport(wires, kind) as pair:
            b, _, far_b = pair
            far_a.sendall(head)
            await until(lambda: len(at_a.got) == len(head))
            a.pause_reading()
            b.pause_reading()
            b.write(unsent)
            assert b.get_write_buffer_size()
            to_a = Worker(lambda: (far_a.sendall(DATA), far_a.shutdown(socket.SHUT_WR)))
            to_b = Worker(lambda: (far_b.sendall(back), far_b.shutdown(socket.SHUT_WR)))
            from_a = Worker(lambda: read_all(far_a.fileno()))
            from_b = Worker(lambda: read_all(far_b.fileno()))
            result = await aio.relay(a, b, to_b=bytes(at_a.got))
            await until(lambda: not any(one.is_alive() for one in (to_a, to_b, from_a, from_b)))
            assert (result.a_to_b, result.b_to_a) == (len(head) + len(DATA), len(back))
            assert from_b.result() == unsent + head + DATA
            assert from_a.result() == back
            assert not a.is_closing()
            assert bytes(at_a.got) == head

    run(loop, main)


def test_a_transport_goes_on_afterwards(wires, loop):
    """It reads what came behind the count, and writes behind the file."""

    async def main():
        async with transport(wires) as (made, protocol, far):
            made.pause_reading()
            far.sendall(DATA[:1000] + b"next")
            file = wires.file(b"")
            await aio.receive_file(made, file, 1000)
            assert os.pread(file, 2000, 0) == DATA[:1000]
            made.resume_reading()
            await until(lambda: bytes(protocol.got) == b"next")
            source = wires.file(DATA)
            made.write(b"before")
            reader = Worker(lambda: read_all(far.fileno()))
            assert (await aio.send_file(made, source)).method == "sendfile"
            assert (await aio.copy(wires.file(b"copied"), made)).moved == 6
            made.write(b"after")
            made.write_eof()
            await until(lambda: not reader.is_alive())
            assert reader.result() == b"before" + DATA + b"copiedafter"

    run(loop, main)


def test_a_transport_as_a_sink(wires, loop):
    """Of a fan-out, beside a hash; it may read meanwhile."""

    async def main():
        async with transport(wires) as (made, _, far):
            made.write(b"before")
            reader = Worker(lambda: read_all(far.fileno()))
            digest = hashlib.sha256()
            await aio.fanout(wires.file(DATA), [made, digest])
            made.write_eof()
            await until(lambda: not reader.is_alive())
            assert reader.result() == b"before" + DATA
            assert digest.digest() == hashlib.sha256(DATA).digest()

    run(loop, main)


def test_pipes_of_a_protocol(wires, loop):
    """Read and write pipe transports, as of a subprocess."""

    async def main():
        asking = asyncio.get_running_loop()
        (from_r, from_w), (to_r, to_w) = wires.pipe(), wires.pipe()
        reading, kept = await asking.connect_read_pipe(Kept, os.fdopen(os.dup(from_r), "rb"))
        writing, sent = await asking.connect_write_pipe(Kept, os.fdopen(os.dup(to_w), "wb"))
        reading.pause_reading()
        os.write(from_w, DATA[:1000])
        assert (await aio.copy(reading, writing, 1000)).moved == 1000
        assert os.read(to_r, 2000) == DATA[:1000]
        assert not kept.got
        for one in (reading, writing):
            one.close()
        await until(lambda: kept.lost and sent.lost)

    run(loop, main)


CALLS = {
    "copy": lambda made, file: aio.copy(made, file),
    "receive_file": lambda made, file: aio.receive_file(made, file),
    "relay": lambda made, file: aio.relay(made, (file, file)),
    "fanout": lambda made, file: aio.fanout(made, [file]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_transport_that_reads_is_refused(wires, loop, call):
    """And told the way out; nothing was taken, and its protocol gets all."""

    async def main():
        async with transport(wires) as (made, protocol, far):
            with pytest.raises(ValueError, match=r"is a transport that reads.*pause_reading\(\)"):
                await CALLS[call](made, wires.file(b""))
            far.sendall(b"all")
            await until(lambda: bytes(protocol.got) == b"all")

    run(loop, main)


@pytest.mark.parametrize("call", [aio.send_file, aio.copy])
def test_a_closed_transport_is_refused(wires, loop, call):
    async def main():
        async with transport(wires) as (made, protocol, far):
            made.close()
            file = wires.file(b"x")
            ends = (file, made) if call is aio.copy else (made, file)
            with pytest.raises(ValueError, match="its transport is closed"):
                await call(*ends)
            await until(lambda: protocol.lost)
            assert far.recv(10) == b""

    run(loop, main)


@pytest.mark.parametrize("layer", ["the stream's", "the one under it"])
def test_a_tls_transport_is_refused(wires, loop, layer):
    """No plaintext goes out by its socket."""

    async def main():
        server_context, client_context = (tls_context(server=side) for side in (True, False))
        accepted = asyncio.get_running_loop().create_future()

        async def serve(_reader, writer):
            accepted.set_result(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        made = writer.transport
        if layer != "the stream's":
            made = getattr(made, "_ssl_protocol", made)
            made = getattr(made, "_transport", made)
        with pytest.raises(TypeError, match="TLS transport"):
            await aio.send_file(made, wires.file(DATA))
        for one in (writer, await accepted):
            one.transport.abort()
        await until(reader.at_eof)
        server.close()

    run(loop, main)


def test_a_reset_while_unsent_bytes_are_in_it(wires, loop):
    """It is told, with the result of nothing."""

    async def main():
        async with transport(wires) as (made, _, far):
            made.pause_reading()
            made.write(DATA)
            call = asyncio.ensure_future(aio.copy(wires.file(b"behind"), made))
            await asyncio.sleep(0)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            with pytest.raises(OSError, match=r"broke|closed") as caught:
                await call
            assert caught.value.result.moved == 0

    run(loop, main)


def test_the_socket_of_a_transport_in_a_pool(wires, loop):
    """RelayPool takes what get_extra_info gives; unsent bytes and those read ahead are passed."""

    async def main():
        async with transport(wires) as (made, protocol, far):
            far.sendall(b"head")
            await until(lambda: bytes(protocol.got) == b"head")
            made.pause_reading()
            near, other = wires.sockets("unix")
            with RelayPool(threads=1) as pool:
                under = made.get_extra_info("socket")
                future = pool.submit(under, near, to_b=bytes(protocol.got))
                far.sendall(b" and more")
                far.shutdown(socket.SHUT_WR)
                other.shutdown(socket.SHUT_WR)
                result = await asyncio.wrap_future(future)
            assert (result.a_to_b, read_all(other.fileno())) == (13, b"head and more")

    run(loop, main)


def test_the_output_of_a_child(wires, loop):
    """Its stdout, a StreamReader on a pipe, by splice to a writer."""

    async def main():
        async with transport(wires) as (made, _, far):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                f"import sys; sys.stdout.buffer.write(bytes({len(DATA)}))",
                stdout=asyncio.subprocess.PIPE,
            )
            reader = Worker(lambda: read_all(far.fileno()))
            result = await aio.copy(child.stdout, made)
            made.write_eof()
            await until(lambda: not reader.is_alive())
            assert await child.wait() == 0
            assert reader.result() == bytes(len(DATA))
            assert result.moved == len(DATA)
            assert result.by_method["splice"] > 0

    run(loop, main)
