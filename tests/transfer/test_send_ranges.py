"""send_ranges: pieces of one file, each with its header, as one stream.

Rule 1: what arrives is what slicing and joining would give, in the order asked for.
Rule 2: everything is checked before the first byte leaves.
Rule 3: on TCP small pieces share their segments, and the last one is not held back.
"""

from __future__ import annotations

import email
import email.policy
import fcntl
import io
import os
import socket
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spliceio
from spliceio import send_ranges
from tests.support.cases import cases
from tests.support.wires import SOCKETS, Wires, payload, transports

DATA = payload(1_000_001)
HEADER, TRAILER = payload(200, seed=3), payload(7, seed=4)
DESTINATIONS = ("tcp4", "tcp6", "unix", "mptcp", "pipe", "fifo", "file", "tmpfs")
MODES = ("blocking", "nonblocking", "timeout")
destinations = pytest.mark.parametrize("dst", transports(*DESTINATIONS))


def sliced(data, ranges, headers=None, header=b"", trailer=b""):
    """Do the same by slicing: the model."""
    texts = [b""] * len(ranges) if headers is None else headers
    pieces = (
        bytes(text) + data[offset : offset + count]
        for text, (offset, count) in zip(texts, ranges, strict=True)
    )
    return header + b"".join(pieces) + trailer


def sink_of(wires, kind, mode):
    """Make a sink in a mode."""
    sink = wires.sink(kind, nonblocking=mode == "nonblocking")
    if kind in SOCKETS:
        sink.end.settimeout({"blocking": None, "nonblocking": 0, "timeout": 30}[mode])
    return sink


def segments(sock):
    """Return how many segments with data have left, probes for lost ones apart.

    tcpi_data_segs_out is at 156 in tcp_info, tcpi_total_retrans at 100.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("I", info, 156)[0] - struct.unpack_from("I", info, 100)[0]


def unsent(sock):
    """Return how many bytes wait in the socket without having been sent at all: SIOCOUTQNSD."""
    return struct.unpack("i", fcntl.ioctl(sock, 0x894B, bytes(4)))[0]


def cork(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)


# ---- contents -----------------------------------------------------------------------------------

RANGES = {
    "one": [(0, 1_000_001)],
    "its last byte": [(1_000_000, 1)],
    "the end": [(1_000_001, 0)],
    "adjacent": [(0, 4096), (4096, 4096), (8192, 100_000)],
    "unsorted": [(900_000, 100_001), (5, 5), (500_000, 70_000)],
    "overlapping": [(0, 500_000), (100, 500_000), (99, 2), (0, 1_000_001)],
    "the same": [(4095, 3)] * 40,
    "with empty ones": [(0, 0), (10, 10), (10, 0), (1_000_001, 0), (0, 1), (7, 0)],
    "only empty ones": [(0, 0), (5, 0), (1_000_001, 0)],
    "none": [],
}


@cases(dst=DESTINATIONS, mode=MODES, name=RANGES)
def test_ranges_with_their_headers(wires, dst, mode, name):
    """Header, each range behind its own, trailer; the file's bytes by the pair's method."""
    ranges = RANGES[name]
    headers = [f"<{number}>".encode() for number in range(len(ranges))]
    file, sink = wires.file(DATA), sink_of(wires, dst, mode)
    result = send_ranges(
        sink.end, file, ranges, headers=headers, header=HEADER, trailer=TRAILER, timeout=30
    )
    expected = sliced(DATA, ranges, headers, HEADER, TRAILER)
    assert sink.received() == expected
    assert result.moved == len(expected)
    size = sum(count for _, count in ranges)
    if dst in SOCKETS or dst in ("pipe", "fifo"):
        assert result.method == ("sendfile" if dst in SOCKETS else "splice")
    assert result.method != "send"
    around = {"send": len(expected) - size}
    assert result.by_method == (around | {result.method: size} if size else around)


@pytest.mark.parametrize("dst", ["tcp4", "unix", "pipe", "file"])
@pytest.mark.parametrize("name", RANGES)
def test_ranges_alone(wires, dst, name):
    """Without any header, nothing but the ranges."""
    ranges, sink = RANGES[name], sink_of(wires, dst, "blocking")
    result = send_ranges(sink.end, wires.file(DATA), ranges)
    assert sink.received() == sliced(DATA, ranges)
    assert result.moved == sum(count for _, count in ranges)
    assert result.by_method == ({result.method: result.moved} if result.moved else {})


@destinations
def test_a_thousand_ranges(wires, dst):
    """Any number of them, in one call."""
    ranges = [(number * 997 % 900_000, number % 300) for number in range(1000)]
    headers = [b"%d:" % number for number in range(1000)]
    sink = sink_of(wires, dst, "nonblocking")
    result = send_ranges(sink.end, wires.file(DATA), ranges, headers=headers)
    expected = sliced(DATA, ranges, headers)
    assert sink.received() == expected
    assert result.moved == len(expected)


@pytest.mark.parametrize("dst", ["tcp4", "unix", "pipe", "file"])
@pytest.mark.parametrize("mode", ["blocking", "nonblocking"])
def test_headers_larger_than_the_buffer(wires, dst, mode):
    """Each may be longer than the socket or pipe takes at once, and still none is cut."""
    long = payload(3 << 20, seed=9)
    ranges, headers = [(5, 3), (100_000, 500_000), (0, 0)], [long, long[::-1], long]
    sink = sink_of(wires, dst, mode)
    result = send_ranges(
        sink.end, wires.file(DATA), ranges, headers=headers, header=long, trailer=long
    )
    assert sink.received() == sliced(DATA, ranges, headers, long, long)
    assert result.by_method["send"] == 5 * len(long)


def test_what_is_iterable_gives_ranges_and_headers(wires):
    """Generators, tuples and lists; each is gone through once, bytes-likes are headers."""
    sink = wires.sink("tcp4")
    ranges = ([number, 2] for number in (0, 10, 20))
    headers = iter([bytearray(b"a"), memoryview(b"b"), b"c"])
    send_ranges(sink.end, wires.file(DATA), ranges, headers=headers)
    assert sink.received() == b"a" + DATA[:2] + b"b" + DATA[10:12] + b"c" + DATA[20:22]


def test_progress_is_told_the_total(wires):
    """It grows, and ends with the result."""
    sink, told = wires.sink("tcp4"), []
    ranges = [(0, len(DATA))] * 5
    result = send_ranges(
        sink.end, wires.file(DATA), ranges, headers=[b"header"] * 5, progress=told.append
    )
    assert told == sorted(told)
    assert told[-1] == result.moved == 5 * (len(DATA) + 6)


@pytest.mark.parametrize("opened", ["rb", "r+b"])
def test_the_position_stays(wires, tmp_path, opened):
    """Neither the descriptor's position nor that of a buffered object moves."""
    (tmp_path / "data").write_bytes(DATA)
    sink = wires.sink("tcp4")
    with open(tmp_path / "data", opened) as file:
        file.read(10)
        send_ranges(sink.end, file, [(50, 10), (0, 5)])
        assert file.tell() == 10
        assert file.read(5) == DATA[10:15]
    assert sink.received() == DATA[50:60] + DATA[:5]


