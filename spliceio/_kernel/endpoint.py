"""Endpoints of a transfer: a Python object as a source or destination of bytes.

An `Endpoint` has the descriptor to duplicate, what the kernel says of it, the bytes that a Python
object has read ahead, and where its position has to be put back to. Objects whose bytes differ
from those of their descriptor are refused by `objects`.

"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._cffi import lib
from . import ahead, errors, objects, owned, tls
from .arguments import FileDescriptorLike, Window
from .fdinfo import FdInfo, fd_info
from .number import number

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = [
    "Endpoint",
    "destination",
    "failure",
    "info_of",
    "inspect",
    "other_way",
    "raw_destination",
    "raw_source",
    "source",
]

_PTMX = os.makedev(5, 2)


class Endpoint:
    """The source or destination of a transfer, as the caller gave it."""

    __slots__ = (
        "_buffer",
        "_info",
        "_number",
        "_resync",
        "fd",
        "given",
        "name",
        "offset",
        "owned",
        "tls",
        "window",
    )

    def __init__(self, given: object, fd: int, name: str) -> None:
        self._set(given, fd, name)
        self._info: FdInfo | None = fd_info(fd)
        self.offset: int | None = None
        # (offset, length) of the part that may be read; None: all of it, from its position on.
        self.window = (given.offset, len(given)) if isinstance(given, Window) else None
        self.owned: struct_sio_owned_ptr | None = None
        # The SSLSocket that this is, or is a file of: the kernel has the key of this direction.
        self.tls = None if isinstance(given, int) else tls.under(given)

    def _set(self, given: object, fd: int, name: str) -> None:
        self.given = given
        self.fd = self._number = fd
        self.name = name
        self._buffer: io.BufferedReader | None = None
        self._resync: Any = None

    @classmethod
    def known(
        cls, given: object, fd: int, name: str, resync: Callable[[int], object] | None
    ) -> Endpoint:
        """Return the end of a transfer that C has made: `fd` is its own duplicate.

        Its bytes are its descriptor's, and it is looked at when somebody asks what it is. `resync`
        puts the position of a buffered object where it is after so many bytes.
        """
        end = cls.__new__(cls)
        end._set(given, fd, name)
        end._resync = resync
        end._info = end.offset = end.window = end.owned = end.tls = None
        return end

    @property
    def info(self) -> FdInfo:
        """What the kernel says of the descriptor."""
        if self._info is None:
            self._info = fd_info(self.fd)
        return self._info

    @info.setter
    def info(self, info: FdInfo) -> None:
        self._info = info

    @property
    def text(self) -> str:
        return self.info.text

    @property
    def timeout(self) -> float | None:
        """The timeout set by `settimeout()`, if this is a socket object with one."""
        sock: Any = self.given
        if isinstance(sock, io.BufferedReader | io.BufferedWriter):
            sock = sock.raw
        if isinstance(sock, socket.SocketIO):
            sock = sock._sock  # type: ignore[attr-defined]  # of makefile()
        return (sock.gettimeout() or None) if isinstance(sock, socket.socket) else None

    def peek_ahead(self, call: str) -> bytes:
        """Return the bytes that the Python object has read and the caller has not.

        Raises ValueError for what OpenSSL has decrypted, which cannot be looked at.
        """
        if self.tls is not None and tls.pending(self.tls):
            raise ValueError(
                f"{call}: {self.name} holds {tls.pending(self.tls)} bytes that OpenSSL has "
                "decrypted, and they come first; recv() them, or use copy()"
            )
        return b"" if self._buffer is None else ahead.peek_buffer(self._buffer)

    def take_ahead(self, most: int | None) -> bytes:
        """Take up to `most` bytes that the Python object has read and the caller has not.

        Only once nothing else can fail: from then on they are nowhere else.
        """
        taken = b"" if self._buffer is None else ahead.take_buffer(self._buffer, most)
        if self.tls is None:
            return taken
        return taken + tls.take_pending(self.tls, None if most is None else most - len(taken))

    def check_not_closed(self, call: str) -> None:
        """Raise ValueError if another thread has closed the object since it was opened here.

        To be asked once the descriptor has been duplicated: as long as the object has not given up
        its number, what was duplicated is its own.
        """
        if self.given is None or isinstance(self.given, int):
            return
        try:
            now = number(self.given, self.name)
        except (TypeError, ValueError):
            now = -1
        if now != self._number:
            raise ValueError(f"{call}: {self.name} was closed by another thread as the call began")

    def duplicate(self, owner: struct_sio_owned_ptr, call: str) -> int:
        """Duplicate the descriptor into `owner`; raises if its number is another file's by now."""
        fd = owned.duplicate(owner, self.fd)
        try:
            if not fd_info(fd).same_file(self.info):
                raise errors.closed_meanwhile(call, self.name)
            self.check_not_closed(call)
        except BaseException:
            owned.close(owner)
            raise
        return fd

    def start_at(self, offset: int) -> None:
        """Read from an offset instead of the position, which then stays where it is."""
        self.offset = offset
        self._resync = None

    def moved(self, count: int) -> None:
        """Set the position of a buffered object where its own read or write would leave it."""
        if self._resync is not None and not getattr(self.given, "closed", False):
            self._resync(count)

    def reopen_terminal(self) -> None:
        """Open a terminal a second time, nonblocking: the caller's own flags stay as they are."""
        if self.info.kind != lib.SIO_KIND_TTY or self.info.nonblocking:
            return
        if self.info.rdev == _PTMX:
            return  # to open a master again is to make another terminal
        access = self.info.flags & os.O_ACCMODE
        self.owned = owned.owner()
        with contextlib.suppress(OSError):
            flags = access | os.O_NONBLOCK | os.O_NOCTTY
            self.fd = owned.open_at(self.owned, f"/proc/self/fd/{self.fd}", flags)

    def close(self) -> None:
        """Close the descriptor that was opened here, if any."""
        if self.owned is not None:
            owned.close(self.owned)


