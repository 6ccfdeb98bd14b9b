"""What copy and its kin refuse, with which exception, and with words that help.

Rule 1: a refusal takes nothing, writes nothing and leaks nothing.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import http.client
import io
import lzma
import os
import socket
import ssl
import zipfile

import pytest

import spliceio
from spliceio import Transfer
from tests.support.states import Worker

CALLS = {
    "copy": lambda src, dst: spliceio.copy(src, dst),
    "Transfer": lambda src, dst: Transfer(src, dst).close(),
    "explain": lambda src, dst: spliceio.explain(src, dst),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
sides = pytest.mark.parametrize("side", ["src", "dst"])


@pytest.fixture
def other(wires):
    """A good descriptor for the other side."""
    return wires.file(b"good")


def refused(call, side, bad, other, kind, words):
    with pytest.raises(kind, match=words) as caught:
        call(bad, other) if side == "src" else call(other, bad)
    assert side in str(caught.value)
    assert os.lseek(other, 0, os.SEEK_CUR) == 0
    assert os.fstat(other).st_size == 4
    return caught.value


@calls
@sides
def test_text_files(tmp_path, other, call, side):
    """TypeError: pass .buffer."""
    with open(tmp_path / "text", "w+") as file:
        refused(call, side, file, other, TypeError, r"text file.*\.buffer")


@calls
@sides
@pytest.mark.parametrize("module", [gzip, bz2, lzma], ids=lambda m: m.__name__)
def test_compressed_files(tmp_path, other, call, side, module):
    """TypeError: the descriptor's bytes are not the object's."""
    path = tmp_path / "packed"
    with module.open(path, "wb") as file:
        file.write(b"x" * 100)
    with module.open(path, "rb" if side == "src" else "ab") as file:
        refused(call, side, file, other, TypeError, "compressed.*shutil.copyfileobj")


@calls
def test_a_member_of_a_zip_file(tmp_path, other, call):
    """TypeError, too."""
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("name", b"content")
        with archive.open("name") as member, pytest.raises(TypeError, match="ZipExtFile"):
            call(member, other)


@calls
@sides
def test_memory(other, call, side):
    """BytesIO has no descriptor."""
    refused(call, side, io.BytesIO(b"abc"), other, TypeError, "BytesIO.*copyfileobj")


@calls
@sides
def test_text_in_memory(other, call, side):
    """StringIO is text."""
    refused(call, side, io.StringIO("abc"), other, TypeError, "text")


@calls
@sides
@pytest.mark.parametrize("bad", [None, "path", b"path", 3.5, object, [], 1j], ids=repr)
def test_what_has_no_descriptor(other, call, side, bad):
    """TypeError naming the side."""
    refused(call, side, bad, other, TypeError, "fileno")


@calls
def test_an_http_response(other, call):
    """Its body may be chunked: TypeError."""

    class Canned:
        def makefile(self, mode):
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")

    response = http.client.HTTPResponse(Canned())
    response.begin()
    with pytest.raises(TypeError, match="HTTPResponse"):
        call(response, other)
    response.close()


@calls
@sides
def test_tls_without_kernel_tls(wires, other, call, side):
    """TypeError, before any plaintext could be on the wire."""
    near, far = wires.sockets("tcp4")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(near, do_handshake_on_connect=False) as wrapped:
        error = refused(call, side, wrapped, other, TypeError, "plaintext")
        assert "SSLSocket" in str(error)
    far.setblocking(False)
    assert far.recv(100) == b""


def test_raw_calls_refuse_tls_as_well(wires):
    """Splice and sendfile take objects with fileno(), and an SSLSocket has one."""
    near, _ = wires.sockets("tcp4")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = wires.pipe()
    os.write(writer, b"secret")
    with context.wrap_socket(near, do_handshake_on_connect=False) as wrapped:
        for call in (
            lambda: spliceio.splice(reader, wrapped, 6),
            lambda: spliceio.splice(wrapped, writer, 6),
            lambda: spliceio.sendfile(wrapped, wires.file(b"secret"), 0, 6),
        ):
            with pytest.raises(TypeError, match="plaintext"):
                call()
    assert os.read(reader, 10) == b"secret"


@calls
@sides
@pytest.mark.parametrize(
    ("family", "kind", "words"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, "IPv4 datagram"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "IPv6 datagram"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "unix datagram"),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, "unix seqpacket"),
    ],
    ids=["udp", "udp6", "unix", "seqpacket"],
)
def test_sockets_with_messages(other, call, side, family, kind, words):
    """ValueError: a byte stream would cut or join them."""
    with socket.socket(family, kind) as sock:
        refused(call, side, sock, other, ValueError, words)


@calls
@sides
def test_a_listening_socket(other, call, side):
    """OSError: pass the one that accept() returns."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        error = refused(call, side, sock, other, OSError, r"accept\(\)")
        assert error.errno == errno.ENOTCONN


