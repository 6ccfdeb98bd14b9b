"""Probes of the kernel and sandbox: what each system call really does here.

Each probe makes its own small descriptors, uses one call, and looks at the bytes: a call may work,
work by copying, be blocked, or be missing. Nothing is probed at import, nothing is cached, and
nothing that belongs to the caller is touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._public import public
from . import owned as _owned
from . import syscalls, tls
from .pipe import Pipe
from .vmsplice import vmsplice

if TYPE_CHECKING:
    from socket import socket

__all__ = ["Features", "Probe", "features"]

_PAGE = 4096
_IPPROTO_TCP = 6
_PATIENCE = 5
"""Seconds; on loopback it takes none."""
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


@public
@dataclass(frozen=True)
class Probe:
    """What one call did.

    `status` is "works", "copies" (it works, and the bytes are copied where they need not be),
    "blocked" (the kernel has it and does not allow it), "missing" or "untried" (what it is tried
    with could not be had: a descriptor, memory, a pipe); `errno` is 0 or the kernel's answer,
    `note` a sentence on what was tried.
    """

    status: str
    errno: int
    note: str

    def __str__(self) -> str:
        if self.errno:
            return f"{self.status} ({errno.errorcode.get(self.errno, self.errno)})"
        return self.status


@public
@dataclass(frozen=True)
class Features:
    """What the kernel does: one Probe a call, and the limits of pipes in bytes.

    `pipe` says whether a pipe can be made at all (pipe2); if not, the sizes of one are 0.
    `pipe_granted` is what a pipe got that asked for 1 MiB just now: less than that means a low
    `pipe_max_size`, or a user who has used up `pipe_quota_pages` (0: no quota). `str()` is a table.
    """

    kernel: str
    pipe: Probe
    splice: Probe
    tee: Probe
    vmsplice: Probe
    sendfile: Probe
    copy_file_range: Probe
    kernel_tls: Probe
    pipe_default: int
    pipe_granted: int
    pipe_max_size: int
    pipe_quota_pages: int

    def __str__(self) -> str:
        names = ("splice", "tee", "vmsplice", "sendfile", "copy_file_range", "kernel_tls")
        rows = [(name, str(getattr(self, name)), getattr(self, name).note) for name in names]
        quota = f"{self.pipe_quota_pages} pages a user" if self.pipe_quota_pages else "none"
        if self.pipe_default:
            rows += [
                ("pipe", _size(self.pipe_default), "the default capacity"),
                ("", _size(self.pipe_granted), "granted when 1 MiB was asked for"),
            ]
        else:
            rows.append(("pipe", str(self.pipe), self.pipe.note))
        rows += [
            ("", _size(self.pipe_max_size), "pipe-max-size, the most without privilege"),
            ("", quota, "pipe-user-pages-soft, beyond which pipes are small"),
        ]
        first = max(len(row[0]) for row in rows)
        second = max(len(row[1]) for row in rows)
        lines = [f"{a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in rows]
        return "\n".join([f"Linux {self.kernel}", *lines])


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or count % 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[int]:
    """Give a small file in memory, or on disk where there is no memfd."""
    owned = _owned.owner()
    if lib.sio_owned_memfd(owned, b"spliceio-probe", os.MFD_CLOEXEC):
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.fileno()
        return
    try:
        os.write(owned.fd, content)
        yield int(owned.fd)
    finally:
        _owned.close(owned)


def _probe(try_it: Callable[[], tuple[bool, str]]) -> Probe:
    try:
        zero_copy, note = try_it()
    except OSError as error:
        status = "missing" if error.errno == errno.ENOSYS else "blocked"
        if error.errno in _SHORTAGES:
            status = "untried"
        return Probe(status, error.errno or 0, error.strerror or "")
    return Probe("works" if zero_copy else "copies", 0, note)


def _with_pipes(pipe: Probe, try_it: Callable[[], tuple[bool, str]]) -> Probe:
    if pipe.errno:
        return Probe("untried", pipe.errno, "there is no pipe to try it with")
    return _probe(try_it)


def _pipe(sizes: list[int]) -> tuple[bool, str]:
    with Pipe() as pipe:
        default = pipe.capacity
        pipe.capacity = 1 << 20
        sizes += [default, pipe.capacity]
    return True, "pipes can be made"


def _splice() -> tuple[bool, str]:
    with _file(b"a" * _PAGE) as file, Pipe() as pipe:
        pipe.fill(file, _PAGE, offset=0)
        os.pwrite(file, b"b", 0)
        aliased = pipe.read(1) == b"b"
    how = "by reference: an edit of the file shows in the pipe" if aliased else "by copying"
    return aliased, f"file to pipe {how}"


def _tee() -> tuple[bool, str]:
    with Pipe() as one, Pipe() as two:
        one.write(b"x")
        one.tee(two, 1)
        kept = one.read(1) == two.read(1) == b"x"
    return kept, "pipe to pipe, and the source keeps its bytes"


def _vmsplice() -> tuple[bool, str]:
    with Pipe() as pipe:
        page = bytearray(b"a" * 2 * _PAGE)
        vmsplice(pipe.writer, page)
        page[:] = b"b" * len(page)
        aliased = pipe.read(1) == b"b"
    how = "by reference: a later change shows in the pipe" if aliased else "by copying"
    return aliased, f"memory to pipe {how}"


def _sendfile() -> tuple[bool, str]:
    with _file(b"a" * _PAGE) as file, Pipe() as pipe:
        syscalls.sendfile(pipe.writer, file, 0, _PAGE)
        os.pwrite(file, b"b", 0)
        aliased = pipe.read(1) == b"b"
    return aliased, f"file to pipe {'by reference' if aliased else 'by copying'}"


def _copy_file_range() -> tuple[bool, str]:
    with _file(b"a" * _PAGE) as src, _file(b"") as dst:
        zero = ffi.new("int64_t *", 0)
        n = lib.sio_copy_file_range(ffi.NULL, src, zero, dst, zero, _PAGE)
        if n < 0:
            raise OSError(-n, "between two files of the same filesystem")
    return n == _PAGE, "file to file inside the kernel"


def _kernel_tls() -> Probe:
    if err := tls.is_attachable():
        if err == errno.ENOENT:
            return Probe("missing", err, "no tls module, or it may not be loaded: modprobe tls")
        status = "untried" if err in _SHORTAGES else "blocked"
        return Probe(status, err, os.strerror(err))
    with contextlib.ExitStack() as stack:
        try:
            near, far = _connection(stack)
        except OSError as error:
            return Probe("untried", error.errno or 0, "there is no TCP connection to try it with")
        return _probe(lambda: _encrypted(near, far))


def _connection(stack: contextlib.ExitStack) -> tuple[socket, socket]:
    """Connect this process with itself."""
    from socket import create_connection, create_server

    listener = stack.enter_context(create_server(("127.0.0.1", 0), backlog=1))
    listener.settimeout(_PATIENCE)
    far = stack.enter_context(create_connection(listener.getsockname(), _PATIENCE))
    near = stack.enter_context(listener.accept()[0])
    if near.getpeername() != far.getsockname():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "somebody else has connected")
    return near, far


def _encrypted(near: socket, far: socket) -> tuple[bool, str]:
    """Send a file to a connection with a key of its own, and look at what arrives."""
    plain = os.urandom(64) * (_PAGE // 64)
    key = struct.pack("=HH", 0x0303, 51) + os.urandom(28) + bytes(8)  # TLS 1.2, AES-128-GCM
    near.setsockopt(_IPPROTO_TCP, tls.TCP_ULP, b"tls")
    near.setsockopt(tls.SOL_TLS, tls.TLS_TX, key)
    with _file(plain) as file:
        syscalls.sendfile(near.fileno(), file, 0, _PAGE)
    wire = far.recv(2 * _PAGE)
    if not wire.startswith(b"\x17\x03\x03") or plain[:16] in wire:
        raise OSError(errno.EPROTO, "what arrives is no TLS record")
    return True, "file to connection, encrypted on the way"


def _setting(name: str) -> int:
    try:
        with open(f"/proc/sys/fs/{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


@public
def features() -> Features:
    """Probe the kernel and sandbox now; return what each call does here.

    Takes a few dozen system calls and leaves nothing behind. It raises nothing: what does not work
    is in the result, also that no pipe can be made, or that no descriptor is left to try with.
    """
    sizes: list[int] = []
    pipe = _probe(lambda: _pipe(sizes))
    default, granted = sizes or (0, 0)
    return Features(
        kernel=platform.release(),
        pipe=pipe,
        splice=_with_pipes(pipe, _splice),
        tee=_with_pipes(pipe, _tee),
        vmsplice=_with_pipes(pipe, _vmsplice),
        sendfile=_with_pipes(pipe, _sendfile),
        copy_file_range=_probe(_copy_file_range),
        kernel_tls=_kernel_tls(),
        pipe_default=default,
        pipe_granted=granted,
        pipe_max_size=_setting("pipe-max-size"),
        pipe_quota_pages=_setting("pipe-user-pages-soft"),
    )