def _open(given: FileDescriptorLike, call: str, side: str, name: str = "") -> tuple[Any, Endpoint]:
    """Find the object with the bytes, and its descriptor; raises for what no transfer takes."""
    name = name or side
    given_object: Any = objects.real(given, call, name, sends=side == "dst")
    if not isinstance(given_object, int):
        if getattr(given_object, "closed", False) is True:
            raise ValueError(f"{call}: {name} is closed")
        if isinstance(given_object, Window) and side == "dst":
            raise PermissionError(
                errno.EPERM,
                f"{call}: {name} is a {type(given).__name__}, whose bytes never change; fill a new "
                "one from the source instead",
            )
    end = Endpoint(given_object, number(given_object, f"{call}: {name}"), name)
    info = end.info
    if info.err or info.path_only:
        raise failure(call, errno.EBADF, end, side)
    if stat.S_ISDIR(info.mode):
        raise failure(call, errno.EISDIR, end, side)
    if info.is_socket and not info.is_stream:
        raise ValueError(
            f"{call}: {name} is {info.text}, whose messages a byte stream would cut or join; use "
            "its own send and recv"
        )
    # One that looks unconnected may have been closed by its peer and still hold data.
    if info.listening:
        raise failure(call, errno.ENOTCONN, end, side)
    return given_object, end


def failure(
    call: str,
    err: int,
    end: Endpoint,
    side: str,
    offsets: tuple[int | None, int | None] = (None, None),
) -> OSError:
    """Make the exception for a call that fails at one end, by the name of the parameter."""
    if side == "src":
        return errors.failure(call, err, end.fd, offsets=offsets, names=(end.name, "dst"))
    return errors.failure(call, err, dst=end.fd, offsets=offsets, names=("src", end.name))


def info_of(given: FileDescriptorLike, call: str, side: str) -> FdInfo:
    """Return what the kernel says of an object; flushes, reads and opens nothing."""
    return inspect(given, call, side).info