@sides
def test_an_unconnected_socket(other, side):
    """OSError that says so. A reset one looks alike, so only the call itself can tell."""
    with socket.socket() as sock:
        error = refused(spliceio.copy, side, sock, other, OSError, "not connected")
        assert error.errno in (errno.ENOTCONN, errno.EPIPE)


@calls
@sides
def test_a_directory(wires, other, call, side):
    """IsADirectoryError."""
    fd = wires.ends.fd(os.open("/", os.O_RDONLY))
    refused(call, side, fd, other, IsADirectoryError, "directory")


@calls
@sides
def test_o_path(wires, other, call, side):
    """OSError: it gives no access to bytes."""
    fd = wires.ends.fd(os.open("/", os.O_PATH))
    error = refused(call, side, fd, other, OSError, "O_PATH")
    assert error.errno == errno.EBADF


@calls
@sides
@pytest.mark.parametrize("bad", [-1, -(2**31), 999_999])
def test_closed_and_negative_descriptors(other, call, side, bad):
    """OSError EBADF."""
    error = refused(call, side, bad, other, OSError, "not open")
    assert error.errno == errno.EBADF


@calls
@sides
@pytest.mark.parametrize("bad", [2**31, -(2**31) - 1, 2**64])
def test_numbers_that_no_descriptor_has(other, call, side, bad):
    """OverflowError, as everywhere in the standard library."""
    with pytest.raises(OverflowError):
        call(bad, other) if side == "src" else call(other, bad)


@calls
@sides
def test_the_wrong_end_of_a_pipe(wires, other, call, side):
    """OSError naming the end that is meant."""
    reader, writer = wires.pipe()
    bad, words = (writer, "pass the read end") if side == "src" else (reader, "pass the write end")
    error = refused(call, side, bad, other, OSError, words)
    assert error.errno == errno.EBADF


@calls
@sides
def test_a_file_open_the_other_way(wires, other, call, side, tmp_path):
    """OSError: not open for reading, or writing."""
    (tmp_path / "f").write_bytes(b"abc")
    flags = os.O_WRONLY if side == "src" else os.O_RDONLY
    fd = wires.ends.fd(os.open(tmp_path / "f", flags))
    words = "not open for reading" if side == "src" else "not open for writing"
    assert refused(call, side, fd, other, OSError, words).errno == errno.EBADF


@pytest.mark.parametrize("method", ["auto", "splice", "read_write"])
def test_both_ends_of_the_same_pipe(wires, method):
    """Refused with words, before a byte goes round in circles."""
    reader, writer = wires.pipe()
    os.write(writer, b"round")
    with pytest.raises((OSError, ValueError), match="same pipe"):
        spliceio.copy(reader, writer, 5, method=method, timeout=1)
    assert os.read(reader, 10) == b"round"


@pytest.mark.parametrize(
    ("count", "offset_src", "offset_dst"),
    [(None, 0, 0), (None, None, None), (10, 0, 5), (10, 5, 0), (1, 3, 3), (None, 0, 100)],
)
def test_a_file_onto_itself(wires, count, offset_src, offset_dst):
    """ValueError when the ranges overlap."""
    fd = wires.file(b"x" * 50)
    again = wires.ends.fd(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
    for dst in (fd, again):
        with pytest.raises(ValueError, match="overlap"):
            spliceio.copy(fd, dst, count, offset_src=offset_src, offset_dst=offset_dst)
    assert os.fstat(fd).st_size == 50


def test_a_file_onto_its_own_end(wires):
    """O_APPEND of itself would never end."""
    fd = wires.file(b"x" * 50)
    again = wires.ends.fd(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND))
    with pytest.raises(ValueError, match="overlap"):
        spliceio.copy(fd, again)
    assert os.fstat(fd).st_size == 50


