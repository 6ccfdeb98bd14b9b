"""An object's bytes are not always its descriptor's: one decision, asked by every function.

Rule 1: every function that takes an object is asked with every kind of object.
Rule 2: a refusal takes nothing, writes nothing, and says what to pass instead.
"""

# ruff: noqa: SIM115 - what the tables open is closed by the fixture, after the test

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import multiprocessing
import os
import socket
import socketserver
import tarfile
import tempfile
import threading
import urllib.response
import zipfile

import pytest

import spliceio
from spliceio import FileWrapper, Transfer, copyfileobj
from spliceio._http import file as _http_file
from spliceio._kernel import objects
from tests.support.cases import FULL, cases
from tests.support.states import Worker
from tests.support.streams import tls_context
from tests.support.wires import payload

DATA = payload(50_000)


# ---- every function that takes one --------------------------------------------------------------


def pooled(wires, a, b):
    with spliceio.RelayPool() as pool:
        pool.submit(a, b).result()


def filled(wires, bad):
    with spliceio.Pipe() as pipe:
        pipe.fill(bad, 10)


def drained(wires, bad):
    with spliceio.Pipe() as pipe:
        pipe.write(b"in the pipe")
        pipe.drain(bad, 10)


def pair(wires):
    return wires.sockets("unix")[0]


FROM = {
    "copy": lambda w, bad: spliceio.copy(bad, w.file()),
    "Transfer": lambda w, bad: Transfer(bad, w.file()).close(),
    "explain": lambda w, bad: spliceio.explain(bad, w.file()),
    "discard": lambda w, bad: spliceio.discard(bad),
    "chunks": lambda w, bad: spliceio.chunks(bad),
    "peek": lambda w, bad: spliceio.peek(bad),
    "fanout": lambda w, bad: spliceio.fanout(bad, [w.file()]),
    "send_file": lambda w, bad: spliceio.send_file(pair(w), bad),
    "send_ranges": lambda w, bad: spliceio.send_ranges(pair(w), bad, [(0, 1)]),
    "receive_file": lambda w, bad: spliceio.receive_file(bad, w.file()),
    "relay": lambda w, bad: spliceio.relay((bad, w.file()), pair(w)),
    "relay, b": lambda w, bad: spliceio.relay(pair(w), (bad, w.file())),
    "RelayPool": lambda w, bad: pooled(w, (bad, w.file()), pair(w)),
    "Pipe.fill": filled,
    "serve_file": lambda w, bad: _http_file.status_of_open(bad),
}
TO = {
    "copy": lambda w, bad: spliceio.copy(w.file(b"data"), bad),
    "Transfer": lambda w, bad: Transfer(w.file(b"data"), bad).close(),
    "explain": lambda w, bad: spliceio.explain(w.file(b"data"), bad),
    "send_file": lambda w, bad: spliceio.send_file(bad, w.file(b"data")),
    "send_ranges": lambda w, bad: spliceio.send_ranges(bad, w.file(b"data"), [(0, 1)]),
    "receive_file": lambda w, bad: spliceio.receive_file(w.source("unix", b"data").end, bad),
    "relay": lambda w, bad: spliceio.relay((w.file(b"data"), bad), pair(w)),
    "RelayPool": lambda w, bad: pooled(w, (w.file(b"data"), bad), pair(w)),
    "PageWriter": lambda w, bad: spliceio.PageWriter(bad),
    "Pipe.drain": drained,
}


def met_by_all(*few):
    """Keep the pairs in which one is of these; the full run has all: one place decides for all."""
    return None if FULL else lambda call, kind: call in few or kind in few


# ---- every kind of object -----------------------------------------------------------------------


def kept(wires, file):
    """Close an object after the test."""

    def close():
        with contextlib.suppress(OSError, ValueError):
            file.close()

    wires.ends.callback(close)
    return file


def stored(wires, data=DATA):
    path = wires.tmp_path / f"file-{len(list(wires.tmp_path.iterdir()))}"
    path.write_bytes(data)
    return path


def opened(wires, mode="r+b", data=DATA, **kwargs):
    return kept(wires, open(stored(wires, data), mode, **kwargs))


def secured(wires):
    """Make an SSLSocket that has not shaken hands, and whose peer is plain."""
    near, far = wires.sockets("unix")
    wires.peer = far
    context = tls_context(server=False)
    return wires.ends.sock(context.wrap_socket(near, do_handshake_on_connect=False))


