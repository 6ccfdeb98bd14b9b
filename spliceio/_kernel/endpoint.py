"""What is this object?  Its descriptor, its kind, the data it has buffered, or a refusal.

A `Stream` is one end of a transfer as the caller gave it: the number to duplicate, what the kernel
knows of it, the bytes a Python object has already read ahead, and where its position must be put
back to. Objects whose bytes differ from those of their descriptor are refused by `_objects`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from .._cffi import lib
from . import ahead, errors, objects, owned
from .arguments import FileDescriptorLike, Window
from .fdinfo import About, about
from .number import number

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = [
    "Stream",
    "destination",
    "look",
    "looked_at",
    "raw_destination",
    "raw_source",
    "source",
]

_PTMX = os.makedev(5, 2)


class Stream:
    """One end of a transfer, as the caller gave it."""

    __slots__ = (
        "_buffer",
        "_number",
        "_resync",
        "about",
        "fd",
        "given",
        "name",
        "offset",
        "owned",
        "window",
    )

    def __init__(self, given: object, fd: int, name: str) -> None:
        self.given = given
        self.fd = self._number = fd
        self.name = name
        self.about = about(fd)
        self._buffer: io.BufferedReader | None = None
        self.offset: int | None = None
        # (offset, length) of the part that may be read; None: all of it, from its position on.
        self.window = (given.offset, len(given)) if isinstance(given, Window) else None
        self.owned: struct_sio_owned_ptr | None = None
        self._resync: Any = None

    @property
    def text(self) -> str:
        return self.about.text

    @property
    def timeout(self) -> float | None:
        """What `settimeout()` was told, if this is a socket object with a timeout."""
        sock: Any = self.given
        if isinstance(sock, io.BufferedReader | io.BufferedWriter):
            sock = sock.raw
        if isinstance(sock, socket.SocketIO):
            sock = sock._sock  # type: ignore[attr-defined]  # of makefile()
        return (sock.gettimeout() or None) if isinstance(sock, socket.socket) else None

    def look_ahead(self) -> bytes:
        """Return the bytes that the Python object has read and the caller has not."""
        return b"" if self._buffer is None else ahead.seen(self._buffer)

    def take_ahead(self, most: int | None) -> bytes:
        """Take up to `most` bytes that the Python object has read and the caller has not.

        Only once nothing else can fail: from then on they are nowhere else.
        """
        return b"" if self._buffer is None else ahead.taken(self._buffer, most)

    def check_still(self, call: str) -> None:
        """Refuse an object that another thread has closed since it was looked at.

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
        """Give `owner` a duplicate of what was looked at, whatever has its number now."""
        fd = owned.duplicate(owner, self.fd)
        try:
            if not about(fd).same_file(self.about):
                raise errors.gone(call, self.name)
            self.check_still(call)
        except BaseException:
            owned.close(owner)
            raise
        return fd

    def start_at(self, offset: int) -> None:
        """Read from an offset instead of the position, which then stays where it is."""
        self.offset = offset
        self._resync = None

    def moved(self, count: int) -> None:
        """Put the position of a buffered object where an ordinary read or write would have."""
        if self._resync is not None and not getattr(self.given, "closed", False):
            self._resync(count)

    def use_own_terminal(self) -> None:
        """Open a terminal anew, nonblocking: the caller's own flags stay as they are."""
        if self.about.kind != lib.SIO_KIND_TTY or self.about.nonblocking:
            return
        if self.about.rdev == _PTMX:
            return  # to open a master again is to make another terminal
        access = self.about.flags & os.O_ACCMODE
        self.owned = owned.owner()
        with contextlib.suppress(OSError):
            flags = access | os.O_NONBLOCK | os.O_NOCTTY
            self.fd = owned.open_at(self.owned, f"/proc/self/fd/{self.fd}", flags)

    def close(self) -> None:
        """Close what this end opened for itself."""
        if self.owned is not None:
            owned.close(self.owned)


def _open(given: FileDescriptorLike, call: str, side: str, name: str = "") -> tuple[Any, Stream]:
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
    stream = Stream(given_object, number(given_object, f"{call}: {name}"), name)
    about = stream.about
    if about.err or about.path_only:
        raise _failure(call, errno.EBADF, stream, side)
    if stat.S_ISDIR(about.mode):
        raise _failure(call, errno.EISDIR, stream, side)
    if about.is_socket and not about.is_stream:
        raise ValueError(
            f"{call}: {name} is {about.text}, whose messages a byte stream would cut or join; use "
            "its own send and recv"
        )
    # One that looks unconnected may have been closed by its peer and still hold data.
    if about.listening:
        raise _failure(call, errno.ENOTCONN, stream, side)
    return given_object, stream