def inspect(given: FileDescriptorLike, call: str, side: str, name: str = "") -> Endpoint:
    """Return an endpoint without flushing or opening anything; raises what the call would."""
    file, end = _open(given, call, side, name)
    _require_access(call, end, side)
    is_buffered = side == "src" and isinstance(file, io.BufferedReader)
    if is_buffered and end.info.kind != lib.SIO_KIND_FILE:
        _readable_ahead(file, call, end.name)
    return end


def _require_access(call: str, end: Endpoint, side: str) -> Endpoint:
    """Raise if the descriptor is not open for reading (`src`) or writing (`dst`)."""
    info = end.info
    if not (info.reads if side == "src" else info.writes):
        raise failure(call, errno.EBADF, end, side)
    if info.no_read if side == "src" else info.no_write:
        raise failure(call, errno.EINVAL, end, side)
    return end


def source(given: FileDescriptorLike, call: str = "copy", name: str = "src") -> Endpoint:
    """Return the endpoint to read from; flushes no write buffer but its own, moves no position."""
    file, end = _open(given, call, "src", name)
    _require_access(call, end, "src")
    _prepare_read(file, end, call)
    end.reopen_terminal()
    return end


def _prepare_read(file: Any, end: Endpoint, call: str) -> None:
    """Flush, and note the position or the read-ahead of a buffered object."""
    if isinstance(file, io.BufferedRandom):
        file.flush()
    if isinstance(file, io.BufferedReader | io.BufferedRandom):
        if end.info.kind == lib.SIO_KIND_FILE:
            # tell() counts what was read ahead; the descriptor's own offset does not.
            begun = file.tell()
            end.offset = begun
            end._resync = lambda count: file.seek(begun + count)
        elif isinstance(file, io.BufferedReader):
            end._buffer = _readable_ahead(file, call, end.name)


def raw_source(given: FileDescriptorLike, call: str, name: str = "src") -> Endpoint:
    """Return the source of one splice; raises ValueError if its object has read ahead."""
    file = objects.real(given, call, name, sends=False)
    end = Endpoint(file, number(file, f"{call}: {name}"), name)
    _prepare_read(file, end, call)
    if end.peek_ahead(call):
        raise ValueError(
            f"{call}: {name} has read ahead, and what it holds comes first; use copy(), or read it"
        )
    return end


def _readable_ahead(file: io.BufferedReader, call: str, name: str) -> io.BufferedReader:
    """Raise TypeError for a reader on a raw object that may have a buffer of its own."""
    raw: Any = file.raw
    if not isinstance(raw, io.FileIO | socket.SocketIO):
        raise TypeError(
            f"{call}: {name} is a BufferedReader on a {type(raw).__module__}."
            f"{type(raw).__qualname__}, and what that holds cannot be seen; read what both hold, "
            "then pass .fileno()"
        )
    return file


def destination(given: FileDescriptorLike, call: str = "copy", name: str = "dst") -> Endpoint:
    """Return the endpoint to write to; what its object has buffered is flushed first."""
    file, end = _open(given, call, "dst", name)
    _require_access(call, end, "dst")
    _prepare_write(file, end)
    end.reopen_terminal()
    return end


def other_way(source: Endpoint) -> Endpoint:
    """Return the endpoint to write to of a socket that is read from; it is not looked at again."""
    end = Endpoint.__new__(Endpoint)
    for slot in Endpoint.__slots__:
        setattr(end, slot, getattr(source, slot))
    end.name = "dst"
    end.owned = end._buffer = end._resync = None
    return end


def _prepare_write(file: Any, end: Endpoint) -> None:
    """Flush a buffered object; for a file, its position is synchronised later."""
    if isinstance(file, io.BufferedWriter | io.BufferedRandom):
        file.flush()
        if end.info.kind == lib.SIO_KIND_FILE:
            end._resync = lambda count: file.seek(0, os.SEEK_CUR)


def raw_destination(given: FileDescriptorLike, call: str, name: str = "dst") -> Endpoint:
    """Return the destination of one splice; what its object has buffered is flushed first."""
    file = objects.real(given, call, name, sends=True)
    end = Endpoint(file, number(file, f"{call}: {name}"), name)
    _prepare_write(file, end)
    return end