class Around:
    """An object around a descriptor, that reads or writes by itself or not at all."""

    def __init__(self, file):
        self.file = file

    def fileno(self):
        return self.file.fileno()


class Reads(Around):
    def read(self, size=-1):
        return self.file.read(size).swapcase()


class ReadsInto(Around):
    def readinto(self, buffer):
        return self.file.readinto(buffer)


class Writes(Around):
    def __init__(self, file):
        super().__init__(file)
        self.pending = []

    def write(self, data):
        self.pending.append(bytes(data))
        return len(data)


class PassesOn:
    """What `__getattr__` makes of another object."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)


class AnotherMethod:
    """A read that is a method of the file, and not its read."""

    def __init__(self, file):
        self.fileno, self.read, self.write = file.fileno, file.readline, file.writelines


class TwoFiles:
    """A read and a write of another file than that of the number."""

    def __init__(self, one, other):
        self.fileno, self.read, self.write = one.fileno, other.read, other.write


class Tls(Around):
    """What pyOpenSSL and its kin are: the descriptor of the raw socket, and methods of TLS."""

    def recv(self, size):
        return b"plain"

    def send(self, data):
        return len(data)

    def do_handshake(self):
        pass


class OwnFile(io.FileIO):
    def read(self, size=-1):
        return super().read(size)

    def write(self, data):
        return super().write(data)


class OwnInto(io.FileIO):
    def readinto(self, buffer):
        return super().readinto(buffer)

    def write(self, data):
        return super().write(data)


class OwnReader(io.BufferedReader):
    def read(self, size=-1):
        return super().read(size)


class OwnWriter(io.BufferedWriter):
    def write(self, data):
        return super().write(data)


class Serial(io.RawIOBase):
    """As of pyserial: a raw file in Python."""

    def __init__(self, file):
        self.file = file

    def fileno(self):
        return self.file.fileno()

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def write(self, data):
        return self.file.write(data)


class OldTls(socket.socket):
    """A class of TLS that is not the one which `ssl` has now."""

    def getpeercert(self):
        return None


def patched(file, name):
    method = getattr(file, name)
    setattr(file, name, lambda *args: method(*args))
    return file


def raw_patched(file, name):
    patched(file.raw, name)
    return file


def tarred(wires):
    path = wires.tmp_path / "tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("member")
        member.size = len(DATA)
        archive.addfile(member, io.BytesIO(DATA))
    return kept(wires, kept(wires, tarfile.open(path)).extractfile("member"))


def zipped(wires):
    path = wires.tmp_path / "zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("member", DATA)
    return kept(wires, kept(wires, zipfile.ZipFile(path)).open("member"))


def compressed(wires):
    return kept(wires, gzip.open(stored(wires, gzip.compress(DATA))))


def handler_file(wires, sock):
    """The wfile of a handler, unbuffered."""
    return socketserver._SocketWriter(sock)


OWN = "pass .fileno"
OWN_READ = {
    "read": (lambda w: Reads(opened(w)), OWN),
    "readinto": (lambda w: ReadsInto(opened(w)), OWN),
    "gzip": (compressed, OWN),
    "all of gzip passed on": (lambda w: PassesOn(compressed(w)), OWN),
    "wrapper of gzip": (
        lambda w: kept(w, tempfile._TemporaryFileWrapper(compressed(w), "x", delete=False)),
        OWN,
    ),
    "response of gzip": (lambda w: urllib.response.addinfourl(compressed(w), {}, "url"), OWN),
    "another method of a file": (lambda w: AnotherMethod(opened(w)), OWN),
    "read of another file": (lambda w: TwoFiles(opened(w), opened(w)), OWN),
    "FileIO with a read": (lambda w: kept(w, OwnFile(stored(w))), OWN),
    "FileIO with a readinto": (lambda w: kept(w, OwnInto(stored(w))), OWN),
    "reader on such": (lambda w: kept(w, io.BufferedReader(OwnInto(stored(w)))), OWN),
    "BufferedReader with a read": (lambda w: kept(w, OwnReader(io.FileIO(stored(w)))), OWN),
    "patched": (lambda w: patched(opened(w, "rb"), "read"), OWN),
    "patched, raw": (lambda w: patched(opened(w, "rb", buffering=0), "readinto"), OWN),
    "reader on a patched": (lambda w: raw_patched(opened(w, "rb"), "readinto"), OWN),
    "patched wrapper": (
        lambda w: patched(kept(w, tempfile.NamedTemporaryFile(dir=w.tmp_path)), "read"),
        OWN,
    ),
    "raw file in Python": (lambda w: Serial(opened(w, buffering=0)), OWN),
    "reader on a raw file in Python": (
        lambda w: io.BufferedReader(Serial(opened(w, buffering=0))),
        OWN,
    ),
    "tarfile": (tarred, "tarfile"),
    "zipfile": (zipped, OWN),
    "Connection": (lambda w: kept(w, multiprocessing.Pipe()[0]), "messages"),
}
OWN_WRITE = {
    "write": (lambda w: Writes(opened(w)), OWN),
    "gzip": (lambda w: kept(w, gzip.open(stored(w), "wb")), OWN),
    "all of gzip passed on": (lambda w: PassesOn(kept(w, gzip.open(stored(w), "wb"))), OWN),
    "another method of a file": (lambda w: AnotherMethod(opened(w)), OWN),
    "write of another file": (lambda w: TwoFiles(opened(w), opened(w)), OWN),
    "FileIO with a write": (lambda w: kept(w, OwnFile(stored(w), "r+")), OWN),
    "writer on such": (lambda w: kept(w, io.BufferedWriter(OwnFile(stored(w), "r+"))), OWN),
    "BufferedWriter with a write": (
        lambda w: kept(w, OwnWriter(io.FileIO(stored(w), "r+"))),
        OWN,
    ),
    "patched": (lambda w: patched(opened(w, "wb"), "write"), OWN),
    "patched, raw": (lambda w: patched(opened(w, "wb", buffering=0), "write"), OWN),
    "raw file in Python": (lambda w: Serial(opened(w, buffering=0)), OWN),
    "Connection": (lambda w: kept(w, multiprocessing.Pipe()[1]), "messages"),
}
TLS_FILES = {
    "rb": (lambda w: kept(w, secured(w).makefile("rb")), "plaintext"),
    "rb, raw": (lambda w: kept(w, secured(w).makefile("rb", buffering=0)), "plaintext"),
    "passed on": (lambda w: PassesOn(secured(w)), "plaintext"),
    "file passed on": (lambda w: PassesOn(kept(w, secured(w).makefile("rb"))), "plaintext"),
    "by its methods": (lambda w: Tls(pair(w)), "plaintext"),
    "a class that ssl does not know": (lambda w: w.ends.sock(OldTls()), "plaintext"),
    "in a wrapper": (
        lambda w: tempfile._TemporaryFileWrapper(secured(w).makefile("rb"), "x", delete=False),
        "plaintext",
    ),
}
TLS_WRITERS = {
    "wb": (lambda w: kept(w, secured(w).makefile("wb")), "plaintext"),
    "wb, raw": (lambda w: kept(w, secured(w).makefile("wb", buffering=0)), "plaintext"),
    "wfile": (lambda w: handler_file(w, secured(w)), "plaintext"),
    **{name: TLS_FILES[name] for name in ("passed on", "by its methods")},
}


class Fileno:
    """An object whose `fileno` does what it is told."""

    def __init__(self, does):
        self.does = does

    def fileno(self):
        if isinstance(self.does, tuple):
            kind, *args = self.does
            raise kind(*args)
        return self.does


class NoAttribute:
    @property
    def fileno(self):
        raise NotImplementedError


NO_NUMBER = {
    repr(does): Fileno(does)
    for does in (
        (AttributeError, "none"),
        (NotImplementedError,),
        (io.UnsupportedOperation, "fileno"),
        (OSError, errno.EBADF, "none"),
        (RuntimeError, "none"),
        (TypeError, "none"),
        -1,
        None,
        "3",
        3.0,
        True,
    )
} | {"a property that raises": NoAttribute()}


@cases(
    call=FROM,
    kind=OWN_READ | TLS_FILES,
    keep=met_by_all("copy", "peek", "read", "rb"),
)
def test_what_reads_by_itself_is_no_source(wires, call, kind):
    """TypeError with the way out, and nothing is taken."""
    make, words = (OWN_READ | TLS_FILES)[kind]
    bad = make(wires)
    with pytest.raises(TypeError, match=words):
        FROM[call](wires, bad)
    if kind == "tarfile":
        assert bad.read() == DATA
    elif isinstance(bad, Around) and not isinstance(bad, Tls):
        assert bad.file.tell() == 0


@cases(
    call=TO,
    kind=OWN_WRITE | TLS_WRITERS,
    keep=met_by_all("copy", "PageWriter", "write", "wb"),
)
def test_what_writes_by_itself_is_no_destination(wires, call, kind):
    """TypeError with the way out, and nothing is written."""
    make, words = (OWN_WRITE | TLS_WRITERS)[kind]
    bad = make(wires)
    with pytest.raises(TypeError, match=words):
        TO[call](wires, bad)
    if kind in TLS_WRITERS and hasattr(wires, "peer"):
        wires.peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            wires.peer.recv(1)


@cases(
    call=[(side, call) for side, calls in (("src", FROM), ("dst", TO)) for call in calls],
    kind=NO_NUMBER,
    keep=met_by_all(("src", "copy"), ("dst", "relay"), "None", "a property that raises"),
)
def test_whatever_fileno_says_but_a_number(wires, call, kind):
    """TypeError: there is no descriptor."""
    side, call = call
    with pytest.raises(TypeError, match="descriptor"):
        (FROM if side == "src" else TO)[call](wires, NO_NUMBER[kind])


@pytest.mark.parametrize("kind", NO_NUMBER)
def test_a_side_or_a_sink_without_a_descriptor(wires, kind):
    """As a whole, and not as one of a pair."""
    bad = NO_NUMBER[kind]
    for call in (
        lambda: spliceio.relay(bad, pair(wires)),
        lambda: spliceio.relay(pair(wires), bad),
        lambda: pooled(wires, bad, pair(wires)),
        lambda: spliceio.fanout(wires.file(b"x"), [bad]),
    ):
        with pytest.raises(TypeError, match="descriptor"):
            call()


@pytest.mark.parametrize("kind", NO_NUMBER)
def test_the_raw_calls_ask_for_the_number_in_the_same_way(wires, kind):
    reader, writer = wires.pipe()
    os.write(writer, b"kept")
    for call in (
        lambda: spliceio.splice(reader, NO_NUMBER[kind], 1),
        lambda: spliceio.tee(NO_NUMBER[kind], writer, 1),
        lambda: spliceio.sendfile(writer, NO_NUMBER[kind], 0, 1),
        lambda: spliceio.vmsplice(NO_NUMBER[kind], b"x"),
    ):
        with pytest.raises(TypeError, match="descriptor"):
            call()
    assert os.read(reader, 10) == b"kept"


@pytest.mark.parametrize("kind", TLS_FILES | TLS_WRITERS)
def test_the_raw_calls_refuse_every_form_of_tls(wires, kind):
    bad, (reader, writer) = (TLS_FILES | TLS_WRITERS)[kind][0](wires), wires.pipe()
    os.write(writer, b"secret")
    for call in (
        lambda: spliceio.splice(reader, bad, 1),
        lambda: spliceio.splice(bad, writer, 1),
        lambda: spliceio.sendfile(bad, wires.file(b"secret"), 0, 6),
    ):
        with pytest.raises(TypeError, match="plaintext"):
            call()
    assert os.read(reader, 10) == b"secret"


def test_what_comes_through_fileno_from_elsewhere_goes_on(wires):
    """Ctrl-C, and what a signal handler raises, say nothing of the object."""

    class Stopped:
        def fileno(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spliceio.copy(Stopped(), wires.file())


# ---- what stays welcome -------------------------------------------------------------------------


class Metered(socket.socket):
    """A socket of one's own, as that of a proxy library."""

    def recv(self, *args):
        return super().recv(*args)

    def send(self, *args):
        return super().send(*args)