def test_what_was_written_and_not_flushed_is_sent(wires, tmp_path):
    """A BufferedRandom's own bytes count, beyond the old end too."""
    (tmp_path / "data").write_bytes(b"0123456789")
    sink = wires.sink("tcp4")
    with open(tmp_path / "data", "r+b") as file:
        file.seek(8)
        file.write(b"abcd")
        send_ranges(sink.end, file, [(10, 2), (6, 4)])
        assert file.tell() == 12
    assert sink.received() == b"cd67ab"


def test_ranges_of_a_file_of_the_kernel(wires):
    """/proc has no sizes to check against; what is there is sent, and what is not is an error."""
    content = Path("/proc/version").read_bytes()
    file = wires.ends.fd(os.open("/proc/version", os.O_RDONLY))
    sink = wires.sink("tcp4")
    ranges = [(6, 7), (0, 5)]
    send_ranges(sink.end, file, ranges, headers=[b"<", b">"])
    beyond = [(0, 5), (len(content) - 4, 5), (0, 1)]
    with pytest.raises(spliceio.UnexpectedEOF) as caught:
        send_ranges(sink.end, file, beyond, headers=[b"1", b"2", b"3"])
    assert caught.value.result.moved == 1 + 5 + 1 + 4
    expected = sliced(content, ranges, [b"<", b">"])
    assert sink.received() == expected + b"1" + content[:5] + b"2" + content[-4:]


# ---- against plain slicing ----------------------------------------------------------------------

short = st.binary(max_size=20)
sizes = st.one_of(st.sampled_from([0, 1, 4095, 4096, 4097, 65537]), st.integers(0, 300_000))


@st.composite
def requests(draw):
    """A file's size, ranges within it, and one header a range or none."""
    size = draw(sizes)
    offsets = st.integers(0, size)
    ranges = draw(st.lists(st.tuples(offsets, offsets).map(sorted), max_size=12))
    ranges = [(begin, end - begin) for begin, end in ranges]
    texts = st.lists(short, min_size=len(ranges), max_size=len(ranges))
    return size, ranges, draw(st.one_of(st.none(), texts)), draw(short), draw(short)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(requests(), st.sampled_from(["tcp4", "unix", "pipe", "file", "tmpfs"]), st.booleans())
