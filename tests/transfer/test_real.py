"""Real descriptors: every transport to every other, every size, both blocking modes.

Each test checks the bytes and the method that ran.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import select
import socket
import struct

import pytest

import spliceio
from spliceio import Transfer
from tests.support.cases import cases
from tests.support.seam import Seam, laws
from tests.support.states import Worker, until
from tests.support.wires import FILES, KINDS, SOCKETS, payload, read_all, transports

PAGE = 4096
PIPE = 65536
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, PIPE - 1, PIPE, PIPE + 1]
BIG = 5 << 20
PIPES = ("pipe", "fifo")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def first_choice(src, dst):
    """Return the method that design and kernel make the first for a pair."""
    if src in PIPES or dst in PIPES:
        return "splice"
    if src not in FILES:
        return "splice"
    if dst not in FILES:
        return "sendfile"
    if src == dst:
        return "sendfile" if src == "tmpfs" else "copy_file_range"
    return "sendfile"  # between filesystems copy_file_range says EXDEV


def move(wires, src, dst, data, *, nonblocking=False, **options):
    source = wires.source(src, data, nonblocking=nonblocking)
    sink = wires.sink(dst, nonblocking=nonblocking)
    result = spliceio.copy(source.end, sink.end, source.count, **options)
    return result, sink.received()


@cases(src=KINDS, dst=KINDS[:-1], mode=["blocking", "nonblocking"])
def test_bulk_arrives_by_the_best_method(wires, src, dst, mode):
    """5 MiB between every pair: the hash is right, and the intended method moved the most."""
    data = payload(BIG if src != "tty" else 200_000)
    result, got = move(wires, src, dst, data, nonblocking=mode == "nonblocking")
    assert digest(got) == digest(data)
    assert result.moved == len(data)
    assert sum(result.by_method.values()) == len(data)
    if src not in ("tty", "unix") and (src in FILES or src in PIPES or dst in PIPES):
        assert result.by_method == {first_choice(src, dst): len(data)}
    if src not in SOCKETS and src != "tty":
        assert result.method == first_choice(src, dst)
    refused = [f.method for f in result.fallbacks]
    between = src in FILES and dst in FILES and src != dst
    assert refused == (["copy_file_range"] if between else [])


@cases(src=KINDS, dst=KINDS[:-1], size=SIZES, nonblocking=[False, True])
def test_every_size_arrives(wires, src, dst, size, nonblocking):
    """0, 1, a page and a pipe, one less, one more."""
    data = payload(size)
    result, got = move(wires, src, dst, data, nonblocking=nonblocking)
    assert got == data
    assert result.moved == size


@cases(src=["file", "pipe", "unix", "tcp4"], size=[0, 1, 1000, 3 * PAGE], nonblocking=[False, True])
def test_a_terminal_gets_every_byte(wires, src, size, nonblocking):
    """Into a raw terminal whose master is read meanwhile."""
    data = payload(size)
    source = wires.source(src, data)
    master, slave = wires.terminal()
    os.set_blocking(slave, not nonblocking)
    got = bytearray()

    def collect():
        while len(got) < size:
            got.extend(os.read(master, PAGE))

    collector = Worker(collect)
    result = spliceio.copy(source.end, slave)
    collector.result()
    assert bytes(got) == data
    assert result.moved == size
    assert os.get_blocking(slave) is not nonblocking  # left as it was found


@cases(
    pair=list(itertools.product(FILES, ["file", "tmpfs", "pipe", "unix", "tcp4"])),
    method=["read_write", "splice", "sendfile", "copy_file_range"],
    nonblocking=[False, True],
)
def test_a_named_method_is_the_one_that_runs(wires, pair, method, nonblocking):
    """By name, all bytes go by that method, or an OSError says why not."""
    src, dst = pair
    data = payload(300_000)
    source = wires.source(src, data, nonblocking=nonblocking)
    sink = wires.sink(dst, nonblocking=nonblocking)
    refuses = method == "copy_file_range" and dst != src
    if refuses:
        with pytest.raises(OSError, match="copy_file_range"):
            spliceio.copy(source.end, sink.end, method=method)
        assert os.lseek(source.fd, 0, os.SEEK_CUR) == 0
        assert sink.received() == b""
        return
    result = spliceio.copy(source.end, sink.end, method=method)
    assert result.by_method == {method: len(data)}
    assert result.method == method
    assert result.fallbacks == ()
    assert sink.received() == data


@cases(
    method=["read_write", "splice"],
    src=["pipe", "unix", "tcp4", "tty"],
    dst=["file", "pipe", "unix", "tcp4"],
    nonblocking=[False, True],
)
def test_a_named_method_from_a_stream(wires, src, dst, method, nonblocking):
    """A stream goes by splice or by read and write, entirely, as was asked."""
    data = payload(150_000)
    result, got = move(wires, src, dst, data, nonblocking=nonblocking, method=method)
    assert got == data
    assert result.by_method == {method: len(data)}


@pytest.mark.parametrize("src", ["pipe", "unix", "tty"])
@pytest.mark.parametrize("method", ["sendfile", "copy_file_range"])
def test_a_stream_is_no_source_for_file_methods(wires, src, method):
    """Named, sendfile and copy_file_range refuse a stream, and take nothing from it."""
    source = wires.source(src, b"data")
    sink = wires.sink("file")
    with pytest.raises(OSError, match=method):
        spliceio.copy(source.end, sink.end, 4, method=method)
    assert source.left() == b"data"


@cases(src=KINDS, count=[0, 1, PAGE, 50_000], nonblocking=[False, True])
def test_count_is_kept_to_the_byte(wires, src, count, nonblocking):
    """Exactly `count` bytes are taken; the rest stays in the source."""
    data = payload(60_000)
    source = wires.source(src, data, nonblocking=nonblocking)
    sink = wires.sink("file")
    result = spliceio.copy(source.end, sink.end, count)
    assert result.moved == count
    assert sink.received() == data[:count]
    assert source.left(count) == data[count:]


@pytest.mark.parametrize("src", ["file", "pipe", "unix", "tcp4"])
@pytest.mark.parametrize("count", [2**31, 2**63 - 1, 2**63, 2**70])
def test_a_count_beyond_everything_means_to_the_end(wires, src, count):
    """However large, it is clamped for each call."""
    data = payload(70_000)
    source = wires.source(src, data)
    sink = wires.sink("file")
    assert spliceio.copy(source.end, sink.end, count).moved == len(data)
    assert sink.received() == data


@pytest.mark.parametrize("method", ["auto", "read_write", "splice", "copy_file_range"])
@pytest.mark.parametrize("kind", FILES)
def test_offsets_leave_the_positions_alone(wires, kind, method):
    """With offsets, bytes come from and go to them, and neither position moves."""
    data = payload(100_000)
    src, dst = wires.file(data, kind=kind), wires.file(bytes(1000), kind=kind)
    os.lseek(src, 7, os.SEEK_SET)
    os.lseek(dst, 9, os.SEEK_SET)
    result = spliceio.copy(src, dst, 50_000, offset_src=10_000, offset_dst=500, method=method)
    assert result.moved == 50_000
    assert os.pread(dst, 200_000, 0) == bytes(500) + data[10_000:60_000]
    assert os.lseek(src, 0, os.SEEK_CUR) == 7
    assert os.lseek(dst, 0, os.SEEK_CUR) == 9


@pytest.mark.parametrize("method", ["auto", "read_write", "splice", "sendfile"])
def test_without_offsets_the_positions_are_used_and_moved(wires, method):
    """From where the source is, to where the destination is."""
    data = payload(100_000)
    src, dst = wires.file(data), wires.file(b"head")
    os.lseek(src, 10_000, os.SEEK_SET)
    os.lseek(dst, 4, os.SEEK_SET)
    spliceio.copy(src, dst, 20_000, method=method)
    assert os.pread(dst, 200_000, 0) == b"head" + data[10_000:30_000]
    assert os.lseek(src, 0, os.SEEK_CUR) == 30_000
    assert os.lseek(dst, 0, os.SEEK_CUR) == 20_004


def test_an_offset_past_the_end_is_the_end(wires):
    """Nothing is there, so nothing is moved."""
    src, dst = wires.file(b"abc"), wires.file()
    assert spliceio.copy(src, dst, offset_src=1000).moved == 0


def test_offsets_beyond_four_gigabytes(wires):
    """64 bits all the way, into and out of a sparse file."""
    far = (5 << 30) + 123
    middle, out = wires.file(), wires.file()
    spliceio.copy(wires.file(b"far away"), middle, offset_dst=far)
    assert os.fstat(middle).st_size == far + 8
    spliceio.copy(middle, out, 8, offset_src=far)
    assert os.pread(out, 100, 0) == b"far away"


@pytest.mark.parametrize("src", [*transports("pipe", "unix", "tcp4")])
def test_steps_do_not_wait(wires, src, nonblocking):
    """A step on an idle source comes back with 0 and names the side."""
    near, far = wires.pipe() if src == "pipe" else wires.sockets(src)
    os.set_blocking(near if src == "pipe" else near.fileno(), not nonblocking)
    sink = wires.sink("file")
    with Transfer(near, sink.end) as transfer:
        assert transfer.step() == 0
        assert transfer.waiting_for == "src"
        assert not transfer.done
        os.write(far if src == "pipe" else far.fileno(), b"abc")
        assert transfer.step() == 3
        assert transfer.waiting_for == "src"


@cases(
    dst=["pipe", "unix", "tcp4", "tcp6"],
    src=["file", "pipe", "unix", "tcp4"],
    method=["auto", "read_write", "splice"],
)
def test_a_step_never_blocks_on_a_destination_that_is_full(wires, src, dst, method):
    """Blocking descriptors and a silent peer: the step returns, and then all of it arrives."""
    data = payload(8 << 20)
    source = wires.source(src, data)
    sink = wires.sink(dst, collecting=False)
    with Transfer(source.end, sink.end, method=method) as transfer:
        while transfer.step():
            pass
        until(lambda: transfer.step() == 0 and transfer.waiting_for == "dst")
        assert 0 < transfer.moved < len(data)
        sink.begin()
        transfer.run()
        assert transfer.moved == len(data)
    assert digest(sink.received()) == digest(data)


@cases(sndbuf=[4608, 16384, 1 << 20], dst=["unix", "tcp4"], fragment=[1, 100, 4000])
def test_tiny_fragments_never_block_a_step_either(wires, dst, sndbuf, fragment):
    """A pipe of many small slots into a small blocking socket, whose bookkeeping outweighs them."""
    near, far = wires.sockets(dst)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    if fragment < 4000:  # what little there is must not fit
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4608)
    total = 0
    reader, writer = wires.pipe(1 << 20)
    staging_r, staging_w = wires.pipe()
    with Transfer(reader, near, method="splice") as transfer:
        for _ in range(40):
            for _ in range(250):
                os.write(staging_w, b"x" * fragment)
                if spliceio.try_splice(staging_r, writer, fragment) is None:
                    os.read(staging_r, fragment)
                    break
                total += fragment
            transfer.step()
        collector = Worker(lambda: read_all(far.fileno()))
        os.close(writer)
        transfer.run()
        assert transfer.moved == total
    near.shutdown(socket.SHUT_WR)
    assert len(collector.result()) == total


def test_a_clogged_pipe_is_waited_for_and_then_written_to(wires, clogged):
    """Full by slots with most of its capacity free: nothing is lost, nothing spins."""
    reader, writer = clogged
    src = wires.file(b"payload")
    seam = Seam()
    with seam.attach(Transfer(src, writer)) as transfer:
        assert transfer.step() == 0
        assert transfer.waiting_for == "dst"
        calls = seam.count
        assert calls < 10
        assert os.read(reader, 65536).strip(b".") == b""
        transfer.run()
    assert os.read(reader, 100) == b"payload"


@pytest.mark.parametrize("method", ["auto", "splice", "read_write"])
def test_a_stuffed_socket_is_waited_for(wires, stuffed, method):
    """A blocking socket that takes nothing: the step returns, the timeout is kept."""
    near, far = stuffed
    data = payload(100_000)
    source = wires.source("file", data)
    with Transfer(source.end, near, method=method, timeout=0.05) as transfer:
        assert transfer.step() == 0
        assert transfer.waiting_for == "dst"
        with pytest.raises(TimeoutError, match="nothing moved"):
            transfer.run()
        collector = Worker(lambda: read_all(far.fileno()))
        transfer.run()
        assert transfer.moved == len(data)
    near.shutdown(socket.SHUT_WR)
    assert collector.result()[-len(data) :] == data


@pytest.mark.parametrize("src", transports("pipe", "fifo", "unix", "tcp4", "tcp6", "mptcp", "tty"))
def test_the_timeout_is_kept_on_a_silent_source(wires, src, nonblocking):
    """TimeoutError on blocking and nonblocking descriptors alike; then it can go on."""
    if src == "tty":
        far, near = wires.terminal()
    elif src in ("pipe", "fifo"):
        near, far = wires._pair(src, reads=True)
    else:
        near, far = wires.sockets(src)
    number = near if isinstance(near, int) else near.fileno()
    peer = far if isinstance(far, int) else far.fileno()
    os.set_blocking(number, not nonblocking)
    sink = wires.sink("file")
    os.write(peer, b"first")
    with Transfer(number, sink.end, 10, timeout=0.05) as transfer:
        with pytest.raises(TimeoutError) as caught:
            transfer.run()
        assert caught.value.errno == errno.ETIMEDOUT
        assert transfer.moved == 5
        os.write(peer, b"after")
        transfer.run()
    assert sink.received() == b"firstafter"


def test_the_sockets_own_timeout_is_used(wires):
    """settimeout() makes a socket nonblocking; copy waits with poll, for that long."""
    near, _ = wires.sockets("tcp4")
    near.settimeout(0.05)
    with pytest.raises(TimeoutError) as caught:
        spliceio.copy(near, wires.sink("file").end)
    assert caught.value.result.moved == 0
    assert caught.value.held == b""


def test_no_timeout_is_raised_while_bytes_move(wires):
    """The time is that without progress, and not the total."""
    near, far = wires.sockets("unix")
    sink = wires.sink("file")
    with Transfer(near, sink.end, timeout=30) as transfer:
        for _ in range(5):
            far.send(b"x")
            assert transfer.step() == 1
        far.close()
        assert transfer.run().moved == 5


@pytest.mark.parametrize("timeout", [-1, float("nan"), -0.001])
def test_a_timeout_that_is_no_time(wires, timeout):
    """Negative and NaN are a ValueError, before anything is moved."""
    src, dst = wires.file(b"abc"), wires.file()
    with pytest.raises(ValueError, match="timeout"):
        spliceio.copy(src, dst, timeout=timeout)


def test_progress_is_told_the_total(wires):
    """Called between slices; the last call has everything."""
    totals = []
    src, dst = wires.source("unix", payload(3 << 20)), wires.sink("file")
    result = spliceio.copy(src.end, dst.end, progress=totals.append)
    assert totals == sorted(totals)
    assert totals[-1] == result.moved == 3 << 20


def test_iterating_yields_what_each_slice_moved(wires):
    """The pieces add up."""
    source, sink = wires.source("tcp4", payload(3 << 20)), wires.sink("file")
    with Transfer(source.end, sink.end) as transfer:
        assert sum(transfer) == 3 << 20
        assert transfer.done
    assert digest(sink.received()) == digest(source.data)


# ---- TCP ----------------------------------------------------------------------------------------

TCPS = transports("tcp4", "tcp6")


@cases(
    kind=["tcp4", "tcp6"],
    nonblocking=[False, True],
    # What the C does depends on these three together.
    what=list(
        itertools.product(["auto", "splice", "read_write"], [0, 1, 100_000], ["fin", "open"])
    ),
)
def test_an_urgent_byte_loses_nothing_and_does_not_spin(wires, kind, nonblocking, what):
    """All that is before and after the mark arrives, FIN queued or not, in few wake-ups."""
    method, after, end = what
    ended = end == "fin"
    near, far = wires.sockets(kind)
    near.setblocking(not nonblocking)
    before, behind = payload(5000), payload(after, seed=2)
    far.sendall(before)
    far.send(b"!", socket.MSG_OOB)
    sender = Worker(lambda: (far.sendall(behind), far.shutdown(socket.SHUT_WR) if ended else None))
    if not ended:
        sender.result()  # a timeout counts from the last byte, and not from when it is sent
    sink = wires.sink("file")
    seam = Seam()
    # The urgent byte itself is out of band: whether it is in the stream is TCP's affair.
    with seam.attach(
        Transfer(near, sink.end, method=method, timeout=None if ended else 0.05)
    ) as transfer:
        if ended:
            transfer.run()
            assert transfer.done
        else:
            with pytest.raises(TimeoutError):
                transfer.run()
        sender.result()
        got = sink.received()
        assert got in (before + behind, before + b"!" + behind)
        assert transfer.moved == len(got)
    assert seam.count < 200 + after // 50


@pytest.mark.parametrize("kind", TCPS)
@pytest.mark.parametrize("method", ["auto", "splice"])
def test_many_urgent_bytes(wires, kind, method):
    """One after the other, with data between: the data is whole."""
    near, far = wires.sockets(kind)
    pieces = [payload(3000, seed=i).replace(b"!", b"?") for i in range(20)]
    sink = wires.sink("file")

    def send():
        for piece in pieces:
            far.sendall(piece)
            far.send(b"!", socket.MSG_OOB)
        far.shutdown(socket.SHUT_WR)

    sender = Worker(send)
    spliceio.copy(near, sink.end, method=method)
    sender.result()
    # A mark that a later one overtook stays in the stream, as recv() has it.
    assert sink.received().replace(b"!", b"") == b"".join(pieces)


@cases(kind=["tcp4", "tcp6"], dst=["file", "pipe", "unix"], method=["auto", "splice", "read_write"])
def test_a_reset_in_the_middle_is_an_error_and_never_an_end(wires, kind, dst, method):
    """SO_LINGER 0: ECONNRESET, as often as it is asked; what arrived is a prefix."""
    near, far = wires.sockets(kind)
    data = payload(100_000)
    sink = wires.sink(dst)
    far.sendall(data)
    with Transfer(near, sink.end, method=method) as transfer:
        until(lambda: transfer.step() == 0 and transfer.moved == len(data))
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="reset"):
                transfer.run()
        assert not transfer.done
        assert transfer.moved == len(data)
        transfer.close()
    assert sink.received() == data


@pytest.mark.parametrize("kind", TCPS)
def test_a_destination_that_resets_while_the_source_is_idle(wires, kind):
    """The end of dst is noticed while waiting for src."""
    near, far = wires.sockets(kind)
    idle, _peer = wires.sockets("unix")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Transfer(idle, near) as transfer:
        assert transfer.step() == 0
        far.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            transfer.run()


@pytest.mark.parametrize("dst", ["pipe", "fifo", "unix"])
def test_a_reader_that_goes_away_while_the_source_is_idle(wires, dst):
    """A pipe or a unix socket that nobody reads any more ends the wait."""
    idle, _peer = wires.sockets("tcp4")
    writer, reader = wires.sockets("unix") if dst == "unix" else wires._pair(dst, reads=False)
    with Transfer(idle, writer) as transfer:
        assert transfer.step() == 0
        waiter = Worker(transfer.run)
        until(waiter.asleep)
        reader.close() if dst == "unix" else os.close(reader)
        with pytest.raises(BrokenPipeError):
            waiter.result()


@cases(src=["file", "pipe", "unix", "tcp4"], dst=["pipe", "unix"], method=["auto", "read_write"])
def test_a_reader_that_goes_away_in_the_middle(wires, src, dst, method):
    """BrokenPipeError; what was read, what was in flight and what is left are told apart."""
    data = payload(1 << 20)
    source = wires.source(src, data)
    writer, reader = wires.sockets("unix") if dst == "unix" else wires.pipe()[::-1]
    with Transfer(source.end, writer, method=method) as transfer:
        until(lambda: transfer.step() == 0 and transfer.waiting_for == "dst")
        moved = transfer.moved
        reader.close() if dst == "unix" else os.close(reader)
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                transfer.run()
        assert transfer.moved == moved
        held = transfer.take_held()
        transfer.close()
    if src == "file":
        assert os.lseek(source.fd, 0, os.SEEK_CUR) == moved + len(held)
    assert held + source.left() == data[moved:]


def test_a_socket_that_ends_while_both_directions_are_copied(wires):
    """copy(sock, sock) is an echo: it ends with the peer's half-close."""
    near, far = wires.sockets("tcp4")
    data = payload(50_000)
    echo = Worker(lambda: spliceio.copy(near, near))
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)
    assert echo.result().moved == len(data)
    near.shutdown(socket.SHUT_WR)
    assert read_all(far.fileno()) == data