class Green:
    """As of gevent: no socket.socket, and without read() or write()."""

    def __init__(self, sock):
        self.sock = sock

    def fileno(self):
        return self.sock.fileno()

    def recv(self, size):
        raise AssertionError("the kernel was to do this")

    def send(self, data):
        raise AssertionError("the kernel was to do this")


class FilePlus(io.FileIO):
    """A subclass that adds, and overrides nothing."""

    def line(self):
        return self.readline()


class PassesFew(Around):
    """Of a file, what it needs."""

    def __init__(self, file):
        super().__init__(file)
        self.fileno, self.read, self.write = file.fileno, file.read, file.write


class Proxy:
    """As Django's File: methods that are those of the file."""

    read = property(lambda self: self.file.read)
    readinto = property(lambda self: self.file.readinto)
    write = property(lambda self: self.file.write)
    fileno = property(lambda self: self.file.fileno)

    def __init__(self, file):
        self.file = file


WELCOME = {
    "int": lambda w: opened(w).fileno(),
    "only fileno()": lambda w: Around(opened(w)),
    "FileIO": lambda w: opened(w, buffering=0),
    "BufferedRandom": opened,
    "subclass that adds": lambda w: kept(w, FilePlus(stored(w), "r+")),
    "all of a file passed on": lambda w: PassesOn(opened(w)),
    "properties of a file": lambda w: Proxy(opened(w)),
    "a few methods of a file": lambda w: PassesFew(opened(w)),
    "NamedTemporaryFile": lambda w: temporary(w, tempfile.NamedTemporaryFile),
    "SpooledTemporaryFile": lambda w: temporary(w, tempfile.SpooledTemporaryFile),
}
GREEN = {
    "socket": lambda sock: sock,
    "subclass": lambda sock: Metered(fileno=sock.detach()),
    "gevent": Green,
    "only fileno()": Around,
}