def _failure(call: str, err: int, stream: Stream, side: str) -> OSError:
    fds, names = {side: stream.fd}, {"src": "src", "dst": "dst", side: stream.name}
    return errors.failure(call, err, **fds, names=(names["src"], names["dst"]))  # type: ignore[arg-type]


def look(given: FileDescriptorLike, call: str, side: str) -> About:
    """Look at an object without flushing, reading or opening anything."""
    return looked_at(given, call, side).about


def looked_at(given: FileDescriptorLike, call: str, side: str, name: str = "") -> Stream:
    """Return an end that is only looked at; whatever the call would refuse is refused."""
    file, stream = _open(given, call, side, name)
    _usable(call, stream, side)
    is_buffered = side == "src" and isinstance(file, io.BufferedReader)
    if is_buffered and stream.about.kind != lib.SIO_KIND_FILE:
        _readable_ahead(file, call, stream.name)
    return stream


def _usable(call: str, stream: Stream, side: str) -> Stream:
    about = stream.about
    if not (about.reads if side == "src" else about.writes):
        raise _failure(call, errno.EBADF, stream, side)
    if about.no_read if side == "src" else about.no_write:
        raise _failure(call, errno.EINVAL, stream, side)
    return stream


def source(given: FileDescriptorLike, call: str = "copy", name: str = "src") -> Stream:
    """Take an object to read from; flushes nothing, reads nothing, moves no position."""
    file, stream = _open(given, call, "src", name)
    _usable(call, stream, "src")
    _read_from(file, stream, call)
    stream.use_own_terminal()
    return stream


def _read_from(file: Any, stream: Stream, call: str) -> None:
    if isinstance(file, io.BufferedRandom):
        file.flush()
    if isinstance(file, io.BufferedReader | io.BufferedRandom):
        if stream.about.kind == lib.SIO_KIND_FILE:
            # tell() knows of what was read ahead; the descriptor's own offset does not.
            begun = file.tell()
            stream.offset = begun
            stream._resync = lambda count: file.seek(begun + count)
        elif isinstance(file, io.BufferedReader):
            stream._buffer = _readable_ahead(file, call, stream.name)


def raw_source(given: FileDescriptorLike, call: str, name: str = "src") -> Stream:
    """Take an object for one splice, which knows nothing of bytes in memory: none may be there."""
    file = objects.real(given, call, name, sends=False)
    stream = Stream(file, number(file, f"{call}: {name}"), name)
    _read_from(file, stream, call)
    if stream.look_ahead():
        raise ValueError(
            f"{call}: {name} has read ahead, and what it holds comes first; use copy(), or read it"
        )
    return stream


def _readable_ahead(file: io.BufferedReader, call: str, name: str) -> io.BufferedReader:
    """Refuse a reader on what may itself hold bytes in memory; sockets and files hold none."""
    raw: Any = file.raw
    if not isinstance(raw, io.FileIO | socket.SocketIO):
        raise TypeError(
            f"{call}: {name} is a BufferedReader on a {type(raw).__module__}."
            f"{type(raw).__qualname__}, and what that holds cannot be seen; read what both hold, "
            "then pass .fileno()"
        )
    return file


def destination(given: FileDescriptorLike, call: str = "copy", name: str = "dst") -> Stream:
    """Take an object to write to; what it has buffered is flushed first."""
    file, stream = _open(given, call, "dst", name)
    _usable(call, stream, "dst")
    _write_to(file, stream)
    stream.use_own_terminal()
    return stream


def _write_to(file: Any, stream: Stream) -> None:
    if isinstance(file, io.BufferedWriter | io.BufferedRandom):
        file.flush()
        if stream.about.kind == lib.SIO_KIND_FILE:
            stream._resync = lambda count: file.seek(0, os.SEEK_CUR)


def raw_destination(given: FileDescriptorLike, call: str, name: str = "dst") -> Stream:
    """Take an object for one splice; what it has buffered is flushed first."""
    file = objects.real(given, call, name, sends=True)
    stream = Stream(file, number(file, f"{call}: {name}"), name)
    _write_to(file, stream)
    return stream
