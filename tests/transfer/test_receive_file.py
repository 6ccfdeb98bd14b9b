"""receive_file: from a connection into a file, and what is told when the file takes no more.

Rule 1: what is in the file, held and unread makes up the body; what follows it stays where it is.
Rule 2: a position is used and moved, an offset is neither.
Rule 3: drained, a connection is in step: the next byte in it is the one behind the body.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket

import pytest

import spliceio
from spliceio import UnexpectedEOF, receive_file
from tests.support.bodies import BODY, DATA, LIMIT, NEXT, content, file_limit, reader_of, source_of
from tests.support.cases import cases
from tests.support.states import Worker
from tests.support.wires import FILES, tcp_pair

SIZES = [0, 1, 4095, 4096, 4097, 65536, 5 << 20]
SOCKETS = ("tcp4", "tcp6", "unix", "mptcp")
SOURCES = (*SOCKETS, "pipe", "fifo", "file", "tmpfs")
SMALL = 65536
MODES = ("blocking", "nonblocking", "timeout")
kinds = pytest.mark.parametrize("dst", FILES)


# ---- contents and methods -----------------------------------------------------------------------


@cases(src=SOURCES, dst=FILES, mode=MODES, size=SIZES, counted=[True, False])
def test_a_body_goes_into_a_file(wires, src, dst, mode, size, counted):
    """Every byte, once, by the method of the pair; the position is behind the last."""
    source, file = source_of(wires, src, DATA[:size], mode), wires.file(kind=dst)
    method = spliceio.explain(source.end, file).method if src in FILES else "splice"
    result = receive_file(source.end, file, size if counted else None, timeout=30)
    assert content(file) == DATA[:size]
    assert os.lseek(file, 0, os.SEEK_CUR) == size
    assert result.moved == size
    if counted and src in SOCKETS and 0 < size <= SMALL:
        method = max({method: 0, **result.by_method}.items(), key=lambda one: one[1])[0]
        assert set(result.by_method) <= {"read_write", "splice"}
    assert result.method == method or (size == 0 and src in FILES)  # of nothing, any will do
    assert sum(result.by_method.values()) == size


@cases(src=SOURCES, dst=FILES, count=[0, 1, 4096, 100_000])
def test_what_follows_the_body_stays_in_the_connection(wires, src, dst, count):
    """A count is never exceeded, whatever is there."""
    source, file = source_of(wires, src, DATA[:count] + NEXT), wires.file(kind=dst)
    assert receive_file(source.end, file, count).moved == count
    assert content(file) == DATA[:count]
    assert source.left() == NEXT


def test_nothing_is_waited_for_when_nothing_is_asked_for(wires):
    """A count of 0 reads nothing, from a silent peer too."""
    near, _far = wires.sockets("tcp4")
    file = wires.file(b"kept")
    assert receive_file(near, file, 0).moved == 0
    assert content(file) == b"kept"


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
@kinds
def test_an_offset_is_written_at_and_the_position_stays(wires, src, dst):
    """Bytes before and behind are kept; a position past it is not used."""
    source, file = source_of(wires, src, DATA[:10_000]), wires.file(b"." * 20_000, kind=dst)
    os.lseek(file, 7, os.SEEK_SET)
    assert receive_file(source.end, file, 9000, offset=5000).moved == 9000
    assert content(file) == b"." * 5000 + DATA[:9000] + b"." * 6000
    assert os.lseek(file, 0, os.SEEK_CUR) == 7
    assert receive_file(source.end, file, offset=30_000).moved == 1000
    assert content(file)[20_000:] == bytes(10_000) + DATA[9000:10_000]
    assert os.lseek(file, 0, os.SEEK_CUR) == 7


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
@kinds
def test_a_position_is_written_at_and_moves(wires, src, dst):
    """Two bodies in a row are side by side."""
    source, file = source_of(wires, src, DATA[:10_000]), wires.file(b"." * 3000, kind=dst)
    os.lseek(file, 1000, os.SEEK_SET)
    receive_file(source.end, file, 500)
    assert os.lseek(file, 0, os.SEEK_CUR) == 1500
    receive_file(source.end, file)
    assert content(file) == b"." * 1000 + DATA[:10_000]


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
@kinds
def test_a_file_opened_for_appending_is_appended_to(wires, src, dst):
    """Zero-copy refuses it; the refusal is recorded, and the bytes are at the end."""
    source = source_of(wires, src, BODY)
    file = wires.file(b"before ", kind=dst, flags=os.O_RDWR | os.O_APPEND)
    result = receive_file(source.end, file, len(BODY))
    assert content(file) == b"before " + BODY
    assert result.by_method == {"read_write": len(BODY)}
    assert result.fallbacks


@pytest.mark.parametrize("offset", [0, 7])
def test_an_offset_where_everything_is_appended(wires, offset):
    """ValueError, as the kernel would ignore it; nothing is taken."""
    source = source_of(wires, "unix", b"body")
    file = wires.file(b"before ", flags=os.O_RDWR | os.O_APPEND)
    with pytest.raises(ValueError, match="O_APPEND"):
        receive_file(source.end, file, 4, offset=offset)
    assert content(file) == b"before "
    assert source.left() == b"body"


@pytest.mark.parametrize("offset", [None, 4])
def test_a_buffered_file_is_flushed_before_and_goes_on_behind(tmp_path, wires, offset):
    """What Python wrote before is before it; tell() is right, and what comes next is in place."""
    source = source_of(wires, "tcp4", b"body")
    with open(tmp_path / "data", "w+b") as file:
        file.write(b"earlier ")
        receive_file(source.end, file, 4, offset=offset)
        assert file.tell() == (12 if offset is None else 8)
        file.write(b" later")
        file.seek(0)
        expected = b"earlier body later" if offset is None else b"earlbody later"
        assert file.read() == expected


@pytest.mark.parametrize("dst", ["pipe", "unix", "tcp4"])
def test_a_stream_may_take_the_body_too(wires, dst):
    """Whatever copy() takes as its destination; an offset into it is an error."""
    source, sink = source_of(wires, "unix", BODY), wires.sink(dst)
    with pytest.raises(OSError, match=r"no positions|seekable") as caught:
        receive_file(source.end, sink.end, len(BODY), offset=0)
    assert caught.value.errno == errno.ESPIPE
    assert receive_file(source.end, sink.end, len(BODY)).moved == len(BODY)
    assert sink.received() == BODY


# ---- what a reader has read ahead ---------------------------------------------------------------


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe"])
@pytest.mark.parametrize("count", [0, 1, 100, 8000, 50_000, 300_000])
def test_read_ahead_comes_first_and_what_follows_stays(wires, src, count):
    """A request line read through a BufferedReader takes part of the body along: it is not lost."""
    _source, reader = reader_of(wires, src, b"PUT /\r\n" + DATA[:count] + NEXT)
    file = wires.file()
    assert reader.readline() == b"PUT /\r\n"
    assert receive_file(reader, file, count).moved == count
    assert content(file) == DATA[:count]
    assert reader.read(len(NEXT)) == NEXT


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe"])
def test_read_ahead_counts_when_the_body_ends_early(wires, src):
    """UnexpectedEOF; what was read ahead is in the file."""
    _source, reader = reader_of(wires, src, b"PUT /\r\n" + DATA[:5000])
    file = wires.file()
    reader.readline()
    with pytest.raises(UnexpectedEOF) as caught:
        receive_file(reader, file, 5001)
    assert caught.value.result.moved == 5000
    assert content(file) == DATA[:5000]


# ---- an early end -------------------------------------------------------------------------------


@cases(src=SOURCES, dst=FILES, size=[0, 1, 4096, 100_000], drain=[False, True])
def test_a_body_that_ends_early(wires, src, dst, size, drain):
    """UnexpectedEOF with both numbers; what came is in the file, and nothing is held."""
    source, file = source_of(wires, src, DATA[:size]), wires.file(kind=dst)
    with pytest.raises(UnexpectedEOF) as caught:
        receive_file(source.end, file, 100_001, drain=drain)
    error = caught.value
    assert isinstance(error, OSError)
    assert isinstance(error, EOFError)
    assert error.errno == errno.ENODATA
    assert (error.result.moved, error.held) == (size, b"")
    for number in (size, 100_001):
        assert str(number) in str(error)
    assert content(file) == DATA[:size]


def test_a_reset_in_the_middle(wires):
    """ConnectionResetError, and not an end; what came before is in the file or held."""
    near, far = wires.sockets("tcp4")
    file = wires.file()
    far.sendall(DATA[:1000])

    def reset(total):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()

    runner = Worker(lambda: receive_file(near, file, 5000, progress=reset))
    with pytest.raises(ConnectionResetError) as caught:
        runner.result()
    assert caught.value.result.moved == 1000
    assert content(file) == DATA[:1000]


# ---- a file that takes no more ------------------------------------------------------------------


@pytest.mark.parametrize("src", ["tcp4", "tcp6", "unix", "pipe", "fifo", "file"])
@kinds
@pytest.mark.parametrize("offset", [None, 10_000])
def test_the_file_size_limit(wires, src, dst, offset):
    """EFBIG: in the file, held and unread are the body; what is unread is in the connection."""
    source, file = source_of(wires, src, BODY + NEXT), wires.file(kind=dst)
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, file, len(BODY), offset=offset)
    error, moved = caught.value, LIMIT - (offset or 0)
    assert error.errno == errno.EFBIG
    assert error.result.moved == moved
    assert content(file)[offset or 0 :] == BODY[:moved]
    assert moved + len(error.held) + error.unread == len(BODY)
    left = source.left()
    assert BODY[:moved] + error.held + left == BODY + NEXT
    assert len(left) - len(NEXT) == error.unread


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
def test_the_rest_can_be_written_elsewhere(wires, src):
    """What a caller does with held and unread: the body is whole, in two files."""
    source, first, second = source_of(wires, src, BODY + NEXT), wires.file(), wires.file()
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, first, len(BODY))
    os.write(second, caught.value.held)
    receive_file(source.end, second, caught.value.unread)
    assert content(first) + content(second) == BODY
    assert source.left() == NEXT


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
def test_without_a_count_nobody_knows_what_is_unread(wires, src):
    """None; and what is held and left is still everything."""
    source, file = source_of(wires, src, BODY), wires.file()
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, file)
    assert caught.value.unread is None
    assert content(file) + caught.value.held + source.left() == BODY


@pytest.mark.parametrize("src", ["tcp4", "tcp6", "unix", "pipe", "fifo", "file"])
@pytest.mark.parametrize("mode", MODES)
def test_drained_a_connection_is_in_step(wires, src, mode):
    """The rest of the body is dropped, and not one byte more; the error is the first one."""
    source, file = source_of(wires, src, BODY + NEXT, mode), wires.file()
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, file, len(BODY), drain=True)
    error = caught.value
    assert (error.errno, error.result.moved) == (errno.EFBIG, LIMIT)
    assert (error.unread, error.held) == (0, b"")
    assert content(file) == BODY[:LIMIT]
    assert source.left() == NEXT


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
def test_drained_to_the_end_without_a_count(wires, src):
    """Everything to the end is read and dropped."""
    source, file = source_of(wires, src, BODY), wires.file()
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, file, drain=True)
    assert (caught.value.unread, caught.value.held) == (0, b"")
    assert caught.value.result.moved == LIMIT
    assert source.left() == b""


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe"])
@pytest.mark.parametrize("limit", [0, 10, LIMIT])
@pytest.mark.parametrize("drain", [False, True])
def test_a_reader_is_in_step_as_well(wires, src, limit, drain):
    """Read-ahead that did not reach the file is held, or dropped with the rest."""
    _source, reader = reader_of(wires, src, b"PUT /\r\n" + BODY + NEXT)
    file = wires.file()
    reader.readline()
    with file_limit(limit), pytest.raises(OSError, match="limit") as caught:
        receive_file(reader, file, len(BODY), drain=drain)
    error = caught.value
    assert error.result.moved == limit
    assert limit + len(error.held) + error.unread == (limit if drain else len(BODY))
    rest = reader.read(error.unread)
    assert content(file) + error.held + rest == (BODY[:limit] if drain else BODY)
    assert reader.read(len(NEXT)) == NEXT


@pytest.mark.parametrize("src", ["tcp4", "unix", "pipe", "file"])
@pytest.mark.parametrize("drain", [False, True])
def test_dev_full(wires, src, drain):
    """ENOSPC at the first byte."""
    source = source_of(wires, src, BODY + NEXT)
    full = wires.ends.fd(os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="full") as caught:
        receive_file(source.end, full, len(BODY), drain=drain)
    error = caught.value
    assert (error.errno, error.result.moved) == (errno.ENOSPC, 0)
    assert len(error.held) + error.unread == (0 if drain else len(BODY))
    assert error.held + source.left() == (NEXT if drain else BODY + NEXT)


def told(error):
    """Return the draining error as the first one tells it: as its context, cause or note."""
    told = [error.__cause__, error.__context__, *getattr(error, "__notes__", [])]
    return " ".join(repr(item) for item in told if item)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_draining_that_finds_an_early_end(wires, kind):
    """The file's error is raised all the same; unread is what never came."""
    source, file = source_of(wires, kind, BODY), wires.file()
    with file_limit(LIMIT), pytest.raises(OSError, match="limit") as caught:
        receive_file(source.end, file, len(BODY) + 1000, drain=True)
    error = caught.value
    assert error.errno == errno.EFBIG
    assert (error.result.moved, error.unread, error.held) == (LIMIT, 1000, b"")