def temporary(wires, make):
    file = kept(wires, make(dir=wires.tmp_path))
    file.write(DATA)
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", WELCOME)
def test_what_has_the_bytes_of_its_descriptor(wires, kind):
    """As a source from where it is, and as a destination."""
    file = WELCOME[kind](wires)
    sink = wires.sink("file")
    if hasattr(file, "seek"):
        file.seek(10)
    else:
        os.lseek(file if isinstance(file, int) else file.fileno(), 10, os.SEEK_SET)
    assert spliceio.copy(file, sink.end).moved == len(DATA) - 10
    assert sink.received() == DATA[10:]
    assert spliceio.copy(wires.file(b"tail"), file).moved == 4
    number = file if isinstance(file, int) else file.fileno()
    assert os.pread(number, 10, len(DATA)) == b"tail"


@pytest.mark.parametrize("kind", GREEN)
def test_sockets_of_every_library(wires, kind):
    """Their own recv() and send() are not looked at, unless they are of TLS."""
    near, far = wires.sockets("unix")
    sock = GREEN[kind](near)
    if hasattr(sock, "close"):
        kept(wires, sock)
    spliceio.send_file(sock, wires.file(DATA[:1000]))
    assert far.recv(2000) == DATA[:1000]
    far.sendall(b"body")
    assert spliceio.receive_file(sock, wires.file(), 4).moved == 4


