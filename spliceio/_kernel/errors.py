"""Exceptions of failed system calls: an errno becomes an OSError that says why.

Everything here runs after a failure, never before one: it looks at the two descriptors again and
names the call, the side, the reason and the way out. It changes nothing, and a descriptor that
has been closed meanwhile is only one more thing to report.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import NamedTuple

from .._cffi import lib
from .._public import public
from .fdinfo import FdInfo, fd_info

__all__ = ["UnexpectedEOF", "closed_meanwhile", "failure", "reason_for"]

_ALL_FLAGS = 0x0F
_HAVE_A_TRY = ("splice", "tee", "sendfile")
_O_DIRECT = os.O_DIRECT
_IPPROTO_TCP = 6


@public
class UnexpectedEOF(OSError, EOFError):
    """The source ended before as many bytes had come as were promised.

    A file was truncated while it was sent, or a peer ended in the middle of a body. `errno` is
    ENODATA. `result` says what was moved before, as for every exception of a transfer.
    """


class _Case(NamedTuple):
    """A failed call: its name, both descriptors, and what was passed."""

    call: str
    src: FdInfo | None
    dst: FdInfo | None
    offsets: tuple[int | None, int | None]
    flags: int
    names: tuple[str, str]

    @property
    def sides(self) -> list[tuple[str, FdInfo]]:
        named = zip(self.names, (self.src, self.dst), strict=True)
        return [(name, side) for name, side in named if side is not None]

    @property
    def placed(self) -> list[tuple[str, FdInfo, int]]:
        """The sides for which an offset was given."""
        named = zip(self.names, (self.src, self.dst), self.offsets, strict=True)
        return [(name, side, at) for name, side, at in named if side and at is not None]

    @property
    def is_splice(self) -> bool:
        return self.call in ("splice", "tee", "vmsplice", "copy", "fanout")


def _ebadf(case: _Case) -> str | None:
    for name, side in case.sides:
        if side.err:
            return f"{name} is descriptor {side.fd}, which is not open"
        if side.path_only:
            return f"{name} was opened with O_PATH, which gives no access to bytes; open it again"
    if case.call == "vmsplice" and case.dst and not case.dst.is_pipe:
        return "fd is no pipe; vmsplice takes one end of a pipe"
    if case.src and not case.src.reads:
        if case.src.is_pipe:
            return f"{case.names[0]} is the write end of a pipe; pass the read end"
        return f"{case.names[0]} is not open for reading"
    if case.dst and not case.dst.writes:
        if case.dst.is_pipe:
            return f"{case.names[1]} is the read end of a pipe; pass the write end"
        return f"{case.names[1]} is not open for writing"
    if case.call == "copy_file_range" and case.dst and case.dst.appends:
        return "dst is open for appending (O_APPEND); copy() falls back to read and write"
    return None


def _einval(case: _Case) -> str | None:
    src, dst = case.src, case.dst
    if case.flags & ~_ALL_FLAGS:
        return f"flags has unknown bits ({case.flags & ~_ALL_FLAGS:#x}); see SpliceFlag"
    if src and src.no_read:
        return f"{case.names[0]} is {src.text}, and no bytes can be read from it"
    if dst and dst.no_write:
        return f"{case.names[1]} is {dst.text}, and no bytes can be written to it"
    for name, side in case.sides:
        if stat.S_ISDIR(side.mode):
            return f"{name} is a directory; name the files in it"
        if side.is_socket and side.listening:
            return f"{name} is a listening socket; pass the one that accept() returns"
    if case.call == "tee" and src and dst and not (src.is_pipe and dst.is_pipe):
        return "both ends must be pipes; splice() into a pipe first, or use copy()"
    if case.is_splice and src and dst:
        if not src.is_pipe and not dst.is_pipe:
            return "neither end is a pipe; use copy()"
        if src.is_pipe and dst.is_pipe and src.same_file(dst):
            return "both ends belong to the same pipe; use two pipes"
    for name, side, offset in case.placed:
        if side.is_socket:
            return f"an offset was given for {name}, a socket: it has no positions; leave it out"
        if offset < 0:
            return f"the offset for {name} is negative ({offset})"
    if dst and dst.appends and case.call in ("splice", "sendfile"):
        return f"{case.names[1]} is open for appending (O_APPEND); clear the flag, or use copy()"
    if case.call == "sendfile" and src and src.kind != lib.SIO_KIND_FILE:
        return f"{case.names[0]} must be a seekable file; use copy(), which goes through a pipe"
    for name, side in case.sides:
        if side.flags & _O_DIRECT and side.kind == lib.SIO_KIND_FILE:
            return (
                f"{name} is open with O_DIRECT, and offset, length or memory are not aligned to "
                "its blocks; open it without O_DIRECT for the tail"
            )
    if src and src.kind == lib.SIO_KIND_FILE and src.size == 0:
        return (
            f"the file behind {case.names[0]} makes its content up (/proc, /sys) and refuses; "
            "use copy()"
        )
    return f"this kind of descriptor does not support {case.call}; use copy(), which falls back"


def _eperm(case: _Case) -> str | None:
    if case.dst and case.dst.seals & fcntl.F_SEAL_WRITE:
        return f"{case.names[1]} is a memfd sealed against writing (F_SEAL_WRITE)"
    return "the kernel, a security module or a sandbox does not allow it here; see features()"


def _eagain(case: _Case) -> str | None:
    if case.call == "vmsplice":
        if case.dst and not case.dst.writes:
            return "the pipe is empty; wait with poll() until it can be read"
        return "the pipe is full; wait with poll() until it can be written"
    src, dst = case.names
    if case.call in ("read", "write"):
        return (
            f"it would block: {src if case.call == 'read' else dst} is not ready; wait with poll()"
        )
    if case.call not in _HAVE_A_TRY:
        return "the kernel cannot do it at this moment; the transfer can be run again"
    return (
        f"it would block: {src} has nothing to read now, or {dst} takes no more; wait with poll(), "
        f"or use try_{case.call}(), which returns None"
    )


def _espipe(case: _Case) -> str | None:
    for name, side, _ in case.placed:
        if side.kind != lib.SIO_KIND_FILE:
            kind = "a pipe" if side.is_pipe else "not seekable"
            return f"an offset was given, but {name} is {kind}: it has no positions; leave it out"
    return None


def _epipe(case: _Case) -> str | None:
    name = case.names[1]
    if case.dst and case.dst.is_socket:
        if case.dst.listening:
            return f"{name} is a listening socket; pass the one that accept() returns"
        return f"{name} is shut down for writing, not connected, or closed by its peer"
    return "nobody reads the pipe any more: its last read end was closed"


def _enotconn(case: _Case) -> str | None:
    for name, side in case.sides:
        if side.is_socket and side.listening:
            return f"{name} is a listening socket; pass the one that accept() returns"
        if side.is_socket and not side.connected:
            return f"{name} is not connected; call connect() first"
    return None


def _eio(case: _Case) -> str:
    if case.src and case.src.protocol == _IPPROTO_TCP:
        return (
            f"the next TLS record of {case.names[0]} is no data (a session ticket, a key update, "
            "an alert), and only its SSLSocket reads those; recv() from that first"
        )
    return "the device or filesystem reported an input/output error"


_REASONS = {
    errno.EXDEV: "src and dst are on different filesystems; use copy(), which falls back",
    errno.ENOSYS: "this kernel or sandbox does not have the call; see features()",
    errno.EOPNOTSUPP: "this kernel or sandbox does not support it for these two; use copy()",
    errno.ENOSPC: "the filesystem of dst is full; make room and run the transfer again",
    errno.EDQUOT: "the disk quota on the filesystem of dst is used up",
    errno.EFBIG: "dst would exceed the file size limit (ulimit -f) or what its filesystem allows",
    errno.ECONNRESET: "the peer reset the connection",
    errno.ECONNABORTED: "the connection was aborted",
    errno.ECONNREFUSED: "the peer refused the connection; is anything listening there?",
    errno.ETIMEDOUT: "the peer did not answer in time",
    errno.EHOSTUNREACH: "there is no route to the peer",
    errno.ENETUNREACH: "the network of the peer cannot be reached",
    errno.ENOMEM: "the kernel has no memory for it now; the transfer can be run again",
    errno.ENOBUFS: "the kernel has no buffer for it now; the transfer can be run again",
    errno.EMFILE: "this process has no descriptor left (ulimit -n)",
    errno.ENFILE: "the system has no descriptor left (fs.file-max)",
    errno.EMSGSIZE: "the message does not fit; stream sockets and pipes have no such limit",
    errno.EISDIR: "src or dst is a directory; name the files in it",
    errno.ETXTBSY: "the file is in use as a swap file or a running program",
    errno.EBUSY: "the pipe holds more than the new capacity takes; drain it first",
    errno.EOVERFLOW: "the offset or size is beyond what the filesystem takes",
    errno.EFAULT: "the memory does not belong to this process",
    errno.EROFS: "dst is on a read-only filesystem",
}
_REFLINK = {
    errno.EOPNOTSUPP: "this filesystem cannot share blocks between files; copy with reflink='auto'",
    errno.EXDEV: "src and dst are on different filesystems, which share no blocks; copy with "
    "reflink='auto'",
    errno.EINVAL: "the filesystem does not share the blocks of these two; copy with reflink='auto'",
}
_BY_DESCRIPTOR = {
    errno.EBADF: _ebadf,
    errno.EINVAL: _einval,
    errno.EPERM: _eperm,
    errno.EACCES: _eperm,
    errno.EAGAIN: _eagain,
    errno.ESPIPE: _espipe,
    errno.EPIPE: _epipe,
    errno.EIO: _eio,
    errno.ENOTCONN: _enotconn,
}


def reason_for(
    call: str,
    err: int,
    src: FdInfo | None = None,
    dst: FdInfo | None = None,
    *,
    offsets: tuple[int | None, int | None] = (None, None),
    flags: int = 0,
    names: tuple[str, str] = ("src", "dst"),
) -> str:
    """Return why `call` failed with `err`, and what to do instead, in one clause."""
    if call == "reflink" and err in _REFLINK:
        return _REFLINK[err]
    explain = _BY_DESCRIPTOR.get(err)
    case = _Case(call, src, dst, offsets, flags, names)
    text = _REASONS.get(err) if explain is None else explain(case)
    if text is None:
        return os.strerror(err)
    return text if explain is not None else text.replace("src", names[0]).replace("dst", names[1])


def failure(
    call: str,
    err: int,
    src: int | None = None,
    dst: int | None = None,
    *,
    offsets: tuple[int | None, int | None] = (None, None),
    flags: int = 0,
    names: tuple[str, str] = ("src", "dst"),
    more: str = "",
    advice: bool = True,
) -> OSError:
    """Make the exception of a failed call between two descriptors.

    `names` are what the caller's parameters are called, `offsets` and `flags` what was passed.
    Without `advice` the way out is left out: it is for another caller.
    OSError picks the subclass (BrokenPipeError, BlockingIOError, ...) from the errno by itself.
    """
    a = None if src is None else fd_info(src)
    b = None if dst is None else fd_info(dst)
    reason, semicolon, way_out = reason_for(
        call, err, a, b, offsets=offsets, flags=flags, names=names
    ).partition("; ")
    ends = [f"{name} is {x.text}" for name, x in zip(names, (a, b), strict=True) if x and not x.err]
    ends = [end for end in ends if end not in reason]
    shown = f" ({', '.join(ends)})" if ends else ""
    way_out = f"{semicolon}{way_out}" if advice else ""
    return OSError(err, f"{call}: {reason}{shown}{way_out}{more}")


def closed_meanwhile(call: str, name: str) -> OSError:
    """Make the exception for a descriptor whose number is another file's by now."""
    return OSError(errno.EBADF, f"{call}: {name} was closed by another thread as the call began")