# ---- messages and slots -------------------------------------------------------------------------


@cases(src=["unix", "tcp4"], method=["auto", "splice"], size=[1, 100, 64 << 10])
def test_messages_of_any_size_get_through(wires, src, method, size):
    """A slot a message: a pipe full of tiny ones, and one that holds more than its capacity."""
    near, far = wires.sockets(src)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if src == "tcp4" else None
    sink = wires.sink("tcp4")
    count = 2000 if size < 1000 else 40

    def send():
        for i in range(count):
            far.sendall(bytes([i % 251]) * size)
        far.shutdown(socket.SHUT_WR)

    sender = Worker(send)
    seam = Seam()
    with seam.attach(Transfer(near, sink.end, method=method)) as transfer:
        transfer.run()
    sender.result()
    assert sink.received() == b"".join(bytes([i % 251]) * size for i in range(count))
    laws(seam.log)


def test_held_bytes_are_counted(wires):
    """What has left the source and not arrived is `held`, and take_held gives it."""
    data = payload(1 << 20)
    source = wires.source("unix", data)
    near, far = wires.sockets("tcp4")
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    with Transfer(source.end, near, method="splice") as transfer:
        until(lambda: transfer.step() == 0 and transfer.waiting_for == "dst")
        moved, held = transfer.moved, transfer.held
        assert held > 0
        taken = transfer.take_held()
        assert len(taken) == held
        assert taken == data[moved : moved + held]
        assert transfer.held == 0
    near.close()
    assert read_all(far.fileno()) == data[:moved]
    assert source.left() == data[moved + held :]