def test_the_wfile_of_a_handler_is_its_socket(wires):
    """As copyfileobj has it: unbuffered, and buffered with what it holds first."""
    near, far = wires.sockets("unix")
    spliceio.copy(wires.file(b"one"), handler_file(wires, near))
    buffered = kept(wires, near.makefile("wb"))
    buffered.write(b" two")
    spliceio.copy(wires.file(b" three"), buffered)
    assert far.recv(100) == b"one two three"
    with pytest.raises(TypeError, match="rfile"):
        spliceio.copy(handler_file(wires, near), wires.file())


def test_the_timeout_of_a_raw_file_of_a_socket(wires):
    """Is that of the socket, buffered or not."""
    near, _ = wires.sockets("unix")
    near.settimeout(0.01)
    for buffering in (0, -1):
        with near.makefile("rb", buffering=buffering) as file, pytest.raises(TimeoutError):
            spliceio.copy(file, wires.file())


@pytest.mark.parametrize(
    ("kind", "sends"),
    [(k, s) for k in ("socket", "makefile", "raw makefile") for s in (False, True)]
    + [("wfile", True)],
)
def test_the_kernel_may_do_the_encryption(wires, monkeypatch, kind, sends):
    """In one direction, and not the other: whoever asks for that one is taken."""
    tx, rx = 1, 2

    def getsockopt(sock, level, option, *size):
        if (level, option) == (282, tx if sends else rx):
            return b"\x04\x03\x33\0"
        raise OSError(errno.ENOPROTOOPT, "none")

    sock, _ = encrypted(wires)
    monkeypatch.setattr(type(sock), "getsockopt", getsockopt)
    file = {
        "socket": lambda: sock,
        "makefile": lambda: sock.makefile("wb" if sends else "rb"),
        "raw makefile": lambda: sock.makefile("wb" if sends else "rb", buffering=0),
        "wfile": lambda: handler_file(wires, sock),
    }[kind]()
    under = sock if kind in ("socket", "wfile") else file
    for asked in (False, True):
        if asked is sends:
            assert objects.resolve(kept(wires, file), asked) is under
        else:
            with pytest.raises(objects.Unreal):
                objects.resolve(file, asked)