@pytest.mark.parametrize("method", ["auto", "read_write", "splice", "copy_file_range"])
def test_ranges_of_one_file_that_lie_apart(wires, method):
    """Are copied."""
    fd = wires.file(b"0123456789" * 5)
    assert spliceio.copy(fd, fd, 10, offset_src=0, offset_dst=40, method=method).moved == 10
    assert spliceio.copy(fd, fd, 0, offset_src=0, offset_dst=0, method=method).moved == 0
    assert os.pread(fd, 100, 0) == b"0123456789" * 5


# ---- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, -(2**63), -(2**70)])
def test_negative_counts(wires, count):
    """ValueError, from all that take one."""
    src, dst = wires.file(b"abc"), wires.file()
    for call in (
        lambda: spliceio.copy(src, dst, count),
        lambda: spliceio.discard(src, count),
        lambda: list(spliceio.chunks(src, count=count)),
    ):
        with pytest.raises(ValueError, match="negative"):
            call()
    assert os.lseek(src, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("count", ["3", 3.0, b"3", [3]])
def test_counts_that_are_no_numbers(wires, count):
    """TypeError."""
    src, dst = wires.file(b"abc"), wires.file()
    for call in (
        lambda: spliceio.copy(src, dst, count),
        lambda: spliceio.discard(src, count),
        lambda: list(spliceio.chunks(src, count=count)),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("size", [0, -1, -(2**63)])
def test_chunks_of_no_size(wires, size):
    """ValueError at once, and not at the first next()."""
    with pytest.raises(ValueError, match="size"):
        spliceio.chunks(wires.file(b"abc"), size)


@pytest.mark.parametrize("src", ["pipe", "unix", "tcp4", "tty"])
@sides
def test_an_offset_where_there_are_no_positions(wires, src, side):
    """OSError ESPIPE, and nothing is taken."""
    if side == "src":
        source = wires.source(src, b"abc")
        ends, option = (source.end, wires.file()), {"offset_src": 0}
    else:
        source = wires.source("unix", b"abc")
        ends, option = (source.end, wires.sink(src).end), {"offset_dst": 0}
    with pytest.raises(OSError, match=r"seekable|no positions") as caught:
        spliceio.copy(*ends, 3, **option)
    assert caught.value.errno == errno.ESPIPE
    assert source.left() == b"abc"


@pytest.mark.parametrize("name", ["offset_src", "offset_dst"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [(-1, ValueError), (-(2**70), ValueError), (2**63, OverflowError), ("0", TypeError)],
)
def test_offsets_that_are_none(wires, name, value, kind):
    """Negative, beyond 64 bits, or no number."""
    with pytest.raises(kind):
        spliceio.copy(wires.file(b"abc"), wires.file(), **{name: value})


@pytest.mark.parametrize("method", ["", "zero-copy", "AUTO", None, 3])
def test_unknown_methods(wires, method):
    """ValueError that lists those there are."""
    with pytest.raises(ValueError, match="read_write"):
        spliceio.copy(wires.file(b"abc"), wires.file(), method=method)


def test_sendfile_with_an_offset_in_the_destination(wires):
    """It writes at the position only; auto takes another method."""
    src, dst = wires.file(b"abc"), wires.file(b"0123456789")
    with pytest.raises(ValueError, match="offset_dst"):
        spliceio.copy(src, dst, offset_dst=5, method="sendfile")
    result = spliceio.copy(src, dst, offset_dst=5)
    assert "sendfile" not in result.by_method
    assert os.pread(dst, 20, 0) == b"01234abc89"


def test_discard_and_chunks_refuse_what_copy_refuses(wires, tmp_path):
    """Text, memory, datagrams, directories, wrong ends."""
    _reader, writer = wires.pipe()
    directory = wires.ends.fd(os.open("/", os.O_RDONLY))
    with socket.socket(type=socket.SOCK_DGRAM) as udp, open(tmp_path / "t", "w+") as text:
        for bad, kind in (
            (text, TypeError),
            (io.BytesIO(), TypeError),
            (udp, ValueError),
            (directory, OSError),
            (writer, OSError),
            (-1, OSError),
        ):
            with pytest.raises(kind):
                spliceio.discard(bad)
            with pytest.raises(kind):
                list(spliceio.chunks(bad))


def test_a_refusal_in_another_thread_leaks_nothing(wires):
    """The leak guard counts after it."""
    src = wires.file(b"abc")
    for _ in range(50):
        worker = Worker(lambda: spliceio.copy(src, -1))
        with pytest.raises(OSError, match="not open"):
            worker.result()