def test_any_ranges_are_what_slicing_gives(request, dst, nonblocking):
    """Random ranges, headers and transports, against the model."""
    size, ranges, headers, header, trailer = request
    data = DATA[:size]
    expected = sliced(data, ranges, headers, header, trailer)
    with TemporaryDirectory() as directory:
        wires = Wires(Path(directory))
        try:
            sink = wires.sink(dst, nonblocking=nonblocking)
            options = {"headers": headers, "header": header, "trailer": trailer}
            result = send_ranges(sink.end, wires.file(data), ranges, **options)
            assert sink.received() == expected
        finally:
            wires.close()
    assert result.moved == len(expected) == sum(result.by_method.values())


def test_a_multipart_response(wires):
    """What a server makes of it is a multipart/byteranges body that the email package reads."""
    ranges = [(0, 500), (999_000, 1001), (250, 500), (7, 1)]
    heads = [
        f"\r\n--edge\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Transfer-Encoding: binary\r\n"
        f"Content-Range: bytes {offset}-{offset + count - 1}/{len(DATA)}\r\n\r\n".encode()
        for offset, count in ranges
    ]
    end = b"\r\n--edge--\r\n"
    size = sum(map(len, heads)) + sum(count for _, count in ranges) + len(end)
    head = (
        "HTTP/1.1 206 Partial Content\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/byteranges; boundary="edge"\r\nContent-Length: {size}\r\n\r\n'
    ).encode()
    sink = wires.sink("tcp4")
    send_ranges(sink.end, wires.file(DATA), ranges, headers=heads, header=head, trailer=end)
    got = io.BytesIO(sink.received())
    assert got.readline() == b"HTTP/1.1 206 Partial Content\r\n"
    message = email.message_from_bytes(got.read(), policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/byteranges"
    body = got.getvalue().partition(b"\r\n\r\n")[2]
    assert len(body) == int(message["Content-Length"]) == size
    parts = message.get_payload()
    assert len(parts) == len(ranges)
    for part, (offset, count) in zip(parts, ranges, strict=True):
        assert part["Content-Range"] == f"bytes {offset}-{offset + count - 1}/{len(DATA)}"
        assert part.get_payload(decode=True) == DATA[offset : offset + count]


# ---- packets ------------------------------------------------------------------------------------


@pytest.fixture
def connected(wires):
    """Two TCP sockets, of which the far one delays its ACKs."""
    near, far = wires.sockets("tcp4")
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    return near, far


@pytest.mark.parametrize("nodelay", [0, 1], ids=["nagle", "nodelay"])
@pytest.mark.parametrize("texts", ["headers", "header", "trailer", "ranges alone"])
def test_small_ranges_are_one_packet(wires, connected, nodelay, texts):
    """Five ranges, with or without headers: one segment, which has left, each time.

    More than 17 pieces of memory do not go into one segment, whoever sends them.
    """
    near, far = connected
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    ranges = [(number * 1000, 100) for number in range(5)]
    options = {
        "headers": {"headers": [HEADER] * 5, "header": HEADER, "trailer": TRAILER},
        "header": {"header": HEADER},
        "trailer": {"trailer": TRAILER},
        "ranges alone": {},
    }[texts]
    expected = sliced(DATA, ranges, **options)
    for done in range(1, 6):
        send_ranges(near, wires.file(DATA[:10_000]), ranges, **options)
        assert (segments(near), unsent(near), cork(near)) == (done, 0, 0)
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == nodelay
    assert far.recv(5 * len(expected), socket.MSG_WAITALL) == expected * 5


def test_the_callers_cork_stays(wires, connected):
    """And is the one that holds things back."""
    near, far = connected
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    send_ranges(near, wires.file(DATA), [(0, 10), (5, 5)], headers=[b"<", b">"])
    assert cork(near) == 1
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert far.recv(17, socket.MSG_WAITALL) == b"<" + DATA[:10] + b">" + DATA[5:10]
    assert segments(near) == 1


# ---- bad input ----------------------------------------------------------------------------------

FILE = b"0123456789"


@pytest.fixture(params=[0, 1], ids=["", "corked"])
def silent(request, wires, connected):
    """Give a socket on which nothing may be sent or changed."""
    near, far = connected
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, request.param)
    yield near
    assert cork(near) == request.param
    assert (segments(near), unsent(near)) == (0, 0)
    near.shutdown(socket.SHUT_WR)
    assert far.recv(100) == b""