# ---- through the object -------------------------------------------------------------------------


def encrypted(wires):
    """Make two ends of a TLS connection."""
    near, far = wires.sockets("unix")
    server = Worker(lambda: tls_context(server=True).wrap_socket(far, server_side=True))
    client = wires.ends.sock(tls_context(server=False).wrap_socket(near))
    return client, wires.ends.sock(server.result())


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_sink_over_tls_is_written_to(wires, buffering):
    """What it encrypts arrives; a TLS socket itself is refused."""
    client, server = encrypted(wires)
    received = Worker(lambda: copyfileobj(server, io.BytesIO()).moved)
    out = kept(wires, client.makefile("wb", buffering=buffering))
    result = spliceio.fanout(wires.file(DATA), [out, wires.file()])
    assert [sink.method for sink in result.sinks] == ["write", "splice"]
    out.flush()
    with pytest.raises(TypeError, match="plaintext"):
        spliceio.fanout(wires.file(DATA), [client])
    client.shutdown(socket.SHUT_WR)
    assert received.result() == len(DATA)


def test_a_sink_that_writes_by_itself_is_called(wires):
    """Its descriptor is left alone, and so are the pending bytes of a wrapper that buffers."""
    for make in (Writes, lambda file: PassesOn(Writes(file))):
        file = opened(wires, data=b"")
        sink = make(file)
        result = spliceio.fanout(wires.file(DATA), [sink])
        assert result.sinks[0].method == "write"
        pending = sink.pending if isinstance(sink, Writes) else sink.file.pending
        assert b"".join(pending) == DATA
        assert os.fstat(file.fileno()).st_size == 0


def test_a_sink_of_the_memory_stays_there(wires):
    """A SpooledTemporaryFile is called until it is on disk."""
    with tempfile.SpooledTemporaryFile() as spool:
        assert spliceio.fanout(wires.file(DATA), [spool]).sinks[0].method == "write"
        assert not spool._rolled
        spool.rollover()
        assert spliceio.fanout(wires.file(DATA), [spool]).sinks[0].method == "splice"
        spool.seek(0)
        assert spool.read() == 2 * DATA


def served(wires, file, **options):
    """Send by a FileWrapper; return what arrived, and the result."""
    near, far = wires.sockets("unix")
    received = Worker(lambda: b"".join(iter(lambda: far.recv(1 << 16), b"")))
    result = FileWrapper(file).send(near, **options)
    near.shutdown(socket.SHUT_WR)
    return received.result(), result


@pytest.mark.parametrize("count", [None, 4])
@pytest.mark.parametrize(
    "kind", [kind for kind in OWN_READ if kind not in ("readinto", "Connection")]
)
def test_a_file_wrapper_sends_what_iterating_gives(wires, kind, count):
    """Exactly as many bytes as were promised."""
    make, _ = OWN_READ[kind]
    wanted = b"".join(FileWrapper(make(wires)))
    got, result = served(wires, make(wires), header=b"HEAD", count=count)
    assert got == b"HEAD" + wanted[:count]
    assert result.method == ("python" if wanted else "none") or not wanted


def test_a_read_that_gives_too_much_sends_no_more_than_promised(wires):
    class Generous:
        def read(self, size):
            return b"0123456789"

    assert served(wires, Generous(), count=14)[0] == b"01234567890123"


@pytest.mark.parametrize("kind", ["makefile", "raw makefile", "wfile", "by its methods"])
def test_a_file_wrapper_goes_through_a_destination_of_its_own(wires, kind):
    """A file over TLS is written to; so is what can only send."""
    client, server = encrypted(wires)

    class Sends(Tls):
        def sendall(self, data):
            client.sendall(data)

    out = {
        "makefile": lambda: client.makefile("wb"),
        "raw makefile": lambda: client.makefile("wb", buffering=0),
        "wfile": lambda: handler_file(wires, client),
        "by its methods": lambda: Sends(pair(wires)),
    }[kind]()
    received = Worker(lambda: copyfileobj(server, io.BytesIO()).moved)
    with open(stored(wires), "rb") as file:
        result = FileWrapper(file).send(out, header=b"HEAD")
        assert file.tell() == len(DATA)
    client.shutdown(socket.SHUT_WR)
    assert (result.moved, received.result()) == (len(DATA) + 4, len(DATA) + 4)
    assert "plaintext" in result.fallbacks[0].why