# ---- discard and chunks -------------------------------------------------------------------------


@cases(src=KINDS, size=[0, 1, PIPE + 1, 300_000], nonblocking=[False, True])
def test_discard_counts_every_byte(wires, src, size, nonblocking):
    """All of it, or as much as was asked for."""
    data = payload(size)
    source = wires.source(src, data, nonblocking=nonblocking)
    assert spliceio.discard(source.end, source.count) == size
    again = wires.source(src, data, nonblocking=nonblocking)
    assert spliceio.discard(again.end, size // 2) == size // 2
    assert again.left(size // 2) == data[size // 2 :]


@cases(src=KINDS, size=[1, 4096, 65536, 10_000_000], nonblocking=[False, True])
def test_chunks_are_whole_and_stay_as_they_are(wires, src, size, nonblocking):
    """Each has 1 to `size` bytes and memory of its own."""
    data = payload(2000 if size == 1 else 200_000)
    source = wires.source(src, data, nonblocking=nonblocking)
    pieces = list(spliceio.chunks(source.end, size, count=source.count))
    assert all(1 <= len(piece) <= size for piece in pieces)
    assert all(isinstance(piece, memoryview) for piece in pieces)
    assert b"".join(pieces) == data


@pytest.mark.parametrize("src", ["file", "pipe", "unix"])
def test_chunks_that_are_given_up_leave_the_rest(wires, src):
    """Closing the iterator closes its descriptors, and takes no byte more."""
    data = payload(50_000)
    source = wires.source(src, data)
    pieces = spliceio.chunks(source.end, 1000)
    got = bytes(next(pieces)) + bytes(next(pieces))
    pieces.close()
    assert got + source.left() == data


def test_chunks_keep_the_timeout(wires):
    """A silent source is a TimeoutError."""
    near, far = wires.sockets("unix")
    far.send(b"abc")
    pieces = spliceio.chunks(near, timeout=0.05)
    assert bytes(next(pieces)) == b"abc"
    with pytest.raises(TimeoutError):
        next(pieces)


# ---- explain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("src", transports())
@pytest.mark.parametrize("dst", transports())
def test_explain_says_what_copy_then_does(wires, src, dst):
    """The plan's method is the one that moved the bytes, and its order was kept."""
    data = payload(40_000 if dst != "tty" else 100)
    source = wires.source(src, data)
    sink = wires.sink(dst, collecting=dst != "tty")
    plan = spliceio.explain(source.end, sink.end)
    assert plan.method in str(plan)
    result = spliceio.copy(source.end, sink.end, source.count)
    # It knows of no count: what is little then is copied.
    little = source.count is not None and len(data) < 16384
    assert ("read_write" if little else plan.method) in result.by_method
    tried = [f.method for f in result.fallbacks] + [result.method]
    assert [m for m in plan.order if m in tried] == list(dict.fromkeys(tried))
    assert sink.received() == data


def test_explain_changes_nothing(wires):
    """No byte is read, no position moved, no buffer flushed."""
    source, sink = wires.source("unix", b"abc"), wires.sink("file")
    spliceio.explain(source.end, sink.end)
    assert select.select([source.end], [], [], 0)[0]
    assert source.left() == b"abc"
    with open(wires.tmp_path / "written", "wb") as file:
        file.write(b"buffered")
        spliceio.explain(sink.end, file)
        assert (wires.tmp_path / "written").stat().st_size == 0
