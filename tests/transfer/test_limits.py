"""A limit that was asked for holds for every byte, also those that had been read ahead.

What exceeds it stays where the caller can get it: in the reader that has read it, or in the bytes
that the caller has passed.
"""

from __future__ import annotations

import io

import pytest

import spliceio
from spliceio import RelayPool, Transfer
from tests.support.wires import payload

DATA = payload(100)


def conversation(wires):
    """Two socket pairs, and a buffered reader of the first that has read DATA ahead."""
    near, far = wires.sockets("unix")
    to, end = wires.sockets("unix")
    far.sendall(DATA)
    reader = near.makefile("rb")
    wires.ends.callback(reader.close)
    assert reader.peek() == DATA
    return near, reader, far, to, end


def received(end):
    end.setblocking(False)
    try:
        return end.recv(1000)
    except BlockingIOError:
        return b""


def by_relay(a, b, **options):
    return spliceio.relay(a, b, **options)


def by_pool(a, b, **options):
    with RelayPool() as pool:
        return pool.submit(a, b, **options).result()


relays = pytest.mark.parametrize("relay", [by_relay, by_pool])


@relays
@pytest.mark.parametrize("limit", [0, 1, 10, 99, 100])
def test_a_byte_limit_holds_for_what_a_reader_has_read_ahead(wires, relay, limit):
    """What is beyond the limit stays in the reader."""
    near, reader, _far, to, end = conversation(wires)
    result = relay((reader, near), to, byte_limit=limit)
    assert (result.a_to_b, result.b_to_a, result.reason) == (limit, 0, "limit")
    assert received(end) == DATA[:limit]
    assert reader.read1(100) == DATA[limit:] if limit < 100 else not received(near)


@relays
def test_a_byte_limit_counts_both_readers_and_what_is_sent_first(wires, relay):
    """Four sources of bytes from before the relay share one limit."""
    near, reader, _far, _to, _end = conversation(wires)
    other, there = wires.sockets("unix")
    there.sendall(b"x" * 50)
    second = other.makefile("rb")
    wires.ends.callback(second.close)
    second.peek()
    result = relay((reader, near), (second, other), to_b=b"b" * 3, to_a=b"a" * 4, byte_limit=120)
    assert result.a_to_b + result.b_to_a == 120
    assert result.reason == "limit"
    assert (result.a_to_b, result.b_to_a) == (103, 17)
    assert second.read1(50) == b"x" * (50 - 13)


@relays
def test_a_byte_limit_goes_on_with_the_socket_after_what_was_read_ahead(wires, relay):
    near, reader, far, to, end = conversation(wires)
    far.sendall(b"y" * 40)
    result = relay((reader, near), to, byte_limit=110)
    assert (result.a_to_b, result.reason) == (110, "limit")
    assert received(end) == DATA + b"y" * 10
    assert near.recv(100) == b"y" * 30


@pytest.mark.parametrize("count", [0, 1, 5, 9, 10])
def test_a_count_holds_for_what_was_read_before(wires, count):
    """`ahead` is the caller's: what is beyond the count has not been taken from it."""
    source, sink = wires.source("pipe", b""), wires.sink("pipe")
    with Transfer(source.end, sink.end, count, ahead=b"0123456789") as transfer:
        result = transfer.run()
        assert (result.moved, transfer.held, transfer.done) == (count, 0, True)
    assert sink.received() == b"0123456789"[:count]


def test_a_count_goes_on_with_the_source_after_what_was_read_before(wires):
    source, sink = wires.source("unix", DATA), wires.sink("unix")
    with Transfer(source.end, sink.end, 30, ahead=b"0123456789") as transfer:
        assert transfer.run().moved == 30
    assert sink.received() == b"0123456789" + DATA[:20]
    assert source.left() == DATA[20:]


@pytest.mark.parametrize("call", ["copy", "discard", "chunks", "receive_file", "fanout"])
@pytest.mark.parametrize("count", [0, 1, 10, 100])
def test_a_count_of_any_call_leaves_the_rest_in_the_reader(wires, tmp_path, call, count):
    _near, reader, *_ = conversation(wires)
    with open(tmp_path / "out", "w+b", buffering=0) as out:
        if call == "copy":
            assert spliceio.copy(reader, out, count).moved == count
        elif call == "discard":
            assert spliceio.discard(reader, count) == count
        elif call == "chunks":
            assert b"".join(spliceio.chunks(reader, 7, count=count)) == DATA[:count]
        elif call == "receive_file":
            assert spliceio.receive_file(reader, out, count).moved == count
        else:
            assert spliceio.fanout(reader, [out, io.BytesIO()], count).moved == count
    left = reader.read1(100) if count < 100 else b""
    assert left == DATA[count:]
