"""Standard streams: closed descriptors 0 to 2 are kept from being reused for files or sockets.

open(), socket() and accept() give the lowest number that is free. Without a standard stream that
is the stream's, and what is meant for the stream goes into a file or to a peer.

Rule 1: the program begins with `reserve_closed`: each closed number gets a descriptor that every
        call refuses as it refuses a closed one, with EBADF.
Rule 2: a child has closed what was closed for us, as under env, nohup and timeout of coreutils:
        what holds a number is closed by exec.
Rule 3: a command says which streams it needs where it is declared, and `require` refuses to begin
        without them. Any other may be closed, or open the wrong way, and makes no difference.
Rule 4: the descriptors of a process that only calls `main(argv)` are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterable

__all__ = [
    "BROKEN_PIPE",
    "STDERR",
    "STDIN",
    "STDOUT",
    "discard_stdout",
    "require",
    "reserve_closed",
    "show",
]

STDIN, STDOUT, STDERR = 0, 1, 2
BROKEN_PIPE = 141

_NAMES = {STDIN: "standard input", STDOUT: "standard output", STDERR: "standard error"}
_USELESS = {STDIN: os.O_WRONLY, STDOUT: os.O_RDONLY, STDERR: os.O_RDONLY}
_absent: set[int] = set()


def reserve_closed() -> None:
    """Keep the numbers of closed standard streams from being given to anything else."""
    for fd, stream in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)):
        if stream is None:
            # It was closed when the interpreter began; if it is open now, the number is that of
            # another file: of a .pth file, or a profiler.
            _absent.add(fd)
        if _flags(fd) is None:
            _absent.add(fd)
            _occupy(fd)


def _flags(fd: int) -> int | None:
    """Return how a descriptor was opened (F_GETFL), None if it is closed."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return None


def _occupy(fd: int) -> None:
    """Put a descriptor that can be neither read nor written at a free number.

    A path like /dev/stdout that leads to it has to refuse as well: with /dev/null, writing there
    would succeed and be lost, and in a directory `cp` would make a file. A socket cannot be opened
    by a path, and by O_PATH it is nothing else. Without /proc, where there are no such paths, it is
    the wrong end of a pipe.
    """
    made = _socket_by_path() or os.pipe()
    chosen = made[-1] if fd == STDIN else made[0]
    if chosen != fd:
        os.dup2(chosen, fd, inheritable=False)
    for other in made:
        if other != fd:
            os.close(other)


def _socket_by_path() -> tuple[int, ...]:
    import socket  # it takes long to load, and is for this case alone

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        return (os.open(f"/proc/self/fd/{sock.fileno()}", os.O_PATH | os.O_CLOEXEC),)
    return ()


def require(fds: Iterable[int]) -> None:
    """Raise OSError that names the first of these streams that is closed or open the wrong way."""
    for fd in fds:
        flags = None if fd in _absent else _flags(fd)
        if flags is None or flags & os.O_PATH or flags & os.O_ACCMODE == _USELESS[fd]:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), _NAMES[fd])


def show(text: str) -> None:
    """Print on standard output, all of it; raise OSError that names the stream if that fails."""
    require([STDOUT])
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, _NAMES[STDOUT]) from None


def discard_stdout() -> None:
    """Let the interpreter's last flush of standard output go to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDOUT)
    os.close(null)