@pytest.mark.parametrize("how", ["timeout", "settimeout"])
def test_draining_that_times_out(wires, how):
    """So, too, when the peer sends no more: no wait without end in the name of order."""
    near, far = wires.sockets("tcp4")
    file = wires.file()
    far.sendall(BODY[:50_000])
    options = {"timeout": 0.2} if how == "timeout" else {}
    if how == "settimeout":
        near.settimeout(0.2)
    with file_limit(10_000), pytest.raises(OSError, match="limit") as caught:
        receive_file(near, file, 60_000, drain=True, **options)
    error = caught.value
    assert error.errno == errno.EFBIG
    assert (error.result.moved, error.unread, error.held) == (10_000, 10_000, b"")
    assert "TimeoutError" in told(error)


def test_draining_that_meets_a_reset(wires):
    """The file's error first, the connection's beside it."""
    near, far = wires.sockets("tcp4")
    file = wires.file()
    far.sendall(BODY[:5000])
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    # Taken before the reset, the bytes are still there to be received after it on this side only.
    reader = wires.ends._stack.enter_context(near.makefile("rb", buffering=8192))
    assert len(reader.peek()) == 5000
    far.close()
    with file_limit(1000), pytest.raises(OSError, match="limit") as caught:
        receive_file(reader, file, 60_000, drain=True)
    error = caught.value
    assert error.errno == errno.EFBIG
    assert (error.result.moved, error.unread, error.held) == (1000, 55_000, b"")
    assert "ConnectionResetError" in told(error)