def refused(sock, file, ranges, kind, words=None, **options):
    with pytest.raises(kind, match=words) as caught:
        send_ranges(sock, file, ranges, **({"header": HEADER, "trailer": TRAILER} | options))
    return caught.value


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((11, 0), "11.*10"),
        ((11, 1), "11.*10"),
        ((10, 1), "10"),
        ((0, 11), "11.*10"),
        ((5, 6), "10"),
        ((2**40, 1), f"{2**40}.*10"),
        ((1, 2**63 - 1), "10"),
        ((-1, 1), "negative.*-1"),
        ((0, -1), "negative.*-1"),
        ((-5, -5), "negative.*-5"),
        ((-(2**70), 1), "negative"),
    ],
)
@pytest.mark.parametrize("at", [0, 2, 500])
def test_one_bad_range_among_good_ones(wires, silent, bad, words, at):
    """ValueError with its numbers; the good ones before it are not sent either."""
    ranges = [(number % 10, 1) for number in range(500)]
    ranges.insert(at, bad)
    refused(silent, wires.file(FILE), ranges, ValueError, words)


@pytest.mark.parametrize("bad", [(2**63, 1), (2**64, 0), (0, 2**63), (2**70, 2**70)])
def test_ranges_beyond_64_bits(wires, silent, bad):
    """An error of the number, and no wrap to one that is in the file."""
    refused(silent, wires.file(FILE), [(0, 1), bad], (ValueError, OverflowError))


@pytest.mark.parametrize(
    "bad",
    [
        *[5, None, (1,), (1, 2, 3), (), "ab", b"ab", {0: 1}, object],
        *[(0, "1"), ("0", 1), (0.0, 1), (0, 1.5), (0, None), (None, 1)],
    ],
    ids=repr,
)
def test_ranges_of_the_wrong_shape(wires, silent, bad):
    """TypeError or ValueError: a range is two ints."""
    refused(silent, wires.file(FILE), [(0, 1), bad], (TypeError, ValueError))


@pytest.mark.parametrize("bad", [5, None, 1.5, object, (0, 1), "abc"], ids=repr)
def test_ranges_that_are_no_list_of_them(wires, silent, bad):
    """TypeError or ValueError, a single pair too."""
    refused(silent, wires.file(FILE), bad, (TypeError, ValueError))


@pytest.mark.parametrize("number", [0, 1, 3, 100])
def test_headers_of_the_wrong_number(wires, silent, number):
    """ValueError that has both numbers."""
    error = refused(
        silent, wires.file(FILE), [(0, 1), (1, 1)], ValueError, "header", headers=[b"x"] * number
    )
    assert "2" in str(error)
    assert str(number) in str(error)


@pytest.mark.parametrize("bad", ["text", 5, None, ["a"], object], ids=repr)
def test_headers_of_the_wrong_type(wires, silent, bad):
    """TypeError, wherever it is."""
    for headers in ([bad, b"x"], [b"x", bad]):
        refused(silent, wires.file(FILE), [(0, 1), (1, 1)], TypeError, headers=headers)
    for name in ("header", "trailer"):
        refused(silent, wires.file(FILE), [(0, 1)], TypeError, **{name: bad})


@pytest.mark.parametrize("bad", [5, object, 1.5], ids=repr)
def test_headers_that_are_no_list(wires, silent, bad):
    """TypeError."""
    refused(silent, wires.file(FILE), [(0, 1)], TypeError, headers=bad)


def test_a_generator_that_raises(wires, silent):
    """Its exception passes; what it gave before has not been sent."""

    def ranges():
        yield 0, 1
        raise KeyError("stopped")

    refused(silent, wires.file(FILE), ranges(), KeyError, "stopped")


def test_files_without_ranges(wires, silent, tmp_path):
    """What send_file refuses, with the same exceptions."""
    reader, _writer = wires.pipe()
    refused(silent, reader, [(0, 1)], ValueError, r"copy\(\)")
    refused(silent, reader, [], ValueError, r"copy\(\)")
    zero = wires.ends.fd(os.open("/dev/zero", os.O_RDONLY))
    refused(silent, zero, [(0, 1)], ValueError, r"/dev/zero.*copy\(\)")
    directory = wires.ends.fd(os.open("/", os.O_RDONLY))
    refused(silent, directory, [(0, 1)], IsADirectoryError)
    refused(silent, io.BytesIO(FILE), [(0, 1)], TypeError)
    with open(tmp_path / "text", "w+") as file:
        refused(silent, file, [(0, 1)], TypeError, "text file")
    refused(silent, -1, [(0, 1)], OSError, "not open")