def unreadable(wires):
    return opened(wires, "wb")


def closed(wires):
    file = opened(wires, "rb", buffering=0)
    os.close(file.fileno())
    return file


class Taking(io.RawIOBase):
    """A raw file that takes a few bytes, and then what it is told to say."""

    def __init__(self, says):
        self.says, self.taken = says, b""

    def writable(self):
        return True

    def write(self, data):
        if len(self.taken) < 10:
            self.taken += bytes(data[:4])
            return 4
        return self.says


@pytest.mark.parametrize(("says", "kind"), [(None, BlockingIOError), (0, OSError), (99, OSError)])
def test_a_destination_that_does_not_take_all(wires, says, kind):
    """A part is gone on with; nothing is counted that was not taken."""
    out = Taking(says)
    with pytest.raises(kind, match=r"sock\.write"):
        FileWrapper(io.BytesIO(b"a body of some length")).send(out)
    assert out.taken == b"a body of so"


class Folder:
    """A directory with a number."""

    def __init__(self, wires):
        self.fd = wires.ends.fd(os.open("/", os.O_RDONLY))

    def fileno(self):
        return self.fd


@pytest.mark.parametrize(
    ("make", "err"),
    [
        (unreadable, errno.EBADF),
        (lambda w: Around(closed(w)), errno.EBADF),
        (Folder, errno.EISDIR),
    ],
    ids=["write-only", "closed", "directory"],
)
def test_an_early_error_of_a_file_wrapper_is_told(wires, make, err):
    """As itself, before the header has left."""
    near, far = wires.sockets("unix")
    with pytest.raises(OSError, match=r"FileWrapper\.send: src") as caught:
        FileWrapper(make(wires)).send(near, header=b"HEAD")
    assert caught.value.errno == err
    near.close()
    assert far.recv(10) == b""


def test_a_pipe_takes_no_more_than_the_descriptor_has_alone(wires):
    """Pipe.fill and drain know of what Python has buffered, or refuse."""
    with spliceio.Pipe() as pipe:
        with open(stored(wires), "r+b") as file:
            first = file.read(10)
            assert pipe.fill(file, 20) == 20
            assert file.tell() == 30
            assert first + pipe.read(20) == DATA[:30]
            file.seek(0)
            file.write(b"before ")
            pipe.write(b"after")
            assert pipe.drain(file, 5) == 5
            assert file.tell() == 12
            assert os.pread(file.fileno(), 12, 0) == b"before after"
        reader, writer = wires.pipe()
        os.write(writer, b"one two")
        with open(reader, "rb", closefd=False) as file:
            assert file.read(4) == b"one "
            with pytest.raises(ValueError, match="read ahead"):
                pipe.fill(file, 3)
            assert file.read(3) == b"two"


# ---- the decision itself ------------------------------------------------------------------------


def test_known_types_are_told_by_the_table_alone(wires):
    """Of an unknown object nothing is looked at."""
    asked = []

    class Watched:
        def __getattribute__(self, name):
            asked.append(name)
            return object.__getattribute__(self, name)

        def fileno(self):
            raise AssertionError("nobody asked")

    for sends in (False, True):
        with pytest.raises(objects.Unreal):
            objects.resolve(Watched(), sends, known=True)
    assert asked == []


@pytest.mark.parametrize("make", [lambda w: opened(w), lambda w: pair(w), lambda w: 3])
def test_types_are_in_the_table_once_they_came_by(wires, make):
    """The next of that type is looked up and no more."""
    file = make(wires)
    assert objects.resolve(file, False) is file
    assert type(file) in objects._resolvers


def test_threads_that_copy_from_one_reader_do_not_refuse_it(wires):
    """What one puts into the object to look at it is no method of the caller's."""
    reader, writer = wires.pipe()
    os.write(writer, b"x" * 100)
    with open(reader, "rb", closefd=False) as file:
        file.read(1)
        errors = []

        def look():
            try:
                for _ in range(200):
                    spliceio.peek(file, 10)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


@pytest.mark.parametrize(
    "name", ["copy", "discard", "chunks", "peek", "explain", "fanout", "send_file", "receive_file"]
)
def test_the_refusal_names_the_call(name, wires):
    """And no other one that does the work."""
    with pytest.raises(TypeError, match=f"^{name}: "):
        FROM[name](wires, io.BytesIO(DATA))