# ---- a protocol ---------------------------------------------------------------------------------


def serve_uploads(connection, file):
    """Answer PUT requests: 201 when the body is in the file, 507 when there is no room."""
    with connection, connection.makefile("rb") as reader:
        while request := reader.readline():
            assert request == b"PUT /file HTTP/1.1\r\n"
            length = int(http.client.parse_headers(reader)["Content-Length"])
            os.ftruncate(file, 0)
            try:
                receive_file(reader, file, length, offset=0, drain=True)
                status = "201 Created"
            except OSError as error:
                status = f"507 Insufficient Storage\r\nX-Stored: {error.result.moved}"
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def test_an_upload_that_fails_leaves_the_connection_good(wires):
    """Body too large, 507, and the next requests on the same connection are understood."""
    near, far = tcp_pair()
    file = wires.file()
    client = http.client.HTTPConnection("127.0.0.1")
    client.sock = near
    wires.ends.callback(client.close)
    with file_limit(LIMIT):
        server = Worker(lambda: serve_uploads(far, file))
        answers = []
        for body in (BODY[:1000], BODY, BODY[:LIMIT], DATA, BODY[:1]):
            client.request("PUT", "/file", body)
            response = client.getresponse()
            response.read()
            answers.append((response.status, response.getheader("X-Stored")))
            stored = min(len(body), LIMIT)
            assert content(file) == body[:stored]
    client.close()
    server.result()
    full = (507, str(LIMIT))
    assert answers == [(201, None), full, (201, None), full, (201, None)]


# ---- the rest -----------------------------------------------------------------------------------


def test_progress_is_told_the_total(wires):
    """It grows, and ends with the result."""
    source, told = source_of(wires, "tcp4", DATA), []
    result = receive_file(source.end, wires.file(), len(DATA), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == result.moved == len(DATA)


@pytest.mark.parametrize("how", ["timeout", "settimeout"])
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_a_peer_that_sends_no_more(wires, kind, how):
    """TimeoutError; what came is in the file, and the rest can be received later."""
    near, far = wires.sockets(kind)
    file = wires.file()
    far.sendall(BODY[:5000])
    if how == "settimeout":
        near.settimeout(0.1)
    with pytest.raises(TimeoutError) as caught:
        receive_file(near, file, 6000, timeout=0.1 if how == "timeout" else None)
    assert caught.value.result.moved == 5000
    assert caught.value.held == b""
    far.sendall(BODY[5000:6000])
    assert receive_file(near, file, 1000).moved == 1000
    assert content(file) == BODY[:6000]


@pytest.mark.parametrize(
    ("args", "options", "kind"),
    [
        ((-1,), {}, ValueError),
        ((-(2**70),), {}, ValueError),
        (("4",), {}, TypeError),
        ((4.0,), {}, TypeError),
        ((4,), {"offset": -1}, ValueError),
        ((4,), {"offset": 2**63}, (ValueError, OverflowError)),
        ((4,), {"offset": "0"}, TypeError),
        ((4,), {"timeout": -1}, ValueError),
        ((4, 0), {}, TypeError),
    ],
)
def test_numbers_that_are_none(wires, args, options, kind):
    """Refused before a byte is taken."""
    source, file = source_of(wires, "unix", b"body"), wires.file(b"kept")
    with pytest.raises(kind):
        receive_file(source.end, file, *args, **options)
    assert content(file) == b"kept"
    assert os.lseek(file, 0, os.SEEK_CUR) == 0
    assert source.left() == b"body"


def test_files_that_cannot_be_written(wires, tmp_path):
    """Directories, text, read-only and closed files, memory; the body stays in the connection."""
    source = source_of(wires, "unix", b"body")
    path = tmp_path / "data"
    path.write_bytes(b"kept")
    directory = wires.ends.fd(os.open("/", os.O_RDONLY))
    read_only = wires.ends.fd(os.open(path, os.O_RDONLY))
    with open(path, "ab") as closed:
        pass
    with open(path, "r+") as text:
        for bad, kind, words in (
            (directory, IsADirectoryError, "directory"),
            (read_only, OSError, "not open for writing"),
            (closed, ValueError, "closed"),
            (text, TypeError, "text file"),
            (io.BytesIO(), TypeError, "BytesIO"),
            (str(path), TypeError, "fileno"),
            (-1, OSError, "not open"),
            (2**31, OverflowError, "int"),
        ):
            with pytest.raises(kind, match=words):
                receive_file(source.end, bad, 4, drain=True)
    assert path.read_bytes() == b"kept"
    assert source.left() == b"body"


def test_connections_that_are_none(wires):
    """Listening, unconnected and datagram sockets, directories, wrong ends, text."""
    file = wires.file()
    _reader, writer = wires.pipe()
    directory = wires.ends.fd(os.open("/", os.O_RDONLY))
    with socket.socket() as unconnected, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for bad, kind, words in (
                (unconnected, OSError, "not connected"),
                (listening, OSError, r"accept\(\)"),
                (datagram, ValueError, "datagram"),
                (directory, IsADirectoryError, "directory"),
                (writer, OSError, "read end"),
                (io.StringIO(), TypeError, "text"),
                (None, TypeError, "fileno"),
            ):
                with pytest.raises(kind, match=words):
                    receive_file(bad, file, 4)
    assert content(file) == b""
